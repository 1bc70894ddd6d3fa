package stepwell

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

// reuse finds out how far the origin came and what that means for each step of the plan.
func (c *Client) reuse(ctx context.Context, p *ResumePlan, plan flow.Plan, origin *runs.Run, from string, count bool) error {
	if err := c.checkGone(ctx, plan, origin, from); err != nil {
		return err
	}
	again := plan.After(from)
	// Whoever could not read an item has told so, and did not look at the others.
	p.doc.Verify = origin.Failure != nil && origin.Failure.Type == activities.InputErrorType || origin.Verify
	doc := p.doc
	doc.Reused = map[string]string{}
	for _, name := range plan.Names() {
		if slices.Contains(again, name) || !hasName(origin.Plan, name) {
			continue
		}
		doc.Reused[name] = origin.Run.Run
	}
	// What a shard or a batch ended with is of use only to a foreach that would do the same with its items.
	s := &records.Seeker{Store: c.store, Run: doc, Fresh: true}
	plan.Walk(func(n flow.PlanNode) {
		if n.Kind != flow.KindForeach {
			return
		}
		was, ok := origin.Plan.Shape(n.Name)
		if ok && !sameGraph(was.Nodes, n.Nodes) { // the join's record does not say what its items ran
			delete(doc.Reused, n.Join.Name)
			s.Reject(n.Join.Name, "its items have other steps now")
		}
		for _, name := range (flow.Plan{Root: n.Nodes[0]}).Names() {
			ok = ok && doc.Reused[name] != ""
		}
		// Nor of one that has batches while the other had none: whoever reads the run would look in the wrong place for its items.
		if ok && sameGraph(was.Nodes, n.Nodes) && batched(was) == batched(n) {
			doc.Reused[records.ItemsKey(n.Name)] = origin.Run.Run
		}
	})
	at := &records.Cursor{}
	if _, err := s.SeekSound(ctx, plan.Root, nil, at); err != nil {
		return err
	}
	p.start = at
	if at.Next == 0 && at.Inside == nil && at.Last == nil {
		p.start = nil
	}
	p.doc.Reused = reused(s, plan, doc.Reused, origin.Run.Run)
	return c.planSteps(ctx, p, s, plan, origin, from, count)
}

// whyNotOnTheWay is said of steps that were not run although the run came past them.
const whyNotOnTheWay = "not on the way that the run took"

func hasName(plan flow.Plan, name string) bool { return slices.Contains(plan.Names(), name) }

// sameGraph says that nodes are the same steps and shapes in the same order. Their policies may differ.
func sameGraph(a, b []flow.PlanNode) bool {
	return slices.EqualFunc(a, b, func(x, y flow.PlanNode) bool {
		if (x.Join == nil) != (y.Join == nil) || x.Join != nil && x.Join.Name != y.Join.Name {
			return false
		}
		return x.Kind == y.Kind && x.Name == y.Name && slices.Equal(x.Cases, y.Cases) && sameGraph(x.Nodes, y.Nodes)
	})
}

// reused maps what the new run may take over to the run that has it.
func reused(s *records.Seeker, plan flow.Plan, allowed map[string]string, origin string) map[string]string {
	out := map[string]string{}
	for _, t := range s.Taken {
		switch has, ok := out[t.Record.Step]; {
		case !ok:
			out[t.Record.Step] = t.Ref.Run
		case has != t.Ref.Run: // tasks of several runs: the origin knows which
			out[t.Record.Step] = origin
		}
	}
	// What happened within a foreach was not looked at.
	plan.Walk(func(n flow.PlanNode) {
		if n.Kind != flow.KindForeach {
			return
		}
		_, joined := out[n.Join.Name]
		if !joined && !underWay(s, n) {
			return
		}
		names := []string{records.ItemsKey(n.Name)}
		(flow.Plan{Root: n.Nodes[0]}).Walk(func(c flow.PlanNode) {
			if names = append(names, c.Name); c.Kind == flow.KindForeach {
				names = append(names, records.ItemsKey(c.Name))
			}
		})
		for _, name := range names {
			if _, ok := allowed[name]; ok {
				if _, has := out[name]; !has {
					out[name] = origin
				}
			}
		}
	})
	return out
}

// underWay says that the foreach's join was asked for.
func underWay(s *records.Seeker, n flow.PlanNode) bool {
	return slices.ContainsFunc(s.Stopped, func(st records.Stopped) bool { return st.Step == n.Join.Name })
}

