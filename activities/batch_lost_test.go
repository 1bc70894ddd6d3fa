package activities_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
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
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Hour, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: math.MaxInt32}})
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
					return fmt.Errorf("called for %w of attempt %d, %d failures", f, f.Attempt, f.CodeFailures)
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

// However often the items of a batch were tried again, a store that is away for a moment does not fail it.
func TestStoreAwayAfterManyAttemptsOfABatch(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	var away atomic.Bool
	f := flow.New("WavesFlow",
		flow.Foreach("items", count(2), func(*state, int) {},
			flow.Step("call", func(ctx context.Context, _ *state) error {
				if flow.Current(ctx).Index[0] == 0 && calls.Add(1) < 30 {
					return errors.New("busy")
				}
				return nil
			}, policies.Retry{MaximumAttempts: 40, InitialInterval: time.Second, BackoffCoefficient: 1, Jitter: policies.NoJitter}),
		).With(flow.Fan{Batch: 2}).Join("join", nothingToJoin),
	)
	d := &faulty{Driver: mem.New(), fail: func(key string) (bool, bool) {
		return strings.Contains(key, "/parts/") && calls.Load() == 25 && away.CompareAndSwap(false, true), false
	}}
	run := flowtest.Run(t, f, flowtest.Options{Store: artifacts.New(d, artifacts.Options{})})
	require.True(t, away.Load())
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	require.EqualValues(t, 30, calls.Load())
}

// absent is a store in memory whose documents of batches are away when away says so.
type absent struct {
	*mem.Driver
	away func(key string) bool
}

func (d absent) Get(ctx context.Context, key string, offset int64) (io.ReadCloser, error) {
	if d.away(key) {
		return nil, fmt.Errorf("get %q: %w", key, driver.ErrUnavailable)
	}
	return d.Driver.Get(ctx, key, offset)
}

func (d absent) Put(ctx context.Context, key string, body driver.Body, o driver.PutOptions) error {
	if d.away(key) {
		return fmt.Errorf("put %q: %w", key, driver.ErrUnavailable)
	}
	return d.Driver.Put(ctx, key, body, o)
}

// A batch outlives a store that is away for hundreds of its attempts, and goes on where it was.
func TestStoreAwayForManyAttemptsOfABatch(t *testing.T) {
	t.Parallel()
	var calls [3]atomic.Int64
	var asked, phase atomic.Int64 // 0 good, 1 away, 2 good again
	f := flow.New("AwayFlow",
		flow.Foreach("items", count(len(calls)), func(*state, int) {},
			flow.Step("call", func(ctx context.Context, _ *state) error {
				i := flow.Current(ctx).Index[0]
				if n := calls[i].Add(1); i == 1 && n == 1 {
					return errors.New("busy")
				}
				return nil
			}, policies.Retry{MaximumAttempts: 2, InitialInterval: time.Second, Jitter: policies.NoJitter}),
		).With(flow.Fan{Batch: len(calls)}).Join("join", nothingToJoin),
	)
	b := newBatches(t, absent{mem.New(), func(key string) bool {
		if !strings.Contains(key, "/batches/") && !strings.Contains(key, "/parts/") {
			return false
		}
		if phase.Load() == 1 && asked.Add(1) > 700 {
			phase.Store(2)
		}
		return phase.Load() == 1
	}}, f)
	b.options.At = func(_ context.Context, m activities.Moment) {
		if m.Point == activities.PointNoted { // the first attempt has written down what it did
			phase.CompareAndSwap(0, 1)
		}
	}
	require.Equal(t, []records.Outcome{records.Completed, records.Completed, records.Completed}, outcomes(b.run(t)))
	require.EqualValues(t, 2, phase.Load())
	require.Equal(t, [3]int64{1, 2, 1}, [3]int64{calls[0].Load(), calls[1].Load(), calls[2].Load()})
}

// fullDisk is a flow whose batch of two items has no room in the store for their content, though all else has, and how often they were called.
func fullDisk() (*flow.Flow, *faulty, *atomic.Int64) {
	calls := new(atomic.Int64)
	f := flow.New("FullFlow",
		flow.Foreach("items", count(2), func(*state, int) {},
			flow.Step("call", func(_ context.Context, s *state) error {
				calls.Add(1)
				s.Text = strings.Repeat("too large for the disk ", 1000)
				return nil
			}),
		).With(flow.Fan{Batch: 2}).Join("join", nothingToJoin),
	)
	return f, &faulty{Driver: mem.New(), fail: func(key string) (bool, bool) {
		return strings.HasPrefix(key, "blobs/") && calls.Load() > 0, false
	}}, calls
}

// A batch whose items cannot be stored, while all else can, is not tried for ever.
func TestBatchThatGetsNothingDoneEnds(t *testing.T) {
	t.Parallel()
	f, d, calls := fullDisk()
	run := flowtest.Run(t, f, flowtest.Options{Store: artifacts.New(d, artifacts.Options{})})
	require.Equal(t, records.StatusFailed, run.Status)
	require.Equal(t, policies.Lost, run.Failure.Class)
	require.EqualValues(t, 21, calls.Load())
}

