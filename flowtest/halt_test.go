package flowtest_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/workflows"
)

// draining makes the run's workflow continue as new after each task, or each shard. In Temporal's test environment a shard is told
// the same as the run, and would continue as new without end: it must be over by then.
func draining(name string) func(*testsuite.TestWorkflowEnvironment) {
	return func(env *testsuite.TestWorkflowEnvironment) {
		if name == "direct" {
			env.SetOnActivityCompletedListener(func(*activityInfo, converterValue, error) { env.SetContinueAsNewSuggested(true) })
			return
		}
		env.SetOnChildWorkflowCompletedListener(func(*workflow.Info, converterValue, error) { env.SetContinueAsNewSuggested(true) })
	}
}

// FinishAll runs all items although more failed than are tolerated when the workflow continues as new.
func TestFinishAllContinuesAsNew(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"direct", "shards", "batches"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var c calls
			way := ways[name]
			fan := way.fan
			fan.OnFailure, fan.MaxParallel = flow.FinishAll, 1
			f := textsFlow(&c, fan, func(_ context.Context, s *texts) error {
				if s.Item%4 == 1 {
					return flow.Fail("odd")
				}
				return nil
			}, fine)
			way.limits.Shards, way.limits.Shard = 1, max(1, way.limits.Shard)
			run := flowtest.Run(t, f, flowtest.Options{Limits: &way.limits, Prepare: draining(name)})
			require.Equal(t, records.StatusFailed, run.Status)
			require.Equal(t, "write[1]", run.Failure.Task, "the first failure, although it is from an earlier workflow")
			require.Equal(t, 2, run.Failure.Others)
			require.Len(t, c.take(), 10)
		})
	}
}

// An item that failed in a resumed run does not run again because the workflow continued as new.
func TestResumedShardsContinueAsNew(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"direct", "shards", "batches"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var c calls
			way := ways[name]
			fan := way.fan
			fan.OnFailure, fan.MaxParallel = flow.FinishAll, 1
			f := textsFlow(&c, fan, func(_ context.Context, s *texts) error {
				if s.Item%4 == 1 {
					return flow.Fail("odd")
				}
				return nil
			}, fine)
			way.limits.Shards, way.limits.Shard = 1, max(1, way.limits.Shard)
			origin := flowtest.Run(t, f, flowtest.Options{Limits: &way.limits})
			require.Equal(t, records.StatusFailed, origin.Status)
			c.take()
			resumed := flowtest.Resume(t, f, origin, flowtest.Options{Limits: &way.limits, Prepare: draining(name)})
			require.Equal(t, records.StatusFailed, resumed.Status)
			require.Equal(t, map[string]int{"write[1]": 1, "write[5]": 1, "write[9]": 1}, c.take())
		})
	}
}

type pair struct{ Text string }

// What waits for its turn when a task fails does not start after it.
func TestNothingStartsAfterAFailure(t *testing.T) {
	t.Parallel()
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var c calls
			five := func(*pair) []int { return make([]int, 5) }
			bind := func(*pair, int) {}
			join := func(context.Context, *pair, flow.Inputs[pair]) error { return nil }
			fail := func(ctx context.Context, _ *pair) error {
				c.add(ctx)
				return flow.Fail("at once")
			}
			f := flow.New("Halt", flow.Branch("both",
				flow.Foreach("as", five, bind, flow.Step("a", fail)).With(way.fan).Join("join_a", join),
				flow.Foreach("bs", five, bind, flow.Step("b", fail)).With(way.fan).Join("join_b", join),
			).Join("join", join))
			run := flowtest.Run(t, f, flowtest.Options{Limits: &way.limits, MaxParallel: 1})
			require.Equal(t, records.StatusFailed, run.Status)
			require.Len(t, c.take(), 1)
			require.Zero(t, run.Failure.Others)
		})
	}
}

// A shard that somebody ended is what the run fails with, and not that others stopped because of it.
func TestShardThatSomebodyEnded(t *testing.T) {
	t.Parallel()
	var c calls
	f := textsFlow(&c, flow.Fan{}, func(context.Context, *texts) error { return nil }, fine)
	run := flowtest.Run(t, f, flowtest.Options{Limits: &workflows.Limits{Tasks: 1, Shard: 1, Shards: 2}, Prepare: func(env *testsuite.TestWorkflowEnvironment) {
		env.OnWorkflow(workflows.ShardType(f.Name()), mock.Anything, mock.Anything).Return(
			func(ctx workflow.Context, in workflows.ShardInput) (workflows.ShardOutput, error) {
				if in.First == 0 {
					return workflows.ShardOutput{}, temporal.NewApplicationError("it was terminated", "Gone")
				}
				return workflows.ShardOutput{Tally: records.Tally{Completed: 1}}, workflow.Sleep(ctx, time.Minute)
			})
	}})
	require.Equal(t, records.StatusFailed, run.Status)
	require.Equal(t, "it was terminated", run.Failure.Message)
	require.Equal(t, "items", run.Failure.Step)
}

// Shapes within shapes do not start more activities at the same time than a workflow may have.
func TestActivitiesOfAWorkflow(t *testing.T) {
	t.Parallel()
	var now, most atomic.Int64
	six := func(*pair) []int { return make([]int, 6) }
	bind := func(*pair, int) {}
	join := func(context.Context, *pair, flow.Inputs[pair]) error { return nil }
	f := flow.New("Wide", flow.Foreach("xs", six, bind,
		flow.Foreach("ys", six, bind, flow.Step("leaf", func(context.Context, *pair) error {
			n := now.Add(1)
			defer now.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			time.Sleep(5 * time.Millisecond)
			return nil
		})).Join("join_y", join),
	).Join("join_x", join))
	run := flowtest.Run(t, f, flowtest.Options{Limits: &workflows.Limits{Activities: 4}})
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	require.LessOrEqual(t, most.Load(), int64(4))
}

// Failures of many items, each with a page of HTML for a message, fit into one input.
func TestManyLongFailures(t *testing.T) {
	t.Parallel()
	for name, batch := range map[string]int{"items": 1, "batches": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var c calls
			f := textsFlow(&c, flow.Fan{OnFailure: flow.FinishAll, Batch: batch}, func(context.Context, *texts) error {
				return flow.Fail("%s", strings.Repeat("<p>", 600))
			}, fine)
			run := flowtest.Run(t, f, flowtest.Options{Params: map[string]string{"n": "80"}, Limits: &workflows.Limits{Tasks: 1, Shard: 100}})
			require.Equal(t, records.StatusFailed, run.Status)
			require.Equal(t, 79, run.Failure.Others)
			require.Len(t, run.Failure.Message, 1800)
			d, err := records.LoadShard(t.Context(), run.Store(), f.Name(), run.Run.Run, "items", nil, 0, true)
			require.NoError(t, err)
			require.Equal(t, 80, d.Failed)
			var failures []*policies.Failure
			for _, p := range d.Items {
				failures = append(failures, p.Failure)
			}
			for _, b := range d.Batches {
				failures = append(failures, b.Failure)
			}
			require.Len(t, failures, 80/batch)
			long := 0
			for _, f := range failures {
				require.NotEmpty(t, f.Message)
				if len(f.Message) > 300 {
					long++
				}
			}
			require.Equal(t, 20, long)
		})
	}
}
