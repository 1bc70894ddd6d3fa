package bench

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	tlog "go.temporal.io/sdk/log"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/bench/isolated/counting"
	"github.com/stepwell-flows/stepwell/devserver"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
)

const (
	isolatedRounds = 3
	isolatedTime   = 30 * time.Millisecond
)

// BenchmarkIsolated compares trivial steps in processes of their own with the same steps in the process of the worker, which is a
// program without a server. With a pause before each step a process is ready when one is needed; without, each step waits for one
// to start, and so does one that needs other settings in its environment.
func BenchmarkIsolated(b *testing.B) {
	dir := b.TempDir()
	program := build(b, dir, "bench/isolated")
	quiet := slog.New(slog.DiscardHandler)
	server, err := devserver.Start(b.Context(), stepwell.DevOptions{Dir: dir, Headless: true, Logger: quiet})
	require.NoError(b, err)
	b.Cleanup(server.Stop)
	temporal, err := client.DialContext(b.Context(), client.Options{
		HostPort: server.Address, Namespace: server.Namespace, Logger: tlog.NewStructuredLogger(quiet),
	})
	require.NoError(b, err)
	b.Cleanup(temporal.Close)
	location := filepath.Join(dir, "store")
	store, err := artifacts.Open(b.Context(), location, artifacts.Options{})
	require.NoError(b, err)

	worker := exec.CommandContext(b.Context(), program, "--store", location)
	worker.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TEMPORAL_ADDRESS=" + server.Address, "TEMPORAL_NAMESPACE=" + server.Namespace}
	require.NoError(b, worker.Start())
	b.Cleanup(func() {
		_ = worker.Process.Kill()
		_ = worker.Wait()
	})
	starter := stepwell.NewClient(temporal, store, stepwell.ClientOptions{Namespace: server.Namespace, Heartbeat: stepHeartbeat})

	// perStep is how long a flow took, for each step that counts.
	perStep := func(f *flow.Flow) time.Duration {
		began := time.Now()
		run, err := starter.Start(b.Context(), f, stepwell.StartOptions{})
		require.NoError(b, err)
		run, err = starter.Wait(b.Context(), run.Flow, run.Run.Run)
		spent := time.Since(began)
		require.NoError(b, err)
		require.Equal(b, records.StatusCompleted, run.Status, "%+v", run.Failure)
		return spent / counting.Steps
	}
	flows := counting.Flows()
	times := make([][]time.Duration, len(flows))
	perStep(flows[1]) // for caches, connections and pollers
	for range isolatedRounds {
		for i, f := range flows {
			times[i] = append(times[i], perStep(f))
		}
	}
	plain, isolated, pausedPlain, pausedIsolated, pausedCold := median(times[0]), median(times[1]), median(times[2]), median(times[3]), median(times[4])
	warm, row, cold := pausedIsolated-pausedPlain, isolated-plain, pausedCold-pausedPlain
	b.ReportMetric(milliseconds(warm), "ms/isolated")
	b.ReportMetric(milliseconds(row), "ms/isolated-in-a-row")
	b.ReportMetric(milliseconds(cold), "ms/isolated-env")
	report(b, "an isolated step costs %.1f ms more than one in the worker's process (goal under %d ms: %s), %.1f ms one after the other, %.1f ms with settings of its own",
		milliseconds(warm), isolatedTime.Milliseconds(), verdict(warm < isolatedTime), milliseconds(row), milliseconds(cold))
}
