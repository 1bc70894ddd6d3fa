package tests

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/guard"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

type outage struct {
	Items, Item, Done int
}

// A service is away for a minute in the middle of a foreach that two workers run. They stop calling it, but for one probe at a
// time, the tasks wait without using an attempt, and all of them end well when it is back.
func TestOutage(t *testing.T) {
	t.Parallel()
	const items, before, away, cooldown = 1500, 300, time.Minute, 5 * time.Second
	var s service
	name := limitKey(t)
	f := flow.New("OutageFlow",
		flow.Foreach("all", func(*outage) []int { return make([]int, items) }, func(s *outage, i int) { s.Item = i },
			flow.Step("call", func(context.Context, *outage) error {
				s.mu.Lock()
				s.calls = append(s.calls, time.Now())
				s.mu.Unlock()
				if s.down.Load() {
					return policies.WithClass(errors.New("503"), policies.Transient)
				}
				return nil
			}, policies.Retry{MaximumAttempts: 3, InitialInterval: time.Millisecond},
				policies.Dependency{Name: name, Breaker: policies.Breaker{Failures: 5, Cooldown: cooldown}}),
		).Join("join", func(_ context.Context, s *outage, in flow.Inputs[outage]) error {
			s.Done = in.Len()
			return nil
		}))
	r := newRig(t, "mem:", f)
	w, err := stepwell.NewWorker(r.temporal, r.store, stepwell.WorkerOptions{TaskQueue: limitKey(t), Drain: 500 * time.Millisecond}, f)
	require.NoError(t, err)
	require.NoError(t, w.Start())
	t.Cleanup(w.Stop)

	run, err := r.client.Start(t.Context(), f, stepwell.StartOptions{})
	require.NoError(t, err)
	began := time.Time{}
	eventually(t, "calls are made", func() bool { return len(s.since(began)) >= before })
	calls := s.since(began)
	rate := float64(len(calls)) / calls[len(calls)-1].Sub(calls[0]).Seconds()

	s.down.Store(true)
	down := time.Now()
	eventually(t, "the breaker is open", func() bool {
		v, err := r.client.Dependency(t.Context(), name)
		return err == nil && v.State == guard.Opened
	})
	time.Sleep(time.Until(down.Add(away)))
	during := len(s.since(down))
	s.down.Store(false)
	up := time.Now()
	eventually(t, "calls are made again", func() bool { return len(s.since(up)) > 0 })
	back := s.since(up)[0].Sub(up)
	run = r.wait(run)
	t.Logf("%.0f calls a second before, %d while it was away, the first %s after it was back, all done %s after", rate, during, back, time.Since(up))
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	require.Equal(t, items, lastState[outage](t, run, f).Done)
	require.Less(t, float64(during), 0.02*rate*away.Seconds())
	require.Less(t, back, 2*cooldown, "one more cooldown at most, and time for the tasks that wait")

	// Each call of the outage is an attempt that failed; no other attempt is.
	failed := 0
	for i := range items {
		task, err := run.Task(t.Context(), flow.TaskName("call", flow.Index{i}))
		require.NoError(t, err)
		if task.Record.Attempt == 1 {
			continue
		}
		for _, a := range attempts(t, run, flow.TaskName("call", flow.Index{i})) {
			if a.CountsAsCodeFailure {
				failed++
			}
		}
	}
	require.Equal(t, during, failed)
}
