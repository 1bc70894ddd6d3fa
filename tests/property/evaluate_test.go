package property

import (
	"slices"

	"github.com/stepwell-flows/stepwell/flow"
)

// evaluator runs a tree the plain way: one task after the other, in one goroutine, without a store. Where a part fails and that is
// tolerated, it goes on all the same, since a flow may have run more of the part's tasks than those before the failure, or fewer.
type evaluator struct {
	trails map[string]uint64 // that each task ended with
	tasks  []string          // in this order
	maybe  map[string]bool   // that need not have run
}

// run reports whether the node came to its end.
func (e *evaluator) run(n *tree, s *state, x flow.Index) bool {
	switch n.kind {
	case flow.KindSeq:
		return e.all(n.kids, s, x)
	case flow.KindBranch:
		before, failed := len(e.tasks), 0
		ends := make([]*state, len(n.kids))
		for i, arm := range n.kids {
			ends[i] = s.clone()
			if !e.run(arm, ends[i], x) {
				failed++
			}
		}
		return e.join(n, s, x, ends, failed > 0, before)
	case flow.KindForeach:
		items := s.items(n)
		before, failed := len(e.tasks), 0
		ends := make([]*state, len(items))
		for i, item := range items {
			ends[i] = s.clone()
			ends[i].bind(item)
			if begun := len(e.tasks); !e.all(n.kids, ends[i], append(slices.Clip(x), i)) {
				e.doubt(begun)
				ends[i] = nil
				failed++
			}
		}
		return e.join(n, s, x, ends, failed > n.fan.Tolerate.Of(len(items)), before)
	case flow.KindSwitch:
		return e.run(n.kids[s.choose(n)], s, x)
	case flow.KindLoop:
		for turn := 0; s.again(n); turn++ {
			if !e.all(n.kids, s, append(slices.Clip(x), turn)) {
				return false
			}
		}
		return true
	default:
		return e.task(n, s, x, func(task string) { s.step(n, task, "") })
	}
}

func (e *evaluator) all(nodes []*tree, s *state, x flow.Index) bool {
	for _, n := range nodes {
		if !e.run(n, s, x) {
			return false
		}
	}
	return true
}

// join starts from the state at the split.
func (e *evaluator) join(n *tree, s *state, x flow.Index, ends []*state, failed bool, before int) bool {
	if failed {
		e.doubt(before)
		return false
	}
	return e.task(n.join, s, x, func(task string) { s.joined(n.join, task, ends) })
}

func (e *evaluator) task(n *tree, s *state, x flow.Index, work func(task string)) bool {
	task := flow.TaskName(n.name, x)
	e.tasks = append(e.tasks, task)
	switch {
	case s.doomed(n, task):
		e.maybe[task] = true // it runs, but comes to no end
		return false
	case n.caught:
		s.step(n, task, "caught")
	default:
		work(task)
	}
	e.trails[task] = s.Trail
	return true
}

// doubt says that the tasks since then need not have run.
func (e *evaluator) doubt(since int) {
	for _, task := range e.tasks[since:] {
		e.maybe[task] = true
	}
}
