package policies_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stepwell-flows/stepwell/policies"
)

func middle() float64 { return 0.5 }

// A policyError is an author's own type of error.
type policyError struct{ text string }

func (e *policyError) Error() string { return e.text }

func TestDecide(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	four := policies.Retry{MaximumAttempts: 4, InitialInterval: 2 * time.Second}
	with := func(change func(*policies.Retry)) policies.Retry {
		r := four
		change(&r)
		return r
	}
	lost := func(n int) error { return &policies.Failure{Class: policies.Lost, Message: "gone", LostAttempts: n} }
	final := func(reason string) policies.Decision { return policies.Decision{Reason: reason} }
	again := func(d time.Duration, reason string) policies.Decision {
		return policies.Decision{Retry: true, Delay: d, Reason: reason}
	}

	for _, test := range []struct {
		name  string
		retry policies.Retry
		err   error
		n     int // code failures, this one included
		want  policies.Decision
	}{
		// MaximumAttempts.
		{"zero value", policies.Retry{}, boom, 1, final("attempts spent (1 of 1)")},
		{"one attempt", policies.Retry{MaximumAttempts: 1}, boom, 1, final("attempts spent (1 of 1)")},
		{"negative attempts count as one", policies.Retry{MaximumAttempts: -3}, boom, 1, final("attempts spent (1 of 1)")},
		{"last attempt", four, boom, 4, final("attempts spent (4 of 4)")},
		{"more failures than attempts", four, boom, 9, final("attempts spent (9 of 4)")},
		{"no end", with(func(r *policies.Retry) { r.MaximumAttempts = math.MaxInt; r.Jitter = policies.NoJitter }), boom, 1 << 40,
			again(200*time.Second, "exponential 3m20s (MaximumInterval), no jitter")},

		// InitialInterval, BackoffCoefficient, MaximumInterval.
		{"defaults", policies.Retry{MaximumAttempts: 9}, boom, 1, again(500*time.Millisecond, "exponential 1s, full jitter drew 500ms")},
		{"first wait", four, boom, 1, again(time.Second, "exponential 2s, full jitter drew 1s")},
		{"doubled by default", four, boom, 3, again(4*time.Second, "exponential 8s, full jitter drew 4s")},
		{"no failure counted yet is the first wait", four, boom, 0, again(time.Second, "exponential 2s, full jitter drew 1s")},
		{"coefficient 3", with(func(r *policies.Retry) { r.BackoffCoefficient = 3 }), boom, 3, again(9*time.Second, "exponential 18s, full jitter drew 9s")},
		{"coefficient 1", with(func(r *policies.Retry) { r.BackoffCoefficient = 1 }), boom, 3, again(time.Second, "constant 2s, full jitter drew 1s")},
		{"maximum interval", with(func(r *policies.Retry) { r.MaximumInterval = 5 * time.Second }), boom, 3,
			again(2500*time.Millisecond, "exponential 5s (MaximumInterval), full jitter drew 2.5s")},
		{"maximum interval defaults to 100 times the first", with(func(r *policies.Retry) { r.MaximumAttempts = 99 }), boom, 50,
			again(100*time.Second, "exponential 3m20s (MaximumInterval), full jitter drew 1m40s")},

		// Jitter.
		{"equal jitter", with(func(r *policies.Retry) { r.Jitter = policies.EqualJitter }), boom, 2, again(3*time.Second, "exponential 4s, equal jitter drew 3s")},
		{"no jitter", with(func(r *policies.Retry) { r.Jitter = policies.NoJitter }), boom, 2, again(4*time.Second, "exponential 4s, no jitter")},

		// A wait that the error asked for.
		{"asked, no jitter", with(func(r *policies.Retry) { r.Jitter = policies.NoJitter }), policies.WithRetryAfter(boom, time.Hour), 1,
			again(time.Hour, "asked for 1h by the error")},
		{"asked, full jitter adds up to the policy's wait", four, policies.WithRetryAfter(boom, time.Hour), 2,
			again(time.Hour+2*time.Second, "asked for 1h by the error, full jitter added 2s")},
		{"asked for less than the policy's wait", four, policies.WithRetryAfter(boom, time.Second), 3,
			again(1500*time.Millisecond, "asked for 1s by the error, full jitter added 500ms")},
		{"asked, equal jitter", with(func(r *policies.Retry) { r.Jitter = policies.EqualJitter }), policies.WithRetryAfter(boom, 10*time.Second), 2,
			again(11*time.Second, "asked for 10s by the error, equal jitter added 1s")},
		{"asked for more than MaximumRetryAfter", four, policies.WithRetryAfter(boom, 24*time.Hour), 2,
			again(time.Hour+2*time.Second, "asked for 24h by the error, cut to 1h (MaximumRetryAfter), full jitter added 2s")},
		{"asked for more than a MaximumRetryAfter of one's own", with(func(r *policies.Retry) { r.Jitter, r.MaximumRetryAfter = policies.NoJitter, time.Minute }), policies.WithRetryAfter(boom, time.Hour), 1,
			again(time.Minute, "asked for 1h by the error, cut to 1m (MaximumRetryAfter)")},
		{"asked for nothing", four, policies.WithRetryAfter(boom, 0), 1, again(time.Second, "exponential 2s, full jitter drew 1s")},
		{"asked for less than nothing", four, policies.WithRetryAfter(boom, -time.Hour), 1, again(time.Second, "exponential 2s, full jitter drew 1s")},
		{"asked too late", four, policies.WithRetryAfter(boom, time.Hour), 4, final("attempts spent (4 of 4)")},

		// Classes that end a task.
		{"permanent", four, policies.WithClass(boom, policies.Permanent), 1, final("class Permanent is not retried")},
		{"invalid", four, policies.WithClass(boom, policies.Invalid), 1, final("class Invalid is not retried")},
		{"denied", four, policies.WithClass(boom, policies.Denied), 1, final("class Denied is not retried")},
		{"cancelled", four, policies.WithClass(boom, policies.Cancelled), 1, final("class Cancelled is not retried")},
		{"bug", four, policies.WithClass(boom, policies.Bug), 1, again(time.Second, "exponential 2s, full jitter drew 1s")},
		{"timeout", four, policies.WithClass(boom, policies.TimedOut), 1, again(time.Second, "exponential 2s, full jitter drew 1s")},

		// NonRetryable.
		{"class by name", with(func(r *policies.Retry) { r.NonRetryable = []string{"Bug"} }), policies.WithClass(boom, policies.Bug), 1,
			final(`"Bug" is listed in NonRetryable`)},
		{"class in another case", with(func(r *policies.Retry) { r.NonRetryable = []string{"timeout"} }), policies.WithClass(boom, policies.TimedOut), 1,
			final(`"timeout" is listed in NonRetryable`)},
		{"type by name", with(func(r *policies.Retry) { r.NonRetryable = []string{"Other", "policyError"} }), &policyError{"no"}, 1,
			final(`"policyError" is listed in NonRetryable`)},
		{"type deep in the chain", with(func(r *policies.Retry) { r.NonRetryable = []string{"policyError"} }),
			fmt.Errorf("a: %w", errors.Join(boom, policies.WithRetryAfter(fmt.Errorf("b: %w", &policyError{"no"}), time.Second))), 1,
			final(`"policyError" is listed in NonRetryable`)},
		{"type of a failure from elsewhere", with(func(r *policies.Retry) { r.NonRetryable = []string{"KeyError"} }), &policies.Failure{Class: policies.Unknown, Type: "KeyError"}, 1,
			final(`"KeyError" is listed in NonRetryable`)},
		{"type names keep their case", with(func(r *policies.Retry) { r.NonRetryable = []string{"PolicyError"} }), &policyError{"no"}, 1,
			again(time.Second, "exponential 2s, full jitter drew 1s")},
		{"not listed", with(func(r *policies.Retry) { r.NonRetryable = []string{"Bug", "Other"} }), boom, 1, again(time.Second, "exponential 2s, full jitter drew 1s")},

		// RetryIf.
		{"refused", with(func(r *policies.Retry) { r.RetryIf = func(err error) bool { return !errors.Is(err, boom) } }), fmt.Errorf("x: %w", boom), 1, final("RetryIf refused")},
		{"allowed", with(func(r *policies.Retry) { r.RetryIf = func(err error) bool { return errors.Is(err, boom) } }), fmt.Errorf("x: %w", boom), 1,
			again(time.Second, "exponential 2s, full jitter drew 1s")},
		{"cannot allow what is over", with(func(r *policies.Retry) { r.RetryIf = func(error) bool { return true } }), policies.WithClass(boom, policies.Permanent), 1,
			final("class Permanent is not retried")},
		{"cannot add attempts", with(func(r *policies.Retry) { r.RetryIf = func(error) bool { return true } }), boom, 4, final("attempts spent (4 of 4)")},
		{"panics", with(func(r *policies.Retry) { r.RetryIf = func(error) bool { panic("oh") } }), boom, 1, final("RetryIf panicked: oh")},
		{"panics with nothing to print", with(func(r *policies.Retry) { r.RetryIf = func(error) bool { panic((*policyError)(nil)) } }), boom, 1,
			final("RetryIf panicked: a value of type *policies_test.policyError that cannot be printed")},

		// Lost.
		{"lost, default budget", policies.Retry{}, lost(5), 0, again(0, "a lost attempt is made up for at once (5 lost, 5 tolerated)")},
		{"lost, default budget spent", policies.Retry{}, lost(6), 0, final("lost attempts spent (6 lost, 5 tolerated)")},
		{"lost, budget of two", policies.Retry{Lost: 2}, lost(3), 0, final("lost attempts spent (3 lost, 2 tolerated)")},
		{"lost, none tolerated", policies.Retry{Lost: -1}, lost(1), 0, final("lost attempts spent (1 lost, 0 tolerated)")},
		{"lost attempts use up no others, and do not wait", four, lost(1), 3, again(0, "a lost attempt is made up for at once (1 lost, 5 tolerated)")},
		{"RetryIf is not asked about lost workers", with(func(r *policies.Retry) { r.RetryIf = func(error) bool { return false } }), lost(1), 0,
			again(0, "a lost attempt is made up for at once (1 lost, 5 tolerated)")},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			spec := policies.NewSpec(&test.retry, nil, nil)
			got := spec.Decide(policies.Classify(test.err), test.err, test.retry.RetryIf, test.n, middle)
			require.Equal(t, test.want, got)
			require.Equal(t, got, spec.Decide(nil, test.err, test.retry.RetryIf, test.n, middle), "without a failure, Decide classifies the error itself")
		})
	}
}

