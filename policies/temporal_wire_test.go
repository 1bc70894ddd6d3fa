package policies

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

// wire encodes an error as a worker sends it to the server.
func wire(t require.TestingT, err error) []byte {
	b, marshalErr := proto.Marshal(temporal.GetDefaultFailureConverter().ErrorToFailure(err))
	require.NoError(t, marshalErr)
	return b
}

func failureOfWire(t require.TestingT, b []byte) *failurepb.Failure {
	var f failurepb.Failure
	require.NoError(t, proto.Unmarshal(b, &f))
	return &f
}

// received is what a workflow gets when a failure ended an activity: the server adds a frame.
func received(cause *failurepb.Failure, state enumspb.RetryState, identity string) error {
	return temporal.GetDefaultFailureConverter().FailureToError(&failurepb.Failure{
		Message: "activity error", Source: "Server", Cause: cause,
		FailureInfo: &failurepb.Failure_ActivityFailureInfo{ActivityFailureInfo: &failurepb.ActivityFailureInfo{
			Identity: identity, RetryState: state, ActivityId: "s", ActivityType: &commonpb.ActivityType{Name: "F.s"},
		}},
	})
}

// through sends an error to the server and back to the workflow.
func through(t require.TestingT, err error) error {
	return received(failureOfWire(t, wire(t, err)), enumspb.RETRY_STATE_NON_RETRYABLE_FAILURE, "")
}

func TestErrorAndBack(t *testing.T) {
	t.Parallel()
	for _, class := range classes {
		t.Run(string(class), func(t *testing.T) {
			t.Parallel()
			f := Failure{
				Class: class, Message: "slow down", Type: "HTTPError", Stack: "goroutine 1", Flow: "F", Run: "r", Step: "s", Task: "s[1]",
				Attempt: 3, CodeFailures: 2, LostAttempts: 1, RetryAfter: 90 * time.Second, Time: time.Date(2026, 1, 31, 12, 0, 0, 5, time.UTC), Worker: "w",
			}
			for _, d := range []Decision{{}, {Retry: true, Delay: time.Minute}} {
				err := Error(&f, d)
				require.Equal(t, &f, FailureOf(err), "in the same process, as in the test environment")
				require.Equal(t, &f, FailureOf(through(t, err)), "through the server")
				require.Equal(t, &f, FailureOf(fmt.Errorf("wrapped: %w", through(t, err))))

				var cancelled *temporal.CanceledError
				require.Equal(t, class == Cancelled, errors.As(through(t, err), &cancelled), "a cancelled step is a cancelled activity, and nothing else is")
			}
			small := Failure{Class: class, Message: "m"}
			require.Equal(t, &small, FailureOf(through(t, Error(&small, Decision{}))))
		})
	}
}

// A failure without a text does not gain one on the way.
func TestErrorWithoutMessage(t *testing.T) {
	t.Parallel()
	f := Failure{Class: Bug, Type: "PanicError"}
	require.Equal(t, &f, FailureOf(through(t, Error(&f, Decision{}))))
}

// The server keeps at most 4 KiB of a failure between attempts, and without its details no attempt would
// know what it has left. And a text that is not UTF-8 cannot be sent at all.
func TestErrorIsBounded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		f := nastyFailure().Draw(t, "failure")
		before := f
		d := Decision{Retry: rapid.Bool().Draw(t, "Retry"), Delay: time.Duration(rapid.Int64().Draw(t, "Delay"))}
		b := wire(t, Error(&f, d))
		require.LessOrEqual(t, len(b), 3<<10)
		require.Equal(t, before, f, "the failure itself is not cut")

		back := FailureOf(received(failureOfWire(t, b), enumspb.RETRY_STATE_IN_PROGRESS, ""))
		require.True(t, back.Class.known())
		if before.Class.known() {
			require.Equal(t, before.Class, back.Class)
		}
		require.Equal(t, before.Attempt, back.Attempt)
		require.Equal(t, before.CodeFailures, back.CodeFailures)
		require.Equal(t, before.LostAttempts, back.LostAttempts)
		require.Equal(t, before.RetryAfter, back.RetryAfter)
		require.True(t, utf8.ValidString(back.Message))
		if len(before.Message) <= 512 && utf8.ValidString(before.Message) && back.Class != Cancelled {
			require.Equal(t, before.Message, back.Message)
		}
	})
}

