package runs_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

func (l gridLab) log(id, step string, x flow.Index, attempt int, catch bool, content string) {
	l.Helper()
	require.NoError(l, l.store.PutDoc(l.Context(), records.LogKey("Grid", id, step, x, attempt, catch), []byte(content)))
}

func logFiles(t *testing.T, r *runs.Run, name string, limit int) (out []string) {
	t.Helper()
	files, err := r.LogFiles(t.Context(), name, limit)
	require.NoError(t, err)
	for _, f := range files {
		lines, _, err := f.ReadFrom(t.Context(), 0)
		require.NoError(t, err)
		out = append(out, fmt.Sprintf("%s %d %v %q", f.Task(), f.Attempt, f.Catch, lines))
	}
	return out
}

// TestLogsOfAStepComeFromTheNearestRun has items that logged in a run and in one that was resumed from it.
func TestLogsOfAStepComeFromTheNearestRun(t *testing.T) {
	t.Parallel()
	l := newGridLab(t, grid(flow.Fan{}))
	for i := range 12 {
		l.log("r1", "fit", flow.Index{i}, 1, false, "a\n")
	}
	l.log("r1", "fit", flow.Index{10}, 1, true, "caught\n")
	l.log("r1", "fit", flow.Index{10}, 2, false, "b\n")
	l.log("r1", "score", flow.Index{0}, 1, false, "s\n")
	l.begin("r2", func(r *records.Run) { r.Origin, r.Root, r.Reused = "r1", "r1", map[string]string{"fit": "r1"} })
	l.log("r2", "fit", flow.Index{2}, 1, false, "again\n")

	require.Equal(t, []string{`fit[9] 1 false "a\n"`, `fit[10] 1 false "a\n"`, `fit[10] 1 true "caught\n"`, `fit[10] 2 false "b\n"`, `fit[11] 1 false "a\n"`},
		logFiles(t, l.read("r1"), "fit", 0)[9:])
	require.Equal(t, []string{`fit[0] 1 false "a\n"`, `fit[1] 1 false "a\n"`, `fit[2] 1 false "again\n"`}, logFiles(t, l.read("r2"), "fit", 0)[:3])
	require.Equal(t, []string{`fit[0] 1 false "a\n"`, `fit[1] 1 false "a\n"`, `fit[2] 1 false "again\n"`}, logFiles(t, l.read("r2"), "fit", 2)[:3])
	require.Len(t, logFiles(t, l.read("r1"), "fit", 2), 3, "one more than the limit says that there are more")
	require.Len(t, logFiles(t, l.read("r1"), "grid", 0), 15)
	at, err := l.read("r1").LogFilesAt(t.Context(), "fit", flow.Index{10})
	require.NoError(t, err)
	require.Len(t, at, 3)
	at, err = l.read("r1").LogFilesAt(t.Context(), "load", flow.Index{10})
	require.NoError(t, err)
	require.Empty(t, at)
	_, err = l.read("r1").LogFiles(t.Context(), "nostep", 0)
	require.ErrorIs(t, err, runs.ErrNotFound)
	require.Equal(t, [][]string{{"load"}, {"numeric", "text", "embed", "merge"}, {"fit", "score", "best"}, {"ship", "report"}, {"tune_once"}, {"end"}},
		l.read("r1").LogGroups())
}

// TestALogIsReadOnWhereItWasLeft also while its last line is being written, and after it was written anew.
func TestALogIsReadOnWhereItWasLeft(t *testing.T) {
	t.Parallel()
	l := newGridLab(t, grid(flow.Fan{}))
	l.log("r1", "load", nil, 1, false, "one\ntwo\n")
	files, err := l.read("r1").LogFiles(t.Context(), "load", 0)
	require.NoError(t, err)
	f := files[0]
	_, next, err := f.ReadFrom(t.Context(), 0)
	require.NoError(t, err)
	require.Equal(t, f.Size, next)

	l.log("r1", "load", nil, 1, false, "one\ntwo\nthree\nfo")
	size, err := f.Length(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 16, size)
	lines, next, err := f.ReadFrom(t.Context(), next)
	require.NoError(t, err)
	require.Equal(t, "three\n", string(lines))
	l.log("r1", "load", nil, 1, false, "one\ntwo\nthree\nfour\n")
	lines, _, err = f.ReadFrom(t.Context(), next)
	require.NoError(t, err)
	require.Equal(t, "four\n", string(lines))
	l.log("r1", "load", nil, 1, false, "anew\n")
	lines, _, err = f.ReadFrom(t.Context(), next)
	require.NoError(t, err)
	require.Equal(t, "anew\n", string(lines))
}

// TestLogsOfABatch are one file for all of its steps, of which each has its own lines.
func TestLogsOfABatch(t *testing.T) {
	t.Parallel()
	l := newGridLab(t, grid(flow.Fan{Batch: 10}))
	l.log("r1", "grid", flow.Index{0}, 1, false, `{"task":"fit[3]"}`+"\n"+`{"task":"score[3]"}`+"\n"+`{}`+"\n")
	require.Equal(t, []string{`fit[0] 1 false "{\"task\":\"fit[3]\"}\n{}\n"`}, logFiles(t, l.read("r1"), "fit", 0))
	require.Equal(t, []string{`score[0] 1 false "{\"task\":\"score[3]\"}\n"`}, logFiles(t, l.read("r1"), "score", 0))
	require.Len(t, logFiles(t, l.read("r1"), "grid", 0), 1)
	require.Equal(t, []string{"grid", "best"}, l.read("r1").LogGroups()[2])
}
