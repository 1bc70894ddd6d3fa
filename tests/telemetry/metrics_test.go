package telemetry

import (
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/require"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/stepwell-flows/stepwell"
)

func get(t *testing.T, url string) []byte {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	page, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return page
}

// scrape gets a worker's page once it has all lines: the worker may still be counting when the starter knows of the end.
func scrape(t *testing.T, url string, lines ...string) string {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		page := string(get(t, url))
		missing := slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return strings.Contains(page, line+"\n") })
		if len(missing) == 0 {
			return page
		}
		require.True(t, time.Now().Before(deadline), "%q are missing in\n%s", missing, page)
	}
}

// A worker shows Prometheus what it did.
func TestMetricsOfAWorker(t *testing.T) {
	store := t.TempDir()
	env := append(serverEnv(t), "STEPWELL_STORE="+store, "STEPWELL_METRICS=127.0.0.1:0")
	worker := start(t, "worker", env, "--task-queue", t.Name(), "--max-concurrent", "7")
	url := worker.line(t, "metrics ")
	worker.line(t, "worker for TracedFlow, TroubledFlow polls")
	starter := start(t, "starter", env, "run", "TracedFlow", "--task-queue", t.Name(), "--run-id", "run-of-a-certain-name")
	require.Equal(t, stepwell.ExitOK, starter.exit(t))

	page := scrape(t, url,
		`stepwell_runs_total{flow="TracedFlow",status="completed"} 1`,
		`stepwell_tasks_total{flow="TracedFlow",outcome="completed",step="flaky"} 1`,
		`stepwell_tasks_total{flow="TracedFlow",outcome="completed",step="square"} 3`,
		`stepwell_tasks_total{flow="TracedFlow",outcome="completed",step="sum"} 1`,
		`stepwell_attempt_duration_seconds_count{flow="TracedFlow",outcome="failed",step="flaky"} 1`,
		`stepwell_attempt_duration_seconds_count{flow="TracedFlow",outcome="completed",step="flaky"} 1`,
		`stepwell_failures_total{class="Transient",flow="TracedFlow",step="flaky"} 1`,
		`stepwell_retries_total{flow="TracedFlow",step="flaky"} 1`,
		`stepwell_foreach_items_total{flow="TracedFlow",foreach="squares",outcome="completed"} 3`,
		`stepwell_slots_in_use 0`,
		`stepwell_slots 7`,
	)
	for _, name := range []string{
		`stepwell_store_operation_duration_seconds_count{operation="put",outcome="ok"}`,
		"temporal_activity_schedule_to_start_latency_seconds_bucket", "temporal_workflow_task_schedule_to_start_latency_seconds_bucket",
		"temporal_request_latency_seconds_bucket", "temporal_request_total", "go_goroutines", "process_cpu_seconds_total",
	} {
		require.Contains(t, page, "\n"+name)
	}
	require.NotContains(t, page, "run-of-a-certain-name", "a label would grow without bounds")

	problems, err := promlint.New(strings.NewReader(page)).Lint()
	require.NoError(t, err)
	require.Empty(t, problems)
	if tool, err := exec.LookPath("promtool"); err == nil {
		cmd := exec.CommandContext(t.Context(), tool, "check", "metrics")
		cmd.Stdin = strings.NewReader(page)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
	} else {
		t.Log("promtool is not installed (it is in Debian's package prometheus); its library found nothing")
	}
	worker.stop(t)
}

