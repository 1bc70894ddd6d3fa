package runs_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

type state struct {
	Alpha float64 `param:"alpha" default:"0.5"`
	Rows  int
	Model []float64
	Note  string
	Data  artifacts.File
}

func nop(context.Context, *state) error { return nil }

var train = flow.New("Train",
	flow.Step("load", nop),
	flow.Step("fit", nop, policies.Retry{MaximumAttempts: 3}),
	flow.Step("report", nop),
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// lab is a store with records written by hand.
type lab struct {
	store  *artifacts.Store
	reader *runs.Reader
}

func newLab(t *testing.T) lab {
	t.Helper()
	require.NoError(t, train.Check())
	s, err := artifacts.Open(t.Context(), t.TempDir(), artifacts.Options{})
	require.NoError(t, err)
	return lab{s, runs.New(s, nil)}
}

// start writes run.json.
func (l lab) start(t *testing.T, id string, at time.Time, change func(*records.Run)) {
	t.Helper()
	r := records.Run{
		Flow: "Train", Run: id, Root: id, Plan: train.Plan(), Params: map[string]string{"alpha": "0.5"},
		Started: at, WorkflowID: "Train/" + id, TaskQueue: "stepwell", Namespace: "default",
	}
	if change != nil {
		change(&r)
	}
	require.NoError(t, records.CreateRun(t.Context(), l.store, r))
}

// end writes end.json.
func (l lab) end(t *testing.T, id string, e records.End) {
	t.Helper()
	require.NoError(t, records.CreateEnd(t.Context(), l.store, "Train", id, e))
}

// task writes the record of a task that left the state v behind.
func (l lab) task(t *testing.T, id, step string, v *state, change func(*records.Task)) records.Ref {
	t.Helper()
	entries, changed, err := train.Schema().Save(t.Context(), l.store, v, nil, artifacts.Snapshot{}, id+"/"+step)
	require.NoError(t, err)
	rec := records.Task{
		Flow: "Train", Run: id, Step: step, Outcome: records.Completed, Attempt: 1, Worker: "7@host",
		Started: noon.Add(time.Second), Ended: noon.Add(2 * time.Second), Artifacts: entries, Changed: changed,
	}
	if change != nil {
		change(&rec)
	}
	ref, _, err := records.CreateTask(t.Context(), l.store, rec)
	require.NoError(t, err)
	return ref
}

// attempt writes a ledger entry of step fit.
func (l lab) attempt(t *testing.T, id string, a records.Attempt) {
	t.Helper()
	require.NoError(t, records.PutAttempt(t.Context(), l.store, "Train", id, "fit", nil, a))
}

func (l lab) run(t *testing.T, id string) *runs.Run {
	t.Helper()
	r, err := l.reader.Run(t.Context(), "Train", id)
	require.NoError(t, err)
	return r
}

func (l lab) find(t *testing.T, id, task string) *runs.Task {
	t.Helper()
	found, err := l.run(t, id).Task(t.Context(), task)
	require.NoError(t, err)
	return found
}
