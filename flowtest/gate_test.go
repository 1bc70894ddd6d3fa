package flowtest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
	"github.com/stepwell-flows/stepwell/workflows"
)

// callFlow has a foreach over s.N items with one step.
func callFlow(call func(context.Context, *waits) error, options ...flow.Option) *flow.Flow {
	return flow.New("WaitsFlow",
		flow.Foreach("all", func(s *waits) []int { return make([]int, s.N) }, func(*waits, int) {}, flow.Step("call", call, options...)).
			Join("join", func(_ context.Context, s *waits, in flow.Inputs[waits]) error {
				s.Tries = []int{in.Len()}
				return nil
			}))
}

// away is a deferral.
func away(d time.Duration) error { return policies.WithDeferral(errAway, policies.Deferral{For: d}) }

// giveUp cancels a run that would hang.
func giveUp(env *testsuite.TestWorkflowEnvironment) {
	env.RegisterDelayedCallback(env.CancelWorkflow, 24*time.Hour)
}

// A task that climbs while its gate is closed gives its place to the probe.
func TestTaskThatClimbsLetsTheProbePass(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]flowtest.Options{"MaxParallel": {MaxParallel: 1}, "activities": {Limits: &workflows.Limits{Activities: 1}}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := callFlow(func(ctx context.Context, _ *waits) error {
				i := flow.Current(ctx)
				switch {
				case i.Attempt > 1:
					return nil
				case i.Index[0] == 0:
					return away(2 * time.Minute)
				}
				return policies.WithClass(errors.New("too much"), policies.OutOfMemory)
			}, policies.Escalate{Rungs: []policies.Rung{{Memory: 1 << 30}, {Memory: 2 << 30}}})
			o.Params, o.Prepare = map[string]string{"n": "2"}, giveUp
			r := flowtest.Run(t, f, o)
			require.Equal(t, []int{2}, ended(t, r, f).Tries)
		})
	}
}

// drainOnce makes the run's first workflow continue as new as soon as it can, from when a task "call" begins.
func drainOnce() func(*testsuite.TestWorkflowEnvironment) {
	first := true
	return func(env *testsuite.TestWorkflowEnvironment) {
		giveUp(env)
		if first {
			env.SetOnActivityStartedListener(func(i *activityInfo, _ context.Context, _ converter.EncodedValues) {
				if strings.HasPrefix(i.ActivityID, "call") {
					first = false
					env.SetContinueAsNewSuggested(true)
				}
			})
		}
	}
}

// A task that is deferred while its workflow continues as new has the attempts before it behind it.
func TestDeferralOutlivesTheWorkflow(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	f := flow.New("WaitsFlow", flow.Step("call", func(context.Context, *waits) error {
		if calls.Add(1) == 3 {
			return away(10 * time.Minute)
		}
		return errors.New("a failure")
	}, policies.Retry{MaximumAttempts: 3, InitialInterval: time.Second}, policies.Timeout{Total: time.Hour}))
	r := flowtest.Run(t, f, flowtest.Options{Prepare: drainOnce()})
	require.Equal(t, records.StatusFailed, r.Status)
	require.Equal(t, int32(4), calls.Load())
	require.Equal(t, 3, r.Failure.CodeFailures)
	attempts := attemptsOf(t, r, "call")
	require.Len(t, attempts, 4)
	require.Equal(t, records.Deferred, attempts[2].Outcome)
}

// What a service asked for holds when the workflow continues as new: nobody comes before that time, then one goes first.
func TestGateOutlivesTheWorkflow(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	f := callFlow(func(context.Context, *waits) error {
		switch n := calls.Add(1); {
		case n <= 5:
			return away(time.Hour)
		case n == 6:
			return away(time.Minute) // it is still not there
		}
		return nil
	})
	r := flowtest.Run(t, f, flowtest.Options{Params: map[string]string{"n": "5"}, Prepare: drainOnce()})
	require.Equal(t, []int{5}, ended(t, r, f).Tries)
	require.Equal(t, int32(11), calls.Load(), "one went first")
	for i := range 5 {
		attempts := attemptsOf(t, r, flow.TaskName("call", flow.Index{i}))
		require.GreaterOrEqual(t, attempts[1].Waited, time.Hour)
	}
}

