package telemetry

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Metrics are those of a worker. Nil counts nothing. It is safe for concurrent use. Make one with [NewMetrics].
type Metrics struct {
	meter metric.Meter

	runs, tasks, failures, retries, deferrals, items metric.Int64Counter
	attempts, store                                  metric.Float64Histogram
	busy                                             metric.Int64UpDownCounter
}

// The buckets of durations, in seconds: of what a program calls, and of what an author's code does.
var (
	callBuckets    = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
	attemptBuckets = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400}
)

// NewMetrics returns the metrics of a worker, in a meter.
func NewMetrics(meter metric.Meter) (*Metrics, error) {
	m := &Metrics{meter: meter}
	var errs []error
	counter := func(to *metric.Int64Counter, name, help string) {
		c, err := meter.Int64Counter(name, metric.WithDescription(help))
		*to, errs = c, append(errs, err)
	}
	histogram := func(to *metric.Float64Histogram, name, help string, buckets []float64) {
		h, err := meter.Float64Histogram(name, metric.WithDescription(help), metric.WithUnit("s"), metric.WithExplicitBucketBoundaries(buckets...))
		*to, errs = h, append(errs, err)
	}
	counter(&m.runs, "stepwell_runs", "Runs that ended, by flow and status.")
	counter(&m.tasks, "stepwell_tasks", "Tasks that ended, by flow, step and outcome.")
	counter(&m.failures, "stepwell_failures", "Attempts that failed or were lost, by flow, step and class of the failure.")
	counter(&m.retries, "stepwell_retries", "Attempts that are followed by another one, by flow and step.")
	counter(&m.deferrals, "stepwell_deferrals", "Attempts that were put off until a service is back, by flow and step.")
	counter(&m.items, "stepwell_foreach_items", "Items of foreach shapes that ended, by flow, foreach and outcome.")
	histogram(&m.attempts, "stepwell_attempt_duration", "Time that attempts took, by flow, step and outcome.", attemptBuckets)
	histogram(&m.store, "stepwell_store_operation_duration", "Time that calls of the artifact store took, by operation and outcome.", callBuckets)
	var err error
	m.busy, err = meter.Int64UpDownCounter("stepwell_slots_in_use", metric.WithDescription("Steps that run now."))
	return m, errors.Join(append(errs, err)...)
}

func labels(pairs ...string) metric.MeasurementOption {
	attrs := make([]attribute.KeyValue, 0, len(pairs)/2)
	for pair := range slices.Chunk(pairs, 2) {
		attrs = append(attrs, attribute.String(pair[0], pair[1]))
	}
	return metric.WithAttributeSet(attribute.NewSet(attrs...))
}

// Began counts an attempt that takes a slot, until the function that it returns is called.
func (m *Metrics) Began(ctx context.Context) (ended func()) {
	if m == nil {
		return func() {}
	}
	ctx = context.WithoutCancel(ctx)
	m.busy.Add(ctx, 1)
	return func() { m.busy.Add(ctx, -1) }
}

// Attempt counts an attempt that ended. Retry says that there is another one, Deferred that it comes when a service is back.
func (m *Metrics) Attempt(ctx context.Context, k Task, e End, took time.Duration, retry, deferred bool) {
	if m == nil {
		return
	}
	m.attempts.Record(ctx, took.Seconds(), labels("flow", k.Flow, "step", k.Step, "outcome", e.Outcome))
	switch {
	case deferred:
		m.deferrals.Add(ctx, 1, labels("flow", k.Flow, "step", k.Step))
		return
	case retry:
		m.retries.Add(ctx, 1, labels("flow", k.Flow, "step", k.Step))
	}
	if e.Class != "" {
		m.Failed(ctx, k, e.Class)
	}
}

// Failed counts a failure of an attempt.
func (m *Metrics) Failed(ctx context.Context, k Task, class string) {
	if m != nil {
		m.failures.Add(ctx, 1, labels("flow", k.Flow, "step", k.Step, "class", class))
	}
}

// Task counts a task that ended.
func (m *Metrics) Task(ctx context.Context, k Task, outcome string) {
	if m != nil {
		m.tasks.Add(ctx, 1, labels("flow", k.Flow, "step", k.Step, "outcome", outcome))
	}
}

// Item counts an item of a foreach that ended.
func (m *Metrics) Item(ctx context.Context, flow, foreach, outcome string) {
	if m != nil {
		m.items.Add(ctx, 1, labels("flow", flow, "foreach", foreach, "outcome", outcome))
	}
}

// Run counts a run that ended.
func (m *Metrics) Run(ctx context.Context, flow, status string) {
	if m != nil {
		m.runs.Add(ctx, 1, labels("flow", flow, "status", status))
	}
}

// Store counts a call of the store.
func (m *Metrics) Store(operation, outcome string, took time.Duration) {
	if m != nil {
		m.store.Record(context.Background(), took.Seconds(), labels("operation", operation, "outcome", outcome))
	}
}

// Watch reads what a worker knows whenever the metrics are read: how many slots it has, and the states of the breakers of services
// by their names.
func (m *Metrics) Watch(slots int, breakers func() map[string]string) error {
	if m == nil {
		return nil
	}
	total, err1 := m.meter.Int64ObservableGauge("stepwell_slots", metric.WithDescription("Steps that may run at the same time."))
	state, err2 := m.meter.Int64ObservableGauge("stepwell_breaker_state",
		metric.WithDescription("1 for the state that a service's circuit breaker is in, 0 for the others."))
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	_, err := m.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		o.ObserveInt64(total, int64(slots))
		for name, is := range breakers() {
			for _, s := range []string{"closed", "half-open", "open"} {
				value := int64(0)
				if s == is {
					value = 1
				}
				o.ObserveInt64(state, value, labels("dependency", name, "state", s))
			}
		}
		return nil
	}, total, state)
	return err
}
