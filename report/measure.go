package report

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

const (
	// sampled is how many tasks of a step are read to know when they ran.
	sampled = 200
	// ledgers is how many tasks of a step are read to know what their retries cost.
	ledgers = 200
)

// measure is what one step of a run took.
type measure struct {
	step *runs.Step
	// from and to are the first start and the last end that are known. Both are zero if nothing ran here.
	from, to time.Time
	// attempts are those of the only task.
	attempts []runs.Attempt
	// tasks are some of many, read, that this run executed; of is how many there are.
	tasks []*runs.Task
	of    int
	// fails are when some of many tasks failed for good.
	fails []time.Time
	retries
}

// retries is what a step lost to attempts that did not finish their task.
type retries struct {
	// tasks were tried more than once, of which some were looked at.
	retried, looked int
	failed, lost    int
	deferred        int
	ran, waited     time.Duration
}

// measureAll reads what the steps took.
func measureAll(ctx context.Context, steps []*runs.Step, now time.Time) ([]*measure, error) {
	out := make([]*measure, len(steps))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i, s := range steps {
		g.Go(func() (err error) {
			out[i], err = measureStep(ctx, s, now)
			return err
		})
	}
	return out, g.Wait()
}

func measureStep(ctx context.Context, s *runs.Step, now time.Time) (*measure, error) {
	m := &measure{step: s}
	if t := s.Task; t != nil {
		if t.State == runs.NotStarted || t.State == runs.Skipped || t.Reused() {
			return m, nil
		}
		var err error
		if m.attempts, err = t.Attempts(ctx); err != nil {
			return nil, err
		}
		m.lose(m.attempts)
		for _, a := range m.attempts {
			m.span(a.Started, a.Ended)
		}
		if p := t.Pending; p != nil {
			m.span(p.Started, now)
		} else if t.State == runs.Paused || t.State == runs.Running {
			m.span(time.Time{}, now)
		}
		if r := t.Record; r != nil { // of a caught failure, whose catch function ran after the last attempt
			m.span(r.Started, r.Ended)
		}
		return m, nil
	}
	tasks, of, err := s.Sample(ctx, sampled, func(g runs.Glance) bool { return g.State == runs.Completed || g.State == runs.Caught })
	if err != nil {
		return nil, err
	}
	m.of = of
	for _, t := range tasks {
		if t.Record != nil && !t.Reused() {
			m.tasks = append(m.tasks, t)
			m.span(t.Record.Started, t.Record.Ended)
		}
	}
	if s.Running+s.Paused > 0 {
		m.span(time.Time{}, now)
	}
	tried, of, err := s.Sample(ctx, ledgers, func(g runs.Glance) bool { return g.Tried })
	if err != nil {
		return nil, err
	}
	m.retried, m.looked = of, len(tried)
	all := make([][]runs.Attempt, len(tried))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i, t := range tried {
		g.Go(func() (err error) {
			all[i], err = t.Attempts(ctx)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for i, attempts := range all {
		m.lose(attempts)
		for _, a := range attempts {
			m.span(a.Started, a.Ended)
		}
		if n := len(attempts); tried[i].State == runs.Failed && n > 0 && !attempts[n-1].Ended.IsZero() {
			m.fails = append(m.fails, attempts[n-1].Ended)
		}
	}
	return m, nil
}

// lose counts what attempts cost that did not finish their task.
func (m *measure) lose(attempts []runs.Attempt) {
	bad := 0
	for _, a := range attempts {
		m.waited += a.Waited
		switch a.Outcome {
		case records.Completed:
			continue
		case records.Deferred:
			m.deferred++
		case records.Lost:
			if !a.Damaged() {
				m.lost++
			}
		default:
			m.failed++
		}
		bad++
		if !a.Started.IsZero() && a.Ended.After(a.Started) {
			m.ran += a.Ended.Sub(a.Started)
		}
	}
	if m.step.Task != nil && bad > 0 {
		m.retried, m.looked = 1, 1
	}
}

// span takes a time in.
func (m *measure) span(from, to time.Time) {
	if !from.IsZero() && (m.from.IsZero() || from.Before(m.from)) {
		m.from = from
	}
	if to.After(m.to) {
		m.to = to
	}
}

// took is the time from the first start to the last end.
func (m *measure) took() time.Duration {
	if m.from.IsZero() || m.to.IsZero() {
		return 0
	}
	return max(m.to.Sub(m.from), 0)
}

// typical is the median and the longest time of the tasks that were read.
func (m *measure) typical() (median, longest time.Duration) {
	if len(m.tasks) == 0 {
		return 0, 0
	}
	all := make([]time.Duration, len(m.tasks))
	for i, t := range m.tasks {
		all[i] = max(t.Record.Ended.Sub(t.Record.Started), 0)
	}
	slices.Sort(all)
	return all[len(all)/2], all[len(all)-1]
}
