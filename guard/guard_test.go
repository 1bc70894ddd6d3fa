package guard_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stepwell-flows/stepwell/guard"
	"github.com/stepwell-flows/stepwell/policies"
)

// clock is moved by hand.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

var (
	down    = &policies.Failure{Class: policies.Transient, Message: "503"}
	invalid = &policies.Failure{Class: policies.Invalid, Message: "400"}
)

// tb is a test, or one of rapid's.
type tb interface {
	require.TestingT
	Helper()
}

// call makes a call that ends with f.
func call(t tb, d *guard.Dependency, f *policies.Failure) {
	t.Helper()
	c, err := d.Begin(false)
	require.NoError(t, err)
	c.End(f)
}

// refusal is why a call may not be made.
func refusal(t testing.TB, d *guard.Dependency) policies.Deferral {
	t.Helper()
	_, err := d.Begin(false)
	require.Error(t, err)
	f := policies.Classify(err)
	require.Equal(t, policies.Transient, f.Class)
	require.Equal(t, "RefusedError", f.Type)
	var r *guard.RefusedError
	require.ErrorAs(t, err, &r)
	deferral, ok := policies.DeferralOf(err, f)
	require.True(t, ok, "%v", err)
	require.Equal(t, r.For, deferral.For)
	require.Equal(t, r.Dependency, deferral.Dependency)
	return deferral
}

func breaker(c *clock, b policies.Breaker) *guard.Dependency {
	return guard.New(guard.Options{Now: c.Now}).Dependency(policies.Dependency{Name: "model", Breaker: b})
}

func TestBreakerOpensAfterExactlyTheConfiguredFailures(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 7; n++ {
		c := newClock()
		d := breaker(c, policies.Breaker{Failures: n})
		for range n - 1 {
			call(t, d, down)
			c.move(time.Second)
		}
		call(t, d, down)
		require.Equal(t, policies.Deferral{For: 5 * time.Second, Dependency: "model", Reason: fmt.Sprintf(
			`the breaker of "model" is open: %d of %d calls failed within 30s; it is probed in 5s`, n, n)}, refusal(t, d))
	}
}

func TestBreakerNeedsItsPercentToo(t *testing.T) {
	t.Parallel()
	d := breaker(newClock(), policies.Breaker{Failures: 2, Percent: 25})
	for range 8 {
		call(t, d, nil)
	}
	for range 3 {
		call(t, d, down)
		call(t, d, nil)
	}
	call(t, d, down) // 4 of 15
	require.Contains(t, refusal(t, d).Reason, "4 of 15 calls failed within 30s")
}

// However many good calls there were: when the service is gone, the breaker opens after the failures that it is allowed.
func TestBreakerOpensAfterManyGoodCalls(t *testing.T) {
	t.Parallel()
	c := newClock()
	d := breaker(c, policies.Breaker{Failures: 5})
	for range 1000 {
		call(t, d, nil)
	}
	for range 10 {
		for range 4 {
			call(t, d, down)
		}
		call(t, d, invalid) // an answer
	}
	for range 5 {
		call(t, d, down)
	}
	require.Contains(t, refusal(t, d).Reason, "5 of 5 calls failed within 30s")

	d = breaker(c, policies.Breaker{Failures: 3})
	for range 20 {
		call(t, d, down)
		c.move(16 * time.Second) // two within 30 seconds
	}
}

func TestBreakerForgetsWhatIsOlderThanItsWindow(t *testing.T) {
	t.Parallel()
	c := newClock()
	d := breaker(c, policies.Breaker{Failures: 3, Window: 10 * time.Second})
	for range 20 {
		call(t, d, down)
		c.move(5*time.Second + 500*time.Millisecond) // two within 10.5 seconds
	}
	call(t, d, nil)
}

func TestBreakerLetsExactlyOneProbeThrough(t *testing.T) {
	t.Parallel()
	c := newClock()
	d := breaker(c, policies.Breaker{Failures: 2, Cooldown: 2 * time.Second})
	call(t, d, down)
	call(t, d, down)
	c.move(2*time.Second - time.Millisecond)
	require.Equal(t, time.Millisecond, refusal(t, d).For)
	c.move(time.Millisecond)

	var wg sync.WaitGroup
	probes := make(chan *guard.Call, 100)
	for range 100 {
		wg.Go(func() {
			if call, err := d.Begin(false); err == nil {
				probes <- call
			}
		})
	}
	wg.Wait()
	require.Len(t, probes, 1)
	probe := <-probes
	require.Equal(t, 2*time.Second, refusal(t, d).For, "what the probe finds is known by then")
	probe.End(down)
	require.Equal(t, 2*time.Second, refusal(t, d).For, "another cooldown")

	c.move(2 * time.Second)
	call(t, d, nil) // the probe
	for range 5 {
		call(t, d, nil)
	}
	call(t, d, down)
	call(t, d, nil) // what was before the probe is forgotten
}

