package devserver_test

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	tlog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/devserver"
)

const taskQueue = "devserver-test"

// echo is the whole work of an activity here.
func echo(_ context.Context, n int) (int, error) { return n, nil }

// sequence runs n activities one after the other.
func sequence(ctx workflow.Context, n int) (int, error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
	done := 0
	for i := range n {
		var got int
		if err := workflow.ExecuteActivity(ctx, echo, i).Get(ctx, &got); err != nil {
			return done, err
		}
		done++
	}
	return done, nil
}

// pause waits for a signal, runs one activity and returns what it got.
func pause(ctx workflow.Context) (string, error) {
	var s string
	workflow.GetSignalChannel(ctx, "go").Receive(ctx, &s)
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
	return s, workflow.ExecuteActivity(ctx, echo, 1).Get(ctx, nil)
}

// warnings shows the server's warnings and errors in the test's output.
func warnings() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// start runs a server until the test ends.
func start(t testing.TB, o stepwell.DevOptions) *stepwell.DevServer {
	t.Helper()
	if o.Logger == nil {
		o.Logger = warnings()
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

// work runs a worker until the test ends.
func work(t testing.TB, c client.Client) {
	t.Helper()
	w := worker.New(c, taskQueue, worker.Options{})
	w.RegisterWorkflow(sequence)
	w.RegisterWorkflow(pause)
	w.RegisterActivity(echo)
	require.NoError(t, w.Start())
	t.Cleanup(w.Stop)
}

func run(ctx context.Context, c client.Client, n int) error {
	r, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{TaskQueue: taskQueue}, sequence, n)
	if err != nil {
		return err
	}
	return r.Get(ctx, nil)
}

func TestStart(t *testing.T) {
	dir := t.TempDir()
	for i := range 3 {
		began := time.Now()
		s := start(t, stepwell.DevOptions{Dir: dir})
		served := time.Since(began)
		c := dial(t, s)
		work(t, c)
		require.NoError(t, run(t.Context(), c, 1))
		first := time.Since(began)
		began = time.Now()
		s.Stop()
		t.Logf("start %d: serving after %v, first workflow done after %v, stopped in %v", i, served, first, time.Since(began))
	}
}

func TestSequentialActivities(t *testing.T) {
	const n = 200
	s := start(t, stepwell.DevOptions{Dir: t.TempDir(), Headless: true})
	c := dial(t, s)
	work(t, c)
	require.NoError(t, run(t.Context(), c, 5)) // warm up
	began := time.Now()
	require.NoError(t, run(t.Context(), c, n))
	t.Logf("%d sequential activities: %.2f ms each", n, float64(time.Since(began).Microseconds())/1000/n)
}
