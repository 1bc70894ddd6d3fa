package runs

import (
	"slices"

	"github.com/stepwell-flows/stepwell/flow"
)

// graph is a plan with the way from each node to what is around and before it.
type graph struct {
	tasks  map[string]*place // steps, joins and splits that are decided on their own
	shapes map[string]*place
	root   *place
}

// place is where a node stands in a plan.
type place struct {
	flow.PlanNode
	parent *place // nil for the root
	i      int    // in the nodes of the parent; -1 for a join
	order  int    // of definition
	nodes  []*place
	join   *place
	// around are the foreach shapes and loops that the node is in, outermost first. Each adds a number to the index of a task.
	around []*place
}

func newGraph(p flow.Plan) *graph {
	g := &graph{tasks: map[string]*place{}, shapes: map[string]*place{}}
	order := 0
	var add func(n flow.PlanNode, parent *place, i int, around []*place) *place
	add = func(n flow.PlanNode, parent *place, i int, around []*place) *place {
		order++
		at := &place{PlanNode: n, parent: parent, i: i, around: around, order: order}
		switch n.Kind {
		case flow.KindStep, flow.KindDecide:
			g.tasks[n.Name] = at
		case flow.KindBranch, flow.KindForeach, flow.KindSwitch, flow.KindLoop:
			g.shapes[n.Name] = at
		case flow.KindSeq:
		}
		inside := around
		if n.Kind == flow.KindForeach || n.Kind == flow.KindLoop {
			inside = append(slices.Clip(slices.Clone(around)), at)
		}
		for k, child := range n.Nodes {
			at.nodes = append(at.nodes, add(child, at, k, inside))
		}
		if n.Join != nil {
			at.join = add(*n.Join, at, -1, around)
		}
		return at
	}
	g.root = add(p.Root, nil, 0, nil)
	return g
}

// depth is how many numbers the index of a task has. An item in a batch is one task for each step, whatever loops it took.
func (p *place) depth() int {
	if f := p.batch(); f != nil {
		return len(f.around) + 1
	}
	return len(p.around)
}

// batch is the foreach with batches that the node is in, nil if there is none.
func (p *place) batch() *place {
	for _, s := range p.around {
		if s.Kind == flow.KindForeach && s.Fan != nil && s.Fan.Batch > 1 {
			return s
		}
	}
	return nil
}

// certain reports whether every item or turn of what is innermost around the node, or the whole run, comes to it.
func (p *place) certain() bool {
	for up := p.parent; up != nil && up.Kind != flow.KindForeach && up.Kind != flow.KindLoop; up = up.parent {
		if up.Kind == flow.KindSwitch {
			return false
		}
	}
	return true
}

// lead is a task that may go right before a node.
type lead struct {
	*place
	// turn is the loop, if there is one, of which the task is in the turn before the node's.
	turn *place
}

// before are the tasks of which one goes right before a node, and so decided about it.
func (p *place) before() []lead {
	up := p.parent
	if up == nil || p.i < 0 {
		return nil
	}
	var out []lead
	switch up.Kind {
	case flow.KindSeq:
		for k := p.i - 1; k >= 0; k-- {
			lasts, empty := up.nodes[k].last()
			for _, l := range lasts {
				out = append(out, lead{place: l})
			}
			if !empty {
				return out
			}
		}
	case flow.KindLoop:
		lasts, _ := p.last()
		for _, l := range lasts {
			out = append(out, lead{l, up})
		}
	default:
	}
	return append(out, up.before()...)
}

// last are the tasks of which one ends a node, unless it may run none.
func (p *place) last() (lasts []*place, empty bool) {
	switch p.Kind {
	case flow.KindStep, flow.KindDecide:
		return []*place{p}, false
	case flow.KindBranch, flow.KindForeach:
		return []*place{p.join}, false
	case flow.KindLoop:
		lasts, _ = p.nodes[0].last()
		return lasts, true
	case flow.KindSwitch:
		for _, n := range p.nodes {
			l, none := n.last()
			lasts, empty = append(lasts, l...), empty || none
		}
		return lasts, empty
	default:
		for _, n := range slices.Backward(p.nodes) {
			l, none := n.last()
			if lasts = append(lasts, l...); !none {
				return lasts, false
			}
		}
		return lasts, true
	}
}

// ends are the steps that the items of a foreach are counted by: one that all of them come to, as late as possible, or else
// those of which each item comes to one.
func (p *place) ends() []*place {
	lasts, _ := p.nodes[0].last()
	for _, l := range lasts {
		if l.depth() == len(p.around)+1 && l.certain() {
			return []*place{l}
		}
	}
	return lasts
}
