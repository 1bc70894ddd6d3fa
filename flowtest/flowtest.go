package flowtest

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
	"github.com/stepwell-flows/stepwell/workflows"
)

// Options are the choices of a test run. The zero value is ready.
type Options struct {
	// Params are parameters as text, by name. The environment is not looked at.
	Params map[string]string
	// Tags are kept with the run.
	Tags []string
	// Store keeps the run. Defaults to a new one in memory.
	Store *artifacts.Store
	// MaxParallel bounds the tasks that run at the same time. Defaults to no limit.
	MaxParallel int
	// Limits bound the workflows. Defaults to those of a real run.
	Limits *workflows.Limits
	// Step makes [Resume] run this step and all that follows it again, with changed Params if there are any.
	Step string
	// Classify is the worker's rule for the classes of errors, see stepwell.WorkerOptions. Defaults to none.
	Classify func(error) policies.Class
	// Random draws jitter from [0,1). Defaults to always 0.5, so that delays are the same in every run of the test.
	Random func() float64
	// Prepare is called with the environment before the run, to cancel it at a time, to listen to its activities or to
	// stand in for them. Defaults to nothing.
	Prepare func(*testsuite.TestWorkflowEnvironment)

	// workers are those that EveryCrash kills.
	workers *workers
}

// Run runs f to its end and returns the run as it was recorded. A flow that does not pass its Check, or parameters that are
// refused, fail the test at once; a run that fails does not: look at its Status.
func Run(t testing.TB, f *flow.Flow, o Options) *runs.Run {
	t.Helper()
	ctx := t.Context()
	if err := f.Check(); err != nil {
		t.Fatalf("flow %q: %v", f.Name(), err)
	}
	params, err := f.ResolveParams(o.Params, nil)
	if err != nil {
		t.Fatalf("parameters of flow %q: %v", f.Name(), err)
	}
	if o.Store == nil {
		if o.Store, err = artifacts.Open(ctx, "mem:", artifacts.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	if o.Random == nil {
		o.Random = half
	}

	started := time.Now()
	doc := records.Run{
		Flow: f.Name(), Run: runs.NewID(started), Plan: f.Plan(), Params: params, Tags: o.Tags, User: "test", Started: started, TaskQueue: "test",
	}
	doc.Root = doc.Run
	return run(t, f, o, doc, nil)
}

// Resume resumes origin, a run of f that [Run] or Resume returned, as a new run and runs it to its end. The store is the
// origin's; Params are for use with Step. A resume that is refused fails the test at once.
func Resume(t testing.TB, f *flow.Flow, origin *runs.Run, o Options) *runs.Run {
	t.Helper()
	o.Store = origin.Store()
	if o.Random == nil {
		o.Random = half
	}
	p, err := stepwell.NewClient(nil, o.Store, stepwell.ClientOptions{User: "test"}).PlanResume(t.Context(), f, stepwell.ResumeOptions{
		Origin: origin.Run.Run, Step: o.Step, Params: o.Params, Tags: o.Tags,
	})
	if err != nil {
		t.Fatalf("resume run %s: %v", origin.Pathspec(), err)
	}
	doc, at := p.Start()
	doc.Started = time.Now()
	doc.Run, doc.User, doc.TaskQueue = runs.NewID(doc.Started), "test", "test"
	return run(t, f, o, doc, at)
}

func half() float64 { return 0.5 }

// run runs a workflow from a cursor to its end.
func run(t testing.TB, f *flow.Flow, o Options, doc records.Run, at *records.Cursor) *runs.Run {
	t.Helper()
	ctx := t.Context()
	doc.WorkflowID, doc.MaxParallel = doc.Flow+"/"+doc.Run, o.MaxParallel
	if err := records.CreateRun(ctx, o.Store, doc); err != nil {
		t.Fatalf("create run: %v", err)
	}
	in := &workflows.Input{
		Version: workflows.InputVersion, Plan: doc.Plan, Run: doc.Run, Prepared: true, Start: at, MaxParallel: o.MaxParallel, Limits: o.Limits,
	}
	var ended error
	for now := doc.Started; in != nil; {
		in, now, ended = execute(t, f, o, *in, now)
	}

	r, err := runs.New(o.Store, nil).Run(ctx, f.Name(), doc.Run)
	if err != nil {
		t.Fatalf("read the run back: %v", err)
	}
	if r.Status == runs.Unknown && o.workers == nil {
		t.Fatalf("flow %q ended without saying how: %v", f.Name(), ended)
	}
	return r
}

// execute runs the workflow from a time on and returns its error. When it continues as new, it returns the next input and
// the time of then.
func execute(t testing.TB, f *flow.Flow, o Options, in workflows.Input, at time.Time) (*workflows.Input, time.Time, error) {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	env := suite.NewTestWorkflowEnvironment()
	env.SetStartTime(at)
	// The default, a second, is for workflow code that blocks; the interpreter does not, but a busy machine may stall it.
	env.SetWorkerOptions(worker.Options{DeadlockDetectionTimeout: time.Minute})
	// The default, 3 s, is for workflows that hang; a step may take its time.
	env.SetTestTimeout(patience(t))
	workflows.Register(env, f.Name())
	if o.workers != nil {
		o.workers.register(env)
	} else {
		activities.New(o.Store, activities.Options{Worker: "test", Random: o.Random, Now: env.Now, Classify: o.Classify, InProcess: true}, f).Register(env)
	}
	if o.Prepare != nil {
		o.Prepare(env)
	}
	env.ExecuteWorkflow(f.Name(), in)
	if !env.IsWorkflowCompleted() {
		t.Fatalf("flow %q did not end", f.Name())
	}
	var next *workflow.ContinueAsNewError
	if !errors.As(env.GetWorkflowError(), &next) {
		return nil, env.Now(), env.GetWorkflowError()
	}
	var following workflows.Input // not into the old one, whose cursor would shine through
	if err := converter.GetDefaultDataConverter().FromPayloads(next.Input, &following); err != nil {
		t.Fatalf("flow %q continues with an input that cannot be read: %v", f.Name(), err)
	}
	return &following, env.Now(), nil
}

// patience is how long a step may take: until the test's own deadline, or ten minutes.
func patience(t testing.TB) time.Duration {
	t.Helper()
	if d, ok := t.(interface{ Deadline() (time.Time, bool) }); ok {
		if deadline, set := d.Deadline(); set {
			return max(time.Until(deadline)-time.Second, time.Second)
		}
	}
	return 10 * time.Minute
}
