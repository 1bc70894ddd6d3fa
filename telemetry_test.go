package stepwell_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/telemetry"
)

// ownWorker is what docs/telemetry.md shows.
func ownWorker(exporter sdktrace.SpanExporter, meter metric.Meter, store *artifacts.Store, flows ...*flow.Flow) (worker.Worker, error) {
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithIDGenerator(telemetry.IDs{})))
	c, err := client.Dial(client.Options{
		ContextPropagators: []workflow.ContextPropagator{telemetry.Propagator()},
		MetricsHandler:     telemetry.Temporal(meter),
	})
	if err != nil {
		return nil, err
	}
	return stepwell.NewWorker(c, store, stepwell.WorkerOptions{Meter: meter}, flows...)
}

func TestOwnWorkerCompiles(t *testing.T) {
	t.Parallel()
	require.NotNil(t, ownWorker)
}
