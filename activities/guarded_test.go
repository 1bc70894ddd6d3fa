package activities_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/artifacts/mem"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/guard"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

// guarded is a worker whose clock is moved by hand, and a flow with one step "a".
type guarded struct {
	t     testing.TB
	store *artifacts.Store
	guard *guard.Registry
	f     *flow.Flow
	env   *testsuite.TestActivityEnvironment

	mu  sync.Mutex
	now time.Time
}

func newGuarded(t testing.TB, step func(context.Context, *state) error, options ...flow.Option) *guarded {
	t.Helper()
	g := &guarded{t: t, store: artifacts.New(mem.New(), artifacts.Options{}), now: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)}
	g.guard = guard.New(guard.Options{Now: g.clock})
	g.f = flow.New("GuardedFlow", flow.Step("a", step, options...))
	g.start()
	return g
}

// start begins a run of the flow in the store.
func (g *guarded) start() {
	g.t.Helper()
	require.NoError(g.t, records.CreateRun(g.t.Context(), g.store, records.Run{Flow: g.f.Name(), Run: "r", Root: "r", Plan: g.f.Plan(), WorkflowID: "w"}))
	var suite testsuite.WorkflowTestSuite
	g.env = suite.NewTestActivityEnvironment()
	activities.New(g.store, activities.Options{Guard: g.guard, Now: g.clock, Random: func() float64 { return 0.5 }}, g.f).Register(g.env)
}

func (g *guarded) clock() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.now
}

func (g *guarded) move(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now = g.now.Add(d)
}

// attempt runs the step's attempt after so many.
func (g *guarded) attempt(before int) (activities.StepResult, error) {
	g.t.Helper()
	var res activities.StepResult
	v, err := g.env.ExecuteActivity(activities.StepType(g.f.Name(), "a"), activities.StepInput{Flow: g.f.Name(), Run: "r", Step: "a", Before: before, LookBack: true})
	if err == nil {
		require.NoError(g.t, v.Get(&res))
	}
	return res, err
}

func (g *guarded) ledger() []records.Attempt {
	g.t.Helper()
	all, err := records.Attempts(g.t.Context(), g.store, g.f.Name(), "r", "a", nil)
	require.NoError(g.t, err)
	return all
}

func (g *guarded) put(e records.Attempt) {
	g.t.Helper()
	require.NoError(g.t, records.PutAttempt(g.t.Context(), g.store, g.f.Name(), "r", "a", nil, e))
}

// breaks opens the breaker of a dependency.
func (g *guarded) breaks(d policies.Dependency) {
	g.t.Helper()
	call, err := g.guard.Dependency(d).Begin(false)
	require.NoError(g.t, err)
	call.End(&policies.Failure{Class: policies.Transient})
	require.True(g.t, g.open(d))
}

// open says that a breaker holds calls back, or would if one of them did not probe.
func (g *guarded) open(d policies.Dependency) bool {
	first, err := g.guard.Dependency(d).Begin(false)
	if err != nil {
		return true
	}
	_, err = g.guard.Dependency(d).Begin(false)
	first.End(&policies.Failure{Class: policies.Cancelled})
	return err != nil
}

func brittle(name string) policies.Dependency {
	return policies.Dependency{Name: name, Breaker: policies.Breaker{Failures: 1, Cooldown: time.Minute}}
}

// clientOf calls a service as a client does that asks for each call.
func clientOf(name string, f *policies.Failure) func(context.Context, *state) error {
	return func(ctx context.Context, _ *state) error {
		call, err := guard.From(ctx).Dependency(brittle(name)).Begin(false)
		if err != nil {
			return fmt.Errorf("ask the model: %w", err)
		}
		call.End(f)
		if f != nil {
			return f
		}
		return nil
	}
}

// A step and a client in it that guard the same service do not stand in each other's way: what the client does belongs to the probe.
func TestClientWithinAProbe(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, clientOf("model", nil), brittle("model"))
	g.breaks(brittle("model"))
	g.move(time.Minute)
	res, err := g.attempt(0)
	require.NoError(t, err)
	require.Nil(t, res.Again)
	require.False(t, g.open(brittle("model")), "the probe was good")

	g = newGuarded(t, clientOf("model", &policies.Failure{Class: policies.Transient, Message: "503"}), brittle("model"))
	g.breaks(brittle("model"))
	g.move(time.Minute)
	_, err = g.attempt(0)
	require.ErrorContains(t, err, "503")
	_, err = g.guard.Dependency(brittle("model")).Begin(false)
	require.Error(t, err, "another cooldown")
}