func TestDecideWithoutError(t *testing.T) {
	t.Parallel()
	spec := policies.NewSpec(&policies.Retry{MaximumAttempts: 2}, nil, nil)
	require.Equal(t, policies.Decision{Reason: "nothing failed"}, spec.Decide(nil, nil, nil, 1, nil))

	f := &policies.Failure{Class: policies.Bug, Message: "panic: oh"}
	var asked error
	spec.Decide(f, nil, func(err error) bool { asked = err; return false }, 1, nil)
	require.Same(t, f, asked, "RetryIf gets the failure of a panic, which has no error")
}

// An error whose methods panic ends up as a bug of the author's, not as the end of the worker.
func TestDecideOutlivesBrokenErrors(t *testing.T) {
	t.Parallel()
	var broken *brokenError
	r := policies.Retry{MaximumAttempts: 2, NonRetryable: []string{"SomethingElse"}}
	f := policies.Classify(broken)
	require.Equal(t, policies.Bug, f.Class)
	require.True(t, policies.NewSpec(&r, nil, nil).Decide(f, broken, nil, 1, nil).Retry)

	r.NonRetryable = []string{"brokenError"}
	require.False(t, policies.NewSpec(&r, nil, nil).Decide(f, broken, nil, 1, nil).Retry)
}

