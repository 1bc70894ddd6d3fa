package runs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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
	plans    records.Plans
	// away is until when Temporal is not asked again about the runs of a list, in nanoseconds since 1970: it did not answer.
	away atomic.Int64
}

const (
	// askPatience is how long a reader waits for Temporal. The store has the run; only its status hangs on it.
	askPatience = 2 * time.Second
	// askAgain is how long a Temporal that did not answer is left alone.
	askAgain = 10 * time.Second
)

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

// Run is a run as it stood when it was read. Its document's fields are embedded, with the tags that it has now.
type Run struct {
	records.Run
	Status records.Status
	// Ended is zero while the run has not ended.
	Ended time.Time
	// Failure is the first failure of a failed run.
	Failure *policies.Failure

	reader *Reader
	given  []string // the tags at the start
	end    *records.End
	graph  func() *graph

	mu      sync.Mutex
	pending pendings
	// origins says which runs other runs took tasks over from, heads sums up batches. Neither changes.
	origins map[string]map[string]string
	heads   map[string]records.Shard
}

// Pathspec is "Flow/run".
func (r *Run) Pathspec() string { return r.Flow + "/" + r.Run.Run }

// Store is the store that the run was read from.
func (r *Run) Store() *artifacts.Store { return r.reader.store }

// Run reads one run. An unknown one is [ErrNotFound].
func (r *Reader) Run(ctx context.Context, flowName, run string) (*Run, error) {
	out, err := r.load(ctx, flowName, run, true)
	if err != nil {
		return nil, err
	}
	return out, out.refresh(ctx, time.Now().UnixNano() > r.away.Load())
}

