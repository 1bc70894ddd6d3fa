package flowtest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

type state struct {
	Name     string `param:"name" default:"world"`
	Greeting string
	Dirty    string
	Seen     []string
	Failure  *policies.Failure
}

// attemptsOf reads all attempts of a step.
func attemptsOf(t *testing.T, run *runs.Run, step string) []runs.Attempt {
	t.Helper()
	task, err := run.Task(t.Context(), step)
	require.NoError(t, err)
	attempts, err := task.Attempts(t.Context())
	require.NoError(t, err)
	return attempts
}

// final reads the state that the run ended with.
func final(t *testing.T, run *runs.Run, f *flow.Flow) *state {
	t.Helper()
	last, err := run.Last(t.Context())
	require.NoError(t, err)
	s, err := runs.LoadState[state](t.Context(), last, f)
	require.NoError(t, err)
	return s
}

func TestSequence(t *testing.T) {
	t.Parallel()
	f := flow.New("Hello",
		flow.Step("greet", func(ctx context.Context, s *state) error {
			s.Greeting = "hello, " + s.Name
			flow.Log(ctx).Info("greeted", "name", s.Name)
			return nil
		}),
		flow.Step("shout", func(_ context.Context, s *state) error {
			s.Greeting = strings.ToUpper(s.Greeting)
			return nil
		}),
	)
	run := flowtest.Run(t, f, flowtest.Options{Params: map[string]string{"name": "Ada"}, Tags: []string{"nightly"}})
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	require.Equal(t, []string{"nightly"}, run.Tags)
	require.Equal(t, "HELLO, ADA", final(t, run, f).Greeting)

	task, err := run.Task(t.Context(), "greet")
	require.NoError(t, err)
	greeting, err := runs.Load[string](t.Context(), task, "Greeting")
	require.NoError(t, err)
	require.Equal(t, "hello, Ada", greeting, "the artifact of the first step is as that step left it")
	require.Equal(t, []string{"Greeting"}, task.Record.Changed)
	logs, err := task.Logs(t.Context())
	require.NoError(t, err)
	require.Len(t, logs, 1)
	require.Equal(t, "greeted", logs[0].Lines[0].Message)
	require.Equal(t, []string{"name=Ada"}, logs[0].Lines[0].Attrs)
}

// Metaflow's @retry(times=3, minutes_between_retries=2), in milliseconds.
func TestThreeRetriesWithTwoMinutesBetween(t *testing.T) {
	t.Parallel()
	began := time.Now()
	f := flow.New("Retries",
		flow.Step("flaky", func(ctx context.Context, s *state) error {
			i := flow.Current(ctx)
			before := "nothing"
			if i.Previous != nil {
				before = i.Previous.Message
			}
			s.Seen = append(s.Seen, fmt.Sprintf("attempt %d after %s", i.Attempt, before))
			s.Dirty = "set by an attempt"
			if i.Attempt < 4 {
				return fmt.Errorf("not yet: %d", i.Attempt)
			}
			s.Dirty = ""
			return nil
		}, policies.Retry{MaximumAttempts: 4, InitialInterval: 2 * time.Minute, BackoffCoefficient: 1, Jitter: policies.NoJitter}),
	)
	run := flowtest.Run(t, f, flowtest.Options{})
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	attempts := attemptsOf(t, run, "flaky")
	require.Len(t, attempts, 4)
	for i, a := range attempts[:3] {
		require.Equal(t, records.Failed, a.Outcome)
		require.Equal(t, fmt.Sprintf("not yet: %d", i+1), a.Failure.Message)
		require.Equal(t, i+1, a.Failure.CodeFailures)
		require.Equal(t, 2*time.Minute, a.Delay)
		require.Equal(t, "constant 2m, no jitter", a.Reason)
	}
	for _, a := range attempts[1:] {
		require.GreaterOrEqual(t, a.Waited, 2*time.Minute)
		require.Less(t, a.Waited, 3*time.Minute)
	}
	require.Equal(t, []string{"attempt 4 after not yet: 3"}, final(t, run, f).Seen, "a failed attempt leaves nothing behind")
	require.Less(t, time.Since(began), time.Minute, "the minutes were skipped")
}

