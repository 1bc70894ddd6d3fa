// Package export sends the spans and metrics of this process somewhere: to a collector, as the standard OTEL_… environment variables
// say, and to a page that Prometheus reads. See docs/telemetry.md.
package export

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/stepwell-flows/stepwell/telemetry"
)

// Options say what is sent where. The zero value sends nothing.
type Options struct {
	// Env looks up environment variables, usually os.LookupEnv. It decides what is turned on; the exporters read the rest of the
	// OTEL_… variables from the process's environment. Nil looks up none.
	Env func(string) (string, bool)
	// Metrics is host:port of the page for Prometheus. Defaults to none.
	Metrics string
	// Service, Version and Instance name the program. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES come first. Service defaults to
	// "stepwell", the others to nothing.
	Service, Version, Instance string
	// Warn gets what people should know, one line at a time. Nil: nobody does.
	Warn func(string)
}

// The patience with a collector.
const (
	// flushTime bounds the end of the process.
	flushTime = 2 * time.Second
	// hopeless bounds it when the collector did not answer lately.
	hopeless = 100 * time.Millisecond
)

// Export is what sends. Make one with [Start]. It is safe for concurrent use.
type Export struct {
	spans   *sdktrace.TracerProvider
	metrics *sdkmetric.MeterProvider
	server  *http.Server
	address string
	// closing is closed when the process ends: nothing is tried again then.
	closing chan struct{}
	closed  sync.Once
	failing atomic.Bool
	told    sync.Once // that the collector is away
}

// Start begins to send what the options ask for. What it cannot do for the environment's fault it warns of, and goes on without; an
// address that cannot be listened on is an error. With spans, the process has a new global tracer provider, which is shut down by Close.
func Start(ctx context.Context, o Options) (*Export, error) {
	if o.Env == nil {
		o.Env = func(string) (string, bool) { return "", false }
	}
	if o.Warn == nil {
		o.Warn = func(string) {}
	}
	e := &Export{closing: make(chan struct{})}
	s := settings{o.Env}
	traces, err := s.traces()
	o.warn(err)
	metrics, err := s.metrics()
	o.warn(err)
	if !traces && !metrics && o.Metrics == "" {
		return e, nil
	}
	res := o.resource(ctx)
	if traces {
		o.warn(e.sendSpans(ctx, s, o, res))
	}
	var readers []sdkmetric.Option
	if metrics {
		r, err := e.sendMetrics(ctx, s, o)
		o.warn(err)
		if err == nil {
			readers = append(readers, sdkmetric.WithReader(r))
		}
	}
	if o.Metrics != "" {
		r, err := e.serve(o.Metrics)
		if err != nil {
			e.Close()
			return nil, err
		}
		readers = append(readers, sdkmetric.WithReader(r))
	}
	if len(readers) > 0 {
		e.metrics = sdkmetric.NewMeterProvider(append(readers, sdkmetric.WithResource(res))...)
	}
	return e, nil
}

func (o Options) warn(err error) {
	if err != nil {
		o.Warn("telemetry: " + err.Error())
	}
}

// resource describes the process. What cannot be found out is left out.
func (o Options) resource(ctx context.Context) *resource.Resource {
	attrs := []attribute.KeyValue{attribute.String("service.name", "stepwell")}
	for _, a := range []struct{ key, value string }{
		{"service.name", o.Service}, {"service.version", o.Version}, {"service.instance.id", o.Instance},
	} {
		if a.value != "" {
			attrs = append(attrs, attribute.String(a.key, a.value))
		}
	}
	res, err := resource.New(ctx, resource.WithAttributes(attrs...), resource.WithTelemetrySDK(), resource.WithHost(), resource.WithFromEnv())
	if err != nil {
		o.warn(fmt.Errorf("describe the process: %w", err))
	}
	return res
}

func (e *Export) sendSpans(ctx context.Context, s settings, o Options, res *resource.Resource) error {
	sender, err := s.spanExporter(ctx)
	if err != nil {
		return err
	}
	p := &spanSender{SpanExporter: sender, sender: e.sender("spans", o)}
	e.spans = sdktrace.NewTracerProvider(sdktrace.WithBatcher(p), sdktrace.WithResource(res), sdktrace.WithIDGenerator(telemetry.IDs{}))
	otel.SetTracerProvider(e.spans)
	otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}))
	return nil
}

func (e *Export) sendMetrics(ctx context.Context, s settings, o Options) (sdkmetric.Reader, error) {
	sender, err := s.metricExporter(ctx)
	if err != nil {
		return nil, err
	}
	return sdkmetric.NewPeriodicReader(&metricSender{Exporter: sender, sender: e.sender("metrics", o)}), nil
}

// Meter makes instruments. It is nil if metrics go nowhere.
func (e *Export) Meter() metric.Meter {
	if e.metrics == nil {
		return nil
	}
	return e.metrics.Meter("github.com/stepwell-flows/stepwell")
}

// Traces says that spans are sent.
func (e *Export) Traces() bool { return e.spans != nil }

// URL is the page for Prometheus, "" if there is none.
func (e *Export) URL() string {
	if e.server == nil {
		return ""
	}
	return "http://" + e.address + "/metrics"
}

// Close sends what there is and ends. It takes at most about two seconds, and next to nothing when the collector was away lately.
func (e *Export) Close() { e.closed.Do(e.close) }

func (e *Export) close() {
	close(e.closing)
	limit := flushTime
	if e.failing.Load() {
		limit = hopeless
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var all sync.WaitGroup
	if e.spans != nil {
		all.Go(func() { _ = e.spans.Shutdown(ctx) }) // what went wrong was told
	}
	if e.metrics != nil {
		all.Go(func() { _ = e.metrics.Shutdown(ctx) })
	}
	if e.server != nil {
		all.Go(func() { _ = e.server.Close() })
	}
	all.Wait()
}

// sender is what is common to spans and metrics: a collector that is away is told of once, and nobody waits for it.
type sender struct {
	what string
	e    *Export
	o    Options
}

func (e *Export) sender(what string, o Options) *sender { return &sender{what: what, e: e, o: o} }

// tries is how often something is sent, with a pause of a second and more before each further time.
const tries = 3

// send calls f until it succeeds or the process ends. It is no error when it does not.
func (s *sender) send(ctx context.Context, f func(context.Context) error) {
	closing := s.e.closing
	for n := 1; ; n++ {
		err := f(ctx)
		s.e.failing.Store(err != nil)
		if err == nil || errors.Is(err, context.Canceled) {
			return
		}
		s.e.told.Do(func() {
			s.o.Warn(fmt.Sprintf("telemetry: send %s: %v (runs go on without; start the collector, or unset OTEL_EXPORTER_OTLP_ENDPOINT)", s.what, err))
		})
		if n == tries {
			return
		}
		select {
		case <-closing:
			return
		case <-ctx.Done():
			return
		case <-time.After(time.Second << (n - 1)):
		}
	}
}

type spanSender struct {
	sdktrace.SpanExporter
	*sender
}

// ExportSpans implements sdktrace.SpanExporter.
func (s *spanSender) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	s.send(ctx, func(ctx context.Context) error { return s.SpanExporter.ExportSpans(ctx, spans) })
	return nil
}

// listen is where the page for Prometheus is.
func listen(ctx context.Context, address string) (net.Listener, error) {
	var c net.ListenConfig
	l, err := c.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("serve metrics: %w (give --metrics another host:port, or leave it out)", err)
	}
	return l, nil
}
