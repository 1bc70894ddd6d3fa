package stepwell

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"go.opentelemetry.io/otel/metric"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/workflow"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/telemetry"
	telemetryexport "github.com/stepwell-flows/stepwell/telemetry/export"
)

// observing is how a process tells what it does, for verbs that run or change something.
type observing struct {
	export *telemetryexport.Export
	meter  metric.Meter // nil if metrics go nowhere
	store  func(artifacts.Call)
}

// observe begins to send spans and metrics, if the environment or a flag asks for it.
func (c *command) observe(ctx context.Context) (err error) {
	o := &c.observing
	o.export, err = telemetryexport.Start(ctx, telemetryexport.Options{
		Env: c.io.Env, Metrics: c.set.metrics, Version: codeVersion(), Instance: workerIdentity(),
		Warn: func(line string) { fmt.Fprintln(c.io.Err, "warning:", clean(line)) },
	})
	if err != nil {
		return &unusableError{err}
	}
	if o.meter = o.export.Meter(); o.meter == nil {
		return nil
	}
	m, err := telemetry.NewMetrics(o.meter)
	if err != nil {
		o.export.Close()
		return err
	}
	o.store = func(c artifacts.Call) { m.Store(c.Operation, c.Outcome, c.Took) }
	return nil
}

func metricsFlag(cmd *cobra.Command, to *string) {
	cmd.Flags().StringVar(to, "metrics", "", "serve metrics for Prometheus on host:port, for example 127.0.0.1:9464 (default STEPWELL_METRICS, else nowhere)")
}

// serveMetrics is for verbs that run steps until they are stopped.
func (c *command) serveMetrics(flag string) {
	c.set.metrics = flag
	if flag == "" {
		c.set.metrics, _ = c.io.Env("STEPWELL_METRICS")
	}
}

// end sends the rest.
func (o *observing) end() {
	if o.export != nil {
		o.export.Close()
	}
}

// client lets a client carry traces, and count.
func (o *observing) client(to *client.Options) {
	to.ContextPropagators = []workflow.ContextPropagator{telemetry.Propagator()}
	if o.meter != nil {
		to.MetricsHandler = telemetry.Temporal(o.meter)
	}
}

// calmServer takes the variable away with which an embedded server would send spans of its own, of each of its calls, or not start at all
// if the rest is not to its liking. It does not come back: this process may start the server later, when another one ends.
func calmServer() { _ = os.Unsetenv("OTEL_TRACES_EXPORTER") }