func TestExhaustedRetriesFailTheRun(t *testing.T) {
	t.Parallel()
	ran := false
	f := flow.New("Exhausted",
		flow.Step("before", func(_ context.Context, s *state) error { s.Greeting = "kept"; return nil }),
		flow.Step("broken", func(_ context.Context, s *state) error { s.Greeting = "lost"; return errors.New("boom") },
			policies.Retry{MaximumAttempts: 2, InitialInterval: time.Second}),
		flow.Step("after", func(context.Context, *state) error { ran = true; return nil }),
	)
	run := flowtest.Run(t, f, flowtest.Options{})
	require.Equal(t, records.StatusFailed, run.Status)
	require.False(t, ran)
	require.Equal(t, "broken", run.Failure.Step)
	require.Equal(t, "boom", run.Failure.Message)
	require.Equal(t, 2, run.Failure.CodeFailures)
	attempts := attemptsOf(t, run, "broken")
	require.Len(t, attempts, 2)
	require.Equal(t, 500*time.Millisecond, attempts[0].Delay, "half of a second was drawn")
	require.Equal(t, "attempts spent (2 of 2)", attempts[1].Reason)
	require.Equal(t, "kept", final(t, run, f).Greeting)
	task, err := run.Task(t.Context(), "broken")
	require.NoError(t, err)
	require.Equal(t, runs.Failed, task.State)
	require.Empty(t, task.Artifacts())
}

func TestFailStopsAtOnce(t *testing.T) {
	t.Parallel()
	f := flow.New("Stops",
		flow.Step("check", func(context.Context, *state) error {
			return fmt.Errorf("validate: %w", flow.Fail("column %q is missing", "delay"))
		}, policies.Retry{MaximumAttempts: 5, InitialInterval: time.Second}))
	run := flowtest.Run(t, f, flowtest.Options{})
	require.Equal(t, records.StatusFailed, run.Status)
	require.Equal(t, policies.Permanent, run.Failure.Class)
	require.Equal(t, `validate: column "delay" is missing`, run.Failure.Message)
	require.Len(t, attemptsOf(t, run, "check"), 1)
}

func TestRetryAfterIsWaitedFor(t *testing.T) {
	t.Parallel()
	f := flow.New("Waits",
		flow.Step("call", func(ctx context.Context, _ *state) error {
			if flow.Current(ctx).Attempt == 1 {
				return flow.RetryAfter(errors.New("429"), 17*time.Minute)
			}
			return nil
		}, policies.Retry{MaximumAttempts: 2, InitialInterval: time.Second, MaximumInterval: 2 * time.Second}))
	run := flowtest.Run(t, f, flowtest.Options{})
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	attempts := attemptsOf(t, run, "call")
	require.Equal(t, policies.RateLimited, attempts[0].Failure.Class)
	require.GreaterOrEqual(t, attempts[1].Waited, 17*time.Minute)
}

// Whatever ended the step, the catch gets the same kind of failure and the state from before the step.
func TestCatch(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		step  func(context.Context, *state) error
		class policies.Class
		text  string
	}{
		{"error", func(context.Context, *state) error { return errors.New("no luck") }, policies.Unknown, "no luck"},
		{"panic", func(_ context.Context, s *state) error { return errors.New(s.Seen[0]) }, policies.Bug, "index out of range"},
		{"goexit", func(context.Context, *state) error { goexit(); return nil }, policies.Bug, "Goexit"},
		{"timeout", func(ctx context.Context, _ *state) error { <-ctx.Done(); return ctx.Err() }, policies.TimedOut, "longer than 50ms"},
		{"ignores its context", func(context.Context, *state) error { time.Sleep(5 * time.Second); return nil }, policies.TimedOut, "longer than 50ms"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			timeout := time.Minute
			if test.class == policies.TimedOut {
				timeout = 50 * time.Millisecond
			}
			f := flow.New("Catches",
				flow.Step("before", func(_ context.Context, s *state) error { s.Greeting = "from before"; return nil }),
				flow.Step("risky", func(ctx context.Context, s *state) error {
					s.Dirty, s.Greeting = "dirty", "overwritten"
					return test.step(ctx, s)
				}, policies.Timeout{Attempt: timeout}, policies.Retry{MaximumAttempts: 2, InitialInterval: time.Minute},
					policies.Catch(func(ctx context.Context, s *state, f *policies.Failure) error {
						s.Failure = f
						s.Seen = []string{s.Dirty, s.Greeting, flow.Current(ctx).Task}
						return nil
					})),
				flow.Step("after", func(_ context.Context, s *state) error { s.Greeting += ", and after"; return nil }),
			)
			run := flowtest.Run(t, f, flowtest.Options{})
			require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
			s := final(t, run, f)
			require.Equal(t, []string{"", "from before", "risky"}, s.Seen)
			require.Empty(t, s.Dirty)
			require.Equal(t, "from before, and after", s.Greeting)
			require.Equal(t, test.class, s.Failure.Class)
			require.Contains(t, s.Failure.Message, test.text)
			require.Equal(t, "risky", s.Failure.Step)
			require.Equal(t, 2, s.Failure.Attempt)
			require.Equal(t, 2, s.Failure.CodeFailures)
			require.NotZero(t, s.Failure.Time)
			task, err := run.Task(t.Context(), "risky")
			require.NoError(t, err)
			require.Equal(t, runs.Caught, task.State)
			require.Len(t, attemptsOf(t, run, "risky"), 2)
			if test.class == policies.Bug && test.name == "panic" {
				require.Contains(t, s.Failure.Stack, "flowtest_test.TestCatch")
			}
		})
	}
}

