package runs_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

// states are the states of all steps of a run.
func (l lab) states(t *testing.T, id string) map[string]runs.State {
	t.Helper()
	steps, err := l.run(t, id).Steps(t.Context())
	require.NoError(t, err)
	out := map[string]runs.State{}
	for _, s := range steps {
		require.NotNil(t, s.Task)
		require.Equal(t, s.Task.State, s.State)
		out[s.Name] = s.State
	}
	return out
}

func TestStates(t *testing.T) {
	t.Parallel()
	fitFailed := &policies.Failure{Class: policies.Transient, Message: "503", Step: "fit", Task: "fit"}
	for _, test := range []struct {
		name      string
		end       records.End // none without a status
		attempted bool
		fit       runs.State
	}{
		{"not begun", records.End{}, false, runs.NotStarted},
		{"attempts, and nobody knows", records.End{}, true, runs.Unfinished},
		{"failed", records.End{Status: records.StatusFailed, Failure: fitFailed}, true, runs.Failed},
		{"failed without a ledger", records.End{Status: records.StatusFailed, Failure: fitFailed}, false, runs.Failed},
		{"cancelled in the middle", records.End{Status: records.StatusCancelled}, true, runs.Cancelled},
		{"cancelled before", records.End{Status: records.StatusCancelled}, false, runs.NotStarted},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.start(t, "r1", noon, nil)
			l.task(t, "r1", "load", &state{}, nil)
			if test.attempted {
				l.attempt(t, "r1", records.Attempt{Attempt: 1, Outcome: records.Failed, Failure: fitFailed})
			}
			if test.end.Status != "" {
				l.end(t, "r1", test.end)
			}
			require.Equal(t, map[string]runs.State{"load": runs.Completed, "fit": test.fit, "report": runs.NotStarted}, l.states(t, "r1"))
		})
	}
}

func TestReused(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start(t, "first", noon, nil)
	l.task(t, "first", "load", &state{Rows: 7}, nil)
	l.start(t, "second", noon.Add(time.Hour), func(r *records.Run) {
		r.Origin, r.Root, r.Reused = "first", "first", map[string]string{"load": "first"}
	})
	l.task(t, "second", "fit", &state{Rows: 7, Model: []float64{1}}, func(r *records.Task) { r.Outcome = records.Caught })

	load := l.find(t, "second", "load")
	require.True(t, load.Reused())
	require.Equal(t, "first", load.Owner)
	require.Equal(t, "Train/second/load", load.Pathspec())
	rows, err := runs.Load[int](t.Context(), load, "Rows")
	require.NoError(t, err)
	require.Equal(t, 7, rows)
	fit := l.find(t, "second", "fit")
	require.False(t, fit.Reused())
	require.Equal(t, runs.Caught, fit.State)
}

func TestAttemptsWithWaits(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start(t, "r1", noon, nil)
	at := func(s int) time.Time { return noon.Add(time.Duration(s) * time.Second) }
	l.attempt(t, "r1", records.Attempt{Attempt: 1, Outcome: records.Failed, Started: at(1), Ended: at(2), CountsAsCodeFailure: true, Delay: 2 * time.Second, Reason: "constant 2s, no jitter"})
	l.attempt(t, "r1", records.Attempt{Attempt: 2, Outcome: records.Lost}) // its worker told nothing
	l.attempt(t, "r1", records.Attempt{Attempt: 3, Outcome: records.Failed, Started: at(20), Ended: at(21), CountsAsCodeFailure: true})
	// One that was left behind and wrote its entry after the task was done.
	l.attempt(t, "r1", records.Attempt{Attempt: 5, Outcome: records.Failed, Started: at(40), Ended: at(41)})
	l.task(t, "r1", "fit", &state{}, func(r *records.Task) { r.Attempt, r.Started, r.Ended = 4, at(25), at(29) })

	attempts, err := l.find(t, "r1", "fit").Attempts(t.Context())
	require.NoError(t, err)
	type row struct {
		n       int
		outcome records.Outcome
		waited  time.Duration
	}
	var got []row
	for _, a := range attempts {
		got = append(got, row{a.Attempt.Attempt, a.Outcome, a.Waited})
	}
	require.Equal(t, []row{
		{1, records.Failed, 0}, {2, records.Lost, 0}, {3, records.Failed, 0}, {4, records.Completed, 4 * time.Second},
	}, got)
	require.Equal(t, 2*time.Second, attempts[0].Delay)
	require.Equal(t, "constant 2s, no jitter", attempts[0].Reason)
	require.Equal(t, "7@host", attempts[3].Worker)
}

// TestAttemptsOfACaughtTask has no attempt that completed: the record is the catch function's.
func TestAttemptsOfACaughtTask(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start(t, "r1", noon, nil)
	l.attempt(t, "r1", records.Attempt{Attempt: 1, Outcome: records.Failed, Started: noon, Ended: noon.Add(time.Second)})
	l.task(t, "r1", "fit", &state{}, func(r *records.Task) { r.Outcome = records.Caught })
	attempts, err := l.find(t, "r1", "fit").Attempts(t.Context())
	require.NoError(t, err)
	require.Len(t, attempts, 1)
	require.Equal(t, records.Failed, attempts[0].Outcome)
}

