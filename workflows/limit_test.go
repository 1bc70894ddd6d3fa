package workflows

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/policies"
)

// limiterEnv runs a workflow with a limiter. Its limits are semaphores in this process.
type limiterEnv struct {
	*testsuite.TestWorkflowEnvironment
	t     testing.TB
	sent  []activities.LimitMessage
	reply func([]activities.LimitMessage) (activities.LimitSent, error)

	mu     sync.Mutex
	limits map[string]*semaphore
}

func newLimiterEnv(t testing.TB) *limiterEnv {
	t.Helper()
	e := &limiterEnv{TestWorkflowEnvironment: newEnv(), t: t, limits: map[string]*semaphore{}}
	e.reply = e.serve
	e.RegisterActivityWithOptions(func(_ context.Context, messages []activities.LimitMessage) (activities.LimitSent, error) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.sent = append(e.sent, messages...)
		return e.reply(messages)
	}, activity.RegisterOptions{Name: activities.SendLimitType})
	return e
}

// serve does what the limits' workflows do.
func (e *limiterEnv) serve(messages []activities.LimitMessage) (activities.LimitSent, error) {
	for _, m := range messages {
		s := e.limits[m.Key]
		if s == nil {
			s = &semaphore{in: activities.LimitInput{Key: m.Key}}
			e.limits[m.Key] = s
		}
		s.receive(m)
		var g activities.Grant
		for _, l := range s.untold {
			g.Key, g.Tasks = m.Key, append(g.Tasks, l.Task)
		}
		s.untold = nil
		if len(g.Tasks) > 0 {
			e.SignalWorkflow(activities.GrantSignal, g)
		}
	}
	return activities.LimitSent{}, nil
}

// run runs a workflow to its end.
func (e *limiterEnv) run(f func(ctx workflow.Context, l *limiter) error) error {
	e.t.Helper()
	e.RegisterWorkflowWithOptions(func(ctx workflow.Context) error { return f(ctx, &limiter{}) }, workflow.RegisterOptions{Name: "test"})
	e.ExecuteWorkflow("test")
	require.True(e.t, e.IsWorkflowCompleted())
	e.mu.Lock() // an activity may still be on its way out
	defer e.mu.Unlock()
	return e.GetWorkflowError()
}

// crowd are many tasks that each run for a second under a limit.
type crowd struct {
	began []string       // in this order
	most  map[string]int // how many ran at the same time, by key
	err   error
}

func (c *crowd) run(ctx workflow.Context, l *limiter, n int, limit func(i int) policies.Limit) {
	running := map[string]int{}
	c.most = map[string]int{}
	wg := workflow.NewWaitGroup(ctx)
	for i := range n {
		wg.Add(1)
		workflow.Go(ctx, func(ctx workflow.Context) {
			defer wg.Done()
			task, limit := strconv.Itoa(i), limit(i)
			release, err := l.acquire(ctx, limit, task, nil)
			if err != nil {
				c.err = err
				return
			}
			defer release()
			c.began = append(c.began, task)
			running[limit.Key]++
			c.most[limit.Key] = max(c.most[limit.Key], running[limit.Key])
			_ = workflow.Sleep(ctx, time.Second)
			running[limit.Key]--
		})
	}
	wg.Wait(ctx)
}

// crowd runs a crowd under one limit.
func (e *limiterEnv) crowd(n, limit int) *crowd {
	e.t.Helper()
	var c crowd
	require.NoError(e.t, e.run(func(ctx workflow.Context, l *limiter) error {
		c.run(ctx, l, n, func(int) policies.Limit { return policies.Limit{Key: "key", Max: limit} })
		return nil
	}))
	return &c
}

func inOrder(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = strconv.Itoa(i)
	}
	return all
}

// Hundreds of tasks of one workflow: they run in their order, as many as may at once; the limit never has more of them in its
// queue than could run; and what begins and ends together travels together.
func TestLimiterWithACrowd(t *testing.T) {
	t.Parallel()
	const tasks, limit = 300, 5
	e, most := newLimiterEnv(t), 0
	e.reply = func(m []activities.LimitMessage) (activities.LimitSent, error) {
		sent, err := e.serve(m)
		s := e.limits["key"]
		most = max(most, len(s.in.Held)+len(s.in.Waiting))
		return sent, err
	}
	c := e.crowd(tasks, limit)
	require.NoError(t, c.err)
	require.Equal(t, inOrder(tasks), c.began)
	require.Equal(t, map[string]int{"key": limit}, c.most)
	require.Equal(t, limit, most)
	require.True(t, e.limits["key"].empty(), "all is given back when the workflow ends")
	require.Less(t, len(e.sent), tasks/2, "asking and giving back go together")
}

