package activities_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

// A batch that comes to a worker which does not have it goes back, like a step.
func TestUnknownBatch(t *testing.T) {
	t.Parallel()
	store, err := artifacts.Open(t.Context(), "mem:", artifacts.Options{})
	require.NoError(t, err)
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.RegisterDynamicActivity(activities.New(store, activities.Options{}).Unknown, activity.DynamicRegisterOptions{})
	_, err = env.ExecuteActivity(activities.BatchType("Other", "items"), activities.BatchInput{Flow: "Other", Run: "r", Foreach: "items", Count: 10})
	var failed *temporal.ApplicationError
	require.ErrorAs(t, err, &failed)
	require.False(t, failed.NonRetryable())
	require.Equal(t, policies.Lost, policies.FailureOf(err).Class)
	require.Equal(t, "items[0-9]", policies.FailureOf(err).Task)
	require.Contains(t, failed.Message(), "does another program poll")
}

// Items that jitter made due one after the other within a second are tried again by one attempt of their batch.
func TestBatchWaitsForItemsTogether(t *testing.T) {
	t.Parallel()
	const items = 200
	var drawn atomic.Int64
	f := flow.New("Jitter",
		flow.Foreach("items", func(*state) []int { return make([]int, items) }, func(*state, int) {},
			flow.Step("call", func(ctx context.Context, _ *state) error {
				if flow.Current(ctx).Attempt == 1 {
					return errors.New("busy")
				}
				return nil
			}, policies.Retry{MaximumAttempts: 2, InitialInterval: 10 * time.Second, Jitter: policies.FullJitter}),
		).With(flow.Fan{Batch: items}).Join("join", func(context.Context, *state, flow.Inputs[state]) error { return nil }),
	)
	run := flowtest.Run(t, f, flowtest.Options{Random: func() float64 { return float64(drawn.Add(1)-1) / items }})
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	parts := 0
	for info, err := range run.Store().List(t.Context(), records.RunPrefix(f.Name(), run.Run.Run)) {
		require.NoError(t, err)
		if strings.Contains(info.Key, "/parts/") {
			parts++
		}
	}
	require.LessOrEqual(t, parts, 40, "ten seconds of due times, and what a slow machine adds")
	require.GreaterOrEqual(t, parts, 2, "nothing waits much longer than it has to")
}
