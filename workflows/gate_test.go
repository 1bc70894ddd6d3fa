package workflows

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

// A probe that is stopped before it runs does not open the gate for others.
func TestProbeThatNeverRan(t *testing.T) {
	t.Parallel()
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
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
