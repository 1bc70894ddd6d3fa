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
			w.Header().Set("Retry-After", "60")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	c := newClient(t, url, predict.Options{MaxParallel: 1, Patience: 2 * time.Minute, Retry: quick(3), Dependency: policies.Dependency{
		Name: "models", Breaker: policies.Breaker{Failures: 3, Cooldown: 5 * time.Second},
	}})
	_, err := predict.Batch[question, reaction](inTask(t, &notes{}), c, questions(5), predict.BatchOptions{})
	d, ok := policies.DeferralOf(err, nil)
	require.True(t, ok, "%v", err)
	require.Greater(t, d.For, 40*time.Second, "5 s is the breaker's")
	require.Less(t, d.For, 70*time.Second)
}

// A long wait is that of an item that is tried again at all, and no longer than the client's MaximumRetryAfter.
func TestBatchParksWhatIsTriedAgain(t *testing.T) {
	t.Parallel()
	const long = 5 * time.Minute
	for name, test := range map[string]struct {
		retry policies.Retry
		parks bool
	}{
		"tried again":     {policies.Retry{MaximumAttempts: 3, MaximumRetryAfter: long}, true},
		"not its class":   {policies.Retry{MaximumAttempts: 3, MaximumRetryAfter: long, NonRetryable: []string{"RateLimited"}}, false},
		"RetryIf refuses": {policies.Retry{MaximumAttempts: 3, MaximumRetryAfter: long, RetryIf: func(error) bool { return false }}, false},
		"on its last try": {policies.Retry{MaximumAttempts: 1, MaximumRetryAfter: long}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, serve(t, code(429, "Retry-After", "86400")), predict.Options{Retry: test.retry})
			out, err := predict.Batch[question, reaction](inTask(t, &notes{}), c, questions(2), predict.BatchOptions{})
			if !test.parks {
				require.NoError(t, err)
				require.Equal(t, map[policies.Class]int{policies.RateLimited: 2}, out.Report.Failed)
				return
			}
			d, ok := policies.DeferralOf(err, nil)
			require.True(t, ok, "%v", err)
			require.Greater(t, d.For, long-time.Minute)
			require.Less(t, d.For, long+10*time.Second, "and a little jitter")
			require.Equal(t, 2, out.Report.Deferred)
		})
	}
}
