package predict

import (
	"context"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/stepwell-flows/stepwell/policies"
)

// A call has a span, and each of its attempts one below it. They go to the process's tracer provider; without one they cost
// nothing.

const scope = "github.com/stepwell-flows/stepwell/activities/predict"

func tracer() trace.Tracer { return otel.Tracer(scope) }

func (c *Client) startCall(ctx context.Context, key string) (context.Context, trace.Span) {
	return tracer().Start(ctx, "predict "+c.name(), trace.WithAttributes(attribute.String("stepwell.idempotency_key", key))) //nolint:spancheck // the caller ends it
}

func (c *Client) startAttempt(ctx context.Context, h heading, n int, hedge bool) (context.Context, trace.Span) {
	//nolint:spancheck // the caller ends it
	return tracer().Start(ctx, "predict attempt", trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.Int("stepwell.attempt", n), attribute.Bool("stepwell.hedge", hedge), attribute.String("stepwell.request_id", h.request),
		attribute.String("server.address", c.transport.target()),
	))
}

func endAttempt(span trace.Span, s sending) {
	if s.status != "" {
		span.SetAttributes(attribute.String("stepwell.status", s.status), attribute.Bool("stepwell.replayed", s.replayed))
	}
	endSpan(span, s.err, s.failure)
}

func endSpan(span trace.Span, err error, f *policies.Failure) {
	if err != nil && f != nil {
		span.SetStatus(codes.Error, f.Message)
		span.SetAttributes(attribute.String("stepwell.class", string(f.Class)))
	}
	span.End()
}
