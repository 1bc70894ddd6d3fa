package records_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
)

// originAndResume has a run of a foreach with batches and one that was resumed from it, which have nothing yet.
func originAndResume(t *testing.T) *artifacts.Store {
	t.Helper()
	store, err := artifacts.Open(t.Context(), "mem:", artifacts.Options{})
	require.NoError(t, err)
	require.NoError(t, records.CreateRun(t.Context(), store, records.Run{Flow: "F", Run: "r1"}))
	require.NoError(t, records.CreateRun(t.Context(), store, records.Run{
		Flow: "F", Run: "r2", Origin: "r1", Reused: map[string]string{records.ItemsKey("items"): "r1"},
	}))
	return store
}

// countBatches counts the items that a resume of a run would take over.
func countBatches(t *testing.T, store *artifacts.Store, origin string) int {
	t.Helper()
	s := records.Seeker{Store: store, Fresh: true, Run: records.Run{Flow: "F", Run: "new", Reused: map[string]string{records.ItemsKey("items"): origin}}}
	foreach := flow.PlanNode{Kind: flow.KindForeach, Name: "items", Fan: &flow.Fan{Batch: 4}}
	n, err := s.Count(t.Context(), "work", foreach, func(_, _ records.Run) bool { return true })
	require.NoError(t, err)
	return n
}

// A run that was killed has batches and no shard, and a resumed one may have cut the list otherwise: each finished item counts once.
func TestCountOfBatches(t *testing.T) {
	t.Parallel()
	ctx, store := t.Context(), originAndResume(t)
	doc := func(run string, x flow.Index, first, count, completed int) records.Shard {
		return records.Shard{Flow: "F", Run: run, Foreach: "items", Index: x, First: first, Count: count, Tally: records.Tally{Completed: completed}}
	}
	batch := func(run string, x flow.Index, first, count, completed int) {
		t.Helper()
		_, _, err := records.CreateBatch(ctx, store, doc(run, x, first, count, completed))
		require.NoError(t, err)
	}
	count := func(origin string) int { return countBatches(t, store, origin) }

	batch("r1", nil, 0, 4, 4)
	batch("r1", nil, 4, 4, 3)
	batch("r1", nil, 16, 4, 2)
	batch("r1", flow.Index{1}, 0, 4, 1)
	require.Equal(t, 10, count("r1"))

	batch("r2", nil, 0, 8, 8) // with those that it has taken over
	batch("r2", nil, 8, 8, 5)
	require.Equal(t, 8+5+2+1, count("r2"))

	d := doc("r2", nil, 0, 20, 17)
	d.Batched = true
	require.NoError(t, records.PutShard(ctx, store, d))
	require.Equal(t, 17+1, count("r2"), "the shard's summary stands for its batches")
}

// A resume goes on where the runs before it stopped: what one has of a shard and another of its batches is reused together.
func TestCountOfBatchesOfTwoRuns(t *testing.T) {
	t.Parallel()
	ctx, store := t.Context(), originAndResume(t)
	shard := records.Shard{Flow: "F", Run: "r1", Foreach: "items", Count: 8, Batched: true}
	for first, done := range map[int]int{0: 1, 4: 4} { // the first batch ended at an item that failed
		d := records.Shard{Flow: "F", Run: "r1", Foreach: "items", First: first, Count: 4, Tally: records.Tally{Completed: done}}
		digest, _, err := records.CreateBatch(ctx, store, d)
		require.NoError(t, err)
		shard.Batches = append(shard.Batches, records.Batch{Run: "r1", First: first, Count: 4, Digest: digest, Tally: d.Tally})
		shard.Merge(d.Tally)
	}
	require.NoError(t, records.PutShard(ctx, store, shard))
	// The resumed run finished the first batch, and was killed.
	_, _, err := records.CreateBatch(ctx, store, records.Shard{Flow: "F", Run: "r2", Foreach: "items", Count: 4, Tally: records.Tally{Completed: 4}})
	require.NoError(t, err)

	require.Equal(t, 8, countBatches(t, store, "r2"))
}