// A workflow asks for no more tasks at once than a limit can keep in its queue.
func TestLimiterBoundsTheQueue(t *testing.T) {
	t.Parallel()
	e, most := newLimiterEnv(t), 0
	e.reply = func(m []activities.LimitMessage) (activities.LimitSent, error) {
		most = max(most, len(m[0].Ask))
		return e.serve(m)
	}
	c := e.crowd(300, 200)
	require.NoError(t, c.err)
	require.Equal(t, map[string]int{"key": 200}, c.most)
	require.Equal(t, maxAsked, most)
}

func TestLimiterKeepsKeysApart(t *testing.T) {
	t.Parallel()
	var c crowd
	require.NoError(t, newLimiterEnv(t).run(func(ctx workflow.Context, l *limiter) error {
		c.run(ctx, l, 60, func(i int) policies.Limit { return policies.Limit{Key: fmt.Sprintf("key%d", i%3), Max: i%3 + 1} })
		return c.err
	}))
	require.Equal(t, map[string]int{"key0": 1, "key1": 2, "key2": 3}, c.most)
}

// In a test environment there is no server and no other run; the run's own tasks keep the limit all the same.
func TestLimiterAlone(t *testing.T) {
	t.Parallel()
	e := newLimiterEnv(t)
	activities.New(nil, activities.Options{}).Register(e) // it finds out by itself
	c := e.crowd(50, 4)
	require.NoError(t, c.err)
	require.Equal(t, inOrder(50), c.began)
	require.Equal(t, map[string]int{"key": 4}, c.most)
	require.Empty(t, e.sent)
}

func TestLimiterWithoutALimit(t *testing.T) {
	t.Parallel()
	e := newLimiterEnv(t)
	var after limiter
	require.NoError(t, e.run(func(ctx workflow.Context, l *limiter) error {
		release, err := l.acquire(ctx, policies.Limit{}, "task", nil)
		if err == nil {
			release()
		}
		after = *l
		return err
	}))
	require.Equal(t, limiter{}, after, "nothing was started")
	require.Empty(t, e.sent)
}

// The tasks that asked fail when the server refuses for good, and say why.
func TestLimiterIsRefused(t *testing.T) {
	t.Parallel()
	e := newLimiterEnv(t)
	e.reply = func([]activities.LimitMessage) (activities.LimitSent, error) {
		return activities.LimitSent{}, temporal.NewNonRetryableApplicationError(`limit "key": not for you`, string(policies.Permanent), nil)
	}
	c := e.crowd(10, 2)
	require.Empty(t, c.began)
	f := policies.FailureOf(c.err)
	require.Equal(t, policies.Permanent, f.Class)
	require.Equal(t, `limit "key": not for you`, f.Message)
}

// A server that is away for a while only makes tasks wait.
func TestLimiterWaitsForTheServer(t *testing.T) {
	t.Parallel()
	e, away := newLimiterEnv(t), 3
	e.reply = func(m []activities.LimitMessage) (activities.LimitSent, error) {
		if away--; away >= 0 {
			return activities.LimitSent{}, errors.New("away")
		}
		return e.serve(m)
	}
	require.NoError(t, e.run(func(ctx workflow.Context, l *limiter) error {
		release, err := l.acquire(ctx, policies.Limit{Key: "key", Max: 1}, "task", nil)
		if err != nil {
			return err
		}
		release()
		return nil
	}))
	require.True(t, e.limits["key"].empty())
}