func TestCatchThatFails(t *testing.T) {
	t.Parallel()
	f := flow.New("CatchFails",
		flow.Step("risky", func(context.Context, *state) error { return errors.New("first") },
			policies.Catch(func(context.Context, *state, *policies.Failure) error { return errors.New("second") })))
	run := flowtest.Run(t, f, flowtest.Options{})
	require.Equal(t, records.StatusFailed, run.Status)
	require.Equal(t, "the catch function failed: second; it was called for: first", run.Failure.Message)
	require.Equal(t, 1, run.Failure.Attempt)
}

func TestCancel(t *testing.T) {
	t.Parallel()
	f := flow.New("Cancelled",
		flow.Step("done", func(_ context.Context, s *state) error { s.Greeting = "kept"; return nil }),
		flow.Step("flaky", func(context.Context, *state) error { return errors.New("again") },
			policies.Retry{MaximumAttempts: 1000, InitialInterval: time.Hour, Jitter: policies.NoJitter},
			policies.Catch(func(context.Context, *state, *policies.Failure) error { return nil })))
	run := flowtest.Run(t, f, flowtest.Options{Prepare: func(env *testsuite.TestWorkflowEnvironment) {
		env.RegisterDelayedCallback(env.CancelWorkflow, 90*time.Minute)
	}})
	require.Equal(t, records.StatusCancelled, run.Status)
	require.Nil(t, run.Failure, "a cancelled run is no failure, and nothing is caught")
	require.Equal(t, "kept", final(t, run, f).Greeting)
}

// A long run leaves its history behind and goes on where it was.
func TestContinueAsNew(t *testing.T) {
	t.Parallel()
	const steps = 7
	var nodes []flow.Node[state]
	for i := range steps {
		nodes = append(nodes, flow.Step(fmt.Sprintf("step%d", i), func(_ context.Context, s *state) error {
			s.Seen = append(s.Seen, fmt.Sprint(i))
			return nil
		}))
	}
	f := flow.New("Long", nodes...)
	workflows := 0
	run := flowtest.Run(t, f, flowtest.Options{Prepare: func(env *testsuite.TestWorkflowEnvironment) {
		workflows++
		env.SetOnActivityCompletedListener(func(*activityInfo, converterValue, error) { env.SetContinueAsNewSuggested(true) })
	}})
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	require.Equal(t, steps, workflows)
	require.Equal(t, []string{"0", "1", "2", "3", "4", "5", "6"}, final(t, run, f).Seen)
}

func TestParamsAreReadOnly(t *testing.T) {
	t.Parallel()
	f := flow.New("ReadOnly", flow.Step("rename", func(_ context.Context, s *state) error { s.Name = "somebody else"; return nil },
		policies.Retry{MaximumAttempts: 3, InitialInterval: time.Second}))
	run := flowtest.Run(t, f, flowtest.Options{})
	require.Equal(t, records.StatusFailed, run.Status)
	require.Contains(t, run.Failure.Message, `parameter "name"`)
	require.Len(t, attemptsOf(t, run, "rename"), 1, "the same state would be refused again")
}

func TestRetryIfAndNonRetryable(t *testing.T) {
	t.Parallel()
	for name, retry := range map[string]policies.Retry{
		"RetryIf":      {MaximumAttempts: 4, InitialInterval: time.Second, RetryIf: func(err error) bool { return err.Error() != "no use" }},
		"NonRetryable": {MaximumAttempts: 4, InitialInterval: time.Second, NonRetryable: []string{"uselessError"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := flow.New("Chosen", flow.Step("call", func(ctx context.Context, _ *state) error {
				if flow.Current(ctx).Attempt == 2 {
					return uselessError("no use")
				}
				return errors.New("worth it")
			}, retry))
			run := flowtest.Run(t, f, flowtest.Options{})
			require.Equal(t, records.StatusFailed, run.Status)
			require.Equal(t, "no use", run.Failure.Message)
			require.Len(t, attemptsOf(t, run, "call"), 2)
		})
	}
}

type uselessError string

func (e uselessError) Error() string { return string(e) }
