package runs

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/internal/readahead"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

// taskSet is the tasks of a step in a foreach or a loop, as far as keys tell of them. It is small for each task, since there may
// be a million.
type taskSet struct {
	run    *Run
	at     *place
	owners []string
	tasks  []entry // in the order of their indexes
}

// entry is one task.
type entry struct {
	x     flow.Index
	owner uint8 // in the owners of the set
	state shortState
	tried bool // an attempt of it failed
	// failure is why it failed, if that was known without reading anything.
	failure *policies.Failure
}

// shortState is a [State] in a byte.
type shortState uint8

const (
	shortTried shortState = iota // nothing is known but that an attempt failed
	shortCompleted
	shortCaught
	shortFailed
	shortCancelled
	shortRunning
	shortUnfinished
	shortPaused
)

var longStates = [...]State{Running, Completed, Caught, Failed, Cancelled, Running, Unfinished, Paused}

const (
	// manyCaught bounds how many records are read to know which failures were caught.
	manyCaught = 2000
	// manyLedgers bounds how many ledgers of a running foreach are read to know which tasks are tried again.
	manyLedgers = 100
)

// collect finds the tasks of a step with many.
func (in *reading) collect(ctx context.Context, p *place) (*taskSet, error) {
	r := in.run
	s := &taskSet{run: r, at: p}
	for owner, err := range r.owners(ctx, p) {
		if err != nil {
			return nil, err
		}
		n := uint8(len(s.owners))
		if n == 255 {
			break
		}
		s.owners = append(s.owners, owner)
		for x, err := range records.TaskIndexes(ctx, r.reader.store, r.Flow, owner, p.Name) {
			if err != nil {
				return nil, err
			}
			s.tasks = append(s.tasks, entry{x: x, owner: n, state: shortCompleted})
		}
	}
	if err := in.unrecorded(ctx, s); err != nil {
		return nil, err
	}
	slices.SortFunc(s.tasks, func(a, b entry) int {
		return cmp.Or(slices.Compare(a.x, b.x), cmp.Compare(rank(a), rank(b)))
	})
	s.merge()
	return s, in.settle(ctx, s)
}

// rank puts what says most of a task first: its record in the nearest run, that it is running, its failure, its ledger.
func rank(e entry) int {
	switch e.state {
	case shortCompleted:
		return int(e.owner)
	case shortRunning:
		return 1000
	case shortFailed:
		return 1001
	default:
		return 1002
	}
}

// unrecorded adds the tasks that something tells of other than their record.
func (in *reading) unrecorded(ctx context.Context, s *taskSet) error {
	r, p := in.run, s.at
	tried, err := in.tried()
	if err != nil {
		return err
	}
	if tried[p.Name] {
		at, err := records.TriedIndexes(ctx, r.reader.store, r.Flow, r.Run.Run, p.Name)
		if err != nil {
			return err
		}
		for _, x := range at {
			s.tasks = append(s.tasks, entry{x: x, tried: true})
		}
	}
	add := func(task string, state shortState, f *policies.Failure) {
		if step, x, err := flow.ParseTaskName(task); err == nil && step == p.Name && len(x) == p.depth() {
			s.tasks = append(s.tasks, entry{x: x, state: state, failure: f})
		}
	}
	for task := range r.allPending(ctx) {
		add(task, shortRunning, nil)
	}
	for _, f := range p.around {
		if f.Kind != flow.KindForeach {
			continue
		}
		failed, err := in.shardFailures(ctx, f)
		if err != nil {
			return err
		}
		for task, f := range failed {
			add(task, shortFailed, f)
		}
	}
	if f := r.Failure; f != nil {
		add(f.Task, shortFailed, f)
	}
	return nil
}

// merge makes one entry of all that is about the same task.
func (s *taskSet) merge() {
	kept := s.tasks[:0]
	for _, e := range s.tasks {
		if n := len(kept); n > 0 && kept[n-1].x.Equal(e.x) {
			kept[n-1].tried = kept[n-1].tried || e.tried
			continue
		}
		kept = append(kept, e)
	}
	s.tasks = kept
}

