package flow

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/stepwell-flows/stepwell/policies"
)

// inside is a body that must have something in it.
func inside[S any](what string, body []Node[S]) *node {
	n := seq(what, body)
	if len(n.nodes) == 0 {
		n.errs = append(n.errs, fmt.Errorf("%s has no steps", what))
	}
	return n
}

// seq is the sequence of some nodes. Sequences within it are taken apart: they say no more than their nodes.
func seq[S any](what string, nodes []Node[S]) *node {
	n := &node{kind: KindSeq}
	for _, child := range adopt(what, nodes) {
		if child.kind == KindSeq && len(child.errs) == 0 {
			n.nodes = append(n.nodes, child.nodes...)
			continue
		}
		n.nodes = append(n.nodes, child)
	}
	return n
}

// adopt erases the type of nodes. One that is missing becomes a node with a mistake, which is told in its place.
func adopt[S any](what string, nodes []Node[S]) []*node {
	all := make([]*node, len(nodes))
	for i, child := range nodes {
		all[i] = child.n
		if child.n == nil {
			all[i] = &node{kind: KindSeq, errs: []error{fmt.Errorf("%s has an empty node (make nodes with flow.Step or one of the shapes)", what)}}
		}
	}
	return all
}

// mayBeEmpty says that a node may run no task at all.
func (n *node) mayBeEmpty() bool {
	if len(n.errs) > 0 { // nobody knows what it was meant to be
		return false
	}
	switch n.kind {
	case KindSeq:
		return !slices.ContainsFunc(n.nodes, func(child *node) bool { return !child.mayBeEmpty() })
	case KindSwitch:
		return slices.ContainsFunc(n.nodes, (*node).mayBeEmpty)
	case KindLoop:
		return true
	default: // a step, a split that is decided, a branch and a foreach, which have a join
		return false
	}
}

// asks says that author's code has to decide something before the node's first tasks can start.
func (n *node) asks() bool {
	switch n.kind {
	case KindSeq:
		return len(n.nodes) > 0 && n.nodes[0].asks()
	case KindBranch:
		return slices.ContainsFunc(n.nodes, (*node).asks)
	case KindForeach, KindSwitch, KindLoop:
		return true
	default:
		return false
	}
}

// decide puts a task of its own before what asks where no step goes before it: at the start of the flow, and of an item.
// It has the name of the shape that it decides.
func decide(s *node) *node {
	if !s.asks() {
		return s
	}
	first := s.nodes[0]
	d := &node{kind: KindDecide, name: first.name, step: &StepDef{
		Name: first.name, Spec: policies.NewSpec(nil, nil, nil), Run: func(context.Context, any) error { return nil },
	}}
	return &node{kind: KindSeq, nodes: append([]*node{d}, s.nodes...), errs: s.errs}
}

// plural names several nodes of a kind.
func (k Kind) plural() string {
	switch k {
	case KindBranch, KindSwitch:
		return string(k) + "es"
	case KindForeach:
		return "foreach shapes"
	default:
		return string(k) + "s"
	}
}

func (f *Flow) checkGraph() {
	seen := map[string]*node{} // by the lower-cased name: folders may not tell case apart
	steps := 0
	f.root.walk(func(n *node) {
		f.fail(errors.Join(n.errs...))
		f.fail(errors.Join(n.checkShape()...))
		if n.kind == KindSeq || n.kind == KindDecide {
			return
		}
		if n.kind == KindStep {
			steps++
		}
		if !legalStep.MatchString(n.name) {
			f.fail(fmt.Errorf("%s name %q is not allowed (use a letter, then up to 63 letters, digits, _ or -)", n.kind, n.name))
		}
		first, dup := seen[strings.ToLower(n.name)]
		if !dup {
			seen[strings.ToLower(n.name)] = n
			return
		}
		switch same := first.name == n.name; {
		case same && first.kind == n.kind:
			f.fail(fmt.Errorf("two %s are named %q (rename one)", n.kind.plural(), n.name))
		case same:
			f.fail(fmt.Errorf("a %s and a %s are named %q (rename one)", first.kind, n.kind, n.name))
		case first.kind == n.kind:
			f.fail(fmt.Errorf("%s %q and %q differ only in case (rename one)", n.kind.plural(), first.name, n.name))
		default:
			f.fail(fmt.Errorf("%s %q and %s %q differ only in case (rename one)", first.kind, first.name, n.kind, n.name))
		}
	})
	if steps == 0 {
		f.fail(errors.New("it has no steps (add flow.Step)"))
	}
}

// checkShape tells mistakes that show only when the nodes within are known.
func (n *node) checkShape() []error {
	var errs []error
	switch n.kind {
	case KindLoop:
		if n.nodes[0].mayBeEmpty() {
			errs = append(errs, fmt.Errorf("loop %q may turn without running a step, and so without end (give its body a step outside of switches and loops)", n.name))
		}
	case KindBranch:
		for i, arm := range n.nodes {
			if arm.mayBeEmpty() {
				errs = append(errs, fmt.Errorf("arm %d of branch %q may run no step (give it a step outside of switches and loops)", i+1, n.name))
			}
		}
	case KindForeach:
		if n.shape.fan.Batch > 1 {
			n.nodes[0].walk(func(c *node) {
				if c.kind == KindBranch || c.kind == KindForeach {
					errs = append(errs, fmt.Errorf("foreach %q has batches, and so its body cannot have %s %q (take Fan.Batch away)", n.name, c.kind, c.name))
				}
				if c.step == nil {
					return
				}
				for _, what := range unbatched(c.step) {
					errs = append(errs, fmt.Errorf("foreach %q has batches, and so step %q cannot have %s (take that or Fan.Batch away)", n.name, c.name, what))
				}
			})
		}
	default: // the others can be wrong in themselves only
	}
	return errs
}

// unbatched lists what a step has that it cannot have in a batch, whose items have no activities of their own.
func unbatched(d *StepDef) []string {
	var has []string
	for _, o := range []struct {
		what string
		set  bool
	}{
		{"a card", len(d.Cards) > 0},
		{"a limit", d.Spec.Limit != (policies.Limit{})},
		{"policies.Pause", d.Spec.Exhausted == policies.Pause},
		{"policies.Escalate", d.Spec.Escalate != nil},
		{"flow.Isolated", d.Isolated != nil},
	} {
		if o.set {
			has = append(has, o.what)
		}
	}
	return has
}
