package bench

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	tlog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/devserver"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/internal/minio"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

var (
	large = flag.Bool("large", false, "BenchmarkFan also with 100,000 items, which takes about half an hour")
	sizes = flag.String("bare", "", "what BenchmarkBare tries: activities/of a child/children at once/activities of a child at once, several with commas")
)

const (
	fanRatio      = 1.25
	fanTime       = 4 * time.Millisecond
	fanGrowth     = 1.2
	fanStores     = 1.25
	historyEvents = 10_000
	historyMiB    = 10
)

// square is the state of the flows that fan out: each item squares its number, the join adds up.
type square struct {
	Items int `param:"items"`
	// Watch is a folder: the join tells there when it starts, and fails while "fail" is there.
	Watch string `param:"watch" default:""`
	// Pause is how long an item takes.
	Pause time.Duration `param:"pause" default:"0s"`

	N, Square, Sum int
}

func squareFlow(name string, fan flow.Fan) *flow.Flow {
	return flow.New(name,
		flow.Step("start", func(context.Context, *square) error { return nil }),
		flow.Foreach("numbers",
			func(s *square) []int {
				all := make([]int, s.Items)
				for i := range all {
					all[i] = i
				}
				return all
			},
			func(s *square, n int) { s.N = n },
			flow.Step("square", func(_ context.Context, s *square) error {
				s.Square = s.N * s.N
				time.Sleep(s.Pause)
				return nil
			}),
		).With(fan).Join("sum", func(_ context.Context, s *square, in flow.Inputs[square]) error {
			if s.Watch != "" {
				at := strconv.FormatInt(time.Now().UnixNano(), 10)
				if err := os.WriteFile(filepath.Join(s.Watch, "joined"), []byte(at), 0o600); err != nil {
					return err
				}
			}
			for _, one := range in.All() {
				s.Sum += one.Square
			}
			if _, err := os.Stat(filepath.Join(s.Watch, "fail")); s.Watch != "" && err == nil {
				return flow.Fail("told to")
			}
			return nil
		}),
	)
}

func sumOfSquares(n int) int { return (n - 1) * n * (2*n - 1) / 6 }

// fanRig is an embedded server on a SQLite file.
type fanRig struct {
	b        *testing.B
	dir      string
	server   *stepwell.DevServer
	temporal client.Client
}

func newFanRig(b *testing.B) *fanRig {
	b.Helper()
	dir, quiet := b.TempDir(), slog.New(slog.DiscardHandler)
	server, err := devserver.Start(b.Context(), stepwell.DevOptions{Dir: dir, Headless: true, Logger: quiet})
	require.NoError(b, err)
	b.Cleanup(server.Stop)
	temporal, err := client.DialContext(b.Context(), client.Options{
		HostPort: server.Address, Namespace: server.Namespace, Logger: tlog.NewStructuredLogger(quiet),
		ConnectionOptions: client.ConnectionOptions{GrpcCompression: &client.GrpcCompressionNone{}}, // as the program does on one machine
	})
	require.NoError(b, err)
	b.Cleanup(temporal.Close)
	return &fanRig{b, dir, server, temporal}
}

// worker starts a worker on a task queue and returns a client for it.
func (r *fanRig) worker(queue, store string, more func(worker.Worker), flows ...*flow.Flow) *stepwell.Client {
	r.b.Helper()
	s, err := artifacts.Open(r.b.Context(), store, artifacts.Options{})
	require.NoError(r.b, err)
	w, err := stepwell.NewWorker(r.temporal, s, stepwell.WorkerOptions{TaskQueue: queue, Embedded: true}, flows...)
	require.NoError(r.b, err)
	if more != nil {
		more(w)
	}
	require.NoError(r.b, w.Start())
	r.b.Cleanup(w.Stop)
	return stepwell.NewClient(r.temporal, s, stepwell.ClientOptions{ // as the program does with the embedded server
		TaskQueue: queue, Namespace: r.server.Namespace, Heartbeat: stepHeartbeat, Slots: stepwell.DefaultSlots(),
	})
}

// plain starts a worker without Stepwell, with the options that the SDK chooses.
func (r *fanRig) plain() {
	r.b.Helper()
	w := worker.New(r.temporal, plainQueue, worker.Options{})
	registerBare(w)
	require.NoError(r.b, w.Start())
	r.b.Cleanup(w.Stop)
}

// fan runs a flow over n trivial items.
func (r *fanRig) fan(c *stepwell.Client, f *flow.Flow, n int) (cost, history) {
	r.b.Helper()
	return r.fanOf(c, f, n, 0)
}