// Where every field is as bad as it can be, the message is what stays.
func TestErrorIsBoundedAtWorst(t *testing.T) {
	t.Parallel()
	for _, unit := range []string{"a", "<", "\x01", "a\xff", "𝄞", "\u2028"} {
		s := strings.Repeat(unit, 5000)
		f := Failure{
			Class: Class(s), Message: s, Type: s, Stack: s, Flow: s, Run: s, Step: s, Task: s, Worker: s,
			Attempt: math.MinInt, CodeFailures: math.MinInt, LostAttempts: math.MinInt, RetryAfter: math.MinInt64,
			Time: time.Date(2026, 12, 31, 12, 0, 0, 999_999_999, time.FixedZone("", -23*3600)),
		}
		b := wire(t, Error(&f, Decision{Retry: true, Delay: math.MaxInt64}))
		require.LessOrEqual(t, len(b), 3<<10, "%q", unit)
		require.GreaterOrEqual(t, len(FailureOf(received(failureOfWire(t, b), enumspb.RETRY_STATE_IN_PROGRESS, "")).Message), 500, "%q", unit)
	}
}

// The largest of everything that is ordinary still leaves room for a stack worth reading.
func TestErrorKeepsWhatMatters(t *testing.T) {
	t.Parallel()
	f := Failure{
		Class: Bug, Message: "panic: index out of range [5] with length 3", Type: "PanicError", Stack: strings.Repeat("main.f(0xc000)\n\t/src/main.go:1 +0x1\n", 400),
		Flow: strings.Repeat("F", 128), Run: strings.Repeat("r", 100), Step: strings.Repeat("s", 64), Task: strings.Repeat("s", 64) + "[123456,7]",
		Attempt: math.MaxInt32, CodeFailures: math.MaxInt32, Time: time.Now().UTC().Round(0), Worker: "1@" + strings.Repeat("w", 60),
	}
	err := Error(&f, Decision{Retry: true, Delay: time.Hour})
	require.LessOrEqual(t, len(wire(t, err)), 3<<10)
	back := FailureOf(through(t, err))
	require.Greater(t, len(back.Stack), 1200)
	back.Stack = f.Stack
	require.Equal(t, &f, back)
}

// A time that JSON cannot write would make the SDK panic.
func TestErrorWithAnImpossibleTime(t *testing.T) {
	t.Parallel()
	for _, when := range []time.Time{time.Unix(1<<60, 0), time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC), time.Now().In(time.FixedZone("", 30*3600))} {
		f := Failure{Class: Bug, Message: "m", Time: when}
		require.Zero(t, FailureOf(through(t, Error(&f, Decision{}))).Time)
	}
}

func timeoutPB(kind enumspb.TimeoutType, cause *failurepb.Failure) *failurepb.Failure {
	return &failurepb.Failure{
		Message: "activity timeout", Source: "Server", Cause: cause,
		FailureInfo: &failurepb.Failure_TimeoutFailureInfo{TimeoutFailureInfo: &failurepb.TimeoutFailureInfo{TimeoutType: kind}},
	}
}

