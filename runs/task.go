package runs

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
)

// State is the state of a task.
type State string

// The states of tasks.
const (
	NotStarted State = "not started"
	Running    State = "running"
	Completed  State = "completed"
	Caught     State = "caught"
	Failed     State = "failed"
	Cancelled  State = "cancelled"
	// Unfinished tasks were begun in a run whose status is [Unknown]: they may be running or not.
	Unfinished State = "unfinished"
)

// Step is a step of a run with its tasks.
type Step struct {
	Name  string
	Tasks []*Task
}

// Task is one execution of a step in a run.
type Task struct {
	Step  string
	Index flow.Index
	State State
	// Owner is the run that executed the task: the run itself, or the one it was reused from.
	Owner string
	// Record is what the task produced, nil until it is finished.
	Record *records.Task
	// Pending is what Temporal says of a task that has not ended.
	Pending *Pending

	run *Run
}

// Name is the step's name with the index.
func (t *Task) Name() string { return flow.TaskName(t.Step, t.Index) }

// Pathspec is "Flow/run/task".
func (t *Task) Pathspec() string { return t.run.Pathspec() + "/" + t.Name() }

// Reused says that the task was taken over from another run.
func (t *Task) Reused() bool { return t.Owner != t.run.Run.Run }

// Steps returns all steps in the order of the plan.
func (r *Run) Steps(ctx context.Context) ([]*Step, error) {
	names := r.Plan.Steps()
	steps := make([]*Step, 0, len(names))
	tried := sync.OnceValues(func() (map[string]bool, error) { return r.tried(ctx) })
	for _, name := range names {
		s, err := r.step(ctx, name, tried)
		if err != nil {
			return nil, err
		}
		steps = append(steps, s)
	}
	return steps, nil
}

// tried names the steps that have failed attempts in this run. One listing of the steps is enough for that.
func (r *Run) tried(ctx context.Context) (map[string]bool, error) {
	names, err := r.reader.dirs(ctx, records.RunPrefix(r.Flow, r.Run.Run)+"attempts/")
	if err != nil {
		return nil, err
	}
	out := make(map[string]bool, len(names))
	for _, name := range names {
		out[name] = true
	}
	return out, nil
}

// Step returns one step; one that is not in the plan is [ErrNotFound].
func (r *Run) Step(ctx context.Context, name string) (*Step, error) {
	if _, ok := r.Plan.Step(name); !ok {
		return nil, fmt.Errorf("step %q: %w in run %s (it has %s)", name, ErrNotFound, r.Pathspec(), strings.Join(r.Plan.Steps(), ", "))
	}
	return r.step(ctx, name, func() (map[string]bool, error) { return r.tried(ctx) })
}

// step reads a step. It asks which steps were tried only when nothing else tells.
func (r *Run) step(ctx context.Context, name string, tried func() (map[string]bool, error)) (*Step, error) {
	t := &Task{Step: name, State: NotStarted, Owner: r.Owner(name), run: r}
	s := &Step{Name: name, Tasks: []*Task{t}}
	_, rec, err := records.FindTask(ctx, r.reader.store, r.Flow, t.Owner, name, nil)
	switch {
	case err == nil:
		t.Record, t.State = &rec, Completed
		if rec.Outcome == records.Caught {
			t.State = Caught
		}
		return s, nil
	case !errors.Is(err, artifacts.ErrNotFound):
		return nil, err
	}
	if p, ok := r.pending[t.Name()]; ok {
		t.Pending, t.State = &p, Running
		return s, nil
	}
	if r.Failure != nil && r.Failure.Step == name {
		t.State = Failed
		return s, nil
	}
	began, err := tried()
	if err != nil {
		return nil, err
	}
	if began[name] {
		switch r.Status {
		case records.StatusRunning:
			t.State = Running
		case records.StatusCancelled:
			t.State = Cancelled
		case Unknown:
			t.State = Unfinished
		default:
			t.State = Failed
		}
	}
	return s, nil
}

