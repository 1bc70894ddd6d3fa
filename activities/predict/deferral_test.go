package predict_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/activities/predict"
	"github.com/stepwell-flows/stepwell/policies"
)

// A batch that an open breaker parks comes back when the longest wait that any of its items was asked for is over, too.
func TestBatchParksForTheLongestWait(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			w.Header().Set("Retry-After", "30")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	c := newClient(t, url, predict.Options{MaxParallel: 1, Retry: quick(3), Dependency: policies.Dependency{
		Name: "models", Breaker: policies.Breaker{Failures: 3, Cooldown: 5 * time.Second},
	}})
	_, err := predict.Batch[question, reaction](inTask(t, &notes{}), c, questions(5), predict.BatchOptions{})
	d, ok := policies.DeferralOf(err, nil)
	require.True(t, ok, "%v", err)
	require.Greater(t, d.For, 25*time.Second, "5 s is the breaker's")
	require.Less(t, d.For, 35*time.Second)
}
