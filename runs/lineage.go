package runs

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
)

// owners yields the runs that may have a task's record, in the order in which they count: this run, the one that tasks of the
// step were taken over from, the one where that one has them from. Documents of runs are read as the caller goes on.
func (r *Run) owners(ctx context.Context, p *place) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		from := func(reused map[string]string) string {
			if f := p.batch(); f != nil {
				return reused[records.ItemsKey(f.Name)]
			}
			return reused[p.Name]
		}
		next := from(r.Reused)
		// The only task of a step that was taken over has no record here.
		if (next == "" || p.depth() > 0) && !yield(r.Run.Run, nil) {
			return
		}
		seen := []string{r.Run.Run}
		for next != "" && !slices.Contains(seen, next) {
			if !yield(next, nil) {
				return
			}
			seen = append(seen, next)
			reused, err := r.reusedBy(ctx, next)
			if err != nil {
				yield("", err)
				return
			}
			next = from(reused)
		}
	}
}

// reusedBy says which run another run took tasks over from, by step. A run that is gone took over nothing.
func (r *Run) reusedBy(ctx context.Context, run string) (map[string]string, error) {
	r.mu.Lock()
	reused, ok := r.origins[run]
	r.mu.Unlock()
	if ok {
		return reused, nil
	}
	doc, err := records.LoadRun(ctx, r.reader.store, r.Flow, run)
	if err != nil && !errors.Is(err, artifacts.ErrNotFound) {
		return nil, fmt.Errorf("run %s/%s, which %s took tasks over from: %w", r.Flow, run, r.Pathspec(), err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.origins == nil {
		r.origins = map[string]map[string]string{}
	}
	r.origins[run] = doc.Reused
	return doc.Reused, nil
}

// record reads a task's record from the run that has it. It is [artifacts.ErrNotFound] when the task is not finished.
func (r *Run) record(ctx context.Context, p *place, x flow.Index) (records.Ref, *records.Task, error) {
	missing := artifacts.ErrNotFound
	for owner, err := range r.owners(ctx, p) {
		if err != nil {
			return records.Ref{}, nil, err
		}
		ref, rec, err := records.FindTask(ctx, r.reader.store, r.Flow, owner, p.Name, x)
		switch {
		case err == nil:
			return ref, &rec, nil
		case !errors.Is(err, artifacts.ErrNotFound):
			return records.Ref{}, nil, err
		}
		missing = err
	}
	return records.Ref{}, nil, missing
}

// split is the task that decided about a shape.
type split struct {
	ref records.Ref
	rec *records.Task
	flow.Decision
}

// decided finds what was decided about a shape at an index of its own. It is nil when nothing was yet.
func (r *Run) decided(ctx context.Context, shape *place, x flow.Index) (*split, error) {
	if shape.batch() != nil { // only the items of a batch as a whole have a record
		return nil, nil
	}
	for _, l := range shape.before() {
		y, err := r.leadIndex(ctx, shape, l, x)
		if err != nil {
			return nil, err
		}
		if y == nil {
			continue
		}
		ref, rec, err := r.record(ctx, l.place, *y)
		if errors.Is(err, artifacts.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if d, ok := rec.Ahead[shape.Name]; ok {
			return &split{ref, rec, d}, nil
		}
	}
	return nil, nil
}

// leadIndex is the index of a task that goes before a shape which has index x, nil if there is none.
func (r *Run) leadIndex(ctx context.Context, shape *place, l lead, x flow.Index) (*flow.Index, error) {
	shared := 0
	for shared < min(len(shape.around), len(l.around), len(x)) && shape.around[shared] == l.around[shared] {
		shared++
	}
	if l.turn != nil {
		shared = min(shared, slices.Index(shape.around, l.turn)+1)
	}
	var y flow.Index
	if shared > 0 {
		y = slices.Clone(x[:shared])
	}
	if l.turn != nil && shared > 0 {
		if y[shared-1]--; y[shared-1] < 0 {
			return nil, nil
		}
	}
	if len(l.around) == shared {
		return &y, nil
	}
	// It is in loops that ended: the last turns count.
	var last flow.Index
	for owner, err := range r.owners(ctx, l.place) {
		if err != nil {
			return nil, err
		}
		for z, err := range records.TaskIndexes(ctx, r.reader.store, r.Flow, owner, l.Name) {
			if err != nil {
				return nil, err
			}
			if len(z) == len(l.around) && z[:shared].Equal(y) && slices.Compare(z, last) > 0 {
				last = z
			}
		}
	}
	if last == nil {
		return nil, nil
	}
	return &last, nil
}

// manySplits bounds how many records are read to know how many tasks there will be.
const manySplits = 200

// total is how many tasks a step in foreach shapes will have, 0 when that is not known.
func (r *Run) total(ctx context.Context, p *place) (int, error) {
	around := p.around
	if f := p.batch(); f != nil {
		around = p.around[:len(f.around)+1]
		if len(p.around) > len(around) {
			return 0, nil
		}
	}
	for i, s := range around {
		if s.Kind != flow.KindForeach || i > 0 && !s.certain() {
			return 0, nil
		}
	}
	if !p.certain() {
		return 0, nil
	}
	left := manySplits
	var count func(level int, x flow.Index) (n int, known bool, err error)
	count = func(level int, x flow.Index) (int, bool, error) {
		if left--; left < 0 {
			return 0, false, nil
		}
		s, err := r.decided(ctx, around[level], x)
		if err != nil || s == nil || s.Items == nil {
			return 0, false, err
		}
		if level == len(around)-1 {
			return s.Items.Len, true, nil
		}
		sum := 0
		for i := range s.Items.Len {
			n, known, err := count(level+1, append(slices.Clone(x), i))
			if err != nil || !known {
				return 0, false, err
			}
			sum += n
		}
		return sum, true, nil
	}
	n, known, err := count(0, nil)
	if err != nil || !known {
		return 0, err
	}
	return n, nil
}

// passedBy reports whether a task that did not run never will, because a switch went another way or a loop took no turn.
func (r *Run) passedBy(ctx context.Context, p *place, x flow.Index) (bool, error) {
	if r.Status == records.StatusCompleted {
		return true, nil
	}
	for at := p; at.parent != nil; at = at.parent {
		shape := at.parent
		if len(shape.around) > len(x) || shape.Kind != flow.KindSwitch && shape.Kind != flow.KindLoop {
			continue
		}
		s, err := r.decided(ctx, shape, x[:len(shape.around)])
		if err != nil {
			return false, err
		}
		if s == nil {
			continue
		}
		if shape.Kind == flow.KindSwitch && shape.Chosen(s.Decision) != at.i || shape.Kind == flow.KindLoop && !s.Again {
			return true, nil
		}
	}
	return false, nil
}
