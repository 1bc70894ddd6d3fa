package flowtest_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
	"github.com/stepwell-flows/stepwell/workflows"
)

type waits struct {
	N     int `param:"n" default:"1"`
	Text  string
	Tries []int
	Seen  []string
}

var errAway = errors.New("away")

func ended(t *testing.T, r *runs.Run, f *flow.Flow) waits {
	t.Helper()
	require.Equal(t, records.StatusCompleted, r.Status, "%v", r.Failure)
	last, err := r.Last(t.Context())
	require.NoError(t, err)
	s, err := runs.LoadState[waits](t.Context(), last, f)
	require.NoError(t, err)
	return *s
}

func TestDeferredTaskUsesNoAttempt(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	f := flow.New("WaitsFlow", flow.Step("call", func(ctx context.Context, s *waits) error {
		i := flow.Current(ctx)
		s.Tries = append(s.Tries, i.Attempt)
		switch n := calls.Add(1); {
		case n <= 3:
			return fmt.Errorf("call: %w", policies.WithDeferral(errAway, policies.Deferral{For: time.Duration(n) * 10 * time.Minute, Reason: "it is away"}))
		case n == 4:
			require.ErrorContains(t, i.Previous, "away")
			return errors.New("a failure")
		}
		return nil
	}, policies.Retry{MaximumAttempts: 2, InitialInterval: time.Second, Jitter: policies.NoJitter}))
	r := flowtest.Run(t, f, flowtest.Options{})
	require.Equal(t, []int{5}, ended(t, r, f).Tries, "what a deferred attempt set is gone")
	attempts := attemptsOf(t, r, "call")
	require.Len(t, attempts, 5)
	for n, a := range attempts[:3] {
		require.Equal(t, records.Deferred, a.Outcome)
		require.False(t, a.CountsAsCodeFailure)
		require.Equal(t, "it is away", a.Reason)
		require.InDelta(t, (time.Duration(n+1) * 10 * time.Minute).Seconds(), attempts[n+1].Waited.Seconds(), 2)
	}
	require.Equal(t, 1, attempts[3].Failure.CodeFailures)
	require.Zero(t, attempts[3].Failure.LostAttempts)
}

func TestLongRetryAfterIsADeferral(t *testing.T) { //nolint:tparallel // the subtests share a counter
	t.Parallel()
	var calls atomic.Int32
	step := func(context.Context, *waits) error {
		if calls.Add(1) <= 4 {
			return policies.WithRetryAfter(errAway, 5*time.Minute)
		}
		return nil
	}
	r := flowtest.Run(t, flow.New("WaitsFlow", flow.Step("call", step, policies.Retry{MaximumAttempts: 2})), flowtest.Options{})
	require.Equal(t, records.StatusCompleted, r.Status)
	attempts := attemptsOf(t, r, "call")
	require.Len(t, attempts, 5)
	for _, a := range attempts[1:] {
		require.GreaterOrEqual(t, a.Waited, 5*time.Minute)
	}

	t.Run("not of a step that is tried once", func(t *testing.T) {
		calls.Store(0)
		r := flowtest.Run(t, flow.New("WaitsFlow", flow.Step("call", step)), flowtest.Options{})
		require.Equal(t, records.StatusFailed, r.Status)
		require.Equal(t, policies.RateLimited, r.Failure.Class)
	})
	t.Run("not of a class that is listed", func(t *testing.T) {
		calls.Store(0)
		r := flowtest.Run(t, flow.New("WaitsFlow", flow.Step("call", step, policies.Retry{MaximumAttempts: 5, NonRetryable: []string{"RateLimited"}})), flowtest.Options{})
		require.Equal(t, records.StatusFailed, r.Status)
		require.Equal(t, int32(1), calls.Load())
	})
	t.Run("no longer than Total", func(t *testing.T) {
		calls.Store(-100)
		r := flowtest.Run(t, flow.New("WaitsFlow", flow.Step("call", step, policies.Retry{MaximumAttempts: 2}, policies.Timeout{Total: 17 * time.Minute})), flowtest.Options{})
		require.Equal(t, records.StatusFailed, r.Status)
		require.Equal(t, policies.TimedOut, r.Failure.Class)
		require.Contains(t, r.Failure.Message, "Timeout.Total of 17m0s leaves no time to wait")
		require.Equal(t, int32(-96), calls.Load(), "at 0, 5, 10 and 15 minutes")
	})
}

