package flow

import "slices"

// Walk calls visit with every node of the plan, each before the nodes within it and joins after what they join.
func (p Plan) Walk(visit func(PlanNode)) { p.Root.walk(visit) }

// Names lists the names of all steps and shapes, in order of definition.
func (p Plan) Names() []string {
	var names []string
	p.Walk(func(n PlanNode) {
		if n.Name != "" && !slices.Contains(names, n.Name) {
			names = append(names, n.Name)
		}
	})
	return names
}

// After lists the names of a step and of everything that runs after it or because of it: what has to run again when the step
// does. Other arms of the branches around it are not among them. It is nil for an unknown step.
func (p Plan) After(step string) []string {
	path := p.Path(step)
	if path == nil {
		return nil
	}
	names := []string{step}
	add := func(nodes ...PlanNode) {
		for _, n := range nodes {
			names = append(names, Plan{Root: n}.Names()...)
		}
	}
	for i := len(path) - 1; i > 0; i-- {
		n, up := path[i], path[i-1]
		switch up.Kind {
		case KindSeq:
			for k := range up.Nodes {
				if &up.Nodes[k] == n {
					add(up.Nodes[k+1:]...)
				}
			}
		case KindLoop:
			add(up.Nodes...) // the turns that follow
		case KindBranch, KindForeach:
			if up.Join != n {
				add(*up.Join)
			}
		case KindStep, KindDecide, KindSwitch: // nothing comes after a case within its switch
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// path is the way from n down to a step.
func (n *PlanNode) path(step string) []*PlanNode {
	if n.Name == step && (n.Kind == KindStep || n.Kind == KindDecide) {
		return []*PlanNode{n}
	}
	children := make([]*PlanNode, 0, len(n.Nodes)+1)
	for i := range n.Nodes {
		children = append(children, &n.Nodes[i])
	}
	if n.Join != nil {
		children = append(children, n.Join)
	}
	for _, c := range children {
		if below := c.path(step); below != nil {
			return append([]*PlanNode{n}, below...)
		}
	}
	return nil
}

// Around lists the foreach shapes and loops around a step, outermost first.
func (p Plan) Around(step string) []PlanNode {
	var around []PlanNode
	path := p.Path(step)
	for i, n := range path {
		if i+1 < len(path) && (n.Kind == KindLoop || n.Kind == KindForeach && path[i+1] != n.Join) {
			around = append(around, *n)
		}
	}
	return around
}

// Path is the way from the root to a step, both included; nil for an unknown step.
func (p *Plan) Path(step string) []*PlanNode { return p.Root.path(step) }
