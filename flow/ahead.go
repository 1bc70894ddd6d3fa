package flow

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/policies"
)

// Ahead is what author's code decided about the shapes that follow a task, up to the next steps, by the shapes' names. The
// workflow cannot call that code, and so the task does when its function has ended.
type Ahead map[string]Decision

// Decision is what was decided about one shape.
type Decision struct {
	// Case is the index of the switch's node that runs, Value the case's value as text: "" for the else.
	Case  int    `json:"case,omitempty"`
	Value string `json:"value,omitempty"`
	// Again says that the loop takes another turn.
	Again bool `json:"again,omitempty"`
	// Items are those of the foreach.
	Items *List `json:"items,omitempty"`
}

// Binding is an item to be put into the state.
type Binding struct {
	// Foreach is the name of the shape whose item it is.
	Foreach string `json:"foreach"`
	List    List   `json:"list"`
	Item    int    `json:"item"`
}

// place is where a node stands in the flow.
type place struct {
	n      *node
	parent *place // nil for the root
	i      int    // in the nodes of the parent; -1 for a join
}

// locate finds the places of all tasks.
func (f *Flow) locate() map[string]*place {
	places := map[string]*place{}
	var visit func(p *place)
	visit = func(p *place) {
		if p.n.step != nil {
			places[p.n.name] = p
		}
		for i, child := range p.n.nodes {
			visit(&place{child, p, i})
		}
		if p.n.join != nil {
			visit(&place{p.n.join, p, -1})
		}
	}
	visit(&place{n: f.root})
	return places
}

// Ahead asks the author's code about the shapes between a task and the next steps. State is a *S as the task left it, which
// the code must not change. The items of a foreach are written to the store.
func (f *Flow) Ahead(ctx context.Context, store *artifacts.Store, task string, state any) (Ahead, error) {
	p := f.places[task]
	if p == nil {
		return nil, fmt.Errorf("flow %q has no step %q", f.name, task)
	}
	w := walker{ctx: ctx, store: store, state: state}
	if err := w.after(p); err != nil {
		return nil, err
	}
	return w.ahead, nil
}

// walker goes through the graph, from the end of a task to the next steps.
type walker struct {
	ctx   context.Context //nolint:containedctx // a walker lives as long as one call
	store *artifacts.Store
	state any
	ahead Ahead
}

func (w *walker) decide(n *node, d Decision) {
	if w.ahead == nil {
		w.ahead = Ahead{}
	}
	w.ahead[n.name] = d
}

// after goes on behind a node that has ended.
func (w *walker) after(p *place) error {
	for up := p.parent; up != nil; p, up = up, up.parent {
		switch {
		case p.i < 0: // the join ends the whole shape
		case up.n.kind == KindSeq:
			if stop, err := w.sequence(up.n.nodes[p.i+1:]); stop || err != nil {
				return err
			}
		case up.n.kind == KindLoop:
			if stop, err := w.into(up.n); stop || err != nil {
				return err
			}
		case up.n.kind == KindBranch, up.n.kind == KindForeach: // what follows is the join
			return nil
		}
	}
	return nil
}

func (w *walker) sequence(nodes []*node) (stop bool, _ error) {
	for _, n := range nodes {
		if stop, err := w.into(n); stop || err != nil {
			return stop, err
		}
	}
	return false, nil
}

// into goes into a node and says whether it came to a step.
func (w *walker) into(n *node) (stop bool, _ error) {
	switch n.kind {
	case KindSeq:
		return w.sequence(n.nodes)
	case KindBranch:
		for _, arm := range n.nodes {
			if _, err := w.into(arm); err != nil {
				return true, err
			}
		}
		return true, nil
	case KindForeach:
		list, err := writeList(w.ctx, w.store, n.name, n.shape.items(w.ctx, w.state), MaxItems)
		if err != nil {
			return true, err
		}
		w.decide(n, Decision{Items: &list})
		return true, nil
	case KindSwitch:
		i, err := n.shape.choose(w.state)
		if err != nil && !n.shape.orElse {
			return true, policies.WithClass(err, policies.Permanent)
		}
		d := Decision{Case: i}
		if i < len(n.shape.labels) {
			d.Value = n.shape.labels[i]
		}
		w.decide(n, d)
		return w.into(n.nodes[i])
	case KindLoop:
		again := n.shape.again(w.state)
		w.decide(n, Decision{Again: again})
		if !again {
			return false, nil
		}
		return w.into(n.nodes[0])
	default:
		return true, nil
	}
}

// Bind puts an item into the state, a *S.
func (f *Flow) Bind(ctx context.Context, items *Items, foreach string, i int, state any) error {
	s := f.shapes[foreach]
	if s == nil || s.bind == nil {
		return policies.WithClass(fmt.Errorf("flow %q has no foreach %q", f.name, foreach), policies.Permanent)
	}
	item := s.zero()
	if err := items.load(ctx, i, item); err != nil {
		return fmt.Errorf("foreach %q: %w", foreach, err)
	}
	before, err := f.paramEntries(state)
	if err != nil {
		return err
	}
	if err := guard(func() { s.bind(state, item) }); err != nil {
		return err
	}
	after, err := f.paramEntries(state)
	if err != nil {
		return err
	}
	for k, p := range f.params {
		if !before[k].Same(after[k]) {
			err := fmt.Errorf("foreach %q binds its item to parameter %q (parameters are read-only: bind it to another field)", foreach, p.Name)
			return policies.WithClass(err, policies.Permanent)
		}
	}
	return nil
}

// guard calls author's code and returns its panic as a failure.
func guard(call func()) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = policies.PanicFailure(v, debug.Stack())
		}
	}()
	call()
	return nil
}

// paramEntries says what the parameters in a state are.
func (f *Flow) paramEntries(state any) ([]artifacts.Entry, error) {
	entries := make([]artifacts.Entry, len(f.params))
	for i, p := range f.params {
		var err error
		if entries[i], err = p.field.Entry(state); err != nil {
			return nil, err
		}
	}
	return entries, nil
}
