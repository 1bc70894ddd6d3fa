// Package conformance holds Stepwell against the acceptance cases of Metaflow's own test suite: its fifteen graphs, its cases
// of retry, catch, timeout, resume, foreach, join and switch, and the crossing of both. Every case runs in Temporal's test
// environment and on an embedded server. docs/conformance.md says which case is which test, and what differs on purpose.
package conformance

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/devserver"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
	"github.com/stepwell-flows/stepwell/tests/testserver"
	"github.com/stepwell-flows/stepwell/workflows"
)

func TestMain(m *testing.M) {
	// Workers forget workflows, so that each workflow task replays the history from its beginning: whatever is not deterministic in
	// the workflow code shows on every graph.
	worker.SetStickyWorkflowCacheSize(0)
	idle := flow.New("Idle", flow.Step("idle", func(context.Context, *struct{}) error { return nil }))
	testserver.Main(m, stepwell.App{Flows: []*flow.Flow{idle}, Dev: devserver.Start})
}

// options are the choices of a run or a resume.
type options struct {
	params map[string]string
	tags   []string
	step   string // of a resume: run again from here
	// maxParallel is how many tasks may run at the same time, 0 for no limit.
	maxParallel int
	// handled is told the tasks that failed as soon as the workflow knows of it and has acted on it.
	handled func(task string)
}

// world is where flows run. Its runs are in one store.
type world interface {
	// run runs a flow to its end, however it ends.
	run(t *testing.T, f *flow.Flow, o options) *runs.Run
	// resume resumes a run and waits for the end of the new one.
	resume(t *testing.T, f *flow.Flow, origin *runs.Run, o options) *runs.Run
}

// both runs a case in both worlds.
func both(t *testing.T, test func(t *testing.T, w world)) {
	t.Helper()
	t.Run("flowtest", func(t *testing.T) {
		t.Parallel()
		test(t, newSimulation(t))
	})
	t.Run("server", func(t *testing.T) {
		t.Parallel()
		test(t, newDeployment(t))
	})
}

// everywhere is both, and the test environment with each foreach spread over as many child workflows as it can be.
func everywhere(t *testing.T, test func(t *testing.T, w world)) {
	t.Helper()
	both(t, test)
	t.Run("shards", func(t *testing.T) {
		t.Parallel()
		w := newSimulation(t)
		w.limits = &workflows.Limits{Tasks: 1, Shard: 2, Children: 2, Window: 2, Shards: 2}
		test(t, w)
	})
}

// simulation is Temporal's test environment.
type simulation struct {
	store  *artifacts.Store
	limits *workflows.Limits // nil for the usual ones
}

func newSimulation(t *testing.T) *simulation {
	t.Helper()
	store, err := artifacts.Open(t.Context(), "mem:", artifacts.Options{})
	require.NoError(t, err)
	return &simulation{store: store}
}

func (s *simulation) run(t *testing.T, f *flow.Flow, o options) *runs.Run {
	t.Helper()
	in := flowtest.Options{Store: s.store, Params: o.params, Tags: o.tags, MaxParallel: o.maxParallel, Limits: s.limits}
	if o.handled != nil {
		in.Prepare = func(env *testsuite.TestWorkflowEnvironment) {
			// The environment hands results to the workflow one after the other, and acts on each before the next.
			env.SetOnActivityCompletedListener(func(info *activity.Info, _ converter.EncodedValue, err error) {
				if err != nil {
					o.handled(info.ActivityID)
				}
			})
		}
	}
	return flowtest.Run(t, f, in)
}

func (s *simulation) resume(t *testing.T, f *flow.Flow, origin *runs.Run, o options) *runs.Run {
	t.Helper()
	return flowtest.Resume(t, f, origin, flowtest.Options{Params: o.params, Tags: o.tags, Step: o.step, Limits: s.limits})
}

// deployment is the embedded server with a worker for each flow.
type deployment struct {
	dir      string
	store    *artifacts.Store
	temporal client.Client
	queue    string // where all task queues begin
	clients  map[*flow.Flow]*stepwell.Client
}

func newDeployment(t *testing.T) *deployment {
	t.Helper()
	dir := t.TempDir()
	store, err := artifacts.Open(t.Context(), dir, artifacts.Options{})
	require.NoError(t, err)
	return &deployment{dir, store, testserver.Get(t).Dial(t), runs.NewID(time.Now()), map[*flow.Flow]*stepwell.Client{}}
}

// client starts a worker for f when it is new, and returns a client of its task queue.
func (d *deployment) client(t *testing.T, f *flow.Flow) *stepwell.Client {
	t.Helper()
	if c := d.clients[f]; c != nil {
		return c
	}
	queue := fmt.Sprintf("%s-%d", d.queue, len(d.clients))
	w, err := stepwell.NewWorker(d.temporal, d.store, stepwell.WorkerOptions{TaskQueue: queue, Drain: 500 * time.Millisecond}, f)
	require.NoError(t, err)
	require.NoError(t, w.Start())
	t.Cleanup(w.Stop)
	c := stepwell.NewClient(d.temporal, d.store, stepwell.ClientOptions{TaskQueue: queue, Namespace: testserver.Get(t).Namespace, User: "tester"})
	d.clients[f] = c
	return c
}

