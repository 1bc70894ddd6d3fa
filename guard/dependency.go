package guard

import (
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/stepwell-flows/stepwell/policies"
)

// Dependency is what guards one service. It is safe for concurrent use. The zero value and nil let everything through.
type Dependency struct {
	registry *Registry
	key      string
	// outer is set within a call that probes it, and has the budget.
	outer *Dependency

	mu    sync.Mutex
	state State // of what this process did
	// own says that the breaker was opened here, and that the others have not agreed.
	own    bool
	streak int // how many calls have failed since the last good one
	used   time.Time
	sharing
}

// Call is a call that was let through. The zero value and nil are calls that nobody counts.
type Call struct {
	dependency *Dependency
	began      time.Time
	probe      bool
	number     int64 // at the desk of another process
	ended      sync.Once
}

// RefusedError says that a call was not made, to spare the service.
type RefusedError struct {
	// Dependency is the name of the service.
	Dependency string
	// For is how long to wait before it makes sense to ask again.
	For time.Duration
	// Reason is why, for people.
	Reason string
	// Alone says that it was this call's bad luck: others may be let through meanwhile.
	Alone bool
}

// Error is the reason.
func (e *RefusedError) Error() string { return e.Reason }

// RefusedType is the name of the type of a [RefusedError] as a failure carries it.
const RefusedType = "RefusedError"

func (d *Dependency) refuse(wait time.Duration, reason string) error {
	return refusal(&RefusedError{Dependency: d.state.Settings.Name, For: wait, Reason: reason})
}

func refusal(e *RefusedError) error {
	return policies.WithDeferral(policies.WithClass(e, policies.Transient), policies.Deferral{For: e.For, Dependency: e.Dependency, Alone: e.Alone, Reason: e.Reason})
}

func (d *Dependency) use(settings policies.Dependency) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.used = d.now()
	d.state.use(settings)
}

func (d *Dependency) forgettable(now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.flight == nil && now.Sub(d.used) > d.state.Idle()
}

func (d *Dependency) now() time.Time { return d.registry.options.Now() }

// idles says that there is nothing to count.
func (d *Dependency) idles() bool {
	s := d.state.Settings
	return s.Breaker.Failures == 0 && s.Budget.Percent == 0 && s.Throttle.Percent == 0
}

