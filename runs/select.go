package runs

import (
	"context"
	"errors"
	"iter"
	"sync"
	"time"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/records"
)

// readAhead is how many runs, or records of tasks, are read at the same time, at most.
const readAhead = 32

// Runs yields a flow's runs, newest first, like [Reader.Select] of all.
func (r *Reader) Runs(ctx context.Context, flowName string) iter.Seq2[*Run, error] {
	return r.Select(ctx, flowName, Filter{})
}

// Select yields the runs of a flow that f takes, newest first. It reads runs at the same time, at most as many ahead as it has
// read already and never more than 32, so that whoever takes the first one pays for one.
// It yields one error and stops when the store fails; an unknown flow is [ErrNotFound]. A run whose documents are damaged
// or too new yields its own error, and whoever goes on gets the older ones.
func (r *Reader) Select(ctx context.Context, flowName string, f Filter) iter.Seq2[*Run, error] {
	return func(yield func(*Run, error) bool) {
		ids, err := r.IDs(ctx, flowName)
		var changed map[string]bool
		if err == nil {
			ids = f.ids(ids)
			changed, err = r.retagged(ctx, flowName)
		}
		if err != nil {
			yield(nil, err)
			return
		}
		for n := 1; len(ids) > 0; n = min(2*n, readAhead) {
			batch := ids[:min(n, len(ids))]
			ids = ids[len(batch):]
			found := make([]*Run, len(batch))
			errs := make([]error, len(batch))
			var wait sync.WaitGroup
			for i, id := range batch {
				wait.Go(func() { found[i], errs[i] = r.take(ctx, flowName, id, changed[id], f) })
			}
			wait.Wait()
			for i, run := range found {
				err := errs[i]
				if run == nil && err == nil || errors.Is(err, ErrNotFound) || errors.Is(err, ErrPathspec) {
					continue // not taken, or a folder without run.json: what is left of a run that could not start
				}
				if !yield(run, err) || err != nil && !unreadable(err) {
					return
				}
			}
		}
	}
}

// retagged says which runs of a flow have tags that changed.
func (r *Reader) retagged(ctx context.Context, flowName string) (map[string]bool, error) {
	changed := map[string]bool{}
	for id, err := range r.store.Dirs(ctx, records.FlowTagsPrefix(flowName)) {
		if err != nil {
			return nil, err
		}
		changed[id] = true
	}
	return changed, nil
}

// take reads one run of a list, and nil if the filter does not take it. How a run ended is read only when all else fits.
func (r *Reader) take(ctx context.Context, flowName, id string, retagged bool, f Filter) (*Run, error) {
	run, err := r.load(ctx, flowName, id, retagged)
	if err != nil || !f.facts(run) {
		return nil, err
	}
	if err := run.refresh(ctx, time.Now().UnixNano() > r.away.Load()); err != nil {
		return nil, err
	}
	if !f.status(run) {
		return nil, nil //nolint:nilnil // no run is no error here
	}
	return run, nil
}

// unreadable says that an error is of one document, not of the store.
func unreadable(err error) bool {
	return errors.Is(err, artifacts.ErrCorrupt) || errors.Is(err, records.ErrNewer)
}
