package policies_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stepwell-flows/stepwell/policies"
)

func explain(t require.TestingT, s policies.Spec, a policies.Assumptions) policies.Explanation {
	e, err := policies.Explain(s, a)
	require.NoError(t, err)
	return e
}

func TestExplain(t *testing.T) {
	t.Parallel()
	retry := policies.Retry{MaximumAttempts: 4, InitialInterval: 2 * time.Second}
	timeout := policies.Timeout{Attempt: time.Minute, Queue: 10 * time.Second}
	e := explain(t, policies.NewSpec(&retry, &timeout, nil), policies.Assumptions{FailureRate: 0.1, AttemptTime: time.Second, ClientAttempts: 3, Resumes: 1})
	require.Equal(t, 4, e.Attempts)
	require.Equal(t, 5, e.Lost)
	require.Equal(t, []policies.Wait{
		{After: 1, Mean: time.Second, Most: 2 * time.Second},
		{After: 2, Mean: 2 * time.Second, Most: 4 * time.Second},
		{After: 3, Mean: 4 * time.Second, Most: 8 * time.Second},
	}, e.Waits)
	require.Equal(t, 14*time.Second, e.LongestWaits)
	require.Equal(t, 4*70*time.Second+14*time.Second, e.Worst)
	require.Equal(t, 4, e.Fit)
	require.InDelta(t, 0.9999, e.Success, 1e-12)
	require.InDelta(t, 1.111, e.ExpectedAttempts, 1e-12)
	// 1.111 s of attempts; 0.1 × 1 s, 0.01 × 2 s, 0.001 × 4 s of waits.
	require.InDelta(t, 1.111+0.1+0.02+0.004, e.ExpectedTime.Seconds(), 1e-9)
	require.Equal(t, time.Second, e.P50)
	// Beyond 90% there are two attempts, of 9% of all: 5/9 of them are in within 2 s and 5/9 of the wait of at most 2 s.
	require.InDelta(t, 2+2*5./9, e.P95.Seconds(), 2e-3)
	require.Equal(t, policies.Load{Step: 4, Stacked: 4 * 3 * 2}, e.Load)
}

func TestExplainWaits(t *testing.T) {
	t.Parallel()
	s := policies.NewSpec(&policies.Retry{MaximumAttempts: 5, InitialInterval: time.Second, MaximumInterval: 2 * time.Second, Jitter: policies.EqualJitter}, nil, nil)
	e := explain(t, s, policies.Assumptions{})
	require.Equal(t, []policies.Wait{
		{1, 500 * time.Millisecond, 750 * time.Millisecond, time.Second},
		{2, time.Second, 1500 * time.Millisecond, 2 * time.Second},
		{3, time.Second, 1500 * time.Millisecond, 2 * time.Second},
	}, e.Waits, "the others are as long as the last one")
	require.Equal(t, 7*time.Second, e.LongestWaits)
	require.Equal(t, policies.Forever, e.Worst, "an attempt may hang")
	s.Jitter = policies.NoJitter
	require.Equal(t, policies.Wait{After: 1, Least: time.Second, Mean: time.Second, Most: time.Second}, explain(t, s, policies.Assumptions{}).Waits[0])
	require.Empty(t, explain(t, policies.NewSpec(nil, nil, nil), policies.Assumptions{}).Waits)
}

func TestExplainTotal(t *testing.T) {
	t.Parallel()
	s := policies.NewSpec(
		&policies.Retry{MaximumAttempts: 3, InitialInterval: time.Second, BackoffCoefficient: 1, Jitter: policies.NoJitter},
		&policies.Timeout{Attempt: 2 * time.Second, Total: 4500 * time.Millisecond}, nil)
	e := explain(t, s, policies.Assumptions{FailureRate: 0.5, AttemptTime: time.Second})
	require.Equal(t, s.Timeout.Total, e.Worst)
	require.Equal(t, 1, e.Fit, "two attempts of 2s and a wait are 5s")
	// Attempts end after 1, 3 and 5 s; the third one is cut off.
	require.InDelta(t, 0.75, e.Success, 1e-9)
	require.InDelta(t, 1.75, e.ExpectedAttempts, 1e-9)
	require.InDelta(t, 0.5*1+0.25*3+0.25*4.5, e.ExpectedTime.Seconds(), 1e-3)
	require.InDelta(t, 4.5, e.P95.Seconds(), 2e-3)

	s.Timeout.Total = 3500 * time.Millisecond // the second wait would end after it
	e = explain(t, s, policies.Assumptions{FailureRate: 0.5, AttemptTime: time.Second})
	require.InDelta(t, 1.5, e.ExpectedAttempts, 1e-9)
	require.InDelta(t, 3, e.P99.Seconds(), 2e-3)

	e = explain(t, s, policies.Assumptions{AttemptTime: 2500 * time.Millisecond})
	require.InDelta(t, 0, e.Success, 1e-9, "each attempt times out")
}