// Begin asks whether a call may be made. It must be followed by the End of what it returns. Retry says that the call repeats one
// that failed. An error says why not, and when to ask again: it is a [*RefusedError], has class Transient and is marked with a
// [policies.Deferral].
//
// It may take up to 300 ms, when nothing was heard of the other processes for a while and when an open breaker may be probed.
func (d *Dependency) Begin(retry bool) (*Call, error) {
	if d == nil || d.registry == nil {
		return &Call{}, nil
	}
	if r, ok := d.elsewhere(Question{Kind: "begin", Retry: retry}); ok {
		if err := r.err(); err != nil {
			return nil, err
		}
		return &Call{dependency: d, number: r.Call}, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.idles() {
		return &Call{}, nil
	}
	d.catchUp()
	probe, err := d.passBreaker()
	if err == nil && !probe {
		err = d.passThrottle()
	}
	if err != nil {
		return nil, err
	}
	if !retry {
		d.count(Counts{Firsts: 1})
	}
	return &Call{dependency: d, began: d.now(), probe: probe}, nil
}

// passBreaker lets a call through if the breaker is closed, or as its probe.
func (d *Dependency) passBreaker() (probe bool, _ error) {
	s, now, me := &d.state, d.now(), d.registry.options.Worker
	if !s.Open {
		return false, nil
	}
	mine := s.Probe == me && now.Before(s.ProbeEnd) // a call of this process probes, or asks whether it may
	if mine || !s.probe(now, me) {
		return false, d.hold(now)
	}
	d.wantProbe = true
	answered := d.ask()
	d.wantProbe = false
	switch now = d.now(); {
	case !s.Open:
		return false, nil
	case answered && s.Probe != me, !s.probe(now, me): // without an answer, this process is the one that probes
		return false, d.hold(now)
	}
	return true, nil
}

func (d *Dependency) hold(now time.Time) error {
	s := &d.state
	d.count(Counts{Held: 1})
	wait, when := s.held(now), "a call probes it"
	if now.Before(s.Until) {
		when = "it is probed in " + rounded(wait)
	}
	return d.refuse(wait, fmt.Sprintf("the breaker of %q is open: %d of %d calls failed within %s; %s",
		s.Settings.Name, s.Why.Failures, s.Why.Calls, s.Settings.Breaker.Window, when))
}

func rounded(d time.Duration) string {
	if d > time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return max(d.Round(time.Millisecond), time.Millisecond).String()
}

// A throttle that refuses a call tells it to come back after a second, or up to three: together they would be a burst.
const (
	throttleWait   = time.Second
	throttleSpread = 2 * time.Second
)

func (d *Dependency) passThrottle() error {
	now := d.now()
	c := d.throttled(now)
	p := d.state.refusal(c)
	if p == 0 || d.registry.options.Random() >= p {
		return nil
	}
	d.count(Counts{Refused: 1})
	wait := throttleWait + time.Duration(d.registry.options.Random()*float64(throttleSpread))
	reason := fmt.Sprintf("%q is throttled: %d of %d calls failed within %s, so %.0f%% of calls are refused",
		d.state.Settings.Name, c.Failures+c.Slowed, c.Calls, d.state.Settings.Throttle.Window, 100*p)
	return refusal(&RefusedError{Dependency: d.state.Settings.Name, For: wait, Reason: reason, Alone: true})
}

// count counts here, and for the next report.
func (d *Dependency) count(c Counts) {
	now := d.now()
	d.used = now
	d.state.record(now, now, c)
	if d.unsent == (Counts{}) {
		d.since = now
	}
	d.unsent.add(c)
	d.nudge()
}

// AllowRetry asks whether a call that failed may be repeated, and counts that it is. An error has class OverBudget. While the breaker
// is open, the answer is yes and nothing is counted: Begin refuses the call, or lets it through as the only probe. Calls within a probe
// are not refused by Begin, so the budget holds for them. It may take up to 300 ms.
func (d *Dependency) AllowRetry() error {
	if d != nil && d.outer != nil {
		return d.outer.allowRetry(true)
	}
	return d.allowRetry(false)
}

func (d *Dependency) allowRetry(probing bool) error {
	if d == nil || d.registry == nil {
		return nil
	}
	if r, ok := d.elsewhere(Question{Kind: "retry"}); ok {
		return r.err()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state.Settings.Budget.Percent == 0 || d.state.Open && !probing {
		return nil
	}
	d.used = d.now()
	for range 3 { // what was borrowed for this one, another call may have taken
		if d.spend() {
			return nil
		}
		d.waiting++
		answered := d.ask()
		d.waiting--
		if !answered {
			break
		}
		if d.spend() {
			return nil
		}
		if d.answer.Left == 0 {
			return d.over(d.answer.Budget)
		}
	}
	now := d.now()
	for _, c := range []Counts{d.state.budget(now), d.budgeted(now)} {
		if d.state.left(c.Firsts, c.Retries) == 0 {
			return d.over(c)
		}
	}
	d.count(Counts{Retries: 1})
	return nil
}

func (d *Dependency) over(c Counts) error {
	s, what := d.state.Settings, "the run"
	if s.Name != "" {
		what = "dependency " + strconv.Quote(s.Name)
	}
	return policies.WithClass(fmt.Errorf("%d retries for %d first tries within %s; the budget of %s is %v%%, at least %d",
		c.Retries, c.Firsts, s.Budget.Window, what, s.Budget.Percent, max(0, s.Budget.Minimum)), policies.OverBudget)
}

// End tells how the call ended: nil is a success. Which failures count is said at [policies.Class.Blames]. Calls after the first
// do nothing.
func (c *Call) End(f *policies.Failure) {
	if c == nil || c.dependency == nil {
		return
	}
	c.ended.Do(func() { c.dependency.end(c, f) })
}

func (d *Dependency) end(c *Call, f *policies.Failure) {
	if _, ok := d.elsewhere(Question{Kind: "end", Call: c.number, Failure: f}); ok {
		return
	}
	blame := policies.Answered
	if f != nil {
		blame = f.Class.Blames()
		if f.Type == RefusedType {
			blame = policies.Nothing // another guard, in the step, refused the call
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now()
	if c.probe && d.state.Open {
		if !c.began.Before(d.state.Opened) {
			d.state.probed(now, c.began, blame)
			d.probed, d.probeBegan = &Probed{Blame: blame}, c.began
			d.moved()
		}
		return
	}
	if blame == policies.Nothing || d.state.Open || c.began.Before(d.state.Shut) {
		return
	}
	counts := Counts{Calls: 1}
	d.streak++
	switch blame {
	case policies.Failed:
		counts.Failures = 1
	case policies.Slowed:
		counts.Slowed, d.streak = 1, 0
	case policies.Nothing, policies.Answered:
		d.streak = 0
	}
	d.count(counts)
	if d.state.trip(now, d.broken(now), d.streak) {
		d.own = true
		d.moved()
	}
}
