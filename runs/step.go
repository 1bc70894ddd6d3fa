package runs

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

// Step is a step of a run. A step in a foreach or a loop has any number of tasks, up to millions: they are counted here, and
// [Step.Tasks] reads them one after the other.
type Step struct {
	Name string
	// Shapes names the foreach shapes and loops around the step, outermost first. The index of a task has a number for each.
	Shapes []string
	// Task is the step's only task. Nil for a step in a foreach or a loop.
	Task *Task
	// State sums up the states of the tasks. With some that failed it is Failed when the run has ended, and Completed all the
	// same when the run has completed: they were tolerated.
	State State
	Counts
	// Untold says that there were, or may have been, more tasks in items of batches than the counts tell of: see [Step.RecordedBy].
	Untold bool

	at  *place
	run *Run
	set *taskSet  // of a step with many tasks that have records
	fan *batchSet // of a step in a foreach with batches
}

// Counts counts the tasks of a step by their states.
type Counts struct {
	// Total is how many tasks there will be, or were. 0 while that is not known.
	Total int
	// Completed counts tasks that ended well, with those whose failure was caught. Caught counts the latter alone, as far as
	// it looks: at the first 2,000 tasks that had an attempt which failed.
	Completed, Caught int
	Failed, Cancelled int
	// Running counts tasks that were begun and have not ended. Of a foreach in many child workflows, it looks at some.
	Running int
	// Paused counts tasks that wait for a person.
	Paused int
	// Unfinished counts those that were begun when nobody knows whether the run goes on.
	Unfinished int
	// Reused counts those of the completed ones that were taken over from another run.
	Reused int
}

// Begun is how many tasks have begun.
func (c Counts) Begun() int {
	return c.Completed + c.Failed + c.Cancelled + c.Running + c.Paused + c.Unfinished
}

func (c *Counts) add(s State) {
	switch s {
	case Completed:
		c.Completed++
	case Caught:
		c.Completed++
		c.Caught++
	case Failed:
		c.Failed++
	case Cancelled:
		c.Cancelled++
	case Running:
		c.Running++
	case Paused:
		c.Paused++
	case Unfinished:
		c.Unfinished++
	case NotStarted, Skipped, InBatches:
	}
}

// reading is what one look at a run's steps has found out, so that it is found out once.
type reading struct {
	run *Run
	// tried names the steps that have failed attempts in this run.
	tried func() (map[string]bool, error)

	mu     sync.Mutex
	failed map[string]map[string]*policies.Failure // the failed items of a foreach's shards, by task
}

func (r *Run) reading(ctx context.Context) *reading {
	return &reading{run: r, failed: map[string]map[string]*policies.Failure{}, tried: sync.OnceValues(func() (map[string]bool, error) {
		names, err := r.reader.dirs(ctx, records.RunPrefix(r.Flow, r.Run.Run)+"attempts/")
		if err != nil {
			return nil, err
		}
		out := make(map[string]bool, len(names))
		for _, name := range names {
			out[name] = true
		}
		return out, nil
	})}
}