// An attempt that was stopped by the breaker of another service says nothing about its own.
func TestRefusedCallIsNoGoodCall(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, clientOf("model", nil), brittle("db"))
	g.breaks(brittle("db"))
	g.move(time.Minute)
	g.breaks(brittle("model"))
	res, err := g.attempt(0)
	require.NoError(t, err)
	require.NotNil(t, res.Again)
	require.True(t, g.open(brittle("db")), "nobody has called it")
}

// A store that is away while a step loads from it says nothing about the service that the step calls.
func TestStoreThatIsAwayIsNotTheServices(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, func(context.Context, *state) error { return fmt.Errorf("load it: %w", artifacts.ErrUnavailable) }, brittle("model"))
	_, err := g.attempt(0)
	require.Equal(t, policies.Lost, policies.FailureOf(err).Class)
	require.False(t, g.open(brittle("model")))
}

// A budget grows with what was called for the first time, and not with what is called again, for whatever reason.
func TestFirstTries(t *testing.T) {
	t.Parallel()
	model := policies.Dependency{Name: "model", Budget: policies.Budget{Percent: 100, Minimum: -1}}
	for name, c := range map[string]struct {
		before records.Attempt
		first  bool
	}{
		"after a refusal":  {records.Attempt{Outcome: records.Deferred, Failure: &policies.Failure{Class: policies.Transient, Type: "RefusedError"}}, true},
		"after a deferral": {records.Attempt{Outcome: records.Deferred, Failure: &policies.Failure{Class: policies.RateLimited}}, false},
		"after a failure":  {records.Attempt{Outcome: records.Failed, CountsAsCodeFailure: true, Failure: &policies.Failure{Class: policies.Transient}}, false},
		"after a climb":    {records.Attempt{Outcome: records.Failed, Failure: &policies.Failure{Class: policies.TimedOut}}, false},
		"after a loss":     {records.Attempt{Outcome: records.Lost}, false},
	} {
		g := newGuarded(t, func(context.Context, *state) error { return nil }, model)
		c.before.Attempt = 1
		g.put(c.before)
		_, err := g.attempt(1)
		require.NoError(t, err)
		require.Equal(t, c.first, g.guard.Dependency(model).AllowRetry() == nil, name)
	}
}

// The service has told when to come back, and the worker was lost before the server heard it.
func TestRetryAfterOutlivesTheWorker(t *testing.T) {
	t.Parallel()
	calls := 0
	g := newGuarded(t, func(context.Context, *state) error { calls++; return nil }, policies.Retry{MaximumAttempts: 5, Jitter: policies.NoJitter})
	g.put(records.Attempt{
		Attempt: 1, Outcome: records.Deferred, Ended: g.clock(), Delay: 10 * time.Minute, Reason: "asked for 10m by the error",
		Failure: &policies.Failure{Class: policies.RateLimited, Message: "429", Attempt: 1},
	})
	g.move(time.Minute)
	res, err := g.attempt(1)
	require.NoError(t, err)
	require.NotNil(t, res.Again)
	require.Equal(t, 9*time.Minute, res.Again.Wait)
	require.Contains(t, res.Again.Reason, "asked for 10m by the error")
	require.Zero(t, calls)

	g.move(time.Minute)
	g.put(records.Attempt{Attempt: 3, Outcome: records.Lost})
	res, err = g.attempt(3)
	require.NoError(t, err)
	require.Equal(t, 8*time.Minute, res.Again.Wait)
	require.Equal(t, "429", g.ledger()[3].Failure.Message)
	require.Equal(t, records.Deferred, g.ledger()[3].Outcome)

	g.move(8 * time.Minute)
	res, err = g.attempt(4)
	require.NoError(t, err)
	require.Nil(t, res.Again)
	require.Equal(t, 1, calls)

	g = newGuarded(t, func(context.Context, *state) error { calls++; return nil }, policies.Retry{MaximumAttempts: 5})
	g.put(records.Attempt{
		Attempt: 1, Outcome: records.Failed, CountsAsCodeFailure: true, Ended: g.clock(), Delay: 50 * time.Second,
		Failure: &policies.Failure{Class: policies.RateLimited, Message: "429", RetryAfter: 50 * time.Second, Attempt: 1, CodeFailures: 1},
	})
	res, err = g.attempt(1)
	require.NoError(t, err)
	require.GreaterOrEqual(t, res.Again.Wait, 50*time.Second)
}

