package export

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// serve shows metrics to Prometheus, and those of the Go runtime and the process with them.
func (e *Export) serve(address string) (sdkmetric.Reader, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	// Prometheus names the process by itself.
	reader, err := otelprometheus.New(otelprometheus.WithRegisterer(registry), otelprometheus.WithoutScopeInfo(), otelprometheus.WithoutTargetInfo())
	if err != nil {
		return nil, err
	}
	l, err := listen(context.Background(), address)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: false}))
	e.address = l.Addr().String()
	e.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second}
	go func() { _ = e.server.Serve(l) }() // until Close
	return reader, nil
}

type metricSender struct {
	sdkmetric.Exporter
	*sender
}

// Export implements sdkmetric.Exporter.
func (s *metricSender) Export(ctx context.Context, m *metricdata.ResourceMetrics) error {
	s.send(ctx, func(ctx context.Context) error { return s.Exporter.Export(ctx, m) })
	return nil
}
