package workflows

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

type continueState struct{ Items []int }

func noItems(*continueState) []int                                                { return nil }
func setItem(*continueState, int)                                                 {}
func emptyStep(context.Context, *continueState) error                             { return nil }
func emptyJoin(context.Context, *continueState, flow.Inputs[continueState]) error { return nil }
func ref(step string, x flow.Index) records.Ref {
	return records.Ref{Run: "r", Step: step, Index: x, Digest: artifacts.Sum([]byte(step))}
}

// failsWith is the error of a task of flow F.
func failsWith(in activities.StepInput, message string) error {
	return policies.Error(&policies.Failure{
		Class: policies.Unknown, Message: message, Flow: "F", Run: "r", Step: in.Step, Task: flow.TaskName(in.Step, in.Index), Attempt: 1,
	}, policies.Decision{})
}

// next is the input of the workflow that the one of the environment continued as, and its size.
func next(t testing.TB, e *testsuite.TestWorkflowEnvironment, in any) (size int) {
	t.Helper()
	require.True(t, e.IsWorkflowCompleted())
	var next *workflow.ContinueAsNewError
	require.ErrorAs(t, e.GetWorkflowError(), &next)
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(next.Input, in))
	for _, p := range next.Input.GetPayloads() {
		size += len(p.Data)
	}
	return size
}

// Items that run a few tasks each in the workflow itself have many failures together.
func TestShardOfManyFailuresFitsIntoItsNextInput(t *testing.T) {
	t.Parallel()
	all := flow.Fan{Tolerate: flow.Percent(100)}
	f := flow.New("F", flow.Step("start", emptyStep), flow.Foreach("outer", noItems, setItem, flow.Seq(flow.Step("a", emptyStep),
		flow.Foreach("inner", noItems, setItem, flow.Step("b", emptyStep)).With(flow.Fan{Tolerate: flow.Percent(100), MaxParallel: 4}).Join("innerJoin", emptyJoin),
	)).With(all).Join("outerJoin", emptyJoin))
	require.NoError(t, f.Check())
	plan := f.Plan()
	node, _ := plan.Shape("outer")
	size := (&fan{n: &node}).size(Limits{}.WithDefaults())
	e := newEnv()
	Register(e, "F")
	e.RegisterActivityWithOptions(func(_ context.Context, in activities.StepInput) (activities.StepResult, error) {
		return activities.StepResult{Ref: ref(in.Step, in.Index), Outcome: records.Completed, Ahead: flow.Ahead{"inner": {Items: &flow.List{Len: 20}}}}, nil
	}, activity.RegisterOptions{Name: activities.StepType("F", "a")})
	e.RegisterActivityWithOptions(func(_ context.Context, in activities.StepInput) (activities.StepResult, error) {
		return activities.StepResult{}, failsWith(in, strings.Repeat("m", 2000))
	}, activity.RegisterOptions{Name: activities.StepType("F", "b")})
	e.RegisterActivityWithOptions(func(_ context.Context, in activities.StepInput) (activities.StepResult, error) {
		return activities.StepResult{Ref: ref(in.Step, in.Index), Outcome: records.Completed}, nil
	}, activity.RegisterOptions{Name: activities.StepType("F", "innerJoin")})
	failures := 0
	e.SetOnActivityCompletedListener(func(_ *activity.Info, _ converter.EncodedValue, err error) {
		if err != nil {
			failures++
		}
		e.SetContinueAsNewSuggested(failures >= 1000)
	})
	from := ref("start", nil)
	e.ExecuteWorkflow(Shard, ShardInput{Version: 1, Flow: "F", Run: "r", Node: node, From: &from, List: flow.List{Len: size}, Count: size})
	var in ShardInput
	require.Less(t, next(t, e, &in), 1<<20)
	require.GreaterOrEqual(t, failures, 1000)
}

