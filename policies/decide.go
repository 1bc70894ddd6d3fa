package policies

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// Decision is what follows a failed attempt.
type Decision struct {
	// Retry says that the task is tried again.
	Retry bool
	// Delay is the wait before the next attempt. Zero when there is none.
	Delay time.Duration
	// Reason says why, for people: "exponential 4s, full jitter drew 2.7s", "attempts spent (4 of 4)".
	Reason string
}

// Decide says whether a task is tried again after the failure f, and when.
//
// Err is the step's error that f was made from; nil means f itself. RetryIf is the step's
// Retry.RetryIf, or nil. CodeFailures is how many attempts failed by the code's fault, this one
// included. Random returns numbers in [0, 1); nil means the math/rand/v2 package's.
//
// The order: classes that are never tried again, NonRetryable, spent budgets, RetryIf. So RetryIf
// can refuse an attempt but never allow one. A lost attempt has its own budget and says nothing
// about the code: RetryIf is not asked, and the next attempt does not wait.
func (s Spec) Decide(f *Failure, err error, retryIf func(error) bool, codeFailures int, random func() float64) Decision {
	if f == nil {
		f = Classify(err)
	}
	if f == nil {
		return Decision{Reason: "nothing failed"}
	}
	if err == nil {
		err = f
	}
	if f.Class.final() {
		return Decision{Reason: fmt.Sprintf("class %s is not retried", f.Class)}
	}
	if name := s.listed(f, err); name != "" {
		return Decision{Reason: fmt.Sprintf("%q is listed in NonRetryable", name)}
	}
	if f.Class == Lost {
		reason := fmt.Sprintf("%d lost, %d tolerated", f.LostAttempts, s.Lost)
		if f.LostAttempts > s.Lost {
			return Decision{Reason: "lost attempts spent (" + reason + ")"}
		}
		return Decision{Retry: true, Reason: "a lost attempt is made up for at once (" + reason + ")"}
	}
	if limit := max(s.MaximumAttempts, 1); codeFailures >= limit {
		return Decision{Reason: fmt.Sprintf("attempts spent (%d of %d)", codeFailures, limit)}
	}
	if retryIf != nil {
		yes, panicked := ask(retryIf, err)
		if panicked != nil {
			return Decision{Reason: cut("RetryIf panicked: "+text(panicked), 200)}
		}
		if !yes {
			return Decision{Reason: "RetryIf refused"}
		}
	}
	delay, reason := s.delay(max(codeFailures, 1), f.RetryAfter, random)
	return Decision{Retry: true, Delay: delay, Reason: reason}
}

// listed returns the first name in NonRetryable that means this failure.
func (s Spec) listed(f *Failure, err error) string {
	for _, name := range s.NonRetryable {
		if f.Class.named(name) || f.Type == name || hasType(err, name) {
			return name
		}
	}
	return ""
}

// ask calls the author's function, which must not take the worker down.
func ask(retryIf func(error) bool, err error) (yes bool, panicked any) {
	defer func() { panicked = recover() }()
	return retryIf(err), nil
}

// backoff is the wait after code failure n before any jitter. Powers that overflow end at
// MaximumInterval.
func (s Spec) backoff(n int) time.Duration {
	wait := toDuration(float64(s.InitialInterval) * math.Pow(s.BackoffCoefficient, float64(n-1)))
	return max(min(wait, s.MaximumInterval), 0)
}

// asked is a wait that an error asked for, cut to MaximumRetryAfter, and its reason.
func (s Spec) asked(wait time.Duration) (time.Duration, string) {
	reason := fmt.Sprintf("asked for %s by the error", short(wait))
	if most := or(s.MaximumRetryAfter, defaultRetryAfter); wait > most {
		return most, fmt.Sprintf("%s, cut to %s (MaximumRetryAfter)", reason, short(most))
	}
	return wait, reason
}

// delay draws the wait after code failure n and says how it came about.
//
// The formulas are those of "Exponential Backoff And Jitter" (see [Jitter]). A wait that the error
// asked for is a lower bound, since a service that says 30 s refuses whoever comes earlier; jitter
// then only adds to it, by no more than the policy's own wait and no more than was asked for, so
// that a thousand tasks told the same number still spread.
func (s Spec) delay(n int, asked time.Duration, random func() float64) (time.Duration, string) {
	if random == nil {
		random = rand.Float64
	}
	draw := func(d time.Duration) time.Duration {
		return min(toDuration(unit(random())*float64(d)), d)
	}
	wait := s.backoff(n)
	if asked > 0 {
		asked, reason := s.asked(asked)
		spread := min(wait, asked)
		switch s.Jitter {
		case NoJitter:
			return asked, reason
		case EqualJitter:
			spread /= 2
		case FullJitter:
		}
		drawn := draw(spread)
		return plus(asked, drawn), fmt.Sprintf("%s, %s jitter added %s", reason, s.Jitter, short(drawn))
	}

	kind := "exponential"
	if s.BackoffCoefficient == 1 {
		kind = "constant"
	}
	base := kind + " " + short(wait)
	if wait == s.MaximumInterval && wait > s.InitialInterval {
		base += " (MaximumInterval)"
	}
	switch s.Jitter {
	case NoJitter:
		return wait, base + ", no jitter"
	case EqualJitter:
		half := wait / 2
		drawn := plus(wait-half, draw(half))
		return drawn, fmt.Sprintf("%s, equal jitter drew %s", base, short(drawn))
	default:
		drawn := draw(wait)
		return drawn, fmt.Sprintf("%s, full jitter drew %s", base, short(drawn))
	}
}

// unit forces what a random source returned into [0, 1].
func unit(x float64) float64 {
	if !(x > 0) { // NaN too
		return 0
	}
	return min(x, 1)
}