// fanOf runs a flow over n items that take some time.
func (r *fanRig) fanOf(c *stepwell.Client, f *flow.Flow, n int, pause time.Duration) (cost, history) {
	r.b.Helper()
	began := now(r.b)
	run, err := c.Start(r.b.Context(), f, stepwell.StartOptions{Params: map[string]string{"items": strconv.Itoa(n), "pause": pause.String()}})
	require.NoError(r.b, err)
	run, err = c.Wait(r.b.Context(), run.Flow, run.Run.Run)
	spent := now(r.b).since(began)
	require.NoError(r.b, err)
	checkSum(r.b, run, f, n)
	return spent.per(n), longest(r.b, r.temporal, run.WorkflowID)
}

func checkSum(b *testing.B, run *runs.Run, f *flow.Flow, n int) {
	b.Helper()
	require.Equal(b, records.StatusCompleted, run.Status, "%+v", run.Failure)
	last, err := run.Last(b.Context())
	require.NoError(b, err)
	state, err := runs.LoadState[square](b.Context(), last, f)
	require.NoError(b, err)
	require.Equal(b, sumOfSquares(n), state.Sum)
}

// history is what a workflow leaves behind.
type history struct{ events, bytes int64 }

func (h history) max(o history) history {
	return history{max(h.events, o.events), max(h.bytes, o.bytes)}
}

func (h history) mib() float64 { return float64(h.bytes) / (1 << 20) }

// longest returns the most events and the most bytes of the histories of a workflow and all those below it, which have its
// id at the start of theirs.
func longest(b *testing.B, c client.Client, workflowID string) (most history) {
	b.Helper()
	var token []byte
	for {
		page, err := c.ListWorkflow(b.Context(), &workflowservice.ListWorkflowExecutionsRequest{
			Query: fmt.Sprintf("WorkflowId = '%s' OR WorkflowId STARTS_WITH '%[1]s/'", workflowID), NextPageToken: token,
		})
		require.NoError(b, err)
		for _, e := range page.GetExecutions() {
			// Described and not taken from the list, which may be a moment old.
			d, err := c.DescribeWorkflowExecution(b.Context(), e.GetExecution().GetWorkflowId(), e.GetExecution().GetRunId())
			require.NoError(b, err)
			info := d.GetWorkflowExecutionInfo()
			most = most.max(history{info.GetHistoryLength(), info.GetHistorySizeBytes()})
		}
		if token = page.GetNextPageToken(); len(token) == 0 {
			return most
		}
	}
}

func reportHistory(b *testing.B, h history) {
	b.Helper()
	report(b, "the longest history: %d events, %.1f MiB (goal at most %d and %d MiB: %s)",
		h.events, h.mib(), historyEvents, historyMiB, verdict(h.events <= historyEvents && h.mib() <= historyMiB))
}