func (d *deployment) run(t *testing.T, f *flow.Flow, o options) *runs.Run {
	t.Helper()
	run := d.start(t, f, o)
	if o.handled != nil {
		ctx, stop := context.WithCancel(t.Context())
		var watch sync.WaitGroup
		watch.Go(func() { d.watch(ctx, run.WorkflowID, o.handled) })
		defer watch.Wait()
		defer stop()
	}
	return d.wait(t, f, run)
}

func (d *deployment) start(t *testing.T, f *flow.Flow, o options) *runs.Run {
	t.Helper()
	run, err := d.client(t, f).Start(t.Context(), f, stepwell.StartOptions{Params: o.params, Tags: o.tags, MaxParallel: o.maxParallel})
	require.NoError(t, err)
	return run
}

// watch reads a workflow's history for activities that failed before a workflow task that was started and completed.
func (d *deployment) watch(ctx context.Context, workflow string, handled func(task string)) {
	told := 0
	for ; ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
		var failed, known []string
		scheduled, started := map[int64]string{}, map[int64]int{}
		history := d.temporal.GetWorkflowHistory(ctx, workflow, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
		for history.HasNext() {
			e, err := history.Next()
			if err != nil {
				break
			}
			switch e.GetEventType() {
			case enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
				scheduled[e.GetEventId()] = e.GetActivityTaskScheduledEventAttributes().GetActivityId()
			case enumspb.EVENT_TYPE_ACTIVITY_TASK_FAILED:
				failed = append(failed, scheduled[e.GetActivityTaskFailedEventAttributes().GetScheduledEventId()])
			case enumspb.EVENT_TYPE_WORKFLOW_TASK_STARTED:
				started[e.GetEventId()] = len(failed)
			case enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
				known = failed[:started[e.GetWorkflowTaskCompletedEventAttributes().GetStartedEventId()]]
			default: // says nothing of this
			}
		}
		for ; told < len(known); told++ {
			handled(known[told])
		}
	}
}

func (d *deployment) resume(t *testing.T, f *flow.Flow, origin *runs.Run, o options) *runs.Run {
	t.Helper()
	run, _, err := d.client(t, f).Resume(t.Context(), f, stepwell.ResumeOptions{
		Origin: origin.Run.Run, Step: o.step, Params: o.params, Tags: o.tags,
	})
	require.NoError(t, err)
	return d.wait(t, f, run)
}

func (d *deployment) wait(t *testing.T, f *flow.Flow, run *runs.Run) *runs.Run {
	t.Helper()
	ended, err := d.client(t, f).Wait(t.Context(), run.Flow, run.Run.Run)
	require.NoError(t, err)
	return ended
}

// cli runs the command line, in this process and on the server. The flow has the deployment's first worker.
func (d *deployment) cli(t *testing.T, f *flow.Flow, env map[string]string, args ...string) (code int, out string) {
	t.Helper()
	var b strings.Builder
	d.client(t, f)
	s := testserver.Get(t)
	code = stepwell.App{Flows: []*flow.Flow{f}}.Run(t.Context(), append(args, "--address", s.Address, "--namespace", s.Namespace, "--store", d.dir),
		stepwell.IO{Out: &b, Err: &b, Env: func(name string) (string, bool) { v, ok := env[name]; return v, ok }})
	return code, b.String()
}

func completed(t *testing.T, run *runs.Run) *runs.Run {
	t.Helper()
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	return run
}

func failed(t *testing.T, run *runs.Run) *runs.Run {
	t.Helper()
	require.Equal(t, records.StatusFailed, run.Status)
	require.NotNil(t, run.Failure)
	return run
}

// final reads the state that a run ended with.
func final[S any](t *testing.T, run *runs.Run, f *flow.Flow) *S {
	t.Helper()
	last, err := completed(t, run).Last(t.Context())
	require.NoError(t, err)
	s, err := runs.LoadState[S](t.Context(), last, f)
	require.NoError(t, err)
	return s
}

// record reads the record of a task, wherever the run has it from.
func record(t *testing.T, run *runs.Run, name string) records.Task {
	t.Helper()
	return *task(t, run, name).Record
}

func task(t *testing.T, run *runs.Run, name string) *runs.Task {
	t.Helper()
	k, err := run.Task(t.Context(), name)
	require.NoError(t, err)
	return k
}

func attempts(t *testing.T, run *runs.Run, name string) []runs.Attempt {
	t.Helper()
	all, err := task(t, run, name).Attempts(t.Context())
	require.NoError(t, err)
	return all
}
