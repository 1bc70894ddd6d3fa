package activities_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/artifacts/mem"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

// An attempt from before a reset that hears of it late writes down what it did once more. The attempts after the reset have the same
// numbers, and lose nothing to it.
func TestLatePartFromBeforeAReset(t *testing.T) {
	t.Parallel()
	var calls [2]atomic.Int64
	f := flow.New("ZombieFlow",
		flow.Foreach("items", count(len(calls)), func(*state, int) {},
			flow.Step("call", func(ctx context.Context, _ *state) error {
				i := flow.Current(ctx).Index[0]
				if n := calls[i].Add(1); i == 1 && n == 1 {
					return errors.New("not yet")
				}
				return nil
			}, policies.Retry{MaximumAttempts: 2}),
		).With(flow.Fan{Batch: len(calls)}).Join("join", nothingToJoin),
	)
	below := mem.New()
	var ended atomic.Bool
	late := records.Shard{Flow: f.Name(), Run: "r", Foreach: "items", Count: len(calls), Final: true, Execution: "before the reset"}
	b := newBatches(t, absent{below, func(key string) bool {
		if strings.Contains(key, "/batches/") && ended.CompareAndSwap(true, false) { // the second attempt begins to look back
			require.NoError(t, records.PutBatchPart(t.Context(), artifacts.New(below, artifacts.Options{}), late, records.Part{Attempt: 1}))
		}
		return false
	}}, f)
	b.in.Look = true
	b.options.At = func(_ context.Context, m activities.Moment) {
		if m.Point == activities.PointNoted {
			ended.Store(true)
		}
	}
	require.Equal(t, []records.Outcome{records.Completed, records.Completed}, outcomes(b.run(t)))
	require.Equal(t, [2]int64{1, 2}, [2]int64{calls[0].Load(), calls[1].Load()})
}

// A batch that took something over from before a reset, and gets nothing done itself, ends like any other.
func TestBatchThatGetsNothingDoneAfterAResetEnds(t *testing.T) {
	t.Parallel()
	f, d, calls := fullDisk()
	b := newBatches(t, d, f)
	b.in.Look = true
	part := records.Shard{Flow: f.Name(), Run: "r", Foreach: "items", Count: 2, Final: true, Execution: "before the reset", Items: []records.Item{
		{Index: 0, Outcome: records.Completed},
	}}
	require.NoError(t, records.PutBatchPart(t.Context(), b.store, part, records.Part{Attempt: 30}))
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	env.SetTestTimeout(time.Minute)
	b.options.Now = env.Now
	activities.New(b.store, b.options, f).Register(env)
	env.ExecuteWorkflow(func(ctx workflow.Context) error {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Hour, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 50}})
		return workflow.ExecuteActivity(ctx, activities.BatchType(f.Name(), "items"), b.in).Get(ctx, nil)
	})
	require.Equal(t, policies.Lost, policies.FailureOf(env.GetWorkflowError()).Class)
	require.EqualValues(t, 21, calls.Load())
}

// An attempt from before a reset that does not know of it yet may end its batch while the one after the reset runs. What failed in it
// is no failure of the attempt that tried it again.
func TestBatchSealedLateFromBeforeAReset(t *testing.T) {
	t.Parallel()
	f := flow.New("ZombieFlow",
		flow.Foreach("items", count(4), func(*state, int) {},
			flow.Step("call", func(ctx context.Context, _ *state) error {
				if flow.Current(ctx).Index[0] >= 2 {
					return flow.Fail("broken")
				}
				return nil
			}),
		).With(flow.Fan{Batch: 4, Tolerate: flow.Percent(100)}).Join("join", nothingToJoin),
	)
	b := newBatches(t, mem.New(), f)
	b.in.Look, b.in.Stop = true, false
	broken := &policies.Failure{Class: policies.Permanent}
	late := records.Shard{Flow: f.Name(), Run: "r", Foreach: "items", Count: 4, Execution: "before the reset", Scheduled: time.Unix(1, 0), Items: []records.Item{
		{Index: 0, Outcome: records.Failed, Failure: broken}, {Index: 1, Outcome: records.Failed, Failure: broken},
		{Index: 2, Outcome: records.Completed}, {Index: 3, Outcome: records.Caught, Failure: broken},
	}}
	for _, p := range late.Items {
		late.Add(p)
	}
	b.options.At = func(ctx context.Context, m activities.Moment) {
		if m.Point == activities.PointStored {
			_, _, err := records.CreateBatch(ctx, b.store, late)
			require.NoError(t, err)
		}
	}
	require.Equal(t, []records.Outcome{records.Completed, records.Completed, records.Completed, records.Caught}, outcomes(b.run(t)))
}