// A probe of which nothing is heard gives its place up, and what it finds later still counts, unless another failed meanwhile.
func TestBreakerProbeGivesItsPlaceUp(t *testing.T) {
	t.Parallel()
	c := newClock()
	d := breaker(c, policies.Breaker{Failures: 1, Cooldown: time.Second})
	call(t, d, down)
	c.move(time.Second)
	first, err := d.Begin(false)
	require.NoError(t, err)
	c.move(10*time.Second - time.Millisecond)
	require.Equal(t, time.Millisecond, refusal(t, d).For)
	c.move(time.Millisecond)
	second, err := d.Begin(false)
	require.NoError(t, err)
	refusal(t, d)
	second.End(down)
	first.End(nil)
	refusal(t, d)

	c.move(time.Second)
	slow, err := d.Begin(false)
	require.NoError(t, err)
	c.move(time.Minute)
	slow.End(nil)
	call(t, d, nil)
}

func TestBreakerProbeThatSaysNothing(t *testing.T) {
	t.Parallel()
	c := newClock()
	d := breaker(c, policies.Breaker{Failures: 1})
	call(t, d, down)
	c.move(5 * time.Second)
	call(t, d, &policies.Failure{Class: policies.Cancelled})
	call(t, d, invalid) // is a probe, too, and was answered
	call(t, d, nil)
}

// Calls that began before the breaker opened say nothing new, however they end.
func TestBreakerIgnoresLateCalls(t *testing.T) {
	t.Parallel()
	c := newClock()
	d := breaker(c, policies.Breaker{Failures: 1})
	var late []*guard.Call
	for range 4 {
		one, err := d.Begin(false)
		require.NoError(t, err)
		late = append(late, one)
	}
	late[0].End(down)
	late[1].End(nil)
	late[2].End(down)
	refusal(t, d)
	c.move(5 * time.Second)
	call(t, d, nil)
	call(t, d, nil)
	late[3].End(down) // 1 of 3
	late[3].End(down)
	call(t, d, nil)
}

func TestWhichFailuresCount(t *testing.T) {
	t.Parallel()
	for class, opens := range map[policies.Class]bool{
		policies.Transient: true, policies.TimedOut: true, policies.Unknown: true, "never heard of": true,
		policies.RateLimited: false, policies.Invalid: false, policies.Denied: false, policies.Permanent: false, policies.Bug: false,
		policies.Lost: false, policies.Cancelled: false, policies.OutOfMemory: false, policies.OverBudget: false,
	} {
		d := breaker(newClock(), policies.Breaker{Failures: 1})
		call(t, d, &policies.Failure{Class: class})
		_, err := d.Begin(false)
		require.Equal(t, opens, err != nil, class)
	}
	d := breaker(newClock(), policies.Breaker{Failures: 1})
	_, err := breakerThatIsOpen(t).Begin(false)
	call(t, d, policies.Classify(fmt.Errorf("in the step: %w", err)))
	call(t, d, nil)
}

func breakerThatIsOpen(t testing.TB) *guard.Dependency {
	t.Helper()
	d := breaker(newClock(), policies.Breaker{Failures: 1})
	call(t, d, down)
	return d
}

