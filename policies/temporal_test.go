package policies_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/stepwell-flows/stepwell/policies"
)

// Every field of the three policies, and what becomes of it in the options of the activities.
func TestActivityOptions(t *testing.T) {
	t.Parallel()
	const year = 365 * 24 * time.Hour
	// The pace after a lost worker, whatever the author's waits are. Everything is set: the server and
	// its test environment fill in different defaults.
	pace := func(attempts int32) *temporal.RetryPolicy {
		return &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: time.Minute, MaximumAttempts: attempts}
	}
	options := func(attempts int32, change func(*workflow.ActivityOptions)) workflow.ActivityOptions {
		o := workflow.ActivityOptions{StartToCloseTimeout: year, HeartbeatTimeout: 30 * time.Second, WaitForCancellation: true, RetryPolicy: pace(attempts)}
		if change != nil {
			change(&o)
		}
		return o
	}
	for _, test := range []struct {
		name        string
		retry       *policies.Retry
		timeout     *policies.Timeout
		defaults    policies.Defaults
		step, catch workflow.ActivityOptions
	}{
		{name: "nothing", step: options(6, nil), catch: options(6, nil)},
		{name: "zero values", retry: &policies.Retry{}, timeout: &policies.Timeout{}, step: options(6, nil), catch: options(6, nil)},
		{name: "MaximumAttempts", retry: &policies.Retry{MaximumAttempts: 4}, step: options(9, nil), catch: options(6, nil)},
		{name: "MaximumAttempts, negative", retry: &policies.Retry{MaximumAttempts: -4}, step: options(6, nil), catch: options(6, nil)},
		{name: "MaximumAttempts, without end", retry: &policies.Retry{MaximumAttempts: math.MaxInt}, step: options(math.MaxInt32, nil), catch: options(6, nil)},
		{name: "Lost", retry: &policies.Retry{MaximumAttempts: 2, Lost: 3}, step: options(5, nil), catch: options(4, nil)},
		{name: "Lost, none", retry: &policies.Retry{MaximumAttempts: 2, Lost: -1}, step: options(2, nil), catch: options(1, nil)},
		{name: "Lost, without end", retry: &policies.Retry{Lost: math.MaxInt}, step: options(math.MaxInt32, nil), catch: options(math.MaxInt32, nil)},
		{name: "waits are drawn, not configured", retry: &policies.Retry{
			MaximumAttempts: 2, InitialInterval: time.Hour, BackoffCoefficient: 7, MaximumInterval: 99 * time.Hour, Jitter: policies.NoJitter,
			NonRetryable: []string{"Bug"}, RetryIf: func(error) bool { return false },
		}, step: options(7, nil), catch: options(6, nil)},
		{name: "Attempt", timeout: &policies.Timeout{Attempt: time.Minute},
			step:  options(6, func(o *workflow.ActivityOptions) { o.StartToCloseTimeout = 11 * time.Minute }),
			catch: options(6, func(o *workflow.ActivityOptions) { o.StartToCloseTimeout = 11 * time.Minute })},
		{name: "Attempt, longest", timeout: &policies.Timeout{Attempt: math.MaxInt64},
			step:  options(6, func(o *workflow.ActivityOptions) { o.StartToCloseTimeout = math.MaxInt64 }),
			catch: options(6, func(o *workflow.ActivityOptions) { o.StartToCloseTimeout = math.MaxInt64 })},
		{name: "Total", timeout: &policies.Timeout{Total: time.Hour},
			step:  options(6, func(o *workflow.ActivityOptions) { o.ScheduleToCloseTimeout = time.Hour }),
			catch: options(6, nil)},
		{name: "Queue", timeout: &policies.Timeout{Queue: time.Hour},
			step:  options(6, func(o *workflow.ActivityOptions) { o.ScheduleToStartTimeout = time.Hour }),
			catch: options(6, nil)},
		{name: "Heartbeat", timeout: &policies.Timeout{Heartbeat: 2 * time.Second}, defaults: policies.Defaults{Heartbeat: 5 * time.Second},
			step:  options(6, func(o *workflow.ActivityOptions) { o.HeartbeatTimeout = 2 * time.Second }),
			catch: options(6, func(o *workflow.ActivityOptions) { o.HeartbeatTimeout = 2 * time.Second })},
		{name: "Heartbeat of the worker", defaults: policies.Defaults{Heartbeat: 5 * time.Second},
			step:  options(6, func(o *workflow.ActivityOptions) { o.HeartbeatTimeout = 5 * time.Second }),
			catch: options(6, func(o *workflow.ActivityOptions) { o.HeartbeatTimeout = 5 * time.Second })},
		{name: "Heartbeat of the worker, negative", defaults: policies.Defaults{Heartbeat: -1}, step: options(6, nil), catch: options(6, nil)},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			spec := policies.NewSpec(test.retry, test.timeout, nil)
			require.Equal(t, test.step, spec.ActivityOptions(test.defaults))
			require.Equal(t, test.catch, spec.CatchOptions(test.defaults))
			require.Equal(t, test.step, spec.ActivityOptions(test.defaults), "CatchOptions changes nothing")
		})
	}
}

