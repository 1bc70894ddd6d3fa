package stepwell_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The README shows the example that compiles, and CI runs the test command that the README names.
func TestReadme(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	hello, err := os.ReadFile("examples/hello/main.go")
	require.NoError(t, err)
	_, body, ok := strings.Cut(string(hello), "package main\n")
	require.True(t, ok)
	require.Contains(t, string(readme), body, "copy examples/hello/main.go into README.md")
	test, err := os.ReadFile("examples/hello/main_test.go")
	require.NoError(t, err)
	require.Contains(t, string(readme), string(test[strings.Index(string(test), "func TestHello"):]), "copy the test of examples/hello into README.md")
	geocode, err := os.ReadFile("examples/geocode/flow.go")
	require.NoError(t, err)
	for _, block := range []string{"flow.Foreach(", "func collect("} {
		_, shown, ok := strings.Cut(string(readme), "```go\n"+block)
		require.True(t, ok)
		shown, _, _ = strings.Cut(shown, "\n```\n")
		require.Contains(t, flush(string(geocode)), flush(block+shown), "copy it from examples/geocode/flow.go into README.md")
	}
	ci, err := os.ReadFile(".ci/run")
	require.NoError(t, err)
	const command = "\ngo test -timeout 30m ./...\n"
	require.Contains(t, string(readme), command)
	require.Contains(t, string(ci), command)
}
