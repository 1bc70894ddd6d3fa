package cards

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flow"
)

var update = flag.Bool("update", false, "write the golden files anew")

func renderCard(t *testing.T, d *flow.CardData) string {
	t.Helper()
	var b strings.Builder
	require.NoError(t, Default().Render(&b, d))
	return b.String()
}

func TestGolden(t *testing.T) {
	t.Parallel()
	caught := failed()
	caught.Outcome = "caught"
	for name, d := range map[string]*flow.CardData{
		"completed": sample(), "failed": failed(), "caught": caught, "empty": {}, "components": components(), "live": live(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := renderCard(t, d)
			for _, s := range vegaScripts() { // 800 kB that are in this repository already
				got = strings.Replace(got, s, "…", 1)
			}
			path := filepath.Join("testdata", name+".html")
			if *update {
				require.NoError(t, os.MkdirAll("testdata", 0o755))
				require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
			}
			want, err := os.ReadFile(path)
			require.NoError(t, err)
			wantLines, gotLines := strings.Split(string(want), "\n"), strings.Split(got, "\n")
			for i := range min(len(wantLines), len(gotLines)) {
				require.Equal(t, wantLines[i], gotLines[i], "line %d of %s (if that is meant: go test ./cards -update)", i+1, path)
			}
			require.Len(t, gotLines, len(wantLines), "lines of %s (if that is meant: go test ./cards -update)", path)
		})
	}
}