// brokenError is the classic: a nil pointer in an error.
type brokenError struct{ cause error }

func (e *brokenError) Error() string { return "broken: " + e.cause.Error() }
func (e *brokenError) Unwrap() error { return e.cause }

// delays are what follows each failure of code that always fails.
func delays(r policies.Retry) []time.Duration {
	spec := policies.NewSpec(&r, nil, nil)
	f := policies.Classify(errors.New("boom"))
	var all []time.Duration
	for n := 1; ; n++ {
		d := spec.Decide(f, nil, nil, n, nil)
		if !d.Retry {
			return all
		}
		all = append(all, d.Delay)
	}
}

func TestTranslations(t *testing.T) {
	t.Parallel()
	metaflow := func(times, minutes int) policies.Retry { // @retry(times=…, minutes_between_retries=…)
		return policies.Retry{MaximumAttempts: times + 1, InitialInterval: time.Duration(minutes) * time.Minute, BackoffCoefficient: 1, Jitter: policies.NoJitter}
	}
	modal := func(maxRetries int, coefficient, initial, longest float64) policies.Retry { // modal.Retries(…)
		seconds := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
		return policies.Retry{MaximumAttempts: maxRetries + 1, InitialInterval: seconds(initial), BackoffCoefficient: coefficient, MaximumInterval: seconds(longest), Jitter: policies.NoJitter}
	}
	m, s := time.Minute, time.Second
	for _, test := range []struct {
		name  string
		retry policies.Retry
		want  []time.Duration
	}{
		{"metaflow defaults", metaflow(3, 2), []time.Duration{2 * m, 2 * m, 2 * m}},
		{"metaflow times=0 opts out", metaflow(0, 2), nil},
		{"metaflow times=4", metaflow(4, 1), []time.Duration{m, m, m, m}},
		{"modal backoff", modal(3, 2, 1, 60), []time.Duration{s, 2 * s, 4 * s}},
		{"modal fixed interval", modal(4, 1, 5, 60), []time.Duration{5 * s, 5 * s, 5 * s, 5 * s}},
		{"modal max_delay", modal(6, 3, 2, 20), []time.Duration{2 * s, 6 * s, 18 * s, 20 * s, 20 * s, 20 * s}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, policies.NewSpec(&test.retry, nil, nil).Validate())
			require.Equal(t, test.want, delays(test.retry))
		})
	}
}