// Steps returns all steps in the order of the plan, joins after what they join. The tasks of a step with many are counted
// from the keys of their records and from the summaries of batches, without reading them.
func (r *Run) Steps(ctx context.Context) ([]*Step, error) {
	names := r.Plan.Steps()
	steps := make([]*Step, len(names))
	in := r.reading(ctx)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i, name := range names {
		g.Go(func() (err error) {
			steps[i], err = in.step(ctx, r.graph().tasks[name])
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return steps, nil
}

// Step returns one step; one that is not in the plan is [ErrNotFound]. A foreach or switch at the head of a flow or of items,
// which is decided by a task of its own, is a step of that name here.
func (r *Run) Step(ctx context.Context, name string) (*Step, error) {
	p, err := r.place(name)
	if err != nil {
		return nil, err
	}
	return r.reading(ctx).step(ctx, p)
}

func (r *Run) place(step string) (*place, error) {
	if p := r.graph().tasks[step]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("step %q: %w in run %s (it has %s)", step, ErrNotFound, r.Pathspec(), strings.Join(r.Plan.Steps(), ", "))
}

func (in *reading) step(ctx context.Context, p *place) (*Step, error) {
	r := in.run
	s := &Step{Name: p.Name, at: p, run: r}
	for _, shape := range p.around {
		s.Shapes = append(s.Shapes, shape.Name)
	}
	var err error
	switch {
	case len(p.around) == 0:
		if s.Task, err = in.task(ctx, p, nil); err != nil {
			return nil, err
		}
		s.State, s.Total = s.Task.State, 1
		if s.add(s.State); s.Task.Reused() {
			s.Reused = 1
		}
		return s, nil
	case p.batch() != nil:
		if s.fan, err = r.batches(ctx, p.batch()); err == nil {
			s.Counts, s.Untold, err = s.fan.count(ctx, p)
		}
	default:
		if s.set, err = in.collect(ctx, p); err == nil {
			s.Counts = s.set.count()
		}
	}
	if err != nil {
		return nil, err
	}
	if s.Total, err = r.total(ctx, p); err != nil {
		return nil, err
	}
	if s.Total == 0 && r.over() {
		s.Total = s.Begun()
	}
	s.State, err = r.sum(ctx, p, s.Counts)
	if s.fan != nil && s.Begun() == 0 && err == nil {
		begun := s.Untold
		if !begun {
			begun, err = r.begunBatches(ctx, p.batch())
		}
		if begun {
			s.State = InBatches
		}
	}
	if s.Untold {
		s.Total = 0
	}
	return s, err
}

// RecordedBy names the steps that are the last of an item, of a step in a foreach with batches: an item has one record, which is that of
// its last task. It is nil for other steps.
func (s *Step) RecordedBy() []string {
	f := s.at.batch()
	if f == nil {
		return nil
	}
	var names []string
	lasts, _ := f.nodes[0].last()
	for _, p := range lasts {
		names = append(names, p.Name)
	}
	return names
}

// over reports whether the run has ended.
func (r *Run) over() bool { return r.Status != records.StatusRunning && r.Status != Unknown }

// sum is the state of a step with many tasks.
func (r *Run) sum(ctx context.Context, p *place, c Counts) (State, error) {
	whole := c.Total > 0 && c.Completed+c.Failed >= c.Total
	switch {
	case c.Begun() == 0:
		passed, err := r.passedBy(ctx, p, nil)
		if passed {
			return Skipped, err
		}
		return NotStarted, err
	case r.Status == records.StatusCompleted: // what failed was tolerated
		return Completed, nil
	case c.Running+c.Paused > 0 || r.Status == records.StatusRunning && !whole:
		return Running, nil
	case c.Unfinished > 0 || !r.over() && !whole:
		return Unfinished, nil
	case c.Cancelled > 0:
		return Cancelled, nil
	case c.Failed > 0 && (whole || r.Status != records.StatusCancelled):
		return Failed, nil
	case !whole:
		return Unfinished, nil
	}
	return Completed, nil
}

// Tasks yields the tasks that have begun in the order of their indexes, and reads each as it comes. A step outside of any
// foreach and loop yields its only task, begun or not. After an error it ends.
func (s *Step) Tasks(ctx context.Context) iter.Seq2[*Task, error] {
	return s.tasks(ctx, func(State) bool { return true })
}

// Failures yields the tasks that failed for good and were not caught, in the order of their indexes, without reading others.
func (s *Step) Failures(ctx context.Context) iter.Seq2[*Task, error] {
	return s.tasks(ctx, func(state State) bool { return state == Failed })
}

// PausedTasks goes through the tasks of the step that wait for a person.
func (s *Step) PausedTasks(ctx context.Context) iter.Seq2[*Task, error] {
	return s.tasks(ctx, func(state State) bool { return state == Paused })
}

// CaughtTasks yields the tasks whose failure was caught, in the order of their indexes, without reading others.
func (s *Step) CaughtTasks(ctx context.Context) iter.Seq2[*Task, error] {
	return s.tasks(ctx, func(state State) bool { return state == Caught })
}

func (s *Step) tasks(ctx context.Context, want func(State) bool) iter.Seq2[*Task, error] {
	switch {
	case s.Task != nil:
		return func(yield func(*Task, error) bool) {
			if want(s.Task.State) {
				yield(s.Task, nil)
			}
		}
	case s.fan != nil:
		return s.fan.each(ctx, s.at, want)
	}
	return s.set.each(ctx, want)
}

// Logged yields the tasks that logged something, without what they produced: their logs can be read. A task counts in the run
// that is nearest. Of a foreach with batches it yields one task for each batch, which has the lines of all.
func (s *Step) Logged(ctx context.Context) iter.Seq2[*Task, error] {
	return func(yield func(*Task, error) bool) {
		if s.Task != nil {
			yield(s.Task, nil)
			return
		}
		r := s.run
		var all []*Task
		for owner, err := range r.owners(ctx, s.at) {
			if err != nil {
				yield(nil, err)
				return
			}
			name := s.Name
			if f := s.at.batch(); f != nil {
				name = f.Name
			}
			at, err := records.LoggedIndexes(ctx, r.reader.store, r.Flow, owner, name)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, x := range at {
				all = append(all, &Task{Step: s.Name, Index: x, Owner: owner, State: Unfinished, run: r, batch: name != s.Name})
			}
		}
		slices.SortStableFunc(all, func(a, b *Task) int { return slices.Compare(a.Index, b.Index) })
		for i, t := range all {
			if i > 0 && t.Index.Equal(all[i-1].Index) {
				continue
			}
			if !yield(t, nil) {
				return
			}
		}
	}
}

// First returns the task that failed first, with its failure: the one over which the run failed, if it is of this step, else the one
// whose failure is the earliest. It is nil when none failed.
func (s *Step) First(ctx context.Context) (*Task, error) {
	if s.Failed == 0 {
		return nil, nil
	}
	if t, err := s.blamed(ctx); t != nil || err != nil {
		return t, err
	}
	if s.fan != nil {
		if t, err := s.fan.first(ctx, s.at); t != nil || err != nil {
			return t, err
		}
	}
	var first *Task
	n := 0
	for t, err := range s.Failures(ctx) {
		if err != nil {
			return first, err
		}
		if err := t.Explain(ctx); err != nil {
			return first, err
		}
		if first == nil || t.Failure != nil && (first.Failure == nil || t.Failure.Time.Before(first.Failure.Time)) {
			first = t
		}
		if n++; n == manyFailures {
			break
		}
	}
	return first, nil
}

// blamed is the task of the step over which the run failed, nil if it is of another step.
func (s *Step) blamed(ctx context.Context) (*Task, error) {
	if s.run.Failure == nil {
		return nil, nil
	}
	step, _, err := flow.ParseTaskName(s.run.Failure.Task)
	if err != nil || step != s.Name {
		return nil, nil //nolint:nilerr // a failure of no task
	}
	t, err := s.run.Task(ctx, s.run.Failure.Task)
	if errors.Is(err, ErrNotFound) || err == nil && t.State != Failed {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return t, t.Explain(ctx)
}

// manyFailures bounds how many failed tasks are read to know the first.
const manyFailures = 200

// Explain finds out why a failed task failed, if it is not known, from its ledger.
func (t *Task) Explain(ctx context.Context) error {
	var err error
	if t.State == Failed && t.Failure == nil {
		var attempts []records.Attempt
		attempts, err = records.Attempts(ctx, t.run.reader.store, t.run.Flow, t.Owner, t.Step, t.Index)
		if n := len(attempts); n > 0 {
			t.Failure = attempts[n-1].Failure
		}
	}
	return err
}

// shardFailures reads why items failed from the shards of a foreach in this run, by the names of the tasks.
func (in *reading) shardFailures(ctx context.Context, f *place) (map[string]*policies.Failure, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if out, ok := in.failed[f.Name]; ok {
		return out, nil
	}
	r, out := in.run, map[string]*policies.Failure{}
	at, err := records.ShardIndexes(ctx, r.reader.store, r.Flow, r.Run.Run, f.Name)
	if err != nil {
		return nil, err
	}
	for _, x := range at {
		shards, err := r.shards(ctx, f.Name, x, func(s records.Shard) bool { return s.Failed > 0 && !s.Batched })
		if err != nil {
			return nil, err
		}
		for _, s := range shards {
			for _, item := range s.Items {
				if item.Failure != nil && item.Outcome == records.Failed {
					out[item.Failure.Task] = item.Failure
				}
			}
		}
	}
	in.failed[f.Name] = out
	return out, nil
}

// shards reads the documents of a foreach's shards in this run, some of them with their lines, as far as they are there and sound.
func (r *Run) shards(ctx context.Context, foreach string, x []int, whole func(records.Shard) bool) ([]records.Shard, error) {
	firsts, err := records.Shards(ctx, r.reader.store, r.Flow, r.Run.Run, foreach, x)
	if err != nil {
		return nil, err
	}
	out := make([]records.Shard, len(firsts))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallelReads)
	for i, first := range firsts {
		g.Go(func() error {
			s, err := records.LoadShard(ctx, r.reader.store, r.Flow, r.Run.Run, foreach, x, first, false)
			if err == nil && whole(s) {
				s, err = records.LoadShard(ctx, r.reader.store, r.Flow, r.Run.Run, foreach, x, first, true)
			}
			if missing(err) {
				return nil
			}
			out[i] = s
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(out, func(s records.Shard) bool { return s.Foreach == "" }), nil
}

// missing says that a document is gone or damaged. A shard's only sums up what the records of its items tell.
func missing(err error) bool {
	return errors.Is(err, artifacts.ErrNotFound) || errors.Is(err, artifacts.ErrCorrupt)
}

// parallelReads bounds the documents that are read at the same time.
const parallelReads = 16
