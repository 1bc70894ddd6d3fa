package policies

import "time"

// Dependency is a service that a step calls, with what protects it and those who call it: a circuit breaker, a budget for
// retries, a throttle. It is a step's option, and a part of the settings of clients such as activities/predict. All workers of
// a Temporal namespace share what they know about a dependency.
type Dependency struct {
	// Name is the durable name of the service. Steps of any flow that give the same one share its state.
	Name     string   `json:"name"`
	Breaker  Breaker  `json:"breaker,omitzero"`
	Budget   Budget   `json:"budget,omitzero"`
	Throttle Throttle `json:"throttle,omitzero"`
}

// StepOption makes Dependency an option of a step.
func (Dependency) StepOption() {}

// Breaker stops calls to a service that fails. The zero value never does.
type Breaker struct {
	// Failures is how many failures within Window open the breaker. Zero means that there is no breaker.
	Failures int
	// Percent is the share of the calls within Window that must have failed, too. Zero means 50.
	Percent float64
	// Window is how far back calls count. Zero means 30 seconds.
	Window time.Duration
	// Cooldown is how long the breaker stays open before one call probes the service. Zero means 5 seconds.
	Cooldown time.Duration
}

// Budget bounds retries: when a service is down, retries multiply its load. As an option of a step of its own it is a budget of
// the run: all steps of the run that have one share it. The zero value sets no bound.
type Budget struct {
	// Percent is how many retries there may be for a hundred first tries within Window. Zero means that there is no budget.
	Percent float64
	// Minimum is how many retries are allowed in any case within Window. Zero means 10.
	Minimum int
	// Window is how far back tries count. Zero means a minute.
	Window time.Duration
}

// StepOption makes Budget an option of a step.
func (Budget) StepOption() {}

// Throttle slows calls down before a service fails for good: with each refused call the share of calls that are let through
// shrinks. The zero value does nothing.
type Throttle struct {
	// Percent is the share of calls that may fail within Window before calls are refused. Zero means that there is no throttle.
	Percent float64
	// Window is how far back calls count. Zero means 30 seconds.
	Window time.Duration
}

func (d Dependency) validate(bad func(string, ...any)) {
	if !legalKey.MatchString(d.Name) {
		bad("dependency: Name %q is not allowed (use a letter or digit, then up to 127 letters, digits, '.', '_' or '-')", d.Name)
	}
	d.Budget.validate(bad, "dependency: Budget")
}

func (b Budget) validate(bad func(string, ...any), what string) {
	if b.Percent < 0 {
		bad("%s: Percent is %v (use 20 for a retry to five first tries)", what, b.Percent)
	}
}