// A cancelled task that waits goes out of the queue, wherever it is, and its place goes to the next.
func TestLimiterWithdraws(t *testing.T) {
	t.Parallel()
	e := newLimiterEnv(t)
	limit := policies.Limit{Key: "key", Max: 2}
	e.limits["key"] = &semaphore{}
	e.limits["key"].receive(activities.LimitMessage{Max: 2, First: "other", Ask: []string{"x", "y"}}) // of another run
	e.limits["key"].untold = nil
	waiting := func() []string { return tasks(e.limits["key"].in.Waiting) }
	var before, after []string
	require.NoError(t, e.run(func(ctx workflow.Context, l *limiter) error {
		cancelled, cancel := workflow.WithCancel(ctx)
		var errs []error
		wg := workflow.NewWaitGroup(ctx)
		wait := func(ctx workflow.Context, task string) {
			wg.Add(1)
			workflow.Go(ctx, func(ctx workflow.Context) {
				defer wg.Done()
				release, err := l.acquire(ctx, limit, task, nil)
				if err != nil {
					errs = append(errs, err)
					return
				}
				release()
			})
		}
		wait(cancelled, "asked1")
		wait(cancelled, "asked2")
		wait(cancelled, "local")
		_ = workflow.Sleep(ctx, time.Second)
		before = waiting()
		wait(ctx, "last")
		cancel()
		_ = workflow.Sleep(ctx, time.Second)
		after = waiting()
		if _, err := e.serve([]activities.LimitMessage{{Key: "key", Max: 2, First: "other", Free: []string{"x"}}}); err != nil {
			return err
		}
		wg.Wait(ctx)
		for _, err := range errs {
			if !temporal.IsCanceledError(err) {
				return err
			}
		}
		if len(errs) != 3 {
			return fmt.Errorf("%d tasks were cancelled", len(errs))
		}
		return nil
	}))
	require.Equal(t, []string{"asked1", "asked2"}, before)
	require.Equal(t, []string{"last"}, after)
	require.Equal(t, []string{"y"}, tasks(e.limits["key"].in.Held))
	require.Empty(t, waiting())
	for _, m := range e.sent {
		require.NotContains(t, m.Ask, "local")
	}
}

func tasks(leases []activities.Lease) []string {
	var names []string
	for _, l := range leases {
		names = append(names, l.Task)
	}
	return names
}

// A task whose context is cancelled before it could ask leaves nothing behind.
func TestLimiterOfACancelledTask(t *testing.T) {
	t.Parallel()
	e := newLimiterEnv(t)
	limit := policies.Limit{Key: "key", Max: 1}
	var refused error
	require.NoError(t, e.run(func(ctx workflow.Context, l *limiter) error {
		cancelled, cancel := workflow.WithCancel(ctx)
		cancel()
		_, refused = l.acquire(cancelled, limit, "never", nil)
		release, err := l.acquire(ctx, limit, "task", nil)
		if err == nil {
			release()
			release() // does nothing
		}
		return err
	}))
	require.True(t, temporal.IsCanceledError(refused), "%v", refused)
	require.True(t, e.limits["key"].empty())
	for _, m := range e.sent {
		require.NotContains(t, m.Ask, "never")
	}
}

// A task that is cancelled while it runs gives its place back although its context is cancelled.
func TestLimiterReleasesWhenCancelled(t *testing.T) {
	t.Parallel()
	e := newLimiterEnv(t)
	require.NoError(t, e.run(func(ctx workflow.Context, l *limiter) error {
		ctx, cancel := workflow.WithCancel(ctx)
		release, err := l.acquire(ctx, policies.Limit{Key: "key", Max: 1}, "task", nil)
		if err == nil {
			cancel()
			release()
		}
		return err
	}))
	require.True(t, e.limits["key"].empty())
}

// A task that is not to run any more, because the run stops, does not wait for its turn.
func TestLimiterStops(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		limit int // 2: it has asked, 1: it is behind another task of the workflow
	}{{"asked", 2}, {"local", 1}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			e := newLimiterEnv(t)
			limit := policies.Limit{Key: "key", Max: test.limit}
			e.limits["key"] = &semaphore{}
			e.limits["key"].receive(activities.LimitMessage{Max: test.limit, First: "other", Ask: []string{"x"}})
			e.limits["key"].untold = nil
			var err error
			require.NoError(t, e.run(func(ctx workflow.Context, l *limiter) error {
				stopped := false
				wg := workflow.NewWaitGroup(ctx)
				for _, task := range []string{"first", "second"} {
					wg.Add(1)
					workflow.Go(ctx, func(ctx workflow.Context) {
						defer wg.Done()
						_, e := l.acquire(ctx, limit, task, func() error {
							if stopped && task == "second" {
								return errStopped
							}
							return nil
						})
						if task == "second" {
							err = e
						}
					})
				}
				_ = workflow.Sleep(ctx, time.Second)
				stopped = true
				e.mu.Lock()
				_, failed := e.serve([]activities.LimitMessage{{Key: "key", Max: test.limit, First: "other", Free: []string{"x"}}})
				e.mu.Unlock()
				wg.Wait(ctx)
				return failed
			}))
			require.ErrorIs(t, err, errStopped)
			require.Equal(t, []string{"first"}, tasks(e.limits["key"].in.Held))
			require.Empty(t, e.limits["key"].in.Waiting)
		})
	}
}

