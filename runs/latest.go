package runs

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/stepwell-flows/stepwell/records"
)

// Newest returns the newest run of a flow that f takes: with a tag, of a user, of a project's branch, that failed. When there is none it
// is [ErrNotFound]. Runs are read from the newest on, no further than to the one that is returned.
func (r *Reader) Newest(ctx context.Context, flowName string, f Filter) (*Run, error) {
	for run, err := range r.Select(ctx, flowName, f) {
		if err != nil {
			return nil, err
		}
		return run, nil
	}
	return nil, fmt.Errorf("flow %q: %w: no such run in %s", flowName, ErrNotFound, r.store)
}

// LatestSuccessful returns the newest run of a flow that completed. When there is none it is [ErrNotFound].
func (r *Reader) LatestSuccessful(ctx context.Context, flowName string) (*Run, error) {
	run, err := r.Newest(ctx, flowName, Filter{Statuses: []records.Status{records.StatusCompleted}})
	if errors.Is(err, ErrNotFound) {
		err = fmt.Errorf("completed run of %w", err)
	}
	return run, err
}

// Resumed yields the runs that were resumed from this one, newest first, not those that were resumed from them. Only runs that started
// after this one are looked at, and only of those that it yields is it read how they ended.
func (r *Run) Resumed(ctx context.Context) iter.Seq2[*Run, error] {
	// The clocks of the machines that started them may differ.
	return r.reader.Select(ctx, r.Flow, Filter{Since: r.Started.Add(-slack), origin: r.Run.Run})
}

// OriginRun is the run that this one was resumed from. It is [ErrNotFound] if it was not resumed, or that run is gone.
func (r *Run) OriginRun(ctx context.Context) (*Run, error) {
	if r.Origin == "" {
		return nil, fmt.Errorf("origin of run %s: %w (it was not resumed from another)", r.Pathspec(), ErrNotFound)
	}
	return r.reader.Run(ctx, r.Flow, r.Origin)
}