func TestThrottle(t *testing.T) {
	t.Parallel()
	c := newClock()
	draw := 0.0
	r := guard.New(guard.Options{Now: c.Now, Random: func() float64 { return draw }})
	d := r.Dependency(policies.Dependency{Name: "model", Throttle: policies.Throttle{Percent: 50}})
	for range 5 {
		call(t, d, nil)
	}
	for range 5 {
		call(t, d, &policies.Failure{Class: policies.RateLimited})
	}
	call(t, d, nil) // half of ten is allowed
	draw = 0.99
	for range 9 {
		call(t, d, down)
	}
	// 20 calls, 6 good: (20 - 2*6) / 21
	draw = 8.0/21 + 0.001
	call(t, d, nil)
	draw = (21-2*7)/22.0 - 0.001
	first := refusal(t, d)
	require.Equal(t, `"model" is throttled: 14 of 21 calls failed within 30s, so 32% of calls are refused`, first.Reason)
	require.True(t, first.Alone, "others may get through")
	require.GreaterOrEqual(t, first.For, time.Second)
	require.Less(t, first.For, 3*time.Second)
	draw = 0.89
	for range 200 { // each makes the next more likely
		_, _ = d.Begin(false)
		draw = 0
	}
	draw = 0.89
	refusal(t, d)
	draw = 0.91
	call(t, d, nil) // some always get through
	c.move(35 * time.Second)
	draw = 0
	call(t, d, nil)
}

func TestBudget(t *testing.T) {
	t.Parallel()
	c := newClock()
	r := guard.New(guard.Options{Now: c.Now})
	d := r.Dependency(policies.Dependency{Name: "model", Budget: policies.Budget{Percent: 20}})
	for range 10 {
		require.NoError(t, d.AllowRetry())
	}
	require.EqualError(t, d.AllowRetry(), `10 retries for 0 first tries within 1m0s; the budget of dependency "model" is 20%, at least 10`)
	for range 60 {
		call(t, d, nil)
	}
	require.NoError(t, d.AllowRetry())
	require.NoError(t, d.AllowRetry())
	err := d.AllowRetry()
	require.EqualError(t, err, `12 retries for 60 first tries within 1m0s; the budget of dependency "model" is 20%, at least 10`)
	require.Equal(t, policies.OverBudget, policies.Classify(err).Class)
	for range 5 { // repetitions are no first tries
		again, err := d.Begin(true)
		require.NoError(t, err)
		again.End(nil)
	}
	require.Error(t, d.AllowRetry())
	c.move(64 * time.Second)
	require.NoError(t, d.AllowRetry())

	run := r.Run("TrainFlow", "r1", policies.Budget{Percent: 10, Minimum: -1})
	require.EqualError(t, run.AllowRetry(), `0 retries for 0 first tries within 1m0s; the budget of the run is 10%, at least 0`)
	require.NoError(t, r.Run("TrainFlow", "r2", policies.Budget{Percent: 10, Minimum: 1}).AllowRetry(), "each run has its own")
}

// While a breaker is open, a budget neither refuses nor counts: what failed in an outage longer than the budget's window is tried again.
func TestBudgetWaitsForTheBreaker(t *testing.T) {
	t.Parallel()
	c := newClock()
	d := guard.New(guard.Options{Now: c.Now}).Dependency(policies.Dependency{
		Name: "model", Budget: policies.Budget{Percent: 20, Minimum: 1}, Breaker: policies.Breaker{Failures: 3},
	})
	for range 3 {
		call(t, d, down)
	}
	for range 30 { // an outage of 150 s
		require.NoError(t, d.AllowRetry())
		require.NoError(t, d.AllowRetry(), "of a call that is refused meanwhile")
		c.move(5 * time.Second)
		probe, err := d.Begin(true)
		require.NoError(t, err)
		probe.End(down)
	}
	c.move(5 * time.Second)
	probe, err := d.Begin(true)
	require.NoError(t, err)
	probe.End(nil)
	require.NoError(t, d.AllowRetry(), "none was counted")
	require.Equal(t, policies.OverBudget, policies.Classify(d.AllowRetry()).Class, "it holds again")
}

func TestNothingToGuard(t *testing.T) {
	t.Parallel()
	var none *guard.Dependency
	for _, d := range []*guard.Dependency{none, {}, guard.New(guard.Options{}).Dependency(policies.Dependency{Name: "model"})} {
		for range 100 {
			call(t, d, down)
			require.NoError(t, d.AllowRetry())
		}
	}
	var call *guard.Call
	call.End(down)
	(&guard.Call{}).End(nil)
	require.NotNil(t, guard.From(t.Context()))
	r := guard.New(guard.Options{})
	require.Same(t, r, guard.From(guard.NewContext(t.Context(), r)))
}