func TestFailureOfTimeouts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		kind    enumspb.TimeoutType
		class   Class
		message string
	}{
		{enumspb.TIMEOUT_TYPE_START_TO_CLOSE, TimedOut, "the attempt did not end in time (start-to-close timeout)"},
		{enumspb.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE, TimedOut, "Timeout.Total passed, or left no time for another attempt (schedule-to-close timeout)"},
		{enumspb.TIMEOUT_TYPE_SCHEDULE_TO_START, TimedOut, "no worker took the task within Timeout.Queue (schedule-to-start timeout)"},
		{enumspb.TIMEOUT_TYPE_HEARTBEAT, Lost, "the worker was lost: killed, out of memory or cut off (heartbeat timeout)"},
		{enumspb.TIMEOUT_TYPE_UNSPECIFIED, TimedOut, "the attempt did not end in time (start-to-close timeout)"},
	} {
		t.Run(test.kind.String(), func(t *testing.T) {
			t.Parallel()
			require.Equal(t, &Failure{Class: test.class, Type: "TimeoutError", Message: test.message},
				FailureOf(received(timeoutPB(test.kind, nil), enumspb.RETRY_STATE_TIMEOUT, "")))

			// The server attaches the failure of the attempt before.
			earlier := &Failure{
				Class: Transient, Message: "connection refused", Type: "OpError", Stack: "x", Flow: "F", Run: "r", Step: "s", Task: "s",
				Attempt: 2, CodeFailures: 2, LostAttempts: 1, RetryAfter: time.Second, Time: time.Unix(1, 0).UTC(), Worker: "before",
			}
			cause := failureOfWire(t, wire(t, Error(earlier, Decision{Retry: true})))
			require.Equal(t, &Failure{
				Class: test.class, Type: "TimeoutError", Message: test.message + "; before it: connection refused",
				Flow: "F", Run: "r", Step: "s", Task: "s", CodeFailures: 2, LostAttempts: 1,
			}, FailureOf(received(timeoutPB(test.kind, cause), enumspb.RETRY_STATE_TIMEOUT, "")), "its counts and text are kept; its worker, time and number are of another attempt")

			earlier.Message = strings.Repeat("m", maxMessage)
			cause = failureOfWire(t, wire(t, Error(earlier, Decision{Retry: true})))
			require.LessOrEqual(t, len(FailureOf(received(timeoutPB(test.kind, cause), enumspb.RETRY_STATE_TIMEOUT, "")).Message), maxMessage)
		})
	}
}

// A failure after which the next attempt would have come too late says so.
func TestFailureOfNoTimeLeft(t *testing.T) {
	t.Parallel()
	f := Failure{Class: Transient, Message: "connection refused"}
	get := func() *Failure {
		return FailureOf(received(failureOfWire(t, wire(t, Error(&f, Decision{Retry: true}))), enumspb.RETRY_STATE_TIMEOUT, ""))
	}
	require.Equal(t, "connection refused (not tried again: the next attempt would have started after Timeout.Total)", get().Message)
	f.Message = strings.Repeat("m", maxMessage)
	require.LessOrEqual(t, len(get().Message), maxMessage)
	require.True(t, strings.HasSuffix(get().Message, "after Timeout.Total)"))
}

func application(typ, message string, final bool, details ...any) *failurepb.Failure {
	return temporal.GetDefaultFailureConverter().ErrorToFailure(temporal.NewApplicationErrorWithOptions(message, typ,
		temporal.ApplicationErrorOptions{NonRetryable: final, Details: details}))
}

