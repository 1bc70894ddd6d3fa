package predictions

import (
	"fmt"
	"hash/fnv"
	"math"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/activities/predict"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/artifacts/mem"
	"github.com/stepwell-flows/stepwell/examples/modelserver/serve"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

// odd stands for a model: what it says depends on the request alone.
func odd(w http.ResponseWriter, r *http.Request) {
	b := make([]byte, 1000)
	n, _ := r.Body.Read(b)
	h := fnv.New32a()
	_, _ = h.Write(b[:n])
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"probability":%g}`, float64(h.Sum32()%1000)/1000)
}

func TestFlow(t *testing.T) {
	t.Parallel()
	const count = 120
	run := func(t *testing.T, batch int, faults serve.Faults) (*State, *serve.Counter) {
		t.Helper()
		executed := &serve.Counter{}
		s := httptest.NewServer(serve.Handler(executed.Wrap(http.HandlerFunc(odd)), artifacts.New(mem.New(), artifacts.Options{}), predict.ServerOptions{}, faults))
		t.Cleanup(s.Close)
		r := flowtest.Run(t, Flow(), flowtest.Options{Params: map[string]string{
			"server": s.URL, "count": fmt.Sprint(count), "batch": fmt.Sprint(batch),
		}})
		require.Equal(t, records.StatusCompleted, r.Status, "%+v", r.Failure)
		last, err := r.Last(t.Context())
		require.NoError(t, err)
		state, err := runs.LoadState[State](t.Context(), last, Flow())
		require.NoError(t, err)
		require.Len(t, state.Probabilities, count)
		return state, executed
	}
	want, _ := run(t, 50, serve.Faults{})
	require.Empty(t, want.Failed)
	require.InDelta(t, 0.5, want.Mean, 0.2)
	for name, batch := range map[string]int{"each": 0, "batches": 50} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, executed := run(t, batch, serve.Faults{Transient: 0.3, Limited: 0.02, RetryAfter: time.Second, Permanent: 0.15})
			refused := 0
			for i, p := range got.Probabilities {
				if math.IsNaN(p) {
					refused++
					continue
				}
				require.InDelta(t, want.Probabilities[i], p, 0, "flight %d", i)
			}
			require.Positive(t, got.Failed[string(policies.Invalid)])
			for class, n := range got.Failed {
				require.Contains(t, []string{"Invalid", "Transient", "RateLimited"}, class)
				refused -= n
			}
			require.Zero(t, refused, "a flight without a prediction has a class")
			keys, _, most := executed.Stats()
			require.Equal(t, 1, most, "no flight is predicted twice")
			require.LessOrEqual(t, keys, count)
			require.Greater(t, keys, count/2)
		})
	}
}

func TestFlowRefusesParameters(t *testing.T) {
	t.Parallel()
	for name, params := range map[string]map[string]string{
		"count": {"count": "20001"}, "batch": {"batch": "-1"}, "server": {"server": "localhost"},
	} {
		r := flowtest.Run(t, Flow(), flowtest.Options{Params: params})
		require.Equal(t, records.StatusFailed, r.Status)
		require.Contains(t, r.Failure.Message, name)
		require.Equal(t, policies.Permanent, r.Failure.Class)
	}
}
