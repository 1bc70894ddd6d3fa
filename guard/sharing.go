package guard

import (
	"context"
	"time"
)

const (
	// patience is how long a call waits for an answer.
	patience = 300 * time.Millisecond
	// silence is how long nobody waits after an answer did not come.
	silence = 5 * time.Second
	// current is how long an answer stands for what the others did. A call that finds an older one asks first.
	current = 10 * time.Second
	// calm is how much longer a process waits with news of nothing but good calls.
	calm = 5
	// shareTimeout ends a report that nobody takes.
	shareTimeout = 10 * time.Second
)

// sharing is what a process has told the others about a dependency, and heard from them. The mutex of the dependency guards it.
type sharing struct {
	answer  Answer    // the latest
	heard   time.Time // when it came
	resets  int       // those that were heard of, -1 before the first answer
	unsent  Counts    // not in a report yet
	since   time.Time // when the first of it happened
	sent    *Report   // not answered yet
	oldest  time.Time // when the first of that happened
	last    time.Time // when the last report was sent
	silent  time.Time // nobody waits before
	urgent  bool
	flight  *flight
	timer   *time.Timer
	due     time.Time // when it sends
	number  int       // of the last report that was made; one that is made again has a new number
	replied int       // of the last that was answered

	moves      int     // how often the breaker opened or closed by what happened here
	probed     *Probed // to be told, with when the probe began
	probeBegan time.Time
	wantProbe  bool

	waiting  int // how many calls wait for a retry
	borrowed int // retries, until returned, with report loan
	returned time.Time
	loan     int
	spent    int // of them since the last report
}

// flight is a report under way.
type flight struct {
	done   chan struct{}
	failed bool
	number int
	moves  int
	start  time.Time // by the machine's clock
	sentAt time.Time
	report Report
}

// The counts to go by: of all processes while that is known, else of this one.

func (d *Dependency) broken(now time.Time) Counts {
	return d.together(now, d.answer.Breaker, d.state.Breaker.sum(now))
}

func (d *Dependency) throttled(now time.Time) Counts {
	return d.together(now, d.answer.Throttle, d.state.Throttle.sum(now))
}

func (d *Dependency) budgeted(now time.Time) Counts {
	return d.together(now, d.answer.Budget, d.state.budget(now))
}

func (d *Dependency) together(now time.Time, all, own Counts) Counts {
	if d.heard.IsZero() || now.Sub(d.heard) > current {
		return own
	}
	all.add(d.unsent)
	if d.sent != nil {
		all.add(d.sent.Counts)
	}
	return all
}

// moved notes that the breaker opened or closed by what happened here, and reports it at once.
func (d *Dependency) moved() {
	d.moves++
	d.urgent = true
	d.answer.Breaker, d.answer.Throttle = Counts{}, Counts{} // they were of before
	if !d.state.Open {
		d.closed()
	}
	d.nudge()
}

// closed keeps what was counted before the breaker closed from counting after it.
func (d *Dependency) closed() {
	d.own, d.streak = false, 0
	d.unsent.Calls, d.unsent.Failures, d.unsent.Slowed = 0, 0, 0
	if d.sent != nil {
		d.sent.Counts.Calls, d.sent.Counts.Failures, d.sent.Counts.Slowed = 0, 0, 0
	}
}

// catchUp asks when nothing was heard of the others for a while.
func (d *Dependency) catchUp() {
	if !d.alone() && (d.heard.IsZero() || d.now().Sub(d.heard) > current) {
		d.ask()
	}
}

// ask sends a report and waits for its answer. It reports whether that came. The mutex is released meanwhile.
func (d *Dependency) ask() bool {
	if d.alone() || d.now().Before(d.silent) {
		return false
	}
	after := d.number
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for d.replied <= after {
		f := d.send()
		if time.Since(f.start) > patience {
			return false
		}
		d.mu.Unlock()
		late := false
		select {
		case <-f.done:
		case <-timer.C:
			late = true
		}
		d.mu.Lock()
		if late || f.failed {
			d.silent = d.now().Add(silence)
			return false
		}
	}
	return true
}

// nudge sends a report when it is time for one, or sees to it that it will be.
func (d *Dependency) nudge() {
	if d.alone() || d.flight != nil || !d.news() {
		return
	}
	due := d.last.Add(d.every())
	wait := due.Sub(d.now())
	if d.urgent && !d.now().Before(d.silent) {
		wait = 0
	}
	if wait <= 0 {
		d.send()
		return
	}
	if d.timer != nil {
		if !due.Before(d.due) {
			return
		}
		d.timer.Stop() // what is new now is more urgent
	}
	d.due = due
	d.timer = time.AfterFunc(wait, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.timer = nil
		if !d.alone() && d.flight == nil && d.news() {
			d.send()
		}
	})
}

