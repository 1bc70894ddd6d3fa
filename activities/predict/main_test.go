package predict_test

import (
	"log/slog"
	"os"
	"testing"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// spans are those of all tests: a process has one tracer provider.
var spans = tracetest.NewSpanRecorder()

func TestMain(m *testing.M) {
	otel.SetTracerProvider(trace.NewTracerProvider(trace.WithSpanProcessor(spans)))
	slog.SetDefault(slog.New(slog.DiscardHandler)) // calls outside of a run log there: a line for each attempt
	os.Exit(m.Run())
}
