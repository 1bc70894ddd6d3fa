package activities

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/guard"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/telemetry"
)

// attempt is one try of a task, or of its catch function.
type attempt struct {
	*Activities
	flow  *flow.Flow
	def   *flow.StepDef
	in    StepInput
	catch bool
	// batched says that the log is shared with other items.
	batched bool

	run    records.Run
	spec   policies.Spec
	guards guards // calls that count for the step's dependency, and for the budget of the run
	number int
	worker string
	// workflow is the id of the one that runs the task.
	workflow string
	started  time.Time
	ledger   []records.Attempt // the attempts before this one, or the last of very many
	earlier  tally             // the attempts before those
	ahead    flow.Ahead
	log      *attemptLog
	live     liveCards
	beat     heartbeat
	span     trace.Span
	tell     func(secret string) // of a copy of the worker: who keeps the log
	// cardsChanged takes the place of writing cards, in the process of an isolated step.
	cardsChanged func()

	// Of a step in a process of its own, or with a command: see isolated.go.
	isolated  *flow.Isolated
	saved     *saved
	usage     *records.Usage
	leftovers []string
}

func (a *Activities) attempt(ctx context.Context, f *flow.Flow, def *flow.StepDef, in StepInput, catch bool) (StepResult, error) {
	info, began := activity.GetInfo(ctx), time.Now()
	t := &attempt{
		Activities: a, flow: f, def: def, in: in, catch: catch,
		number: in.Before + int(info.Attempt), worker: a.options.Worker, started: a.options.Now(), workflow: info.WorkflowExecution.ID,
	}
	if catch {
		t.number = int(info.Attempt)
	}
	ctx, free := t.observe(ctx)
	defer free()
	t.beat.start(ctx, info.HeartbeatTimeout, t.number, t.worker, t.started)
	defer t.beat.stop()
	defer t.cleanUp()
	defer t.settleCards(ctx)
	defer func() {
		if t.log != nil {
			t.log.close()
		}
	}()

	result, failure, err := t.try(ctx)
	if failure == nil && err == nil {
		t.succeeded(ctx, result)
		if info.Attempt == 1 { // of the others, nobody knows how much of the time they waited to be due
			queued := info.StartedTime.Sub(info.ScheduledTime) > time.Since(began)/4
			result.Queued = &queued
		}
		return result, nil
	}
	if spent, ok := err.(*spentError); ok { //nolint:errorlint // lookBack does not wrap it, and an author's error may panic when it is looked into
		telemetry.Finish(t.span, telemetry.End{Outcome: string(records.Failed), Class: string(spent.f.Class), Message: spent.f.Message})
		return StepResult{}, policies.Error(spent.f, policies.Decision{})
	}
	if failure == nil {
		failure, err = t.ended(ctx, outcome{err: err})
	}
	if failure == nil {
		failure = t.classify(err)
		// Only this activity knows that the run was cancelled or an attempt lost. An error that says so speaks of another:
		// a step may return the failure of its attempt before, a catch the one that it was called for.
		if failure.Class == policies.Cancelled || failure.Class == policies.Lost {
			failure.Class = policies.Unknown
		}
	}
	return t.fail(ctx, failure, err)
}

// try returns a result, or an error and, where it knows more than the error tells, the failure.
func (t *attempt) try(ctx context.Context) (StepResult, *policies.Failure, error) {
	run, err := t.Activities.run(ctx, t.in.Flow, t.in.Run)
	if err != nil {
		return StepResult{}, nil, err
	}
	t.run = run
	node, ok := run.Plan.Task(t.in.Step)
	if !ok || node.Policy == nil {
		return StepResult{}, nil, policies.WithClass(fmt.Errorf("step %q is not in the plan of run %q", t.in.Step, t.in.Run), policies.Permanent)
	}
	t.spec = node.Policy.At(t.in.Rung)
	t.log = newAttemptLog(ctx, t)

	if t.catch {
		if t.ledger, err = t.settle(ctx, t.in.Failure, t.in.Forgiven); err != nil {
			return StepResult{}, nil, err
		}
	}
	if t.number > 1 || t.in.LookBack {
		done, result, failure, err := t.lookBack(ctx)
		if done || failure != nil || err != nil {
			return result, failure, err
		}
	}

	if err := t.admit(); err != nil { // before anything is read
		return StepResult{}, nil, err
	}
	defer t.guards.end(nothing) // if the author's function is not called

	if t.isolated = t.limits(node); t.apart() {
		return t.tryApart(ctx)
	}

	state, prev, parents, err := t.load(ctx)
	if err != nil {
		return StepResult{}, nil, err
	}
	var join *joinSource
	if t.in.Join != nil && !t.catch {
		if join, err = t.joinSource(ctx, state, prev); err != nil {
			return StepResult{}, nil, err
		}
	}
	if t.in.Join != nil {
		parents = append(parents, t.in.Join.parents()...)
	}
	snapshot, err := t.flow.Schema().Snapshot(state)
	if err != nil {
		return StepResult{}, nil, err
	}
	if t.in.Skip {
		if t.ahead, err = t.flow.Ahead(ctx, t.store, t.in.Step, state); err != nil {
			return StepResult{}, nil, err
		}
	} else if failure, err := t.guarded(ctx, state, join); err != nil {
		return StepResult{}, failure, err
	}
	// The author's code is done: a cancel that arrives now is too late to undo it.
	result, err := t.save(context.WithoutCancel(ctx), state, prev, parents, snapshot)
	return result, nil, err
}

