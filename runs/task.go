package runs

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

// State is the state of a task.
type State string

// The states of tasks.
const (
	NotStarted State = "not started"
	// Skipped tasks never ran and never will: a switch went another way, or a loop took no turn.
	Skipped State = "skipped"
	// InBatches is the state of a step in a foreach with batches, and of its task in an item, when nothing tells whether it ran: an
	// item has one record, which is that of its last step, see [Step.RecordedBy].
	InBatches State = "in batches"
	Running   State = "running"
	Completed State = "completed"
	Caught    State = "caught"
	Failed    State = "failed"
	Cancelled State = "cancelled"
	// Paused tasks have failed for good and wait for a person, see policies.Pause.
	Paused State = "paused"
	// Unfinished tasks were begun in a run whose status is [Unknown]: they may be running or not. A step is unfinished, too,
	// when the run ended before all of its tasks had run.
	Unfinished State = "unfinished"
)

// Task is one execution of a step in a run.
type Task struct {
	Step  string
	Index flow.Index
	State State
	// Owner is the run that executed the task: the run itself, or the one it was reused from.
	Owner string
	// Record is what the task produced, nil until it is finished. An item of a foreach with batches has one record, which is
	// that of its last step.
	Record *records.Task
	// Pending is what Temporal says of a task that has not ended.
	Pending *Pending
	// Failure is what a finished task caught, and why one failed if that is known without its attempts.
	Failure *policies.Failure

	run *Run
	// untried says that no attempt of the task failed, and so it has no ledger.
	untried bool
	// batch says that this stands for all tasks of the step in the batch that begins with the item.
	batch bool
	// recordedBy names the task that has the record, of an item in a batch that went on.
	recordedBy string
	// name has the turns of loops within the item, too, if that is known.
	name string
}

// Name is the step's name with the index. That of a task which failed in an item of a batch has the turns of loops around it, too, of
// which the index knows nothing.
func (t *Task) Name() string { return cmp.Or(t.name, flow.TaskName(t.Step, t.Index)) }

// named reports whether a name, which may have turns of loops within an item of a batch, is the task's.
func (t *Task) named(name string) bool {
	step, x, err := flow.ParseTaskName(name)
	return err == nil && step == t.Step && len(x) >= len(t.Index) && x[:len(t.Index)].Equal(t.Index)
}

// RecordedBy names the last task of the item that the task is in, if that is an item of a batch which went on after it: an item has one
// record, that of its last task. It is "" for others.
func (t *Task) RecordedBy() string { return t.recordedBy }

// Pathspec is "Flow/run/task".
func (t *Task) Pathspec() string { return t.run.Pathspec() + "/" + t.Name() }

// Run is the run that the task was read from. If it was reused, another run executed it: [Task.Owner].
func (t *Task) Run() *Run { return t.run }

// Reused says that the task was taken over from another run.
func (t *Task) Reused() bool { return t.Owner != t.run.Run.Run }

// Batched says that the task is in a foreach with batches, whose items log together: the attribute task of a line says whose it is.
func (t *Task) Batched() bool {
	p := t.run.graph().tasks[t.Step]
	return p != nil && p.batch() != nil
}

// finished takes over the record of a task.
func (t *Task) finished(rec *records.Task) {
	t.Record, t.Owner, t.State, t.Failure = rec, rec.Run, Completed, rec.Failure
	if rec.Outcome == records.Caught || rec.Outcome == records.Skipped {
		t.State = Caught
	}
}

// Task returns one task by its name, like "fit" or "fit[3]". One that is not there is [ErrNotFound].
func (r *Run) Task(ctx context.Context, name string) (*Task, error) {
	step, x, err := flow.ParseTaskName(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPathspec, err)
	}
	p, err := r.place(step)
	if err != nil {
		return nil, err
	}
	if f := p.batch(); f != nil && len(x) > p.depth() && len(x) <= len(p.around) {
		x = x[:p.depth()] // loops within an item have no tasks of their own here
	}
	if len(x) != p.depth() {
		return nil, fmt.Errorf("task %q: %w in run %s (%s)", name, ErrNotFound, r.Pathspec(), p.like())
	}
	return r.reading(ctx).task(ctx, p, x)
}

