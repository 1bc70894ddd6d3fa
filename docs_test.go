package stepwell_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What the documents show as Go stands in a Go file of this repository, but for the indentation.
func TestDocumentsShowGoThatCompiles(t *testing.T) {
	t.Parallel()
	var sources []string
	require.NoError(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch name := d.Name(); {
		case err != nil:
			return err
		case d.IsDir() && path != "." && (strings.HasPrefix(name, ".") || name == "testdata"):
			return fs.SkipDir
		case filepath.Ext(name) == ".go":
			b, err := os.ReadFile(path)
			sources = append(sources, flush(string(b)))
			return err
		}
		return nil
	}))
	documents, err := filepath.Glob("docs/*.md")
	require.NoError(t, err)
	for _, document := range documents {
		b, err := os.ReadFile(document)
		require.NoError(t, err)
		for _, block := range strings.Split("\n"+string(b), "\n```go\n")[1:] {
			block, _, ok := strings.Cut(block, "\n```\n")
			require.True(t, ok, document)
			found := false
			for _, source := range sources {
				found = found || strings.Contains(source, flush(block))
			}
			require.True(t, found, "%s: no Go file has this:\n%s", document, block)
		}
	}
}

// flush takes the indentation away.
func flush(code string) string {
	lines := strings.Split(code, "\n")
	for i := range lines {
		lines[i] = strings.TrimLeft(lines[i], "\t ")
	}
	return strings.Join(lines, "\n")
}

// Wherever a document lists what the body of a batch cannot have, it lists all that Check refuses.
func TestDocumentsNameWhatBatchesRefuse(t *testing.T) {
	t.Parallel()
	for document, begin := range map[string]string{
		"README.md":         "With `Fan.Batch` its body has no",
		"docs/shapes.md":    "| body | anything |",
		"docs/decisions.md": "**The body of a foreach with batches has no",
		"flow/fan.go":       "// Batch is how many items",
	} {
		b, err := os.ReadFile(document)
		require.NoError(t, err)
		_, list, ok := strings.Cut(string(b), begin)
		require.True(t, ok, document)
		list = list[:500]
		for _, what := range []string{"branch", "foreach", "card", "imit", "policies.Pause", "policies.Escalate", "Isolated"} {
			require.Contains(t, list, what, document)
		}
	}
}
