package workflows

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

// InputVersion is the latest version of [Input] and [ShardInput] that this package knows. Older workers refuse to run what they do not
// know. What can do without the novelty of a version is therefore written as of the one before, see [Limits.Version], and a shard as its
// parent. 2 is for runs with Limits.Slots, of which more tasks tell whether they waited.
const InputVersion = 2

// Input starts a run. A client fills it in; to start a flow as a child of a workflow of one's own,
// Plan and Params are enough.
type Input struct {
	Version int       `json:"version"`
	Plan    flow.Plan `json:"plan"`
	// Run is the run's id, which no other run of the flow may have. Defaults to the workflow's run id.
	Run string `json:"run,omitempty"`
	// Params are resolved parameters as text, see flow.ResolveParams. They are in run.json, and only
	// travel here when Prepared is false.
	Params map[string]string `json:"params,omitempty"`
	// Prepared says that run.json is written. If it is not, the run's first activity does so.
	Prepared bool `json:"prepared,omitempty"`
	// Defaults are for steps whose policies leave something open.
	Defaults policies.Defaults `json:"defaults,omitzero"`
	// MaxParallel bounds the tasks that run at the same time. 0 means no limit.
	MaxParallel int `json:"max_parallel,omitempty"`
	// Limits bound the workflows. Nil means the defaults.
	Limits *Limits `json:"limits,omitempty"`
	// Rungs is on which rung of their ladder steps begin, counted from 0.
	Rungs map[string]int `json:"rungs,omitempty"`
	// Search names the search attributes that the namespace has and the run may set by itself, see [OwnAttributes]. A server fails
	// the workflow's tasks over one that it does not know. Defaults to none.
	Search []string `json:"search,omitempty"`
	// FailedSteps are the steps that failed before the run continued as new.
	FailedSteps []string `json:"failed_steps,omitempty"`
	// WasReset says that the workflow was reset before the run continued as new.
	WasReset bool `json:"was_reset,omitempty"`
	// Start is where to begin, nil for the beginning.
	Start *records.Cursor `json:"start,omitempty"`
	// Gates hold tasks back in a run that continues as new.
	Gates []Gate `json:"gates,omitempty"`
}

// Limits keep every workflow of a run below what a Temporal server allows, with room to spare. Whoever changes a default breaks
// the replay of runs that are under way.
type Limits struct {
	// Tasks is up to how many tasks a foreach runs in the workflow itself. Defaults to 200.
	Tasks int `json:"tasks,omitempty"`
	// Shard is how many tasks, or batches, a shard has. Defaults to 500.
	Shard int `json:"shard,omitempty"`
	// Children is how many shards one workflow has. Defaults to 500. Beyond that, shards have shards.
	Children int `json:"children,omitempty"`
	// Window is how many items of a shard run at the same time. Defaults to 250.
	Window int `json:"window,omitempty"`
	// Slots is how many steps the workers run at the same time at least, 0 if that is not known. Known, it stands in for Window: so
	// many items run at first, and more as long as they need not wait, see [window]. Batches have Window.
	Slots int `json:"slots,omitempty"`
	// Shards is how many shards of one workflow run at the same time. Defaults to 10.
	Shards int `json:"shards,omitempty"`
	// Follow lets the next shard start when one has started its last item: few shards, and none that waits for a slow item. It
	// does not count where the author or the run limits how much runs at the same time.
	Follow bool `json:"follow,omitempty"`
	// Activities is how many activities of one workflow run at the same time: shapes within shapes multiply, and a server
	// does not take more than 2000. Defaults to 500.
	Activities int `json:"activities,omitempty"`
}

// Version is that of an [Input] with these limits.
func (l Limits) Version() int {
	if l.Slots > 0 {
		return 2
	}
	return 1
}

// WithDefaults fills in what is zero.
func (l Limits) WithDefaults() Limits {
	return Limits{
		Tasks: cmp.Or(l.Tasks, 200), Shard: cmp.Or(l.Shard, 500), Children: cmp.Or(l.Children, 500),
		Window: cmp.Or(l.Window, 250), Shards: cmp.Or(l.Shards, 10), Activities: cmp.Or(l.Activities, 500), Follow: l.Follow,
		Slots: l.Slots,
	}
}