// like says how the tasks of a step are named.
func (p *place) like() string {
	if p.depth() == 0 {
		return fmt.Sprintf("step %q is in no foreach and no loop, and so it has one task", p.Name)
	}
	var shapes []string
	for _, s := range p.around[:p.depth()] {
		shapes = append(shapes, fmt.Sprintf("%s %q", s.Kind, s.Name))
	}
	return fmt.Sprintf("step %q is in %s, and so its tasks are like %s", p.Name, strings.Join(shapes, " and "),
		flow.TaskName(p.Name, make(flow.Index, p.depth())))
}

// task reads one task. It asks for more only while what it knows does not tell.
func (in *reading) task(ctx context.Context, p *place, x flow.Index) (*Task, error) {
	r := in.run
	t := &Task{Step: p.Name, Index: x, State: NotStarted, Owner: r.Run.Run, run: r}
	if p.batch() != nil {
		return in.batchTask(ctx, p, t)
	}
	_, rec, err := r.record(ctx, p, x)
	switch {
	case err == nil:
		t.finished(rec)
		return t, nil
	case !errors.Is(err, artifacts.ErrNotFound):
		return nil, err
	}
	if pending, ok := r.pendingTask(ctx, t.Name()); ok {
		t.Pending, t.State = &pending, Running
		return t, nil
	}
	if r.Failure != nil && r.Failure.Task == t.Name() {
		t.State, t.Failure = Failed, r.Failure
		return t, nil
	}
	if done, err := in.ledger(ctx, p, t); done || err != nil {
		return t, err
	}
	if len(x) > 0 {
		if f, err := r.itemFailure(ctx, p, t); f != nil || err != nil {
			t.State, t.Failure = Failed, f
			return t, err
		}
		if err := in.mayBe(ctx, p, t); err != nil {
			return nil, err
		}
	}
	passed, err := r.passedBy(ctx, p, x)
	if passed {
		t.State = Skipped
	}
	return t, err
}

// ledger sets the state of a task that the ledger tells of.
func (in *reading) ledger(ctx context.Context, p *place, t *Task) (bool, error) {
	r := in.run
	tried, err := in.tried()
	if err != nil || !tried[p.Name] {
		return false, err
	}
	spent, ledger, err := r.spent(ctx, p.Name, t.Index)
	if err != nil || len(ledger) == 0 && len(t.Index) > 0 {
		return false, err
	}
	switch {
	case r.Status == records.StatusRunning && len(ledger) > 0 && ledger[len(ledger)-1].Paused:
		t.State, t.Failure = Paused, ledger[len(ledger)-1].Failure
	case r.Status == records.StatusRunning && (!spent || p.Policy.Catch): // else the catch function is about to start, or did
		t.State = Running
	case r.Status == records.StatusCancelled:
		t.State = Cancelled
	case r.Status == Unknown:
		t.State = Unfinished
	default:
		t.State = Failed
	}
	return true, nil
}

// mayBe refuses a task that the run cannot have.
func (in *reading) mayBe(ctx context.Context, p *place, t *Task) error {
	r := in.run
	for i, s := range p.around[:len(t.Index)] {
		if s.Kind != flow.KindForeach {
			continue
		}
		d, err := r.decided(ctx, s, t.Index[:i])
		if err != nil {
			return err
		}
		if d != nil && d.Items != nil && t.Index[i] >= d.Items.Len {
			return fmt.Errorf("task %q: %w in run %s (foreach %q has %d items there, counted from 0)", t.Name(), ErrNotFound, r.Pathspec(), s.Name, d.Items.Len)
		}
		if d != nil && i == len(t.Index)-1 {
			return nil
		}
	}
	return fmt.Errorf("task %q: %w in run %s (it has not begun)", t.Name(), ErrNotFound, r.Pathspec())
}

