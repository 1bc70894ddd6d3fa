package runs

import (
	"context"
	"errors"
	"iter"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
)

// Glance is what is known of a task without reading its record.
type Glance struct {
	Index flow.Index
	State State
	// Tried says that an attempt of the task failed in this run. Items of batches do not tell.
	Tried bool
}

// Glances yields what is known of the tasks that have begun, in the order of their indexes, without reading their records. Items
// of batches are in the records of the batches, which are read as they come.
func (s *Step) Glances(ctx context.Context) iter.Seq2[Glance, error] {
	return func(yield func(Glance, error) bool) {
		switch {
		case s.Task != nil:
			if s.Task.State != NotStarted && s.Task.State != Skipped {
				yield(Glance{s.Task.Index, s.Task.State, false}, nil)
			}
		case s.fan != nil:
			for group := range s.fan.groups() {
				items, err := s.fan.items(ctx, group)
				if err != nil {
					yield(Glance{}, err)
					return
				}
				for _, item := range items {
					state, ok := s.run.graph().did(s.at, item.Item)
					if ok && !yield(Glance{append(slices.Clone(group[0].x), item.Index), state, false}, nil) {
						return
					}
				}
			}
		default:
			for _, e := range s.set.tasks {
				if !yield(Glance{e.x, longStates[e.state], e.tried}, nil) {
					return
				}
			}
		}
	}
}

