package property

import "github.com/stepwell-flows/stepwell/flow"

// evaluator runs a tree the plain way: one task after the other, in one goroutine, without a store. It notes the trail that each
// task ended with.
type evaluator map[string]uint64

func (e evaluator) run(n *tree, s *state, x flow.Index) {
	switch n.kind {
	case flow.KindSeq:
		e.all(n.kids, s, x)
	case flow.KindBranch:
		var ends []*state
		for _, arm := range n.kids {
			end := s.clone()
			e.run(arm, end, x)
			ends = append(ends, end)
		}
		e.join(n.join, s, x, ends)
	case flow.KindForeach:
		var ends []*state
		for i, item := range s.items(n) {
			end := s.clone()
			end.bind(item)
			e.all(n.kids, end, append(x[:len(x):len(x)], i))
			ends = append(ends, end)
		}
		e.join(n.join, s, x, ends)
	case flow.KindSwitch:
		e.run(n.kids[s.choose(n)], s, x)
	case flow.KindLoop:
		for turn := 0; s.again(n); turn++ {
			e.all(n.kids, s, append(x[:len(x):len(x)], turn))
		}
	default:
		s.step(n, flow.TaskName(n.name, x), how(n))
		e[flow.TaskName(n.name, x)] = s.Trail
	}
}

func (e evaluator) all(nodes []*tree, s *state, x flow.Index) {
	for _, n := range nodes {
		e.run(n, s, x)
	}
}

// join starts from the state at the split. One that is caught has no inputs.
func (e evaluator) join(n *tree, s *state, x flow.Index, ends []*state) {
	if n.caught {
		e.run(n, s, x)
		return
	}
	s.joined(n, flow.TaskName(n.name, x), "", ends)
	e[flow.TaskName(n.name, x)] = s.Trail
}

func how(n *tree) string {
	if n.caught {
		return "caught"
	}
	return ""
}