// batchTask reads the task of an item in a batch.
func (in *reading) batchTask(ctx context.Context, p *place, t *Task) (*Task, error) {
	r, n := in.run, len(t.Index)-1
	item, err := r.item(ctx, p, t.Index[:n], t.Index[n])
	if err != nil {
		return nil, err
	}
	from, err := r.decided(ctx, p.batch(), t.Index[:n])
	if err != nil {
		return nil, err
	}
	if item != nil {
		if found := r.itemTask(p, t.Index[:n], *item, from); found != nil {
			return found, nil
		}
		switch g := r.graph(); {
		case g.mayHave(p, item.Item):
			t.State, t.Owner, t.recordedBy = InBatches, item.owner, r.recordedBy(g.ended(p.batch(), item.Item), t, item.Item)
		case item.Outcome != records.Failed: // else it did not come this far
			t.State, t.Owner = Skipped, item.owner
		}
		return t, nil
	}
	if r.Failure != nil && t.named(r.Failure.Task) {
		t.State, t.Failure, t.name = Failed, r.Failure, r.Failure.Task
		return t, nil
	}
	if err := in.mayBe(ctx, p, t); err != nil {
		return nil, err
	}
	begun, err := r.begunBatch(ctx, p.batch(), t.Index[:n], t.Index[n])
	if begun {
		t.State = InBatches
	}
	return t, err
}

// itemFailure finds a failed task in the shard of its item.
func (r *Run) itemFailure(ctx context.Context, p *place, t *Task) (*policies.Failure, error) {
	for i, s := range p.around {
		if s.Kind != flow.KindForeach {
			continue
		}
		x := t.Index[:i]
		firsts, err := records.Shards(ctx, r.reader.store, r.Flow, r.Run.Run, s.Name, x)
		if err != nil {
			return nil, err
		}
		k, exact := slices.BinarySearch(firsts, t.Index[i])
		if !exact {
			k--
		}
		if k < 0 {
			continue
		}
		d, err := records.LoadShard(ctx, r.reader.store, r.Flow, r.Run.Run, s.Name, x, firsts[k], true)
		if missing(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, item := range d.Items {
			if item.Failure != nil && item.Failure.Task == t.Name() && item.Outcome == records.Failed {
				return item.Failure, nil
			}
		}
	}
	return nil, nil
}

// Last returns the task that the run ended with, which has the final state. It is [ErrNotFound] when
// no task finished.
func (r *Run) Last(ctx context.Context) (*Task, error) {
	if r.end == nil || r.end.Last == nil {
		return nil, fmt.Errorf("final state of run %s: %w (the run is %s)", r.Pathspec(), ErrNotFound, r.Status)
	}
	return r.Task(ctx, flow.TaskName(r.end.Last.Step, r.end.Last.Index))
}

// Attempt is one try of a task.
type Attempt struct {
	records.Attempt
	// Waited is how long after the end of the attempt before this one started, zero for the first.
	Waited time.Duration
}

// Attempts returns all attempts so far, oldest first, the one that finished the task included.
func (t *Task) Attempts(ctx context.Context) ([]Attempt, error) {
	var ledger []records.Attempt
	if !t.untried {
		var err error
		if ledger, err = records.Attempts(ctx, t.run.reader.store, t.run.Flow, t.Owner, t.Step, t.Index); err != nil {
			return nil, err
		}
	}
	// The failure tells what the ledger does not: of an item in a batch, of a task that the server gave up, of a damaged entry.
	f := t.Failure
	if t.State == Failed && f != nil && (len(ledger) == 0 || damagedLast(ledger, f.Attempt)) {
		ledger = ledger[:max(len(ledger)-1, 0)]
		outcome := records.Failed
		if f.Class == policies.Lost {
			outcome = records.Lost
		}
		ledger = append(ledger, records.Attempt{
			Attempt: max(f.Attempt, 1), Outcome: outcome, Worker: f.Worker, Ended: f.Time, Failure: f, CountsAsCodeFailure: outcome == records.Failed,
		})
	}
	// An attempt that could write its entry only after the task was done by another is no news.
	if t.Record != nil && t.Record.Outcome == records.Completed {
		ledger = slices.DeleteFunc(ledger, func(a records.Attempt) bool { return a.Attempt >= t.Record.Attempt })
		ledger = append(ledger, records.Attempt{
			Attempt: t.Record.Attempt, Outcome: t.Record.Outcome, Worker: t.Record.Worker, Started: t.Record.Started, Ended: t.Record.Ended,
			Usage: t.Record.Usage,
		})
	}
	out := make([]Attempt, len(ledger))
	for i, a := range ledger {
		out[i].Attempt = a
		if i > 0 && !a.Started.IsZero() && !ledger[i-1].Ended.IsZero() {
			out[i].Waited = max(a.Started.Sub(ledger[i-1].Ended), 0) // workers' clocks differ
		}
	}
	return out, nil
}

// damagedLast reports whether the ledger ends with the attempt with that number, and does not tell how it went.
func damagedLast(ledger []records.Attempt, attempt int) bool {
	last := ledger[len(ledger)-1]
	return last.Damaged() && last.Attempt == attempt
}

// Artifacts returns the names of the artifacts of a finished task, in order.
func (t *Task) Artifacts() []string {
	if t.Record == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(t.Record.Artifacts))
}