// Sample reads at most n of the tasks of which want accepts the glance, spread evenly over them, and says how many it accepts
// altogether. A nil want accepts all. Of a foreach with batches it reads some batches, and what it says of the others is a guess
// after those. Tasks whose records are damaged are left out.
func (s *Step) Sample(ctx context.Context, n int, want func(Glance) bool) (tasks []*Task, of int, _ error) {
	if want == nil {
		want = func(Glance) bool { return true }
	}
	switch {
	case s.Task != nil:
		if want(Glance{s.Task.Index, s.Task.State, false}) && n > 0 {
			return []*Task{s.Task}, 1, nil
		}
		return nil, 0, nil
	case s.fan != nil:
		return s.fan.sample(ctx, s, n, want)
	}
	var wanted []int
	for i, e := range s.set.tasks {
		if want(Glance{e.x, longStates[e.state], e.tried}) {
			wanted = append(wanted, i)
		}
	}
	of = len(wanted)
	wanted = spread(wanted, n)
	tasks = make([]*Task, len(wanted))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallelReads)
	for k, i := range wanted {
		g.Go(func() error {
			t, err := s.set.task(ctx, s.set.tasks[i])
			if errors.Is(err, artifacts.ErrNotFound) || unreadable(err) { // deleted since the keys were listed, or damaged
				return nil
			}
			tasks[k] = t
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, 0, err
	}
	return slices.DeleteFunc(tasks, func(t *Task) bool { return t == nil }), of, nil
}

// spread takes n of all, the first and the last among them.
func spread[T any](all []T, n int) []T {
	if len(all) <= n {
		return all
	}
	if n < 2 {
		return all[:max(n, 0)]
	}
	out := make([]T, n)
	for k := range out {
		out[k] = all[k*(len(all)-1)/(n-1)]
	}
	return out
}

func (b *batchSet) sample(ctx context.Context, s *Step, n int, want func(Glance) bool) ([]*Task, int, error) {
	groups := slices.Collect(b.groups())
	size := 1
	for _, g := range groups {
		size = max(size, g[0].head.Count)
	}
	looked := spread(groups, max(n/size, 2))
	var tasks []*Task
	for _, group := range looked {
		items, err := b.items(ctx, group)
		if err != nil {
			return nil, 0, err
		}
		from, err := b.run.decided(ctx, b.f, group[0].x)
		if err != nil {
			return nil, 0, err
		}
		for _, item := range items {
			if t := b.run.itemTask(s.at, group[0].x, item, from); t != nil && want(Glance{t.Index, t.State, false}) {
				tasks = append(tasks, t)
			}
		}
	}
	of := len(tasks)
	if len(looked) > 0 {
		of = of * len(groups) / len(looked)
	}
	return spread(tasks, n), of, nil
}

// Cell sums up items of a foreach that are next to each other.
type Cell struct {
	// First is the index of the first item, and Items how many there are.
	First flow.Index
	Items int
	// The counts say how the items stand. Those that are in none have not begun.
	Completed, Failed, Cancelled, Paused, Running, Unfinished int
}

// Cells sums up the items of the foreach in at most n cells of the same number of items: one for each item if there are few. No
// record is read but those of batches, and of many batches only their summaries.
func (f *Foreach) Cells(ctx context.Context, n int) ([]Cell, error) {
	if n < 1 || len(f.Steps) == 0 {
		return nil, nil
	}
	depth := len(f.at.around) + 1
	if f.at.nodes[0].batch() != nil && depth == 1 && f.Items > n {
		return f.batchCells(ctx, n)
	}
	list, err := f.states(ctx, depth)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	size := (len(list) + n - 1) / n
	cells := make([]Cell, 0, (len(list)+size-1)/size)
	for i, item := range list {
		if i%size == 0 {
			if depth == 1 {
				item.x = flow.Index{i}
			}
			cells = append(cells, Cell{First: item.x})
		}
		cells[len(cells)-1].add(item.state)
	}
	return cells, nil
}

func (c *Cell) add(s State) {
	c.Items++
	switch s {
	case Completed, Caught:
		c.Completed++
	case Failed:
		c.Failed++
	case Cancelled:
		c.Cancelled++
	case Paused:
		c.Paused++
	case Running:
		c.Running++
	case Unfinished:
		c.Unfinished++
	case NotStarted, Skipped, InBatches:
	}
}

type itemState struct {
	x     flow.Index // nil of a foreach that is not nested: there may be a million
	state State
}

// states says how the items stand, in order. Of a foreach outside of others and of loops it is the whole list, otherwise those
// that have begun.
func (f *Foreach) states(ctx context.Context, depth int) ([]itemState, error) {
	var list []itemState
	at := map[string]int{} // of a nested one
	if depth == 1 {
		list = make([]itemState, f.Items)
		for i := range list {
			list[i].state = NotStarted
		}
	}
	ends := f.at.ends()
	for _, s := range f.Steps {
		last := slices.Contains(ends, s.at)
		for g, err := range s.Glances(ctx) {
			if err != nil {
				return nil, err
			}
			i := g.Index[depth-1]
			if depth > 1 {
				key := g.Index[:depth].Key()
				known, ok := at[key]
				if !ok {
					known = len(list)
					at[key] = known
				}
				i = known
			}
			for len(list) <= i {
				item := itemState{state: NotStarted}
				if depth > 1 {
					item.x = g.Index[:depth]
				}
				list = append(list, item) //nolint:makezero // of a foreach outside of others, the list is whole from the start
			}
			state := g.State
			if !last && (state == Completed || state == Caught) {
				state = f.run.openItem()
			}
			if weight(state) > weight(list[i].state) {
				list[i].state = state
			}
		}
	}
	return list, nil
}

// openItem is the state of an item that has begun and not come to its last step.
func (r *Run) openItem() State {
	if r.Status == records.StatusRunning {
		return Running
	}
	return Unfinished
}

// weight orders the states of an item's tasks by which of them is the item's.
func weight(s State) int {
	return slices.Index([]State{NotStarted, Skipped, InBatches, Unfinished, Running, Completed, Caught, Cancelled, Paused, Failed}, s)
}

// batchCells sums up the summaries of batches.
func (f *Foreach) batchCells(ctx context.Context, n int) ([]Cell, error) {
	set, err := f.run.batches(ctx, f.at)
	if err != nil {
		return nil, err
	}
	size := (f.Items + n - 1) / n
	cells := make([]Cell, (f.Items+size-1)/size)
	for i := range cells {
		cells[i] = Cell{First: flow.Index{i * size}, Items: min(size, f.Items-i*size)}
	}
	for group := range set.groups() {
		h := group[0].head
		for _, b := range group[1:] { // what a resume did again is told by the nearest run alone
			h.Count = max(h.Count, b.end()-h.First)
			h.Completed = min(h.Completed+b.head.Completed, h.Count-h.Failed)
		}
		// The summary does not say which of the items failed.
		for i := h.First / size; i*size < h.First+h.Count && i < len(cells); i++ {
			from, to := max(h.First, i*size), min(h.First+h.Count, (i+1)*size)
			share := func(k int) int { return k*(to-h.First)/h.Count - k*(from-h.First)/h.Count }
			cells[i].Completed += share(h.Completed)
			cells[i].Failed += share(h.Failed)
		}
	}
	return cells, nil
}