// settle finds out what became of tasks of which only the ledger tells, and which failures were caught.
func (in *reading) settle(ctx context.Context, s *taskSet) error {
	r := in.run
	catches := s.at.Policy != nil && s.at.Policy.Catch
	caught, ledgers := 0, 0
	for i := range s.tasks {
		e := &s.tasks[i]
		switch {
		case e.state == shortCompleted && e.tried && catches && caught < manyCaught:
			caught++
			_, rec, err := records.FindTask(ctx, r.reader.store, r.Flow, s.owners[e.owner], s.at.Name, e.x)
			if err != nil && !errors.Is(err, artifacts.ErrNotFound) {
				return err
			}
			if rec.Outcome == records.Caught {
				e.state = shortCaught
			}
		case e.state != shortTried:
		case r.Status == records.StatusCancelled:
			e.state = shortCancelled
		case r.Status == Unknown:
			e.state = shortUnfinished
		case r.over():
			e.state = shortFailed
		default:
			e.state = shortRunning
			if catches && s.at.Policy.Exhausted != policies.Pause {
				continue // what the catch function made of it, no ledger tells
			}
			if ledgers++; ledgers > manyLedgers {
				continue
			}
			spent, ledger, err := r.spent(ctx, s.at.Name, e.x)
			switch {
			case err != nil:
				return err
			case len(ledger) > 0 && ledger[len(ledger)-1].Paused:
				e.state, e.failure = shortPaused, ledger[len(ledger)-1].Failure
			case spent && !catches:
				e.state = shortFailed
			}
		}
	}
	return nil
}

// spent reports whether the ledger of a task in this run says that there is no further attempt, and returns the ledger.
func (r *Run) spent(ctx context.Context, step string, x flow.Index) (bool, []records.Attempt, error) {
	ledger, err := records.Attempts(ctx, r.reader.store, r.Flow, r.Run.Run, step, x)
	if err != nil || len(ledger) == 0 {
		return false, ledger, err
	}
	last := ledger[len(ledger)-1]
	return last.Outcome == records.Failed && last.Delay == 0, ledger, nil
}

func (s *taskSet) count() Counts {
	var c Counts
	for _, e := range s.tasks {
		c.add(longStates[e.state])
		if e.owner > 0 {
			c.Reused++
		}
	}
	return c
}

// failed adds the items, of a foreach whose items have depth numbers, that have a failed task.
func (s *taskSet) failed(depth int, items map[string]bool) {
	for _, e := range s.tasks {
		if e.state == shortFailed {
			items[e.x[:depth].Key()] = true
		}
	}
}

func (s *taskSet) task(ctx context.Context, e entry) (*Task, error) {
	t := &Task{Step: s.at.Name, Index: e.x, Owner: s.owners[e.owner], State: longStates[e.state], Failure: e.failure, run: s.run, untried: e.owner == 0 && !e.tried}
	switch e.state {
	case shortCompleted, shortCaught:
		_, rec, err := records.FindTask(ctx, s.run.reader.store, s.run.Flow, t.Owner, t.Step, e.x)
		if err != nil {
			return nil, err
		}
		t.finished(&rec)
	case shortRunning:
		if p, ok := s.run.allPending(ctx)[t.Name()]; ok {
			t.Pending = &p
		}
	default:
	}
	return t, nil
}

func (s *taskSet) each(ctx context.Context, want func(State) bool) iter.Seq2[*Task, error] {
	var wanted []int
	for i, e := range s.tasks {
		if want(longStates[e.state]) {
			wanted = append(wanted, i)
		}
	}
	read := func(ctx context.Context, i int) (*Task, error) {
		t, err := s.task(ctx, s.tasks[wanted[i]])
		if errors.Is(err, artifacts.ErrNotFound) {
			return nil, nil //nolint:nilnil // deleted since the keys were listed
		}
		return t, err
	}
	return func(yield func(*Task, error) bool) {
		for t, err := range readahead.InOrder(ctx, readAhead, len(wanted), read) {
			if t == nil && err == nil {
				continue
			}
			if !yield(t, err) {
				return
			}
		}
	}
}