// Artifact describes one artifact of a finished task.
func (t *Task) Artifact(name string) (artifacts.Entry, error) {
	if err := t.unrecorded("artifacts"); err != nil {
		return artifacts.Entry{}, err
	}
	e, ok := t.Record.Artifacts[name]
	if !ok {
		return artifacts.Entry{}, fmt.Errorf("artifact %q of %s: %w (it has %s)", name, t.Pathspec(), ErrNotFound, strings.Join(t.Artifacts(), ", "))
	}
	return e, nil
}

// unrecorded says why a task has no record, nil if it has one.
func (t *Task) unrecorded(what string) error {
	switch {
	case t.Record != nil:
		return nil
	case t.recordedBy != "":
		return fmt.Errorf("%s of %s: %w (an item of a batch has one record: that of its last task, %s)", what, t.Pathspec(), ErrNotFound, t.recordedBy)
	case t.State == InBatches:
		return fmt.Errorf("%s of %s: %w (the record of its batch is written when that ends)", what, t.Pathspec(), ErrNotFound)
	}
	return fmt.Errorf("%s of %s: %w (the task is %s; only a finished one has some)", what, t.Pathspec(), ErrNotFound, t.State)
}

// Content reads an artifact's encoded content and verifies its digest.
func (t *Task) Content(ctx context.Context, name string) (artifacts.Entry, []byte, error) {
	e, err := t.Artifact(name)
	if err != nil {
		return e, nil, err
	}
	b, err := t.run.reader.store.Content(ctx, e)
	if err != nil {
		return e, nil, t.unreadable(name, err)
	}
	return e, b, nil
}

// Open streams an artifact's encoded content, which is the content itself for a file, text and bytes. The reader
// verifies it: [artifacts.ErrCorrupt] comes in place of io.EOF if it was damaged. The caller closes it.
func (t *Task) Open(ctx context.Context, name string) (artifacts.Entry, io.ReadCloser, error) {
	e, err := t.Artifact(name)
	if err != nil {
		return e, nil, err
	}
	store := t.run.reader.store
	if e.Inline != nil || e.Size == 0 {
		b, err := store.Content(ctx, e)
		if err != nil {
			return e, nil, t.unreadable(name, err)
		}
		return e, io.NopCloser(bytes.NewReader(b)), nil
	}
	content, err := store.OpenBlob(ctx, e.Digest)
	if err != nil {
		return e, nil, t.unreadable(name, err)
	}
	return e, content, nil
}

// unreadable says which artifact's content could not be read, and what to do if it is gone: other errors say that themselves.
func (t *Task) unreadable(name string, err error) error {
	if errors.Is(err, artifacts.ErrNotFound) {
		err = fmt.Errorf("%w (restore it from a backup, or run the step that made it again)", err)
	}
	return fmt.Errorf("artifact %q of %s: %w", name, t.Pathspec(), err)
}

// Load reads an artifact of a finished task into a T, which is the type of the state's field or one
// that can hold the same content.
func Load[T any](ctx context.Context, t *Task, name string) (T, error) {
	var v T
	e, b, err := t.Content(ctx, name)
	if err != nil {
		return v, err
	}
	if err := artifacts.Decode(e, b, &v); err != nil {
		return v, fmt.Errorf("artifact %q of %s: %w", name, t.Pathspec(), err)
	}
	return v, nil
}

// LoadState reads the whole state after a finished task into state, a pointer to the flow's state struct.
func LoadState[S any](ctx context.Context, t *Task, f *flow.Flow) (*S, error) {
	if err := t.unrecorded("state"); err != nil {
		return nil, err
	}
	state, ok := f.NewState().(*S)
	if !ok {
		return nil, fmt.Errorf("state of %s: the flow's state is not %T", t.Pathspec(), state)
	}
	return state, f.Schema().Load(ctx, t.run.reader.store, t.Record.Artifacts, state)
}
