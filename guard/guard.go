// Package guard protects the services that steps call, and those who call them: circuit breakers, budgets for retries and
// throttles, one of each for a dependency, shared by all workers.
package guard

import (
	"context"
	"time"

	"github.com/stepwell-flows/stepwell/policies"
)

// Options are the settings of a [Registry]. The zero value is ready.
type Options struct {
	// Now is the clock. Defaults to time.Now.
	Now func() time.Time
	// Random draws from [0,1). Defaults to math/rand/v2.
	Random func() float64
}

// Registry is what a process knows of dependencies. It is safe for concurrent use. Make one with [New].
type Registry struct{}

// New returns a registry.
func New(o Options) *Registry { return &Registry{} }

type contextKey struct{}

var local = New(Options{})

// NewContext returns a context whose [From] is r.
func NewContext(ctx context.Context, r *Registry) context.Context {
	return context.WithValue(ctx, contextKey{}, r)
}

// From is the registry of the worker that runs the step. Outside of a run it is one of the process.
func From(ctx context.Context) *Registry {
	if r, ok := ctx.Value(contextKey{}).(*Registry); ok {
		return r
	}
	return local
}

// Dependency is what guards one service. It is safe for concurrent use.
type Dependency struct{}

// Dependency returns the guard of a service. Where settings differ, those that were given last hold.
func (r *Registry) Dependency(d policies.Dependency) *Dependency { return &Dependency{} }

// Run returns the guard that keeps the budget of a run.
func (r *Registry) Run(flow, run string, b policies.Budget) *Dependency { return &Dependency{} }

// Begin asks whether a call may be made. It must be followed by the End of what it returns. Retry says that the call repeats one
// that failed. An error says why not, and when to ask again: it has class Transient and is marked with a [policies.Deferral].
func (d *Dependency) Begin(retry bool) (*Call, error) { return &Call{}, nil }

// AllowRetry asks whether a call that failed may be repeated. An error has class OverBudget.
func (d *Dependency) AllowRetry() error { return nil }

// Call is a call that was let through.
type Call struct{}

// End tells how the call ended: nil is a success. Failures that say nothing about the service, such as an invalid input, are
// successes, too: it answered.
func (c *Call) End(f *policies.Failure) {}
