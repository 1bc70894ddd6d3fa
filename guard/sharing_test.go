package guard_test

import (
	"context"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/guard"
	"github.com/stepwell-flows/stepwell/policies"
)

// eventually waits for what happens in the background, for as long as a busy machine may need.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long: %s", what)
		}
	}
}

// two are two processes that share a dependency. Tests with them run in bubbles: however slow the machine, an answer comes in time.
func two(d policies.Dependency) (c *clock, s *server, a, b *guard.Dependency) {
	c = newClock()
	s = &server{clock: c}
	process := func(name string) *guard.Dependency {
		d.Name = "model"
		return guard.New(guard.Options{Now: c.Now, Sharer: s, Worker: name}).Dependency(d)
	}
	return c, s, process("a"), process("b")
}

func TestProcessesShareAnOpenBreaker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, s, a, b := two(policies.Dependency{Breaker: policies.Breaker{Failures: 4}})
		call(t, b, nil)
		for range 4 {
			call(t, a, down)
		}
		require.Contains(t, refusal(t, a).Reason, "4 of 4 calls failed")
		eventually(t, "the opening is reported at once", func() bool { return s.view().State == guard.Opened })
		c.move(3 * time.Second)
		call(t, b, nil) // it reports, and learns
		eventually(t, "the other process knows", func() bool {
			_, err := b.Begin(false)
			return err != nil
		})
		require.Equal(t, 2*time.Second, refusal(t, b).For, "as long as for the one that opened it")

		c.move(2 * time.Second)
		probe, err := b.Begin(false)
		require.NoError(t, err)
		require.Equal(t, 5*time.Second, refusal(t, a).For, "the other has the place of the probe")
		refusal(t, b)
		probe.End(nil)
		call(t, b, nil)
		eventually(t, "the closing is reported at once", func() bool { return s.view().State == guard.Closed })
		c.move(time.Second)
		eventually(t, "the other process knows", func() bool {
			call, err := a.Begin(false)
			call.End(nil)
			return err == nil
		})
	})
}

// Each sees too few failures to open the breaker by itself.
func TestProcessesAddUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, s, a, b := two(policies.Dependency{Breaker: policies.Breaker{Failures: 4}})
		for range 2 {
			call(t, a, down)
			call(t, b, down)
		}
		require.Eventually(t, func() bool {
			c.move(time.Second)
			for _, d := range []*guard.Dependency{a, b} {
				if call, err := d.Begin(false); err == nil {
					call.End(nil)
				}
			}
			return s.view().State != guard.Closed
		}, 30*time.Second, time.Millisecond)
		require.Equal(t, 4, s.view().Why.Failures)
	})
}

// A process that fails while the others do not stops calling, and they go on. When the others fail, too, all stop.
func TestProcessThatFailsAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, s, a, b := two(policies.Dependency{Breaker: policies.Breaker{Failures: 4}})
		for range 10 {
			call(t, b, nil)
		}
		c.move(5 * time.Second)
		call(t, b, nil)
		eventually(t, "the good calls are known", func() bool { return s.view().Breaker.Calls == 11 })
		for range 4 {
			call(t, a, down)
		}
		refusal(t, a)
		eventually(t, "the failures are known", func() bool { return s.view().Breaker.Failures == 4 })
		require.Equal(t, guard.Closed, s.view().State)
		c.move(time.Second)
		call(t, b, nil)
		refusal(t, a) // nobody agrees, and it is not told to go on

		c.move(4 * time.Second)
		call(t, a, down) // its own probe
		require.Equal(t, 5*time.Second, refusal(t, a).For)
		require.Equal(t, guard.Closed, s.view().State)
		c.move(5 * time.Second)
		call(t, a, nil)
		for range 4 { // what b told last is ten seconds old, and counts
			call(t, a, down)
		}
		refusal(t, a)
		call(t, b, down)
		c.move(time.Second)
		_, _ = b.Begin(false) // it reports
		eventually(t, "all failed", func() bool { return s.view().State == guard.Opened })
	})
}

func TestProbeOfAProcessThatWasKilled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, s, a, b := two(policies.Dependency{Breaker: policies.Breaker{Failures: 1, Cooldown: time.Second}})
		call(t, a, down)
		eventually(t, "it is open", func() bool { return s.view().State == guard.Opened })
		c.move(time.Second)
		_, err := a.Begin(false)
		require.NoError(t, err, "the last that is heard of it")
		require.Equal(t, time.Second, refusal(t, b).For)
		c.move(10*time.Second - time.Millisecond)
		refusal(t, b)
		c.move(time.Millisecond)
		call(t, b, nil)
		call(t, b, nil)
	})
}

