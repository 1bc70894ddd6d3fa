package stepwell

import (
	"context"
	"fmt"
	"time"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

// fanCount is how far a foreach has come.
type fanCount struct {
	items, completed, failed int
	// since is when its items began to end, as far as this program saw.
	since time.Time
	from  int // how many had ended by then
	// told is what was told last, and when.
	told   int
	toldAt time.Time
}

func (f fanCount) done() int { return min(f.completed+f.failed, max(f.items, f.completed)) }

// text is "1,200 of 10,000 done, 2 failed".
func (f fanCount) text(s style) string {
	text := fmt.Sprintf("%s of %s done", grouped(f.done()), many(f.items, "item"))
	if f.failed > 0 {
		text += ", " + s.bad(grouped(f.failed)+" failed")
	}
	return text
}

func (f fanCount) pace() pace { return pace{since: f.since, from: int64(f.from)} }

// rate is how many items end in a second, 0 when it is too early to say.
func (f fanCount) rate(now time.Time) float64 { return f.pace().rate(int64(f.done()), now) }

// left guesses how long the rest takes, 0 when it is too early to say.
func (f fanCount) left(now time.Time) time.Duration {
	return f.pace().left(int64(f.done()), int64(f.items), now)
}

// due says that the count is to be told again: when a tenth more is done, or after a while.
func (f fanCount) due(now time.Time) bool {
	more, since := f.done()-f.told, now.Sub(f.toldAt)
	return more > 0 && since >= time.Second && (more*10 >= f.items || since >= 15*time.Second)
}

// fanWatch is what is asked about all foreach shapes of a run, and when.
type fanWatch struct {
	progress []runs.Progress
	// answer is what comes back when the workflow was asked, nil when it was not.
	answer chan []runs.Progress
	// asked and counted are when the workflow was asked last and when items were counted last.
	asked, counted time.Time
	// pause is how long nothing is counted then, because it took long.
	pause time.Duration
	// failures counts the failed items that were told, by the names of their tasks.
	failures int
	told     map[string]bool
	failedAt time.Time
}

const (
	// askEvery is how often the workflow is asked how far it is, countEvery how often items are counted.
	askEvery   = time.Second
	countEvery = 2 * time.Second
	// askPatience is how long a worker may take for its answer.
	askPatience = 200 * time.Millisecond
	// manyItems is up to how many items of a foreach are counted by their keys. Of larger ones the workflow knows how many of
	// its parts have ended.
	manyItems = 20_000
	// someFailures is how many failed items are told one by one while the run goes on.
	someFailures = 5
)

// foreach looks at a foreach that the run has come to, and at its join.
func (v *visit) foreach(n *flow.PlanNode, x flow.Index) (done bool, _ error) {
	s := v.line(n.Name, x)
	if !s.ended.IsZero() {
		if s.state != runs.Completed {
			return false, nil
		}
		return v.step(n.Join, x)
	}
	d, decided := v.ahead[n.Name]
	if !decided || d.Items == nil {
		return false, nil
	}
	split := v.splitEnded // before the join is read
	join, err := v.task(flow.TaskName(n.Join.Name, x))
	if err != nil {
		return false, err
	}
	over := join != nil || !v.run.Ended.IsZero()
	switch {
	case join != nil && join.Reused():
		s.began, s.state, s.reused, s.ended = true, runs.Completed, join.Owner, join.Record.Started
		s.fan = &fanCount{items: d.Items.Len}
		return v.step(n.Join, x)
	case !s.began:
		now := time.Now()
		s.began, s.started, s.state = true, now, runs.Running
		if at := split; !at.IsZero() && at.Before(now) {
			s.started = at
			if at.Before(v.run.Started) { // in the run that it was taken over from
				s.started = v.run.Started
			}
		}
		if join != nil && began(join, nil).Before(s.started) { // it is over by now, and the clocks of workers differ
			s.started = began(join, nil)
		}
		s.fan = &fanCount{items: d.Items.Len, toldAt: now}
		v.events = append(v.events, event{at: s.started, kind: eventStarted, step: *s})
	}
	if err := v.count(s, n, over); err != nil {
		return false, err
	}
	if !over {
		return false, nil
	}
	end := event{kind: eventCompleted, at: v.run.Ended}
	s.state = runs.Completed
	switch {
	case join != nil && join.Record != nil:
		end.at = join.Record.Started
	case join != nil:
		end.at = began(join, nil)
	case v.run.Status == records.StatusFailed && (s.fan.failed > 0 || v.failedIn(n)):
		s.state, end.kind = runs.Failed, eventFailed
	default:
		s.state, end.kind = runs.Cancelled, eventCancelled
	}
	s.ended = end.at
	end.step = *s
	v.events = append(v.events, end)
	if s.state != runs.Completed {
		return false, nil
	}
	return v.step(n.Join, x)
}

// failedIn says that it was a task within the node with which the run failed.
func (v *visit) failedIn(n *flow.PlanNode) bool {
	if v.run.Failure == nil {
		return false
	}
	_, ok := flow.Plan{Root: *n}.Task(v.run.Failure.Step)
	return ok
}

// count finds out how many items have ended, by one question to the workflow or one listing now and then, and tells it.
func (v *visit) count(s *watched, n *flow.PlanNode, over bool) error {
	f := *s.fan
	now := time.Now()
	batched := n.Fan != nil && n.Fan.Batch > 1
	var all *runs.Foreach
	var err error
	if !over {
		v.ask(now)
		for _, p := range v.fans.progress {
			if p.Foreach == n.Name && p.Index.Equal(s.index) {
				f.completed, f.failed = max(f.completed, p.Completed), max(f.failed, p.Failed)
			}
		}
	}
	if over || (f.items <= manyItems || batched) && now.Sub(v.fans.counted) >= max(countEvery, v.fans.pause) {
		var completed, failed int
		switch {
		case len(s.index) == 0 && (over || !batched):
			if all, err = v.run.Foreach(v.ctx, n.Name); err == nil {
				completed, failed = all.Completed, all.Failed
			}
		default: // in one turn of a loop, or nothing but batches
			completed, failed, err = v.run.CountItems(v.ctx, n.Name, s.index)
		}
		if err != nil {
			return err
		}
		f.completed, f.failed = max(f.completed, completed), max(f.failed, failed)
		v.fans.counted = time.Now()
		v.fans.pause = 5 * time.Since(now) // a sixth of the time at most
	}
	if f.since.IsZero() && f.done() > 0 {
		f.since, f.from = now, f.done()
	}
	if f.failed > 0 && v.fans.failures < min(f.failed, someFailures) && len(s.index) == 0 {
		if err := v.failures(s, n, f, all); err != nil {
			return err
		}
	}
	due := !over && f.due(now)
	if due {
		f.told, f.toldAt = f.done(), now
	}
	s.fan = &f
	if due {
		v.events = append(v.events, event{at: now, kind: eventCounted, step: *s})
	}
	return nil
}

// ask asks the workflow how far it is. An answer that takes longer than askPatience counts at a later look: a worker that is
// busy, or none, must not hold up what else there is to see.
func (v *visit) ask(now time.Time) {
	w := &v.fans
	if w.answer == nil {
		if now.Sub(w.asked) < askEvery {
			return
		}
		w.asked = now
		answer := make(chan []runs.Progress, 1)
		w.answer = answer
		go func() {
			// Giving up with the look would make an embedded server complain.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(v.ctx), 30*askEvery)
			defer cancel()
			progress, err := v.run.Progress(ctx)
			if err != nil {
				time.Sleep(5 * askEvery) // a worker from before there were shapes does not know the question
			}
			answer <- progress
		}()
	}
	select {
	case progress := <-w.answer:
		w.answer = nil
		if progress != nil {
			w.progress = progress
		}
	case <-time.After(askPatience - min(time.Since(w.asked), askPatience)):
	case <-v.ctx.Done():
	}
}

// failures tells some of the items that failed one by one.
func (v *visit) failures(s *watched, n *flow.PlanNode, f fanCount, all *runs.Foreach) (err error) {
	if all == nil {
		now := time.Now()
		batched := n.Fan != nil && n.Fan.Batch > 1
		if f.items > manyItems && !batched || now.Sub(v.fans.failedAt) < countEvery {
			return nil
		}
		v.fans.failedAt = now
		if all, err = v.run.Foreach(v.ctx, n.Name); err != nil {
			return err
		}
	}
	for _, step := range all.Steps {
		for t, err := range step.Failures(v.ctx) {
			switch {
			case err != nil:
				return err
			case v.fans.told[t.Name()]:
				continue
			}
			if err := t.Explain(v.ctx); err != nil {
				return err
			}
			at := time.Now()
			if t.Failure != nil && !t.Failure.Time.IsZero() {
				at = t.Failure.Time
			}
			if v.fans.told == nil {
				v.fans.told = map[string]bool{}
			}
			v.fans.told[t.Name()] = true
			message := "failed: " + failureText(t.Failure)
			if v.fans.failures++; v.fans.failures == someFailures && f.failed > someFailures {
				message += "; others are only counted"
			}
			v.events = append(v.events, event{at: at, kind: eventItem, step: *s, log: logEntry{task: t.Name(), message: message}})
			if v.fans.failures == someFailures {
				return nil
			}
		}
	}
	return nil
}
