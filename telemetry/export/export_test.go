package export

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel"

	"github.com/stepwell-flows/stepwell/telemetry"
)

func env(pairs map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := pairs[name]
		return v, ok
	}
}

// setenv sets what the exporters read by themselves too.
func setenv(t *testing.T, pairs map[string]string) func(string) (string, bool) {
	t.Helper()
	for name, value := range pairs {
		t.Setenv(name, value)
	}
	return env(pairs)
}

func TestNothingIsSentUnlessAskedFor(t *testing.T) {
	before := otel.GetTracerProvider()
	for _, pairs := range []map[string]string{
		nil,
		{"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
		{"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "otlp", "OTEL_METRICS_EXPORTER": "otlp"},
	} {
		e, err := Start(t.Context(), Options{Env: env(pairs), Warn: func(line string) { t.Error(line) }})
		require.NoError(t, err)
		require.False(t, e.Traces())
		require.Nil(t, e.Meter())
		require.Empty(t, e.URL())
		require.Equal(t, before, otel.GetTracerProvider())
		e.Close()
		e.Close()
	}
}

// A mistake in the environment is told, and nothing is sent; runs do not fail for it.
func TestMistakes(t *testing.T) {
	for want, pairs := range map[string]map[string]string{
		`OTEL_TRACES_EXPORTER="zipkin" is not supported (use otlp or none)`: {"OTEL_TRACES_EXPORTER": "zipkin"},
		`OTEL_METRICS_EXPORTER="stdout" is not supported`:                   {"OTEL_METRICS_EXPORTER": "stdout"},
		`is "http/json" (use http/protobuf or grpc)`: {
			"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json",
		},
	} {
		var told []string
		e, err := Start(t.Context(), Options{Env: env(pairs), Warn: func(line string) { told = append(told, line) }})
		require.NoError(t, err)
		e.Close()
		require.False(t, e.Traces())
		require.Len(t, told, 1)
		require.Contains(t, told[0], want)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	_, err = Start(t.Context(), Options{Metrics: l.Addr().String()})
	require.ErrorContains(t, err, "give --metrics another host:port")
}

// Spans and metrics reach a collector over HTTP, which is the standard's default, before Close returns.
func TestSendsOverHTTP(t *testing.T) {
	var mu sync.Mutex
	got := map[string]int{}
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		got[r.URL.Path]++
	}))
	defer s.Close()
	e, err := Start(t.Context(), Options{
		Env:  setenv(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": s.URL, "OTEL_METRICS_EXPORTER": "otlp"}),
		Warn: func(line string) { t.Error(line) },
	})
	require.NoError(t, err)
	m, err := telemetry.NewMetrics(e.Meter())
	require.NoError(t, err)
	m.Run(t.Context(), "F", "completed")
	_, span := telemetry.Starting(t.Context(), "F")
	span.End()
	e.Close()
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, map[string]int{"/v1/traces": 1, "/v1/metrics": 1}, got)
}