func TestExplainWithoutEnd(t *testing.T) {
	t.Parallel()
	s := policies.NewSpec(&policies.Retry{MaximumAttempts: math.MaxInt, InitialInterval: time.Second, BackoffCoefficient: 1}, &policies.Timeout{Attempt: time.Second}, nil)
	e := explain(t, s, policies.Assumptions{FailureRate: 0.9, AttemptTime: time.Second, ClientAttempts: 2})
	require.Equal(t, math.MaxInt, e.Attempts)
	require.InDelta(t, 1, e.Success, 1e-12)
	require.InDelta(t, 10, e.ExpectedAttempts, 1e-9)
	require.InDelta(t, 10+9*0.5, e.ExpectedTime.Seconds(), 1e-6)
	require.Equal(t, policies.Forever, e.Worst)
	require.Equal(t, math.MaxInt, e.Load.Stacked)

	e = explain(t, s, policies.Assumptions{FailureRate: 1, AttemptTime: time.Second})
	require.Zero(t, e.Success)
	require.True(t, math.IsInf(e.ExpectedAttempts, 1))
	require.Equal(t, policies.Forever, e.ExpectedTime)
	require.Equal(t, policies.Forever, e.P50)

	_, err := policies.Explain(s, policies.Assumptions{FailureRate: 0.999999, AttemptTime: time.Second})
	require.ErrorContains(t, err, "more than 100000 attempts")
	s.Timeout.Total = time.Hour
	e = explain(t, s, policies.Assumptions{FailureRate: 1, AttemptTime: time.Second})
	require.Zero(t, e.Success)
	require.InDelta(t, 3600, e.P50.Seconds(), 3)
	require.InDelta(t, 2400, e.ExpectedAttempts, 5)
}

func TestExplainLadder(t *testing.T) {
	t.Parallel()
	s := policies.NewSpec(&policies.Retry{MaximumAttempts: 2, InitialInterval: time.Second}, nil, nil)
	s.Escalate = &policies.Escalate{Rungs: []policies.Rung{{Timeout: time.Minute}, {Timeout: 10 * time.Minute}}}
	e := explain(t, s, policies.Assumptions{AttemptTime: 5 * time.Minute})
	require.Equal(t, 1, e.Climbs)
	require.Equal(t, 3, e.Load.Step)
	require.Equal(t, time.Minute+2*10*time.Minute+time.Second, e.Worst)
	require.InDelta(t, 1, e.Success, 1e-12, "the second rung has the time")
}

func TestExplainRefuses(t *testing.T) {
	t.Parallel()
	_, err := policies.Explain(policies.NewSpec(nil, nil, nil), policies.Assumptions{FailureRate: 10, AttemptTime: -1, ClientAttempts: -1, Resumes: -1})
	require.EqualError(t, err, `the failure rate is 10 (use 0 to 1; 0.1 is one attempt in ten)
the time of an attempt is -1ns (durations cannot be negative)
the client makes -1 attempts (use 1 or more, the first try included)
there are -1 resumes (use 0 or more)`)
	_, err = policies.Explain(policies.NewSpec(nil, nil, nil), policies.Assumptions{FailureRate: math.NaN()})
	require.Error(t, err)
}

func TestExplainBudget(t *testing.T) {
	t.Parallel()
	s := policies.NewSpec(&policies.Retry{MaximumAttempts: 4}, nil, nil)
	s.Budget = &policies.Budget{Percent: 50}
	require.InDelta(t, 1.5, explain(t, s, policies.Assumptions{}).Load.Budgeted, 1e-12)
	s.Dependency = &policies.Dependency{Name: "model", Budget: policies.Budget{Percent: 20}}
	require.InDelta(t, 1.2, explain(t, s, policies.Assumptions{}).Load.Budgeted, 1e-12)
	s.Budget.Percent, s.Dependency.Budget.Percent = 400, 0
	require.Zero(t, explain(t, s, policies.Assumptions{}).Load.Budgeted, "four attempts stay below it")
}

// task plays a task through with the delays that a worker draws.
func task(s policies.Spec, a policies.Assumptions, random *rand.Rand) (took time.Duration, attempts int, ok bool) {
	total := s.Timeout.Total
	if total == 0 {
		total = policies.Forever
	}
	for {
		attempts++
		each, fails := a.AttemptTime, random.Float64() < a.FailureRate
		if t := s.Timeout.Attempt; t > 0 && each > t {
			each, fails = t, true
		}
		if took+each > total {
			return total, attempts, false
		}
		took += each
		if !fails {
			return took, attempts, true
		}
		d := s.Decide(&policies.Failure{Class: policies.Transient}, errors.New("down"), nil, attempts, random.Float64)
		if !d.Retry || took+d.Delay > total {
			return took, attempts, false
		}
		took += d.Delay
	}
}

