package telemetry

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/workflow"
)

// record makes the process's spans go to a recorder until the test ends. Such tests are not parallel: the provider is the process's.
func record(t *testing.T, options ...sdktrace.TracerProviderOption) *tracetest.SpanRecorder {
	t.Helper()
	r := tracetest.NewSpanRecorder()
	otel.SetTracerProvider(sdktrace.NewTracerProvider(append(options, sdktrace.WithSpanProcessor(r))...))
	t.Cleanup(func() { otel.SetTracerProvider(noop.NewTracerProvider()) })
	return r
}

var (
	began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	fit   = Task{Flow: "F", Run: "1", Step: "fit", Name: "fit[7]"}
	done  = End{Outcome: "completed"}
)

// ended are the spans by name.
func ended(r *tracetest.SpanRecorder) map[string]sdktrace.ReadOnlySpan {
	all := map[string]sdktrace.ReadOnlySpan{}
	for _, s := range r.Ended() {
		all[s.Name()] = s
	}
	return all
}

// through is the context of an activity of a workflow that was started with ctx.
func through(t *testing.T, ctx context.Context) context.Context {
	t.Helper()
	h := &commonpb.Header{Fields: map[string]*commonpb.Payload{}}
	p := Propagator()
	require.NoError(t, p.Inject(ctx, header{h}))
	ctx, err := p.Extract(t.Context(), header{h})
	require.NoError(t, err)
	return ctx
}

type header struct{ *commonpb.Header }

func (h header) Set(key string, p *commonpb.Payload) { h.Fields[key] = p }

func (h header) Get(key string) (*commonpb.Payload, bool) {
	p, ok := h.Fields[key]
	return p, ok
}

func (h header) ForEachKey(f func(string, *commonpb.Payload) error) error {
	for k, p := range h.Fields {
		if err := f(k, p); err != nil {
			return err
		}
	}
	return nil
}

var (
	_ workflow.HeaderReader = header{}
	_ workflow.HeaderWriter = header{}
)

// run plays what happens in the processes of a run whose activities have a context.
func run(ctx context.Context) {
	first, a := Attempt(ctx, fit, 1, false)
	_, own := otel.Tracer("author").Start(first, "own")
	own.End()
	Finish(a, End{Outcome: "failed", Class: "Transient", Message: "away"})
	second, b := Attempt(ctx, fit, 2, false)
	Finish(b, done)
	TaskEnded(second, fit, done, began, began.Add(time.Minute))
	RunEnded(ctx, "F", "1", done, began, began.Add(time.Hour))
}

func TestTree(t *testing.T) {
	r := record(t, sdktrace.WithIDGenerator(IDs{}))
	ctx, start := Starting(t.Context(), "F")
	start.End()
	run(through(t, ctx))

	spans := ended(r)
	require.Len(t, r.Ended(), 6)
	for child, parent := range map[string]string{"run F": "start F", "step fit": "run F", "attempt fit": "step fit"} {
		require.Equal(t, spans[parent].SpanContext().SpanID(), spans[child].Parent().SpanID(), child)
	}
	for _, s := range r.Ended() {
		require.Equal(t, start.SpanContext().TraceID(), s.SpanContext().TraceID(), s.Name())
	}
	require.Equal(t, began, spans["step fit"].StartTime())
	require.Equal(t, began.Add(time.Hour), spans["run F"].EndTime())
	failed := r.Ended()[slices.IndexFunc(r.Ended(), func(s sdktrace.ReadOnlySpan) bool { return s.Status().Code == codes.Error })]
	require.Equal(t, "attempt fit", failed.Name())
	require.Equal(t, "away", failed.Status().Description)
	require.Equal(t, failed.SpanContext().SpanID(), spans["own"].Parent().SpanID())
	require.Contains(t, failed.Attributes(), classKey.String("Transient"))
	require.Contains(t, failed.Attributes(), taskKey.String("fit[7]"))
	require.Contains(t, failed.Attributes(), attemptKey.Int(1))
}

