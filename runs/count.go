package runs

import (
	"context"
	"fmt"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
)

// PendingTask is a task of the run's own workflow that had not ended when the run was read or refreshed, nil if it is none of
// them. Nothing is read for it.
func (r *Run) PendingTask(name string) *Task {
	step, x, err := flow.ParseTaskName(name)
	if err != nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.pending.own[name]
	if !ok {
		return nil
	}
	return &Task{Step: step, Index: x, State: Running, Owner: r.Run.Run, Pending: &p, run: r}
}

// CountItems counts the items of a foreach that have ended so far, for whoever looks again and again: from the keys of the records
// of last steps alone, or from the summaries of batches. Items that failed are counted only in batches. Where another run's
// records come in, they are counted as this run's.
func (r *Run) CountItems(ctx context.Context, foreach string, x flow.Index) (completed, failed int, _ error) {
	at := r.graph().shapes[foreach]
	if at == nil || at.Kind != flow.KindForeach {
		return 0, 0, fmt.Errorf("foreach %q: %w in run %s", foreach, ErrNotFound, r.Pathspec())
	}
	if at.nodes[0].batch() != nil {
		set, err := r.batches(ctx, at)
		if err != nil {
			return 0, 0, err
		}
		for group := range set.groups() {
			if !group[0].x.Equal(x) {
				continue
			}
			most := 0
			for _, b := range group { // those that overlap have the same items, some of them
				most = max(most, b.head.Completed)
				if b.owner == r.Run.Run {
					failed += b.head.Failed // what failed in another run runs again
				}
			}
			completed += most
		}
		return completed, failed, nil
	}
	for _, p := range at.ends() {
		n, err := r.countItems(ctx, p, x)
		if err != nil {
			return 0, 0, err
		}
		completed += n
	}
	return completed, 0, nil
}

// countItems counts the items of a foreach at x in which a step has ended.
func (r *Run) countItems(ctx context.Context, p *place, x flow.Index) (int, error) {
	n := 0
	var items map[int]bool // of several runs or turns, which count once
	if _, taken := r.Reused[p.Name]; taken || p.depth() > len(x)+1 {
		items = map[int]bool{}
	}
	for owner, err := range r.owners(ctx, p) {
		if err != nil {
			return 0, err
		}
		for y, err := range records.TaskIndexes(ctx, r.reader.store, r.Flow, owner, p.Name) {
			switch {
			case err != nil:
				return 0, err
			case len(y) <= len(x) || !y[:len(x)].Equal(x):
			case items != nil:
				items[y[len(x)]] = true
			default:
				n++
			}
		}
	}
	return n + len(items), nil
}
