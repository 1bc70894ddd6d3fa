package policies

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

var errNoCatch = errors.New("catch has no function (give policies.Catch one)")

// Spec is a step's policies as plain data, with the defaults filled in: what the plan of a flow
// carries. Make one with [NewSpec]. It is immutable by convention and safe for concurrent use.
type Spec struct {
	// The fields of Retry; see there. Lost is the number that is tolerated: 0 means none here.
	MaximumAttempts    int           `json:"maximum_attempts"`
	InitialInterval    time.Duration `json:"-"`
	BackoffCoefficient float64       `json:"backoff_coefficient"`
	MaximumInterval    time.Duration `json:"-"`
	Jitter             Jitter        `json:"jitter"`
	MaximumRetryAfter  time.Duration `json:"-"`
	NonRetryable       []string      `json:"non_retryable,omitempty"`
	Lost               int           `json:"lost"`
	// HasRetryIf says that the step has a Retry.RetryIf function.
	HasRetryIf bool `json:"has_retry_if,omitempty"`

	// Exhausted says what happens when the task has failed for good.
	Exhausted Exhausted `json:"exhausted,omitzero"`

	// Timeout is the step's timeouts, zero where the step sets none.
	Timeout Timeout `json:"timeout,omitzero"`
	// Catch says that the step has a catch function.
	Catch bool `json:"catch,omitempty"`
	// Limit is the step's limit, zero where the step has none. See [Spec.Limited].
	Limit Limit `json:"limit,omitzero"`
	// Dependency is the service that the step calls, nil if it has none.
	Dependency *Dependency `json:"dependency,omitempty"`
	// Budget is the step's share in the run's budget for retries, nil if it has none.
	Budget *Budget `json:"budget,omitempty"`
	// Escalate is the step's ladder, nil if it has none.
	Escalate *Escalate `json:"escalate,omitempty"`

	mistakes mistakes
}

// mistakes are what shows only in the policies as they were given. They do not travel.
type mistakes struct {
	retry, timeout, catch, limit error
}

// NewSpec resolves a step's policies; nil stands for a policy that the step does not have. It
// keeps what makes no sense as it is, for [Spec.Validate] to report.
func NewSpec(r *Retry, t *Timeout, c *CatchPolicy) Spec {
	if r == nil {
		r = &Retry{}
	}
	s := Spec{
		MaximumAttempts:    or(r.MaximumAttempts, defaultAttempts),
		InitialInterval:    or(r.InitialInterval, defaultInterval),
		BackoffCoefficient: or(r.BackoffCoefficient, defaultCoefficient),
		MaximumInterval:    r.MaximumInterval,
		Jitter:             r.Jitter,
		MaximumRetryAfter:  or(r.MaximumRetryAfter, defaultRetryAfter),
		NonRetryable:       append([]string(nil), r.NonRetryable...), // nil when empty, as after JSON
		Lost:               max(or(r.Lost, defaultLost), 0),
		HasRetryIf:         r.RetryIf != nil,
		Exhausted:          r.Exhausted,
		Catch:              c != nil,
	}
	if s.MaximumInterval == 0 {
		s.MaximumInterval = defaultMaximumInterval(s.InitialInterval)
	}
	if r.MaximumAttempts == 0 {
		if set := idleFields(r); len(set) > 0 {
			s.mistakes.retry = fmt.Errorf("retry sets %s but not MaximumAttempts, so there is one attempt only (set MaximumAttempts, the first try included)", strings.Join(set, ", "))
		}
	}
	if t != nil {
		s.Timeout = *t
		if *t == (Timeout{}) {
			s.mistakes.timeout = errors.New("timeout sets no duration (set Attempt, Total, Queue or Heartbeat, or leave it out)")
		}
	}
	if c != nil && c.call == nil {
		s.mistakes.catch = errNoCatch
	}
	return s
}

func defaultMaximumInterval(initial time.Duration) time.Duration {
	return toDuration(defaultMaximum * float64(initial))
}

func or[T comparable](v, ifZero T) T {
	var zero T
	if v == zero {
		return ifZero
	}
	return v
}

// idleFields names the fields that do nothing when there is one attempt only.
func idleFields(r *Retry) []string {
	var set []string
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"InitialInterval", r.InitialInterval != 0},
		{"BackoffCoefficient", r.BackoffCoefficient != 0},
		{"MaximumInterval", r.MaximumInterval != 0},
		{"Jitter", r.Jitter != 0},
		{"MaximumRetryAfter", r.MaximumRetryAfter != 0},
		{"NonRetryable", len(r.NonRetryable) > 0},
		{"RetryIf", r.RetryIf != nil},
	} {
		if f.set {
			set = append(set, f.name)
		}
	}
	return set
}

