package runs

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

// Input is what a task started from. It holds references, never data.
type Input struct {
	// Run is the id of the run that executed the task, or would have.
	Run string
	// From is the record of the task whose state it started from. Nil at the start of a run: then it started from the parameters alone.
	From *records.Ref
	// Item is the item that was put into the state first, of the first task of an item. Nil for others.
	Item *flow.Binding
	// Join is what a join read besides. Nil for others.
	Join *JoinInput
}

// JoinInput is what a join reads.
type JoinInput struct {
	// Shape is the branch or foreach that the join ends, and Branch says that it is a branch.
	Shape  string
	Branch bool
	// Len is how many inputs there are.
	Len int
	// Parts are the inputs, in order. They are left out of a foreach whose items were run in shards: then Shard is how many items each
	// shard has, and their documents list them.
	Parts []records.Item
	Shard int
}

// ErrNoInput says that what a task would start from is not there: a task before it is not finished, or the store keeps no state between
// two steps of an item of a batch. The error that wraps it says which.
var ErrNoInput = errors.New("no input")

// Input finds out what the task started from, or would start from, whatever its state is: that of a failed task is what it failed on.
// Records are read, and no artifacts.
func (t *Task) Input(ctx context.Context) (*Input, error) {
	r := t.run
	p, err := r.place(t.Step)
	if err != nil {
		return nil, err
	}
	in := &Input{Run: t.Owner}
	x, from := t.Index, p
	if f := p.batch(); f != nil {
		if firsts := f.nodes[0].firsts(); !slices.Contains(firsts, p) {
			return nil, fmt.Errorf("task %s: %w: a batch keeps what an item ends with, and not the state before step %q (take its first step, %q)",
				t.Pathspec(), ErrNoInput, t.Step, flow.TaskName(firsts[0].Name, x))
		}
		from = f.nodes[0]
	}
	before, item, err := r.before(ctx, from, x)
	if err != nil {
		return nil, err
	}
	switch {
	case before == nil && (!p.begins() || item != nil):
		return nil, fmt.Errorf("task %s: %w: the task before it did not finish (name one that began)", t.Pathspec(), ErrNoInput)
	case before != nil && !before.leadsTo(p, x):
		return nil, fmt.Errorf("task %s: %w: it does not follow %q, the last task before it that finished (name one that began)",
			t.Pathspec(), ErrNoInput, flow.TaskName(before.at.Name, before.x))
	case before != nil:
		in.From = &before.ref
	}
	if item != nil {
		d, ok := before.rec.Ahead[item.foreach.Name]
		if !ok || d.Items == nil {
			return nil, fmt.Errorf("task %s: %w: the items of foreach %q are not known", t.Pathspec(), ErrNoInput, item.foreach.Name)
		}
		in.Item = &flow.Binding{Foreach: item.foreach.Name, List: *d.Items, Item: item.item}
	}
	if p.i < 0 {
		in.Join, err = r.joinInput(ctx, t, p, before)
	}
	return in, err
}

// ItemFirst is the task of the first step of the task's item, if that is an item of a batch and the task comes later: an item of a batch
// is always run from its first step on. It is nil for every other task.
func (t *Task) ItemFirst(ctx context.Context) (*Task, error) {
	p, err := t.run.place(t.Step)
	if err != nil {
		return nil, err
	}
	f := p.batch()
	if f == nil {
		return nil, nil
	}
	if firsts := f.nodes[0].firsts(); !slices.Contains(firsts, p) {
		return t.run.Task(ctx, flow.TaskName(firsts[0].Name, t.Index))
	}
	return nil, nil
}

// begins says whether a task of the plan starts from the parameters alone.
func (p *place) begins() bool {
	for at := p; at.parent != nil; at = at.parent {
		if up := at.parent; up.Kind == flow.KindSeq && at.i > 0 || up.Kind == flow.KindForeach && at.i >= 0 {
			return false
		}
	}
	return true
}

