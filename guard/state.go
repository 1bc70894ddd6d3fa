package guard

import (
	"cmp"
	"time"

	"github.com/stepwell-flows/stepwell/policies"
)

// State is what somebody knows of a dependency: a process of what itself did, or the workflow of what all did. It decides. It is
// plain data, knows no clock and draws nothing, so that a workflow can keep it. It is not safe for concurrent use.
type State struct {
	// Settings have their defaults filled in.
	Settings policies.Dependency `json:"settings"`
	// Open says that the breaker is open, since Opened. From Until on it is half open: one call, the probe, is let through.
	Open   bool      `json:"open,omitzero"`
	Opened time.Time `json:"opened,omitzero"`
	Until  time.Time `json:"until,omitzero"`
	// Probe is who probes, until ProbeEnd at the latest. Then the place is free again.
	Probe    string    `json:"probe,omitempty"`
	ProbeEnd time.Time `json:"probe_end,omitzero"`
	// Why is the counts that opened the breaker.
	Why Counts `json:"why,omitzero"`
	// Shut is when the breaker closed. Calls that began before do not count.
	Shut time.Time `json:"shut,omitzero"`

	Breaker  Window `json:"breaker,omitzero"`
	Throttle Window `json:"throttle,omitzero"`
	Budget   Window `json:"budget,omitzero"`
}

// minLease is the shortest time for which a probe holds its place.
const minLease = 10 * time.Second

func (s *State) lease() time.Duration { return max(minLease, s.Settings.Breaker.Cooldown) }

// idle is the least for which what is known of a dependency is kept after its last use. The budgets of runs come and go with them.
const idle = 10 * time.Minute

// Idle is for how long what is known is kept when nothing more is heard: an open breaker until its probe has ended for sure, counts for
// twice their window.
func (s *State) Idle() time.Duration {
	d := s.Settings
	return max(idle, d.Breaker.Cooldown+s.lease(), 2*d.Breaker.Window, 2*d.Throttle.Window, 2*d.Budget.Window)
}

// use changes the settings. What was counted stays, and so does a part that these settings do not have: steps and clients may give
// one name different parts.
func (s *State) use(d policies.Dependency) {
	d.Breaker = cmp.Or(d.Breaker, s.Settings.Breaker)
	d.Budget = cmp.Or(d.Budget, s.Settings.Budget)
	d.Throttle = cmp.Or(d.Throttle, s.Settings.Throttle)
	if s.Settings == d {
		return
	}
	s.Settings = d
	s.Breaker.resize(d.Breaker.Window)
	s.Throttle.resize(d.Throttle.Window)
	s.Budget.resize(d.Budget.Window)
}

// record counts what happened between then and now. How calls ended that began before the breaker opened says nothing new, and does
// not count while it is open.
func (s *State) record(now, then time.Time, c Counts) {
	if s.Open {
		c.Calls, c.Failures, c.Slowed = 0, 0, 0
	}
	s.Breaker.add(now, now, c)
	s.Throttle.add(now, now, c)
	// Of the two, what bounds retries is counted as the older and what uses them up as the newer.
	s.Budget.add(now, then, Counts{Firsts: c.Firsts})
	s.Budget.add(now, now, Counts{Retries: c.Retries})
}

// trip opens a closed breaker if the counts are enough for it, or the failures since the last good call.
func (s *State) trip(now time.Time, c Counts, streak int) bool {
	b := s.Settings.Breaker
	if s.Open || b.Failures < 1 {
		return false
	}
	if streak = min(streak, s.Breaker.sum(now).Failures); streak >= b.Failures {
		c = Counts{Calls: streak, Failures: streak}
	}
	if c.Failures < b.Failures || float64(c.Failures)*100 < b.Percent*float64(c.Calls) {
		return false
	}
	s.Why = c
	s.open(now)
	return true
}

func (s *State) open(now time.Time) {
	s.Open, s.Opened, s.Until = true, now, now.Add(s.Settings.Breaker.Cooldown)
	s.Probe, s.ProbeEnd = "", time.Time{}
}

// close closes the breaker. The service is back: what it did before it went away counts for neither breaker nor throttle.
func (s *State) close(now time.Time) {
	s.Shut = now
	s.Open, s.Opened, s.Until, s.Probe, s.ProbeEnd, s.Why = false, time.Time{}, time.Time{}, "", time.Time{}, Counts{}
	s.Breaker.Buckets, s.Throttle.Buckets = nil, nil
}

// reset forgets everything but the settings.
func (s *State) reset(now time.Time) {
	s.close(now)
	s.Budget.Buckets = nil
}

// probe gives who the place of the probe if it is free. Who has it already gets it again.
func (s *State) probe(now time.Time, who string) bool {
	if !s.Open || now.Before(s.Until) || s.Probe != "" && s.Probe != who && now.Before(s.ProbeEnd) {
		return false
	}
	s.Probe, s.ProbeEnd = who, now.Add(s.lease())
	return true
}

// probed takes how a probe ended that began at a time. One from before the breaker opened, for the last time, is too old.
func (s *State) probed(now, began time.Time, blame policies.Blame) {
	if !s.Open || began.Before(s.Opened) {
		return
	}
	switch blame {
	case policies.Failed:
		s.open(now)
	case policies.Answered, policies.Slowed:
		s.close(now)
	case policies.Nothing:
		s.Probe, s.ProbeEnd = "", time.Time{}
	}
}

// held is how long a call has to wait for an open breaker.
func (s *State) held(now time.Time) time.Duration {
	if now.Before(s.Until) {
		return s.Until.Sub(now)
	}
	// What the probe finds is known soon.
	return max(time.Millisecond, min(s.ProbeEnd.Sub(now), s.Settings.Breaker.Cooldown))
}

// minRequests is how many calls a throttle sees before it refuses any.
const minRequests = 10

// mostRefused keeps some calls going, so that a throttle sees the service come back.
const mostRefused = 0.9

// refusal is the probability with which a throttle refuses a call, see [policies.Throttle].
func (s *State) refusal(c Counts) float64 {
	t := s.Settings.Throttle
	requests, accepts := float64(c.Calls+c.Refused), float64(c.Calls-c.Failures-c.Slowed)
	if t.Percent <= 0 || requests < minRequests {
		return 0
	}
	k := 1 / (1 - t.Percent/100)
	return min(mostRefused, max(0, (requests-k*accepts)/(requests+1)))
}

// left is how many retries a budget has left. Retries are counted generously, first tries are not.
func (s *State) left(firsts, retries int) int {
	b := s.Settings.Budget
	share := min(float64(firsts)*b.Percent/100, 1<<30)
	return max(0, max(b.Minimum, int(share), 0)-retries)
}

// budget is what a budget counts: all retries that may be within the window, and the first tries that are for sure.
func (s *State) budget(now time.Time) Counts {
	return Counts{Firsts: s.Budget.inner(now).Firsts, Retries: s.Budget.sum(now).Retries}
}

// loan is how long retries that were borrowed from a budget are good for. They count as if they were made at its end.
func (s *State) loan() time.Duration {
	return min(2*time.Second, s.Settings.Budget.Window/buckets)
}

// lendable is what a budget counts when it lends: the first tries are those that still count when the loan ends.
func (s *State) lendable(now time.Time) Counts {
	return Counts{Firsts: s.Budget.inner(now.Add(s.loan())).Firsts, Retries: s.Budget.sum(now).Retries}
}
