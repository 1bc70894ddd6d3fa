package policies

import (
	"fmt"
	"time"
)

// Retry says how often and when a failed task is tried again. It is a step's option.
//
// The zero value means one attempt. The names are Temporal's: attempts are counted, not retries,
// so Metaflow's @retry(times=3, minutes_between_retries=2) and Modal's Retries(max_retries=3, …)
// both mean four attempts; the examples translate them.
//
// The wait after code failure n is
//
//	min(MaximumInterval, InitialInterval × BackoffCoefficient^(n-1))
//
// and then Jitter draws from it. A wait that the error asked for (see [WithRetryAfter]) replaces
// it and may be longer than MaximumInterval, up to MaximumRetryAfter.
//
// A Retry is copied when the step is defined; changing it later has no effect.
type Retry struct {
	// MaximumAttempts is how many attempts may fail by the code's fault, the first one included.
	// Zero means one. (Temporal reads zero as without end; for that, say math.MaxInt.)
	MaximumAttempts int
	// InitialInterval is the wait after the first code failure. Zero means one second.
	InitialInterval time.Duration
	// BackoffCoefficient is what each wait is multiplied by to give the next one, at least 1.
	// Zero means 2; 1 means that every wait is the same.
	BackoffCoefficient float64
	// MaximumInterval is the longest wait, at least InitialInterval. Zero means 100 × InitialInterval.
	MaximumInterval time.Duration
	// Jitter draws the wait, so that tasks that failed together do not come back together.
	// The zero value is FullJitter.
	Jitter Jitter
	// MaximumRetryAfter is the longest wait that an error may ask for; a longer one is cut to it.
	// Zero means one hour.
	MaximumRetryAfter time.Duration
	// NonRetryable names failures that are not tried again: class names ("Timeout", "Bug") and Go
	// types of errors without package and pointers ("NotFoundError"), anywhere in the error's chain.
	NonRetryable []string
	// RetryIf, when set, is asked about each failure that would be tried again; false ends the task.
	// It gets the step's error (a *Failure for a panic or a timeout) and must be a quick function
	// of it. A RetryIf that panics ends the task. Nil means yes.
	RetryIf func(error) bool
	// Lost is how many lost attempts are tolerated in addition to MaximumAttempts, before the task
	// fails with class Lost. Zero means five, a negative number none.
	Lost int
	// Exhausted says what happens when the task has failed for good. The zero value is Fail.
	Exhausted Exhausted
}

// StepOption makes Retry an option of a step.
func (Retry) StepOption() {}

// Defaults of Retry.
const (
	defaultAttempts    = 1
	defaultInterval    = time.Second
	defaultCoefficient = 2
	defaultMaximum     = 100 // times InitialInterval
	defaultRetryAfter  = time.Hour
	defaultLost        = 5
)

// Exhausted says what happens to a task that has failed for good: its attempts are spent, or its failure is one that is not
// tried again.
type Exhausted uint8

// What happens to a task that has failed for good.
const (
	// Fail runs the step's catch function and, without one, fails the task.
	Fail Exhausted = iota
	// Pause waits for a person, who lets the task be tried again (with "starter retry"), skips it (with "starter skip": the run
	// goes on from the state before the step) or lets it fail (with "starter fail"), as Fail does.
	Pause
)

var exhaustedNames = [...]string{Fail: "fail", Pause: "pause"}

// String returns "fail" or "pause".
func (e Exhausted) String() string {
	if int(e) < len(exhaustedNames) {
		return exhaustedNames[e]
	}
	return fmt.Sprintf("Exhausted(%d)", uint8(e))
}

// MarshalText writes the name.
func (e Exhausted) MarshalText() ([]byte, error) {
	if int(e) >= len(exhaustedNames) {
		return nil, fmt.Errorf("%s is not known (use Fail or Pause)", e)
	}
	return []byte(e.String()), nil
}

// UnmarshalText reads the name.
func (e *Exhausted) UnmarshalText(b []byte) error {
	for i, name := range exhaustedNames {
		if name == string(b) {
			*e = Exhausted(i)
			return nil
		}
	}
	return fmt.Errorf("%q is not known (use \"fail\" or \"pause\")", b)
}

// Jitter is how the wait before the next attempt is drawn. The zero value is FullJitter.
//
// Full and equal jitter are those of Marc Brooker, "Exponential Backoff And Jitter", AWS
// Architecture Blog, 2015: with cap = MaximumInterval and base = InitialInterval,
//
//	full:  sleep = random_between(0, min(cap, base * 2 ** attempt))
//	equal: temp = min(cap, base * 2 ** attempt); sleep = temp / 2 + random_between(0, temp / 2)
//
// where attempt counts from 0 and BackoffCoefficient stands for the 2. Full jitter spreads best
// and is right when many tasks fail together; equal jitter never comes back at once; no jitter is
// for a single task that must wait exactly.
type Jitter uint8

// The kinds of jitter.
const (
	// FullJitter draws between nothing and the whole wait.
	FullJitter Jitter = iota
	// EqualJitter keeps half of the wait and draws the other half.
	EqualJitter
	// NoJitter waits exactly as computed.
	NoJitter
)

var jitterNames = [...]string{FullJitter: "full", EqualJitter: "equal", NoJitter: "none"}

// String returns "full", "equal" or "none".
func (j Jitter) String() string {
	if int(j) < len(jitterNames) {
		return jitterNames[j]
	}
	return fmt.Sprintf("Jitter(%d)", uint8(j))
}

// MarshalText writes the name, so that plans are readable.
func (j Jitter) MarshalText() ([]byte, error) {
	if int(j) >= len(jitterNames) {
		return nil, fmt.Errorf("%s is not a jitter (use FullJitter, EqualJitter or NoJitter)", j)
	}
	return []byte(j.String()), nil
}

// UnmarshalText reads the name.
func (j *Jitter) UnmarshalText(b []byte) error {
	for i, name := range jitterNames {
		if name == string(b) {
			*j = Jitter(i)
			return nil
		}
	}
	return fmt.Errorf("%q is not a jitter (use \"full\", \"equal\" or \"none\")", b)
}