// A run whose starter traces nothing has one trace all the same, whichever workers make the spans.
func TestRunWithoutAStartersTrace(t *testing.T) {
	r := record(t, sdktrace.WithIDGenerator(IDs{}))
	run(t.Context())
	spans := ended(r)
	require.Len(t, r.Ended(), 5)
	require.False(t, spans["run F"].Parent().IsValid())
	require.Equal(t, spans["run F"].SpanContext().SpanID(), spans["step fit"].Parent().SpanID())
	require.Equal(t, spans["step fit"].SpanContext().SpanID(), spans["attempt fit"].Parent().SpanID())
	for _, s := range r.Ended() {
		require.Equal(t, runIDs("F", "1").trace, s.SpanContext().TraceID(), s.Name())
	}
}

// The sampler decides for whole runs: also where no starter has.
func TestSampler(t *testing.T) {
	none := record(t, sdktrace.WithIDGenerator(IDs{}), sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.NeverSample())))
	run(t.Context())
	ctx, start := Starting(t.Context(), "F")
	start.End()
	run(through(t, ctx))
	require.Empty(t, none.Ended())

	some := record(t, sdktrace.WithIDGenerator(IDs{}), sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(0.5))))
	whole := 0
	for _, id := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"} {
		k := Task{Flow: "F", Run: id, Step: "s", Name: "s"}
		before := len(some.Ended())
		ctx, span := Attempt(t.Context(), k, 1, false)
		Finish(span, done)
		TaskEnded(ctx, k, done, began, began)
		RunEnded(t.Context(), "F", id, done, began, began)
		n := len(some.Ended()) - before
		require.Contains(t, []int{0, 3}, n)
		whole += n / 3
	}
	require.Positive(t, whole)
	require.Less(t, whole, 10)
}

// With a provider that makes its own ids, attempts hang below what started the run.
func TestForeignProvider(t *testing.T) {
	r := record(t)
	ctx, start := Starting(t.Context(), "F")
	start.End()
	run(through(t, ctx))
	spans := ended(r)
	require.Len(t, r.Ended(), 4)
	require.Equal(t, start.SpanContext().SpanID(), spans["attempt fit"].Parent().SpanID())
}

func TestBatch(t *testing.T) {
	r := record(t, sdktrace.WithIDGenerator(IDs{}))
	ctx, b := Batch(t.Context(), Task{Flow: "F", Run: "1", Step: "grid", Name: "grid[0-99]"}, 1)
	_, item := ItemAttempt(ctx, fit, 1, true)
	Finish(item, done)
	Finish(b, done)
	spans := ended(r)
	require.Equal(t, runIDs("F", "1").span, spans["batch grid"].Parent().SpanID())
	require.Equal(t, spans["batch grid"].SpanContext().SpanID(), spans["catch fit"].Parent().SpanID())
}

// A failure that a catch function took care of is told, but the task is none that failed.
func TestCaughtTask(t *testing.T) {
	r := record(t, sdktrace.WithIDGenerator(IDs{}))
	TaskEnded(t.Context(), fit, End{Outcome: "caught", Class: "Bug", Message: "x"}, began, began)
	s := ended(r)["step fit"]
	require.Equal(t, codes.Ok, s.Status().Code)
	require.Contains(t, s.Attributes(), classKey.String("Bug"))
}

func TestOffCostsNothing(t *testing.T) {
	otel.SetTracerProvider(noop.NewTracerProvider())
	var m *Metrics
	ctx := t.Context()
	require.Zero(t, testing.AllocsPerRun(100, func() {
		ctx, span := Attempt(ctx, fit, 1, false)
		defer m.Began(ctx)()
		Finish(span, done)
		m.Attempt(ctx, fit, done, time.Second, false, false)
		m.Task(ctx, fit, "completed")
		TaskEnded(ctx, fit, done, began, began)
	}))
	require.Equal(t, ctx, through(t, ctx), "no header")
}

// A header of somebody else's does no harm.
func TestStrangeHeader(t *testing.T) {
	h := header{&commonpb.Header{Fields: map[string]*commonpb.Payload{headerKey: {Data: []byte("{")}}}}
	ctx, err := Propagator().Extract(t.Context(), h)
	require.NoError(t, err)
	require.False(t, trace.SpanContextFromContext(ctx).IsValid())
}