func TestLoad(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start(t, "r1", noon, nil)
	big := make([]float64, 1000) // larger than what lives in the record
	big[999] = 3
	path := filepath.Join(t.TempDir(), "rows.csv")
	require.NoError(t, os.WriteFile(path, []byte("a,b\n1,2\n"), 0o600))
	v := &state{Alpha: 0.5, Rows: 7, Model: big, Note: "fine"}
	v.Data.SetPath(path)
	ref := l.task(t, "r1", "report", v, nil)
	l.end(t, "r1", records.End{Status: records.StatusCompleted, Ended: noon.Add(time.Minute), Last: &ref})

	ctx := t.Context()
	task, err := l.run(t, "r1").Last(ctx)
	require.NoError(t, err)
	require.Equal(t, "report", task.Name())
	require.Equal(t, []string{"Data", "Model", "Note", "Rows", "alpha"}, task.Artifacts())

	model, err := runs.Load[[]float64](ctx, task, "Model")
	require.NoError(t, err)
	require.Equal(t, big, model)
	alpha, err := runs.Load[any](ctx, task, "alpha")
	require.NoError(t, err)
	require.Equal(t, 0.5, alpha) //nolint:testifylint // the same bits, not about the same
	_, err = runs.Load[string](ctx, task, "Rows")
	require.ErrorContains(t, err, `artifact "Rows" of Train/r1/report`)
	_, err = runs.Load[int](ctx, task, "Nope")
	require.ErrorIs(t, err, runs.ErrNotFound)

	loaded, err := runs.LoadState[state](ctx, task, train)
	require.NoError(t, err)
	require.Equal(t, 7, loaded.Rows)
	require.Equal(t, big, loaded.Model)
	_, err = runs.LoadState[lab](ctx, task, train)
	require.ErrorContains(t, err, "the flow's state is not")

	for name, want := range map[string]string{"Note": "fine", "Data": "a,b\n1,2\n"} {
		e, r, err := task.Open(ctx, name)
		require.NoError(t, err)
		content, err := io.ReadAll(r)
		require.NoError(t, err)
		require.NoError(t, r.Close())
		require.Equal(t, want, string(content))
		require.EqualValues(t, len(want), e.Size)
	}
	_, r, err := task.Open(ctx, "Model")
	require.NoError(t, err)
	content, err := io.ReadAll(r)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	e, err := task.Artifact("Model")
	require.NoError(t, err)
	require.Equal(t, e.Digest, artifacts.Sum(content))
}

func TestLogs(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start(t, "r1", noon, nil)
	put := func(attempt int, catch bool, text string) {
		t.Helper()
		require.NoError(t, l.store.PutDoc(t.Context(), records.LogKey("Train", "r1", "fit", nil, attempt, catch), []byte(text)))
	}
	put(10, false, "not JSON\n")
	put(2, false, `{"time":"2026-01-01T12:00:01Z","level":"INFO","msg":"two","rows":7}`+"\n"+`{"level":"WARN","msg":"three"}`+"\n")
	put(2, true, `{"level":"INFO","msg":"caught"}`+"\n")
	require.NoError(t, l.store.PutDoc(t.Context(), records.LogsPrefix("Train", "r1", "fit", nil)+"notes.txt", []byte("x")))

	logs, err := l.find(t, "r1", "fit").Logs(t.Context())
	require.NoError(t, err)
	require.Len(t, logs, 3)
	require.Equal(t, 2, logs[0].Attempt)
	require.Equal(t, []records.LogLine{
		{Time: noon.Add(time.Second), Level: "INFO", Message: "two", Attrs: []string{"rows=7"}},
		{Level: "WARN", Message: "three"},
	}, logs[0].Lines)
	require.True(t, bytes.HasPrefix(logs[0].Raw, []byte(`{"time"`)))
	require.True(t, logs[1].Catch)
	require.Equal(t, 10, logs[2].Attempt)
	require.Equal(t, "not JSON", logs[2].Lines[0].Message)
}

func TestCards(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start(t, "r1", noon, nil)
	task := l.find(t, "r1", "fit")
	names, err := task.Cards(t.Context())
	require.NoError(t, err)
	require.Empty(t, names)
	for _, name := range []string{"plots", "default"} {
		require.NoError(t, l.store.PutDoc(t.Context(), records.CardKey("Train", "r1", "fit", nil, name), []byte("<p>"+name)))
	}
	names, err = task.Cards(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"default", "plots"}, names)
	page, err := task.Card(t.Context(), "plots")
	require.NoError(t, err)
	require.Equal(t, "<p>plots", string(page))
	_, err = task.Card(t.Context(), "nope")
	require.ErrorIs(t, err, runs.ErrNotFound)
	require.ErrorContains(t, err, "it has default, plots")
}

func TestDuration(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start(t, "done", noon, nil)
	l.end(t, "done", records.End{Status: records.StatusFailed, Ended: noon.Add(90 * time.Second)})
	l.start(t, "open", noon, nil)
	require.Equal(t, 90*time.Second, l.run(t, "done").Duration())
	require.Zero(t, l.run(t, "open").Duration(), "nobody knows whether it runs")
}
