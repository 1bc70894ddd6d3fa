// Package tests runs flows end to end: on the embedded Temporal server, on MinIO, as programs that are killed.
package tests

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/devserver"
	"github.com/stepwell-flows/stepwell/examples"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
	"github.com/stepwell-flows/stepwell/tests/testserver"
)

func TestMain(m *testing.M) {
	testserver.Main(m, stepwell.App{Flows: slices.Concat(examples.Flows(), programFlows(), isolatedFlows()), Dev: devserver.Start})
}

// rig is a store, a task queue of its own on the shared server, and a worker in this process.
type rig struct {
	t        testing.TB
	open     func() (*artifacts.Store, error)
	store    *artifacts.Store
	temporal client.Client
	client   *stepwell.Client
	stop     func()
}

// newRig starts a worker for flows over the store at location.
func newRig(t testing.TB, location string, flows ...*flow.Flow) *rig {
	t.Helper()
	return newRigOver(t, func() (*artifacts.Store, error) {
		return artifacts.Open(t.Context(), location, artifacts.Options{Patience: time.Minute})
	}, flows...)
}

func newRigOver(t testing.TB, open func() (*artifacts.Store, error), flows ...*flow.Flow) *rig {
	t.Helper()
	r := &rig{t: t, open: open, temporal: testserver.Get(t).Dial(t), stop: func() {}}
	r.restart(flows...)
	require.NoError(t, r.store.Check(t.Context()))
	return r
}

// restart replaces the worker by one that knows nothing yet: with empty caches, and perhaps with other code.
func (r *rig) restart(flows ...*flow.Flow) {
	r.t.Helper()
	r.stop()
	store, err := r.open()
	require.NoError(r.t, err)
	queue := queueOf(r.t)
	r.store = store
	r.client = stepwell.NewClient(r.temporal, store, stepwell.ClientOptions{
		TaskQueue: queue, Namespace: testserver.Get(r.t).Namespace, Heartbeat: 15 * time.Second, User: "tester",
	})
	w, err := stepwell.NewWorker(r.temporal, store, stepwell.WorkerOptions{TaskQueue: queue, Drain: 500 * time.Millisecond}, flows...)
	require.NoError(r.t, err)
	require.NoError(r.t, w.Start())
	var once sync.Once
	r.stop = func() { once.Do(w.Stop) }
	r.t.Cleanup(r.stop)
}

// queueOf is the task queue of a test.
func queueOf(t testing.TB) string {
	t.Helper()
	return strings.NewReplacer("/", "-", "#", "-").Replace(t.Name())
}

// run runs a flow to its end.
func (r *rig) run(f *flow.Flow, params map[string]string) *runs.Run {
	r.t.Helper()
	run, err := r.client.Start(r.t.Context(), f, stepwell.StartOptions{Params: params})
	require.NoError(r.t, err)
	return r.wait(run)
}

// resume resumes a run and waits for the new one.
func (r *rig) resume(f *flow.Flow, o stepwell.ResumeOptions) (*runs.Run, *stepwell.ResumePlan) {
	r.t.Helper()
	run, plan, err := r.client.Resume(r.t.Context(), f, o)
	require.NoError(r.t, err)
	return r.wait(run), plan
}

func (r *rig) wait(run *runs.Run) *runs.Run {
	r.t.Helper()
	ended, err := r.client.Wait(r.t.Context(), run.Flow, run.Run.Run)
	require.NoError(r.t, err)
	return ended
}

// history reads a run's events, without those that continue-as-new left behind.
func (r *rig) history(run *runs.Run) *historypb.History {
	r.t.Helper()
	return r.historyOf(run.WorkflowID)
}