// guarded calls the author's function and tells what guards the step how that ended.
func (t *attempt) guarded(ctx context.Context, state any, join *joinSource) (*policies.Failure, error) {
	if t.catch {
		return t.call(ctx, state, join)
	}
	failure, err := t.call(ctx, state, join)
	f := failure
	if f == nil {
		f = t.classify(err)
	}
	if _, marked := policies.DeferralOf(err, nil); marked || unavailable(err) && (failure == nil || failure.Class != policies.Bug) {
		f = nothing // something else is away: the store, or what the step says it has to wait for
	}
	t.guards.end(f)
	return failure, err
}

// classify asks the step's rule and then the worker's.
func (t *attempt) classify(err error) *policies.Failure {
	if t.def == nil {
		return policies.ClassifyWith(err, t.options.Classify)
	}
	return policies.ClassifyWith(err, t.def.Classify, t.options.Classify)
}

// load reads the state that the task starts from.
func (t *attempt) load(ctx context.Context) (state any, prev map[string]artifacts.Entry, parents []records.Ref, err error) {
	state = t.flow.NewState()
	if t.in.From != nil {
		rec, err := t.from(ctx)
		if err != nil {
			return nil, nil, nil, badInput(err)
		}
		if err := t.flow.Schema().Load(ctx, t.store, rec.Artifacts, state); err != nil {
			return nil, nil, nil, badInput(err)
		}
		prev, parents = rec.Artifacts, []records.Ref{*t.in.From}
	}
	if err := t.flow.SetParams(state, t.run.Params); err != nil {
		return nil, nil, nil, policies.WithClass(err, policies.Permanent)
	}
	if t.in.Bind != nil {
		if err := t.bind(ctx, t.flow, *t.in.Bind, state); err != nil {
			return nil, nil, nil, badInput(err)
		}
	}
	if t.in.From == nil {
		// The first task starts from the parameters and zero values: it did not set those.
		if prev, _, err = t.flow.Schema().Save(ctx, t.store, state, nil, artifacts.Snapshot{}, t.in.Run); err != nil {
			return nil, nil, nil, badInput(err)
		}
	}
	return state, prev, parents, nil
}

// from reads the record that the task starts from. Nobody may change what is in it.
func (t *attempt) from(ctx context.Context) (records.Task, error) {
	ref := *t.in.From
	load := func() (records.Task, error) { return records.LoadTask(ctx, t.store, t.in.Flow, ref) }
	if t.in.Bind == nil { // few others start from it
		return load()
	}
	return t.splits.get(splitKey{t.in.Flow, ref.Run, ref.Step, ref.Digest}, load)
}

// badInput keeps an unavailable store, and author's code that panicked, apart from data that another attempt would find just as
// bad.
func badInput(err error) error {
	if f, ok := errors.AsType[*policies.Failure](err); ok {
		return f
	}
	if policies.Classify(err).Class == policies.Permanent { // it says itself what is to be done
		return err
	}
	if errors.Is(err, artifacts.ErrUnavailable) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return policies.WithClass(&InputError{err}, policies.Permanent)
}

// InputErrorType is the type of the failure of a task whose input is damaged.
const InputErrorType = "InputError"

// InputError says that what a task starts from is damaged, gone, or of types that the flow's state has no more.
type InputError struct{ err error }

