package guard

import (
	"errors"
	"sync"
	"time"

	"github.com/stepwell-flows/stepwell/policies"
)

// Question is what a process asks another one that knows the dependencies, see [Options.Ask].
type Question struct {
	// Kind is "begin", "retry" or "end".
	Kind     string              `json:"kind"`
	Key      string              `json:"key,omitempty"`
	Settings policies.Dependency `json:"settings,omitzero"`
	// Retry is of Begin, Call and Failure of End.
	Retry   bool              `json:"retry,omitempty"`
	Call    int64             `json:"call,omitempty"`
	Failure *policies.Failure `json:"failure,omitempty"`
}

// Reply answers a question.
type Reply struct {
	// Call names the call that may be made.
	Call int64 `json:"call,omitempty"`
	// Refused is set if it may not: the fields of a RefusedError.
	Refused    bool          `json:"refused,omitempty"`
	Dependency string        `json:"dependency,omitempty"`
	For        time.Duration `json:"for_ns,omitempty"`
	Alone      bool          `json:"alone,omitempty"`
	// Reason is why, OverBudget that it is a retry too many.
	Reason     string `json:"reason,omitempty"`
	OverBudget bool   `json:"over_budget,omitempty"`
}

func (r Reply) err() error {
	switch {
	case r.Refused:
		return refusal(&RefusedError{Dependency: r.Dependency, For: r.For, Reason: r.Reason, Alone: r.Alone})
	case r.OverBudget:
		return policies.WithClass(errors.New(r.Reason), policies.OverBudget)
	}
	return nil
}

// Desk answers the questions of one other process. It is safe for concurrent use.
type Desk struct {
	registry *Registry

	mu    sync.Mutex
	calls map[int64]*Call
	last  int64
}

// NewDesk returns a desk that answers with what r knows.
func NewDesk(r *Registry) *Desk { return &Desk{registry: r, calls: map[int64]*Call{}} }

// Answer answers a question. It may take as long as the method that was called.
func (d *Desk) Answer(q Question) Reply {
	switch q.Kind {
	case "begin":
		call, err := d.registry.get(q.Key, q.Settings).Begin(q.Retry)
		if err != nil {
			return replyOf(err)
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		d.last++
		d.calls[d.last] = call
		return Reply{Call: d.last}
	case "retry":
		if err := d.registry.get(q.Key, q.Settings).AllowRetry(); err != nil {
			return replyOf(err)
		}
	case "end":
		d.mu.Lock()
		call := d.calls[q.Call]
		delete(d.calls, q.Call)
		d.mu.Unlock()
		call.End(q.Failure)
	}
	return Reply{}
}

func replyOf(err error) Reply {
	if e, ok := errors.AsType[*RefusedError](err); ok {
		return Reply{Refused: true, Dependency: e.Dependency, For: e.For, Reason: e.Reason, Alone: e.Alone}
	}
	return Reply{OverBudget: true, Reason: err.Error()}
}

// Close ends the calls that the other process has left open: how they ended is not known.
func (d *Desk) Close() {
	d.mu.Lock()
	calls := d.calls
	d.calls = map[int64]*Call{}
	d.mu.Unlock()
	for _, call := range calls {
		call.End(&policies.Failure{Class: policies.Cancelled})
	}
}

// elsewhere asks the process that knows; ok is false if that is this one.
func (d *Dependency) elsewhere(q Question) (Reply, bool) {
	ask := d.registry.options.Ask
	if ask == nil {
		return Reply{}, false
	}
	q.Key, q.Settings = d.key, d.settings()
	return ask(q), true
}

func (d *Dependency) settings() policies.Dependency {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state.Settings
}