// A task whose turn comes at the moment in which the run stops gives it back.
func TestLimiterStopsAtItsTurn(t *testing.T) {
	t.Parallel()
	e := newLimiterEnv(t)
	var err error
	require.NoError(t, e.run(func(ctx workflow.Context, l *limiter) error {
		_, err = l.acquire(ctx, policies.Limit{Key: "key", Max: 1}, "task", func() error {
			if len(l.keys) > 0 && l.keys[0].held["task"] {
				return errStopped
			}
			return nil
		})
		release, failed := l.acquire(ctx, policies.Limit{Key: "key", Max: 1}, "next", nil)
		if failed == nil {
			release()
		}
		return failed
	}))
	require.ErrorIs(t, err, errStopped)
	require.True(t, e.limits["key"].empty())
}

// What nobody waits for is given back; what is held already is kept.
func TestLimiterReturnsStrayGrants(t *testing.T) {
	t.Parallel()
	e := newLimiterEnv(t)
	require.NoError(t, e.run(func(ctx workflow.Context, l *limiter) error {
		release, err := l.acquire(ctx, policies.Limit{Key: "key", Max: 2}, "mine", nil)
		if err != nil {
			return err
		}
		e.SignalWorkflow(activities.GrantSignal, activities.Grant{Key: "key", Tasks: []string{"mine", "stray"}})
		e.SignalWorkflow(activities.GrantSignal, activities.Grant{Key: "other", Tasks: []string{"stray"}})
		_ = workflow.Sleep(ctx, time.Second)
		release()
		return nil
	}))
	var freed []string
	for _, m := range e.sent {
		for _, task := range m.Free {
			freed = append(freed, m.Key+"/"+task)
		}
	}
	require.ElementsMatch(t, []string{"key/mine", "key/stray", "other/stray"}, freed)
}

// A limit that somebody ended forgot who waits; the run asks again. While it waits otherwise, nothing happens.
func TestLimiterAsksAgain(t *testing.T) {
	t.Parallel()
	e := newLimiterEnv(t)
	e.reply = func(m []activities.LimitMessage) (activities.LimitSent, error) {
		if len(e.sent) <= 2 {
			return activities.LimitSent{}, nil // lost
		}
		return e.serve(m)
	}
	var waited time.Duration
	require.NoError(t, e.run(func(ctx workflow.Context, l *limiter) error {
		began := workflow.Now(ctx)
		release, err := l.acquire(ctx, policies.Limit{Key: "key", Max: 1}, "task", nil)
		if err == nil {
			waited = workflow.Now(ctx).Sub(began)
			release()
		}
		return err
	}))
	require.Equal(t, 2*time.Hour, waited.Round(time.Minute))
	require.Len(t, e.sent, 4)
	require.True(t, e.limits["key"].empty())
}

// A limit that forgot some of those that wait says so. Asking again costs none of them its place.
func TestLimiterAsksAgainWhenTold(t *testing.T) {
	t.Parallel()
	e := newLimiterEnv(t)
	e.reply = func(m []activities.LimitMessage) (activities.LimitSent, error) {
		if len(e.sent) == 1 {
			return activities.LimitSent{}, nil // forgotten
		}
		return e.serve(m)
	}
	e.RegisterDelayedCallback(func() { e.SignalWorkflow(activities.GrantSignal, activities.Grant{Key: "key"}) }, time.Minute)
	var c crowd
	var took time.Duration
	require.NoError(t, e.run(func(ctx workflow.Context, l *limiter) error {
		began := workflow.Now(ctx)
		c.run(ctx, l, 4, func(int) policies.Limit { return policies.Limit{Key: "key", Max: 2} })
		took = workflow.Now(ctx).Sub(began)
		return nil
	}))
	require.Equal(t, time.Minute+2*time.Second, took.Round(time.Second))
	require.Equal(t, inOrder(4), c.began)
	require.Equal(t, 2, c.most["key"])
	require.True(t, e.limits["key"].empty())
}
