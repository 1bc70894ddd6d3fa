package policies_test

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/policies"
)

func TestWarnings(t *testing.T) {
	t.Parallel()
	catch := policies.Catch(func(context.Context, *struct{}, *policies.Failure) error { return nil })
	minute := policies.Timeout{Attempt: time.Minute}
	four := policies.Retry{MaximumAttempts: 4}
	for _, test := range []struct {
		name    string
		retry   policies.Retry
		timeout policies.Timeout
		catch   bool
		more    func(*policies.Spec)
		given   policies.Assumptions
		want    []string
	}{
		{name: "one attempt"},
		{name: "sound", retry: four, timeout: policies.Timeout{Attempt: time.Minute, Total: 10 * time.Minute, Heartbeat: time.Minute}, catch: true},
		{name: "sound in a foreach", retry: four, timeout: minute, given: policies.Assumptions{Foreach: true, ClientAttempts: 2}},
		{name: "no timeout", retry: four, want: []string{"no-timeout: attempts have no timeout, so one that hangs is never tried again (set Timeout.Attempt)"}},
		{name: "endless", retry: policies.Retry{MaximumAttempts: math.MaxInt}, timeout: minute, given: policies.Assumptions{ClientAttempts: 2}, want: []string{
			"no-end: attempts have no end (set Timeout.Total or fewer attempts)",
			"stacked-retries: 2 attempts of the client for each attempt of the step make calls without end of one while the service is down " +
				"(retry in one place: give the client or the step one attempt)",
		}},
		{name: "endless within a total", retry: policies.Retry{MaximumAttempts: math.MaxInt, InitialInterval: time.Minute}, timeout: policies.Timeout{Attempt: time.Minute, Total: time.Hour}, want: []string{
			"attempts-exceed-total: endless attempts of up to 1m each do not fit into Total 1h (make Total longer, or Attempt shorter, or attempts fewer)",
			"waits-exceed-total: the waits between endless attempts may add up to any time, and Total is 1h (make Total longer, or MaximumInterval shorter, or attempts fewer)",
		}},
		{name: "stacked", retry: four, timeout: minute, given: policies.Assumptions{ClientAttempts: 3}, want: []string{
			"stacked-retries: 3 attempts of the client for each attempt of the step make 12 calls of one while the service is down " +
				"(retry in one place: give the client or the step one attempt)",
		}},
		{name: "no jitter", retry: policies.Retry{MaximumAttempts: 4, Jitter: policies.NoJitter}, timeout: minute, given: policies.Assumptions{Foreach: true}, want: []string{
			"no-jitter: waits have no jitter, so items of the foreach that failed together come back together (use FullJitter)",
		}},
		{name: "no jitter alone", retry: policies.Retry{MaximumAttempts: 4, Jitter: policies.NoJitter}, timeout: minute},
		{name: "heartbeat", timeout: policies.Timeout{Attempt: 30 * time.Second, Heartbeat: time.Minute}, want: []string{
			"slow-heartbeat: Heartbeat 1m is longer than an attempt may take, 30s, so a lost worker is noticed late (make it shorter or leave it out, which means 30s)",
		}},
		{name: "total", retry: policies.Retry{MaximumAttempts: 3}, timeout: policies.Timeout{Attempt: time.Minute, Total: 2 * time.Minute}, want: []string{
			"attempts-exceed-total: 3 attempts of up to 1m each do not fit into Total 2m (make Total longer, or Attempt shorter, or attempts fewer)",
		}},
		{name: "waits", retry: policies.Retry{MaximumAttempts: 5, InitialInterval: 10 * time.Second}, timeout: policies.Timeout{Attempt: time.Second, Total: 2 * time.Minute}, want: []string{
			"waits-exceed-total: the waits between 5 attempts may add up to 2m30s, and Total is 2m (make Total longer, or MaximumInterval shorter, or attempts fewer)",
		}},
		{name: "retry-after that was set", retry: policies.Retry{MaximumAttempts: 4, MaximumRetryAfter: 5 * time.Minute}, timeout: policies.Timeout{Attempt: time.Second, Total: 2 * time.Minute}, want: []string{
			"retry-after-exceeds-total: a service may ask for a wait of up to 5m (MaximumRetryAfter), and one that does not fit into Total 2m fails the task at once " +
				"(make Total longer, or MaximumRetryAfter shorter: then a longer wait is cut to it)",
		}},
		{
			name: "retry-after of a service", retry: four, timeout: policies.Timeout{Attempt: time.Second, Total: 2 * time.Minute},
			more: func(s *policies.Spec) { s.Dependency = &policies.Dependency{Name: "model"} },
			want: []string{
				"retry-after-exceeds-total: a service may ask for a wait of up to 1h (MaximumRetryAfter), and one that does not fit into Total 2m fails the task at once " +
					"(make Total longer, or MaximumRetryAfter shorter: then a longer wait is cut to it)",
			},
		},
		{name: "pause and catch", retry: policies.Retry{Exhausted: policies.Pause}, catch: true, want: []string{
			"catch-after-pause: the catch function runs only when a person lets the paused task fail (leave out Exhausted: Pause, or the catch function)",
		}},
		{
			name: "budget without retries", more: func(s *policies.Spec) { s.Budget = &policies.Budget{Percent: 20} },
			want: []string{"idle-budget: the budget bounds retries, and the step has one attempt (set Retry.MaximumAttempts, or leave the budget out)"},
		},
		{
			name: "budget that is never spent", retry: policies.Retry{MaximumAttempts: 3}, timeout: minute, more: func(s *policies.Spec) { s.Budget = &policies.Budget{Percent: 200} },
			want: []string{"idle-budget: the budget allows 200% retries, and 3 attempts never make more than 200% (use less than 200%, such as 20%)"},
		},
		{name: "budget", retry: policies.Retry{MaximumAttempts: 3}, timeout: minute, more: func(s *policies.Spec) { s.Budget = &policies.Budget{Percent: 20} }},
		{
			name: "ladder", given: policies.Assumptions{Isolated: true},
			more: ladder(policies.Rung{}, policies.Rung{Memory: 1 << 30}, policies.Rung{Memory: 2 << 30, Queue: "big"}, policies.Rung{Memory: 2 << 30, Queue: "bigger"}),
		},
		{
			name: "ladder without steps", given: policies.Assumptions{Isolated: true}, timeout: policies.Timeout{Attempt: 10 * time.Minute, Total: time.Hour},
			more: ladder(policies.Rung{Memory: 2 << 30}, policies.Rung{Memory: 2 << 30}, policies.Rung{Memory: 3 << 30, Timeout: 5 * time.Minute}, policies.Rung{Timeout: 2 * time.Hour}),
			want: []string{
				"rung-exceeds-total: Timeout 2h of rung 4 is longer than Total 1h (make Total longer, which covers all attempts on all rungs)",
				"rung-not-larger: rung 2 (memory 2 GiB) is no larger than rung 1 (memory 2 GiB) (give each rung more memory, more time or another queue than the one before)",
				"rung-not-larger: rung 3 (memory 3 GiB, 5m each) is no larger than rung 2 (memory 2 GiB) (give each rung more memory, more time or another queue than the one before)",
			},
		},
		{name: "ladder of memory", more: ladder(policies.Rung{}, policies.Rung{Memory: 1 << 30}), want: []string{
			"rung-without-isolation: rungs set Memory, and the step does not run in a process of its own, so nothing bounds it (add flow.Isolated)",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var c *policies.CatchPolicy
			if test.catch {
				c = &catch
			}
			s := policies.NewSpec(&test.retry, &test.timeout, c)
			if test.more != nil {
				test.more(&s)
			}
			var got []string
			for _, w := range policies.Warnings(s, test.given) {
				got = append(got, w.Code+": "+w.String())
			}
			require.Equal(t, test.want, got)
			require.Equal(t, policies.Warnings(s, test.given), explain(t, s, test.given).Warnings)
		})
	}
}

func ladder(rungs ...policies.Rung) func(*policies.Spec) {
	return func(s *policies.Spec) { s.Escalate = &policies.Escalate{Rungs: rungs} }
}