// What goes wrong is counted and traced, too: waits, catches, items of a batch, breakers. Here the worker alone traces.
func TestTroubles(t *testing.T) {
	c := newCollector(t)
	env := append(serverEnv(t), "STEPWELL_STORE="+t.TempDir())
	worker := start(t, "worker", append(c.env(), env...), "--task-queue", t.Name(), "--metrics", "127.0.0.1:0", "--log-format", "json")
	url := worker.line(t, "metrics ")
	worker.line(t, "worker for TracedFlow, TroubledFlow polls")
	starter := start(t, "starter", env, "run", "TroubledFlow", "--task-queue", t.Name())
	require.Equal(t, stepwell.ExitFailed, starter.exit(t))
	page := scrape(t, url,
		`stepwell_runs_total{flow="TroubledFlow",status="failed"} 1`,
		`stepwell_deferrals_total{flow="TroubledFlow",step="waits"} 1`,
		`stepwell_attempt_duration_seconds_count{flow="TroubledFlow",outcome="deferred",step="waits"} 1`,
		`stepwell_tasks_total{flow="TroubledFlow",outcome="caught",step="caught"} 1`,
		`stepwell_failures_total{class="Permanent",flow="TroubledFlow",step="caught"} 1`,
		`stepwell_foreach_items_total{flow="TroubledFlow",foreach="grid",outcome="completed"} 3`,
		`stepwell_foreach_items_total{flow="TroubledFlow",foreach="grid",outcome="failed"} 1`,
		`stepwell_tasks_total{flow="TroubledFlow",outcome="completed",step="fit"} 3`,
		`stepwell_tasks_total{flow="TroubledFlow",outcome="failed",step="fit"} 1`,
		`stepwell_tasks_total{flow="TroubledFlow",outcome="failed",step="calls"} 1`,
		`stepwell_breaker_state{dependency="model",state="open"} 1`,
	)
	require.NotContains(t, page, `stepwell_failures_total{class="Transient",flow="TroubledFlow",step="waits"}`, "who waits has not failed")

	c.wait(t, "run TroubledFlow")
	worker.stop(t)
	byID, count := map[string]*tracepb.Span{}, map[string]int{}
	for _, s := range c.all() {
		byID[string(s.GetSpanId())] = s
		require.Equal(t, c.all()[0].GetTraceId(), s.GetTraceId())
	}
	for _, s := range c.all() {
		parent := "none"
		if id := string(s.GetParentSpanId()); id != "" {
			parent = byID[id].GetName()
		}
		count[parent+" > "+s.GetName()+" "+attribute(s, "stepwell.outcome")]++
	}
	require.Equal(t, map[string]int{
		"none > run TroubledFlow failed":           1,
		"run TroubledFlow > step waits completed":  1,
		"step waits > attempt waits deferred":      1,
		"step waits > attempt waits completed":     1,
		"run TroubledFlow > step caught caught":    1,
		"step caught > attempt caught failed":      1,
		"step caught > catch caught completed":     1,
		"run TroubledFlow > batch grid completed":  1,
		"batch grid > attempt fit completed":       3,
		"batch grid > attempt fit failed":          1,
		"run TroubledFlow > step best completed":   1,
		"step best > attempt best completed":       1,
		"run TroubledFlow > step script completed": 1,
		"step script > attempt script completed":   1,
		"run TroubledFlow > step apart completed":  1,
		"step apart > attempt apart completed":     1,
		"run TroubledFlow > step calls failed":     1,
		"step calls > attempt calls failed":        1,
	}, count)

	// Processes that an attempt starts know its span.
	for step, id := range parents(t, worker) {
		span, err := hex.DecodeString(id)
		require.NoError(t, err)
		require.Equal(t, "attempt "+step, byID[string(span)].GetName())
	}
}

// parents are the spans that the steps script and apart were told of, as the worker has logged them.
func parents(t *testing.T, worker *program) map[string]string {
	t.Helper()
	for line := range strings.Lines(worker.err.String()) {
		var entry struct{ Msg, Script, Apart string }
		require.NoError(t, json.Unmarshal([]byte(line), &entry), line)
		if entry.Msg == "parents" {
			return map[string]string{"script": entry.Script, "apart": entry.Apart}
		}
	}
	t.Fatal("the step apart logged nothing")
	return nil
}

func TestMetricsAddressInUse(t *testing.T) {
	env := append(serverEnv(t), "STEPWELL_STORE="+t.TempDir())
	first := start(t, "worker", env, "--task-queue", t.Name(), "--metrics", "127.0.0.1:0")
	url := first.line(t, "metrics ")
	address := strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/metrics")
	second := start(t, "worker", env, "--task-queue", t.Name(), "--metrics", address)
	require.Equal(t, stepwell.ExitUnavailable, second.exit(t))
	require.Contains(t, second.err.String(), "give --metrics another host:port")
	first.stop(t)
}