// load reads a run's document, and its tags if they may have changed. How it ended it does not read.
func (r *Reader) load(ctx context.Context, flowName, run string, retagged bool) (*Run, error) {
	if _, err := ParsePathspec(flowName + "/" + run); err != nil {
		return nil, err
	}
	if run == LatestRun {
		return nil, fmt.Errorf("%w run %q: it stands for the newest run (use Latest or Find)", ErrPathspec, run)
	}
	doc, err := r.plans.LoadRun(ctx, r.store, flowName, run)
	if errors.Is(err, artifacts.ErrNotFound) {
		return nil, fmt.Errorf("run %q of flow %q: %w in %s (see: list %s)", run, flowName, ErrNotFound, r.store, flowName)
	}
	if err != nil {
		return nil, err
	}
	out := &Run{Run: doc, reader: r, given: doc.Tags, graph: sync.OnceValue(func() *graph { return newGraph(doc.Plan) })}
	if retagged {
		if out.Tags, err = records.LoadTags(ctx, r.store, doc); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Refresh reads the run's state again.
func (r *Run) Refresh(ctx context.Context) error { return r.refresh(ctx, true) }

// refresh reads how the run ended, and if it has not, asks Temporal.
func (r *Run) refresh(ctx context.Context, ask bool) error {
	end, err := records.LoadEnd(ctx, r.reader.store, r.Flow, r.Run.Run)
	switch {
	case err == nil:
		r.finish(end)
		return nil
	case !errors.Is(err, artifacts.ErrNotFound) && !errors.Is(err, artifacts.ErrCorrupt):
		return err
	}
	// A damaged end, as a power failure may leave it, is none: the tasks' records are what counts.
	r.Status, r.pending = Unknown, pendings{}
	if r.reader.temporal == nil || !ask {
		return nil
	}
	patience, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	d, err := r.reader.temporal.DescribeWorkflowExecution(patience, r.WorkflowID, "")
	var gone *serviceerror.NotFound
	switch {
	case errors.As(err, &gone):
		// A starter writes run.json a moment before it starts the workflow, and another cluster knows nothing of the run.
		if time.Since(r.Started) > 10*time.Second && r.reader.knows(patience, r.Cluster) {
			r.failed("Temporal does not know the run: it was never started, or its history was deleted", time.Time{})
		}
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		r.reader.away.Store(time.Now().Add(askAgain).UnixNano())
		return nil // the store has the run; only its status stays unknown
	}
	return r.describe(ctx, d)
}

// knows reports whether the cluster that is asked is the one with that id. Of an unknown id it is assumed.
func (r *Reader) knows(ctx context.Context, cluster string) bool {
	if cluster == "" {
		return true
	}
	id, err := ClusterID(ctx, r.temporal)
	return err == nil && id == cluster
}

// ClusterID asks for the id of the cluster that c is connected to.
func ClusterID(ctx context.Context, c client.Client) (string, error) {
	info, err := c.WorkflowService().GetClusterInfo(ctx, &workflowservice.GetClusterInfoRequest{})
	return info.GetClusterId(), err
}

func (r *Run) finish(end records.End) {
	r.end, r.Status, r.Ended, r.Failure, r.pending = &end, end.Status, end.Ended, end.Failure, pendings{}
}

func (r *Run) describe(ctx context.Context, d *workflowservice.DescribeWorkflowExecutionResponse) error {
	info := d.GetWorkflowExecutionInfo()
	if r.TemporalRunID != "" && info.GetFirstRunId() != r.TemporalRunID {
		r.failed(fmt.Sprintf("it did not write down how it ended, and its workflow id %q is that of another run by now", r.WorkflowID), time.Time{})
		return nil
	}
	switch info.GetStatus() {
	case enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING, enumspb.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW:
		r.Status = records.StatusRunning
		r.pending = readPending(r.Flow, d)
	case enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED:
		if end, err := records.LoadEnd(ctx, r.reader.store, r.Flow, r.Run.Run); err == nil {
			r.finish(end)
			break
		}
		r.Status, r.Ended = records.StatusCancelled, info.GetCloseTime().AsTime()
	case enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED:
		r.failed("the workflow was terminated in Temporal", info.GetCloseTime().AsTime())
	case enumspb.WORKFLOW_EXECUTION_STATUS_TIMED_OUT:
		r.failed("the workflow timed out in Temporal", info.GetCloseTime().AsTime())
	default:
		// It ended, and its end.json was written before: it came between the two reads.
		end, err := records.LoadEnd(ctx, r.reader.store, r.Flow, r.Run.Run)
		switch {
		case err == nil:
			r.finish(end)
		case errors.Is(err, artifacts.ErrNotFound), errors.Is(err, artifacts.ErrCorrupt):
			r.failed("the workflow ended in Temporal before it could write down how", info.GetCloseTime().AsTime())
			// What it ended with, Temporal knows: that the worker has another store, for example.
			if f := policies.FailureOf(r.reader.temporal.GetWorkflow(ctx, r.WorkflowID, "").Get(ctx, nil)); f != nil {
				f.Message = strings.TrimPrefix(f.Message, fmt.Sprintf("step %q failed: ", f.Task)) // the workflow's error says that, too
				r.Failure = f
			}
		default:
			return err
		}
	}
	return nil
}

// failed is the end of a run that could not write its end itself.
func (r *Run) failed(why string, ended time.Time) {
	r.Status, r.Ended = records.StatusFailed, ended
	r.Failure = &policies.Failure{Class: policies.Unknown, Message: why, Flow: r.Flow, Run: r.Run.Run}
}

// Duration is how long the run took, or takes so far. It is zero when a run without a known end is not known to run.
func (r *Run) Duration() time.Duration {
	switch {
	case !r.Ended.IsZero():
		return max(r.Ended.Sub(r.Started), 0)
	case r.Status == records.StatusRunning:
		return max(time.Since(r.Started), 0)
	}
	return 0
}

// IDs lists the ids of a flow's runs, newest first, without reading the runs. Only the documents of runs whose ids do
// not tell their time, because people chose them, are read. An unknown flow is [ErrNotFound].
func (r *Reader) IDs(ctx context.Context, flowName string) ([]string, error) {
	if why := checkName(flowName); why != "" {
		return nil, fmt.Errorf("%w flow %q: %s", ErrPathspec, flowName, why)
	}
	ids, err := r.dirs(ctx, records.FlowPrefix(flowName))
	if err != nil {
		return nil, err
	}
	started := make(map[string]time.Time, len(ids))
	for _, id := range ids {
		t, ok := timeOf(id)
		if !ok {
			doc, err := r.plans.LoadRun(ctx, r.store, flowName, id)
			switch {
			case errors.Is(err, artifacts.ErrNotFound):
				continue // what is left of a run that could not start
			case err == nil:
				t = doc.Started
			case !unreadable(err): // which comes last, with its error
				return nil, err
			}
		}
		started[id] = t
	}
	ids = slices.DeleteFunc(ids, func(id string) bool { _, ok := started[id]; return !ok })
	if len(ids) == 0 {
		return nil, fmt.Errorf("flow %q: %w in %s (it has no runs)", flowName, ErrNotFound, r.store)
	}
	slices.SortStableFunc(ids, func(a, b string) int {
		// Ids tell milliseconds, documents nanoseconds.
		x, y := started[a].Truncate(time.Millisecond), started[b].Truncate(time.Millisecond)
		return cmp.Or(y.Compare(x), strings.Compare(b, a))
	})
	return ids, nil
}

// Find reads the run that a pathspec names: "Flow/run", or "Flow/latest" for the newest.
// A text that names no run is [ErrPathspec].
func (r *Reader) Find(ctx context.Context, pathspec string) (*Run, error) {
	p, err := ParsePathspec(pathspec)
	switch {
	case err != nil:
		return nil, err
	case p.Run == "" || p.Task != "":
		return nil, fmt.Errorf("%w pathspec %q: it does not name a run (write Flow/run, or Flow/%s)", ErrPathspec, pathspec, LatestRun)
	case p.Run == LatestRun:
		return r.Latest(ctx, p.Flow, func(*Run) bool { return true })
	}
	return r.Run(ctx, p.Flow, p.Run)
}

// Latest returns the newest run that match accepts, which must not be nil.
func (r *Reader) Latest(ctx context.Context, flowName string, match func(*Run) bool) (*Run, error) {
	for run, err := range r.Runs(ctx, flowName) {
		if err != nil {
			return nil, err
		}
		if match(run) {
			return run, nil
		}
	}
	return nil, fmt.Errorf("flow %q: %w: no such run in %s", flowName, ErrNotFound, r.store)
}

// Owner is the run that tasks of a step were taken over from, and the run itself when none were. Which run has the record of
// one task, [Task.Owner] tells.
func (r *Run) Owner(step string) string {
	if owner, ok := r.Reused[step]; ok {
		return owner
	}
	return r.Run.Run
}
