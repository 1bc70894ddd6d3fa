package policies

import (
	"errors"
	"math"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// This file holds everything that knows Temporal.

// Defaults are what a worker or a server adds to the policies of all steps.
type Defaults struct {
	// Heartbeat is the heartbeat timeout of steps that set none. Zero and negative values mean 30 seconds.
	Heartbeat time.Duration
}

const (
	defaultHeartbeat = 30 * time.Second
	// backstop is how much later than Timeout.Attempt the server ends an attempt. The step activity
	// enforces the timeout itself, so that it is a counted code failure with a drawn delay; the
	// server steps in only when the activity does not return although its worker heartbeats.
	backstop = 10 * time.Minute
	// unlimited stands for no Timeout.Attempt: Temporal wants one of its two close timeouts.
	unlimited = 365 * 24 * time.Hour
)

// ActivityOptions are the options of the step's activity. Every field of the retry policy is set,
// because Temporal's server and its test environment fill in different defaults.
//
// That retry policy paces the attempts after a lost one only: the step activity returns its own
// delay, drawn by [Spec.Decide], with each code failure. A killed worker must not make the task
// wait for the author's two minutes.
func (s Spec) ActivityOptions(d Defaults) workflow.ActivityOptions {
	startToClose := unlimited
	if s.Timeout.Attempt > 0 {
		startToClose = plus(s.Timeout.Attempt, backstop)
	}
	return workflow.ActivityOptions{
		ScheduleToCloseTimeout: s.Timeout.Total,
		ScheduleToStartTimeout: s.Timeout.Queue,
		StartToCloseTimeout:    startToClose,
		HeartbeatTimeout:       or(s.Timeout.Heartbeat, or(max(d.Heartbeat, 0), defaultHeartbeat)),
		WaitForCancellation:    true,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval:    time.Second,
			BackoffCoefficient: 2,
			MaximumInterval:    time.Minute,
			MaximumAttempts:    s.serverAttempts(),
		},
	}
}

// CatchOptions are the options of the activity that runs the step's catch function. The function
// is called once, and again only when its worker was lost. Timeout.Total and Timeout.Queue are left
// out: a catch runs after they have passed, and because of it.
func (s Spec) CatchOptions(d Defaults) workflow.ActivityOptions {
	s.MaximumAttempts = 1
	s.Timeout.Total, s.Timeout.Queue = 0, 0
	return s.ActivityOptions(d)
}

// serverAttempts is both budgets together. It is never 0, which the server reads as without end.
func (s Spec) serverAttempts() int32 {
	code := min(int64(max(s.MaximumAttempts, 1)), math.MaxInt32)
	lost := min(int64(max(s.Lost, 0)), math.MaxInt32)
	return int32(min(code+lost, math.MaxInt32))
}

// Error is the failure as the step activity returns it: one flat application error with the
// failure as its details, because the server looks at the outermost error only, and a
// non-retryable error that something wraps would be tried again. It stays under 3 KiB, whatever
// the failure holds; what does not fit is cut, the stack first.
//
// A Cancelled failure becomes the SDK's canceled error. Error(nil, d) is nil.
func Error(f *Failure, d Decision) error {
	if f == nil {
		return nil
	}
	fitted := *f
	if !fitted.Class.known() {
		fitted.Class = Unknown
	}
	fitted.Message = message(fitted.Message)
	if _, err := fitted.Time.MarshalText(); err != nil {
		fitted.Time = time.Time{} // the SDK panics on details that it cannot encode
	}
	fitted.fit()
	if fitted.Class == Cancelled {
		return temporal.NewCanceledErrorWithOptions(temporal.CanceledErrorOptions{
			Message: fitted.Message,
			Details: []any{fitted.details()},
		})
	}
	o := temporal.ApplicationErrorOptions{
		NonRetryable: !d.Retry,
		Details:      []any{fitted.details()},
	}
	if d.Retry {
		// Zero would mean that the server's own interval counts.
		o.NextRetryDelay = max(d.Delay, time.Millisecond)
	}
	return temporal.NewApplicationErrorWithOptions(fitted.Message, string(fitted.Class), o)
}

// FailureOf is the failure behind an error that a workflow got from an activity or from a child
// workflow. It returns nil for nil. What [Error] made comes back as it was, up to what was cut. A
// missed heartbeat is Lost; the other timeouts are Timeout and say which one it was, along with
// the failure before it; a panic that nothing recovered is Bug; anything else is classified.
func FailureOf(err error) *Failure {
	if err == nil {
		return nil
	}
	f := readChain(err)
	if f == nil {
		return Classify(err)
	}
	if activity, ok := errors.AsType[*temporal.ActivityError](err); ok {
		if f.Worker == "" {
			f.Worker = activity.Identity()
		}
		var timeout *temporal.TimeoutError
		if activity.RetryState() == enumspb.RETRY_STATE_TIMEOUT && !errors.As(activity, &timeout) {
			const note = " (not tried again: the next attempt would have started after Timeout.Total)"
			f.Message = cut(f.Message, maxMessage-len(note)) + note
		}
	}
	return f
}

