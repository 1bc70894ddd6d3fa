package activities

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"regexp"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/guard"
	"github.com/stepwell-flows/stepwell/isolate"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/telemetry"
)

// StepType is the activity type of a step.
func StepType(flowName, step string) string { return flowName + "." + step }

// CatchType is the activity type of a step's catch function. A step's name has no dot, so it is free.
func CatchType(flowName, step string) string { return flowName + "." + step + ".catch" }

// BatchType is the activity type of a batch of a foreach's items.
func BatchType(flowName, foreach string) string { return flowName + "." + foreach + ".batch" }

// The activity types of a run's own bookkeeping.
const (
	BeginType  = "stepwell.begin"
	EndType    = "stepwell.end"
	LookType   = "stepwell.look"
	SettleType = "stepwell.settle"
	ShardType  = "stepwell.shard"
)

// StepInput tells an attempt which task it is. It holds references, never data, but for what a join of few items reads, see [records.Kept].
type StepInput struct {
	Flow  string     `json:"flow"`
	Run   string     `json:"run"`
	Step  string     `json:"step"`
	Index flow.Index `json:"index,omitempty"`
	// From is the record that the task starts from, nil at the start of a run.
	From *records.Ref `json:"from,omitempty"`
	// Bind is the item that the task puts into the state first.
	Bind *flow.Binding `json:"bind,omitempty"`
	// Join is what a join reads.
	Join *JoinInput `json:"join,omitempty"`
	// Keep asks what the task sets, see [records.Kept].
	Keep bool `json:"keep,omitempty"`
	// LookBack says that the task may be finished although this is its first attempt: the workflow was reset.
	LookBack bool `json:"look_back,omitempty"`
	// Failure is what the step ended with, for its catch function and for Skip.
	Failure *policies.Failure `json:"failure,omitempty"`
	// Before is how many attempts there were in earlier activities of the task: it was deferred, climbed, or a person let it be
	// tried again.
	Before int `json:"before,omitempty"`
	// Forgiven is up to which attempt failures do not count any more.
	Forgiven int `json:"forgiven,omitempty"`
	// Rung is the rung of the step's ladder, counted from 0.
	Rung int `json:"rung,omitempty"`
	// Skip finishes the task without calling the step: a person wants it so.
	Skip bool `json:"skip,omitempty"`
}

// StepResult is what a finished task tells the workflow.
type StepResult struct {
	Ref     records.Ref     `json:"ref"`
	Outcome records.Outcome `json:"outcome"`
	Attempt int             `json:"attempt"`
	// Ahead is what was decided about the shapes that follow.
	Ahead flow.Ahead `json:"ahead,omitempty"`
	// Set previews what the task changed, for people in the Web UI.
	Set map[string]string `json:"set,omitempty"`
	// Unshown is how many more it changed.
	Unshown int `json:"unshown,omitempty"`
	// Kept is what it changed, if that was asked for.
	Kept *records.Kept `json:"kept,omitempty"`
	// Queued says whether the task waited longer for a worker than a quarter of the time that it took then. Nil means that it is not
	// known.
	Queued *bool `json:"queued,omitempty"`
	// Earlier tells of the attempts that failed, for people, the latest last.
	Earlier []string `json:"earlier,omitempty"`
	// Again says that the task is not finished. The other fields are empty then.
	Again *Again `json:"again,omitempty"`
}

// Again says that a task has to go on in another activity.
type Again struct {
	// Attempt is the last attempt there was.
	Attempt int `json:"attempt"`
	// Wait is how long to wait, in nanoseconds.
	Wait time.Duration `json:"wait,omitempty"`
	// Deferred says that it waits for something to come back. Otherwise it goes on with Rung.
	Deferred bool `json:"deferred,omitempty"`
	// Alone says that others need not wait with it.
	Alone  bool   `json:"alone,omitempty"`
	Rung   int    `json:"rung,omitempty"`
	Reason string `json:"reason"`
	// Failure is what the attempt ended with.
	Failure *policies.Failure `json:"failure,omitempty"`
}

// EndInput says how a run ended.
type EndInput struct {
	Flow string      `json:"flow"`
	Run  string      `json:"run"`
	End  records.End `json:"end"`
	// Replace says that an earlier end does not stand: the workflow was reset.
	Replace bool `json:"replace,omitempty"`
}

