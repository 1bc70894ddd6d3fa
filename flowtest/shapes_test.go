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

type cube struct {
	N       int `param:"n" default:"4"`
	X, Y    int
	Results []int
}

func (s *cube) xs() []int {
	var all []int
	for i := range s.N {
		all = append(all, i)
	}
	return all
}
func (s *cube) setX(x int) { s.X = x }
func (s *cube) setY(y int) { s.Y = y }

func collect(_ context.Context, s *cube, in flow.Inputs[cube]) error {
	s.Results = nil
	for _, item := range in.All() {
		s.Results = append(s.Results, item.Results...)
	}
	return nil
}

func leaf(_ context.Context, s *cube) error {
	s.Results = []int{s.X*1000 + s.Y}
	return nil
}

func nested(fan flow.Fan) *flow.Flow {
	return flow.New("Nested",
		flow.Foreach("xs", (*cube).xs, (*cube).setX,
			flow.Foreach("ys", (*cube).xs, (*cube).setY, flow.Step("leaf", leaf)).With(fan).Join("join_y", collect),
		).Join("join_x", collect),
	)
}

func want(n int) []int {
	var all []int
	for x := range n {
		for y := range n {
			all = append(all, x*1000+y)
		}
	}
	return all
}

func TestForeachWithinForeach(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fan    flow.Fan
		limits workflows.Limits
	}{
		"direct":           {},
		"shards":           {limits: workflows.Limits{Tasks: 2, Shard: 3}},
		"shards of shards": {limits: workflows.Limits{Tasks: 1, Shard: 2, Children: 2, Window: 1}},
		"batches":          {fan: flow.Fan{Batch: 3}},
		"many batches":     {fan: flow.Fan{Batch: 2}, limits: workflows.Limits{Shard: 1, Children: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run := flowtest.Run(t, nested(c.fan), flowtest.Options{Limits: &c.limits, Params: map[string]string{"n": "7"}})
			require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
			last, err := run.Last(t.Context())
			require.NoError(t, err)
			got, err := runs.Load[[]int](t.Context(), last, "Results")
			require.NoError(t, err)
			require.Equal(t, want(7), got)
		})
	}
}