func TestReset(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, s, a, _ := two(policies.Dependency{Breaker: policies.Breaker{Failures: 3, Cooldown: time.Hour}, Budget: policies.Budget{Percent: 10, Minimum: 1}})
		require.NoError(t, a.AllowRetry())
		require.Error(t, a.AllowRetry())
		for range 3 {
			call(t, a, down)
		}
		refusal(t, a)
		eventually(t, "it is open", func() bool { return s.view().State == guard.Opened })
		s.set(func(s *server) { s.board.Reset(s.clock.Now()) })
		require.Eventually(t, func() bool {
			c.move(time.Second)
			call, err := a.Begin(false)
			call.End(nil)
			return err == nil
		}, 30*time.Second, time.Millisecond)
		call(t, a, down)
		call(t, a, nil) // the old failures are forgotten
		require.NoError(t, a.AllowRetry())
	})
}

// While the server is away each process decides by itself, without waiting, and what happened is reported later: once.
func TestProcessesAloneWithoutAServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, s, a, b := two(policies.Dependency{Breaker: policies.Breaker{Failures: 2}, Budget: policies.Budget{Percent: 10, Minimum: 3}})
		s.broken = true
		for _, d := range []*guard.Dependency{a, b} {
			call(t, d, down)
			for range 3 {
				require.NoError(t, d.AllowRetry())
			}
			require.Error(t, d.AllowRetry())
			call(t, d, nil)
			call(t, d, down)
			require.Equal(t, 5*time.Second, refusal(t, d).For)
			c.move(5 * time.Second)
			call(t, d, nil) // the probe
		}
		s.set(func(s *server) { s.broken, s.lose = false, true })
		require.Eventually(t, func() bool { // the first report arrives, and its answer is lost
			c.move(6 * time.Second)
			call(t, a, nil)
			return len(reports(s)) > 0
		}, 30*time.Second, time.Millisecond)
		s.set(func(s *server) { s.lose = false })
		require.Eventually(t, func() bool {
			c.move(6 * time.Second)
			call(t, a, nil)
			call(t, b, nil)
			all := reports(s)
			return len(all) > 4 && all[len(all)-1].Seq > 1
		}, 30*time.Second, time.Millisecond)
		seqs := map[string]map[int]guard.Counts{}
		for _, r := range reports(s) {
			if seqs[r.Worker] == nil {
				seqs[r.Worker] = map[int]guard.Counts{}
			}
			seqs[r.Worker][r.Seq] = r.Counts
		}
		require.Len(t, seqs, 2)
		retries := 0
		for _, all := range seqs {
			for _, counts := range all {
				retries += counts.Retries
			}
		}
		require.Equal(t, 6, retries)
	})
}

func reports(s *server) []guard.Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]guard.Report(nil), s.reports...)
}

// A server that does not answer holds a call up for 300 ms, once in a while.
func TestSlowServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, s, a, _ := two(policies.Dependency{Breaker: policies.Breaker{Failures: 2}, Budget: policies.Budget{Percent: 10}})
		s.slow = make(chan struct{})
		began := time.Now()
		call(t, a, nil)
		require.Equal(t, 300*time.Millisecond, time.Since(began))
		began = time.Now()
		for range 50 {
			call(t, a, nil)
		}
		for range 10 {
			require.NoError(t, a.AllowRetry())
		}
		require.Zero(t, time.Since(began), "calls do not wait for a server that is known to be slow")
		close(s.slow)
		eventually(t, "the report arrives", func() bool { return len(reports(s)) > 0 })
	})
}