// Options are how a worker runs steps. The zero value is ready.
type Options struct {
	// Worker names this process in records. Defaults to its process id and host.
	Worker string
	// Drain is how long running attempts may go on after the worker was told to stop; then they are
	// cancelled and tried again elsewhere, without using up an attempt. Defaults to 25 s. Give the
	// Temporal worker a WorkerStopTimeout some seconds longer.
	Drain time.Duration
	// Log also gets what steps log, with run, task and attempt added. Nil: the lines are only kept in the store.
	Log slog.Handler
	// Redact says what to hide in logs and in the texts of failures, besides what is known to be secret: see docs/logs.md. Nil: nothing.
	Redact []*regexp.Regexp
	// Classify is asked for the class of what a step returned, after the step's own [policies.Classifier]. Nil: the built-in rules alone.
	Classify func(error) policies.Class
	// Guard is what the process knows of dependencies. Defaults to a new one.
	Guard *guard.Registry
	// Random draws jitter from [0,1). Defaults to math/rand/v2.
	Random func() float64
	// Now is the clock of records. Defaults to time.Now; package flowtest gives the skipped one.
	Now func() time.Time
	// InProcess runs isolated steps in this process, without limits: for tests.
	InProcess bool
	// Metrics count what the worker does. Nil: nothing is counted.
	Metrics *telemetry.Metrics
	// At is called, by many goroutines, with every moment of every attempt, for tests that kill workers. Nil: nothing is.
	At func(context.Context, Moment)
}

// grace is how long a cancelled or timed-out function may take to return before it is left behind.
const grace = time.Second

// How many documents a worker keeps of those that never change. That of a run holds the plan, tens of kilobytes at most, and a record
// what is inline.
const (
	maxRuns   = 256
	maxSplits = 32
)

type runKey struct{ flow, run string }

type splitKey struct {
	flow, run, step string
	digest          artifacts.Digest
}

// Activities runs the steps of some flows over one store. It is safe for concurrent use.
type Activities struct {
	store   *artifacts.Store
	flows   []*flow.Flow
	options Options
	runs    *lately[runKey, records.Run]
	// splits are the records that items of a foreach start from, thousands of tasks the same.
	splits *lately[splitKey, records.Task]
	pool   isolate.Pool
	// redactor knows the secrets of the whole worker.
	redactor *redactor
	items    map[string]itemStep
}

// New returns the activities of flows. The flows must have passed their Check.
func New(store *artifacts.Store, o Options, flows ...*flow.Flow) *Activities {
	if o.Drain == 0 {
		o.Drain = 25 * time.Second
	}
	if o.Worker == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "unknown"
		}
		o.Worker = fmt.Sprintf("%d@%s", os.Getpid(), host)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Random == nil {
		o.Random = rand.Float64
	}
	if o.Guard == nil {
		o.Guard = guard.New(guard.Options{Now: o.Now, Random: o.Random})
	}
	a := &Activities{
		store: store, flows: flows, options: o, redactor: newRedactor(os.Environ(), o.Redact),
		runs: newLately[runKey, records.Run](maxRuns), splits: newLately[splitKey, records.Task](maxSplits),
	}
	if o.Metrics != nil {
		a.items = itemSteps(flows)
	}
	return a
}

// Registry is what a Temporal worker and its test environment offer to register activities.
type Registry interface {
	RegisterActivityWithOptions(fn any, o activity.RegisterOptions)
}

// Register registers every step and catch function under its own activity type, so that Temporal's
// Web UI reads as the flow.
func (a *Activities) Register(r Registry) {
	register := func(name string, fn any) {
		r.RegisterActivityWithOptions(fn, activity.RegisterOptions{Name: name})
	}
	for _, f := range a.flows {
		for _, def := range f.Steps() {
			register(StepType(f.Name(), def.Name), func(ctx context.Context, in StepInput) (StepResult, error) {
				return a.attempt(ctx, f, def, in, false)
			})
			if def.Catch != nil {
				register(CatchType(f.Name(), def.Name), func(ctx context.Context, in StepInput) (StepResult, error) {
					return a.attempt(ctx, f, def, in, true)
				})
			}
		}
		for _, foreach := range f.Batched() {
			register(BatchType(f.Name(), foreach), func(ctx context.Context, in BatchInput) (records.Batch, error) {
				return a.batch(ctx, f, in)
			})
		}
	}
	register(BeginType, a.begin)
	register(EndType, a.end)
	register(SendLimitType, sendLimit)
	register(LookType, a.look)
	register(SettleType, a.settled)
	register(ShardType, a.shard)
}

