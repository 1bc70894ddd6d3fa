package flow

import (
	"errors"
	"fmt"
	"strings"

	"github.com/stepwell-flows/stepwell/policies"
)

// decideSpec is the policy of a split that is decided on its own.
func decideSpec() policies.Spec { return policies.NewSpec(nil, nil, nil) }

// what names a node in a message.
func (n *node) what() string {
	if n.kind == KindStep {
		return "step"
	}
	return string(n.kind)
}

func plural(what string) string {
	switch what {
	case "branch", "switch":
		return what + "es"
	case "foreach":
		return "foreach shapes"
	}
	return what + "s"
}

func (f *Flow) checkGraph() {
	type named struct{ what, name string }
	seen := map[string]named{} // lower-cased: folders may not tell case apart
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
		what := n.what()
		if !legalStep.MatchString(n.name) {
			f.fail(fmt.Errorf("%s name %q is not allowed (use a letter, then up to 63 letters, digits, _ or -)", what, n.name))
		}
		switch first, dup := seen[strings.ToLower(n.name)]; {
		case dup && first.name == n.name && first.what == what:
			f.fail(fmt.Errorf("two %s are named %q (rename one)", plural(what), n.name))
		case dup && first.name == n.name:
			f.fail(fmt.Errorf("a %s and a %s are named %q (rename one)", first.what, what, n.name))
		case dup:
			f.fail(fmt.Errorf("%s %q and %q differ only in case (rename one)", plural(what), first.name, n.name))
		default:
			seen[strings.ToLower(n.name)] = named{what, n.name}
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
		if len(n.nodes[0].nodes) > 0 && n.nodes[0].mayBeEmpty() {
			errs = append(errs, fmt.Errorf("loop %q may turn without running a step, and so without end (give its body a step outside of switches and loops)", n.name))
		}
	case KindBranch:
		for i, arm := range n.nodes {
			if arm.mayBeEmpty() && len(arm.errs) == 0 {
				errs = append(errs, fmt.Errorf("arm %d of branch %q may run no step (give it a step outside of switches and loops)", i+1, n.name))
			}
		}
	case KindForeach:
		if n.shape.fan.Batch <= 1 {
			break
		}
		for _, child := range n.nodes {
			child.walk(func(c *node) {
				switch {
				case c.kind == KindBranch || c.kind == KindForeach:
					errs = append(errs, fmt.Errorf("foreach %q has batches, and so its body cannot have %s %q (take Fan.Batch away)", n.name, c.kind, c.name))
				case c.kind == KindStep && len(c.step.Cards) > 0:
					errs = append(errs, fmt.Errorf("foreach %q has batches, and so step %q cannot have a card (take Fan.Batch or the card away)", n.name, c.name))
				}
			})
		}
	}
	return errs
}