func TestNonsenseIsRefused(t *testing.T) {
	t.Parallel()
	good := func() guard.Report {
		return guard.Report{Key: "dependency/model", Worker: "a", Seq: 1, Settings: policies.Dependency{Name: "model"}, Counts: guard.Counts{Calls: 2, Failures: 1, Slowed: 1}}
	}
	require.NoError(t, good().Check())
	for name, spoil := range map[string]func(*guard.Report){
		"no worker":        func(r *guard.Report) { r.Worker = "" },
		"no seq":           func(r *guard.Report) { r.Seq = 0 },
		"negative":         func(r *guard.Report) { r.Counts.Firsts = -1 },
		"too many":         func(r *guard.Report) { r.Counts.Calls = 1 << 40 },
		"more than all":    func(r *guard.Report) { r.Counts.Failures = 2 },
		"greedy":           func(r *guard.Report) { r.WantRetries = 1 << 20 },
		"generous":         func(r *guard.Report) { r.Unspent = -1 },
		"from the future":  func(r *guard.Report) { r.Since = -1 },
		"a later probe":    func(r *guard.Report) { r.Probed = &guard.Probed{Ago: -1} },
		"strange settings": func(r *guard.Report) { r.Settings.Breaker.Percent = 200 },
		"a strange name":   func(r *guard.Report) { r.Settings.Name = "a/b" },
	} {
		r := good()
		spoil(&r)
		require.Error(t, r.Check(), name)
	}
}

// A dependency that was idle for long, and forgotten, is heard again when it is used again.
func TestReportsAfterADependencyWasForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newClock()
		s := &server{clock: c}
		r := guard.New(guard.Options{Now: c.Now, Sharer: s, Worker: "a"})
		model := func() *guard.Dependency {
			return r.Dependency(policies.Dependency{Name: "model", Breaker: policies.Breaker{Failures: 100}})
		}
		heard := func(calls int) func() bool {
			return func() bool {
				c.move(time.Second)
				call(t, model(), nil)
				return s.view().Breaker.Calls >= calls
			}
		}
		eventually(t, "some reports", func() bool { return heard(1)() && len(reports(s)) > 5 })
		c.move(time.Hour)
		for i := range 200 {
			_ = r.Run("TrainFlow", strconv.Itoa(i), policies.Budget{Percent: 10})
		}
		before := len(reports(s))
		call(t, model(), nil)
		eventually(t, "a report", func() bool { return heard(1)() || len(reports(s)) > before+2 })
		require.NotZero(t, s.view().Breaker.Calls, "the first report counts")
	})
}

// seldom is a server that wants to hear from a process every fifteen seconds.
type seldom struct{ *server }

func (s seldom) Share(ctx context.Context, r guard.Report) (guard.Answer, error) {
	a, err := s.server.Share(ctx, r)
	a.Every = 15 * time.Second
	return a, err
}

// Good news may wait for five times as long as bad. When there is bad news, too, neither waits.
func TestBadNewsDoesNotWaitForGood(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newClock()
		s := &server{clock: c}
		d := guard.New(guard.Options{Now: c.Now, Sharer: seldom{s}}).Dependency(policies.Dependency{Name: "model", Breaker: policies.Breaker{Failures: 5}})
		slow, err := d.Begin(false)
		require.NoError(t, err)
		call(t, d, nil)
		c.move(15*time.Second - 10*time.Millisecond)
		slow.End(down)
		eventually(t, "the failure is known before the good call has waited for more than a minute", func() bool { return s.view().Breaker.Failures == 1 })
	})
}

// Bursts borrow more than they turn out to need. All the same they get what the budget has, and no more.
func TestWhatIsNotSpentIsGivenBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, _, a, b := two(policies.Dependency{Budget: policies.Budget{Percent: 50, Window: time.Minute}})
		for range 200 {
			call(t, a, nil)
			call(t, b, nil)
		}
		allowed := 0
		for range 20 {
			for _, d := range []*guard.Dependency{a, b} {
				for range 10 {
					if d.AllowRetry() == nil {
						allowed++
					}
				}
			}
			synctest.Wait()
			c.move(2100 * time.Millisecond)
		}
		require.LessOrEqual(t, allowed, 200)
		require.Greater(t, allowed, 190)
	})
}

// What a closed registry would still have to tell it keeps to itself.
func TestClosedRegistryReportsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newClock()
		s := &server{clock: c, lose: true}
		r := guard.New(guard.Options{Now: c.Now, Sharer: s})
		d := r.Dependency(policies.Dependency{Name: "model", Breaker: policies.Breaker{Failures: 2, Cooldown: time.Hour}})
		call(t, d, down)
		eventually(t, "a report whose answer is lost, so that it would be sent again", func() bool { return len(reports(s)) == 1 })
		r.Close()
		r.Close()
		s.set(func(s *server) { s.lose = false })
		c.move(10 * time.Second)
		call(t, d, down)
		refusal(t, d)
		c.move(time.Hour)
		call(t, d, nil)
		require.Len(t, reports(s), 1)
	})
}