// At every retry that is allowed, the retries of the window that ends with it are within the budget. Workers is how many processes
// share it: one decides by itself. Reports arrive before the clock moves: what is reported late is dated as late as it came.
func testBudgetHolds(t *rapid.T, workers int) {
	budget := policies.Budget{
		Percent: rapid.Float64Range(0.5, 150).Draw(t, "percent"), Minimum: rapid.IntRange(-1, 12).Draw(t, "minimum"),
		Window: time.Duration(rapid.IntRange(1, 100_000).Draw(t, "window")) * time.Millisecond,
	}
	c := newClock()
	o := guard.Options{Now: c.Now}
	if workers > 1 {
		o.Sharer = &server{clock: c}
	}
	var all []*guard.Dependency
	for range workers {
		all = append(all, guard.New(o).Dependency(policies.Dependency{Name: "model", Budget: budget}))
	}
	move := func(d time.Duration) {
		synctest.Wait()
		c.move(d)
	}
	var firsts, retries []time.Time
	within := func(times []time.Time) int {
		n := 0
		for _, at := range times {
			if c.Now().Sub(at) < budget.Window {
				n++
			}
		}
		return n
	}
	for range rapid.IntRange(1, 150).Draw(t, "steps") {
		d := all[rapid.IntRange(0, workers-1).Draw(t, "worker")]
		switch rapid.IntRange(0, 4).Draw(t, "what") {
		case 0:
			for range rapid.IntRange(1, 30).Draw(t, "calls") {
				call(t, d, nil)
				firsts = append(firsts, c.Now())
			}
		case 1:
			move(time.Duration(rapid.Int64Range(0, int64(budget.Window)).Draw(t, "move")))
		case 2:
			move(time.Duration(rapid.Int64Range(0, int64(budget.Window)/20+1).Draw(t, "little")))
		default:
			for range rapid.IntRange(1, 20).Draw(t, "retries") {
				if d.AllowRetry() != nil {
					continue
				}
				retries = append(retries, c.Now())
				allowed := max(float64(max(minimum(budget), 0)), budget.Percent/100*float64(within(firsts)))
				require.LessOrEqual(t, float64(within(retries)), allowed+1e-9)
			}
		}
	}
}

func minimum(b policies.Budget) int {
	return policies.Dependency{Budget: b}.WithDefaults().Budget.Minimum
}

func TestBudgetHoldsInEveryWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ rapid.TB }{t}, func(t *rapid.T) { testBudgetHolds(t, 1) })
	})
}

func TestSharedBudgetHoldsInEveryWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ rapid.TB }{t}, func(t *rapid.T) { testBudgetHolds(t, 3) })
	})
}

// server is where processes of a test come together.
type server struct {
	clock *clock

	mu      sync.Mutex
	board   guard.Board
	reports []guard.Report
	broken  bool
	// lose makes answers get lost.
	lose bool
	// slow is closed when the server goes on.
	slow chan struct{}
}

func (s *server) Share(ctx context.Context, r guard.Report) (guard.Answer, error) {
	s.mu.Lock()
	slow := s.slow
	s.mu.Unlock()
	if slow != nil {
		select {
		case <-slow:
		case <-ctx.Done():
			return guard.Answer{}, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken {
		return guard.Answer{}, errors.New("unavailable")
	}
	if err := r.Check(); err != nil {
		return guard.Answer{}, err
	}
	s.reports = append(s.reports, r)
	a := s.board.Report(s.clock.Now(), r)
	if s.lose {
		return guard.Answer{}, errors.New("lost")
	}
	return a, nil
}

func (s *server) set(f func(*server)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

func (s *server) view() guard.View {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.board.View(s.clock.Now(), "dependency/model")
}

// A probe lets everything within it through, so the budget holds there while the breaker is open.
func TestBudgetHoldsWithinAProbe(t *testing.T) {
	t.Parallel()
	c := newClock()
	r := guard.New(guard.Options{Now: c.Now})
	model := policies.Dependency{Name: "model", Budget: policies.Budget{Percent: 20, Minimum: 3}, Breaker: policies.Breaker{Failures: 3}}
	for range 3 {
		call(t, r.Dependency(model), down)
	}
	c.move(time.Minute)
	probe, err := r.Dependency(model).Begin(true)
	require.NoError(t, err)
	within := r.Within(probe).Dependency(model)
	sent := 0
	for range 100 {
		if within.AllowRetry() == nil {
			sent++
			inner, err := within.Begin(true)
			require.NoError(t, err)
			inner.End(down)
		}
	}
	require.Equal(t, 3, sent)
	require.NoError(t, r.Dependency(model).AllowRetry(), "of a call that the breaker holds")
	probe.End(down)
}
