package telemetry

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"
)

// headerKey is where the tracing interceptors of Temporal's SDKs keep theirs, in the same form, so that a flow which another
// workflow starts is in that workflow's trace.
const headerKey = "_tracer-data"

// Propagator carries the trace of who starts a workflow to all its activities. Put it into the ContextPropagators of the options of
// clients and workers. A workflow that nobody traces gets no header.
func Propagator() workflow.ContextPropagator { return propagator{} }

type propagator struct{}

type payloadKey struct{}

// Inject implements workflow.ContextPropagator.
func (propagator) Inject(ctx context.Context, w workflow.HeaderWriter) error {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return nil
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	p, err := converter.GetDefaultDataConverter().ToPayload(map[string]string(carrier))
	if err != nil {
		return nil //nolint:nilerr // a trace is not worth failing a run for
	}
	w.Set(headerKey, p)
	return nil
}

// Extract implements workflow.ContextPropagator.
func (propagator) Extract(ctx context.Context, r workflow.HeaderReader) (context.Context, error) {
	p, ok := r.Get(headerKey)
	if !ok {
		return ctx, nil
	}
	var carrier map[string]string
	if err := converter.GetDefaultDataConverter().FromPayload(p, &carrier); err != nil {
		return ctx, nil //nolint:nilerr // as above
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier(carrier)), nil
}

// InjectFromWorkflow implements workflow.ContextPropagator. A workflow hands on what it got.
func (propagator) InjectFromWorkflow(ctx workflow.Context, w workflow.HeaderWriter) error {
	if p, ok := ctx.Value(payloadKey{}).(*commonpb.Payload); ok {
		w.Set(headerKey, p)
	}
	return nil
}

// ExtractToWorkflow implements workflow.ContextPropagator.
func (propagator) ExtractToWorkflow(ctx workflow.Context, r workflow.HeaderReader) (workflow.Context, error) {
	if p, ok := r.Get(headerKey); ok {
		ctx = workflow.WithValue(ctx, payloadKey{}, p)
	}
	return ctx, nil
}

// Parent is the span of a context for a process that this one starts, in the form of W3C's traceparent. It is "" without a span.
func Parent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier["traceparent"]
}

// WithParent returns a context whose span is that of the process which started this one.
func WithParent(ctx context.Context, parent string) context.Context {
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": parent})
}
