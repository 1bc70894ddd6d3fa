package devserver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	tlog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/devserver"
)

const taskQueue = "devserver-test"

// note appends a line to a file: what has been done, seen from outside. While there is a file that holds line n, it waits.
func note(ctx context.Context, path string, n int) error {
	for ctx.Err() == nil {
		if _, err := os.Stat(holdAt(path, n)); err != nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(strconv.Itoa(n) + "\n")
	return errors.Join(err, f.Close())
}

func holdAt(path string, n int) string { return fmt.Sprintf("%s.hold%d", path, n) }

// inTheMiddle keeps a run of n steps from its second half while f is called.
func inTheMiddle(t testing.TB, c client.Client, path string, n int, f func()) client.WorkflowRun {
	t.Helper()
	require.NoError(t, os.WriteFile(holdAt(path, n/2), nil, 0o600))
	r := begin(t, c, path, n)
	await(t, path, n/4)
	f()
	require.NoError(t, os.Remove(holdAt(path, n/2)))
	return r
}

// steps notes 0 to n-1 in path, one activity each, and returns n.
func steps(ctx workflow.Context, path string, n int) (int, error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 2 * time.Second, // an attempt that a killed worker took along is missed after this
		RetryPolicy:         &temporal.RetryPolicy{InitialInterval: 50 * time.Millisecond, BackoffCoefficient: 1},
	})
	for i := range n {
		if err := workflow.ExecuteActivity(ctx, note, path, i).Get(ctx, nil); err != nil {
			return i, err
		}
	}
	return n, nil
}

// pause waits for the signal "go".
func pause(ctx workflow.Context) (string, error) {
	var s string
	workflow.GetSignalChannel(ctx, "go").Receive(ctx, &s)
	return s, nil
}

// family starts n children that pause, tells so by the signal "born" to itself, and waits with them.
func family(ctx workflow.Context, n int) error {
	var children []workflow.ChildWorkflowFuture
	for range n {
		children = append(children, workflow.ExecuteChildWorkflow(ctx, pause))
	}
	for _, c := range children {
		if err := c.GetChildWorkflowExecution().Get(ctx, nil); err != nil {
			return err
		}
	}
	if err := workflow.UpsertMemo(ctx, map[string]any{"born": n}); err != nil {
		return err
	}
	return children[0].Get(ctx, nil)
}

// start runs a server until the test ends.
func start(t testing.TB, o stepwell.DevOptions) *stepwell.DevServer {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	s, err := devserver.Start(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(s.Stop)
	return s
}

// dial connects a client until the test ends.
func dial(t testing.TB, s *stepwell.DevServer) client.Client {
	t.Helper()
	c, err := client.DialContext(t.Context(), client.Options{
		HostPort: s.Address, Namespace: s.Namespace, Logger: tlog.NewStructuredLogger(slog.New(slog.DiscardHandler)),
	})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// work runs a worker. It ends with the test, or when its result is called.
func work(t testing.TB, c client.Client) (stop func()) {
	t.Helper()
	w := newWorker(c)
	require.NoError(t, w.Start())
	stop = sync.OnceFunc(w.Stop)
	t.Cleanup(stop)
	return stop
}

func newWorker(c client.Client) worker.Worker {
	w := worker.New(c, taskQueue, worker.Options{StickyScheduleToStartTimeout: 500 * time.Millisecond})
	w.RegisterWorkflow(steps)
	w.RegisterWorkflow(pause)
	w.RegisterWorkflow(family)
	w.RegisterActivity(note)
	return w
}

// once are the options of a run. A workflow task that a killed worker took along is missed after its timeout.
func once() client.StartWorkflowOptions {
	return client.StartWorkflowOptions{TaskQueue: taskQueue, WorkflowTaskTimeout: 2 * time.Second}
}

// begin starts n steps. Each adds a line to path.
func begin(t testing.TB, c client.Client, path string, n int) client.WorkflowRun {
	t.Helper()
	r, err := c.ExecuteWorkflow(t.Context(), once(), steps, path, n)
	require.NoError(t, err)
	return r
}

// finished waits for a run of n steps and requires that each one was done.
func finished(t testing.TB, r client.WorkflowRun, path string, n int) {
	t.Helper()
	var got int
	require.NoError(t, r.Get(t.Context(), &got))
	require.Equal(t, n, got)
	done := make(map[string]bool)
	for _, line := range lines(path) {
		done[line] = true
	}
	require.Len(t, done, n)
}

func lines(path string) []string {
	b, _ := os.ReadFile(path)
	return strings.Fields(string(b))
}

// await returns when path has that many lines.
func await(t testing.TB, path string, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return len(lines(path)) >= n }, time.Minute, 5*time.Millisecond)
}

// gone waits until nobody listens on an address.
func gone(t testing.TB, address string) {
	t.Helper()
	require.Eventually(t, func() bool { return !answers(address) }, time.Minute, 10*time.Millisecond, address)
}