// Output is a completed run's result.
type Output struct {
	// Last is the record that the run ended with.
	Last *records.Ref `json:"last,omitempty"`
}

// Registry is what a Temporal worker and its test environment offer to register workflows.
type Registry interface {
	RegisterWorkflowWithOptions(fn any, o workflow.RegisterOptions)
}

// Register registers the interpreter under the flow's name, and that of the shards of its foreach shapes.
func Register(r Registry, flowName string) {
	r.RegisterWorkflowWithOptions(Run, workflow.RegisterOptions{Name: flowName})
	r.RegisterWorkflowWithOptions(Shard, workflow.RegisterOptions{Name: ShardType(flowName)})
}

// Run interprets a plan.
func Run(ctx workflow.Context, in Input) (Output, error) {
	if in.Plan.Version > flow.PlanVersion || in.Version > InputVersion {
		return Output{}, temporal.NewNonRetryableApplicationError(fmt.Sprintf(
			"the run was started by a newer Stepwell (plan version %d; upgrade this worker, which knows %d)", in.Plan.Version, flow.PlanVersion),
			string(policies.Permanent), nil)
	}
	if err := check(in); err != nil {
		return Output{}, temporal.NewNonRetryableApplicationError(err.Error(), string(policies.Invalid), nil)
	}
	r := newRun(ctx, in.Plan.Flow, in.Run, in.Defaults, in.Limits, in.MaxParallel)
	r.version = max(1, in.Version)
	if err := errors.Join(r.answers(ctx), r.persons(ctx)); err != nil {
		return Output{}, err
	}
	r.rungs, r.failedSteps, r.wasReset = in.Rungs, in.FailedSteps, in.WasReset
	r.mayMark(ctx, in.Search)
	r.listen(ctx)
	r.takeOver(ctx, in.Gates)
	at := in.Start
	if at == nil {
		at = &records.Cursor{}
	}
	r.failures = at.Ranked()
	if r.id == "" {
		r.id = r.info.OriginalRunID // the same after a reset; a new one each time that a schedule starts the flow
	}
	if !in.Prepared {
		if err := r.begin(ctx, in); err != nil {
			return Output{}, err
		}
	}
	err := r.seq(ctx, r.top, in.Plan.Root.Nodes, nil, at)
	if errors.Is(err, errStopped) && r.draining {
		in.Run, in.Prepared, in.Params, in.Start, in.Rungs, in.Gates = r.id, true, nil, at, r.rungs, r.handOn()
		in.FailedSteps, in.WasReset = r.failedSteps, r.reset()
		at.Rank(r.failures)
		at.Trim()
		if err := r.leaveMarks(ctx); err != nil {
			return Output{}, err
		}
		return Output{}, workflow.NewContinueAsNewError(ctx, r.info.WorkflowType.Name, in)
	}
	return r.end(ctx, err, at.Last)
}

// check refuses an input that no client of ours makes, but whoever starts a flow by hand may.
func check(in Input) error {
	var errs []error
	if in.Plan.Flow == "" || len(in.Plan.Root.Nodes) == 0 {
		errs = append(errs, errors.New("the input has no plan (use the Plan of the flow)"))
	}
	in.Plan.Walk(func(n flow.PlanNode) {
		switch n.Kind {
		case flow.KindStep, flow.KindDecide:
			if n.Policy == nil {
				errs = append(errs, fmt.Errorf("step %q of the plan has no policy (use the Plan of the flow)", n.Name))
			}
		case flow.KindBranch, flow.KindForeach:
			if n.Join == nil || n.Join.Policy == nil || len(n.Nodes) == 0 || n.Kind == flow.KindForeach && n.Fan == nil {
				errs = append(errs, fmt.Errorf("%s %q of the plan is not whole (use the Plan of the flow)", n.Kind, n.Name))
			}
		case flow.KindLoop:
			if len(n.Nodes) == 0 {
				errs = append(errs, fmt.Errorf("loop %q of the plan has no body (use the Plan of the flow)", n.Name))
			}
		case flow.KindSeq, flow.KindSwitch: // what they have not is not run
		}
	})
	if in.Run != "" {
		errs = append(errs, records.CheckRunID(in.Run))
	}
	return errors.Join(errs...)
}