// What a person said about a paused task is not forgotten when the workflow continues as new, and may be said while it is about to.
func TestVerdictOutlivesTheWorkflow(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		update string
		seen   []string
		calls  int32
	}{
		"retry": {workflows.RetryUpdate, []string{"fit"}, 2},
		"skip":  {workflows.SkipUpdate, nil, 1},
		"fail":  {workflows.FailUpdate, []string{"caught"}, 1},
	} {
		for _, during := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, something runs: %t", name, during), func(t *testing.T) {
				t.Parallel()
				var calls, others atomic.Int32
				f := flow.New("WaitsFlow", flow.Branch("both",
					flow.Step("fit", func(_ context.Context, s *waits) error {
						s.Seen = append(s.Seen, "fit")
						if calls.Add(1) == 1 {
							return errors.New("a bug")
						}
						return nil
					}, policies.Retry{MaximumAttempts: 1, Exhausted: policies.Pause}, policies.Catch(func(_ context.Context, s *waits, _ *policies.Failure) error {
						s.Seen = append(s.Seen, "caught")
						return nil
					})),
					flow.Step("other", func(context.Context, *waits) error {
						if others.Add(1) == 1 {
							return errors.New("not yet")
						}
						return nil
					}, policies.Retry{MaximumAttempts: 2, InitialInterval: 3 * time.Hour, MaximumInterval: 3 * time.Hour, Jitter: policies.NoJitter}),
				).Join("join", func(_ context.Context, s *waits, in flow.Inputs[waits]) error {
					s.Seen = in.At(0).Seen
					return nil
				}))
				executions := 0
				var said []string
				r := flowtest.Run(t, f, flowtest.Options{Prepare: func(env *testsuite.TestWorkflowEnvironment) {
					giveUp(env)
					if executions++; executions > 1 {
						return
					}
					at := 4 * time.Hour
					if during {
						at = 2 * time.Hour
						env.RegisterDelayedCallback(func() {
							env.SetContinueAsNewSuggested(true)
							env.SignalWorkflow("stepwell.failed", "nobody") // for it to notice
						}, time.Hour)
					}
					env.RegisterDelayedCallback(func() {
						note := func(v any, err error) { said = append(said, fmt.Sprint(v, err)) }
						env.UpdateWorkflow(test.update, "1", &testsuite.TestUpdateCallback{
							OnAccept: func() { env.SetContinueAsNewSuggested(true) }, OnReject: func(err error) { note(nil, err) }, OnComplete: note,
						}, "fit")
					}, at)
				}})
				require.Equal(t, test.seen, ended(t, r, f).Seen, "%v", said)
				require.Equal(t, test.calls, calls.Load())
				require.Len(t, said, 1)
				require.Contains(t, said[0], "task fit ")
				require.Equal(t, 2, executions)
			})
		}
	}
}

// A task that is skipped does not wait for what its step needs, and says nothing about it.
func TestSkippedTaskPassesItsGate(t *testing.T) {
	t.Parallel()
	f := callFlow(func(ctx context.Context, _ *waits) error {
		switch i := flow.Current(ctx); {
		case i.Index[0] == 0:
			return errors.New("a bug")
		case i.Attempt == 1:
			return away(10 * time.Hour)
		}
		return nil
	}, policies.Retry{MaximumAttempts: 1, Exhausted: policies.Pause})
	r := flowtest.Run(t, f, flowtest.Options{Params: map[string]string{"n": "3"}, Prepare: func(env *testsuite.TestWorkflowEnvironment) {
		giveUp(env)
		say(env, time.Hour, workflows.SkipUpdate, "call[0]", func(any, error) {})
	}})
	require.Equal(t, []int{3}, ended(t, r, f).Tries)
	task, err := r.Task(t.Context(), "call[0]")
	require.NoError(t, err)
	require.Less(t, task.Record.Ended.Sub(r.Started), 2*time.Hour)
	for _, name := range []string{"call[1]", "call[2]"} {
		require.GreaterOrEqual(t, attemptsOf(t, r, name)[1].Waited, 10*time.Hour)
	}
}

