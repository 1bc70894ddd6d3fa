// Package guard protects the services that steps call, and those who call them: circuit breakers, budgets for retries and
// throttles, one of each for a dependency, shared by all workers.
//
// A step that names a [policies.Dependency] is guarded as a whole by the worker. A client asks for each call:
//
//	d := guard.From(ctx).Dependency(policies.Dependency{Name: "model", Breaker: policies.Breaker{Failures: 5}})
//	call, err := d.Begin(false)
//	if err != nil {
//		return err // the task waits in its workflow and uses no attempt
//	}
//	err = send()
//	call.End(policies.Classify(err))
//
// # How workers share
//
// Each process decides by itself, at once, with what it knows. It reports what happened through its [Sharer], about once a second
// while there is something to tell and at once when a breaker opens or closes, and learns what all know together. Two things
// are lent instead of told: the place of the one call that probes an open breaker, and retries of a budget; a process waits up to
// 300 ms for those. Without a Sharer, or while it does not answer, a process goes by what itself has seen, and reports later.
package guard

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"maps"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stepwell-flows/stepwell/policies"
)

// Options are the settings of a [Registry]. The zero value is ready.
type Options struct {
	// Now is the clock. Defaults to time.Now.
	Now func() time.Time
	// Random draws from [0,1). Defaults to math/rand/v2.
	Random func() float64
	// Sharer connects the process with the others. Nil: it goes by what itself has seen.
	Sharer Sharer
	// Ask asks another process in place of this one, which then knows nothing by itself: see [Desk]. Defaults to nil.
	Ask func(Question) Reply
	// Worker names the process for people. A suffix makes it unique.
	Worker string
}

// Sharer takes a process's reports to where those of all processes come together. It must be safe for concurrent use. A report is
// given again, with the same Seq, when there was an error: it may have arrived.
type Sharer interface {
	Share(ctx context.Context, r Report) (Answer, error)
}

// Registry is what a process knows of dependencies. It is safe for concurrent use. Make one with [New].
type Registry struct {
	options Options
	// reports counts the reports about all dependencies: one that was forgotten and is used again goes on from there.
	reports atomic.Int64
	closed  atomic.Bool

	mu   sync.Mutex
	all  map[string]*Dependency
	more int // how many there may be until idle ones are looked for

	// Of one that Within returned: outer is the one that knows, and probe the call.
	outer *Registry
	probe *Call
}

// New returns a registry.
func New(o Options) *Registry {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Random == nil {
		o.Random = mathrand.Float64
	}
	var suffix [3]byte
	_, _ = rand.Read(suffix[:]) // it never fails
	if o.Worker == "" {
		o.Worker = "worker"
	}
	o.Worker += "#" + hex.EncodeToString(suffix[:])
	return &Registry{options: o, all: map[string]*Dependency{}, more: 100}
}

// Within returns the registry for what goes on within a call, a step's attempt say. While the call probes a breaker, calls in it to
// the same service are a part of it: none of them is held, and only how the whole call ends counts.
func (r *Registry) Within(c *Call) *Registry {
	if c == nil || !c.probe {
		return r
	}
	return &Registry{outer: r, probe: c}
}

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

// Close ends the reports. What was not told yet is lost. The registry can still be used, and goes by what itself has seen.
func (r *Registry) Close() { r.closed.Store(true) }

// Dependency returns the guard of a service. Where settings differ, those that were given last hold; a part that they do not have
// stays as it is. With nothing but a name it is nil, which lets everything through.
func (r *Registry) Dependency(d policies.Dependency) *Dependency {
	if (policies.Dependency{Name: d.Name}) == d.WithDefaults() {
		return nil
	}
	return r.get(DependencyKey(d.Name), d)
}

// Run returns the guard that keeps the budget of a run.
func (r *Registry) Run(flow, run string, b policies.Budget) *Dependency {
	return r.get(RunKey(flow, run), policies.Dependency{Budget: b})
}

// DependencyKey is the key of a service.
func DependencyKey(name string) string { return "dependency/" + name }

// RunKey is the key of a run's budget.
func RunKey(flow, run string) string { return "budget/" + flow + "/" + run }

func (r *Registry) get(key string, settings policies.Dependency) *Dependency {
	if r.outer != nil {
		d := r.outer.get(key, settings)
		if key == r.probe.dependency.key {
			return &Dependency{outer: d}
		}
		return d
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	d, ok := r.all[key]
	if !ok {
		if len(r.all) >= r.more {
			now := r.options.Now()
			maps.DeleteFunc(r.all, func(_ string, d *Dependency) bool { return d.forgettable(now) })
			r.more = max(100, 2*len(r.all))
		}
		d = &Dependency{registry: r, key: key, sharing: sharing{resets: -1}}
		r.all[key] = d
	}
	d.use(settings.WithDefaults())
	return d
}
