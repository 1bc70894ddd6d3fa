package workflows

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

// InputVersion is the version of [Input] that this package writes.
const InputVersion = 1

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
	// Start is where to begin, nil for the beginning.
	Start *Cursor `json:"start,omitempty"`
}

// Cursor is a place in a plan.
type Cursor struct {
	// Next is the index of the next node of the root sequence.
	Next int `json:"next"`
	// Last is the record that the next node starts from, nil when nothing is finished.
	Last *records.Ref `json:"last,omitempty"`
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

// Register registers the interpreter under the flow's name.
func Register(r Registry, flowName string) {
	r.RegisterWorkflowWithOptions(Run, workflow.RegisterOptions{Name: flowName})
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
	r := &run{in: in, info: workflow.GetInfo(ctx)}
	if in.Start != nil {
		r.at = *in.Start
	}
	if in.Run == "" {
		r.in.Run = r.info.OriginalRunID // the same after a reset; a new one each time that a schedule starts the flow
	}
	if !in.Prepared {
		if err := r.begin(ctx); err != nil {
			return Output{}, err
		}
	}
	err := r.root(ctx)
	if workflow.IsContinueAsNewError(err) {
		return Output{}, err
	}
	return r.end(ctx, err)
}

// check refuses an input that no client of ours makes, but whoever starts a flow by hand may.
func check(in Input) error {
	var errs []error
	if in.Plan.Flow == "" || len(in.Plan.Root.Nodes) == 0 {
		errs = append(errs, errors.New("the input has no plan (use the Plan of the flow)"))
	}
	for _, name := range in.Plan.Steps() {
		if n, _ := in.Plan.Step(name); n.Policy == nil {
			errs = append(errs, fmt.Errorf("step %q of the plan has no policy (use the Plan of the flow)", name))
		}
	}
	if in.Run != "" {
		errs = append(errs, records.CheckRunID(in.Run))
	}
	return errors.Join(errs...)
}

// run is one execution of the interpreter.
type run struct {
	in   Input
	info *workflow.Info
	at   Cursor
	// steps is what the Web UI shows under "current details".
	steps []string
	// caught counts the failures that were caught, since the run last continued as new.
	caught int
}

// root runs the root sequence from the cursor on.
func (r *run) root(ctx workflow.Context) error {
	nodes := r.in.Plan.Root.Nodes
	for ; r.at.Next < len(nodes); r.at.Next++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		// Nothing is in flight here, so the history can be left behind.
		if r.info.GetContinueAsNewSuggested() {
			in := r.in
			in.Prepared, in.Params = true, nil
			in.Start = &Cursor{Next: r.at.Next, Last: r.at.Last}
			return workflow.NewContinueAsNewError(ctx, r.info.WorkflowType.Name, in)
		}
		last, err := r.node(ctx, nodes[r.at.Next], nil, r.at.Last)
		if err != nil {
			return err
		}
		r.at.Last = last
	}
	return nil
}

// node runs a node that starts from a record and returns the record it ended with.
func (r *run) node(ctx workflow.Context, n flow.PlanNode, x flow.Index, from *records.Ref) (*records.Ref, error) {
	switch n.Kind {
	case flow.KindStep:
		return r.step(ctx, n, x, from)
	case flow.KindSeq:
		for _, child := range n.Nodes {
			var err error
			if from, err = r.node(ctx, child, x, from); err != nil {
				return nil, err
			}
		}
		return from, nil
	default:
		return nil, temporal.NewNonRetryableApplicationError(
			fmt.Sprintf("the plan has a node of kind %q (upgrade this worker)", n.Kind), string(policies.Permanent), nil)
	}
}

// step runs a step and, when its attempts are spent, its catch function.
func (r *run) step(ctx workflow.Context, n flow.PlanNode, x flow.Index, from *records.Ref) (*records.Ref, error) {
	in := activities.StepInput{Flow: r.in.Plan.Flow, Run: r.in.Run, Step: n.Name, Index: x, From: from, LookBack: r.reset()}
	task := flow.TaskName(n.Name, x)

	o := n.Policy.ActivityOptions(r.in.Defaults)
	o.ActivityID, o.Summary = task, summary(n)
	r.show(ctx, task, "running")
	var res activities.StepResult
	err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, o), activities.StepType(in.Flow, n.Name), in).Get(ctx, &res)
	if err == nil {
		r.show(ctx, task, "completed")
		return &res.Ref, nil
	}
	failure := r.failure(err, in)
	if failure.Class == policies.Cancelled || ctx.Err() != nil {
		r.show(ctx, task, "cancelled")
		return nil, temporal.NewCanceledError()
	}
	if !n.Policy.Catch {
		r.show(ctx, task, "failed: "+failure.Message)
		return nil, failure
	}

	in.Failure = failure
	r.show(ctx, task, "catching: "+failure.Message)
	o = n.Policy.CatchOptions(r.in.Defaults)
	o.ActivityID, o.Summary = task+".catch", oneLine(fmt.Sprintf("catch %s: %s", failure.Class, failure.Message), maxSummary)
	err = workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, o), activities.CatchType(in.Flow, n.Name), in).Get(ctx, &res)
	if err == nil {
		if res.Outcome == records.Completed { // an attempt that was given up finished the task all the same
			r.show(ctx, task, "completed")
			return &res.Ref, nil
		}
		r.caught++
		r.show(ctx, task, "caught: "+failure.Message)
		return &res.Ref, nil
	}
	caught := failure
	failure = r.failure(err, in)
	if failure.Class == policies.Cancelled || ctx.Err() != nil {
		r.show(ctx, task, "cancelled")
		return nil, temporal.NewCanceledError()
	}
	if failure.Attempt == 0 { // the server ended the catch activity: it is no attempt of the step
		failure.Attempt = max(caught.Attempt, 1)
		failure.Message = fmt.Sprintf("the catch function failed: %s; it was called for: %s", failure.Message, caught.Message)
	}
	r.show(ctx, task, "failed: "+failure.Message)
	return nil, failure
}