// Timeout.Total also ends the waiting behind others at a gate.
func TestTotalBoundsTheWaitAtAGate(t *testing.T) {
	t.Parallel()
	var caught atomic.Int64
	f := flow.New("WaitsFlow",
		flow.Foreach("all", func(s *waits) []int { return make([]int, s.N) }, func(*waits, int) {},
			flow.Step("call", func(ctx context.Context, s *waits) error { return away(3 * time.Minute) },
				policies.Timeout{Total: 10 * time.Minute}, policies.Catch(func(_ context.Context, s *waits, f *policies.Failure) error {
					caught.Add(1)
					s.Text = f.Message
					return nil
				}))).
			Join("join", func(_ context.Context, s *waits, in flow.Inputs[waits]) error {
				for _, one := range in.All() {
					s.Seen = append(s.Seen, one.Text)
				}
				return nil
			}))
	r := flowtest.Run(t, f, flowtest.Options{Params: map[string]string{"n": "20"}, Prepare: giveUp, MaxParallel: 20})
	s := ended(t, r, f)
	require.EqualValues(t, 20, caught.Load())
	require.Less(t, r.Duration(), 11*time.Minute)
	passed := 0
	for _, text := range s.Seen {
		if strings.HasPrefix(text, "Timeout.Total of 10m0s passed while the task waited") {
			passed++
		}
	}
	require.Greater(t, passed, 10, "%v", s.Seen)
}

// Timeout.Total begins when the task may begin: the wait for its turn does not count.
func TestTotalBeginsWithTheFirstAttempt(t *testing.T) {
	t.Parallel()
	f := callFlow(func(ctx context.Context, _ *waits) error {
		switch i := flow.Current(ctx); {
		case i.Index[0] == 0 && i.Attempt == 1:
			return errors.New("a failure")
		case i.Index[0] == 1 && i.Attempt == 1:
			return away(time.Minute)
		}
		return nil
	}, policies.Retry{MaximumAttempts: 2, InitialInterval: 20 * time.Minute, MaximumInterval: time.Hour, Jitter: policies.NoJitter}, policies.Timeout{Total: 20*time.Minute + 30*time.Second})
	r := flowtest.Run(t, f, flowtest.Options{Params: map[string]string{"n": "2"}, Prepare: giveUp, MaxParallel: 1})
	require.Equal(t, []int{2}, ended(t, r, f).Tries)
}

// A task that waits for a person because it had no time to wait for a service is told to be paused, with the reason.
func TestTaskWithoutTimeIsToldToBePaused(t *testing.T) {
	t.Parallel()
	store, err := artifacts.Open(t.Context(), "mem:", artifacts.Options{})
	require.NoError(t, err)
	f := flow.New("WaitsFlow", flow.Step("call", func(context.Context, *waits) error { return away(time.Hour) },
		policies.Retry{Exhausted: policies.Pause}, policies.Timeout{Total: 10 * time.Minute}))
	var ledger []records.Attempt
	r := flowtest.Run(t, f, flowtest.Options{Store: store, Prepare: func(env *testsuite.TestWorkflowEnvironment) {
		env.RegisterDelayedCallback(func() {
			ids, err := runs.New(store, nil).IDs(t.Context(), f.Name())
			require.NoError(t, err)
			ledger, err = records.Attempts(t.Context(), store, f.Name(), ids[0], "call", nil)
			require.NoError(t, err)
		}, 20*time.Minute)
		say(env, time.Hour, workflows.FailUpdate, "call", func(any, error) {})
	}})
	require.Equal(t, records.StatusFailed, r.Status)
	require.Contains(t, r.Failure.Message, "Timeout.Total of 10m0s leaves no time to wait for 1h")
	require.Equal(t, 1, r.Failure.Attempt)
	require.Len(t, ledger, 1)
	require.True(t, ledger[0].Paused)
	require.Contains(t, ledger[0].Failure.Message, "Timeout.Total of 10m0s leaves no time")
	require.NotEmpty(t, ledger[0].Workflow)
	require.Zero(t, ledger[0].Delay)
}

// A throttle refuses single calls: a task that it refused holds no other back.
func TestThrottleHoldsNoOtherTaskBack(t *testing.T) {
	t.Parallel()
	refused := errors.New("busy")
	f := callFlow(func(ctx context.Context, _ *waits) error {
		if i := flow.Current(ctx); i.Index[0] == 0 && i.Attempt == 1 {
			return policies.WithDeferral(refused, policies.Deferral{For: time.Hour, Alone: true})
		}
		return nil
	})
	r := flowtest.Run(t, f, flowtest.Options{Params: map[string]string{"n": "5"}, MaxParallel: 1, Limits: &workflows.Limits{Window: 2}})
	require.Equal(t, []int{5}, ended(t, r, f).Tries)
	for i := 1; i < 5; i++ {
		require.Less(t, attemptsOf(t, r, flow.TaskName("call", flow.Index{i}))[0].Started.Sub(r.Started), 30*time.Minute)
	}
}
