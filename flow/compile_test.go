package flow_test

import (
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// compile builds one file of testdata and returns what the compiler says, by line.
func compile(t *testing.T, file string) map[int]string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-gcflags=-e", file) // -e: all errors, not only ten
	out, err := cmd.CombinedOutput()
	told := map[int]string{}
	for _, m := range regexp.MustCompile(`(?m)^.*`+regexp.QuoteMeta(file)+`:(\d+):\d+: (.*)$`).FindAllStringSubmatch(string(out), -1) {
		line, err := strconv.Atoi(m[1])
		require.NoError(t, err)
		told[line] += m[2] + "\n"
	}
	require.Equal(t, err != nil, len(told) > 0, "%v: %s", err, out)
	return told
}

// What the package promises to be impossible does not compile, line by line.
func TestCompilerRefuses(t *testing.T) {
	t.Parallel()
	require.Empty(t, compile(t, "testdata/accepted.go"))

	source, err := os.ReadFile("testdata/refused.go")
	require.NoError(t, err)
	told := compile(t, "testdata/refused.go")
	promises := 0
	for i, line := range strings.Split(string(source), "\n") {
		code, want, promised := strings.Cut(line, "// want ")
		if promised {
			promises++
			require.Contains(t, told[i+1], want, "line %d: %s", i+1, code)
		} else {
			require.Empty(t, told[i+1], "line %d: %s", i+1, line)
		}
	}
	require.GreaterOrEqual(t, promises, 45)
}