// joinInput lists what a join reads, which must be complete.
func (r *Run) joinInput(ctx context.Context, t *Task, p *place, before *finished) (*JoinInput, error) {
	shape := p.parent
	in := &JoinInput{Shape: shape.Name, Branch: shape.Kind == flow.KindBranch}
	missing := func(name string) error {
		return fmt.Errorf("task %s: %w: %s did not end, which it joins", t.Pathspec(), ErrNoInput, name)
	}
	if in.Branch {
		in.Len = len(shape.nodes)
		for i, arm := range shape.nodes {
			end, err := r.ending(ctx, arm, t.Index)
			if err != nil {
				return nil, err
			}
			if end == nil || !end.leadsTo(p, t.Index) {
				return nil, missing(fmt.Sprintf("arm %d of branch %q", i, shape.Name))
			}
			in.Parts = append(in.Parts, end.part(i))
		}
		return in, nil
	}
	if before == nil || before.rec.Ahead[shape.Name].Items == nil {
		return nil, fmt.Errorf("task %s: %w: the items of foreach %q are not known", t.Pathspec(), ErrNoInput, shape.Name)
	}
	in.Len = before.rec.Ahead[shape.Name].Items.Len
	if in.Len == 0 {
		return in, nil
	}
	sharded, err := r.sharded(ctx, in, t, shape)
	if sharded || err != nil {
		return in, err
	}
	failed := 0
	for i := range in.Len {
		part, err := r.itemPart(ctx, shape, p, t.Index, i)
		if err != nil {
			return nil, err
		}
		if part.Outcome == "" {
			return nil, missing(fmt.Sprintf("item %d of foreach %q", i, shape.Name))
		}
		if part.Outcome == records.Failed {
			failed++
		}
		in.Parts = append(in.Parts, part)
	}
	return in, tolerated(t, shape, failed, in.Len)
}

// tolerated refuses a join for which too many items failed: no run comes to it.
func tolerated(t *Task, shape *place, failed, items int) error {
	if shape.Fan != nil && failed > shape.Fan.Tolerate.Of(items) {
		return fmt.Errorf("task %s: %w: %d of %d items of foreach %q failed, which it joins", t.Pathspec(), ErrNoInput, failed, items, shape.Name)
	}
	return nil
}

// part is the finished task as an input of a join.
func (f *finished) part(i int) records.Item {
	item := records.Item{Index: i, Outcome: records.Completed, Ref: &f.ref}
	if f.rec.Outcome != records.Completed {
		item.Outcome = records.Caught
	}
	return item
}

// itemPart is how an item ended, without an outcome if it did not.
func (r *Run) itemPart(ctx context.Context, shape, join *place, x flow.Index, i int) (records.Item, error) {
	y := records.Within(x, i)
	end, err := r.ending(ctx, shape.nodes[0], y)
	if err != nil {
		return records.Item{}, err
	}
	if end != nil && end.leadsTo(join, x) {
		return end.part(i), nil
	}
	// It failed at one of the tasks that would have come next.
	in := r.reading(ctx)
	next := []spot{}
	if end == nil {
		for _, first := range shape.nodes[0].firsts() {
			next = append(next, spot{first, y})
		}
	} else {
		for s := range end.after() {
			next = append(next, s)
		}
	}
	for _, s := range next {
		t, err := in.task(ctx, s.at, s.x)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return records.Item{}, err
		}
		if t.State != Failed {
			continue
		}
		if err := t.Explain(ctx); err != nil {
			return records.Item{}, err
		}
		f := t.Failure
		if f == nil {
			f = &policies.Failure{Class: policies.Unknown, Message: "it failed", Task: t.Name(), Step: t.Step}
		}
		return records.Item{Index: i, Outcome: records.Failed, Failure: f}, nil
	}
	return records.Item{Index: i}, nil
}

// sharded says whether the items of a foreach were run in shards that have a document each, and then sets how many items a shard has.
func (r *Run) sharded(ctx context.Context, in *JoinInput, t *Task, shape *place) (bool, error) {
	store := r.reader.store
	firsts, err := records.Shards(ctx, store, r.Flow, t.Owner, shape.Name, t.Index)
	if err != nil || len(firsts) == 0 {
		return false, err
	}
	incomplete := fmt.Errorf("task %s: %w: not all items of foreach %q ended, which it joins", t.Pathspec(), ErrNoInput, shape.Name)
	if firsts[0] != 0 {
		return true, incomplete
	}
	size, failed := 0, 0
	for i, first := range firsts {
		head, err := records.LoadShard(ctx, store, r.Flow, t.Owner, shape.Name, t.Index, first, false)
		if errors.Is(err, artifacts.ErrNotFound) {
			return true, incomplete
		}
		if err != nil {
			return true, err
		}
		if i == 0 {
			size = max(head.Count, 1)
		}
		if first != i*size || head.Completed+head.Failed != head.Count {
			return true, incomplete
		}
		failed += head.Failed
	}
	if len(firsts) != (in.Len+size-1)/size {
		return true, incomplete
	}
	in.Shard = size
	return true, tolerated(t, shape, failed, in.Len)
}