// A collector that hangs is told of once, and holds up neither spans nor the end of the process.
func TestCollectorHangs(t *testing.T) {
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer s.Close()
	defer close(release)
	var told atomic.Int32
	e, err := Start(t.Context(), Options{
		Env:  setenv(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": s.URL, "OTEL_EXPORTER_OTLP_TIMEOUT": "100", "OTEL_BSP_SCHEDULE_DELAY": "1"}),
		Warn: func(string) { told.Add(1) },
	})
	require.NoError(t, err)
	for range 10000 {
		_, span := telemetry.Starting(t.Context(), "F")
		span.End()
	}
	require.Eventually(t, func() bool { return told.Load() == 1 }, time.Minute, 10*time.Millisecond)
	closed := make(chan struct{})
	go func() {
		e.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(time.Minute):
		t.Fatal("Close waits for the collector")
	}
	require.EqualValues(t, 1, told.Load())
}

// exposed is the page of all metrics of Stepwell, and some of Temporal's.
func exposed(t *testing.T) []byte {
	t.Helper()
	e, err := Start(t.Context(), Options{Metrics: "127.0.0.1:0"})
	require.NoError(t, err)
	t.Cleanup(e.Close)
	m, err := telemetry.NewMetrics(e.Meter())
	require.NoError(t, err)
	require.NoError(t, m.Watch(16, func() map[string]string { return map[string]string{"model": "open"} }))
	ctx, k := t.Context(), telemetry.Task{Flow: "F", Run: "run-1", Step: "fit", Name: "fit[7]"}
	defer m.Began(ctx)()
	m.Attempt(ctx, k, telemetry.End{Outcome: "failed", Class: "Transient"}, time.Second, true, false)
	m.Attempt(ctx, k, telemetry.End{Outcome: "deferred", Class: "Transient"}, time.Second, true, true)
	m.Task(ctx, k, "completed")
	m.Item(ctx, "F", "grid", "completed")
	m.Run(ctx, "F", "completed")
	m.Store("put", "ok", time.Millisecond)
	h := telemetry.Temporal(e.Meter()).WithTags(map[string]string{"namespace": "default"})
	for _, name := range []string{"request", "request_failure", "long_request", "sticky_cache_hit", "sticky_cache_total_forced_eviction", "local_activity_total"} {
		h.Counter("temporal_" + name).Inc(1)
	}
	for _, name := range []string{"worker_task_slots_available", "num_pollers", "workflow_active_thread_count"} {
		h.WithTags(map[string]string{"worker_type": "ActivityWorker"}).Gauge("temporal_" + name).Update(3)
	}
	for _, name := range []string{"request_latency", "activity_schedule_to_start_latency", "workflow_task_schedule_to_start_latency", "workflow_endtoend_latency"} {
		h.WithTags(map[string]string{"task_queue": "stepwell"}).Timer("temporal_" + name).Record(time.Second)
	}
	return get(t, e.URL())
}

func get(t *testing.T, url string) []byte {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	require.Equal(t, http.StatusOK, answer.StatusCode)
	b, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return b
}

// names are the names of the metrics on a page, with those of the parts of histograms.
func names(page []byte) map[string]bool {
	all := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^([a-z_]+)[ {]`).FindAllSubmatch(page, -1) {
		all[string(m[1])] = true
	}
	return all
}

// What Prometheus reads follows its conventions.
func TestPageForPrometheus(t *testing.T) {
	page := exposed(t)
	problems, err := promlint.New(bytes.NewReader(page)).Lint()
	require.NoError(t, err)
	require.Empty(t, problems)
	var own []string
	for _, name := range slices.Sorted(maps.Keys(names(page))) {
		if strings.HasPrefix(name, "stepwell_") {
			own = append(own, name)
		}
	}
	require.Equal(t, []string{
		"stepwell_attempt_duration_seconds_bucket", "stepwell_attempt_duration_seconds_count", "stepwell_attempt_duration_seconds_sum",
		"stepwell_breaker_state", "stepwell_deferrals_total", "stepwell_failures_total", "stepwell_foreach_items_total",
		"stepwell_retries_total", "stepwell_runs_total", "stepwell_slots", "stepwell_slots_in_use",
		"stepwell_store_operation_duration_seconds_bucket", "stepwell_store_operation_duration_seconds_count", "stepwell_store_operation_duration_seconds_sum",
		"stepwell_tasks_total",
	}, own)
	require.Contains(t, string(page), `stepwell_breaker_state{dependency="model",state="open"} 1`)
	require.Contains(t, string(page), `stepwell_breaker_state{dependency="model",state="closed"} 0`)
	require.Contains(t, string(page), `stepwell_failures_total{class="Transient",flow="F",step="fit"} 1`)
	require.NotContains(t, string(page), "run-1", "a label would grow without bounds")
	require.NotContains(t, string(page), "fit[7]")
}

func TestPromtoolAcceptsThePage(t *testing.T) {
	tool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed (it is in Debian's package prometheus)")
	}
	cmd := exec.CommandContext(t.Context(), tool, "check", "metrics")
	cmd.Stdin = bytes.NewReader(exposed(t))
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Empty(t, string(out))
}

// Every query of the dashboard asks for metrics that there are, and docs/telemetry.md tells of all that there are.
func TestDashboardAndDocument(t *testing.T) {
	there := names(exposed(t))
	b, err := os.ReadFile("../../docs/grafana/stepwell.json")
	require.NoError(t, err)
	var dashboard any
	require.NoError(t, json.Unmarshal(b, &dashboard))
	queries := 0
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if query, ok := v["expr"].(string); ok {
				queries++
				asked := regexp.MustCompile(`\b(stepwell|temporal)_[a-z_]+`).FindAllString(query, -1)
				require.NotEmpty(t, asked, query)
				for _, name := range asked {
					require.True(t, there[name], "%q asks for %s, which is not there", query, name)
				}
			}
			for _, child := range v {
				walk(child)
			}
		case []any:
			for _, child := range v {
				walk(child)
			}
		}
	}
	walk(dashboard)
	require.GreaterOrEqual(t, queries, 12)

	doc, err := os.ReadFile("../../docs/telemetry.md")
	require.NoError(t, err)
	for name := range there {
		name = regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
		if strings.HasPrefix(name, "stepwell_") {
			require.Contains(t, string(doc), fmt.Sprintf("`%s`", name))
		}
	}
}