// fromSDK is what an error of Temporal's SDK that an author's code returned says about the step:
// class, type and delay. It returns nil when there is none in the chain. A canceled error says
// nothing, since what was cancelled need not be this run.
func fromSDK(err error) *Failure {
	var found *Failure
	each(err, func(e error) bool {
		switch e := e.(type) {
		case *temporal.ApplicationError:
			f := readApplication(e)
			found = &Failure{Class: f.Class, Type: f.Type, RetryAfter: f.RetryAfter}
			if f.Class == Unknown || f.Class == Cancelled || f.Class == Lost {
				// It says nothing, or something about another run: the other rules decide.
				found.Class = ""
			}
		case *temporal.TimeoutError:
			found = &Failure{Class: TimedOut}
		}
		return found == nil
	})
	return found
}

// textOf is the text of an error; a bare application error leaves out what the SDK adds to it.
func textOf(err error) string {
	if e, ok := err.(*temporal.ApplicationError); ok && errors.Unwrap(e) == nil {
		return e.Message()
	}
	return err.Error()
}

// readChain reads the first error in the chain that says something, nil when none does. Activity
// and child workflow errors are frames around it.
func readChain(err error) *Failure {
	var found *Failure
	each(err, func(e error) bool {
		found = readOne(e)
		return found == nil
	})
	return found
}

func readOne(err error) *Failure {
	switch e := err.(type) {
	case *Failure:
		if e == nil {
			return nil
		}
		f := *e
		return &f
	case *temporal.ApplicationError:
		return readApplication(e)
	case *temporal.TimeoutError:
		return readTimeout(e)
	case *temporal.PanicError:
		f := &Failure{Class: Bug, Type: "PanicError", Message: message("panic: " + e.Error()), Stack: trimStack(e.StackTrace())}
		f.fit()
		return f
	case *temporal.CanceledError:
		f := readDetails(e)
		if f == nil {
			f = &Failure{}
		}
		f.Class, f.Message = Cancelled, message(e.Error())
		return f
	case *temporal.TerminatedError:
		return &Failure{Class: Cancelled, Type: "TerminatedError", Message: "terminated"}
	case *temporal.ServerError:
		// The server puts one around a failure that it had to cut.
		if f := readChain(errors.Unwrap(e)); f != nil {
			return f
		}
		return &Failure{Class: Unknown, Type: "ServerError", Message: message("temporal: " + e.Message())}
	}
	return nil
}

func readApplication(e *temporal.ApplicationError) *Failure {
	// An author's own application error may have details that happen to look like a failure.
	if f := readDetails(e); f != nil && string(f.Class) == e.Type() {
		f.Message = message(e.Message())
		return f
	}
	f := &Failure{Class: Unknown, Type: e.Type(), Message: message(e.Message()), RetryAfter: e.NextRetryDelay()}
	switch {
	case Class(e.Type()).known(): // ours, and the details were lost on the way
		f.Class, f.Type, f.RetryAfter = Class(e.Type()), "", 0
	case e.NonRetryable():
		f.Class = Permanent
	case f.RetryAfter > 0:
		f.Class = RateLimited
	}
	return f
}

// readTimeout names the timeout in the words of the policy. A failure of an earlier attempt, which
// the server attaches, lends its counts and its text.
func readTimeout(e *temporal.TimeoutError) *Failure {
	f := &Failure{}
	earlier := readChain(errors.Unwrap(e))
	if earlier != nil {
		*f = *earlier
		f.Stack, f.RetryAfter = "", 0
		f.Attempt, f.Worker, f.Time = 0, "", time.Time{} // those of another attempt
	}
	f.Class, f.Type = TimedOut, "TimeoutError"
	switch e.TimeoutType() {
	case enumspb.TIMEOUT_TYPE_HEARTBEAT:
		f.Class = Lost
		f.Message = "the worker was lost: killed, out of memory or cut off (heartbeat timeout)"
	case enumspb.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE:
		f.Message = "Timeout.Total passed, or left no time for another attempt (schedule-to-close timeout)"
	case enumspb.TIMEOUT_TYPE_SCHEDULE_TO_START:
		f.Message = "no worker took the task within Timeout.Queue (schedule-to-start timeout)"
	default:
		f.Message = "the attempt did not end in time (start-to-close timeout)"
	}
	if earlier != nil {
		f.Message = message(f.Message + "; before it: " + earlier.Message)
	}
	return f
}

// readDetails returns the failure that Error put into the details, nil when there is none.
func readDetails(e interface {
	HasDetails() bool
	Details(...any) error
}) (found *Failure) {
	defer func() {
		if recover() != nil { // details that were never serialised are read by reflection
			found = nil
		}
	}()
	if !e.HasDetails() {
		return nil
	}
	f := &Failure{}
	if err := e.Details(f); err != nil || !f.Class.known() {
		return nil
	}
	return f
}
