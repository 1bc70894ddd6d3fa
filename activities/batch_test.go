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

// What a resumed run's batch takes over says which run it ran in, also when it is taken over once more.
func TestBatchSaysWhichItemsItTookOver(t *testing.T) {
	t.Parallel()
	const items = 10
	var bad atomic.Int64
	bad.Store(2)
	f := flow.New("Taken",
		flow.Step("start", func(context.Context, *state) error { return nil }),
		flow.Foreach("items", func(*state) []int { return make([]int, items) }, func(*state, int) {},
			flow.Step("call", func(ctx context.Context, _ *state) error {
				if i := int64(flow.Current(ctx).Index[0]); i == 3 && bad.Load() > 0 || i == 7 && bad.Load() > 1 {
					return errors.New("bad")
				}
				return nil
			}),
		).With(flow.Fan{Batch: items, OnFailure: flow.FinishAll}).Join("join", func(context.Context, *state, flow.Inputs[state]) error { return nil }),
	)
	run := flowtest.Run(t, f, flowtest.Options{})
	first := run.Run.Run
	for n := int64(2); n > 0; n-- {
		require.Equal(t, records.StatusFailed, run.Status)
		bad.Store(n - 1)
		run = flowtest.Resume(t, f, run, flowtest.Options{})
		head, err := records.BatchHead(t.Context(), run.Store(), f.Name(), run.Run.Run, "items", nil, 0)
		require.NoError(t, err)
		require.Equal(t, items-int(n), head.Reused, "the first line tells")
		step, err := run.Step(t.Context(), "call")
		require.NoError(t, err)
		require.Equal(t, items-int(n), step.Reused)
		task, err := run.Task(t.Context(), "call[0]")
		require.NoError(t, err)
		require.Equal(t, first, task.Owner)
	}
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
}