// A batch may come to workers that do not have it more often than it may be lost.
func TestUnknownBatchGoesBackAsOftenAsItComes(t *testing.T) {
	t.Parallel()
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	env.SetTestTimeout(time.Minute)
	env.RegisterDynamicActivity(activities.New(artifacts.New(mem.New(), artifacts.Options{}), activities.Options{}).Unknown, activity.DynamicRegisterOptions{})
	env.ExecuteWorkflow(func(ctx workflow.Context) error {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Hour, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 30}})
		in := activities.BatchInput{Flow: "Other", Run: "r", Foreach: "items", Count: 10}
		return workflow.ExecuteActivity(ctx, activities.BatchType("Other", "items"), in).Get(ctx, nil)
	})
	require.Equal(t, 30, policies.FailureOf(env.GetWorkflowError()).Attempt)
}

// A workflow that was reset tries the failed items of its batches again, and what it sealed then stands.
func TestBatchAfterAReset(t *testing.T) {
	t.Parallel()
	var calls [3]atomic.Int64
	var answers atomic.Int64
	f := flow.New("ResetFlow",
		flow.Foreach("items", count(len(calls)), func(*state, int) {},
			flow.Step("call", func(ctx context.Context, _ *state) error {
				i := flow.Current(ctx).Index[0]
				if n := calls[i].Add(1); i == 2 || i == 1 && n == 1 {
					return flow.Fail("broken")
				}
				return nil
			}),
		).With(flow.Fan{Batch: len(calls), Tolerate: flow.Percent(100)}).Join("join", nothingToJoin),
	)
	d := &faulty{Driver: mem.New()}
	b := newBatches(t, d, f)
	b.in.Stop = false
	require.Equal(t, []records.Outcome{records.Completed, records.Failed, records.Failed}, outcomes(b.run(t)))

	_, old, err := records.FindBatch(t.Context(), b.store, f.Name(), "r", "items", nil, 0)
	require.NoError(t, err)
	old.Execution = "before the reset" // the test environment calls all of them the same
	require.NoError(t, b.store.DeleteDoc(t.Context(), records.BatchKey(f.Name(), "r", "items", nil, 0)))
	_, _, err = records.CreateBatch(t.Context(), b.store, old)
	require.NoError(t, err)

	b.in.Look = true
	d.mu.Lock()
	d.fail = func(key string) (bool, bool) { // nobody hears that the new record was written, so there is another attempt
		return strings.HasSuffix(key, "/batches/items/_/00000000.jsonl") && answers.Add(1) == 1, true
	}
	d.mu.Unlock()
	require.Equal(t, []records.Outcome{records.Completed, records.Completed, records.Failed}, outcomes(b.run(t)))
	require.EqualValues(t, 1, answers.Load(), "the second attempt adopts what the first sealed")
	require.Equal(t, [3]int64{1, 2, 2}, [3]int64{calls[0].Load(), calls[1].Load(), calls[2].Load()})
}

// What a batch got done that was under way when its workflow was reset is taken over. The attempts after the reset have the same numbers,
// and write over those from before.
func TestPartsFromBeforeAReset(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		before int // the attempt
		fails  int // how often the last item fails after the reset
		away   int // how often the first attempt is told that what it wants of its batch is out of reach
	}{
		"by the first attempt":          {before: 1},
		"by a later one":                {before: 3},
		"written over":                  {before: 1, fails: 1},
		"the first attempt had nothing": {before: 1, away: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var calls [3]atomic.Int64
			var asked atomic.Int64
			f := flow.New("ResetFlow",
				flow.Foreach("items", count(len(calls)), func(*state, int) {},
					flow.Step("call", func(ctx context.Context, _ *state) error {
						i := flow.Current(ctx).Index[0]
						if n := calls[i].Add(1); i == 2 && n <= int64(test.fails) {
							return errors.New("not yet")
						}
						return nil
					}, policies.Retry{MaximumAttempts: 3}),
				).With(flow.Fan{Batch: len(calls)}).Join("join", nothingToJoin),
			)
			d := absent{mem.New(), func(string) bool { return false }}
			b := newBatches(t, d, f)
			part := records.Shard{Flow: f.Name(), Run: "r", Foreach: "items", Count: len(calls), Final: true, Execution: "before the reset", Items: []records.Item{
				{Index: 0, Outcome: records.Completed},
				{Index: 1, Outcome: records.Failed, Failure: &policies.Failure{Class: policies.Permanent}},
			}}
			require.NoError(t, records.PutBatchPart(t.Context(), b.store, part, records.Part{Attempt: test.before}))
			d.away = func(key string) bool {
				return (strings.Contains(key, "/batches/") || strings.Contains(key, "/parts/")) && asked.Add(1) <= int64(test.away)
			}
			b.store = artifacts.New(d, artifacts.Options{})
			b.in.Look = true
			require.Equal(t, []records.Outcome{records.Completed, records.Completed, records.Completed}, outcomes(b.run(t)))
			require.Equal(t, [3]int64{0, 1, 1 + int64(test.fails)}, [3]int64{calls[0].Load(), calls[1].Load(), calls[2].Load()})
		})
	}
}
