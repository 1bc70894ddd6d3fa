package runs

import (
	"context"
	"errors"
	"iter"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/internal/readahead"
	"github.com/stepwell-flows/stepwell/records"
)

// Parents yields the tasks that the task's state comes from, in the run in which t was read: the one before it, wherever it is in the
// plan, and for a join also the one at the split, first, and the last task of each arm or item. Items that failed gave nothing and are left out.
// There may be as many as a foreach has items, so they are read as they come. After an error it ends.
//
// Records are read, and no artifacts. A task that nothing goes before, or before which nothing has finished, has none.
func (t *Task) Parents(ctx context.Context) iter.Seq2[*Task, error] {
	return func(yield func(*Task, error) bool) {
		r := t.run
		p, err := r.place(t.Step)
		if err != nil {
			yield(nil, err)
			return
		}
		from := p
		if f := p.batch(); f != nil {
			before, err := r.beforeInItem(ctx, t, p)
			if before != nil || err != nil {
				yield(before, err)
				return
			}
			from = f.nodes[0]
		}
		before, _, err := r.before(ctx, from, t.Index)
		if err != nil {
			yield(nil, err)
			return
		}
		if before != nil && before.leadsTo(p, t.Index) && !yield(r.finishedTask(before), nil) {
			return
		}
		if p.i >= 0 {
			return
		}
		if p.parent.Kind == flow.KindForeach {
			r.ends(ctx, p, t.Index, before, yield)
			return
		}
		for _, arm := range p.parent.nodes {
			end, err := r.ending(ctx, arm, t.Index)
			if err == nil && (end == nil || !end.leadsTo(p, t.Index)) {
				continue
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(r.finishedTask(end), nil) {
				return
			}
		}
	}
}

// finishedTask is the task of a record.
func (r *Run) finishedTask(f *finished) *Task {
	t := &Task{Step: f.at.Name, Index: f.x, run: r}
	t.finished(f.rec)
	return t
}

// ends yields the last tasks of a foreach's items, which a join has for parents.
func (r *Run) ends(ctx context.Context, join *place, x flow.Index, before *finished, yield func(*Task, error) bool) {
	shape := join.parent
	if shape.Fan != nil && shape.Fan.Batch > 1 {
		r.batchEnds(ctx, shape, x, yield)
		return
	}
	if before == nil || before.rec.Ahead[shape.Name].Items == nil {
		return
	}
	read := func(ctx context.Context, i int) (*finished, error) {
		return r.ending(ctx, shape.nodes[0], records.Within(x, i))
	}
	for end, err := range readahead.InOrder(ctx, readAhead, before.rec.Ahead[shape.Name].Items.Len, read) {
		switch {
		case err != nil:
			yield(nil, err)
			return
		case end == nil || !end.leadsTo(join, x):
			continue
		}
		if !yield(r.finishedTask(end), nil) {
			return
		}
	}
}

// batchEnds yields the tasks with the records of a foreach's items, each of which has one.
func (r *Run) batchEnds(ctx context.Context, shape *place, x flow.Index, yield func(*Task, error) bool) {
	set, err := r.batches(ctx, shape)
	if err != nil {
		yield(nil, err)
		return
	}
	lasts, _ := shape.nodes[0].last()
	for _, p := range lasts {
		for t, err := range set.each(ctx, p, func(s State) bool { return s == Completed || s == Caught }) {
			if err != nil {
				yield(nil, err)
				return
			}
			if t.Record != nil && t.Index[:len(t.Index)-1].Equal(x) && !yield(t, nil) {
				return
			}
		}
	}
}

// beforeInItem is the task before one in the same item of a batch, nil if it is the item's first.
func (r *Run) beforeInItem(ctx context.Context, t *Task, p *place) (*Task, error) {
	all, err := r.itemTasks(ctx, t, p)
	for i, other := range all {
		if other.Step == t.Step && i > 0 {
			return all[i-1], nil
		}
	}
	return nil, err
}

// itemTasks are the tasks of an item in a batch, in the order of the plan.
func (r *Run) itemTasks(ctx context.Context, t *Task, p *place) ([]*Task, error) {
	f := p.batch()
	n := len(t.Index) - 1
	item, err := r.item(ctx, p, t.Index[:n], t.Index[n])
	if item == nil || err != nil {
		return nil, err
	}
	from, err := r.decided(ctx, f, t.Index[:n])
	if err != nil {
		return nil, err
	}
	var all []*Task
	for _, step := range f.nodes[0].tasks() {
		if other := r.itemTask(step, t.Index[:n], *item, from); other != nil {
			all = append(all, other)
		}
	}
	return all, nil
}

// Children yields the tasks of the run in which t was read that started from t: the next one, wherever it is in the plan, the first
// task of each arm or item behind a split, and then the split's join, which starts from the state at the split, too. Those that did not
// begin are left out. There may be as many as a foreach has items, so each is read as it comes. After an error it ends.
//
// Records are read, and no artifacts. A task that is not finished has none.
func (t *Task) Children(ctx context.Context) iter.Seq2[*Task, error] {
	return func(yield func(*Task, error) bool) {
		r := t.run
		p, err := r.place(t.Step)
		if err != nil {
			yield(nil, err)
			return
		}
		in := r.reading(ctx)
		if p.batch() != nil {
			r.afterInItem(ctx, in, t, p, yield)
			return
		}
		if t.Record == nil {
			return
		}
		f := &finished{at: p, x: t.Index, rec: t.Record}
		for s := range f.after() {
			if f := s.at.batch(); f != nil {
				s.x = s.x[:s.at.depth()]
			}
			child, err := in.task(ctx, s.at, s.x)
			if errors.Is(err, ErrNotFound) || err == nil && !child.begun() {
				continue
			}
			if !yield(child, err) || err != nil {
				return
			}
		}
	}
}

// begun says whether the task is known to have been.
func (t *Task) begun() bool {
	return t.State != NotStarted && t.State != Skipped && t.State != InBatches
}

// afterInItem yields what follows a task of an item in a batch: the item's next task, or the join.
func (r *Run) afterInItem(ctx context.Context, in *reading, t *Task, p *place, yield func(*Task, error) bool) {
	all, err := r.itemTasks(ctx, t, p)
	if err != nil {
		yield(nil, err)
		return
	}
	for i, other := range all {
		switch {
		case other.Step != t.Step:
			continue
		case i+1 < len(all):
			yield(all[i+1], nil)
			return
		case t.State != Completed && t.State != Caught:
			return
		}
		join := p.batch().join
		child, err := in.task(ctx, join, t.Index[:len(t.Index)-1])
		if errors.Is(err, ErrNotFound) || err == nil && !child.begun() {
			return
		}
		yield(child, err)
		return
	}
}