// unknownDelay is how long a task waits after it came to a worker that does not have its step.
const unknownDelay = 15 * time.Second

// Unknown is the dynamic activity of a worker: it takes tasks of steps that the worker does not have, because another
// program polls the same queue or a deployment is under way, and hands them back. That counts as a lost attempt.
func (a *Activities) Unknown(ctx context.Context, args converter.EncodedValues) (StepResult, error) {
	info := activity.GetInfo(ctx)
	var in StepInput
	var batch BatchInput
	if err := args.Get(&batch); err == nil && batch.Foreach != "" {
		return StepResult{}, a.unknownBatch(info, batch)
	}
	if err := args.Get(&in); err != nil || in.Step == "" {
		return StepResult{}, temporal.NewNonRetryableApplicationError(fmt.Sprintf("activity %q is no step", info.ActivityType.Name), string(policies.Invalid), nil)
	}
	n := in.Before + int(info.Attempt)
	f := &policies.Failure{
		Class: policies.Lost, Flow: in.Flow, Run: in.Run, Step: in.Step, Task: flow.TaskName(in.Step, in.Index), Attempt: n, Worker: a.options.Worker, Time: a.options.Now(),
		Message: a.unknownText(info),
	}
	e := records.Attempt{Attempt: n, Outcome: records.Lost, Worker: f.Worker, Started: f.Time, Ended: f.Time, Failure: f, Delay: unknownDelay, Reason: "another worker may have the step"}
	err := records.PutAttempt(ctx, a.store, in.Flow, in.Run, in.Step, in.Index, e)
	if err != nil && a.options.Log != nil {
		slog.New(a.options.Log).Warn("ledger entry was not written", "error", err)
	}
	return StepResult{}, policies.Error(f, policies.Decision{Retry: true, Delay: unknownDelay})
}

// unknownBatch hands a batch back, as often as it comes. It has no ledger, and an attempt without a part does not count.
func (a *Activities) unknownBatch(info activity.Info, in BatchInput) error {
	return policies.Error(&policies.Failure{
		Class: policies.Lost, Flow: in.Flow, Run: in.Run, Step: in.Foreach, Task: BatchName(in.Foreach, in.Index, in.First, in.Count),
		Attempt: int(info.Attempt), Worker: a.options.Worker, Time: a.options.Now(), Message: a.unknownText(info),
	}, policies.Decision{Retry: true, Delay: unknownDelay})
}

func (a *Activities) unknownText(info activity.Info) string {
	return fmt.Sprintf("worker %s does not have activity %q (does another program poll task queue %q?)", a.options.Worker, info.ActivityType.Name, info.TaskQueue)
}

// begin writes run.json for a run that was started without a client that did so, as a child of
// another workflow for example.
func (a *Activities) begin(ctx context.Context, r records.Run) error {
	defer beating(ctx, a.options.Worker)()
	err := records.CreateRun(ctx, a.store, r)
	if errors.Is(err, artifacts.ErrExists) {
		var there records.Run
		if there, err = records.LoadRun(ctx, a.store, r.Flow, r.Run); err == nil && (there.WorkflowID != r.WorkflowID || there.TemporalRunID != r.TemporalRunID) {
			err = policies.WithClass(fmt.Errorf("run %q of flow %q exists and belongs to workflow %q (give Input.Run another id, or leave it out)",
				r.Run, r.Flow, there.WorkflowID), policies.Invalid)
		}
	}
	return bookkeeping(err)
}

func (a *Activities) end(ctx context.Context, in EndInput) error {
	defer beating(ctx, a.options.Worker)()
	if f := in.End.Failure; f != nil && f.Attempt == 0 {
		ledger, err := a.settle(ctx, f, 0)
		if err != nil {
			return bookkeeping(err)
		}
		a.gaveUp(ctx, f, ledger)
	}
	write := records.CreateEnd
	if in.Replace {
		write = records.PutEnd
	}
	if err := write(ctx, a.store, in.Flow, in.Run, in.End); err != nil {
		return bookkeeping(err)
	}
	a.runEnded(ctx, in)
	return nil
}