func anyDuration() *rapid.Generator[time.Duration] {
	return rapid.Map(rapid.Int64(), func(n int64) time.Duration { return time.Duration(n) })
}

// Whatever the numbers are, valid or not, a delay is never negative, never overflows and never leaves
// the bounds of its jitter.
func TestDelayBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		spec := policies.Spec{
			MaximumAttempts:    math.MaxInt,
			InitialInterval:    anyDuration().Draw(t, "InitialInterval"),
			BackoffCoefficient: rapid.Float64().Draw(t, "BackoffCoefficient"),
			MaximumInterval:    anyDuration().Draw(t, "MaximumInterval"),
			MaximumRetryAfter:  max(anyDuration().Draw(t, "MaximumRetryAfter"), 0),
		}
		n := rapid.IntRange(-5, math.MaxInt-1).Draw(t, "n")
		asked := anyDuration().Draw(t, "asked")
		x := rapid.OneOf(rapid.Float64Range(0, 1), rapid.Float64(), rapid.Just(math.NaN())).Draw(t, "random")
		delay := func(j policies.Jitter, asked time.Duration) time.Duration {
			spec.Jitter = j
			d := spec.Decide(&policies.Failure{Class: policies.Unknown, RetryAfter: asked}, nil, nil, n, func() float64 { return x })
			if !d.Retry || d.Delay < 0 {
				t.Fatalf("%v jitter, asked for %v: %+v", j, asked, d)
			}
			return d.Delay
		}
		wait := delay(policies.NoJitter, 0)
		if limit := max(spec.MaximumInterval, 0); wait > limit {
			t.Fatalf("waits %v, longer than MaximumInterval %v", wait, limit)
		}
		if d := delay(policies.FullJitter, 0); d > wait {
			t.Fatalf("full jitter of %v drew %v", wait, d)
		}
		if d := delay(policies.EqualJitter, 0); d > wait || d < wait/2 {
			t.Fatalf("equal jitter of %v drew %v", wait, d)
		}
		if asked <= 0 {
			return
		}
		if most := spec.MaximumRetryAfter; most == 0 { // as in a plan of before this field
			asked = min(asked, time.Hour)
		} else {
			asked = min(asked, most)
		}
		if d := delay(policies.NoJitter, asked); d != asked {
			t.Fatalf("asked for %v, waits %v", asked, d)
		}
		for _, j := range []policies.Jitter{policies.FullJitter, policies.EqualJitter} {
			spread := min(wait, asked)
			if j == policies.EqualJitter {
				spread /= 2
			}
			if d := delay(j, asked); d < asked || d-asked > spread {
				t.Fatalf("asked for %v, %v jitter of %v waits %v", asked, j, wait, d)
			}
		}
	})
}

