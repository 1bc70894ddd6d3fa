package flowtest_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/activities"
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

type retyped struct {
	Rows string
	Mean string
	Kept int
}

// A resume takes over content as it is, so one more does not help fields that have got other types: the error says what does.
func TestResumeWithOtherTypes(t *testing.T) {
	t.Parallel()
	type typed struct {
		Rows int
		Mean []float64
		Kept int
	}
	origin := flowtest.Run(t, flow.New("TypedFlow",
		flow.Step("load", func(_ context.Context, s *typed) error { s.Rows, s.Mean = 3, []float64{1}; return nil }),
		flow.Step("fit", func(context.Context, *typed) error { return flow.Fail("broken") }),
	), flowtest.Options{})
	require.Equal(t, records.StatusFailed, origin.Status)
	nothing := func(context.Context, *retyped) error { return nil }
	f := flow.New("TypedFlow", flow.Step("load", nothing), flow.Step("fit", nothing))
	run := flowtest.Resume(t, f, origin, flowtest.Options{})
	require.Equal(t, records.StatusFailed, run.Status)
	require.Equal(t, activities.InputErrorType, run.Failure.Type)
	require.Equal(t, `load the task's input: `+
		`load artifact "Rows" (string): stored as int: found an unsigned integer, which cannot fill a string (give the field its old type, or another name); `+
		`load artifact "Mean" (string): stored as []float64 with codec "float64s", which cannot fill a string (give the field its old type, or another name) `+
		`(or resume with --step, from the step that set it)`, run.Failure.Message)
	run = flowtest.Resume(t, f, run, flowtest.Options{Step: "load"})
	require.Equal(t, records.StatusCompleted, run.Status)
}
