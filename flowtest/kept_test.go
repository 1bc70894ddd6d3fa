package flowtest_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
	"github.com/stepwell-flows/stepwell/workflows"
)

// kept is the state of a flow whose items set little, or much, or empty what was there.
type kept struct {
	Outer, Item int
	Text        string
	Note        artifacts.Ref[string]
	Seen        []string
}

const keptItems, keptLarge = 60, 7 // each seventh item sets much

func keptSplit(_ context.Context, s *kept) error {
	s.Note.Set("noted")
	return nil
}

func keptFan(joins *atomic.Int64) flow.Node[kept] {
	return flow.Foreach("items", func(*kept) []int { return make([]int, keptItems) }, func(s *kept, _ int) { s.Item = -1 },
		flow.Step("write", func(ctx context.Context, s *kept) error {
			x := flow.Current(ctx).Index
			s.Item = x[len(x)-1]
			s.Text = fmt.Sprintf("%d:%d", s.Outer, s.Item)
			if s.Item%keptLarge == 0 {
				s.Text += strings.Repeat("x", 100)
			}
			return nil
		}),
		flow.Step("empty", func(_ context.Context, s *kept) error {
			if s.Item%2 == 1 {
				s.Note = artifacts.Ref[string]{}
			}
			return nil
		}),
	).Join("gather", func(ctx context.Context, s *kept, in flow.Inputs[kept]) error {
		joins.Add(1)
		defer joins.Add(-1)
		for i, one := range in.All() {
			s.Seen = append(s.Seen, fmt.Sprintf("%d %d %d %s %t", i, one.Outer, one.Item, strings.TrimRight(one.Text, "x"), !one.Note.IsZero()))
		}
		return nil
	})
}

func keptSeen(outer ...int) (all []string) {
	for _, outer := range outer {
		for i := range keptItems {
			all = append(all, fmt.Sprintf("%d %d %d %d:%d %t", i, outer, i, outer, i, i%2 == 0))
		}
	}
	return all
}

// The join of a foreach reads the documents of its shards, and the records only of those items that set more than the workflow keeps.
// It makes the same of both.
func TestJoinReadsShards(t *testing.T) {
	t.Parallel()
	const large = (keptItems + keptLarge - 1) / keptLarge
	for name, way := range map[string]struct {
		limits workflows.Limits
		reads  int
	}{
		"direct": {reads: large}, "shards": {workflows.Limits{Tasks: 1, Shard: 40}, keptItems/20 + large},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var joins, reads atomic.Int64
			store, err := artifacts.Open(t.Context(), "mem:", artifacts.Options{CacheBytes: -1, Observe: func(c artifacts.Call) {
				if joins.Load() > 0 && c.Operation == "get" {
					reads.Add(1)
				}
			}})
			require.NoError(t, err)
			f := flow.New("KeptFlow", flow.Step("split", keptSplit), keptFan(&joins))
			run := flowtest.Run(t, f, flowtest.Options{Store: store, Limits: &way.limits})
			require.Equal(t, keptSeen(0), seenByJoin(t, run))
			require.EqualValues(t, way.reads, reads.Load())
		})
		t.Run(name+" within a foreach", func(t *testing.T) { // whose items have no record when the one within begins
			t.Parallel()
			var joins atomic.Int64
			f := flow.New("KeptFlow", flow.Step("split", keptSplit),
				flow.Foreach("outer", func(*kept) []int { return []int{1, 2, 3} }, func(s *kept, n int) { s.Outer = n }, keptFan(&joins)).
					Join("all", func(_ context.Context, s *kept, in flow.Inputs[kept]) error {
						for _, one := range in.All() {
							s.Seen = slices.Concat(s.Seen, one.Seen)
						}
						return nil
					}),
			)
			run := flowtest.Run(t, f, flowtest.Options{Limits: &way.limits})
			require.Equal(t, keptSeen(1, 2, 3), seenByJoin(t, run))
		})
	}
}

func seenByJoin(t *testing.T, run *runs.Run) []string {
	t.Helper()
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	last, err := run.Last(t.Context())
	require.NoError(t, err)
	seen, err := runs.Load[[]string](t.Context(), last, "Seen")
	require.NoError(t, err)
	return seen
}
