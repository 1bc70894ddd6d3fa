package activities_test

import (
	"context"
	"errors"
	"fmt"
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
	"github.com/stepwell-flows/stepwell/artifacts/driver"
	"github.com/stepwell-flows/stepwell/artifacts/mem"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

func nothingToJoin(context.Context, *state, flow.Inputs[state]) error { return nil }

func count(n int) func(*state) []int {
	return func(*state) []int { return make([]int, n) }
}

// A foreach that has failed stays failed when the attempt of its batch is lost: no item after the failed one is run.
func TestBatchStopsAtAFailureOfAnEarlierAttempt(t *testing.T) {
	t.Parallel()
	var calls [3]atomic.Int32
	var away atomic.Bool
	f := flow.New("StopFlow",
		flow.Foreach("items", count(len(calls)), func(*state, int) {},
			flow.Step("call", func(ctx context.Context, _ *state) error {
				i := flow.Current(ctx).Index[0]
				calls[i].Add(1)
				if i == 0 {
					return flow.Fail("broken")
				}
				return nil
			}),
		).With(flow.Fan{Batch: len(calls)}).Join("join", nothingToJoin),
	)
	d := &faulty{Driver: mem.New(), fail: func(key string) (bool, bool) {
		return strings.Contains(key, "/batches/") && away.CompareAndSwap(false, true), false
	}}
	run := flowtest.Run(t, f, flowtest.Options{Store: artifacts.New(d, artifacts.Options{})})
	require.True(t, away.Load())
	require.Equal(t, records.StatusFailed, run.Status)
	require.Equal(t, policies.Permanent, run.Failure.Class)
	require.Equal(t, "call[0]", run.Failure.Task)
	require.Equal(t, [3]int32{1, 0, 0}, [3]int32{calls[0].Load(), calls[1].Load(), calls[2].Load()})
}

// batches runs the only batch of f's foreach "items" in workflows of its own, where workers can be stopped.
type batches struct {
	store   *artifacts.Store
	f       *flow.Flow
	in      activities.BatchInput
	options activities.Options
	stop    chan struct{} // a value stops the worker that has a step under way
}

func newBatches(t *testing.T, d driver.Driver, f *flow.Flow) *batches {
	t.Helper()
	require.NoError(t, f.Check())
	b := &batches{store: artifacts.New(d, artifacts.Options{}), f: f, stop: make(chan struct{}, 1)}
	require.NoError(t, records.CreateRun(t.Context(), b.store, records.Run{Flow: f.Name(), Run: "r", Root: "r", Plan: f.Plan(), WorkflowID: "w"}))
	ahead, err := f.Ahead(t.Context(), b.store, "items", &state{})
	require.NoError(t, err)
	list := *ahead["items"].Items
	b.in = activities.BatchInput{Flow: f.Name(), Run: "r", Foreach: "items", List: list, Count: list.Len, Stop: true}
	return b
}

// run returns the items of the batch when it has ended.
func (b *batches) run(t *testing.T) []records.Item {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	env.SetTestTimeout(time.Minute)
	env.SetWorkerStopChannel(b.stop)
	b.options.Now = env.Now
	activities.New(b.store, b.options, b.f).Register(env)
	env.ExecuteWorkflow(func(ctx workflow.Context) (out records.Batch, err error) {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Hour, RetryPolicy: &temporal.RetryPolicy{}})
		err = workflow.ExecuteActivity(ctx, activities.BatchType(b.in.Flow, b.in.Foreach), b.in).Get(ctx, &out)
		return out, err
	})
	require.NoError(t, env.GetWorkflowError())
	var out records.Batch
	require.NoError(t, env.GetWorkflowResult(&out))
	d, err := records.LoadBatch(t.Context(), b.store, b.in.Flow, b.in.Foreach, nil, out)
	require.NoError(t, err)
	require.Equal(t, out.Tally, d.Tally)
	return d.Items
}

func outcomes(items []records.Item) []records.Outcome {
	var all []records.Outcome
	for _, p := range items {
		all = append(all, p.Outcome)
	}
	return all
}

// A worker that stops uses up no attempt of the item that it runs, which starts again elsewhere.
func TestStoppedWorkerCostsItsItemNothing(t *testing.T) {
	t.Parallel()
	var stop chan<- struct{}
	var calls [2]atomic.Int32
	f := flow.New("DrainFlow",
		flow.Foreach("items", count(len(calls)), func(*state, int) {},
			flow.Step("call", func(ctx context.Context, _ *state) error {
				now := flow.Current(ctx)
				n := calls[now.Index[0]].Add(1)
				switch {
				case now.Index[0] == 0 || n > 2:
					return nil
				case n == 1:
					stop <- struct{}{}
					<-ctx.Done()
					return ctx.Err()
				default:
					return errors.New("the code's own failure")
				}
			}, policies.Retry{MaximumAttempts: 2}),
		).With(flow.Fan{Batch: len(calls)}).Join("join", nothingToJoin),
	)
	b := newBatches(t, mem.New(), f)
	b.options.Drain, stop = time.Nanosecond, b.stop
	items := b.run(t)
	require.Equal(t, []records.Outcome{records.Completed, records.Completed}, outcomes(items))
	require.Equal(t, 2, items[1].Attempt)
	require.EqualValues(t, 1, calls[0].Load(), "what was done stays done")
	require.EqualValues(t, 3, calls[1].Load(), "one that was stopped, and two attempts")
}

// An item whose catch was under way when the worker stopped is caught elsewhere.
func TestStoppedWorkerDoesNotFailACatch(t *testing.T) {
	t.Parallel()
	var stop chan<- struct{}
	var calls, caught atomic.Int32
	f := flow.New("DrainFlow",
		flow.Foreach("items", count(1), func(*state, int) {},
			flow.Step("call", func(context.Context, *state) error {
				calls.Add(1)
				return errors.New("broken")
			}, policies.Catch(func(ctx context.Context, _ *state, f *policies.Failure) error {
				if f.Message != "broken" || f.CodeFailures != 1 || f.Attempt != 1 {
					return fmt.Errorf("called for %+v", f)
				}
				if caught.Add(1) == 1 {
					stop <- struct{}{}
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			})),
		).With(flow.Fan{Batch: 2}).Join("join", nothingToJoin),
	)
	b := newBatches(t, mem.New(), f)
	b.options.Drain, stop = time.Nanosecond, b.stop
	require.Equal(t, []records.Outcome{records.Caught}, outcomes(b.run(t)))
	require.EqualValues(t, 2, caught.Load())
	require.EqualValues(t, 2, calls.Load(), "the item starts again")
}

// A step that returns a failure which speaks of a lost worker has failed by itself.
func TestReturnedLossInABatchCounts(t *testing.T) {
	t.Parallel()
	lost := &policies.Failure{Class: policies.Lost, Message: "of another task"}
	var calls atomic.Int32
	f := flow.New("ReturnsFlow",
		flow.Foreach("items", count(1), func(*state, int) {},
			flow.Step("call", func(context.Context, *state) error {
				calls.Add(1)
				return lost
			}, policies.Retry{MaximumAttempts: 2}),
		).With(flow.Fan{Batch: 2}).Join("join", nothingToJoin),
	)
	run := flowtest.Run(t, f, flowtest.Options{})
	require.Equal(t, records.StatusFailed, run.Status)
	require.Equal(t, policies.Unknown, run.Failure.Class)
	require.Equal(t, 2, run.Failure.CodeFailures)
	require.Zero(t, run.Failure.LostAttempts)
	require.EqualValues(t, 2, calls.Load())
}
