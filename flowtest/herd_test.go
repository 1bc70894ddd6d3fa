package flowtest_test

import (
	"context"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/workflows"
)

const herd = 1000

type herdState struct {
	URL   string `param:"url"`
	Calls int
}

// comeback lets a herd of items call a service at the same moment, which refuses each of them once, and returns how long after that
// each of them came back, in order.
func comeback(t *testing.T, refusal flowtest.Reply, retry policies.Retry) []time.Duration {
	t.Helper()
	fake := flowtest.NewFake(t)
	fake.EachKey(refusal)
	f := flow.New("HerdFlow",
		flow.Foreach("all", func(*herdState) []int { return make([]int, herd) }, func(*herdState, int) {},
			flow.Step("call", func(ctx context.Context, s *herdState) error {
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
				if err != nil {
					return err
				}
				req.Header.Set("Idempotency-Key", flow.IdempotencyKey(ctx))
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					return err
				}
				if err := policies.CheckResponse(resp); err != nil {
					return err
				}
				return resp.Body.Close()
			}, retry, policies.Timeout{Heartbeat: time.Hour}),
		).Join("count", func(_ context.Context, s *herdState, in flow.Inputs[herdState]) error {
			s.Calls = in.Len()
			return nil
		}))
	var mu sync.Mutex
	chance := rand.New(rand.NewPCG(1, 2))
	r := flowtest.Run(t, f, flowtest.Options{
		Params: map[string]string{"url": fake.URL()}, Prepare: fake.Prepare,
		Limits: &workflows.Limits{Tasks: 1, Shard: herd / 8, Window: herd, Shards: 8, Activities: herd}, // all at once
		Random: func() float64 {
			mu.Lock()
			defer mu.Unlock()
			return chance.Float64()
		},
	})
	require.Equal(t, records.StatusCompleted, r.Status, "%+v", r.Failure)
	fake.RequireRetryAfter(t)
	var after []time.Duration
	began := fake.Requests()[0].Received
	for _, requests := range fake.ByKey() {
		require.Len(t, requests, 2)
		require.Less(t, requests[0].Received.Sub(began), 10*time.Second, "they came together")
		after = append(after, requests[1].Received.Sub(requests[0].Received))
	}
	require.Len(t, after, herd)
	slices.Sort(after)
	return after
}

// distance is the Kolmogorov-Smirnov statistic of sorted times against a uniform distribution over a window: the largest difference
// between the share of the window that has passed and the share of the times that have.
func distance(times []time.Duration, from, length time.Duration) float64 {
	d, n := 0.0, float64(len(times))
	for i, at := range times {
		passed := min(max(float64(at-from)/float64(length), 0), 1)
		d = max(d, passed-float64(i)/n, float64(i+1)/n-passed)
	}
	return d
}

// busiest is the largest number of sorted times within a hundredth of the window.
func busiest(times []time.Duration, length time.Duration) int {
	most, first := 0, 0
	for i, at := range times {
		for at-times[first] > length/100 {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// bound is what the distance of n independent uniform times exceeds once in a million, from the limit of Kolmogorov's distribution:
// P(D > d) ≈ 2 exp(-2 n d²).
func bound(n int) float64 { return math.Sqrt(math.Log(2e6) / 2 / float64(n)) }

// A thousand items that failed at the same moment come back spread over the window of the policy's wait.
func TestHerdComesBackSpread(t *testing.T) {
	t.Parallel()
	down := flowtest.Reply{Status: http.StatusServiceUnavailable}
	asks := flowtest.Reply{Status: http.StatusServiceUnavailable, RetryAfter: policies.ParkAfter}
	for name, test := range map[string]struct {
		refusal      flowtest.Reply
		retry        policies.Retry
		from, length time.Duration
	}{
		"full jitter": {down, policies.Retry{InitialInterval: time.Hour}, 0, time.Hour},
		// A wait that was asked for is a lower bound. Jitter adds to it: no more than was asked for, and no more than the
		// policy's own wait.
		"retry-after": {asks, policies.Retry{InitialInterval: 5 * time.Minute}, time.Minute, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.retry.MaximumAttempts = 2
			after := comeback(t, test.refusal, test.retry)
			d, most := distance(after, test.from, test.length), busiest(after, test.length)
			t.Logf("from %s to %s, distance %.3f, at most %d within %s", after[0], after[herd-1], d, most, test.length/100)
			require.GreaterOrEqual(t, after[0], test.from)
			require.Less(t, d, bound(herd))
			require.Less(t, most, 40, "a hundredth of the window has ten on average")
		})
	}
	t.Run("no jitter is a herd", func(t *testing.T) {
		t.Parallel()
		after := comeback(t, down, policies.Retry{MaximumAttempts: 2, InitialInterval: time.Hour, Jitter: policies.NoJitter})
		require.Greater(t, distance(after, 0, time.Hour), bound(herd), "the test can tell")
		require.Greater(t, busiest(after, time.Hour), herd/2)
	})
}
