package workflows

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/workflow"

	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

// A probe that is stopped before it runs does not open the gate for others.
func TestProbeThatNeverRan(t *testing.T) {
	t.Parallel()
	env := newEnv()
	env.ExecuteWorkflow(func(ctx workflow.Context) (bool, error) {
		r := newRun(ctx, "GateFlow", "1", policies.Defaults{}, nil, 1)
		place, err := r.enter(ctx, r.top, r.activities, 1)
		if err != nil {
			return false, err
		}
		call := &task{run: r, s: &scope{r: r, parent: r.top}, n: &flow.PlanNode{Name: "call", Policy: &policies.Spec{}}, name: "call"}
		g := r.gate(call.n)
		g.close(ctx, time.Minute)
		ended := workflow.NewChannel(ctx)
		workflow.Go(ctx, func(ctx workflow.Context) {
			_, err := call.activity(ctx, &records.Tried{})
			ended.Send(ctx, err == errStopped) //nolint:errorlint // it is what the gate gives back
		})
		if err := workflow.Sleep(ctx, time.Hour); err != nil {
			return false, err
		}
		call.s.halt(ctx)
		place()
		var stopped bool
		ended.Receive(ctx, &stopped)
		return stopped && g.closed && !g.probing, nil
	})
	require.NoError(t, env.GetWorkflowError())
	var closed bool
	require.NoError(t, env.GetWorkflowResult(&closed))
	require.True(t, closed)
}

// A task that has to wait alone holds nobody back, and keeps nobody's place.
func TestTaskThatWaitsAlone(t *testing.T) {
	t.Parallel()
	env := newEnv()
	env.RegisterActivityWithOptions(func(_ context.Context, in activities.StepInput) (activities.StepResult, error) {
		if in.Index[0] == 0 && in.Before == 0 {
			return activities.StepResult{Again: &activities.Again{Attempt: 1, Wait: 3 * time.Second, Deferred: true, Alone: true}}, nil
		}
		return activities.StepResult{}, nil
	}, activity.RegisterOptions{Name: activities.StepType("GateFlow", "call")})
	env.ExecuteWorkflow(func(ctx workflow.Context) ([]time.Duration, error) {
		r := newRun(ctx, "GateFlow", "1", policies.Defaults{}, nil, 1)
		n := &flow.PlanNode{Kind: flow.KindStep, Name: "call", Policy: &policies.Spec{}}
		began, done := workflow.Now(ctx), workflow.NewWaitGroup(ctx)
		took := make([]time.Duration, 3)
		for i := range took {
			done.Add(1)
			workflow.Go(ctx, func(ctx workflow.Context) {
				defer done.Done()
				if workflow.Sleep(ctx, time.Duration(i)*time.Second) == nil && r.step(ctx, r.top, n, flow.Index{i}, &records.Cursor{}, nil) == nil {
					took[i] = workflow.Now(ctx).Sub(began).Round(time.Second)
				}
			})
		}
		done.Wait(ctx)
		return took, nil
	})
	require.NoError(t, env.GetWorkflowError())
	var took []time.Duration
	require.NoError(t, env.GetWorkflowResult(&took))
	require.Equal(t, []time.Duration{3 * time.Second, time.Second, 2 * time.Second}, took)
}
