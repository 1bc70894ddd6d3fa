package telemetry

import (
	"context"
	"reflect"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

const scope = "github.com/stepwell-flows/stepwell"

// Task names a task of a run.
type Task struct {
	Flow, Run, Step string
	// Name is the task's, with its index.
	Name string
}

// End says how something ended.
type End struct {
	// Outcome is how, "completed" for example.
	Outcome string
	// Class and Message are of the failure, "" if there is none.
	Class, Message string
}

// tracing is what is known of the process's tracer provider.
type tracing struct {
	provider trace.TracerProvider
	tracer   trace.Tracer
	// on says that spans go somewhere, and named that their ids can be chosen.
	on, named bool
}

// off is the span of a process that traces nothing.
var off trace.Span = noop.Span{}

var known atomic.Pointer[tracing]

// current looks at the provider again whenever the process has set another one.
func current() *tracing {
	p := otel.GetTracerProvider()
	if t := known.Load(); t != nil && same(t.provider, p) {
		return t
	}
	t := &tracing{provider: p, tracer: p.Tracer(scope)}
	sc := t.peek(context.Background(), runIDs("", ""))
	t.on, t.named = sc.IsValid(), sc.SpanID() == runIDs("", "").span
	known.Store(t)
	return t
}

func same(a, b trace.TracerProvider) bool {
	return reflect.TypeOf(a).Comparable() && reflect.TypeOf(b).Comparable() && a == b
}

// peek is the context that a root span with these ids would have: it asks the sampler. The span is dropped.
func (t *tracing) peek(ctx context.Context, c chosen) trace.SpanContext {
	_, span := t.tracer.Start(choose(ctx, c), "peek", trace.WithNewRoot()) //nolint:spancheck // a span that never ends goes nowhere
	return span.SpanContext()                                              //nolint:spancheck // as above
}

// below returns a context for what is below a run's or a task's span.
func (t *tracing) below(ctx context.Context, flow, run string, span trace.SpanID) context.Context {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsValid() {
		sc = t.peek(ctx, runIDs(flow, run))
	}
	return trace.ContextWithRemoteSpanContext(ctx, sc.WithSpanID(span))
}

// Starting begins the span of a client that starts a run. The caller ends it.
func Starting(ctx context.Context, flow string) (context.Context, trace.Span) {
	t := current()
	if !t.on {
		return ctx, off
	}
	//nolint:spancheck // the caller ends it
	return t.tracer.Start(ctx, "start "+flow, trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(flowKey.String(flow)))
}

// Attempt begins the span of an attempt, below that of its task. The caller ends it with [Finish].
func Attempt(ctx context.Context, k Task, number int, catch bool) (context.Context, trace.Span) {
	t := current()
	if !t.on {
		return ctx, off
	}
	if t.named {
		ctx = t.below(ctx, k.Flow, k.Run, taskID(k.Flow, k.Run, k.Name))
	}
	return t.attempt(ctx, k, number, catch)
}

// ItemAttempt begins the span of an attempt in a batch, below the batch's.
func ItemAttempt(ctx context.Context, k Task, number int, catch bool) (context.Context, trace.Span) {
	t := current()
	if !t.on {
		return ctx, off
	}
	return t.attempt(ctx, k, number, catch)
}

func (t *tracing) attempt(ctx context.Context, k Task, number int, catch bool) (context.Context, trace.Span) {
	name := "attempt " + k.Step
	if catch {
		name = "catch " + k.Step
	}
	//nolint:spancheck // the caller ends it
	return t.tracer.Start(ctx, name, trace.WithAttributes(append(k.attributes(), attemptKey.Int(number))...))
}

// Batch begins the span of one attempt at a batch of a foreach's items, below that of the run. The caller ends it with [Finish].
func Batch(ctx context.Context, k Task, number int) (context.Context, trace.Span) {
	t := current()
	if !t.on {
		return ctx, off
	}
	if t.named {
		ctx = t.below(ctx, k.Flow, k.Run, runIDs(k.Flow, k.Run).span)
	}
	//nolint:spancheck // the caller ends it
	return t.tracer.Start(ctx, "batch "+k.Step, trace.WithAttributes(append(k.attributes(), attemptKey.Int(number))...))
}

// Finish ends a span, if there is one.
func Finish(span trace.Span, e End) {
	if span != nil {
		describe(span, e)
		span.End()
	}
}

func describe(span trace.Span, e End) {
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(outcomeKey.String(e.Outcome))
	if e.Class != "" {
		span.SetAttributes(classKey.String(e.Class))
		span.SetStatus(codes.Error, e.Message)
	}
	if e.Outcome == "caught" || e.Outcome == "skipped" { // the failure did not stay
		span.SetStatus(codes.Ok, "")
	}
}

// past makes the span of what has ended.
func (t *tracing) past(ctx context.Context, name string, e End, began, ended time.Time, attrs ...attribute.KeyValue) {
	_, span := t.tracer.Start(ctx, name, trace.WithTimestamp(began), trace.WithAttributes(attrs...))
	describe(span, e)
	span.End(trace.WithTimestamp(ended))
}

// TaskEnded makes the span of a task that ended, below that of its run. The context is of the attempt that ended it.
func TaskEnded(ctx context.Context, k Task, e End, began, ended time.Time) {
	if t := current(); t.on && t.named {
		ctx = t.below(ctx, k.Flow, k.Run, runIDs(k.Flow, k.Run).span)
		t.past(choose(ctx, chosen{span: taskID(k.Flow, k.Run, k.Name)}), "step "+k.Step, e, began, ended, k.attributes()...)
	}
}

// RunEnded makes the span of a run that ended, below the one that started it. The context is of an activity of the run.
func RunEnded(ctx context.Context, flow, run string, e End, began, ended time.Time) {
	if t := current(); t.on && t.named {
		t.past(choose(ctx, runIDs(flow, run)), "run "+flow, e, began, ended, flowKey.String(flow), runKey.String(run))
	}
}

// The attributes of spans.
const (
	flowKey    = attribute.Key("stepwell.flow")
	runKey     = attribute.Key("stepwell.run")
	stepKey    = attribute.Key("stepwell.step")
	taskKey    = attribute.Key("stepwell.task")
	attemptKey = attribute.Key("stepwell.attempt")
	outcomeKey = attribute.Key("stepwell.outcome")
	classKey   = attribute.Key("stepwell.class")
)

func (k Task) attributes() []attribute.KeyValue {
	return []attribute.KeyValue{flowKey.String(k.Flow), runKey.String(k.Run), stepKey.String(k.Step), taskKey.String(k.Name)}
}
