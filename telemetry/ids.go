package telemetry

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"strings"

	"go.opentelemetry.io/otel/trace"
)

// IDs makes the ids of spans: chosen ones for runs and steps, random ones for all others. Give it to the SDK's tracer provider,
// with sdktrace.WithIDGenerator; without it attempts hang below the span that started their run, and there are no spans of runs and
// steps. The zero value is ready, and safe for concurrent use.
type IDs struct{}

// NewIDs implements the SDK's IDGenerator.
func (g IDs) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	if c, ok := ctx.Value(chosenKey{}).(chosen); ok {
		return c.trace, c.span
	}
	var id trace.TraceID
	for !id.IsValid() {
		binary.LittleEndian.PutUint64(id[:8], rand.Uint64())
		binary.LittleEndian.PutUint64(id[8:], rand.Uint64())
	}
	return id, g.NewSpanID(ctx, id)
}

// NewSpanID implements the SDK's IDGenerator.
func (IDs) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	if c, ok := ctx.Value(chosenKey{}).(chosen); ok {
		return c.span
	}
	var id trace.SpanID
	for !id.IsValid() {
		binary.LittleEndian.PutUint64(id[:], rand.Uint64())
	}
	return id
}

// chosen are the ids of the one span that is started with a context.
type chosen struct {
	trace trace.TraceID
	span  trace.SpanID
}

type chosenKey struct{}

func choose(ctx context.Context, c chosen) context.Context {
	return context.WithValue(ctx, chosenKey{}, c)
}

// runIDs are the ids of a run: that of its span, and that of its trace if nobody gave one.
func runIDs(flow, run string) chosen {
	return chosen{trace: trace.TraceID(digest("trace", flow, run)), span: spanID("run", flow, run)}
}

func taskID(flow, run, task string) trace.SpanID { return spanID("task", flow, run, task) }

func spanID(words ...string) trace.SpanID {
	sum := digest(words...)
	return trace.SpanID(sum[:8])
}

func digest(words ...string) [16]byte {
	sum := sha256.Sum256([]byte("stepwell\x00" + strings.Join(words, "\x00")))
	return [16]byte(sum[:16])
}
