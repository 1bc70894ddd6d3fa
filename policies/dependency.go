package policies

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Dependency is a service that a step calls, with what protects it and those who call it: a circuit breaker, a budget for
// retries, a throttle. It is a step's option, and a part of the settings of clients such as activities/predict. All workers of
// a Temporal namespace share what they know about a dependency.
//
//	flow.Step("score", score, policies.Dependency{
//		Name:    "model",
//		Breaker: policies.Breaker{Failures: 5},
//		Budget:  policies.Budget{Percent: 20},
//	})
//
// As a step's option it is asked once for each attempt, and learns how the whole attempt ended. A client asks for each call.
// With nothing but a name it groups: the tasks of a run whose steps give the same name are held back together when one of
// them has to wait, see [Deferral].
type Dependency struct {
	// Name is the durable name of the service: a letter or digit, then up to 127 letters, digits, '.', '_' or '-'. Steps of
	// any flow that give the same one share its state. Where they give it other settings, those that were given last hold; a
	// part that one of them leaves out stays as the others gave it.
	Name     string   `json:"name"`
	Breaker  Breaker  `json:"breaker,omitzero"`
	Budget   Budget   `json:"budget,omitzero"`
	Throttle Throttle `json:"throttle,omitzero"`
}

// StepOption makes Dependency an option of a step.
func (Dependency) StepOption() {}

// Breaker stops calls to a service that fails. The zero value never does.
//
// It opens when, within Window, Failures calls have failed with no good one among them: the service is gone. It opens, too, when
// within Window at least Failures calls have failed that are at least Percent of all: a few failures among thousands of good calls do
// not stop the rest. While it is open, calls are refused with a [Deferral]. After Cooldown one call is let through, the probe: when it
// succeeds the breaker closes and forgets what was, else it stays open for another Cooldown. A probe of which nothing is heard,
// because its worker was killed, gives its place up after Cooldown, or after ten seconds where Cooldown is shorter.
//
// A breaker is opened for all workers when that holds for the calls of all. A worker whose calls alone fail stops by itself: the
// trouble is its own.
//
// The rules are those of failsafe-go (WithFailureThreshold, WithFailureRateThreshold) with exactly one call in the half-open
// state. Which classes of failures count is said at [Class.Blames].
type Breaker struct {
	// Failures is how many failures within Window open the breaker. Zero means that there is no breaker.
	Failures int
	// Percent is the share of the calls within Window that must have failed, too, when there are good ones among them, up to 100. Zero
	// means 50.
	Percent float64
	// Window is how far back calls count. Zero means 30 seconds.
	Window time.Duration
	// Cooldown is how long the breaker stays open before one call probes the service. Zero means 5 seconds.
	Cooldown time.Duration
}

// Budget bounds retries: when a service is down, retries multiply its load. As an option of a step of its own it is a budget of
// the run: all steps of the run that have one share it. The zero value sets no bound.
//
// A retry is allowed while the retries within Window, this one included, are no more than Percent of the first tries within
// Window, or no more than Minimum. One that is not ends the task with class OverBudget. The idea is that of the Google SRE book,
// "Handling Overload", which keeps the share of retries below 10%. While the breaker of the same Dependency is open, retries are
// allowed and do not count, as the breaker lets one call through at a time; those within a step that probes it do count.
type Budget struct {
	// Percent is how many retries there may be for a hundred first tries within Window. Zero means that there is no budget.
	Percent float64
	// Minimum is how many retries are allowed in any case within Window. Zero means 10, a negative value none.
	Minimum int
	// Window is how far back tries count. Zero means a minute.
	Window time.Duration
}

// StepOption makes Budget an option of a step.
func (Budget) StepOption() {}

// Throttle slows calls down before a service fails for good: with each refused call the share of calls that are let through
// shrinks. The zero value does nothing.
//
// It refuses a call with the probability of the Google SRE book, "Handling Overload":
//
//	max(0, (requests - K*accepts) / (requests + 1))    K = 1 / (1 - Percent/100)
//
// Requests are the calls within Window that ended or were refused here, accepts those that the service answered; it
// refuses at most 90%, so that it sees the service come back, and none before the tenth. The book's K of 2 is Percent 50. Requests
// for fewer calls (class RateLimited) count as failures here.
type Throttle struct {
	// Percent is the share of calls that may fail within Window before calls are refused, below 100. Zero means that there is
	// no throttle.
	Percent float64
	// Window is how far back calls count. Zero means 30 seconds.
	Window time.Duration
}

