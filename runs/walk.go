package runs

import (
	"context"
	"errors"
	"iter"
	"slices"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
)

// finished is a task that has a record.
type finished struct {
	at  *place
	x   flow.Index
	ref records.Ref
	rec *records.Task
}

// spot is where a task is, or would be.
type spot struct {
	at *place
	x  flow.Index
}

// find reads the record of a task, nil if it is not finished.
func (r *Run) find(ctx context.Context, p *place, x flow.Index) (*finished, error) {
	ref, rec, err := r.record(ctx, p, x)
	if errors.Is(err, artifacts.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &finished{p, x, ref, rec}, nil
}

// ending is the last task that a node has finished at an index of its own, nil if there is none.
func (r *Run) ending(ctx context.Context, p *place, x flow.Index) (*finished, error) {
	switch p.Kind {
	case flow.KindStep, flow.KindDecide:
		return r.find(ctx, p, x)
	case flow.KindBranch, flow.KindForeach:
		return r.find(ctx, p.join, x)
	case flow.KindLoop:
		return r.lastTurn(ctx, p, x)
	default: // of the cases of a switch, one ran
		for _, n := range slices.Backward(p.nodes) {
			if f, err := r.ending(ctx, n, x); f != nil || err != nil {
				return f, err
			}
		}
		return nil, nil
	}
}

// lastTurn is what the last turn of a loop that finished a task ended with. It looks at about as many turns as the number of turns
// has digits.
func (r *Run) lastTurn(ctx context.Context, loop *place, x flow.Index) (*finished, error) {
	turn := func(k int) (*finished, error) { return r.ending(ctx, loop.nodes[0], records.Within(x, k)) }
	last, err := turn(0)
	if last == nil || err != nil {
		return nil, err
	}
	low, high := 0, 1 // low has one; high is the first that is known not to
	for {
		f, err := turn(high)
		if err != nil {
			return nil, err
		}
		if f == nil {
			break
		}
		low, high, last = high, 2*high, f
	}
	for high-low > 1 {
		middle := (low + high) / 2
		f, err := turn(middle)
		switch {
		case err != nil:
			return nil, err
		case f == nil:
			high = middle
		default:
			low, last = middle, f
		}
	}
	return last, nil
}

// binding is an item that a task puts into its state first.
type binding struct {
	foreach *place
	item    int
}

// before is the task whose state a node starts from, nil if it starts the run or that task is not finished. Of the first node of an
// item it says which one.
func (r *Run) before(ctx context.Context, p *place, x flow.Index) (*finished, *binding, error) {
	up := p.parent
	if up == nil {
		return nil, nil, nil
	}
	if p.i < 0 { // a join starts from the state at the split
		return r.before(ctx, up, x)
	}
	n := len(x) - 1
	switch up.Kind {
	case flow.KindSeq:
		for k := p.i - 1; k >= 0; k-- {
			if f, err := r.ending(ctx, up.nodes[k], x); f != nil || err != nil {
				return f, nil, err
			}
		}
		return r.before(ctx, up, x)
	case flow.KindLoop:
		if x[n] > 0 {
			f, err := r.ending(ctx, p, records.Within(x[:n], x[n]-1))
			return f, nil, err
		}
		return r.before(ctx, up, x[:n])
	case flow.KindForeach:
		f, _, err := r.before(ctx, up, x[:n])
		return f, &binding{up, x[n]}, err
	default:
		return r.before(ctx, up, x)
	}
}

// after yields where the tasks are that start from a finished task: what comes next in the plan by what was decided at its end, and
// behind the arms or items of a split its join, which starts from it, too. Items come in their order.
func (f *finished) after() iter.Seq[spot] {
	return func(yield func(spot) bool) {
		(&ahead{decided: f.rec.Ahead, yield: yield}).leave(f.at, f.x)
	}
}

// Next yields the tasks that follow one by a plan and by what was decided at its end: a step and an index each.
func Next(plan flow.Plan, step string, x flow.Index, decided flow.Ahead) iter.Seq2[string, flow.Index] {
	return func(yield func(string, flow.Index) bool) {
		p := newGraph(plan).tasks[step]
		if p == nil || len(x) != len(p.around) {
			return
		}
		a := &ahead{decided: decided, yield: func(s spot) bool { return yield(s.at.Name, s.x) }}
		a.leave(p, x)
	}
}

// leadsTo says whether a task starts from f.
func (f *finished) leadsTo(p *place, x flow.Index) (yes bool) {
	a := &ahead{decided: f.rec.Ahead, to: &spot{p, x}}
	a.yield = func(s spot) bool {
		yes = yes || s.at == p && s.x.Equal(x)
		return !yes
	}
	a.leave(f.at, f.x)
	return yes
}

// ahead goes from the end of a task to those that start from it.
type ahead struct {
	decided flow.Ahead
	yield   func(spot) bool
	// to is set when only the way to one task is of interest.
	to *spot
}

// leave goes on behind a node that has ended.
func (a *ahead) leave(p *place, x flow.Index) {
	for up := p.parent; up != nil; p, up = up, up.parent {
		if p.i < 0 { // the join ends the whole shape
			continue
		}
		switch up.Kind {
		case flow.KindSeq:
			for _, n := range up.nodes[p.i+1:] {
				if through, more := a.enter(n, x); !through || !more {
					return
				}
			}
		case flow.KindLoop:
			turn := x[len(x)-1] + 1
			x = x[:len(x)-1]
			if a.decided[up.Name].Again {
				a.enter(up.nodes[0], records.Within(x, turn))
				return
			}
		case flow.KindForeach:
			a.yield(spot{up.join, x[:len(x)-1]})
			return
		case flow.KindBranch:
			a.yield(spot{up.join, x})
			return
		default:
		}
	}
}

// enter goes into a node. It says whether the way leads through it without a task, and whether to go on yielding.
func (a *ahead) enter(p *place, x flow.Index) (through, more bool) {
	d, decided := a.decided[p.Name]
	switch p.Kind {
	case flow.KindSeq:
		for _, n := range p.nodes {
			if through, more = a.enter(n, x); !through || !more {
				return through, more
			}
		}
		return true, true
	case flow.KindBranch:
		for _, arm := range p.nodes {
			if _, more = a.enter(arm, x); !more {
				return false, false
			}
		}
		return false, a.yield(spot{p.join, x})
	case flow.KindForeach:
		if d.Items == nil {
			return false, true
		}
		first, end := 0, d.Items.Len
		if a.to != nil { // of many items one is of interest at most
			if first = end; len(a.to.x) > len(x) {
				first = a.to.x[len(x)]
			}
			end = min(first+1, end)
		}
		for i := first; i < end; i++ {
			if _, more = a.enter(p.nodes[0], records.Within(x, i)); !more {
				return false, false
			}
		}
		return false, a.yield(spot{p.join, x})
	case flow.KindSwitch:
		chosen := p.Chosen(d)
		if !decided || chosen < 0 {
			return false, true
		}
		return a.enter(p.nodes[chosen], x)
	case flow.KindLoop:
		if !d.Again {
			return decided, true
		}
		return a.enter(p.nodes[0], records.Within(x, 0))
	default:
		return false, a.yield(spot{p, x})
	}
}
