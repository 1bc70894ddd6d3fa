package bench

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	startRounds = 9
	startTime   = 1500 * time.Millisecond
)

// BenchmarkStart measures the starter as a whole process on a state directory that exists: how long until the first step
// of a run is done, with server, Web UI and worker in the process, and how long until it has ended.
func BenchmarkStart(b *testing.B) {
	dir := b.TempDir()
	starter := build(b, dir, "starter")

	startOnce(b, starter, dir) // makes the directory
	var firsts, ends []time.Duration
	for range startRounds {
		first, end := startOnce(b, starter, dir)
		firsts, ends = append(firsts, first), append(ends, end)
	}
	first, end := median(firsts), median(ends)
	b.ReportMetric(milliseconds(first), "ms/first-step")
	b.ReportMetric(milliseconds(end), "ms/process")
	report(b, "start: first step done after %.2f s (goal under %.1f s: %s), the flow of five steps and the process after %.2f s",
		first.Seconds(), startTime.Seconds(), verdict(first < startTime), end.Seconds())
}

// startOnce runs a flow in dir and returns when the first step was told to be done and when the process had ended.
func startOnce(b *testing.B, starter, dir string) (first, end time.Duration) {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), starter, "run", "FailureHandlingFlow", "--simulate_api_failure=false")
	cmd.Dir = dir
	// The machine's own settings for Temporal and the store must not reach it.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "NO_COLOR=1"}
	var problems bytes.Buffer
	cmd.Stderr = &problems
	out, err := cmd.StdoutPipe()
	require.NoError(b, err)

	began := time.Now()
	require.NoError(b, cmd.Start())
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if first == 0 && strings.Contains(lines.Text(), " start completed ") {
			first = time.Since(began)
		}
	}
	require.NoError(b, cmd.Wait(), "%s", &problems)
	end = time.Since(began)
	require.NotZero(b, first, "the starter did not tell that the first step completed")
	return first, end
}