// Task returns one task by its name, like "fit" or "fit[3]". One that is not there is [ErrNotFound].
func (r *Run) Task(ctx context.Context, name string) (*Task, error) {
	step, _, err := flow.ParseTaskName(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPathspec, err)
	}
	s, err := r.Step(ctx, step)
	if err != nil {
		return nil, err
	}
	for _, t := range s.Tasks {
		if t.Name() == name {
			return t, nil
		}
	}
	return nil, fmt.Errorf("task %q: %w in run %s", name, ErrNotFound, r.Pathspec())
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
	ledger, err := records.Attempts(ctx, t.run.reader.store, t.run.Flow, t.Owner, t.Step, t.Index)
	if err != nil {
		return nil, err
	}
	// An attempt that could write its entry only after the task was done by another is no news.
	if t.Record != nil && t.Record.Outcome == records.Completed {
		ledger = slices.DeleteFunc(ledger, func(a records.Attempt) bool { return a.Attempt >= t.Record.Attempt })
		ledger = append(ledger, records.Attempt{
			Attempt: t.Record.Attempt, Outcome: t.Record.Outcome, Worker: t.Record.Worker, Started: t.Record.Started, Ended: t.Record.Ended,
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

// Artifacts returns the names of the artifacts of a finished task, in order.
func (t *Task) Artifacts() []string {
	if t.Record == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(t.Record.Artifacts))
}

// Artifact describes one artifact of a finished task.
func (t *Task) Artifact(name string) (artifacts.Entry, error) {
	if t.Record == nil {
		return artifacts.Entry{}, fmt.Errorf("artifacts of %s: %w (the task is %s; only a finished one has some)", t.Pathspec(), ErrNotFound, t.State)
	}
	e, ok := t.Record.Artifacts[name]
	if !ok {
		return artifacts.Entry{}, fmt.Errorf("artifact %q of %s: %w (it has %s)", name, t.Pathspec(), ErrNotFound, strings.Join(t.Artifacts(), ", "))
	}
	return e, nil
}

// Content reads an artifact's encoded content and verifies its digest.
func (t *Task) Content(ctx context.Context, name string) (artifacts.Entry, []byte, error) {
	e, err := t.Artifact(name)
	if err != nil {
		return e, nil, err
	}
	b, err := t.run.reader.store.Content(ctx, e)
	if err != nil {
		return e, nil, fmt.Errorf("artifact %q of %s: %w", name, t.Pathspec(), err)
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
			return e, nil, fmt.Errorf("artifact %q of %s: %w", name, t.Pathspec(), err)
		}
		return e, io.NopCloser(bytes.NewReader(b)), nil
	}
	content, err := store.OpenBlob(ctx, e.Digest)
	if err != nil {
		return e, nil, fmt.Errorf("artifact %q of %s: %w", name, t.Pathspec(), err)
	}
	return e, content, nil
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
	if t.Record == nil {
		return nil, fmt.Errorf("state of %s: %w (the task is %s)", t.Pathspec(), ErrNotFound, t.State)
	}
	state, ok := f.NewState().(*S)
	if !ok {
		return nil, fmt.Errorf("state of %s: the flow's state is not %T", t.Pathspec(), state)
	}
	return state, f.Schema().Load(ctx, t.run.reader.store, t.Record.Artifacts, state)
}

// Log is the log of one attempt.
type Log struct {
	Attempt int
	// Catch says that the catch function wrote it.
	Catch bool
	Lines []records.LogLine
	// Raw is the log as it is stored: a JSON object per line.
	Raw []byte
}

// Logs reads the logs of all attempts that wrote any, oldest first.
func (t *Task) Logs(ctx context.Context) ([]Log, error) {
	var logs []Log
	for info, err := range t.run.reader.store.List(ctx, records.LogsPrefix(t.run.Flow, t.Owner, t.Step, t.Index)) {
		if err != nil {
			return nil, err
		}
		l := Log{}
		var ok bool
		if l.Attempt, l.Catch, ok = records.ParseLogName(path.Base(info.Key)); !ok {
			continue
		}
		b, err := t.run.reader.store.GetDoc(ctx, info.Key)
		if err != nil {
			return nil, err
		}
		l.Raw = b
		for line := range strings.Lines(string(b)) {
			l.Lines = append(l.Lines, records.ReadLogLine([]byte(strings.TrimSuffix(line, "\n"))))
		}
		logs = append(logs, l)
	}
	// Keys list a catch function's log before that of its attempt.
	slices.SortStableFunc(logs, func(a, b Log) int { return cmp.Or(a.Attempt-b.Attempt, order(a.Catch)-order(b.Catch)) })
	return logs, nil
}

func order(second bool) int {
	if second {
		return 1
	}
	return 0
}

// Cards lists the names of the task's cards.
func (t *Task) Cards(ctx context.Context) ([]string, error) {
	var names []string
	for info, err := range t.run.reader.store.List(ctx, records.CardsPrefix(t.run.Flow, t.Owner, t.Step, t.Index)) {
		if err != nil {
			return nil, err
		}
		if name, ok := strings.CutSuffix(path.Base(info.Key), ".html"); ok {
			names = append(names, name)
		}
	}
	return names, nil
}

// Card reads a card, a whole HTML page.
func (t *Task) Card(ctx context.Context, name string) ([]byte, error) {
	if why := checkName(name); why != "" {
		return nil, fmt.Errorf("%w card %q: %s", ErrPathspec, name, why)
	}
	b, err := t.run.reader.store.GetDoc(ctx, records.CardKey(t.run.Flow, t.Owner, t.Step, t.Index, name))
	if errors.Is(err, artifacts.ErrNotFound) {
		names, _ := t.Cards(ctx)
		hint := "the step has none; add cards.Default() to it"
		if len(names) > 0 {
			hint = "it has " + strings.Join(names, ", ")
		}
		return nil, fmt.Errorf("card %q of %s: %w (%s)", name, t.Pathspec(), ErrNotFound, hint)
	}
	return b, err
}