// Item 1 fails first, then item 0. A workflow that continues as new knows that still.
func TestFirstFailureGoesAlongWithContinueAsNew(t *testing.T) {
	t.Parallel()
	for _, batched := range []bool{false, true} {
		fan := flow.Fan{OnFailure: flow.FinishAll, MaxParallel: 2}
		if batched {
			fan.Batch = 10
		}
		f := flow.New("F", flow.Step("start", emptyStep),
			flow.Foreach("each", noItems, setItem, flow.Step("b", emptyStep)).With(fan).Join("join", emptyJoin))
		require.NoError(t, f.Check())
		plan := f.Plan()
		node, _ := plan.Shape("each")
		// setup is for one workflow after the other. Item 0 ends when item 2 has begun: then item 1 was heard of, and the workflow is
		// to continue as new.
		setup := func(end *records.End, d *records.Shard) *testsuite.TestWorkflowEnvironment {
			e := newEnv()
			Register(e, "F")
			third := make(chan struct{})
			started := 0
			e.SetOnActivityStartedListener(func(*activity.Info, context.Context, converter.EncodedValues) {
				started++
				e.SetContinueAsNewSuggested(started == 3)
			})
			item := func(i int) (failed bool) {
				switch i {
				case 0:
					<-third
				case 2:
					close(third)
				}
				return i < 2
			}
			e.RegisterActivityWithOptions(func(_ context.Context, in activities.StepInput) (activities.StepResult, error) {
				if item(in.Index[0]) {
					return activities.StepResult{}, failsWith(in, "no")
				}
				return activities.StepResult{Ref: ref(in.Step, in.Index), Outcome: records.Completed}, nil
			}, activity.RegisterOptions{Name: activities.StepType("F", "b")})
			e.RegisterActivityWithOptions(func(_ context.Context, in activities.BatchInput) (records.Batch, error) {
				b := records.Batch{Run: "r", First: in.First, Count: in.Count, Tally: records.Tally{Completed: in.Count}}
				if item(in.First / 10) {
					b.Tally = records.Tally{Failed: in.Count, Failure: &policies.Failure{Class: policies.Unknown, Message: "no", Task: fmt.Sprintf("b[%d]", in.First/10)}}
				}
				return b, nil
			}, activity.RegisterOptions{Name: activities.BatchType("F", "each")})
			e.RegisterActivityWithOptions(func(_ context.Context, s records.Shard, _ []records.Item, _ []records.Batch) error {
				*d = s
				return nil
			}, activity.RegisterOptions{Name: activities.ShardType})
			e.RegisterActivityWithOptions(func(_ context.Context, in activities.EndInput) error {
				*end = in.End
				return nil
			}, activity.RegisterOptions{Name: activities.EndType})
			return e
		}
		from := ref("start", nil)
		t.Run(fmt.Sprintf("shard, batched %v", batched), func(t *testing.T) {
			t.Parallel()
			n := 4
			if batched {
				n = 40
			}
			var d records.Shard
			e := setup(nil, &d)
			e.ExecuteWorkflow(Shard, ShardInput{Version: 1, Flow: "F", Run: "r", Node: node, From: &from, List: flow.List{Len: n}, Count: n, Quota: 2})
			var in ShardInput
			next(t, e, &in)
			e = setup(nil, &d)
			e.ExecuteWorkflow(Shard, in)
			require.NoError(t, e.GetWorkflowError())
			var out ShardOutput
			require.NoError(t, e.GetWorkflowResult(&out))
			require.Equal(t, "b[1]", out.Failure.Task)
			require.Equal(t, n/2, out.Failed)
			require.Equal(t, out.Tally, d.Tally, "the shard's document")
		})
		if batched {
			continue // a run has shards for those
		}
		t.Run("run", func(t *testing.T) {
			t.Parallel()
			var end records.End
			e := setup(&end, nil)
			e.ExecuteWorkflow("F", Input{
				Version: 1, Plan: plan, Run: "r", Prepared: true,
				Start: &records.Cursor{Next: 1, Last: &from, Ahead: flow.Ahead{"each": {Items: &flow.List{Len: 4}}}},
			})
			var in Input
			next(t, e, &in)
			e = setup(&end, nil)
			e.ExecuteWorkflow("F", in)
			require.ErrorContains(t, e.GetWorkflowError(), `step "b[1]" failed: no (and 1 other tasks failed)`)
			require.Equal(t, "b[1]", end.Failure.Task)
		})
	}
}