// BenchmarkFan compares a foreach over trivial items with as many trivial activities in child workflows of the best size, on the same
// embedded server: of a plain worker of the SDK, which is what there is without Stepwell, and of Stepwell's own worker.
func BenchmarkFan(b *testing.B) {
	r := newFanRig(b)
	squares := squareFlow("SquareFlow", flow.Fan{})
	c := r.worker(stepwell.DefaultTaskQueue, filepath.Join(r.dir, "store"), registerBare, squares)
	r.plain()
	r.fan(c, squares, 1000) // once each for caches, connections and pollers
	r.bare(plainQueue, bestPlain(1000))
	r.bare(stepwell.DefaultTaskQueue, bestBare(1000))

	type size struct {
		items, rounds int
		halves        bool // of the bare activities
	}
	all := []size{{1_000, 5, false}, {10_000, 3, false}}
	if *large {
		all = append(all, size{100_000, 3, true})
	}
	var first, firstBare, last, lastBare time.Duration
	var most history
	for i, s := range all {
		var item, plain, own costs
		ours := func() {
			spent, h := r.fan(c, squares, s.items)
			item.add(spent)
			most = most.max(h)
		}
		theirs := func(n int) (cost, cost) {
			return r.bare(plainQueue, bestPlain(n)), r.bare(stepwell.DefaultTaskQueue, bestBare(n))
		}
		if s.halves { // one before and one after each foreach: minutes apart, a machine is not equally fast
			plainBefore, ownBefore := theirs(s.items / 2)
			for range s.rounds {
				ours()
				plainAfter, ownAfter := theirs(s.items / 2)
				plain.add(plainBefore.mean(plainAfter))
				own.add(ownBefore.mean(ownAfter))
				plainBefore, ownBefore = plainAfter, ownAfter
			}
		} else {
			for round := range s.rounds {
				inTurn(round, ours, func() {
					p, o := theirs(s.items)
					plain.add(p)
					own.add(o)
				})
			}
		}
		last, lastBare = median(item.wall), median(plain.wall)
		if i == 0 {
			first, firstBare = last, lastBare
		}
		ratio := median(ratios(item.wall, plain.wall))
		b.ReportMetric(milliseconds(last), fmt.Sprintf("ms/item-%d", s.items))
		b.ReportMetric(ratio, fmt.Sprintf("ratio-%d", s.items))
		report(b, "foreach of %d: item %.2f ms, bare activity %.2f ms, ratio %.2f of %.2f (goal at most %.2f: %s; an item under %d ms: %s)",
			s.items, milliseconds(last), milliseconds(lastBare), ratio, ratios(item.wall, plain.wall), fanRatio, verdict(ratio <= fanRatio),
			fanTime.Milliseconds(), verdict(last < fanTime))
		cpu, plainCPU, ownCPU := median(item.cpu), median(plain.cpu), median(own.cpu)
		// In one line: a benchmark prints ten.
		report(b, "of the processors, server included, %.2f and %.2f ms, ratio %.2f; on Stepwell's worker a bare activity %.2f ms, ratio %.2f of %.2f, of the processors %.2f ms, ratio %.2f",
			milliseconds(cpu), milliseconds(plainCPU), median(ratios(item.cpu, plain.cpu)),
			milliseconds(median(own.wall)), median(ratios(item.wall, own.wall)), ratios(item.wall, own.wall),
			milliseconds(ownCPU), median(ratios(item.cpu, own.cpu)))
	}
	// The sizes are measured minutes apart: what the machine does otherwise, and the server with more in its database, shows in both.
	grown, bareGrown := float64(last)/float64(first), float64(lastBare)/float64(firstBare)
	report(b, "an item of %d costs %.2f times one of %d, a bare activity %.2f times; the item has grown %.2f times as much (goal less than %.1f: %s)",
		all[len(all)-1].items, grown, all[0].items, bareGrown, grown/bareGrown, fanGrowth, verdict(grown/bareGrown < fanGrowth))
	reportHistory(b, most)
}

// ratios compares what was measured one after the other.
func ratios(ours, theirs []time.Duration) []float64 {
	all := make([]float64, len(ours))
	for i := range ours {
		all[i] = float64(ours[i]) / float64(theirs[i])
	}
	return all
}

// BenchmarkFanStores compares the same foreach with its artifacts on MinIO and in a directory, of trivial items and of such that take
// some time.
func BenchmarkFanStores(b *testing.B) {
	const items, rounds = 10_000, 3
	r := newFanRig(b)
	m, err := minio.Start(b.Context())
	require.NoError(b, err)
	b.Cleanup(m.Close)
	for _, setting := range m.Env() {
		name, value, _ := strings.Cut(setting, "=")
		b.Setenv(name, value)
	}
	bucket, err := m.NewBucket(b.Context())
	require.NoError(b, err)
	squares := squareFlow("SquareFlow", flow.Fan{})
	onDisk := r.worker("disk", filepath.Join(r.dir, "store"), nil, squares)
	onMinIO := r.worker("minio", m.Location(bucket, ""), nil, squares)
	r.fan(onDisk, squares, 1000)
	r.fan(onMinIO, squares, 1000)
	for _, pause := range []time.Duration{0, 10 * time.Millisecond, 30 * time.Millisecond} {
		var s3, disk []time.Duration
		for round := range rounds {
			inTurn(round,
				func() { spent, _ := r.fanOf(onMinIO, squares, items, pause); s3 = append(s3, spent.wall) },
				func() { spent, _ := r.fanOf(onDisk, squares, items, pause); disk = append(disk, spent.wall) })
		}
		ratio := float64(median(s3)) / float64(median(disk))
		b.ReportMetric(ratio, "ratio-minio-"+pause.String())
		report(b, "foreach of %d items of %s on MinIO: %.2f ms for an item, in a directory %.2f ms, ratio %.2f (goal at most %.2f: %s)",
			items, pause, milliseconds(median(s3)), milliseconds(median(disk)), ratio, fanStores, verdict(ratio <= fanStores))
	}
}

// bareFan is a fan-out as an author would write it by hand: child workflows, so that no history grows too long.
type bareFan struct {
	First, Items int
	Child        int // items of a child workflow
	Children     int // that run at the same time
	Window       int // activities of a child that run at the same time
}

// bestBare is the cheapest way to run n bare activities on Stepwell's worker, see BenchmarkBare and the README.
func bestBare(n int) bareFan {
	return bareFan{Items: n, Child: 1000, Children: 1, Window: stepwell.DefaultSlots() - 1}
}

