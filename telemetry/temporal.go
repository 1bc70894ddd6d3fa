package telemetry

import (
	"cmp"
	"context"
	"maps"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.temporal.io/sdk/client"
)

// Temporal returns a handler that puts the metrics of Temporal's SDK into a meter, with the help that the SDK does not give.
func Temporal(meter metric.Meter) client.MetricsHandler {
	return &handler{sdk: &sdkMetrics{meter: meter}}
}

// sdkMetrics are the instruments that were asked for so far: the SDK asks for one each time.
type sdkMetrics struct {
	meter       metric.Meter
	instruments sync.Map
}

// handler has tags. The SDK uses one in many goroutines.
type handler struct {
	sdk  *sdkMetrics
	tags map[string]string
	set  metric.MeasurementOption
}

// WithTags implements client.MetricsHandler.
func (h *handler) WithTags(tags map[string]string) client.MetricsHandler {
	all := maps.Clone(h.tags)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, tags)
	attrs := make([]attribute.KeyValue, 0, len(all))
	for k, v := range all {
		attrs = append(attrs, attribute.String(k, v))
	}
	return &handler{h.sdk, all, metric.WithAttributeSet(attribute.NewSet(attrs...))}
}

func (h *handler) labels() metric.MeasurementOption {
	if h.set == nil {
		return metric.WithAttributes()
	}
	return h.set
}

// instrument returns the one that was made first.
func instrument[T any](s *sdkMetrics, name string, create func() (T, error)) (T, bool) {
	if v, ok := s.instruments.Load(name); ok {
		i, ok := v.(T)
		return i, ok
	}
	i, err := create()
	if err != nil {
		return i, false
	}
	v, _ := s.instruments.LoadOrStore(name, i)
	i, ok := v.(T)
	return i, ok
}

// Counter implements client.MetricsHandler.
func (h *handler) Counter(name string) client.MetricsCounter {
	c, ok := instrument(h.sdk, name, func() (metric.Int64Counter, error) {
		return h.sdk.meter.Int64Counter(name, metric.WithDescription(help(name)))
	})
	if !ok {
		return client.MetricsNopHandler.Counter(name)
	}
	return counter{c, h.labels()}
}

// Gauge implements client.MetricsHandler. To Prometheus a name that ends in _count is a part of a histogram, so thread_count is threads.
func (h *handler) Gauge(name string) client.MetricsGauge {
	if prefix, ok := strings.CutSuffix(name, "_count"); ok {
		name = prefix + "s"
	}
	g, ok := instrument(h.sdk, name, func() (metric.Float64Gauge, error) {
		return h.sdk.meter.Float64Gauge(name, metric.WithDescription(help(name)))
	})
	if !ok {
		return client.MetricsNopHandler.Gauge(name)
	}
	return gauge{g, h.labels()}
}

// Timer implements client.MetricsHandler.
func (h *handler) Timer(name string) client.MetricsTimer {
	t, ok := instrument(h.sdk, name, func() (metric.Float64Histogram, error) {
		return h.sdk.meter.Float64Histogram(name, metric.WithDescription(help(name)), metric.WithUnit("s"),
			metric.WithExplicitBucketBoundaries(callBuckets...))
	})
	if !ok {
		return client.MetricsNopHandler.Timer(name)
	}
	return timer{t, h.labels()}
}

type counter struct {
	metric.Int64Counter
	labels metric.MeasurementOption
}

// Inc implements client.MetricsCounter.
func (c counter) Inc(n int64) { c.Add(context.Background(), n, c.labels) }

type gauge struct {
	metric.Float64Gauge
	labels metric.MeasurementOption
}

// Update implements client.MetricsGauge.
func (g gauge) Update(v float64) { g.Record(context.Background(), v, g.labels) }

type timer struct {
	histogram metric.Float64Histogram
	labels    metric.MeasurementOption
}

// Record implements client.MetricsTimer.
func (t timer) Record(d time.Duration) {
	t.histogram.Record(context.Background(), d.Seconds(), t.labels)
}

// help says what a metric of the SDK is, after its documentation. It may have metrics that are not known here.
func help(name string) string {
	return cmp.Or(helps[name], "Temporal SDK: "+strings.ReplaceAll(strings.TrimPrefix(name, "temporal_"), "_", " ")+".")
}

var helps = map[string]string{
	"temporal_activity_schedule_to_start_latency":      "Time that activities waited in their task queue.",
	"temporal_activity_execution_latency":              "Time that activities ran.",
	"temporal_activity_succeed_endtoend_latency":       "Time from the scheduling of activities to their success.",
	"temporal_workflow_task_schedule_to_start_latency": "Time that workflow tasks waited in their task queue.",
	"temporal_workflow_task_execution_latency":         "Time that workflow tasks ran.",
	"temporal_workflow_task_replay_latency":            "Time that workflows took to be replayed.",
	"temporal_workflow_endtoend_latency":               "Time from the start of workflows to their end.",
	"temporal_worker_task_slots_available":             "Free places of the worker, by type of worker.",
	"temporal_worker_task_slots_used":                  "Used places of the worker, by type of worker.",
	"temporal_num_pollers":                             "Polls that are open, by type.",
	"temporal_request":                                 "Requests to the Temporal server.",
	"temporal_request_failure":                         "Requests to the Temporal server that failed.",
	"temporal_request_latency":                         "Time that requests to the Temporal server took.",
	"temporal_long_request":                            "Long polls of the Temporal server.",
	"temporal_long_request_failure":                    "Long polls of the Temporal server that failed.",
	"temporal_long_request_latency":                    "Time that long polls of the Temporal server took.",
	"temporal_sticky_cache_size":                       "Workflows in the cache.",
}