// gets counts what is read from a store, by the folder of a run's records.
type gets struct {
	*mem.Driver
	attempts atomic.Int32
}

func (d *gets) Get(ctx context.Context, key string, offset int64) (io.ReadCloser, error) {
	if strings.Contains(key, "/attempts/") {
		d.attempts.Add(1)
	}
	return d.Driver.Get(ctx, key, offset)
}

func refusedEntry(n, code int) records.Attempt {
	return records.Attempt{Attempt: n, Outcome: records.Deferred, Failure: &policies.Failure{Class: policies.Transient, Type: guard.RefusedType, Attempt: n, CodeFailures: code}}
}

// What is refused costs its ledger entry, and no more: no load, no log. And it is refused less and less often.
func TestRefusalsAreCheap(t *testing.T) {
	t.Parallel()
	short := brittle("model")
	short.Breaker.Cooldown = 5 * time.Second
	g := newGuarded(t, func(context.Context, *state) error { return nil }, short, policies.Retry{MaximumAttempts: 2, Jitter: policies.NoJitter})
	g.breaks(short)
	var waits []time.Duration
	for n := range 7 {
		res, err := g.attempt(n)
		require.NoError(t, err)
		waits = append(waits, res.Again.Wait)
	}
	s := time.Second
	require.Equal(t, []time.Duration{5 * s, 10 * s, 20 * s, 40 * s, time.Minute, time.Minute, time.Minute}, waits)
	var keys []string
	for info, err := range g.store.List(t.Context(), "") {
		require.NoError(t, err)
		if !strings.Contains(info.Key, "/attempts/") {
			keys = append(keys, info.Key)
		}
	}
	require.Len(t, keys, 1, "the run's record")
}

// An attempt after hundreds of refusals reads the last of them, and knows how many attempts failed before.
func TestLongLedger(t *testing.T) {
	t.Parallel()
	driver := &gets{Driver: mem.New()}
	g := newGuarded(t, func(context.Context, *state) error { return errors.New("a failure") }, policies.Retry{MaximumAttempts: 3, Lost: 1})
	g.store = artifacts.New(driver, artifacts.Options{})
	g.start()
	g.put(records.Attempt{Attempt: 1, Outcome: records.Failed, CountsAsCodeFailure: true, Failure: &policies.Failure{Attempt: 1, CodeFailures: 1}})
	for n := 2; n <= 290; n++ {
		g.put(refusedEntry(n, 1))
	}
	_, err := g.attempt(299) // nine left no trace
	require.Equal(t, policies.Lost, policies.FailureOf(err).Class)
	g.put(refusedEntry(300, 1))
	for n := 291; n < 300; n++ {
		g.put(refusedEntry(n, 1))
	}
	driver.attempts.Store(0)
	_, err = g.attempt(300)
	require.Equal(t, 2, policies.FailureOf(err).CodeFailures)
	require.Less(t, driver.attempts.Load(), int32(100))
	_, err = g.attempt(301)
	require.Equal(t, 3, policies.FailureOf(err).CodeFailures)
	require.True(t, g.ledger()[301].Final)
}

// Tasks that were told the same number do not all come back at once, and none of them before.
func TestDeferralsAreSpread(t *testing.T) {
	t.Parallel()
	for jitter, want := range map[policies.Jitter]time.Duration{policies.FullJitter: 126 * time.Second, policies.NoJitter: 2 * time.Minute} {
		g := newGuarded(t, func(context.Context, *state) error {
			return policies.WithRetryAfter(errors.New("429"), 2*time.Minute)
		}, policies.Retry{MaximumAttempts: 2, Jitter: jitter})
		res, err := g.attempt(0) // half of what there is at most is drawn
		require.NoError(t, err)
		require.Equal(t, want, res.Again.Wait)
		require.Equal(t, want, g.ledger()[0].Delay)
	}
}
