package flow

// Arms maps the names of the steps and shapes in a branch's arms to the index of their arm.
func (f *Flow) Arms(branch string) map[string]int {
	arms := map[string]int{}
	f.root.walk(func(n *node) {
		if n.kind != KindBranch || n.name != branch {
			return
		}
		for i, arm := range n.nodes {
			arm.walk(func(c *node) {
				if c.name != "" {
					arms[c.name] = i
				}
			})
		}
	})
	return arms
}

// Batched lists the names of the foreach shapes that run their items in batches.
func (f *Flow) Batched() []string {
	var names []string
	f.root.walk(func(n *node) {
		if n.kind == KindForeach && n.shape.fan.Batch > 1 {
			names = append(names, n.name)
		}
	})
	return names
}

// StepDef finds a step, a join or a split that is decided on its own. It is nil for an unknown name.
func (f *Flow) StepDef(name string) *StepDef {
	if p := f.places[name]; p != nil {
		return p.n.step
	}
	return nil
}