// SettleInput asks for what only the ledger knows of a failure that the server made.
type SettleInput struct {
	Failure policies.Failure `json:"failure"`
	// Forgiven is up to which attempt failures do not count any more.
	Forgiven int `json:"forgiven,omitempty"`
	// Workflow is the id of the workflow in which the task waits for a person now.
	Workflow string `json:"workflow"`
}

// settled completes a failure that the server made and notes in the ledger that its task waits for a person.
func (a *Activities) settled(ctx context.Context, in SettleInput) (policies.Failure, error) {
	defer beating(ctx, a.options.Worker)()
	f := in.Failure
	ledger, err := a.settle(ctx, &f, in.Forgiven)
	if err != nil {
		return f, bookkeeping(err)
	}
	step, x, err := flow.ParseTaskName(f.Task)
	if err != nil {
		return f, bookkeeping(policies.WithClass(err, policies.Permanent))
	}
	last := records.Attempt{Attempt: max(f.Attempt, 1), Outcome: records.Failed, Worker: f.Worker, Ended: f.Time, Failure: &f, Reason: f.Message}
	if n := len(ledger); n > 0 && ledger[n-1].Attempt == f.Attempt {
		last = ledger[n-1]
	}
	if last.Outcome == records.Deferred { // it says why the task waited for a service, and not why it does for a person
		last.Failure, last.Reason = &f, f.Message
	}
	f.Attempt = last.Attempt
	last.Paused, last.Workflow, last.Delay = true, in.Workflow, 0
	return f, bookkeeping(records.PutAttempt(ctx, a.store, f.Flow, f.Run, step, x, last))
}

// settle completes a failure that the server made when it gave a task up, because the last attempt's worker was lost or
// a timeout passed: only the ledger knows how many attempts there were. It writes the entry that the lost worker could
// not write, and returns the ledger. A failure that an attempt told itself stays as it is.
func (a *Activities) settle(ctx context.Context, f *policies.Failure, forgiven int) ([]records.Attempt, error) {
	if f == nil || f.Step == "" {
		return nil, nil
	}
	step, x, err := flow.ParseTaskName(f.Task)
	if err != nil {
		return nil, policies.WithClass(err, policies.Permanent)
	}
	ledger, err := records.Attempts(ctx, a.store, f.Flow, f.Run, step, x)
	if err != nil || f.Attempt > 0 {
		return ledger, err
	}
	last := 0
	for _, e := range ledger {
		last = max(last, e.Attempt)
	}
	if f.Attempt = last; f.Class == policies.Lost {
		f.Attempt++
		e := records.Attempt{Attempt: f.Attempt, Outcome: records.Lost, Worker: f.Worker, Failure: f, Reason: "lost attempts spent"}
		ledger = append(ledger, e)
		f.CodeFailures, f.LostAttempts = count(ledger, forgiven)
		return ledger, records.PutAttempt(ctx, a.store, f.Flow, f.Run, step, x, e)
	}
	f.CodeFailures, f.LostAttempts = count(ledger, forgiven)
	return ledger, nil
}

// count tells the attempts that failed by the author's code from those that were lost, of those after a number.
func count(ledger []records.Attempt, forgiven int) (code, lost int) {
	for _, e := range ledger {
		switch {
		case e.Attempt <= forgiven, e.Outcome == records.Deferred:
		case e.CountsAsCodeFailure:
			code++
		case e.Outcome == records.Failed: // it climbed
		default:
			lost++
		}
	}
	return code, lost
}

// bookkeeping flattens an error for Temporal. These activities are tried again by the server's policy, unless the error
// is one that stays.
func bookkeeping(err error) error {
	if err == nil {
		return nil
	}
	f := policies.Classify(err)
	passing := f.Class != policies.Permanent && f.Class != policies.Invalid
	return policies.Error(f, policies.Decision{Retry: passing, Delay: time.Second})
}

// run returns the run's document, which never changes.
func (a *Activities) run(ctx context.Context, flowName, run string) (records.Run, error) {
	return a.runs.get(runKey{flowName, run}, func() (records.Run, error) {
		r, err := records.LoadRun(ctx, a.store, flowName, run)
		if errors.Is(err, artifacts.ErrNotFound) {
			err = policies.WithClass(fmt.Errorf("run %q of flow %q is not in store %s (give the starter and the worker the same --store)",
				run, flowName, a.store), policies.Permanent)
		}
		return r, err
	})
}
