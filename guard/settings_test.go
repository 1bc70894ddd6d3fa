package guard_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/guard"
	"github.com/stepwell-flows/stepwell/policies"
)

// Steps and clients that give a dependency's name with other parts leave what is known of the rest alone.
func TestPartsThatAreNotGivenStay(t *testing.T) {
	t.Parallel()
	c := newClock()
	r := guard.New(guard.Options{Now: c.Now})
	client := policies.Dependency{Name: "model", Breaker: policies.Breaker{Failures: 2, Cooldown: time.Minute}, Budget: policies.Budget{Percent: 10, Minimum: 1}}
	step := func() {
		call(t, r.Dependency(policies.Dependency{Name: "model"}), nil)
		require.NoError(t, r.Dependency(policies.Dependency{Name: "model"}).AllowRetry(), "with nothing but a name there is no bound")
	}
	call(t, r.Dependency(client), down)
	step()
	require.NoError(t, r.Dependency(client).AllowRetry())
	step()
	require.Error(t, r.Dependency(client).AllowRetry())
	call(t, r.Dependency(client), down)
	step()
	refusal(t, r.Dependency(client))

	other := policies.Dependency{Name: "model", Throttle: policies.Throttle{Percent: 50}}
	require.Contains(t, refusal(t, r.Dependency(other)).Reason, "2 of 2 calls failed within 30s")
	c.move(time.Minute)
	probe, err := r.Dependency(client).Begin(false)
	require.NoError(t, err)
	probe.End(down)
	require.Equal(t, time.Minute, refusal(t, r.Dependency(client)).For)
}

func TestBoardKeepsPartsThatAReportDoesNotHave(t *testing.T) {
	t.Parallel()
	now := newClock().Now()
	var b guard.Board
	report := func(worker string, seq int, d policies.Dependency, failures int) guard.Answer {
		d.Name = "model"
		r := guard.Report{Key: "dependency/model", Worker: worker, Seq: seq, Settings: d.WithDefaults(), Counts: guard.Counts{Calls: failures, Failures: failures, Firsts: 1}, WantRetries: 1}
		require.NoError(t, r.Check())
		return b.Report(now, r)
	}
	breaker := policies.Dependency{Breaker: policies.Breaker{Failures: 2}}
	budget := policies.Dependency{Budget: policies.Budget{Percent: 10, Minimum: 1}}
	report("a", 1, breaker, 2)
	require.Equal(t, 1, report("b", 1, budget, 0).Retries)
	require.True(t, report("a", 2, breaker, 0).Open)
	require.Zero(t, report("b", 2, budget, 0).Retries, "the one that there is was lent")
	require.True(t, report("b", 3, policies.Dependency{}, 0).Open)
}

// A process that was given no breaker has nothing to hold calls back with, whatever others know.
func TestProcessWithoutABreakerIsNotHeld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, s, a, _ := two(policies.Dependency{Breaker: policies.Breaker{Failures: 1}})
		other := guard.New(guard.Options{Now: c.Now, Sharer: s, Worker: "c"}).Dependency(policies.Dependency{Name: "model", Budget: policies.Budget{Percent: 10}})
		call(t, a, down)
		eventually(t, "it is open", func() bool { return s.view().State == guard.Opened })
		for range 3 {
			call(t, other, nil)
			c.move(11 * time.Second)
		}
		require.Equal(t, guard.HalfOpen, s.view().State)
		require.Equal(t, 1, s.view().Settings.Breaker.Failures)
		require.InDelta(t, 10, s.view().Settings.Budget.Percent, 0)
	})
}

// An open breaker is not forgotten before it may be probed, however many other dependencies come and go.
func TestRegistryKeepsAnOpenBreaker(t *testing.T) {
	t.Parallel()
	c := newClock()
	r := guard.New(guard.Options{Now: c.Now})
	model := policies.Dependency{Name: "model", Breaker: policies.Breaker{Failures: 1, Cooldown: time.Hour}}
	call(t, r.Dependency(model), down)
	for i := range 50 {
		c.move(time.Minute)
		for j := range 10 {
			_ = r.Run("TrainFlow", fmt.Sprint(i, "-", j), policies.Budget{Percent: 10}).AllowRetry()
		}
	}
	require.Equal(t, 10*time.Minute, refusal(t, r.Dependency(model)).For)
}
