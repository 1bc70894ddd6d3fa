package runs

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/internal/readahead"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

// batchSet is the batches of a foreach that ended. Their items have no records of their own: their line in the batch's record is
// one.
type batchSet struct {
	run     *Run
	f       *place
	batches []batch // by index and first item; of those that overlap, the one of the nearest run first
}

// batch is one batch, without its items.
type batch struct {
	x     flow.Index // of the foreach
	owner string
	near  int // how many resumes ago the owner was
	head  records.Shard
}

func (b batch) end() int { return b.head.First + b.head.Count }

// ran is an item of a batch.
type ran struct {
	records.Item
	owner string // the run that it ran in, which another's batch may have taken it over from
}

// batches reads the summaries of a foreach's batches.
func (r *Run) batches(ctx context.Context, f *place) (*batchSet, error) {
	s := &batchSet{run: r, f: f}
	near := 0
	first := f.nodes[0].firsts()[0] // any of the steps within says where its tasks were taken over from
	for owner, err := range r.owners(ctx, first) {
		if err != nil {
			return nil, err
		}
		at, err := records.BatchIndexes(ctx, r.reader.store, r.Flow, owner, f.Name)
		if err != nil {
			return nil, err
		}
		for _, x := range at {
			if len(x) != len(f.around) {
				continue
			}
			firsts, err := records.Batches(ctx, r.reader.store, r.Flow, owner, f.Name, x)
			if err != nil {
				return nil, err
			}
			for _, first := range firsts {
				s.batches = append(s.batches, batch{x, owner, near, records.Shard{First: first}})
			}
		}
		near++
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallelReads)
	for i := range s.batches {
		g.Go(func() (err error) {
			b := &s.batches[i]
			b.head, err = r.batchHead(ctx, b.owner, f.Name, b.x, b.head.First)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	slices.SortFunc(s.batches, func(a, b batch) int {
		return cmp.Or(slices.Compare(a.x, b.x), cmp.Compare(a.head.First, b.head.First), cmp.Compare(a.near, b.near))
	})
	return s, nil
}

// batchHead reads the summary of a batch, which never changes, once.
func (r *Run) batchHead(ctx context.Context, owner, foreach string, x flow.Index, first int) (records.Shard, error) {
	key := records.BatchKey(r.Flow, owner, foreach, x, first)
	r.mu.Lock()
	head, ok := r.heads[key]
	r.mu.Unlock()
	if ok {
		return head, nil
	}
	head, err := records.BatchHead(ctx, r.reader.store, r.Flow, owner, foreach, x, first)
	if err != nil {
		return head, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.heads == nil {
		r.heads = map[string]records.Shard{}
	}
	r.heads[key] = head
	return head, nil
}

// firsts are the tasks of which one begins a node.
func (p *place) firsts() []*place {
	switch p.Kind {
	case flow.KindStep, flow.KindDecide:
		return []*place{p}
	default:
		var out []*place
		for _, n := range p.nodes {
			out = append(out, n.firsts()...)
			if p.Kind == flow.KindSeq && len(out) > 0 {
				break
			}
		}
		if len(out) == 0 && p.join != nil {
			out = []*place{p.join}
		}
		return out
	}
}

// groups yields batches that overlap together. One run has none that do, but a resume may have run items of a batch again.
func (s *batchSet) groups() iter.Seq[[]batch] {
	return func(yield func([]batch) bool) {
		for i := 0; i < len(s.batches); {
			end, k := s.batches[i].end(), i+1
			for k < len(s.batches) && s.batches[k].x.Equal(s.batches[i].x) && s.batches[k].head.First < end {
				end = max(end, s.batches[k].end())
				k++
			}
			if !yield(s.batches[i:k]) {
				return
			}
			i = k
		}
	}
}

// items reads the items of batches that overlap, in order. An item counts in the nearest run in which it ended.
func (s *batchSet) items(ctx context.Context, group []batch) ([]ran, error) {
	near := slices.Clone(group)
	slices.SortStableFunc(near, func(a, b batch) int { return cmp.Compare(a.near, b.near) })
	var out []ran
	var seen map[int]bool
	if len(group) > 1 {
		seen = map[int]bool{}
	}
	for _, b := range near {
		_, doc, err := records.FindBatch(ctx, s.run.reader.store, s.run.Flow, b.owner, s.f.Name, b.x, b.head.First)
		if err != nil {
			return nil, err
		}
		for _, item := range doc.Items {
			if item.Outcome == "" || seen[item.Index] {
				continue
			}
			if seen != nil {
				seen[item.Index] = true
			}
			out = append(out, ran{item, cmp.Or(item.From, b.owner)})
		}
	}
	slices.SortStableFunc(out, func(a, b ran) int { return cmp.Compare(a.Index, b.Index) })
	return out, nil
}

// itemsOf reads the items of several groups, a few before their turn: their records may be large.
func (s *batchSet) itemsOf(ctx context.Context, groups [][]batch) iter.Seq2[[]ran, error] {
	return readahead.InOrder(ctx, 4, len(groups), func(ctx context.Context, i int) ([]ran, error) { return s.items(ctx, groups[i]) })
}

// did is what became of an item's task of a step, false if it had none.
func (g *graph) did(p *place, item records.Item) (State, bool) {
	last := g.ended(p.batch(), item)
	switch {
	case last == p && item.Outcome == records.Failed:
		return Failed, true
	case last == p && item.Outcome == records.Caught:
		return Caught, true
	case last != p && (!p.sure() || last == nil || last.order < p.order):
		return "", false
	}
	return Completed, true
}

// mayHave reports whether an item may have had a task of a step that nothing tells of: it ended with another step, in a later turn of a
// loop around both or further on.
func (g *graph) mayHave(p *place, item records.Item) bool {
	f, last := p.batch(), g.ended(p.batch(), item)
	switch {
	case last == p, p.sure():
		return false
	case item.Outcome == records.Failed && item.Failure != nil && g.tasks[item.Failure.Step] == nil: // its worker was lost, wherever it was
		return true
	}
	shared := p.parent
	for !last.within(shared) {
		shared = shared.parent
	}
	for up := shared; up != f; up = up.parent {
		if up.Kind == flow.KindLoop {
			return true
		}
	}
	return shared.Kind != flow.KindSwitch && p.order < last.order
}

// within reports whether a node is in another.
func (p *place) within(other *place) bool {
	for up := p.parent; up != nil; up = up.parent {
		if up == other {
			return true
		}
	}
	return false
}

// ended is the step that an item ended with. One whose worker was lost does not say.
func (g *graph) ended(f *place, item records.Item) *place {
	step := item.Step
	if item.Failure != nil && item.Outcome == records.Failed {
		step = item.Failure.Step // that of the item is the last one that completed
	}
	if p := g.tasks[step]; p != nil && p.batch() == f {
		return p
	}
	if lasts, _ := f.nodes[0].last(); item.Outcome != records.Failed && len(lasts) == 1 {
		return lasts[0]
	}
	return f.nodes[0].firsts()[0]
}

// sure reports whether each item of a batch that comes to the end of it has a task of the step.
func (p *place) sure() bool {
	return p.certain() && len(p.around) > 0 && p.around[len(p.around)-1] == p.batch()
}

// final reports whether a step is the last of an item.
func (p *place) final() bool {
	lasts, _ := p.batch().nodes[0].last()
	return slices.Contains(lasts, p)
}

// count counts the tasks of a step. Items are read only of batches in which the summary does not tell. Untold says that there may be more
// tasks, of which nothing tells.
func (s *batchSet) count(ctx context.Context, p *place) (c Counts, untold bool, _ error) {
	alone := len(s.f.nodes[0].tasks()) == 1 // so that an item is a task
	var unclear [][]batch
	for group := range s.groups() {
		if h := group[0].head; len(group) == 1 && (h.Failed == 0 && p.sure() || alone) {
			c.Completed += h.Completed
			c.Failed += h.Failed
			if p.final() {
				c.Caught += h.Caught
			}
			if group[0].near > 0 {
				c.Reused += h.Completed
			} else {
				c.Reused += h.Reused
			}
			continue
		}
		unclear = append(unclear, group)
	}
	for items, err := range s.itemsOf(ctx, unclear) {
		if err != nil {
			return c, untold, err
		}
		for _, item := range items {
			untold = untold || s.run.graph().mayHave(p, item.Item)
			if state, ok := s.run.graph().did(p, item.Item); ok {
				c.add(state)
				if item.owner != s.run.Run.Run && state != Failed {
					c.Reused++
				}
			}
		}
	}
	if p == s.f.nodes[0].firsts()[0] { // which of its steps a batch is at, nobody tells
		c.Running = s.run.runningBatches(ctx, s.f.Name)
	}
	return c, untold, nil
}

func (s *batchSet) each(ctx context.Context, p *place, want func(State) bool) iter.Seq2[*Task, error] {
	return func(yield func(*Task, error) bool) {
		var wanted [][]batch
		for group := range s.groups() {
			if h := group[0].head; len(group) == 1 && !want(Completed) && (!want(Failed) || h.Failed == 0) && (!want(Caught) || h.Caught == 0) {
				continue
			}
			wanted = append(wanted, group)
		}
		var from *split
		next := 0
		for items, err := range s.itemsOf(ctx, wanted) {
			var x flow.Index
			if err == nil {
				x = wanted[next][0].x
				next++
				if from == nil || len(s.f.around) > 0 {
					from, err = s.run.decided(ctx, s.f, x)
				}
			}
			if err != nil {
				yield(nil, err)
				return
			}
			for _, item := range items {
				t := s.run.itemTask(p, x, item, from)
				if t != nil && want(t.State) && !yield(t, nil) {
					return
				}
			}
		}
	}
}

// first finds the task of a step that failed first. The summaries tell of each batch which that was, of any step.
func (s *batchSet) first(ctx context.Context, p *place) (*Task, error) {
	var first *policies.Failure
	for _, b := range s.batches {
		if f := b.head.Failure; f != nil && f.Step == p.Name && b.near == 0 && (first == nil || f.Time.Before(first.Time)) {
			first = f
		}
	}
	if first == nil {
		return nil, nil
	}
	t, err := s.run.Task(ctx, first.Task)
	if errors.Is(err, ErrNotFound) || t != nil && t.State != Failed { // another run of the lineage did it
		return nil, nil
	}
	return t, err
}

// itemTask is the task of a step that an item had, nil if it had none.
func (r *Run) itemTask(p *place, x flow.Index, item ran, from *split) *Task {
	state, ok := r.graph().did(p, item.Item)
	if !ok {
		return nil
	}
	t := &Task{Step: p.Name, Index: append(slices.Clone(x), item.Index), Owner: item.owner, State: state, run: r, untried: true}
	if f := item.Failure; f != nil && state != Completed && t.named(f.Task) {
		t.name = f.Task
	}
	switch last := r.graph().ended(p.batch(), item.Item); {
	case state == Failed:
		t.Failure = item.Failure
	case last != p:
		t.recordedBy = r.recordedBy(last, t, item.Item)
	default:
		rec := &records.Task{
			Flow: r.Flow, Run: item.owner, Step: p.Name, Index: t.Index, Outcome: item.Outcome, Attempt: item.Attempt,
			Started: item.Started, Ended: item.Started.Add(item.Took), Failure: item.Failure,
			Artifacts: map[string]artifacts.Entry{}, Changed: slices.Sorted(maps.Keys(item.Set)),
		}
		if from != nil {
			maps.Copy(rec.Artifacts, from.rec.Artifacts)
			rec.Parents = []records.Ref{from.ref}
		}
		maps.Copy(rec.Artifacts, item.Set)
		for _, name := range item.Gone {
			delete(rec.Artifacts, name)
		}
		t.finished(rec)
	}
	return t
}

// recordedBy names the last task of the item that a task is in.
func (r *Run) recordedBy(last *place, t *Task, item records.Item) string {
	at := &Task{Step: last.Name, Index: t.Index}
	if f := item.Failure; f != nil && at.named(f.Task) {
		return f.Task
	}
	return at.Name()
}

// item finds one item of a foreach with batches. It is nil when the item did not end.
func (r *Run) item(ctx context.Context, p *place, x flow.Index, i int) (*ran, error) {
	f := p.batch()
	for owner, err := range r.owners(ctx, p) {
		if err != nil {
			return nil, err
		}
		_, doc, err := records.FindBatch(ctx, r.reader.store, r.Flow, owner, f.Name, x, i/f.Fan.Batch*f.Fan.Batch)
		if errors.Is(err, artifacts.ErrNotFound) {
			doc, err = r.covering(ctx, owner, f.Name, x, i)
		}
		if err != nil {
			return nil, err
		}
		for _, item := range doc.Items {
			if item.Index == i && item.Outcome != "" {
				return &ran{item, cmp.Or(item.From, owner)}, nil
			}
		}
	}
	return nil, nil
}

// begunBatches reports whether batches of a foreach were begun that have no record, as far as is known: they run, or they wrote down what
// they got done so far.
func (r *Run) begunBatches(ctx context.Context, f *place) (bool, error) {
	if r.Status == records.StatusCompleted {
		return false, nil
	}
	if r.runningBatches(ctx, f.Name) > 0 {
		return true, nil
	}
	names, err := r.reader.dirs(ctx, records.RunPrefix(r.Flow, r.Run.Run)+"parts/")
	return slices.Contains(names, f.Name), err
}

// begunBatch reports the same of the batch of one item.
func (r *Run) begunBatch(ctx context.Context, f *place, x flow.Index, i int) (bool, error) {
	first := i / f.Fan.Batch * f.Fan.Batch
	if _, err := r.batchHead(ctx, r.Run.Run, f.Name, x, first); !errors.Is(err, artifacts.ErrNotFound) {
		return false, err
	}
	for _, err := range r.reader.store.List(ctx, records.BatchPartPrefix(r.Flow, r.Run.Run, f.Name, x, first)) {
		return err == nil, err
	}
	return false, nil
}

// covering finds the batch of an item when it does not begin where batches of a whole list do.
func (r *Run) covering(ctx context.Context, owner, foreach string, x flow.Index, i int) (records.Shard, error) {
	firsts, err := records.Batches(ctx, r.reader.store, r.Flow, owner, foreach, x)
	if err != nil {
		return records.Shard{}, err
	}
	k, exact := slices.BinarySearch(firsts, i)
	if !exact {
		k--
	}
	if k < 0 {
		return records.Shard{}, nil
	}
	_, doc, err := records.FindBatch(ctx, r.reader.store, r.Flow, owner, foreach, x, firsts[k])
	return doc, err
}
