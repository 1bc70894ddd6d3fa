package policies

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Warning is something in a step's policies that is allowed and probably not meant.
type Warning struct {
	// Code names the kind of warning. It does not change.
	Code string `json:"code"`
	// Text says what is wrong, with the numbers of the step.
	Text string `json:"text"`
	// Fix says what to do about it.
	Fix string `json:"fix"`
}

// String is the text with the fix in parentheses.
func (w Warning) String() string { return w.Text + " (" + w.Fix + ")" }

// maxStacked is how many attempts layers that retry may make of one first try. Two layers of three are what is usual; the SRE book,
// "Handling Overload", wants retries in one layer.
const maxStacked = 9

// Warnings tells what in policies is allowed and probably not meant, in the order of the policies' fields. Of the assumptions it uses
// Foreach, Isolated and ClientAttempts. What makes no sense at all is an error: see [Spec.Validate].
func Warnings(s Spec, a Assumptions) []Warning {
	var all []Warning
	warn := func(code, fix, format string, args ...any) {
		all = append(all, Warning{Code: code, Text: fmt.Sprintf(format, args...), Fix: fix})
	}
	s.warnRetry(warn, a)
	s.warnTimeout(warn)
	if s.Exhausted == Pause && s.Catch {
		warn("catch-after-pause", "leave out Exhausted: Pause, or the catch function",
			"the catch function runs only when a person lets the paused task fail")
	}
	s.warnBudgets(warn)
	if s.Escalate != nil {
		s.warnEscalate(warn, a)
	}
	return all
}

type warner func(code, fix, format string, args ...any)

func (s Spec) warnRetry(warn warner, a Assumptions) {
	n := s.attempts()
	if n == 1 {
		return
	}
	switch t := s.Timeout; {
	case t.Attempt == 0 && t.Total == 0 && (s.climbs() == 0 || s.At(0).Timeout.Attempt == 0):
		warn("no-timeout", "set Timeout.Attempt", "attempts have no timeout, so one that hangs is never tried again")
	case s.endless():
		warn("no-end", "set Timeout.Total or fewer attempts", "attempts have no end")
	}
	if client := max(a.ClientAttempts, 1); client > 1 && timesInt(n, client) > maxStacked {
		calls := fmt.Sprintf("%d calls", timesInt(n, client))
		if s.endless() {
			calls = "calls without end"
		}
		warn("stacked-retries", "retry in one place: give the client or the step one attempt",
			"%d attempts of the client for each attempt of the step make %s of one while the service is down", client, calls)
	}
	if s.Jitter == NoJitter && a.Foreach {
		warn("no-jitter", "use FullJitter", "waits have no jitter, so items of the foreach that failed together come back together")
	}
}

// endless says that nothing but success, or a failure that is not tried again, ends the attempts.
func (s Spec) endless() bool { return s.attempts() == math.MaxInt && s.Timeout.Total == 0 }

func (s Spec) warnTimeout(warn warner) {
	n, t := s.attempts(), s.Timeout
	if longest := s.longestAttempt(); longest > 0 && t.Heartbeat > longest {
		warn("slow-heartbeat", "make it shorter or leave it out, which means "+short(defaultHeartbeat),
			"Heartbeat %s is longer than an attempt may take, %s, so a lost worker is noticed late", short(t.Heartbeat), short(longest))
	}
	if t.Total == 0 || n == 1 && s.climbs() == 0 {
		return
	}
	if all := times(t.Attempt, n); all > t.Total && n > 1 {
		warn("attempts-exceed-total", "make Total longer, or Attempt shorter, or attempts fewer",
			"%s attempts of up to %s each do not fit into Total %s", count(n), short(t.Attempt), short(t.Total))
	}
	if waits := s.longestWaits(n); waits > t.Total {
		warn("waits-exceed-total", "make Total longer, or MaximumInterval shorter, or attempts fewer",
			"the waits between %s attempts may add up to %s, and Total is %s", count(n), span(waits), short(t.Total))
	}
	for i := range s.climbs() {
		if rung := s.At(i + 1).Timeout.Attempt; rung > t.Total {
			warn("rung-exceeds-total", "make Total longer, which covers all attempts on all rungs",
				"Timeout %s of rung %d is longer than Total %s", short(rung), i+2, short(t.Total))
		}
	}
	// The default is nobody's choice, and says something only about a step that calls a service.
	if most := or(s.MaximumRetryAfter, defaultRetryAfter); n > 1 && most > t.Total && (most != defaultRetryAfter || s.Dependency != nil) {
		warn("retry-after-exceeds-total", "make Total longer, or MaximumRetryAfter shorter: then a longer wait is cut to it",
			"a service may ask for a wait of up to %s (MaximumRetryAfter), and one that does not fit into Total %s fails the task at once", short(most), short(t.Total))
	}
}

// longestAttempt is the longest timeout of an attempt on any rung, 0 if one has none.
func (s Spec) longestAttempt() time.Duration {
	var most time.Duration
	for rung := range s.climbs() + 1 {
		d := s.At(rung).Timeout.Attempt
		if d == 0 {
			return 0
		}
		most = max(most, d)
	}
	return most
}

func (s Spec) warnBudgets(warn warner) {
	n := s.attempts()
	if b := s.Budget; b != nil && b.Percent > 0 {
		switch most := float64(n-1) * 100; {
		case n == 1:
			warn("idle-budget", "set Retry.MaximumAttempts, or leave the budget out", "the budget bounds retries, and the step has one attempt")
		case b.Percent >= most:
			warn("idle-budget", fmt.Sprintf("use less than %s%%, such as 20%%", percent(most)),
				"the budget allows %s%% retries, and %s attempts never make more than %s%%", percent(b.Percent), count(n), percent(most))
		}
	}
}

func (s Spec) warnEscalate(warn warner, a Assumptions) {
	rungs := s.Escalate.Rungs
	for i := 1; i < len(rungs); i++ {
		before, r := rungs[i-1], rungs[i]
		timeout, timeoutBefore := s.At(i).Timeout.Attempt, s.At(i-1).Timeout.Attempt
		smaller := before.Memory > 0 && r.Memory > 0 && r.Memory < before.Memory || timeoutBefore > 0 && timeout > 0 && timeout < timeoutBefore
		more := r.Memory > before.Memory || timeout > timeoutBefore && timeoutBefore > 0 || r.Queue != before.Queue
		if smaller || !more {
			warn("rung-not-larger", "give each rung more memory, more time or another queue than the one before",
				"rung %d (%s) is no larger than rung %d (%s)", i+1, r, i, before)
		}
	}
	if !a.Isolated && slices.ContainsFunc(rungs, func(r Rung) bool { return r.Memory > 0 }) {
		warn("rung-without-isolation", "add flow.Isolated", "rungs set Memory, and the step does not run in a process of its own, so nothing bounds it")
	}
}

// count writes a number of attempts.
func count(n int) string {
	if n == math.MaxInt {
		return "endless"
	}
	return fmt.Sprint(n)
}

// span writes a duration that may have no bound.
func span(d time.Duration) string {
	if d == Forever {
		return "any time"
	}
	return short(d)
}
