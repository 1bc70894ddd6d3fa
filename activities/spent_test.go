package activities_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/artifacts/mem"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

// The last attempt wrote that there is none after it, and its worker was lost before the server heard: the function is not called
// again, unless a person wanted it.
func TestWhatAnAttemptSettledStands(t *testing.T) {
	t.Parallel()
	calls := 0
	f := flow.New("SpentFlow", flow.Step("a", func(_ context.Context, s *state) error {
		calls++
		return nil
	}, policies.Retry{MaximumAttempts: 5}))
	store := artifacts.New(mem.New(), artifacts.Options{})
	require.NoError(t, records.CreateRun(t.Context(), store, records.Run{Flow: f.Name(), Run: "r", Root: "r", Plan: f.Plan(), WorkflowID: "w"}))
	require.NoError(t, records.PutAttempt(t.Context(), store, f.Name(), "r", "a", nil, records.Attempt{
		Attempt: 1, Outcome: records.Failed, CountsAsCodeFailure: true, Final: true,
		Failure: &policies.Failure{Class: policies.Permanent, Message: "said no", Task: "a", Attempt: 1},
	}))
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	activities.New(store, activities.Options{}, f).Register(env)
	in := activities.StepInput{Flow: f.Name(), Run: "r", Step: "a", Before: 1} // as the second attempt sees it

	_, err := env.ExecuteActivity(activities.StepType(f.Name(), "a"), in)
	require.ErrorContains(t, err, "said no")
	require.Equal(t, policies.Permanent, policies.FailureOf(err).Class)
	require.Zero(t, calls)
	ledger, err := records.Attempts(t.Context(), store, f.Name(), "r", "a", nil)
	require.NoError(t, err)
	require.Len(t, ledger, 1)

	in.Forgiven = 1
	_, err = env.ExecuteActivity(activities.StepType(f.Name(), "a"), in)
	require.NoError(t, err)
	require.Equal(t, 1, calls)
}
