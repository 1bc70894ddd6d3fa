package stepwell

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
)

// itemPlanner says what becomes of steps within a foreach whose items are taken over. It counts them from the keys of their records.
type itemPlanner struct {
	seek     *records.Seeker // has found how far the origin came
	now, was flow.Plan
	doc      records.Run
	count    bool
	counted  map[string]int
}

// plan says what becomes of the tasks of a step.
func (p *itemPlanner) plan(ctx context.Context, name string) (ResumeStep, error) {
	line := ResumeStep{Step: name}
	path, around := p.now.Path(name), p.now.Around(name)
	outer := slices.IndexFunc(path, func(n *flow.PlanNode) bool { return n.Kind == flow.KindForeach })
	done := !underWay(p.seek, *path[outer])
	changed := batchesWhy(p.now, p.was, name)
	if line.Reuse = done; done {
		line.Why = "all items"
	} else {
		line.Why = cmp.Or(changed, "items that did not finish")
	}
	total, known := p.total(path[outer].Name)
	known = known && around[0].Kind == flow.KindForeach // and not turn by turn
	one := len(around) == 1 || batched(*path[outer])    // of a batch, items are counted
	if known && one {
		line.Of = total
	}
	if !p.count || done && changed != "" { // what has finished is not to be found by the keys of the new kind
		return line, nil
	}
	n, err := p.tasks(ctx, name)
	if err != nil {
		return line, err
	}
	line.Tasks = n
	over := known && one && n == total
	if !done && known && !over {
		if over, err = p.over(ctx, path[outer+1:], total); err != nil {
			return line, err
		}
	}
	noun := "item"
	if !one && around[len(around)-1].Kind == flow.KindLoop {
		noun = "turn"
	}
	switch {
	case done:
		line.Why = plural(n, noun)
	case over && n == 0 && total > 0 && changed == "":
		line.Of, line.Why = 0, whyNotOnTheWay
	case over && n == 0 && changed != "":
		line.Reuse, line.Why = true, "all items"
	case over:
		line.Reuse, line.Of, line.Why = true, n, "all "+plural(n, noun)
	case n == 0:
		line.Why = cmp.Or(changed, records.WhyNone)
	case line.Of > 0:
		line.Why = fmt.Sprintf("%d of %d items are reused", n, line.Of)
	case n == 1:
		line.Why = "1 " + noun + " is reused"
	default:
		line.Why = plural(n, noun) + " are reused"
	}
	return line, nil
}

// total is how many items a foreach has, if the record of a task outside of any foreach tells.
func (p *itemPlanner) total(foreach string) (n int, known bool) {
	for _, t := range p.seek.Taken {
		if d, ok := t.Record.Ahead[foreach]; ok && d.Items != nil {
			n, known = d.Items.Len, true
		}
	}
	return n, known
}

// tasks counts the finished tasks of a step, with batches the finished items: they are the same for all steps within.
func (p *itemPlanner) tasks(ctx context.Context, step string) (int, error) {
	var inner flow.PlanNode
	for _, n := range p.now.Around(step) {
		if n.Kind == flow.KindForeach {
			inner = n
		}
	}
	key := step
	if batched(inner) {
		key = records.ItemsKey(inner.Name)
	}
	if n, ok := p.counted[key]; ok {
		return n, nil
	}
	seek := &records.Seeker{Store: p.seek.Store, Run: p.doc, Fresh: true}
	n, err := seek.Count(ctx, step, inner, func(run, next records.Run) bool {
		return sameBefore(run.Plan, next.Plan, step, run.Reused)
	})
	if err == nil {
		p.counted[key] = n
	}
	return n, err
}

// over says that nothing of a step is left to do, because all items of the outermost foreach have gone past it: what it is in, or
// what follows it, has ended in each of them. The path leads to the step from the foreach's body. How many items an inner foreach
// has, or turns a loop, is not known without reading a record for each.
func (p *itemPlanner) over(ctx context.Context, path []*flow.PlanNode, total int) (bool, error) {
	for i, n := range path {
		past := []flow.PlanNode{*n}
		if i > 0 && path[i-1].Kind == flow.KindSeq {
			past = path[i-1].Nodes
			for &past[0] != n {
				past = past[1:]
			}
		}
		for _, c := range past {
			if all, err := p.ended(ctx, c, total); all || err != nil {
				return all, err
			}
		}
		if n.Kind == flow.KindLoop || n.Kind == flow.KindSwitch || n.Kind == flow.KindForeach && path[i+1] != n.Join {
			break
		}
	}
	return false, nil
}

// ended says that a node, which is in no other foreach than the outermost one, has ended in all items.
func (p *itemPlanner) ended(ctx context.Context, n flow.PlanNode, total int) (bool, error) {
	left := total
	for _, end := range ends(n) {
		if !takesItems(p.now, p.doc, end) || !sameBefore(p.now, p.was, end, p.doc.Reused) {
			return false, nil
		}
		tasks, err := p.tasks(ctx, end)
		if err != nil {
			return false, err
		}
		left -= tasks
	}
	return left == 0, nil
}

// ends lists the steps of which one is the last of a node, none if it may end otherwise.
func ends(n flow.PlanNode) []string {
	switch n.Kind {
	case flow.KindStep, flow.KindDecide:
		return []string{n.Name}
	case flow.KindSeq:
		if len(n.Nodes) == 0 { // a case with nothing to do
			return nil
		}
		return ends(n.Nodes[len(n.Nodes)-1])
	case flow.KindBranch, flow.KindForeach:
		return []string{n.Join.Name}
	case flow.KindSwitch:
		if len(n.Nodes) == len(n.Cases) {
			return nil
		}
		var all []string
		for _, c := range n.Nodes {
			some := ends(c)
			if some == nil {
				return nil
			}
			all = append(all, some...)
		}
		return all
	default: // a loop may turn not once
		return nil
	}
}

// batched says that a foreach runs its items in batches.
func batched(n flow.PlanNode) bool { return n.Fan != nil && n.Fan.Batch > 1 }

// batchesWhy is the reason why finished items of a foreach around a step cannot be taken over, if that is batches: they have one
// line for their whole body, which is no record of any of its tasks, nor the other way round.
func batchesWhy(plan, was flow.Plan, step string) string {
	for _, n := range plan.Around(step) {
		before, ok := was.Shape(n.Name)
		switch {
		case n.Kind != flow.KindForeach || !ok || batched(before) == batched(n):
		case batched(n):
			return "its foreach has batches now"
		default:
			return "its foreach has no batches any more"
		}
	}
	return ""
}

// joined says that the join of the foreach around a step is taken over.
func joined(plan flow.Plan, taken map[string][]records.Taken, step string) bool {
	path := plan.Path(step)
	outer := slices.IndexFunc(path, func(n *flow.PlanNode) bool { return n.Kind == flow.KindForeach })
	return outer >= 0 && len(taken[path[outer].Join.Name]) > 0
}

// takesItems says that items of the foreach around a step are taken over.
func takesItems(plan flow.Plan, doc records.Run, step string) bool {
	for _, n := range plan.Around(step) {
		if n.Kind == flow.KindForeach && batched(n) {
			return doc.Reused[records.ItemsKey(n.Name)] != ""
		}
	}
	return doc.Reused[step] != ""
}
