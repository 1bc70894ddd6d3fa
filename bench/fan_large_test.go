package bench

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	tlog "go.temporal.io/sdk/log"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/devserver"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

const (
	batchItems  = 1_000_000
	batchSize   = 1000
	batchTime   = 60 * time.Second
	batchMemory = 500 // MiB

	resumeItems     = 10_000
	resumeTime      = 2 * time.Second
	resumeBatchTime = 10 * time.Second
)

func batchFlow() *flow.Flow { return squareFlow("BatchFlow", flow.Fan{Batch: batchSize}) }

// asProgram makes the test binary be a starter or a worker.
const asProgram = "STEPWELL_BENCH_PROGRAM"

func TestMain(m *testing.M) {
	app := stepwell.App{Flows: []*flow.Flow{squareFlow("SquareFlow", flow.Fan{}), batchFlow()}, Dev: devserver.Start}
	switch os.Getenv(asProgram) {
	case "starter":
		app.Main()
	case "worker":
		app.Dev = nil
		app.Worker()
	}
	os.Exit(m.Run())
}

// programs are an embedded server and a worker, each a process of its own, so that the worker's memory is its own.
type programs struct {
	b       *testing.B
	dir     string
	address string
	worker  *exec.Cmd
	client  *stepwell.Client
	c       client.Client
}

func newPrograms(b *testing.B) *programs {
	b.Helper()
	p := &programs{b: b, dir: b.TempDir()}
	_, said := p.start("starter", nil, "dev", "--state-dir", p.dir, "--task-queue", "idle")
	_, rest, _ := strings.Cut(said, "Temporal server ")
	p.address, _, _ = strings.Cut(rest, "\n")
	p.restart()
	c, err := client.DialContext(b.Context(), client.Options{
		HostPort: p.address, Logger: tlog.NewStructuredLogger(slog.New(slog.DiscardHandler)),
		ConnectionOptions: client.ConnectionOptions{GrpcCompression: &client.GrpcCompressionNone{}}, // as the program does on one machine
	})
	require.NoError(b, err)
	b.Cleanup(c.Close)
	store, err := artifacts.Open(b.Context(), p.store(), artifacts.Options{})
	require.NoError(b, err)
	p.c, p.client = c, stepwell.NewClient(c, store, stepwell.ClientOptions{Heartbeat: stepHeartbeat})
	return p
}

func (p *programs) store() string { return filepath.Join(p.dir, "artifacts") }

// start starts a program, waits until its worker polls, and returns what it has said until then.
func (p *programs) start(kind string, env []string, args ...string) (*exec.Cmd, string) {
	p.b.Helper()
	self, err := os.Executable()
	require.NoError(p.b, err)
	cmd := exec.Command(self, args...)
	cmd.Env = append([]string{asProgram + "=" + kind, "PATH=" + os.Getenv("PATH"), "HOME=" + p.dir}, env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(p.b, err)
	require.NoError(p.b, cmd.Start())
	p.b.Cleanup(func() { stop(cmd) })
	var said strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), "polls task queue") {
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return cmd, said.String()
		}
	}
	require.FailNow(p.b, "the program did not start", "%s", &said)
	return nil, ""
}

func stop(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// restart replaces the worker by one that has nothing in memory.
func (p *programs) restart() {
	p.b.Helper()
	if p.worker != nil {
		stop(p.worker)
	}
	p.worker, _ = p.start("worker", []string{"TEMPORAL_ADDRESS=" + p.address}, "--store", p.store())
}

// memory is what the worker has, and has had at most, in MiB. It is 0 where the system does not tell.
func (p *programs) memory() (now, peak int) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.worker.Process.Pid))
	if err != nil {
		return 0, 0
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		var kib int
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kib); err == nil {
			now = kib >> 10
		}
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kib); err == nil {
			peak = kib >> 10
		}
	}
	return now, peak
}

// run starts a run and waits for its end. Watch may be empty.
func (p *programs) run(f *flow.Flow, items int, watch string) *runs.Run {
	p.b.Helper()
	run, err := p.client.Start(p.b.Context(), f, stepwell.StartOptions{Params: map[string]string{"items": strconv.Itoa(items), "watch": watch}})
	require.NoError(p.b, err)
	return p.wait(run)
}

func (p *programs) wait(run *runs.Run) *runs.Run {
	p.b.Helper()
	run, err := p.client.Wait(p.b.Context(), run.Flow, run.Run.Run)
	require.NoError(p.b, err)
	return run
}

// BenchmarkFanBatch runs a foreach of a million items in batches, with a join that goes through all of them.
func BenchmarkFanBatch(b *testing.B) {
	p := newPrograms(b)
	p.run(batchFlow(), batchSize, "") // for connections and pollers
	began := time.Now()
	run := p.run(batchFlow(), batchItems, "")
	took := time.Since(began)
	checkSum(b, run, batchFlow(), batchItems)
	last, peak := p.memory()
	b.ReportMetric(took.Seconds(), "s/million")
	b.ReportMetric(float64(peak), "peak-MiB")
	report(b, "foreach of %d in batches of %d: %.1f s (goal under %.0f s: %s); memory of the worker at most %d MiB, at the end %d MiB (goal under %d MiB: %s)",
		batchItems, batchSize, took.Seconds(), batchTime.Seconds(), verdict(took < batchTime),
		peak, last, batchMemory, verdict(peak < batchMemory))
	reportHistory(b, longest(b, p.c, run.WorkflowID))
}

// BenchmarkFanResume resumes runs of which everything is finished but the join, with a worker that has nothing in memory, and
// measures how long it takes until the join runs.
func BenchmarkFanResume(b *testing.B) {
	p := newPrograms(b)
	for _, r := range []struct {
		f     *flow.Flow
		items int
		goal  time.Duration
	}{
		{squareFlow("SquareFlow", flow.Fan{}), resumeItems, resumeTime},
		{batchFlow(), batchItems, resumeBatchTime},
	} {
		watch := b.TempDir()
		require.NoError(b, os.WriteFile(filepath.Join(watch, "fail"), nil, 0o600))
		run := p.run(r.f, r.items, watch)
		require.Equal(b, records.StatusFailed, run.Status)
		require.NoError(b, os.Remove(filepath.Join(watch, "fail")))
		p.restart()

		began := time.Now()
		resumed, _, err := p.client.Resume(b.Context(), r.f, stepwell.ResumeOptions{Origin: run.Run.Run})
		require.NoError(b, err)
		checkSum(b, p.wait(resumed), r.f, r.items)
		at, err := os.ReadFile(filepath.Join(watch, "joined"))
		require.NoError(b, err)
		nanoseconds, err := strconv.ParseInt(string(at), 10, 64)
		require.NoError(b, err)
		took := time.Unix(0, nanoseconds).Sub(began)
		require.Positive(b, took)
		b.ReportMetric(took.Seconds(), fmt.Sprintf("s/resume-%d", r.items))
		report(b, "resume of %s with %d finished items: the join runs after %.2f s (goal under %.0f s: %s)",
			r.f.Name(), r.items, took.Seconds(), r.goal.Seconds(), verdict(took < r.goal))
	}
}