// bestPlain is the cheapest way on a plain worker, where at most three activities of a workflow task do not go through the queue.
func bestPlain(n int) bareFan { return bareFan{Items: n, Child: 1000, Children: 1, Window: 24} }

// plainQueue is the task queue of the plain worker.
const plainQueue = "plain"

func registerBare(w worker.Worker) {
	w.RegisterWorkflowWithOptions(bareFanWorkflow, workflow.RegisterOptions{Name: "bare.fan"})
	w.RegisterWorkflowWithOptions(bareChildWorkflow, workflow.RegisterOptions{Name: "bare.child"})
	w.RegisterActivityWithOptions(bareSquare, activity.RegisterOptions{Name: "bare.square"})
}

func bareFanWorkflow(ctx workflow.Context, f bareFan) (int, error) {
	children := (f.Items + f.Child - 1) / f.Child
	return sumOf(ctx, children, f.Children, func(ctx workflow.Context, i int) workflow.Future {
		child := f
		child.First, child.Items = i*f.Child, min(f.Child, f.Items-i*f.Child)
		return workflow.ExecuteChildWorkflow(ctx, "bare.child", child)
	})
}

func bareChildWorkflow(ctx workflow.Context, f bareFan) (int, error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{ // as bareWorkflow
		StartToCloseTimeout: time.Hour,
		HeartbeatTimeout:    stepHeartbeat,
		WaitForCancellation: true,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: time.Minute, MaximumAttempts: 5,
		},
	})
	return sumOf(ctx, f.Items, f.Window, func(ctx workflow.Context, i int) workflow.Future {
		return workflow.ExecuteActivity(ctx, "bare.square", f.First+i)
	})
}

// sumOf adds up the results of n futures, of which at most w are open at any time.
func sumOf(ctx workflow.Context, n, w int, begin func(ctx workflow.Context, i int) workflow.Future) (sum int, failed error) {
	next, all := 0, workflow.NewWaitGroup(ctx)
	for range min(n, w) {
		all.Add(1)
		workflow.Go(ctx, func(ctx workflow.Context) {
			defer all.Done()
			for next < n && failed == nil {
				i := next
				next++
				var part int
				if err := begin(ctx, i).Get(ctx, &part); err != nil {
					failed = err
				}
				sum += part
			}
		})
	}
	all.Wait(ctx)
	return sum, failed
}

func bareSquare(_ context.Context, n int) (int, error) { return n * n, nil }

// bare runs the fan-out without Stepwell's workflows.
func (r *fanRig) bare(queue string, f bareFan) cost {
	r.b.Helper()
	began := now(r.b)
	run, err := r.temporal.ExecuteWorkflow(r.b.Context(), client.StartWorkflowOptions{
		TaskQueue: queue, EnableEagerStart: true, // as Stepwell's client
	}, "bare.fan", f)
	require.NoError(r.b, err)
	var sum int
	err = run.Get(r.b.Context(), &sum)
	spent := now(r.b).since(began)
	require.NoError(r.b, err)
	require.Equal(r.b, sumOfSquares(f.Items), sum)
	return spent.per(f.Items)
}

// BenchmarkBare looks for the fastest way to run bare activities, which BenchmarkFan compares with. It says nothing about
// Stepwell, and so it runs only when it is told what to try.
func BenchmarkBare(b *testing.B) {
	if *sizes == "" {
		b.ReportMetric(0, "ns/op")
		return
	}
	r := newFanRig(b)
	r.worker(stepwell.DefaultTaskQueue, filepath.Join(r.dir, "store"), registerBare, squareFlow("SquareFlow", flow.Fan{}))
	r.plain()
	r.bare(plainQueue, bestPlain(1000))
	r.bare(stepwell.DefaultTaskQueue, bestBare(1000))
	for text := range strings.SplitSeq(*sizes, ",") {
		var f bareFan
		_, err := fmt.Sscanf(text, "%d/%d/%d/%d", &f.Items, &f.Child, &f.Children, &f.Window)
		require.NoError(b, err, text)
		plain, own := r.bare(plainQueue, f), r.bare(stepwell.DefaultTaskQueue, f)
		report(b, "%d activities, %d to a child, %d children and %d activities of each at once: %.2f ms, of the processors %.2f ms; on Stepwell's worker %.2f and %.2f ms",
			f.Items, f.Child, f.Children, f.Window, milliseconds(plain.wall), milliseconds(plain.cpu), milliseconds(own.wall), milliseconds(own.cpu))
	}
}