// Validate reports everything in the policies that makes no sense, as one joined error in the
// order of the fields. It returns nil for sound policies.
func (s Spec) Validate() error {
	errs := []error{s.mistakes.retry}
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	if s.MaximumAttempts < 1 {
		bad("retry: MaximumAttempts is %d (use 1 or more, the first try included)", s.MaximumAttempts)
	}
	checkDuration(bad, "retry: InitialInterval", s.InitialInterval)
	if !(s.BackoffCoefficient >= 1) || math.IsInf(s.BackoffCoefficient, 0) {
		bad("retry: BackoffCoefficient is %v (use 1 for equal waits, 2 for doubling ones)", s.BackoffCoefficient)
	}
	if s.MaximumInterval != defaultMaximumInterval(s.InitialInterval) { // else nobody wrote it
		checkDuration(bad, "retry: MaximumInterval", s.MaximumInterval)
	}
	if s.InitialInterval > 0 && s.MaximumInterval > 0 && s.MaximumInterval < s.InitialInterval {
		bad("retry: MaximumInterval %s is shorter than InitialInterval %s (make it longer or leave it out)", s.MaximumInterval, s.InitialInterval)
	}
	if int(s.Jitter) >= len(jitterNames) {
		bad("retry: %s is not a jitter (use FullJitter, EqualJitter or NoJitter)", s.Jitter)
	}
	checkDuration(bad, "retry: MaximumRetryAfter", s.MaximumRetryAfter)
	for _, name := range s.NonRetryable {
		pkg, typ, qualified := strings.Cut(name, ".")
		switch {
		case strings.TrimSpace(name) != name || name == "":
			bad("retry: NonRetryable has the name %q (use a class or the Go type of an error)", name)
		case strings.HasPrefix(name, "*"):
			bad("retry: NonRetryable has the name %q (leave out the *: types are named without pointers)", name)
		case qualified && !strings.Contains(pkg, "["):
			bad("retry: NonRetryable has the name %q (write %q: types are named without their package)", name, typ)
		case Lost.named(name):
			bad("retry: NonRetryable names the class Lost, which has its own budget (set Lost to -1)")
		}
	}

	if int(s.Exhausted) >= len(exhaustedNames) {
		bad("retry: %s is not known (use Fail or Pause)", s.Exhausted)
	}

	t := s.Timeout
	errs = append(errs, s.mistakes.timeout)
	checkDuration(bad, "timeout: Attempt", t.Attempt)
	checkDuration(bad, "timeout: Total", t.Total)
	checkDuration(bad, "timeout: Queue", t.Queue)
	checkDuration(bad, "timeout: Heartbeat", t.Heartbeat)
	if t.Total > 0 {
		if t.Attempt > t.Total {
			bad("timeout: Attempt %s is longer than Total %s, which covers all attempts (make Total longer)", t.Attempt, t.Total)
		}
		if t.Queue > t.Total {
			bad("timeout: Queue %s is longer than Total %s, which covers the wait for a worker (make Total longer)", t.Queue, t.Total)
		}
		if t.Heartbeat > t.Total {
			bad("timeout: Heartbeat %s is longer than Total %s, so a lost worker would be noticed too late (make it shorter)", t.Heartbeat, t.Total)
		}
		if s.MaximumAttempts > 1 && s.InitialInterval >= t.Total {
			bad("timeout: Total %s leaves no time for a second attempt after InitialInterval %s (make Total longer)", t.Total, s.InitialInterval)
		}
	}
	errs = append(errs, s.mistakes.catch, s.mistakes.limit)
	s.Limit.validate(bad)
	if s.Dependency != nil {
		s.Dependency.validate(bad)
	}
	if s.Budget != nil {
		s.Budget.validate(bad, "budget")
	}
	if s.Escalate != nil {
		s.Escalate.validate(bad)
	}
	return errors.Join(errs...)
}

// checkDuration refuses negative durations and numbers without a unit: InitialInterval: 2 is two
// nanoseconds.
func checkDuration(bad func(string, ...any), name string, d time.Duration) {
	switch {
	case d < 0:
		bad("%s is %s (durations cannot be negative)", name, d)
	case d > 0 && d < time.Millisecond:
		bad("%s is %s (a number needs a unit, such as %d*time.Second)", name, d, d.Nanoseconds())
	}
}

type plainSpec Spec

type specJSON struct {
	plainSpec
	InitialInterval duration `json:"initial_interval"`
	MaximumInterval duration `json:"maximum_interval"`
	// Left out if it is the default: plans of before this field have none.
	MaximumRetryAfter duration `json:"maximum_retry_after,omitzero"`
}

// MarshalJSON writes durations as text, such as "2m0s".
func (s Spec) MarshalJSON() ([]byte, error) {
	out := specJSON{plainSpec: plainSpec(s), InitialInterval: duration(s.InitialInterval), MaximumInterval: duration(s.MaximumInterval)}
	if s.MaximumRetryAfter != defaultRetryAfter {
		out.MaximumRetryAfter = duration(s.MaximumRetryAfter)
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (s *Spec) UnmarshalJSON(b []byte) error {
	var in specJSON
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	*s = Spec(in.plainSpec)
	s.InitialInterval, s.MaximumInterval = time.Duration(in.InitialInterval), time.Duration(in.MaximumInterval)
	s.MaximumRetryAfter = or(time.Duration(in.MaximumRetryAfter), defaultRetryAfter)
	return nil
}
