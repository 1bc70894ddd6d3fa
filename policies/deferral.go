package policies

import (
	"fmt"
	"time"
)

// Deferral says that a task has to wait before it makes sense to go on: a service asked for a long pause, or its breaker is
// open. It is no failure. The task waits in its workflow, where it holds no worker and uses no attempt.
type Deferral struct {
	// For is how long to wait, counted from when the error was made. Zero and negative values mean a second.
	For time.Duration
	// Dependency is the name of the service, "" if it has none. Those who are held back meanwhile are the other tasks of the
	// step, or of all steps that name the same [Dependency] as an option, whatever the name is here: when the time has come,
	// one goes first.
	Dependency string
	// Alone says that only this task waits: others may get through meanwhile.
	Alone bool
	// Reason says why, for people: "the breaker of \"model\" is open".
	Reason string
}

// WithDeferral marks an error with a deferral. A step that returns it has not failed: it is called anew when the time has
// come. The outermost mark counts. WithDeferral(nil, d) is nil.
func WithDeferral(err error, d Deferral) error {
	if err == nil {
		return nil
	}
	return &deferralError{err, d}
}

type deferralError struct {
	error
	deferral Deferral
}

func (e *deferralError) Unwrap() error { return e.error }

// ParkAfter is the longest wait for which a task keeps its place at the server's retry policy. A failure that asks for a longer
// one with [WithRetryAfter] is a deferral.
const ParkAfter = time.Minute

// DeferralOf is the deferral that an error asks for: that of [WithDeferral], or of a failure that is tried again and asked for a
// wait longer than [ParkAfter]. F is the failure that err was classified as.
func DeferralOf(err error, f *Failure) (d Deferral, ok bool) {
	defer func() {
		if recover() != nil { // the error of an author
			d, ok = Deferral{}, false
		}
	}()
	each(err, func(e error) bool {
		if m, is := e.(*deferralError); is {
			d, ok = m.deferral, true
		}
		return !ok
	})
	if !ok && f != nil && !f.Class.final() && f.RetryAfter > ParkAfter {
		d, ok = Deferral{For: f.RetryAfter, Reason: fmt.Sprintf("asked for %s by the error", short(f.RetryAfter))}, true
	}
	if ok && d.For <= 0 {
		d.For = time.Second
	}
	return d, ok
}

// Defers is the deferral that a failed attempt of a step with these policies ends in. A wait that a failure asked for counts only if
// the failure is tried again at all: not with one attempt, nor when its class is not tried again or RetryIf refuses. CodeFailures is how many attempts
// had failed by the code's fault before.
func (s Spec) Defers(f *Failure, err error, retryIf func(error) bool, codeFailures int) (Deferral, bool) {
	if d, marked := DeferralOf(err, nil); marked {
		return d, true
	}
	if f == nil {
		return Deferral{}, false
	}
	within := *f
	wait, reason := s.asked(f.RetryAfter)
	within.RetryAfter = wait
	d, asked := DeferralOf(err, &within)
	d.Reason = reason
	if !asked || s.MaximumAttempts <= 1 || !s.Decide(f, err, retryIf, min(codeFailures+1, s.MaximumAttempts-1), nil).Retry {
		return Deferral{}, false
	}
	return d, true
}
