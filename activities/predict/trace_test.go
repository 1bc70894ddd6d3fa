package predict_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace"

	"github.com/stepwell-flows/stepwell/activities/predict"
	"github.com/stepwell-flows/stepwell/policies"
)

// A call has a span and each attempt one below it, which the server's own span can be put under.
func TestTrace(t *testing.T) {
	t.Parallel()
	var parents []string
	then := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		parents = append(parents, r.Header.Get("traceparent"))
		if len(parents) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		double(w, r)
	})
	c := newClient(t, serve(t, then), predict.Options{Retry: quick(2), Dependency: policies.Dependency{Name: "traced"}})
	_, err := ask(t.Context(), c, 1)
	require.NoError(t, err)

	var call trace.ReadOnlySpan
	for _, s := range spans.Ended() {
		if s.Name() == "predict traced" {
			call = s
		}
	}
	require.NotNil(t, call)
	require.Contains(t, call.Attributes(), attribute.String("stepwell.idempotency_key", "q1"))
	require.Equal(t, codes.Unset, call.Status().Code)
	var attempts []trace.ReadOnlySpan
	for _, s := range spans.Ended() {
		if s.Parent().SpanID() == call.SpanContext().SpanID() {
			attempts = append(attempts, s)
		}
	}
	require.Len(t, attempts, 2)
	require.Equal(t, codes.Error, attempts[0].Status().Code)
	require.Contains(t, attempts[0].Attributes(), attribute.String("stepwell.class", "Transient"))
	require.Contains(t, attempts[0].Attributes(), attribute.String("stepwell.status", "503"))
	require.Contains(t, attempts[1].Attributes(), attribute.Int("stepwell.attempt", 2))
	for i, s := range attempts {
		require.True(t, strings.HasPrefix(parents[i], "00-"+call.SpanContext().TraceID().String()+"-"+s.SpanContext().SpanID().String()), parents[i])
	}
}