func drawSpec(t *rapid.T) (policies.Spec, policies.Assumptions) {
	ms := func(low, high int, name string) time.Duration {
		return time.Duration(rapid.IntRange(low, high).Draw(t, name)) * time.Millisecond
	}
	r := policies.Retry{
		MaximumAttempts: rapid.IntRange(1, 8).Draw(t, "attempts"), InitialInterval: ms(1, 5000, "initial"),
		BackoffCoefficient: rapid.Float64Range(1, 3).Draw(t, "coefficient"),
		Jitter:             rapid.SampledFrom([]policies.Jitter{policies.FullJitter, policies.EqualJitter, policies.NoJitter}).Draw(t, "jitter"),
	}
	r.MaximumInterval = r.InitialInterval + ms(0, 20_000, "maximum")
	out := policies.Timeout{Attempt: ms(1, 5000, "timeout")}
	if rapid.Bool().Draw(t, "has total") {
		out.Total = out.Attempt + ms(0, 20_000, "total")
	}
	return policies.NewSpec(&r, &out, nil), policies.Assumptions{
		FailureRate: rapid.Float64Range(0, 1).Draw(t, "p"), AttemptTime: ms(0, 6000, "attempt"),
	}
}

// TestExplainAgreesWithPlayingItThrough compares the calculation with tasks whose delays Decide draws.
func TestExplainAgreesWithPlayingItThrough(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const n = 1500
		s, a := drawSpec(t)
		e := explain(t, s, a)
		random := rand.New(rand.NewPCG(1, 2))
		times := make([]float64, n)
		var attempts, good, sum float64
		for i := range times {
			took, tried, ok := task(s, a, random)
			require.LessOrEqual(t, took, e.Worst)
			require.LessOrEqual(t, tried, e.Attempts)
			times[i] = took.Seconds()
			sum += times[i]
			attempts += float64(tried)
			if ok {
				good++
			}
		}
		slices.Sort(times)
		deviation := 0.0
		for _, x := range times {
			deviation += (x - sum/n) * (x - sum/n) / n
		}
		// Six times the standard error, and the width of the grid's cells.
		const six = 6. / 38
		grid := e.Worst.Seconds() / 2000
		require.InDelta(t, e.Success, good/n, six/2+1e-3)
		require.InDelta(t, e.ExpectedAttempts, attempts/n, six*float64(e.Attempts)/2+1e-3)
		require.InDelta(t, e.ExpectedTime.Seconds(), sum/n, six*math.Sqrt(deviation)+grid)
		for q, d := range map[float64]time.Duration{0.5: e.P50, 0.95: e.P95, 0.99: e.P99} {
			// The part that is done by then, with the error of a part. Many may end at the same time.
			before, by := 0., 0.
			for _, x := range times {
				if x < d.Seconds()-grid {
					before++
				}
				if x <= d.Seconds()+grid {
					by++
				}
			}
			require.LessOrEqual(t, before/n, q+six/2, "%v", q)
			require.GreaterOrEqual(t, by/n, q-six/2, "%v", q)
		}
	})
}

func TestExplainHolds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s, a := drawSpec(t)
		e := explain(t, s, a)
		require.LessOrEqual(t, e.P50, e.P95)
		require.LessOrEqual(t, e.P95, e.P99)
		// What is rounded to cells may be a cell above.
		require.LessOrEqual(t, e.P99.Seconds(), e.Worst.Seconds()*1.001+1e-6)
		require.LessOrEqual(t, e.ExpectedTime.Seconds(), e.Worst.Seconds()*1.001+1e-6)
		require.LessOrEqual(t, e.ExpectedAttempts, float64(e.Attempts)+1e-9)
		require.LessOrEqual(t, e.Fit, e.Attempts)
		for _, w := range e.Waits {
			require.LessOrEqual(t, w.Least, w.Mean)
			require.LessOrEqual(t, w.Mean, w.Most)
			require.LessOrEqual(t, w.Most, s.MaximumInterval)
		}
		worse := a
		worse.FailureRate = rapid.Float64Range(a.FailureRate, 1).Draw(t, "worse")
		f := explain(t, s, worse)
		require.LessOrEqual(t, f.Success, e.Success+1e-3)
		require.GreaterOrEqual(t, f.ExpectedAttempts, e.ExpectedAttempts-1e-3)
		if s.Timeout.Total == 0 { // which ends tasks that go badly
			require.GreaterOrEqual(t, f.ExpectedTime.Seconds(), e.ExpectedTime.Seconds()-1e-6)
			require.GreaterOrEqual(t, f.P95.Seconds(), e.P95.Seconds()-e.Worst.Seconds()/2000)
		}
	})
}
