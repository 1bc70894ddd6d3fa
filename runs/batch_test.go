package runs_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

// turns is a flow with batches whose items take turns of a loop, and go one of two ways twice.
func turns() *flow.Flow {
	return flow.New("Grid",
		flow.Step("merge", nop),
		flow.Foreach("grid", none, setRows,
			flow.Loop("turns", func(*state) bool { return false },
				flow.Switch("kinds", func(*state) string { return "" }, flow.Case("even", flow.Step("even", nop))).
					Else(flow.Step("odd", nop, policies.Retry{MaximumAttempts: 3})),
			),
			flow.Step("weigh", nop),
			flow.Switch("size", func(*state) string { return "" }, flow.Case("big", flow.Step("big", nop))).Else(flow.Step("small", nop)),
			flow.Step("cell", nop),
		).With(flow.Fan{Batch: 3}).Join("best", join),
	)
}

// An item of a batch has one record, that of its last task: of others nothing may be claimed that it does not tell.
func TestStepsWithinBatchesAreNotCalledSkipped(t *testing.T) {
	t.Parallel()
	l := newGridLab(t, turns())
	for _, name := range []string{"even", "odd", "weigh", "big", "cell"} {
		require.Equal(t, runs.NotStarted, l.step("r1", name).State, name)
	}
	l.did("r1", "merge", nil, items(6))
	require.Equal(t, runs.NotStarted, l.step("r1", "even").State)

	good := records.Item{Outcome: records.Completed, Step: "cell", Attempt: 1, Started: noon, Took: time.Second}
	l.batch("r1", 0, good, good)
	bad := func(step string, x flow.Index) records.Item {
		return records.Item{Outcome: records.Failed, Attempt: 3, Failure: failed(step, x, 1)}
	}
	l.batch("r1", 3, bad("odd", flow.Index{3, 2}), bad("small", flow.Index{4}), bad("grid", flow.Index{5}))
	l.over("r1", records.End{Status: records.StatusFailed, Failure: failed("odd", flow.Index{3, 2}, 1)})

	for name, want := range map[string]struct {
		runs.Counts
		runs.State
		untold bool
	}{
		"even":  {runs.Counts{}, runs.InBatches, true},
		"odd":   {runs.Counts{Failed: 1}, runs.Failed, true},
		"weigh": {runs.Counts{Total: 6, Completed: 3}, runs.Unfinished, false},
		"big":   {runs.Counts{}, runs.InBatches, true},
		"small": {runs.Counts{Failed: 1}, runs.Failed, true},
		"cell":  {runs.Counts{Total: 6, Completed: 2}, runs.Unfinished, false},
	} {
		s := l.step("r1", name)
		require.Equal(t, want.Counts, s.Counts, name)
		require.Equal(t, want.State, s.State, name)
		require.Equal(t, want.untold, s.Untold, name)
		require.Equal(t, []string{"cell"}, s.RecordedBy(), name)
	}
	for name, want := range map[string]struct {
		state runs.State
		by    string
	}{
		"even[0]":  {runs.InBatches, "cell[0]"},
		"small[1]": {runs.InBatches, "cell[1]"},
		"weigh[0]": {runs.Completed, "cell[0]"},
		"even[3]":  {runs.InBatches, "odd[3,2]"}, // in an earlier turn
		"weigh[3]": {runs.NotStarted, ""},
		"cell[3]":  {runs.NotStarted, ""},
		"even[4]":  {runs.InBatches, "small[4]"},
		"big[4]":   {runs.NotStarted, ""},        // the item went the other way
		"big[5]":   {runs.InBatches, "turns[5]"}, // its worker was lost, wherever it was, and the item's first task tells
	} {
		task := l.at("r1", name)
		require.Equal(t, want.state, task.State, name)
		require.Equal(t, want.by, task.RecordedBy(), name)
		require.Equal(t, name, task.Name())
	}
	_, err := l.at("r1", "even[0]").Artifact("Rows")
	require.ErrorContains(t, err, "that of its last task, cell[0]")
}

// The index of a task in an item of a batch has no turns, but its failure says in which it was.
func TestFailedTaskOfABatchIsNamedAsItsFailureIs(t *testing.T) {
	t.Parallel()
	l := newGridLab(t, turns())
	l.did("r1", "merge", nil, items(1))
	l.batch("r1", 0, records.Item{Outcome: records.Failed, Attempt: 3, Failure: failed("odd", flow.Index{0, 2}, 1)})
	l.over("r1", records.End{Status: records.StatusFailed, Failure: failed("odd", flow.Index{0, 2}, 1)})
	for _, name := range []string{"odd[0]", "odd[0,2]"} {
		task := l.at("r1", name)
		require.Equal(t, runs.Failed, task.State)
		require.Equal(t, "odd[0,2]", task.Name())
		require.Equal(t, flow.Index{0}, task.Index)
	}
	require.Equal(t, []string{"odd[0,2] failed"}, names(t, l.step("r1", "odd")))
	f, err := l.read("r1").Foreach(t.Context(), "grid")
	require.NoError(t, err)
	first, err := f.First(t.Context())
	require.NoError(t, err)
	require.Equal(t, "odd[0,2]", first.Name())
}

// A batch that was cut off has no record. What its attempts wrote down says that it began.
func TestBatchWithoutRecordBegan(t *testing.T) {
	t.Parallel()
	l := newGridLab(t, turns())
	l.did("r1", "merge", nil, items(6))
	part := records.Shard{Flow: "Grid", Run: "r1", Foreach: "grid", First: 3, Count: 3, Items: []records.Item{{Index: 3, Outcome: records.Completed, Step: "cell"}}}
	require.NoError(t, records.PutBatchPart(t.Context(), l.store, part, records.Part{Attempt: 1}))
	l.over("r1", records.End{Status: records.StatusCancelled})
	for _, name := range []string{"even", "cell"} {
		require.Equal(t, runs.InBatches, l.step("r1", name).State, name)
		require.Equal(t, runs.InBatches, l.at("r1", name+"[3]").State, name)
		require.Equal(t, runs.NotStarted, l.at("r1", name+"[0]").State, name)
	}
	_, err := l.at("r1", "cell[3]").Artifact("Rows")
	require.ErrorContains(t, err, "is written when that ends")
	require.Equal(t, runs.NotStarted, l.step("r1", "best").State)
	f, err := l.read("r1").Foreach(t.Context(), "grid")
	require.NoError(t, err)
	require.Equal(t, runs.Unfinished, f.State)
}