// Defaults of what guards a dependency.
const (
	defaultBreakerPercent = 50
	defaultBreakerWindow  = 30 * time.Second
	defaultCooldown       = 5 * time.Second
	defaultBudgetMinimum  = 10
	defaultBudgetWindow   = time.Minute
	defaultThrottleWindow = 30 * time.Second
)

// WithDefaults returns a copy with every field that matters filled in. A part that does nothing becomes its zero value, a Minimum of
// none -1.
func (d Dependency) WithDefaults() Dependency {
	if b := &d.Breaker; b.Failures > 0 {
		b.Percent = or(b.Percent, defaultBreakerPercent)
		b.Window, b.Cooldown = or(b.Window, defaultBreakerWindow), or(b.Cooldown, defaultCooldown)
	} else {
		*b = Breaker{}
	}
	if b := &d.Budget; b.Percent > 0 {
		b.Minimum, b.Window = max(or(b.Minimum, defaultBudgetMinimum), -1), or(b.Window, defaultBudgetWindow)
	} else {
		*b = Budget{}
	}
	if t := &d.Throttle; t.Percent > 0 {
		t.Window = or(t.Window, defaultThrottleWindow)
	} else {
		*t = Throttle{}
	}
	return d
}

// Validate reports everything in the settings that makes no sense, as one joined error in the order of the fields. It returns nil
// for sound ones. A flow's Check calls it for the options of steps; clients call it for their own settings.
func (d Dependency) Validate() error {
	var errs []error
	d.validate(func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) })
	return errors.Join(errs...)
}

func (d Dependency) validate(bad func(string, ...any)) {
	if !legalKey.MatchString(d.Name) {
		bad("dependency: Name %q is not allowed (use a letter or digit, then up to 127 letters, digits, '.', '_' or '-')", d.Name)
	}
	d.Breaker.validate(bad)
	if d.Budget != (Budget{}) {
		d.Budget.validate(bad, "dependency: Budget")
	}
	d.Throttle.validate(bad)
}

func (b Breaker) validate(bad func(string, ...any)) {
	const what = "dependency: Breaker"
	switch {
	case b.Failures < 0:
		bad("%s: Failures is %d (use 1 or more)", what, b.Failures)
	case b.Failures == 0 && b != (Breaker{}):
		bad("%s has no Failures, so it never opens (set how many failures open it)", what)
	}
	checkPercent(bad, what, b.Percent, 100)
	checkDuration(bad, what+": Window", b.Window)
	checkDuration(bad, what+": Cooldown", b.Cooldown)
}

func (b Budget) validate(bad func(string, ...any), what string) {
	if b.Percent == 0 {
		bad("%s has no Percent, so it bounds nothing (use 20 for a retry to five first tries)", what)
	}
	checkPercent(bad, what, b.Percent, math.MaxFloat64)
	checkDuration(bad, what+": Window", b.Window)
}

func (t Throttle) validate(bad func(string, ...any)) {
	const what = "dependency: Throttle"
	if t.Percent == 0 && t != (Throttle{}) {
		bad("%s has no Percent, so it does nothing (use 50 to begin when half of the calls fail)", what)
	}
	if t.Percent == 100 {
		bad("%s: Percent is 100, so it does nothing (use 50 to begin when half of the calls fail)", what)
	}
	checkPercent(bad, what, t.Percent, 100)
	checkDuration(bad, what+": Window", t.Window)
}

func checkPercent(bad func(string, ...any), what string, p, most float64) {
	if !(p >= 0 && p <= most) {
		limit := ""
		if most == 100 {
			limit = " and at most 100"
		}
		bad("%s: Percent is %v (use 0 or more%s; 20 is a fifth)", what, p, limit)
	}
}

// String is like "model: opens for 5s at 5 failures and 50% within 30s; 20% retries within 1m, at least 10".
func (d Dependency) String() string {
	d = d.WithDefaults()
	var parts []string
	if d.Breaker != (Breaker{}) {
		parts = append(parts, d.Breaker.String())
	}
	if d.Budget != (Budget{}) {
		parts = append(parts, d.Budget.String())
	}
	if d.Throttle != (Throttle{}) {
		parts = append(parts, d.Throttle.String())
	}
	if len(parts) == 0 {
		return d.Name
	}
	return d.Name + ": " + strings.Join(parts, "; ")
}

