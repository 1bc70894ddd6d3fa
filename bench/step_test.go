package bench

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	tlog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/devserver"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

const (
	stepCount  = 200
	stepRounds = 7
	stepRatio  = 1.2
	stepTime   = 12 * time.Millisecond

	stepHeartbeat = 5 * time.Second // the embedded server's
)

// BenchmarkStep compares a flow of trivial steps with a workflow of as many trivial activities, one after the other, by
// the same worker on the same embedded server.
func BenchmarkStep(b *testing.B) {
	dir := b.TempDir()
	quiet := slog.New(slog.DiscardHandler)
	server, err := devserver.Start(b.Context(), stepwell.DevOptions{Dir: dir, Headless: true, Logger: quiet})
	require.NoError(b, err)
	b.Cleanup(server.Stop)
	temporal, err := client.DialContext(b.Context(), client.Options{
		HostPort: server.Address, Namespace: server.Namespace, Logger: tlog.NewStructuredLogger(quiet),
		ConnectionOptions: client.ConnectionOptions{GrpcCompression: &client.GrpcCompressionNone{}}, // as the program does on one machine
	})
	require.NoError(b, err)
	b.Cleanup(temporal.Close)
	store, err := artifacts.Open(b.Context(), filepath.Join(dir, "store"), artifacts.Options{})
	require.NoError(b, err)

	counting := countFlow()
	w, err := stepwell.NewWorker(temporal, store, stepwell.WorkerOptions{}, counting)
	require.NoError(b, err)
	// On the same worker, so that all of its options are the same.
	w.RegisterWorkflowWithOptions(bareWorkflow, workflow.RegisterOptions{Name: "bare"})
	w.RegisterActivityWithOptions(bareActivity, activity.RegisterOptions{Name: "bare.add"})
	require.NoError(b, w.Start())
	b.Cleanup(w.Stop)
	starter := stepwell.NewClient(temporal, store, stepwell.ClientOptions{Namespace: server.Namespace, Heartbeat: stepHeartbeat})

	flowRun := func() cost {
		began := now(b)
		run, err := starter.Start(b.Context(), counting, stepwell.StartOptions{})
		require.NoError(b, err)
		run, err = starter.Wait(b.Context(), run.Flow, run.Run.Run)
		spent := now(b).since(began)
		require.NoError(b, err)
		require.Equal(b, records.StatusCompleted, run.Status)
		last, err := run.Last(b.Context())
		require.NoError(b, err)
		state, err := runs.LoadState[count](b.Context(), last, counting)
		require.NoError(b, err)
		require.Equal(b, stepCount, state.N)
		return spent.per(stepCount)
	}
	bareRun := func() cost {
		began := now(b)
		run, err := temporal.ExecuteWorkflow(b.Context(), client.StartWorkflowOptions{
			TaskQueue: stepwell.DefaultTaskQueue, EnableEagerStart: true, // as Stepwell's client
		}, "bare", stepCount)
		require.NoError(b, err)
		var n int
		err = run.Get(b.Context(), &n)
		spent := now(b).since(began)
		require.NoError(b, err)
		require.Equal(b, stepCount, n)
		return spent.per(stepCount)
	}

	flowRun()
	bareRun() // once each for caches, connections and pollers
	var step, bare costs
	for i := range stepRounds {
		inTurn(i, func() { step.add(flowRun()) }, func() { bare.add(bareRun()) })
	}

	wall, bareWall := median(step.wall), median(bare.wall)
	ratio := float64(wall) / float64(bareWall)
	b.ReportMetric(milliseconds(wall), "ms/step")
	b.ReportMetric(milliseconds(bareWall), "ms/bare-activity")
	b.ReportMetric(ratio, "ratio")
	report(b, "step %.1f ms, bare activity %.1f ms, ratio %.2f (goal at most %.1f: %s; a step under %d ms: %s)",
		milliseconds(wall), milliseconds(bareWall), ratio, stepRatio, verdict(ratio <= stepRatio),
		stepTime.Milliseconds(), verdict(wall < stepTime))
	cpu, bareCPU := median(step.cpu), median(bare.cpu)
	report(b, "of the processors, server included: step %.1f ms, bare activity %.1f ms, ratio %.2f",
		milliseconds(cpu), milliseconds(bareCPU), float64(cpu)/float64(bareCPU))
}

// cost is what something took. The processors' time counts all of this process, and is less disturbed by other processes.
type cost struct{ wall, cpu time.Duration }

func (c cost) per(n int) cost { return cost{c.wall / time.Duration(n), c.cpu / time.Duration(n)} }

func (c cost) mean(o cost) cost { return cost{(c.wall + o.wall) / 2, (c.cpu + o.cpu) / 2} }

type costs struct{ wall, cpu []time.Duration }

func (c *costs) add(one cost) {
	c.wall, c.cpu = append(c.wall, one.wall), append(c.cpu, one.cpu)
}

// moment is a point in time, and the processors' time until then.
type moment struct {
	at  time.Time
	cpu time.Duration
}

func now(b *testing.B) moment {
	b.Helper()
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return moment{time.Now(), time.Duration(u.Utime.Nano() + u.Stime.Nano())}
}

func (m moment) since(began moment) cost { return cost{m.at.Sub(began.at), m.cpu - began.cpu} }

// count is a state of which each step changes a small part.
type count struct {
	N    int
	Note string
}

func countFlow() *flow.Flow {
	nodes := make([]flow.Node[count], stepCount)
	for i := range nodes {
		nodes[i] = flow.Step(fmt.Sprintf("s%03d", i), func(_ context.Context, s *count) error {
			s.N++
			s.Note = fmt.Sprintf("the count is %d", s.N)
			return nil
		})
	}
	return flow.New("CountFlow", nodes...)
}

// total is what the bare activities hand on: the same data.
type total struct {
	N    int
	Note string
}

// bareWorkflow is what an author would write by hand for the same work.
func bareWorkflow(ctx workflow.Context, n int) (int, error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: time.Hour,
		HeartbeatTimeout:    stepHeartbeat,
		WaitForCancellation: true,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: time.Minute, MaximumAttempts: 5,
		},
	})
	var t total
	for range n {
		if err := workflow.ExecuteActivity(ctx, "bare.add", t).Get(ctx, &t); err != nil {
			return 0, err
		}
	}
	return t.N, nil
}

func bareActivity(_ context.Context, t total) (total, error) {
	t.N++
	t.Note = fmt.Sprintf("the count is %d", t.N)
	return t, nil
}