func (r *rig) historyOf(workflowID string) *historypb.History {
	r.t.Helper()
	h := &historypb.History{}
	iter := r.temporal.GetWorkflowHistory(r.t.Context(), workflowID, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for iter.HasNext() {
		e, err := iter.Next()
		require.NoError(r.t, err)
		h.Events = append(h.Events, e)
	}
	return h
}

// scheduled lists the activity types in a run's history, in order, without the run's own bookkeeping.
func (r *rig) scheduled(run *runs.Run) []string {
	r.t.Helper()
	var types []string
	for _, e := range r.history(run).GetEvents() {
		if a := e.GetActivityTaskScheduledEventAttributes(); a != nil && !strings.HasPrefix(a.GetActivityType().GetName(), "stepwell.") {
			types = append(types, a.GetActivityType().GetName())
		}
	}
	return types
}

func attempts(t testing.TB, run *runs.Run, task string) []runs.Attempt {
	t.Helper()
	k, err := run.Task(t.Context(), task)
	require.NoError(t, err)
	all, err := k.Attempts(t.Context())
	require.NoError(t, err)
	return all
}

func outcomes(all []runs.Attempt) []records.Outcome {
	out := make([]records.Outcome, len(all))
	for i, a := range all {
		out[i] = a.Outcome
	}
	return out
}

// lastState reads the state that a run ended with.
func lastState[S any](t testing.TB, run *runs.Run, f *flow.Flow) *S {
	t.Helper()
	last, err := run.Last(t.Context())
	require.NoError(t, err)
	s, err := runs.LoadState[S](t.Context(), last, f)
	require.NoError(t, err)
	return s
}

// digests maps the artifacts of a task to their digests.
func digests(t testing.TB, run *runs.Run, task string) map[string]artifacts.Digest {
	t.Helper()
	k, err := run.Task(t.Context(), task)
	require.NoError(t, err)
	require.NotNil(t, k.Record, "task %s is %s", task, k.State)
	out := map[string]artifacts.Digest{}
	for name, e := range k.Record.Artifacts {
		out[name] = e.Digest
	}
	return out
}

// program is the starter or the worker as a process of its own.
type program struct {
	*exec.Cmd
	out, err *output
	done     chan error
}

// output can be read while a process writes it.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// start starts a program in dir. Settings of the machine do not reach it.
func start(t testing.TB, kind, dir string, env []string, args ...string) *program {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	p := &program{Cmd: exec.Command(self, args...), out: &output{}, err: &output{}, done: make(chan error, 1)}
	p.Dir, p.Stdout, p.Stderr = dir, p.out, p.err
	p.Env = append([]string{testserver.Program + "=" + kind, "PATH=" + os.Getenv("PATH"), "HOME=" + dir, "NO_COLOR=1"}, env...)
	p.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, p.Start())
	go func() { p.done <- p.Wait() }()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s %s\nstdout:\n%s\nstderr:\n%s", kind, strings.Join(args, " "), p.out, p.err)
		}
	})
	return p
}

func (p *program) kill() { _ = syscall.Kill(-p.Process.Pid, syscall.SIGKILL) }

// exit waits for the end of the process and returns its exit code.
func (p *program) exit(t testing.TB) int {
	t.Helper()
	select {
	case err := <-p.done:
		p.done <- err
		return p.ProcessState.ExitCode()
	case <-time.After(5 * time.Minute):
		t.Fatalf("%v did not end", p.Args[1:])
		return -1
	}
}

// call runs a program to its end.
func call(t testing.TB, kind, dir string, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	p := start(t, kind, dir, env, args...)
	code = p.exit(t)
	return code, p.out.String(), p.err.String()
}

// eventually waits for a condition, for as long as a busy machine may need.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long: %s", what)
		}
	}
}

// journal is a file in which steps of other processes note what they do, a line each.
type journal string

func newJournal(t testing.TB) journal {
	t.Helper()
	return journal(filepath.Join(t.TempDir(), "journal"))
}

func (j journal) note(format string, args ...any) {
	if j == "" {
		return
	}
	f, err := os.OpenFile(string(j), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	if _, err := fmt.Fprintf(f, format+"\n", args...); err != nil {
		panic(err)
	}
}

func (j journal) lines() []string {
	b, err := os.ReadFile(string(j))
	if err != nil {
		return nil
	}
	return strings.Fields(string(b))
}

// count counts the lines that begin with prefix.
func (j journal) count(prefix string) int {
	n := 0
	for _, line := range j.lines() {
		if strings.HasPrefix(line, prefix) {
			n++
		}
	}
	return n
}