// planSteps says for each step what becomes of it.
func (c *Client) planSteps(ctx context.Context, p *ResumePlan, s *records.Seeker, plan flow.Plan, origin *runs.Run, from string, count bool) error {
	taken, stopped := map[string][]records.Taken{}, map[string]records.Stopped{}
	for _, t := range s.Taken {
		taken[t.Record.Step] = append(taken[t.Record.Step], t)
	}
	first := "" // the step at which it stops
	for _, st := range s.Stopped {
		if _, ok := stopped[st.Step]; !ok {
			stopped[st.Step] = st
		}
		if first == "" {
			first = st.Step
		}
	}
	items := &itemPlanner{seek: s, now: plan, was: origin.Plan, doc: p.doc, count: count, counted: map[string]int{}}
	for _, name := range plan.Steps() {
		line := ResumeStep{Step: name}
		around := plan.Around(name)
		has, st := taken[name], stopped[name]
		fan := slices.ContainsFunc(around, func(n flow.PlanNode) bool { return n.Kind == flow.KindForeach })
		again := reached(s, plan, name) && !slices.Contains(plan.After(from), name)
		switch {
		case name == from:
			line.Why = "asked for with --step"
		case fan && !hasName(origin.Plan, name):
			line.Why = "new in the flow"
		case fan && !sameBefore(plan, origin.Plan, name, p.doc.Reused):
			line.Why = "what goes before it in the body runs again"
		case fan && (takesItems(plan, p.doc, name) || joined(plan, taken, name) || again && batchesWhy(plan, origin.Plan, name) != ""):
			var err error
			if line, err = items.plan(ctx, name); err != nil {
				return err
			}
		case fan && again:
			line.Why = "the body of its foreach has changed"
		case len(around) > 0 && len(has) > 0:
			line.Tasks = len(has)
			if line.Reuse = st.Why == ""; line.Reuse {
				line.Why = fmt.Sprintf("%d turns", len(has))
			} else {
				line.Why = fmt.Sprintf("%d turns are reused; %s: %s", len(has), flow.TaskName(name, st.Index), why(origin, st))
			}
		case len(has) > 0:
			line.Reuse, line.Why = true, string(has[0].Record.Outcome)
			line.From, line.Digest = has[0].Ref.Run, &has[0].Ref.Digest
		case !hasName(origin.Plan, name):
			line.Why = "new in the flow"
		case slices.Contains(plan.After(from), name):
			line.Why = fmt.Sprintf("follows %q", from)
		case st.Why != "":
			line.Why = why(origin, st)
		case first != "":
			line.Why = fmt.Sprintf("follows %q", first)
		default:
			line.Why = whyNotOnTheWay
		}
		p.Steps = append(p.Steps, line)
	}
	return nil
}

// sameBefore says that what goes before a step in the body of a foreach is what it was, and is taken over.
func sameBefore(plan, was flow.Plan, step string, reused map[string]string) bool {
	names := before(plan, step)
	for _, name := range names {
		if reused[name] == "" {
			return false
		}
	}
	return slices.Equal(names, before(was, step))
}

// before lists the tasks that go before a step in the body of the outermost foreach around it.
func before(plan flow.Plan, step string) []string {
	var names []string
	path := plan.Path(step)
	outer := slices.IndexFunc(path, func(n *flow.PlanNode) bool { return n.Kind == flow.KindForeach })
	add := func(n flow.PlanNode) {
		(flow.Plan{Root: n}).Walk(func(c flow.PlanNode) {
			if c.Kind == flow.KindStep || c.Kind == flow.KindDecide {
				names = append(names, c.Name)
			}
		})
	}
	for i := outer + 1; i > 0 && i < len(path); i++ {
		switch n, up := path[i], path[i-1]; {
		case up.Kind == flow.KindSeq:
			for k := 0; &up.Nodes[k] != n; k++ {
				add(up.Nodes[k])
			}
		case up.Join == n:
			for _, c := range up.Nodes {
				add(c)
			}
		}
	}
	return names
}

// reached says that the foreach around a step was begun and has not ended.
func reached(s *records.Seeker, plan flow.Plan, step string) bool {
	path := plan.Path(step)
	outer := slices.IndexFunc(path, func(n *flow.PlanNode) bool { return n.Kind == flow.KindForeach })
	return outer >= 0 && underWay(s, *path[outer])
}

// why says why a task is not finished.
func why(origin *runs.Run, st records.Stopped) string {
	if f := origin.Failure; f != nil && f.Task == flow.TaskName(st.Step, st.Index) && st.Why == records.WhyNone {
		return "failed: " + shorten(f.Message, 200)
	}
	return st.Why
}

// checkGone refuses to drop the work of a finished step in silence because it was renamed or removed. Who asks for everything again
// has said so.
func (c *Client) checkGone(ctx context.Context, plan flow.Plan, origin *runs.Run, from string) error {
	after := plan.After(from)
	if !slices.ContainsFunc(plan.Names(), func(name string) bool { return !slices.Contains(after, name) }) {
		return nil
	}
	var errs []error
	again := origin.Plan.After(from)
	for _, name := range origin.Plan.Steps() {
		if slices.Contains(again, name) || hasName(plan, name) {
			continue
		}
		s := &records.Seeker{Store: c.store, Run: origin.Run}
		some, err := s.Any(ctx, name)
		if err != nil {
			return err
		}
		if some {
			errs = append(errs, fmt.Errorf("step %q finished in run %s but is not in the flow any more (give it its name back, or add --step to run again from a step before it)", name, origin.Pathspec()))
		}
	}
	if len(errs) > 0 {
		return &InputError{errors.Join(errs...)}
	}
	return nil
}