// String is like "opens for 5s at 5 failures and 50% within 30s".
func (b Breaker) String() string {
	b = Dependency{Breaker: b}.WithDefaults().Breaker
	if b == (Breaker{}) {
		return "no breaker"
	}
	failures := "failures"
	if b.Failures == 1 {
		failures = "failure"
	}
	return fmt.Sprintf("opens for %s at %d %s and %s%% within %s", short(b.Cooldown), b.Failures, failures, percent(b.Percent), short(b.Window))
}

// String is like "20% retries within 1m, at least 10".
func (b Budget) String() string {
	b = Dependency{Budget: b}.WithDefaults().Budget
	if b == (Budget{}) {
		return "no budget"
	}
	return fmt.Sprintf("%s%% retries within %s, at least %d", percent(b.Percent), short(b.Window), max(b.Minimum, 0))
}

// String is like "throttles beyond 50% failures within 30s".
func (t Throttle) String() string {
	t = Dependency{Throttle: t}.WithDefaults().Throttle
	if t == (Throttle{}) {
		return "no throttle"
	}
	return fmt.Sprintf("throttles beyond %s%% failures within %s", percent(t.Percent), short(t.Window))
}

// percent writes 20 and 12.5 as they are.
func percent(p float64) string { return strconv.FormatFloat(p, 'g', 4, 64) }

type breakerJSON struct {
	Failures int      `json:"failures,omitzero"`
	Percent  float64  `json:"percent,omitzero"`
	Window   duration `json:"window,omitzero"`
	Cooldown duration `json:"cooldown,omitzero"`
}

// MarshalJSON writes the durations as text, such as "1m30s", and leaves zero fields out.
func (b Breaker) MarshalJSON() ([]byte, error) {
	return json.Marshal(breakerJSON{b.Failures, b.Percent, duration(b.Window), duration(b.Cooldown)})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (b *Breaker) UnmarshalJSON(text []byte) error {
	var in breakerJSON
	if err := json.Unmarshal(text, &in); err != nil {
		return err
	}
	*b = Breaker{in.Failures, in.Percent, time.Duration(in.Window), time.Duration(in.Cooldown)}
	return nil
}

type budgetJSON struct {
	Percent float64  `json:"percent,omitzero"`
	Minimum int      `json:"minimum,omitzero"`
	Window  duration `json:"window,omitzero"`
}

// MarshalJSON writes the duration as text, such as "1m30s", and leaves zero fields out.
func (b Budget) MarshalJSON() ([]byte, error) {
	return json.Marshal(budgetJSON{b.Percent, b.Minimum, duration(b.Window)})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (b *Budget) UnmarshalJSON(text []byte) error {
	var in budgetJSON
	if err := json.Unmarshal(text, &in); err != nil {
		return err
	}
	*b = Budget{in.Percent, in.Minimum, time.Duration(in.Window)}
	return nil
}

type throttleJSON struct {
	Percent float64  `json:"percent,omitzero"`
	Window  duration `json:"window,omitzero"`
}

// MarshalJSON writes the duration as text, such as "1m30s", and leaves zero fields out.
func (t Throttle) MarshalJSON() ([]byte, error) {
	return json.Marshal(throttleJSON{t.Percent, duration(t.Window)})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (t *Throttle) UnmarshalJSON(text []byte) error {
	var in throttleJSON
	if err := json.Unmarshal(text, &in); err != nil {
		return err
	}
	*t = Throttle{in.Percent, time.Duration(in.Window)}
	return nil
}

// Blame is what a failure says about the service that was called.
type Blame int

// What failures say.
const (
	// Nothing means that the failure says nothing about the service: the call does not count.
	Nothing Blame = iota
	// Answered means that the service answered, and that calling it again with the same would not change it.
	Answered
	// Slowed means that the service answered that there are too many calls. It counts for a throttle, not for a breaker.
	Slowed
	// Failed means that the service failed. It counts for both.
	Failed
)

// Blames says what a failure of a class says about the service that was called:
//
//   - Transient, Timeout and Unknown: it failed. Unknown, too: few client libraries have errors that a rule knows, and a breaker
//     that therefore never opens would go unnoticed.
//   - RateLimited: it is there, and asks for fewer calls. A breaker would punish callers that have room left.
//   - Invalid, Denied, Permanent: it answered.
//   - Bug, OutOfMemory, Lost, Cancelled, OverBudget: nothing. The trouble is on this side.
func (c Class) Blames() Blame {
	switch c {
	case Transient, TimedOut, Unknown:
		return Failed
	case RateLimited:
		return Slowed
	case Invalid, Denied, Permanent:
		return Answered
	case Bug, OutOfMemory, Lost, Cancelled, OverBudget:
		return Nothing
	default:
		return Failed // read as Unknown
	}
}