func TestGateHoldsAForeachBack(t *testing.T) {
	t.Parallel()
	for name, limits := range map[string]*workflows.Limits{"direct": {Window: 10}, "shards": {Tasks: 1, Shard: 50, Window: 10, Shards: 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const items, away = 100, 15
			var calls atomic.Int32
			f := flow.New("WaitsFlow",
				flow.Foreach("all", func(s *waits) []int { return make([]int, s.N) }, func(*waits, int) {},
					flow.Step("call", func(ctx context.Context, s *waits) error {
						if calls.Add(1) <= away {
							return policies.WithDeferral(errAway, policies.Deferral{For: time.Minute})
						}
						return nil
					})).Join("join", func(_ context.Context, s *waits, in flow.Inputs[waits]) error {
					s.Tries = []int{in.Len()}
					return nil
				}))
			r := flowtest.Run(t, f, flowtest.Options{Params: map[string]string{"n": "100"}, Limits: limits})
			require.Equal(t, []int{items}, ended(t, r, f).Tries)
			// Ten were under way when it went away; then one at a time asked, once a minute.
			require.Equal(t, int32(items+away), calls.Load())
			took := r.Duration()
			require.GreaterOrEqual(t, took, (away-10)*time.Minute, "the probes went one after the other")
			require.Less(t, took, (away+5)*time.Minute)
		})
	}
}

func TestBatchWaitsAsAWhole(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	f := flow.New("WaitsFlow",
		flow.Foreach("all", func(s *waits) []int { return make([]int, s.N) }, func(*waits, int) {},
			flow.Step("call", func(context.Context, *waits) error {
				if n := calls.Add(1); n > 5 && n <= 10 {
					return policies.WithDeferral(errAway, policies.Deferral{For: time.Minute})
				}
				return nil
			})).With(flow.Fan{Batch: 20}).Join("join", func(_ context.Context, s *waits, in flow.Inputs[waits]) error {
			s.Tries = []int{in.Len()}
			return nil
		}))
	r := flowtest.Run(t, f, flowtest.Options{Params: map[string]string{"n": "20"}})
	require.Equal(t, []int{20}, ended(t, r, f).Tries)
	require.Equal(t, int32(25), calls.Load(), "one item asked each time, and what was done stayed done")
	require.GreaterOrEqual(t, r.Duration(), 5*time.Minute)
}

func TestLadder(t *testing.T) {
	t.Parallel()
	f := flow.New("WaitsFlow", flow.Step("fit", func(ctx context.Context, s *waits) error {
		s.Tries = append(s.Tries, flow.Current(ctx).Attempt)
		if flow.Current(ctx).Attempt < 3 {
			return policies.WithClass(errors.New("too much"), policies.OutOfMemory)
		}
		return nil
	}, policies.Escalate{Rungs: []policies.Rung{{Memory: 1 << 30}, {Memory: 2 << 30}, {Memory: 4 << 30, Timeout: time.Hour}}}))
	r := flowtest.Run(t, f, flowtest.Options{})
	require.Equal(t, []int{3}, ended(t, r, f).Tries)
	attempts := attemptsOf(t, r, "fit")
	require.Equal(t, "class OutOfMemory: goes on with rung 2 of 3: memory 2 GiB", attempts[0].Reason)
	require.Equal(t, "class OutOfMemory: goes on with rung 3 of 3: memory 4 GiB, 1h each", attempts[1].Reason)
	rungs, err := records.Rungs(t.Context(), r.Store(), r.Plan)
	require.NoError(t, err)
	require.Equal(t, map[string]int{"fit": 2}, rungs, "for the next run")
}

// say sends an update at a time of the test environment's clock.
func say(env *testsuite.TestWorkflowEnvironment, at time.Duration, update, task string, answer func(any, error)) {
	env.RegisterDelayedCallback(func() {
		env.UpdateWorkflow(update, task+at.String(), &testsuite.TestUpdateCallback{
			OnAccept: func() {}, OnReject: func(err error) { answer(nil, err) }, OnComplete: answer,
		}, task)
	}, at)
}