// Error tells what is damaged, in one line, and what to do.
func (e *InputError) Error() string {
	text := "load the task's input: " + strings.ReplaceAll(e.err.Error(), "\n", "; ")
	if errors.Is(e.err, artifacts.ErrType) && !errors.Is(e.err, artifacts.ErrCorrupt) && !errors.Is(e.err, artifacts.ErrNotFound) {
		return text + " (or resume with --step, from the step that set it)" // else a resume takes over the same content
	}
	return text + " (resume the run to compute it again)"
}

// Unwrap is the error of reading.
func (e *InputError) Unwrap() error { return e.err }

var (
	errDrained = errors.New("the worker was told to stop")
	errTimeout = errors.New("the attempt's timeout passed")
)

// outcome is how the author's function ended. The failure is set when it knows more than the error.
type outcome struct {
	err     error
	failure *policies.Failure
	ahead   flow.Ahead // of a function that returned nil

	saved     *saved         // what another process has stored
	usage     *records.Usage // of that process
	def       *flow.StepDef  // in place of the attempt's
	leftovers []string       // directories to be removed when the state is saved
}

// call runs the author's function. The function has its own goroutine, so that one that ignores its
// context can be left behind; it only ever touches this attempt's state.
func (t *attempt) call(ctx context.Context, state any, join *joinSource) (*policies.Failure, error) {
	run, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if d := t.spec.Timeout.Attempt; d > 0 {
		var stop context.CancelFunc
		run, stop = context.WithTimeoutCause(run, d, errTimeout)
		defer stop()
	}
	done := t.goCall(t.equip(run, t.logger(), t.progress), state, join)
	defer t.live.stop() // what the cards show is about to change

	stop := stopping(ctx)
	var drain <-chan time.Time
	for waiting := true; waiting; {
		select {
		case o := <-done:
			t.take(o)
			return t.ended(run, o)
		case <-run.Done():
			waiting = false
		case <-stop:
			stop = nil
			timer := time.NewTimer(t.options.Drain)
			defer timer.Stop()
			drain = timer.C
		case <-drain:
			cancel(errDrained)
		}
	}
	timer := time.NewTimer(t.patience())
	defer timer.Stop()
	select {
	case o := <-done:
		t.take(o)
		return t.ended(run, o)
	case <-timer.C:
		t.log.logger.Warn("the step did not return after its context was cancelled and was left behind", "cause", context.Cause(run))
		return t.ended(run, outcome{err: context.Cause(run)})
	}
}

// equip gives the author's function what it can reach.
func (t *attempt) equip(ctx context.Context, log *slog.Logger, progress func(done, total int64)) context.Context {
	info := t.info()
	return guard.NewContext(flow.NewContext(ctx, flow.Runtime{
		Info: info, Log: log, Card: t.cardContent(), Progress: progress, Redact: t.redact,
		Checkpoints: checkpoints{t.store, info.Flow, cmp.Or(info.Root, info.Run), info.Step, info.Index},
	}), t.options.Guard.Within(t.guards[0]))
}

// logger is what the author's code logs to. In a batch the lines say whose they are.
func (t *attempt) logger() *slog.Logger {
	if t.batched {
		return t.log.logger.With("task", t.info().Task)
	}
	return t.log.logger
}

// goCall calls the author's function in a goroutine, asks it about the shapes that follow, and sends how it ended.
func (t *attempt) goCall(ctx context.Context, state any, join *joinSource) <-chan outcome {
	if state == nil {
		return t.goApart(ctx)
	}
	done := make(chan outcome, 1)
	go func() {
		var o outcome
		normal := false
		defer func() {
			switch v := recover(); {
			case v != nil:
				o.failure = policies.PanicFailure(v, debug.Stack())
				o.err = o.failure
			case !normal: // runtime.Goexit, for example a test's FailNow inside a step
				o.failure = policies.PanicFailure("the step ended its goroutine (runtime.Goexit)", debug.Stack())
				o.err = o.failure
			}
			done <- o
		}()
		t.at(ctx, PointBegin)
		switch {
		case t.catch:
			f := *t.in.Failure // the author's own: the record keeps what it was
			o.err = t.def.Catch.Call(ctx, state, &f)
		case t.def.Join != nil:
			o.err = join.call(ctx, t.def, state)
		case t.def.Command != nil:
			o = t.exec(ctx, state)
		default:
			o.err = t.def.Run(ctx, state)
		}
		t.at(ctx, PointRan)
		if o.err == nil {
			o.ahead, o.err = t.flow.Ahead(ctx, t.store, t.in.Step, state)
		}
		normal = true
	}()
	return done
}

