package flowtest_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/records"
)

// grownFlow goes through three rows with the steps of the given names, and fails at a task.
func grownFlow(fails string, body ...string) *flow.Flow {
	step := func(name string) flow.Node[cells] {
		return flow.Step(name, func(ctx context.Context, _ *cells) error {
			if flow.Current(ctx).Task == fails {
				return flow.Fail("broken")
			}
			return nil
		})
	}
	var nodes []flow.Node[cells]
	for _, name := range body {
		nodes = append(nodes, step(name))
	}
	return flow.New("GrownFlow", step("start"),
		flow.Foreach("rows", func(*cells) []int { return []int{0, 1, 2} }, func(s *cells, i int) { s.Row = i }, nodes...).
			With(flow.Fan{OnFailure: flow.FinishAll}).Join("all", func(context.Context, *cells, flow.Inputs[cells]) error { return nil }))
}

// What is before a step that a body has got is taken over, and the plan does not say otherwise.
func TestPlanOfAGrownBody(t *testing.T) {
	t.Parallel()
	origin := flowtest.Run(t, grownFlow("work[1]", "work"), flowtest.Options{})
	require.Equal(t, records.StatusFailed, origin.Status)
	f := grownFlow("", "work", "more", "last")
	require.Equal(t, []string{
		"reuse start: completed", "both work: 2 of 3 items are reused", "run more: new in the flow", "run last: new in the flow", "run all: its items have other steps now",
	}, planned(t, f, origin))
	run := flowtest.Resume(t, f, origin, flowtest.Options{})
	work, err := run.Step(t.Context(), "work")
	require.NoError(t, err)
	require.Equal(t, 2, work.Reused)
}