// Without jitter, sound policies wait longer and longer, up to MaximumInterval and exactly that.
func TestDelaysGrow(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := policies.Retry{
			MaximumAttempts:    math.MaxInt,
			InitialInterval:    time.Duration(rapid.Int64Range(int64(time.Millisecond), int64(240*time.Hour)).Draw(t, "InitialInterval")),
			BackoffCoefficient: rapid.Float64Range(1, 100).Draw(t, "BackoffCoefficient"),
			Jitter:             policies.NoJitter,
		}
		if rapid.Bool().Draw(t, "bounded") {
			r.MaximumInterval = r.InitialInterval + time.Duration(rapid.Int64Range(0, int64(1000*time.Hour)).Draw(t, "more"))
		}
		spec := policies.NewSpec(&r, nil, nil)
		if err := spec.Validate(); err != nil {
			t.Fatal(err)
		}
		f := &policies.Failure{Class: policies.Unknown}
		last := time.Duration(0)
		for n := 1; n < 2000; n = n*2 - n/2 + 1 {
			d := spec.Decide(f, nil, nil, n, nil).Delay
			switch {
			case n == 1 && d != r.InitialInterval:
				t.Fatalf("the first wait is %v, not %v", d, r.InitialInterval)
			case d < last:
				t.Fatalf("after failure %d it waits %v, after one before it %v", n, d, last)
			case d > spec.MaximumInterval:
				t.Fatalf("after failure %d it waits %v, more than %v", n, d, spec.MaximumInterval)
			}
			last = d
		}
		if r.BackoffCoefficient > 1.1 && last != spec.MaximumInterval {
			t.Fatalf("it ends at %v, not at MaximumInterval %v", last, spec.MaximumInterval)
		}
	})
}

// The draws are spread evenly: a thousand tasks that failed together come back apart.
func TestJitterSpread(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		jitter    policies.Jitter
		low, high time.Duration
	}{
		{policies.FullJitter, 0, 10 * time.Second},
		{policies.EqualJitter, 5 * time.Second, 10 * time.Second},
	} {
		t.Run(test.jitter.String(), func(t *testing.T) {
			t.Parallel()
			const draws, buckets = 20_000, 10
			random := rand.New(rand.NewPCG(1, 2)).Float64
			spec := policies.NewSpec(&policies.Retry{MaximumAttempts: 2, InitialInterval: 10 * time.Second, Jitter: test.jitter}, nil, nil)
			f := &policies.Failure{Class: policies.Unknown}
			var counts [buckets]int
			var sum time.Duration
			for range draws {
				d := spec.Decide(f, nil, nil, 1, random).Delay
				require.GreaterOrEqual(t, d, test.low)
				require.LessOrEqual(t, d, test.high)
				sum += d
				counts[min(int(buckets*(d-test.low)/(test.high-test.low)), buckets-1)]++
			}
			require.InEpsilon(t, float64(test.low+test.high)/2, float64(sum/draws), 0.02)
			for i, n := range counts { // 2000 expected, standard deviation 42
				require.InDelta(t, draws/buckets, n, 250, "bucket %d of %v", i, counts)
			}
		})
	}
}

// Without a source of its own, Decide draws from the package's.
func TestJitterIsRandom(t *testing.T) {
	t.Parallel()
	spec := policies.NewSpec(&policies.Retry{MaximumAttempts: 2, InitialInterval: time.Hour}, nil, nil)
	seen := map[time.Duration]bool{}
	for range 20 {
		seen[spec.Decide(&policies.Failure{Class: policies.Unknown}, nil, nil, 1, nil).Delay] = true
	}
	require.Greater(t, len(seen), 15)
}
