package export

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// settings reads the standard environment variables.
type settings struct {
	env func(string) (string, bool)
}

func (s settings) get(name string) string {
	v, _ := s.env(name)
	return strings.TrimSpace(v)
}

// traces says whether spans are to be sent: if an exporter is named, or an address alone.
func (s settings) traces() (bool, error) {
	return s.exporter("OTEL_TRACES_EXPORTER", s.get("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || s.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != "")
}

// metrics says whether metrics are to be sent. An address alone is no reason: many collectors take spans only.
func (s settings) metrics() (bool, error) { return s.exporter("OTEL_METRICS_EXPORTER", false) }

func (s settings) exporter(name string, otherwise bool) (bool, error) {
	if strings.EqualFold(s.get("OTEL_SDK_DISABLED"), "true") {
		return false, nil
	}
	value := s.get(name)
	switch value {
	case "":
		return otherwise, nil
	case "otlp":
		return true, nil
	case "none":
		return false, nil
	}
	return false, fmt.Errorf("%s=%q is not supported (use otlp or none)", name, value)
}

const (
	overGRPC = "grpc"
	overHTTP = "http/protobuf"
)

// protocol is how a signal is sent, "TRACES" or "METRICS".
func (s settings) protocol(signal string) (string, error) {
	name := "OTEL_EXPORTER_OTLP_" + signal + "_PROTOCOL"
	p := cmp.Or(s.get(name), s.get("OTEL_EXPORTER_OTLP_PROTOCOL"), overHTTP)
	if !slices.Contains([]string{overGRPC, overHTTP}, p) {
		return "", fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL or %s is %q (use %s or %s)", name, p, overHTTP, overGRPC)
	}
	return p, nil
}

// spanExporter does not try again by itself: the one who calls it does, and ends that when the process ends.
func (s settings) spanExporter(ctx context.Context) (sdktrace.SpanExporter, error) {
	p, err := s.protocol("TRACES")
	if err != nil {
		return nil, err
	}
	if p == overGRPC {
		return otlptracegrpc.New(ctx, otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{}))
	}
	return otlptracehttp.New(ctx, otlptracehttp.WithRetry(otlptracehttp.RetryConfig{}))
}

func (s settings) metricExporter(ctx context.Context) (sdkmetric.Exporter, error) {
	p, err := s.protocol("METRICS")
	if err != nil {
		return nil, err
	}
	if p == overGRPC {
		return otlpmetricgrpc.New(ctx, otlpmetricgrpc.WithRetry(otlpmetricgrpc.RetryConfig{}))
	}
	return otlpmetrichttp.New(ctx, otlpmetrichttp.WithRetry(otlpmetrichttp.RetryConfig{}))
}