// alone says that the process goes by what itself has seen.
func (d *Dependency) alone() bool {
	return d.registry.options.Sharer == nil || d.registry.closed.Load()
}

func (d *Dependency) news() bool {
	return d.urgent || d.unsent != (Counts{}) || d.sent != nil || d.probed != nil
}

// every is how long to wait between reports.
func (d *Dependency) every() time.Duration {
	every := max(reportEvery, d.answer.Every)
	c := d.unsent
	switch {
	case d.now().Before(d.silent):
		return max(every, silence)
	case d.sent == nil && !d.urgent && c.Failures+c.Slowed+c.Refused+c.Held+c.Retries == 0:
		return calm * every
	}
	return every
}

// send sends a report, unless one is under way, and returns what is.
func (d *Dependency) send() *flight {
	if d.flight != nil {
		return d.flight
	}
	now := d.now()
	d.number++
	f := &flight{done: make(chan struct{}), number: d.number, moves: d.moves, start: time.Now(), sentAt: now, report: d.report(now)}
	d.flight, d.last, d.urgent = f, now, false
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), shareTimeout)
		defer cancel()
		a, err := d.registry.options.Sharer.Share(ctx, f.report)
		d.mu.Lock()
		defer d.mu.Unlock()
		d.flight = nil
		if err != nil {
			f.failed = true
			d.silent = d.now().Add(silence)
		} else {
			d.take(f, a)
		}
		close(f.done)
		d.nudge()
	}()
	return f
}

// report makes the next report, or one that was not answered again with what is wanted now.
func (d *Dependency) report(now time.Time) Report {
	if d.sent == nil {
		d.sent = &Report{
			Key: d.key, Settings: d.state.Settings, Worker: d.registry.options.Worker, Seq: int(d.registry.reports.Add(1)),
			Counts: d.unsent, Streak: d.streak, Probed: d.probed,
		}
		d.unsent, d.probed, d.oldest = Counts{}, nil, d.since
	}
	r := *d.sent
	r.Settings = d.state.Settings
	if r.Counts != (Counts{}) {
		r.Since = max(0, now.Sub(d.oldest))
	}
	if r.Probed != nil {
		r.Probed = &Probed{Ago: max(0, now.Sub(d.probeBegan)), Blame: r.Probed.Blame}
	}
	r.WantProbe = d.wantProbe
	if d.waiting > 0 {
		r.WantRetries = min(d.waiting+d.spent, maxLoan) // as many more as lately
	}
	if d.borrowed > 0 && now.After(d.returned) {
		r.Unspent, r.Loan = d.borrowed, d.loan
	}
	d.spent = 0
	return r
}

// take takes an answer over.
func (d *Dependency) take(f *flight, a Answer) {
	now, s, me := d.now(), &d.state, d.registry.options.Worker
	d.answer, d.heard, d.replied, d.sent, d.silent = a, now, f.number, nil, time.Time{}
	if f.report.Unspent > 0 {
		d.borrowed = 0
	}
	if a.Retries > 0 {
		d.borrowed, d.returned, d.loan = a.Retries, f.sentAt.Add(s.loan()), f.report.Seq
	}
	if d.resets >= 0 && a.Resets != d.resets {
		s.reset(now)
		d.closed()
		d.unsent = Counts{Firsts: d.unsent.Firsts}
	}
	d.resets = a.Resets
	if f.moves != d.moves {
		d.answer.Breaker, d.answer.Throttle = Counts{}, Counts{} // the breaker opened or closed since: those were of before
		d.urgent = true
		return
	}
	if !a.Open || s.Settings.Breaker.Failures == 0 { // without a breaker of its own a process holds nothing back
		// A breaker that was opened here stays open when nobody agrees: the trouble is this process's own. It probes by itself.
		if s.Open && !d.own {
			s.close(now)
			d.closed()
		}
		return
	}
	probing := s.Open && s.Probe == me && now.Before(s.ProbeEnd)
	d.own = false
	s.Open, s.Opened, s.Until, s.Why = true, now.Add(-a.Age), now.Add(a.For), a.Why
	switch {
	case a.Probe:
		s.Probe, s.ProbeEnd = me, now.Add(a.ProbeFor)
	case probing && !f.report.WantProbe: // the answer is not about it
	case a.ProbeFor > 0:
		s.Probe, s.ProbeEnd = "another worker", now.Add(a.ProbeFor)
	default:
		s.Probe, s.ProbeEnd = "", time.Time{}
	}
}

// spend makes a retry of those that were borrowed. What is not spent in time is given back with the next report.
func (d *Dependency) spend() bool {
	now := d.now()
	if d.borrowed == 0 || now.After(d.returned) {
		return false
	}
	d.borrowed--
	d.spent++
	d.state.Budget.add(now, now, Counts{Retries: 1})
	return true
}