func TestPausedTask(t *testing.T) { //nolint:tparallel // the subtests share the step
	t.Parallel()
	var mended atomic.Bool
	catches := 0
	f := flow.New("WaitsFlow",
		flow.Step("start", func(_ context.Context, s *waits) error { s.Seen = []string{"start"}; return nil }),
		flow.Step("fit", func(_ context.Context, s *waits) error {
			s.Seen = append(s.Seen, "fit")
			if !mended.Load() {
				return errors.New("a bug")
			}
			return nil
		}, policies.Retry{MaximumAttempts: 2, Exhausted: policies.Pause, InitialInterval: time.Second},
			policies.Catch(func(_ context.Context, s *waits, _ *policies.Failure) error {
				catches++
				s.Seen = append(s.Seen, "caught")
				return nil
			})),
		flow.Step("end", func(_ context.Context, s *waits) error { s.Seen = append(s.Seen, "end"); return nil }))

	t.Run("retry", func(t *testing.T) {
		mended.Store(false)
		var said []string
		r := flowtest.Run(t, f, flowtest.Options{Prepare: func(env *testsuite.TestWorkflowEnvironment) {
			note := func(v any, err error) { said = append(said, fmt.Sprint(v, " ", err)) }
			say(env, time.Hour, workflows.RetryUpdate, "nothing", note)
			say(env, 2*time.Hour, workflows.RetryUpdate, "fit", note) // it fails twice more
			env.RegisterDelayedCallback(func() { mended.Store(true) }, 3*time.Hour)
			say(env, 4*time.Hour, workflows.RetryUpdate, "fit", note)
		}})
		require.Equal(t, []string{"start", "fit", "end"}, ended(t, r, f).Seen)
		require.Len(t, said, 3)
		require.Contains(t, said[0], `task "nothing" does not wait for a person (these do: fit)`)
		require.Contains(t, said[2], "task fit is tried again")
		attempts := attemptsOf(t, r, "fit")
		require.Len(t, attempts, 5)
		for _, n := range []int{1, 3} {
			require.True(t, attempts[n].Paused)
			require.Equal(t, "attempts spent (2 of 2); waits for a person (retry, skip or fail)", attempts[n].Reason)
		}
		require.GreaterOrEqual(t, attempts[4].Waited, 90*time.Minute)
	})
	t.Run("skip", func(t *testing.T) {
		mended.Store(false)
		r := flowtest.Run(t, f, flowtest.Options{Prepare: func(env *testsuite.TestWorkflowEnvironment) {
			say(env, time.Hour, workflows.SkipUpdate, "fit", func(any, error) {})
		}})
		require.Equal(t, []string{"start", "end"}, ended(t, r, f).Seen)
		task, err := r.Task(t.Context(), "fit")
		require.NoError(t, err)
		require.Equal(t, records.Skipped, task.Record.Outcome)
		require.Equal(t, "a bug", task.Record.Failure.Message)
	})
	t.Run("fail", func(t *testing.T) {
		mended.Store(false)
		r := flowtest.Run(t, f, flowtest.Options{Prepare: func(env *testsuite.TestWorkflowEnvironment) {
			say(env, time.Hour, workflows.FailUpdate, "fit", func(any, error) {})
		}})
		require.Equal(t, []string{"start", "caught", "end"}, ended(t, r, f).Seen)
		require.Equal(t, 1, catches)
	})
}

// An item that a person let pass is an input of the join, also in the resume of a run whose join failed.
func TestResumeAfterSkippedItem(t *testing.T) {
	t.Parallel()
	var mended atomic.Bool
	f := flow.New("WaitsFlow",
		flow.Foreach("items", func(*waits) []int { return []int{0, 1, 2} }, func(s *waits, i int) { s.Seen = []string{fmt.Sprint("item ", i)} },
			flow.Step("fit", func(ctx context.Context, s *waits) error {
				if flow.Current(ctx).Index[0] == 1 {
					return errors.New("a bug")
				}
				s.Seen = append(s.Seen, "fit")
				return nil
			}, policies.Retry{MaximumAttempts: 1, Exhausted: policies.Pause}),
		).Join("join", func(_ context.Context, s *waits, in flow.Inputs[waits]) error {
			for _, one := range in.All() {
				s.Seen = append(s.Seen, one.Seen...)
			}
			if !mended.Load() {
				return flow.Fail("not yet")
			}
			return nil
		}))
	origin := flowtest.Run(t, f, flowtest.Options{Prepare: func(env *testsuite.TestWorkflowEnvironment) {
		say(env, time.Hour, workflows.SkipUpdate, "fit[1]", func(any, error) {})
	}})
	require.Equal(t, records.StatusFailed, origin.Status)
	require.Equal(t, "join", origin.Failure.Task)
	mended.Store(true)
	for range 2 { // a resume of a resume, too
		origin = flowtest.Resume(t, f, origin, flowtest.Options{Step: "join"})
		require.Equal(t, []string{"item 0", "fit", "item 1", "item 2", "fit"}, ended(t, origin, f).Seen)
	}
}