// failure reads an activity's error. One that the server made (a lost worker, a timeout) does not
// know its task.
func (r *run) failure(ctx workflow.Context, err error, in activities.StepInput) *policies.Failure {
	f := policies.FailureOf(err)
	if f.Time.IsZero() {
		f.Time = workflow.Now(ctx)
	}
	if f.Step == "" {
		f.Flow, f.Run, f.Step, f.Task = in.Flow, in.Run, in.Step, flow.TaskName(in.Step, in.Index)
	}
	return f
}

// reset says that somebody reset the workflow: what comes may have happened before.
func (r *run) reset() bool {
	// The test environment has no original run.
	return r.wasReset || r.info.OriginalRunID != "" && r.info.OriginalRunID != r.info.WorkflowExecution.RunID
}

// bookkeeping is for the run's own activities: they only touch the store, and wait for it if need be.
func (r *run) bookkeeping(ctx workflow.Context, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		ScheduleToCloseTimeout: time.Hour,
		StartToCloseTimeout:    10 * time.Minute,
		HeartbeatTimeout:       cmp.Or(r.defaults.Heartbeat, 30*time.Second),
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: 30 * time.Second,
		},
		Summary: summary,
	})
}

func (r *run) begin(ctx workflow.Context, in Input) error {
	return workflow.ExecuteActivity(r.bookkeeping(ctx, "write run.json"), activities.BeginType, records.Run{
		Flow: r.flow, Run: r.id, Root: r.id, Plan: in.Plan, Params: in.Params, MaxParallel: in.MaxParallel,
		Started: r.info.WorkflowStartTime, WorkflowID: r.info.WorkflowExecution.ID, TemporalRunID: r.info.FirstRunID, TaskQueue: r.info.TaskQueueName, Namespace: r.info.Namespace,
	}).Get(ctx, nil)
}

// end writes down how the run ended and returns the workflow's result. The store must know before
// Temporal does: Temporal forgets.
func (r *run) end(ctx workflow.Context, err error, last *records.Ref) (Output, error) {
	e := records.End{Status: records.StatusCompleted, Ended: workflow.Now(ctx), Last: last}
	if fatal, ok := errors.AsType[*fatalError](err); ok {
		err = fatal.f
	}
	var failure *policies.Failure
	var cancelled *temporal.CanceledError
	switch {
	case err == nil:
	case errors.As(err, &cancelled):
		e.Status = records.StatusCancelled
	case errors.As(err, &failure):
		e.Status, e.Failure = records.StatusFailed, failure
	default:
		e.Status, e.Failure = records.StatusFailed, policies.FailureOf(err)
	}
	// A cancelled run must still say that it was.
	done, _ := workflow.NewDisconnectedContext(ctx)
	text := "the run " + string(e.Status)
	switch {
	case e.Failure != nil:
		text += oneLine(fmt.Sprintf(" at %s: %s", e.Failure.Task, e.Failure.Message), maxSummary)
	case r.caught > 0:
		text += fmt.Sprintf(", %d caught", r.caught)
	}
	r.failedStep(e.Failure)
	markErr := r.markFailed(done)
	endErr := workflow.ExecuteActivity(r.bookkeeping(done, text), activities.EndType,
		activities.EndInput{Flow: r.flow, Run: r.id, End: e, Replace: r.reset()}).Get(done, nil)
	switch {
	case e.Status == records.StatusCancelled:
		return Output{}, temporal.NewCanceledError()
	case e.Failure != nil:
		f := *e.Failure
		if f.Task != "" {
			f.Message = fmt.Sprintf("step %q failed: %s", f.Task, f.Message)
		}
		if f.Others > 0 {
			f.Message += fmt.Sprintf(" (and %d other tasks failed)", f.Others)
		}
		return Output{}, policies.Error(&f, policies.Decision{})
	case endErr != nil || markErr != nil:
		return Output{}, cmp.Or(endErr, markErr)
	}
	return Output{Last: last}, nil
}
