package flowtest_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
	"github.com/stepwell-flows/stepwell/workflows"
)

// stale is the state of a foreach in a foreach, the items of which are made from what a step before them set.
type stale struct {
	Base, Outer, Item, Out int
	Inner, All             []int
}

func staleFlow(version, broken int, fan flow.Fan) *flow.Flow {
	body := []flow.Node[stale]{
		flow.Step("base", func(_ context.Context, s *stale) error { s.Base = version; return nil }),
		flow.Foreach("inner", func(*stale) []int { return []int{0, 1, 2, 3} }, func(s *stale, i int) { s.Item = i },
			flow.Step("item", func(_ context.Context, s *stale) error {
				if s.Item == broken {
					return flow.Fail("broken")
				}
				s.Out = s.Base*100 + s.Item
				return nil
			}),
		).With(fan).Join("gather", func(_ context.Context, s *stale, in flow.Inputs[stale]) error {
			for _, one := range in.All() {
				s.Inner = append(s.Inner, one.Out)
			}
			return nil
		}),
	}
	if version > 1 { // so that base runs again
		body = append([]flow.Node[stale]{flow.Step("new", func(context.Context, *stale) error { return nil })}, body...)
	}
	return flow.New("StaleFlow",
		flow.Foreach("outer", func(*stale) []int { return []int{0} }, func(s *stale, i int) { s.Outer = i }, body...).
			Join("all", func(_ context.Context, s *stale, in flow.Inputs[stale]) error {
				for _, one := range in.All() {
					s.All = append(s.All, one.Inner...)
				}
				return nil
			}),
	)
}

// A resume of a resume takes no items over that were made before the step in front of their foreach ran again.
func TestItemsOfAnotherSplitAreNotTakenOver(t *testing.T) {
	t.Parallel()
	for name, fan := range map[string]flow.Fan{"items": {MaxParallel: 1}, "shards": {MaxParallel: 1}, "batches": {MaxParallel: 1, Batch: 2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := flowtest.Options{Limits: &workflows.Limits{Tasks: 1, Shard: 2, Shards: 1}}
			if name == "items" {
				o.Limits = nil
			}
			first := flowtest.Run(t, staleFlow(1, 3, fan), o)
			require.Equal(t, records.StatusFailed, first.Status)
			second := flowtest.Resume(t, staleFlow(2, 0, fan), first, o)
			require.Equal(t, records.StatusFailed, second.Status, "%+v", second.Failure)
			f := staleFlow(2, -1, fan)
			require.Contains(t, planned(t, f, second), "run item: did not finish")
			third := flowtest.Resume(t, f, second, o)
			require.Equal(t, records.StatusCompleted, third.Status, "%+v", third.Failure)
			last, err := third.Last(t.Context())
			require.NoError(t, err)
			s, err := runs.LoadState[stale](t.Context(), last, f)
			require.NoError(t, err)
			require.Equal(t, []int{200, 201, 202, 203}, s.All)
		})
	}
}
