package runs

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

// Unknown is the status of a run that has not ended as far as the store knows, when Temporal cannot be asked.
const Unknown records.Status = "unknown"

// ErrNotFound says that a flow, run, step, task or artifact does not exist. The error that wraps it names it.
var ErrNotFound = errors.New("not found")

// Reader reads runs from a store. It is safe for concurrent use.
type Reader struct {
	store    *artifacts.Store
	temporal client.Client
}

// New returns a reader. The Temporal client may be nil; then runs that have not ended have the status [Unknown].
func New(store *artifacts.Store, c client.Client) *Reader {
	return &Reader{store: store, temporal: c}
}

// Store is the store that is read.
func (r *Reader) Store() *artifacts.Store { return r.store }

// Flows lists the names of all flows that have runs, in order.
func (r *Reader) Flows(ctx context.Context) ([]string, error) {
	return r.dirs(ctx, records.FlowsPrefix)
}

func (r *Reader) dirs(ctx context.Context, prefix string) ([]string, error) {
	var names []string
	for name, err := range r.store.Dirs(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

// Run is a run as it stood when it was read. Its document's fields are embedded.
type Run struct {
	records.Run
	Status records.Status
	// Ended is zero while the run has not ended.
	Ended time.Time
	// Failure is the first failure of a failed run.
	Failure *policies.Failure

	reader  *Reader
	end     *records.End
	pending map[string]Pending
}

// Pending is what Temporal says of a task that has not ended.
type Pending struct {
	// Attempt is the attempt that runs, or waits to.
	Attempt int
	// Running is false while the task waits for a worker or for its next attempt.
	Running bool
	// Next is when the next attempt is due, zero if it is not waiting for one.
	Next time.Time
	// Failure is why the attempt before failed.
	Failure *policies.Failure
	// Done and Total are the latest progress that the step told; both zero if it told none.
	Done, Total int64
}

// Pathspec is "Flow/run".
func (r *Run) Pathspec() string { return r.Flow + "/" + r.Run.Run }

// Run reads one run. An unknown one is [ErrNotFound].
func (r *Reader) Run(ctx context.Context, flowName, run string) (*Run, error) {
	doc, err := records.LoadRun(ctx, r.store, flowName, run)
	if errors.Is(err, artifacts.ErrNotFound) {
		return nil, fmt.Errorf("run %q of flow %q: %w in %s (see: list %s)", run, flowName, ErrNotFound, r.store, flowName)
	}
	if err != nil {
		return nil, err
	}
	out := &Run{Run: doc, reader: r}
	return out, out.refresh(ctx)
}

// Refresh reads the run's state again.
func (r *Run) Refresh(ctx context.Context) error { return r.refresh(ctx) }

func (r *Run) refresh(ctx context.Context) error {
	end, err := records.LoadEnd(ctx, r.reader.store, r.Flow, r.Run.Run)
	switch {
	case err == nil:
		r.end, r.Status, r.Ended, r.Failure, r.pending = &end, end.Status, end.Ended, end.Failure, nil
		return nil
	case !errors.Is(err, artifacts.ErrNotFound):
		return err
	}
	r.Status = Unknown
	if r.reader.temporal == nil {
		return nil
	}
	d, err := r.reader.temporal.DescribeWorkflowExecution(ctx, r.WorkflowID, "")
	var gone *serviceerror.NotFound
	switch {
	case errors.As(err, &gone):
		// A starter writes run.json a moment before it starts the workflow.
		if time.Since(r.Started) > 10*time.Second {
			r.ended("Temporal does not know the run: it was never started, or its history was deleted")
		}
		return nil
	case err != nil:
		return nil //nolint:nilerr // the store has the run; only its status stays unknown
	}
	return r.describe(ctx, d)
}

func (r *Run) describe(ctx context.Context, d *workflowservice.DescribeWorkflowExecutionResponse) error {
	info := d.GetWorkflowExecutionInfo()
	switch info.GetStatus() {
	case enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING, enumspb.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW:
		r.Status = records.StatusRunning
		r.pending = pending(r.Flow, d.GetPendingActivities())
	case enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED:
		r.Status, r.Ended = records.StatusCancelled, info.GetCloseTime().AsTime()
	case enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED:
		r.ended("the workflow was terminated in Temporal")
		r.Ended = info.GetCloseTime().AsTime()
	case enumspb.WORKFLOW_EXECUTION_STATUS_TIMED_OUT:
		r.ended("the workflow timed out in Temporal")
		r.Ended = info.GetCloseTime().AsTime()
	default:
		// It ended, and its end.json was written before: it came between the two reads.
		if end, err := records.LoadEnd(ctx, r.reader.store, r.Flow, r.Run.Run); err == nil {
			r.end, r.Status, r.Ended, r.Failure = &end, end.Status, end.Ended, end.Failure
			return nil
		}
		r.ended("the workflow failed in Temporal before it could write down how the run ended")
		r.Ended = info.GetCloseTime().AsTime()
	}
	return nil
}

func (r *Run) ended(why string) {
	r.Status = records.StatusFailed
	r.Failure = &policies.Failure{Class: policies.Unknown, Message: why, Flow: r.Flow, Run: r.Run.Run}
}

// Runs yields a flow's runs, newest first, without reading more than the caller takes.
// It yields one error and stops when the store fails; an unknown flow is [ErrNotFound].
func (r *Reader) Runs(ctx context.Context, flowName string) iter.Seq2[*Run, error] {
	return func(yield func(*Run, error) bool) {
		ids, err := r.dirs(ctx, records.FlowPrefix(flowName))
		if err == nil && len(ids) == 0 {
			err = fmt.Errorf("flow %q: %w in %s (it has no runs)", flowName, ErrNotFound, r.store)
		}
		if err != nil {
			yield(nil, err)
			return
		}
		// Ids that Stepwell makes begin with the time, so their order is the order of time. Ids that
		// people chose come where their name puts them.
		for _, id := range slices.Backward(ids) {
			run, err := r.Run(ctx, flowName, id)
			if errors.Is(err, ErrNotFound) {
				continue // a folder without run.json: what is left of a run that could not start
			}
			if !yield(run, err) || err != nil {
				return
			}
		}
	}
}

// Find reads the run that a pathspec names: "Flow/run", or "Flow/latest" for the newest.
func (r *Reader) Find(ctx context.Context, pathspec string) (*Run, error) {
	flowName, id, ok := strings.Cut(pathspec, "/")
	if !ok || flowName == "" || id == "" || strings.Contains(id, "/") {
		return nil, fmt.Errorf("%q does not name a run (write Flow/run, or Flow/latest)", pathspec)
	}
	if id == "latest" {
		return r.Latest(ctx, flowName, func(*Run) bool { return true })
	}
	return r.Run(ctx, flowName, id)
}

// Latest returns the newest run that match accepts, by the time it was started.
func (r *Reader) Latest(ctx context.Context, flowName string, match func(*Run) bool) (*Run, error) {
	var newest *Run
	for run, err := range r.Runs(ctx, flowName) {
		if err != nil {
			return nil, err
		}
		if match(run) && (newest == nil || run.Started.After(newest.Started)) {
			newest = run
		}
		// Past a generated id, only older ones follow, unless somebody chose ids of their own.
		if newest != nil && GeneratedID(newest.Run.Run) && GeneratedID(run.Run.Run) {
			break
		}
	}
	if newest == nil {
		return nil, fmt.Errorf("flow %q: %w: no such run", flowName, ErrNotFound)
	}
	return newest, nil
}

// Owner is the run that has the records of a step: the run itself, or the one that the step was reused from.
func (r *Run) Owner(step string) string {
	if owner, ok := r.Reused[step]; ok {
		return owner
	}
	return r.Run.Run
}
