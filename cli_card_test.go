package stepwell

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCardOfARunAndOfATaskWhoseStepAskedForNone(t *testing.T) {
	s := newStation(t) // not parallel: it changes the working directory
	dir := t.TempDir()
	t.Chdir(dir)
	read := func(name string) string {
		t.Helper()
		page, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		return string(page)
	}
	name := "TrainFlow-" + failedRun + "-run.html"
	require.Equal(t, result{ExitOK, name + "\n", ""}, s.run(t, "card", "TrainFlow/"+failedRun))
	page := read(name)
	require.Contains(t, page, "loss is NaN", "what failed first")
	require.Contains(t, page, "stepwell resume ", "what to type")

	name = "TrainFlow-" + completedRun + "-train-default.html"
	require.Equal(t, result{ExitOK, name + "\n", ""}, s.run(t, "card", "TrainFlow/"+completedRun+"/train"))
	require.Contains(t, read(name), "<h1>train</h1>", "the default card")

	// The card of a step that asked for one is the one that it made.
	require.Contains(t, s.run(t, "card", "TrainFlow/"+completedRun+"/report", "-o", "-").out, "<title>report</title>")

	got := s.run(t, "card", "TrainFlow/"+completedRun, "other")
	require.Equal(t, ExitInput, got.code)
	require.Contains(t, got.err, `has one card (leave "other" out)`)
	got = s.run(t, "card", "TrainFlow/"+completedRun+"/train", "other")
	require.Equal(t, ExitNotFound, got.code)
	require.Contains(t, s.run(t, "card", "TrainFlow/"+completedRun, "--json").out, `"name": "run"`)
}