// failure reads an activity's error. One that the server made (a lost worker, a timeout) does not
// know its task.
func (r *run) failure(err error, in activities.StepInput) *policies.Failure {
	f := policies.FailureOf(err)
	if f.Step == "" {
		f.Flow, f.Run, f.Step, f.Task = in.Flow, in.Run, in.Step, flow.TaskName(in.Step, in.Index)
	}
	return f
}

// reset says that somebody reset the workflow: what comes may have happened before.
func (r *run) reset() bool { return r.info.OriginalRunID != r.info.WorkflowExecution.RunID }

// bookkeeping is for the run's own activities: they only touch the store, and wait for it if need be.
func (r *run) bookkeeping(ctx workflow.Context, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		ScheduleToCloseTimeout: time.Hour,
		StartToCloseTimeout:    10 * time.Minute,
		HeartbeatTimeout:       cmp.Or(r.in.Defaults.Heartbeat, 30*time.Second),
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: 30 * time.Second,
		},
		Summary: summary,
	})
}

func (r *run) begin(ctx workflow.Context) error {
	return workflow.ExecuteActivity(r.bookkeeping(ctx, "write run.json"), activities.BeginType, records.Run{
		Flow: r.in.Plan.Flow, Run: r.in.Run, Root: r.in.Run, Plan: r.in.Plan, Params: r.in.Params,
		Started: r.info.WorkflowStartTime, WorkflowID: r.info.WorkflowExecution.ID, TemporalRunID: r.info.FirstRunID, TaskQueue: r.info.TaskQueueName, Namespace: r.info.Namespace,
	}).Get(ctx, nil)
}

// end writes down how the run ended and returns the workflow's result. The store must know before
// Temporal does: Temporal forgets.
func (r *run) end(ctx workflow.Context, err error) (Output, error) {
	e := records.End{Status: records.StatusCompleted, Ended: workflow.Now(ctx), Last: r.at.Last}
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
	endErr := workflow.ExecuteActivity(r.bookkeeping(done, text), activities.EndType,
		activities.EndInput{Flow: r.in.Plan.Flow, Run: r.in.Run, End: e, Replace: r.reset()}).Get(done, nil)
	switch {
	case e.Status == records.StatusCancelled:
		return Output{}, temporal.NewCanceledError()
	case e.Failure != nil:
		f := *e.Failure
		if f.Task != "" {
			f.Message = fmt.Sprintf("step %q failed: %s", f.Task, f.Message)
		}
		return Output{}, policies.Error(&f, policies.Decision{})
	case endErr != nil:
		return Output{}, endErr
	}
	return Output{Last: r.at.Last}, nil
}

// summary is the step's line in the Web UI.
func summary(n flow.PlanNode) string {
	p := n.Policy
	var parts []string
	if p.MaximumAttempts > 1 {
		parts = append(parts, fmt.Sprintf("up to %d attempts", p.MaximumAttempts))
	}
	if p.Timeout.Attempt > 0 {
		parts = append(parts, fmt.Sprintf("%s each", p.Timeout.Attempt))
	}
	if p.Catch {
		parts = append(parts, "failure is caught")
	}
	if len(parts) == 0 {
		return "one attempt"
	}
	return strings.Join(parts, ", ")
}

// maxSummary is about what the Web UI's timeline shows of a summary, in bytes.
const maxSummary = 100

// oneLine makes a text fit for a line of Markdown.
func oneLine(s string, limit int) string {
	s = strings.NewReplacer("|", "\\|", "\n", " ", "\r", " ", "`", "'", "<", "&lt;").Replace(s)
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}

// maxShown bounds the details' length: they travel in a URL.
const maxShown = 50

// show keeps the Web UI's "current details" up to date: a Markdown table of the latest tasks.
func (r *run) show(ctx workflow.Context, task, state string) {
	row := fmt.Sprintf("| %s | %s |\n", task, oneLine(state, 200))
	if n := len(r.steps); n > 0 && strings.HasPrefix(r.steps[n-1], "| "+task+" |") {
		r.steps[n-1] = row
	} else {
		r.steps = append(r.steps, row)
	}
	if len(r.steps) > maxShown {
		r.steps = r.steps[len(r.steps)-maxShown:]
	}
	workflow.SetCurrentDetails(ctx, "| task | state |\n|---|---|\n"+strings.Join(r.steps, ""))
}
