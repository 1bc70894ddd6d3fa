package predict_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/activities/predict"
	"github.com/stepwell-flows/stepwell/policies"
)

// mine is a response whose decoder is the author's, and panics for one answer.
type mine struct{ twice int }

func (m *mine) UnmarshalJSON(b []byte) error {
	var r reaction
	if err := json.Unmarshal(b, &r); err != nil {
		return err
	}
	if r.Twice == 6 {
		panic("six")
	}
	m.twice = r.Twice
	return nil
}

// What panics while an answer is read is a failure of that item, and of nothing else.
func TestPanicInADecoder(t *testing.T) {
	t.Parallel()
	for name, chunk := range map[string]int{"one by one": 1, "in chunks": 4} {
		t.Run("batch "+name, func(t *testing.T) {
			t.Parallel()
			var h http.Handler = http.HandlerFunc(double)
			if chunk > 1 {
				h = predict.BatchHandler(h, predict.BatchHandlerOptions{})
			}
			c := newClient(t, serve(t, h), predict.Options{Retry: quick(3)})
			out, err := predict.Batch[question, mine](inTask(t, &notes{}), c, questions(8), predict.BatchOptions{Chunk: chunk})
			require.NoError(t, err)
			require.Equal(t, map[policies.Class]int{policies.Bug: 1}, out.Report.Failed)
			require.Equal(t, "PanicError", out.Results[3].Failure.Type)
			require.Contains(t, out.Results[3].Failure.Stack, "UnmarshalJSON")
			require.Equal(t, 14, out.Results[7].Value.twice)
		})
	}
	for name, o := range map[string]predict.Options{"call": {}, "hedged call": {Hedge: 1e9}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := predict.Call[question, mine](t.Context(), newClient(t, serve(t, http.HandlerFunc(double)), o), "op", question{3})
			require.Equal(t, policies.Bug, policies.Classify(err).Class, "%v", err)
		})
	}
}

// The end of the caller's own time says nothing about the service, however many requests it cuts.
func TestCallersDeadlineOpensNoBreaker(t *testing.T) {
	t.Parallel()
	var slow atomic.Bool
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, _ = io.Copy(io.Discard, r.Body); slow.Load() {
			<-r.Context().Done()
			return
		}
		_, _ = io.WriteString(w, `{"twice":2}`)
	}))
	models := policies.Dependency{Name: "models", Breaker: policies.Breaker{Failures: 3, Cooldown: time.Minute}}
	parent := inTask(t, &notes{})
	for name, o := range map[string]predict.Options{
		"the context's":  {},
		"hedged context": {Hedge: time.Millisecond},
	} {
		o.Dependency, o.Retry = models, quick(1)
		c := newClient(t, url, o)
		slow.Store(true)
		for i := range 5 {
			ctx, cancel := context.WithTimeout(parent, 100*time.Millisecond)
			_, err := ask(ctx, c, i)
			require.ErrorIs(t, err, context.DeadlineExceeded, name)
			require.Equal(t, policies.TimedOut, policies.Classify(err).Class, name)
			cancel()
		}
		slow.Store(false)
		_, err := ask(parent, c, 10)
		require.NoError(t, err, name)
	}
	c := newClient(t, url, predict.Options{Timeout: 20 * time.Millisecond, Dependency: models, Retry: quick(1)})
	slow.Store(true)
	for i := range 3 {
		_, err := ask(parent, c, i)
		require.Equal(t, policies.TimedOut, policies.Classify(err).Class)
	}
	_, err := ask(parent, c, 10)
	require.ErrorContains(t, err, `breaker of "models" is open`, "its own Timeout does")
}