// ended says what the end of the author's function means. A function that returned nil has done its work,
// however late; a panic is a panic; any other error after the context ended is put down to that end.
func (t *attempt) ended(run context.Context, o outcome) (*policies.Failure, error) {
	if o.err == nil || o.failure != nil || run.Err() == nil {
		return o.failure, o.err
	}
	failed := func(f *policies.Failure) (*policies.Failure, error) { return f, f }
	switch cause := context.Cause(run); {
	case errors.Is(cause, errTimeout):
		return failed(&policies.Failure{Class: policies.TimedOut, Type: "TimeoutError",
			Message: fmt.Sprintf("the attempt took longer than %s", t.spec.Timeout.Attempt)})
	case errors.Is(cause, errDrained), errors.Is(cause, worker.ErrWorkerShutdown):
		return failed(&policies.Failure{Class: policies.Lost, Message: errDrained.Error()})
	case errors.Is(cause, activity.ErrActivityPaused), errors.Is(cause, activity.ErrActivityReset):
		return failed(&policies.Failure{Class: policies.Lost, Message: cause.Error()})
	case errors.Is(cause, context.DeadlineExceeded):
		return failed(&policies.Failure{Class: policies.TimedOut, Type: "TimeoutError", Message: "the time for all attempts is over"})
	case temporal.IsCanceledError(cause):
		return failed(&policies.Failure{Class: policies.Cancelled, Message: "the run was cancelled"})
	default:
		// The server refused a heartbeat, because it has given this attempt up, or the SDK could not send one for as long
		// as it tries.
		return failed(&policies.Failure{Class: policies.Lost, Message: fmt.Sprintf("a heartbeat was refused or got no answer: %v", cause)})
	}
}

func (t *attempt) info() flow.Info {
	i := flow.Info{
		Flow: t.in.Flow, Run: t.in.Run, Step: t.in.Step, Task: flow.TaskName(t.in.Step, t.in.Index), Index: t.in.Index,
		Attempt: t.number, Origin: t.run.Origin, Root: t.run.Root, Tags: t.run.Tags,
		Project: t.run.Project, Branch: t.run.Branch,
	}
	if n := len(t.ledger); n > 0 {
		i.Previous = t.ledger[n-1].Failure
	}
	if t.catch {
		i.Previous = t.in.Failure
		i.Attempt = t.in.Failure.Attempt
	}
	return i
}

// heartbeat tells the server that the worker lives, and carries progress.
type heartbeat struct {
	done, total atomic.Int64

	mu      sync.Mutex // held while a beat is sent: none comes after stop
	timer   *time.Timer
	stopped bool
}

// beatDetails is what a heartbeat carries. The next attempt reads it if this one is lost.
type beatDetails struct {
	Attempt int       `json:"attempt"`
	Worker  string    `json:"worker"`
	Started time.Time `json:"started"`
	Done    int64     `json:"done,omitempty"`
	Total   int64     `json:"total,omitempty"`
}

// start beats every third of the timeout, at least every 10 s because a cancel arrives with the answer.
// A step shorter than that sends none.
func (h *heartbeat) start(ctx context.Context, timeout time.Duration, n int, workerName string, started time.Time) {
	every := min(timeout/3, 10*time.Second)
	if every <= 0 {
		every = 10 * time.Second
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.timer = time.AfterFunc(every, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.stopped {
			return
		}
		activity.RecordHeartbeat(ctx, beatDetails{Attempt: n, Worker: workerName, Started: started, Done: h.done.Load(), Total: h.total.Load()})
		h.timer.Reset(every)
	})
}

// beating sends heartbeats for an activity that is no step, until the function that it returns is called.
func beating(ctx context.Context, workerName string) (stop func()) {
	var h heartbeat
	info := activity.GetInfo(ctx)
	h.start(ctx, info.HeartbeatTimeout, int(info.Attempt), workerName, time.Now())
	return h.stop
}

func (h *heartbeat) progress(done, total int64) {
	h.done.Store(done)
	h.total.Store(total)
}

func (h *heartbeat) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopped = true
	h.timer.Stop()
}
