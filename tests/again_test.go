package tests

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

type again struct {
	N       int `param:"n" default:"1"`
	Item    int
	Attempt int
	Sum     int
}

func tries(t *testing.T, r *runs.Run, task string) []runs.Attempt {
	t.Helper()
	found, err := r.Task(t.Context(), task)
	require.NoError(t, err)
	attempts, err := found.Attempts(t.Context())
	require.NoError(t, err)
	return attempts
}

// What a step calls is away for a while. The step waits without a worker, comes back as often as it was told to, and then has all
// its attempts. Next to it, the items of a foreach are held back behind one that asks.
func TestDeferredTasksWaitInTheWorkflow(t *testing.T) {
	t.Parallel()
	var calls, items atomic.Int32
	f := flow.New("AwayFlow",
		flow.Branch("both",
			flow.Step("call", func(ctx context.Context, s *again) error {
				if n := calls.Add(1); n <= 3 {
					return policies.WithDeferral(errors.New("away"), policies.Deferral{For: time.Second, Reason: "it is away"})
				}
				if calls.Load() == 4 {
					return errors.New("one failure")
				}
				s.Attempt = flow.Current(ctx).Attempt
				return nil
			}, policies.Retry{MaximumAttempts: 2, InitialInterval: 10 * time.Millisecond}),
			flow.Foreach("items", func(s *again) []int { return make([]int, s.N) }, func(s *again, _ int) {},
				flow.Step("item", func(context.Context, *again) error {
					if items.Add(1) <= 3 {
						return policies.WithDeferral(errors.New("away"), policies.Deferral{For: 500 * time.Millisecond})
					}
					return nil
				})).With(flow.Fan{MaxParallel: 1}).Join("counted", func(_ context.Context, s *again, in flow.Inputs[again]) error {
				s.Sum = in.Len()
				return nil
			}),
		).Join("end", func(_ context.Context, s *again, in flow.Inputs[again]) error {
			return in.Merge(s, flow.Exclude("Item"))
		}))
	r := newRig(t, t.TempDir(), f)
	run := r.run(f, map[string]string{"n": "20"})
	require.Equal(t, records.StatusCompleted, run.Status, "%v", run.Failure)
	last, err := run.Last(t.Context())
	require.NoError(t, err)
	s, err := runs.LoadState[again](t.Context(), last, f)
	require.NoError(t, err)
	require.Equal(t, 5, s.Attempt)
	require.Equal(t, 20, s.Sum)
	require.Equal(t, int32(23), items.Load(), "one at a time was sent to ask")
	attempts := tries(t, run, "call")
	require.Len(t, attempts, 5)
	for n := range 3 {
		require.Equal(t, records.Deferred, attempts[n].Outcome)
		require.GreaterOrEqual(t, attempts[n+1].Waited, time.Second, "never earlier than it was told")
	}
	replay(t, "deferred", r.history(run))
}

// A step with a bug pauses. A worker with mended code is deployed, a person lets the step be tried again, and the run ends
// well. Another task is skipped, a third one fails.
func TestPausedRunGoesOnWithMendedCode(t *testing.T) {
	t.Parallel()
	for name, n := range map[string]int{"in the workflow": 4, "in a shard": 210} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			flowOf := func(broken bool) *flow.Flow {
				return flow.New("BuggyFlow",
					flow.Foreach("items", func(s *again) []int { return make([]int, s.N) }, func(s *again, i int) {},
						flow.Step("item", func(ctx context.Context, s *again) error {
							s.Item = flow.Current(ctx).Index[0]
							if broken && s.Item == 1 || s.Item == 2 {
								panic("a bug")
							}
							return nil
						}, policies.Retry{MaximumAttempts: 2, InitialInterval: 10 * time.Millisecond, Exhausted: policies.Pause})).
						Join("sum", func(_ context.Context, s *again, in flow.Inputs[again]) error {
							for _, one := range in.All() {
								s.Sum += one.Item
							}
							return nil
						}),
					flow.Step("last", func(context.Context, *again) error { return flow.Fail("no") }, policies.Retry{Exhausted: policies.Pause}))
			}
			r := newRig(t, t.TempDir(), flowOf(true))
			run, err := r.client.Start(t.Context(), flowOf(true), stepwell.StartOptions{Params: map[string]string{"n": fmt.Sprint(n)}})
			require.NoError(t, err)
			paused := func(task string) {
				t.Helper()
				eventually(t, task+" is paused", func() bool {
					require.NoError(t, run.Refresh(t.Context()))
					found, err := run.Task(t.Context(), task)
					return err == nil && found.State == runs.Paused
				})
			}
			paused("item[1]")
			paused("item[2]")
			decide := func(task string, v stepwell.Verdict) error {
				_, err := r.client.Decide(t.Context(), run.Flow, run.Run.Run, task, v)
				return err
			}
			require.ErrorIs(t, decide("item[0]", stepwell.Retry), stepwell.ErrInput)
			require.ErrorContains(t, decide("nothing", stepwell.Skip), `has no step "nothing"`)

			r.restart(flowOf(false))
			require.NoError(t, decide("item[1]", stepwell.Retry))
			require.NoError(t, decide("item[2]", stepwell.Skip))
			paused("last")
			require.Len(t, tries(t, run, "item[1]"), 3)
			require.NoError(t, decide("last", stepwell.Fail))
			run = r.wait(run)
			require.Equal(t, records.StatusFailed, run.Status)
			require.Equal(t, "last", run.Failure.Task)
			task, err := run.Task(t.Context(), "sum")
			require.NoError(t, err)
			s, err := runs.LoadState[again](t.Context(), task, flowOf(false))
			require.NoError(t, err)
			require.Equal(t, n*(n-1)/2-2, s.Sum, "the skipped item has the state of the split")
			require.ErrorContains(t, decide("last", stepwell.Fail), "is failed already")
			if n < 200 {
				replay(t, "paused", r.history(run))
			}
		})
	}
}

// Who has too little climbs, and the next run begins on the rung where this one finished.
func TestLadderIsRemembered(t *testing.T) {
	t.Parallel()
	f := flow.New("LadderFlow", flow.Step("fit", func(ctx context.Context, s *again) error {
		s.Attempt = flow.Current(ctx).Attempt
		deadline, ok := ctx.Deadline()
		if ok && time.Until(deadline) < time.Second {
			<-ctx.Done() // until the attempt's time is over
			return ctx.Err()
		}
		return nil
	}, policies.Escalate{Rungs: []policies.Rung{{Timeout: 50 * time.Millisecond}, {Timeout: 100 * time.Millisecond}, {Timeout: time.Minute}}}))
	r := newRig(t, t.TempDir(), f)
	run := r.run(f, nil)
	require.Equal(t, records.StatusCompleted, run.Status, "%v", run.Failure)
	attempts := tries(t, run, "fit")
	require.Len(t, attempts, 3)
	require.Equal(t, policies.TimedOut, attempts[1].Failure.Class)
	require.Contains(t, attempts[1].Reason, "goes on with rung 3 of 3: 1m each")
	replay(t, "ladder", r.history(run))
	run = r.run(f, nil)
	require.Equal(t, records.StatusCompleted, run.Status, "%v", run.Failure)
	require.Len(t, tries(t, run, "fit"), 1)
}
