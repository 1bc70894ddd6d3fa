package guard

import (
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go/adaptivethrottler"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stepwell-flows/stepwell/policies"
)

// Breakers and throttles decide as those of failsafe-go do, for the same calls.
func TestStateDecidesLikeFailsafe(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		failures := rapid.IntRange(1, 8).Draw(t, "failures")
		percent := float64(rapid.IntRange(1, 99).Draw(t, "percent"))
		s := State{}
		s.use(policies.Dependency{
			Breaker:  policies.Breaker{Failures: failures, Percent: 1e-9, Window: time.Hour, Cooldown: time.Hour},
			Throttle: policies.Throttle{Percent: percent, Window: time.Hour},
		})
		breaker := circuitbreaker.NewBuilder[any]().WithFailureThresholdPeriod(uint(failures), time.Hour).WithDelay(time.Hour).Build()
		throttler := adaptivethrottler.NewBuilder[any]().WithFailureRateThreshold(percent/100, minRequests, time.Hour).Build()
		for range rapid.IntRange(1, 100).Draw(t, "calls") {
			now, c := time.Now(), Counts{Calls: 1}
			if rapid.Bool().Draw(t, "fails") {
				c.Failures = 1
				breaker.RecordFailure()
				throttler.RecordFailure()
			} else {
				breaker.RecordSuccess()
				throttler.RecordSuccess()
			}
			s.Breaker.add(now, now, c)
			s.Throttle.add(now, now, c)
			s.trip(now, s.Breaker.sum(now), 0)
			require.Equal(t, breaker.IsOpen(), s.Open)
			throttler.TryAcquirePermit()
			require.InDelta(t, throttler.RejectionRate(), s.refusal(s.Throttle.sum(now)), 1e-9)
		}
	})
}