// syncBuffer collects what a logger writes.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestRestartKeepsRuns(t *testing.T) {
	t.Parallel()
	dir, path := t.TempDir(), filepath.Join(t.TempDir(), "steps")
	first := start(t, stepwell.DevOptions{Dir: dir})
	require.False(t, first.Shared)
	c := dial(t, first)
	stopWork := work(t, c)
	closed := begin(t, c, path, 3)
	finished(t, closed, path, 3)
	paused, err := c.ExecuteWorkflow(t.Context(), once(), pause)
	require.NoError(t, err)
	stopWork()
	first.Stop()
	gone(t, first.Address)
	require.NoFileExists(t, filepath.Join(dir, "server.owner"))

	second := start(t, stepwell.DevOptions{Dir: dir})
	require.Equal(t, []any{first.Address, first.WebUI, false}, []any{second.Address, second.WebUI, second.Shared})
	c = dial(t, second)
	work(t, c)
	finished(t, c.GetWorkflow(t.Context(), closed.GetID(), closed.GetRunID()), path, 3)
	require.NoError(t, c.SignalWorkflow(t.Context(), paused.GetID(), paused.GetRunID(), "go", "on"))
	var got string
	require.NoError(t, c.GetWorkflow(t.Context(), paused.GetID(), paused.GetRunID()).Get(t.Context(), &got))
	require.Equal(t, "on", got)
}

func TestKilledOwner(t *testing.T) {
	t.Parallel()
	const n = 60
	dir, path := t.TempDir(), filepath.Join(t.TempDir(), "steps")
	owner := spawn(t, childOptions{Dir: dir, Work: true})
	r := inTheMiddle(t, dial(t, owner.server), path, n, func() { owner.kill(t) })
	require.FileExists(t, filepath.Join(dir, "server.owner"), "left behind by the kill")

	s := start(t, stepwell.DevOptions{Dir: dir})
	require.Equal(t, []any{owner.server.Address, false}, []any{s.Address, s.Shared})
	c := dial(t, s)
	work(t, c)
	finished(t, c.GetWorkflow(t.Context(), r.GetID(), r.GetRunID()), path, n)
}

// The files that tell who serves may hold anything after a crash.
func TestStaleFiles(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"empty":           "",
		"no JSON":         "\x00\x00\x00",
		"a dead process":  `{"pid": 1, "address": "127.0.0.1:1", "port": 1, "cluster": "other"}`,
		"no such address": `{"pid": 999999, "address": "nowhere.invalid:7233"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "server.owner"), []byte(content), 0o600))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "server.lock"), []byte("123"), 0o600))
			s := start(t, stepwell.DevOptions{Dir: dir, Headless: true})
			require.False(t, s.Shared)
			require.Empty(t, s.WebUI)
			dial(t, s)
		})
	}
}

func TestStop(t *testing.T) {
	t.Parallel()
	var log syncBuffer
	dir, path := t.TempDir(), filepath.Join(t.TempDir(), "steps")
	for range 2 {
		s := start(t, stepwell.DevOptions{Dir: dir, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		c := dial(t, s)
		work(t, c) // still polls when the server stops
		r := begin(t, c, path, 2)
		finished(t, r, path, 2)
		require.NoError(t, os.Remove(path))
		said := "" // by a server that runs, on a machine that is too slow for it
		require.Eventually(t, func() bool {
			before := said
			said = log.String()
			return said == before
		}, time.Minute, 300*time.Millisecond)
		var both sync.WaitGroup
		for range 2 {
			both.Go(s.Stop)
		}
		both.Wait()
		s.Stop()
		gone(t, s.Address)
		require.False(t, answers(strings.TrimPrefix(s.WebUI, "http://")))
		// Long enough for a goroutine that was left behind to find its server gone.
		time.Sleep(500 * time.Millisecond)
		require.Equal(t, said, log.String())
	}
}

// Without the server's own worker for it (see settings), the children of a closed run must end too.
func TestChildrenEndWithTheirParent(t *testing.T) {
	t.Parallel()
	const n = 25
	s := start(t, stepwell.DevOptions{Dir: t.TempDir(), Headless: true})
	c := dial(t, s)
	work(t, c)
	r, err := c.ExecuteWorkflow(t.Context(), once(), family, n)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		d, err := c.DescribeWorkflow(t.Context(), r.GetID(), r.GetRunID())
		return err == nil && d.Memo != nil && len(d.Memo.GetFields()) == 1
	}, time.Minute, 20*time.Millisecond)
	require.NoError(t, c.TerminateWorkflow(t.Context(), r.GetID(), r.GetRunID(), "test"))
	require.Eventually(t, func() bool {
		return count(t, c, "WorkflowType = 'pause' AND ExecutionStatus = 'Terminated'") == n
	}, time.Minute, 20*time.Millisecond)
}

func BenchmarkStart(b *testing.B) {
	for name, dir := range map[string]func() string{"fresh": b.TempDir, "existing": sync.OnceValue(b.TempDir)} {
		b.Run(name, func(b *testing.B) {
			var serving, step, stop time.Duration
			for b.Loop() {
				p := spawn(b, childOptions{Dir: dir(), Work: true, Step: true})
				p.end(b)
				serving, step, stop = serving+p.took.Serving, step+p.took.Step, stop+p.took.Stop
			}
			for unit, d := range map[string]time.Duration{"ms-to-serving": serving, "ms-to-step": step, "ms-to-stop": stop} {
				b.ReportMetric(float64(d.Milliseconds())/float64(b.N), unit)
			}
		})
	}
}

func BenchmarkSequentialActivity(b *testing.B) {
	c := dial(b, start(b, stepwell.DevOptions{Dir: b.TempDir(), Headless: true}))
	work(b, c)
	path := filepath.Join(b.TempDir(), "steps")
	finished(b, begin(b, c, path, 5), path, 5) // warm up
	b.ResetTimer()
	r := begin(b, c, path, b.N)
	require.NoError(b, r.Get(b.Context(), nil))
}