// What each decision becomes in the error that the server sees.
func TestErrorCarriesDecision(t *testing.T) {
	t.Parallel()
	r := policies.Retry{MaximumAttempts: 3, InitialInterval: 2 * time.Second, Jitter: policies.NoJitter, NonRetryable: []string{"Bug"}}
	zero := func() float64 { return 0 }
	for _, test := range []struct {
		name    string
		jitter  policies.Jitter
		err     error
		n       int
		typ     string
		final   bool
		delay   time.Duration
		message string
	}{
		{"first failure", policies.NoJitter, errors.New("boom"), 1, "Unknown", false, 2 * time.Second, "boom"},
		{"second failure", policies.NoJitter, errors.New("boom"), 2, "Unknown", false, 4 * time.Second, "boom"},
		{"drawn wait of nothing is not the server's default", policies.FullJitter, errors.New("boom"), 1, "Unknown", false, time.Millisecond, "boom"},
		{"asked", policies.NoJitter, policies.WithRetryAfter(errors.New("busy"), time.Hour), 1, "RateLimited", false, time.Hour, "busy"},
		{"spent", policies.NoJitter, errors.New("boom"), 3, "Unknown", true, 0, "boom"},
		{"final class", policies.NoJitter, policies.WithClass(errors.New("no"), policies.Invalid), 1, "Invalid", true, 0, "no"},
		{"listed", policies.NoJitter, policies.WithClass(errors.New("oh"), policies.Bug), 1, "Bug", true, 0, "oh"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := r
			r.Jitter = test.jitter
			f := policies.Classify(test.err)
			err := policies.Error(f, policies.NewSpec(&r, nil, nil).Decide(f, test.err, nil, test.n, zero))
			var app *temporal.ApplicationError
			require.ErrorAs(t, err, &app)
			require.Equal(t, test.typ, app.Type())
			require.Equal(t, test.final, app.NonRetryable())
			require.Equal(t, test.delay, app.NextRetryDelay())
			require.Equal(t, test.message, app.Message())
			require.NoError(t, errors.Unwrap(err), "one flat error: the server looks at the outermost only")
		})
	}
	require.NoError(t, policies.Error(nil, policies.Decision{}))
}

// Errors of the SDK that a step returns, for example from a client of its own.
func TestClassifySDKErrors(t *testing.T) {
	t.Parallel()
	wrap := func(err error) error { return fmt.Errorf("call: %w", err) }
	type want = policies.Failure
	for _, test := range []struct {
		name string
		err  error
		want policies.Failure
	}{
		{"application error", temporal.NewApplicationError("boom", "KeyError"), want{Class: policies.Unknown, Type: "KeyError", Message: "boom"}},
		{"of no type", temporal.NewApplicationError("boom", ""), want{Class: policies.Unknown, Type: "ApplicationError", Message: "boom"}},
		{"non-retryable", temporal.NewNonRetryableApplicationError("boom", "KeyError", nil), want{Class: policies.Permanent, Type: "KeyError", Message: "boom"}},
		{"non-retryable, wrapped: the trap", wrap(temporal.NewNonRetryableApplicationError("boom", "KeyError", nil)),
			want{Class: policies.Permanent, Type: "KeyError", Message: "call: boom (type: KeyError, retryable: false)"}},
		{"with a delay", temporal.NewApplicationErrorWithOptions("busy", "HTTP", temporal.ApplicationErrorOptions{NextRetryDelay: time.Minute}),
			want{Class: policies.RateLimited, Type: "HTTP", Message: "busy", RetryAfter: time.Minute}},
		{"typed with a class", temporal.NewApplicationError("boom", "Invalid"), want{Class: policies.Invalid, Type: "ApplicationError", Message: "boom"}},
		{"another run was cancelled", temporal.NewApplicationError("boom", "Cancelled"), want{Class: policies.Unknown, Type: "ApplicationError", Message: "boom"}},
		{"another run lost its worker", wrap(policies.Error(&policies.Failure{Class: policies.Lost, Message: "gone", Type: "X"}, policies.Decision{})),
			want{Class: policies.Unknown, Type: "X", Message: "call: gone (type: Lost, retryable: false)"}},
		{"around a deadline", temporal.NewApplicationErrorWithCause("boom", "KeyError", context.DeadlineExceeded),
			want{Class: policies.TimedOut, Type: "KeyError", Message: "boom (type: KeyError, retryable: true): context deadline exceeded"}},
		{"timeout", wrap(temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_START_TO_CLOSE, nil)), want{Class: policies.TimedOut, Type: "TimeoutError", Message: "call: Test timeout"}},
		{"heartbeat timeout of something else", temporal.NewHeartbeatTimeoutError(), want{Class: policies.TimedOut, Type: "TimeoutError", Message: "heartbeat"}},
		{"canceled error of something else", temporal.NewCanceledError(), want{Class: policies.Unknown, Type: "CanceledError", Message: "canceled"}},
		{"a mark beats it", policies.WithClass(temporal.NewNonRetryableApplicationError("boom", "KeyError", nil), policies.Transient),
			want{Class: policies.Transient, Type: "KeyError", Message: "boom (type: KeyError, retryable: false)"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := policies.Classify(test.err)
			got.Message = cutAt(got.Message, len(test.want.Message))
			require.Equal(t, test.want, *got)
		})
	}
}

// cutAt leaves out what the SDK appends to its texts in one version or another.
func cutAt(s string, n int) string { return s[:min(n, len(s))] }
