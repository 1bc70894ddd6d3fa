package records_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
)

// A run that was killed has batches and no shard, and a resumed one may have cut the list otherwise: each finished item counts once.
func TestCountOfBatches(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	store, err := artifacts.Open(ctx, "mem:", artifacts.Options{})
	require.NoError(t, err)
	key := records.ItemsKey("items")
	require.NoError(t, records.CreateRun(ctx, store, records.Run{Flow: "F", Run: "r1"}))
	require.NoError(t, records.CreateRun(ctx, store, records.Run{Flow: "F", Run: "r2", Origin: "r1", Reused: map[string]string{key: "r1"}}))
	doc := func(run string, x flow.Index, first, count, completed int) records.Shard {
		return records.Shard{Flow: "F", Run: run, Foreach: "items", Index: x, First: first, Count: count, Tally: records.Tally{Completed: completed}}
	}
	batch := func(run string, x flow.Index, first, count, completed int) {
		t.Helper()
		_, _, err := records.CreateBatch(ctx, store, doc(run, x, first, count, completed))
		require.NoError(t, err)
	}
	count := func(origin string) int {
		t.Helper()
		s := records.Seeker{Store: store, Fresh: true, Run: records.Run{Flow: "F", Run: "new", Reused: map[string]string{"work": origin, key: origin}}}
		n, err := s.Count(ctx, "work", flow.PlanNode{Kind: flow.KindForeach, Name: "items", Fan: &flow.Fan{Batch: 4}}, func(_, _ records.Run) bool { return true })
		require.NoError(t, err)
		return n
	}

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
	ctx := t.Context()
	store, err := artifacts.Open(ctx, "mem:", artifacts.Options{})
	require.NoError(t, err)
	key := records.ItemsKey("items")
	require.NoError(t, records.CreateRun(ctx, store, records.Run{Flow: "F", Run: "r1"}))
	require.NoError(t, records.CreateRun(ctx, store, records.Run{Flow: "F", Run: "r2", Origin: "r1", Reused: map[string]string{key: "r1"}}))
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
	_, _, err = records.CreateBatch(ctx, store, records.Shard{Flow: "F", Run: "r2", Foreach: "items", Count: 4, Tally: records.Tally{Completed: 4}})
	require.NoError(t, err)

	s := records.Seeker{Store: store, Fresh: true, Run: records.Run{Flow: "F", Run: "new", Reused: map[string]string{key: "r2"}}}
	n, err := s.Count(ctx, "work", flow.PlanNode{Kind: flow.KindForeach, Name: "items", Fan: &flow.Fan{Batch: 4}}, func(_, _ records.Run) bool { return true })
	require.NoError(t, err)
	require.Equal(t, 8, n)
}
