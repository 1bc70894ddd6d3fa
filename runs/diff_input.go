package runs

import (
	"context"
	"errors"
	"iter"
	"slices"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
)

// codeOf is the version of the code that executed a task.
func (s *side) codeOf(ctx context.Context, t *Task) (string, error) {
	if t.Owner == s.run.Run.Run {
		return s.run.Code, nil
	}
	if code, ok := s.codes[t.Owner]; ok {
		return code, nil
	}
	doc, err := s.run.reader.plans.LoadRun(ctx, s.run.reader.store, s.run.Flow, t.Owner)
	if err != nil && !errors.Is(err, artifacts.ErrNotFound) {
		return "", err
	}
	if s.codes == nil {
		s.codes = map[string]string{}
	}
	s.codes[t.Owner] = doc.Code
	return doc.Code, nil
}

// start reads the state that a task started from. It is empty where that is not known, or there was none.
func (s *side) start(ctx context.Context, t *Task) (*start, error) {
	var ref records.Ref
	switch {
	case t.Record != nil && len(t.Record.Parents) == 0, t.Record == nil && t.recordedBy != "":
		return &start{}, nil
	case t.Record != nil:
		ref = t.Record.Parents[0]
	default:
		in, err := t.Input(ctx)
		if errors.Is(err, ErrNoInput) || err == nil && in.From == nil {
			return &start{}, nil
		}
		if err != nil {
			return nil, err
		}
		ref = *in.From
	}
	key := ref.Run + "/" + ref.Step + ref.Index.String()
	if s.last != nil && s.last.key == key {
		return s.last, nil
	}
	rec, err := records.LoadTask(ctx, s.run.reader.store, s.run.Flow, ref)
	if err != nil && !errors.Is(err, artifacts.ErrNotFound) && !errors.Is(err, artifacts.ErrCorrupt) {
		return nil, err
	}
	s.last = &start{key, rec.Artifacts, rec.Ahead}
	return s.last, nil
}

// input compares what two tasks started from.
func (c *comparer) input(ctx context.Context, d *TaskDiff) error {
	a, err := c.a.start(ctx, d.A)
	if err != nil {
		return err
	}
	b, err := c.b.start(ctx, d.B)
	if err != nil {
		return err
	}
	if a.state != nil && b.state != nil { // else one is not known, or both start the run
		d.Input = c.artifacts(a.state, b.state, func(string) bool { return true })
	}
	if err := c.arms(ctx, d); err != nil {
		return err
	}
	p := c.b.run.graph().tasks[d.B.Step]
	f, level := p.itemOf(d.B.Index)
	if f == nil || a.ahead[f.Name].Items == nil || b.ahead[f.Name].Items == nil || len(d.A.Index) != len(d.B.Index) {
		return nil
	}
	listA, listB := *a.ahead[f.Name].Items, *b.ahead[f.Name].Items
	i, k := d.A.Index[level], d.B.Index[level]
	if listA == listB && i == k {
		return nil
	}
	da, err := c.a.item(ctx, listA, i)
	if err != nil {
		return err
	}
	db, err := c.b.item(ctx, listB, k)
	d.Item = da != db
	return err
}

// itemOf is the foreach of which a task begins an item, with the item's place in the index; nil if it begins none.
func (p *place) itemOf(x flow.Index) (*place, int) {
	n := min(len(p.around), len(x))
	for at := p; at.parent != nil; at = at.parent {
		switch up := at.parent; {
		case at.i < 0: // the join of a shape starts from what the shape starts from
		case up.Kind == flow.KindSeq && at.i > 0:
			return nil, 0
		case up.Kind == flow.KindLoop:
			if n--; n < 0 || x[n] > 0 {
				return nil, 0
			}
		case up.Kind == flow.KindForeach:
			return up, n - 1
		}
	}
	return nil, 0
}

// item is the digest of an item.
func (s *side) item(ctx context.Context, l flow.List, i int) (artifacts.Digest, error) {
	items := s.lists[l.Digest]
	if items == nil {
		var err error
		if items, err = flow.OpenItems(ctx, s.run.reader.store, l); err != nil {
			return artifacts.Digest{}, err
		}
		if s.lists == nil {
			s.lists = map[artifacts.Digest]*flow.Items{}
		}
		s.lists[l.Digest] = items
	}
	return items.Digest(ctx, i)
}

// arms compares what the arms of a branch gave to its join. The names have the last step of the arm before them.
func (c *comparer) arms(ctx context.Context, d *TaskDiff) error {
	p := c.b.run.graph().tasks[d.B.Step]
	if p == nil || p.i >= 0 || p.parent.Kind != flow.KindBranch {
		return nil
	}
	a, err := armEnds(d.A.Parents(ctx))
	if err != nil {
		return err
	}
	b, err := armEnds(d.B.Parents(ctx))
	if err != nil {
		return err
	}
	split := len(d.Input)
	for _, arm := range p.parent.nodes {
		for _, end := range arm.tasks() {
			ra, rb := a[end.Name], b[end.Name]
			if ra == nil || rb == nil {
				continue
			}
			for _, diff := range c.artifacts(ra.Artifacts, rb.Artifacts, func(string) bool { return true }) {
				if slices.ContainsFunc(d.Input[:split], func(s ArtifactDiff) bool { return s.Name == diff.Name }) {
					continue // it differed before the branch
				}
				diff.Name = end.Name + "/" + diff.Name
				d.Input = append(d.Input, diff)
			}
		}
	}
	return nil
}

// armEnds are the records of parents by their steps.
func armEnds(parents iter.Seq2[*Task, error]) (map[string]*records.Task, error) {
	out := map[string]*records.Task{}
	for t, err := range parents {
		if err != nil {
			return nil, err
		}
		out[t.Step] = t.Record
	}
	return out, nil
}

// inputs counts the inputs of a foreach's join that differ.
func (c *comparer) inputs(ctx context.Context, a, b *Task) (int, error) {
	p := c.b.run.graph().tasks[b.Step]
	if p == nil || p.i >= 0 || p.parent.Kind != flow.KindForeach {
		return 0, nil
	}
	n := 0
	for pair, err := range paired(onlyItems(ctx, a), onlyItems(ctx, b)) {
		if err != nil {
			return 0, err
		}
		ta, tb := pair[0], pair[1]
		if ta == nil || tb == nil || len(c.artifacts(ta.Record.Artifacts, tb.Record.Artifacts, func(string) bool { return true })) > 0 {
			n++
		}
	}
	return n, nil
}

// onlyItems are the parents of a foreach's join without the task at the split.
func onlyItems(ctx context.Context, t *Task) iter.Seq2[*Task, error] {
	return func(yield func(*Task, error) bool) {
		for parent, err := range t.Parents(ctx) {
			if err == nil && len(parent.Index) <= len(t.Index) {
				continue
			}
			if !yield(parent, err) {
				return
			}
		}
	}
}