// Errors that did not come from Error.
func TestFailureOfOthers(t *testing.T) {
	t.Parallel()
	fc := temporal.GetDefaultFailureConverter()
	server := func(message string, cause *failurepb.Failure) *failurepb.Failure {
		return &failurepb.Failure{Message: message, Source: "Server", Cause: cause,
			FailureInfo: &failurepb.Failure_ServerFailureInfo{ServerFailureInfo: &failurepb.ServerFailureInfo{NonRetryable: true}}}
	}
	panicked := fc.ErrorToFailure(fc.FailureToError(&failurepb.Failure{
		Message: "index out of range", StackTrace: "goroutine 1 [running]:\nx\npanic(1)\n\ty.go:1\nmain.f()\n\tz.go:2",
		FailureInfo: &failurepb.Failure_ApplicationFailureInfo{ApplicationFailureInfo: &failurepb.ApplicationFailureInfo{Type: "PanicError"}},
	}))
	for _, test := range []struct {
		name  string
		cause *failurepb.Failure
		want  Failure
	}{
		{"unregistered activity", application("NotFoundError", "unable to find activityType=F.s", false), Failure{Class: Unknown, Type: "NotFoundError", Message: "unable to find activityType=F.s"}},
		{"non-retryable", application("KeyError", "boom", true), Failure{Class: Permanent, Type: "KeyError", Message: "boom"}},
		{"details of its own", application("KeyError", "boom", true, map[string]any{"class": "Bug", "step": "x"}), Failure{Class: Permanent, Type: "KeyError", Message: "boom"}},
		{"details that are no object", application("Bug", "boom", false, 42, "x"), Failure{Class: Bug, Message: "boom"}},
		{"our class, details lost", application("RateLimited", "busy", false), Failure{Class: RateLimited, Message: "busy"}},
		{"panic outside of the step", panicked, Failure{Class: Bug, Type: "PanicError", Message: "panic: index out of range", Stack: "goroutine 1 [running]:\nmain.f()\n\tz.go:2"}},
		{"cancelled by the server", fc.ErrorToFailure(temporal.NewCanceledError()), Failure{Class: Cancelled, Message: "canceled"}},
		{"terminated", &failurepb.Failure{Message: "x", FailureInfo: &failurepb.Failure_TerminatedFailureInfo{TerminatedFailureInfo: &failurepb.TerminatedFailureInfo{}}},
			Failure{Class: Cancelled, Type: "TerminatedError", Message: "terminated"}},
		{"server", server("bad attributes", nil), Failure{Class: Unknown, Type: "ServerError", Message: "temporal: bad attributes"}},
		{"server around what it had to cut", server("failure exceeds limit", application("Transient", "connection ref", false)), Failure{Class: Transient, Message: "connection ref"}},
		{"nothing known", &failurepb.Failure{Message: "odd"}, Failure{Class: Unknown, Message: "odd"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := FailureOf(received(test.cause, enumspb.RETRY_STATE_MAXIMUM_ATTEMPTS_REACHED, "w"))
			require.Equal(t, "w", got.Worker, "the server knows who sent it")
			got.Worker = ""
			if test.name == "nothing known" {
				require.Equal(t, Unknown, got.Class)
				require.Contains(t, got.Message, "odd")
				return
			}
			require.Equal(t, &test.want, got)
		})
	}
}

// The failure of a child workflow is that of the activity in it.
func TestFailureOfChildWorkflow(t *testing.T) {
	t.Parallel()
	f := Failure{Class: Invalid, Message: "no such table", Step: "s"}
	fc := temporal.GetDefaultFailureConverter()
	activity := fc.ErrorToFailure(received(failureOfWire(t, wire(t, Error(&f, Decision{}))), enumspb.RETRY_STATE_NON_RETRYABLE_FAILURE, "w"))
	child := fc.FailureToError(&failurepb.Failure{
		Message: "child workflow execution error", Cause: activity,
		FailureInfo: &failurepb.Failure_ChildWorkflowExecutionFailureInfo{ChildWorkflowExecutionFailureInfo: &failurepb.ChildWorkflowExecutionFailureInfo{
			WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: "F/r"}, WorkflowType: &commonpb.WorkflowType{Name: "F"},
		}},
	})
	want := f
	want.Worker = "w"
	require.Equal(t, &want, FailureOf(child))
}

func TestFailureOfPlainErrors(t *testing.T) {
	t.Parallel()
	require.Nil(t, FailureOf(nil))
	require.Equal(t, &Failure{Class: Unknown, Message: "boom"}, FailureOf(errors.New("boom")))
	f := &Failure{Class: Bug, Message: "gone"}
	got := FailureOf(fmt.Errorf("x: %w", f))
	require.Equal(t, f, got)
	require.NotSame(t, f, got)
	require.Equal(t, Bug, FailureOf((*Failure)(nil)).Class, "a nil pointer in an error is a bug")
}
