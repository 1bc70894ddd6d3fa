package policies

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Forever stands for a time without a bound in an [Explanation].
const Forever = longest

// Assumptions are what [Explain] takes as given.
type Assumptions struct {
	// FailureRate is the probability that an attempt fails in a way that is tried again, from 0 to 1. Attempts fail independently
	// of each other, which outages do not: see Explanation.Load for those. Zero means that none fails.
	FailureRate float64
	// AttemptTime is how long one attempt takes, whether it fails or not. One that is longer than Timeout.Attempt ends there, and has
	// failed. Zero means no time.
	AttemptTime time.Duration
	// ClientAttempts is how many attempts a client within the step makes for each attempt of the step. Zero means 1.
	ClientAttempts int
	// Resumes is how often a person resumes a run that failed. Zero means none.
	Resumes int
	// Foreach says that the step is in the body of a foreach, so that many of its tasks run at the same time.
	Foreach bool
	// Isolated says that the step runs in a process of its own.
	Isolated bool
}

func (a Assumptions) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !(a.FailureRate >= 0 && a.FailureRate <= 1) {
		bad("the failure rate is %v (use 0 to 1; 0.1 is one attempt in ten)", a.FailureRate)
	}
	if a.AttemptTime < 0 {
		bad("the time of an attempt is %s (durations cannot be negative)", a.AttemptTime)
	}
	if a.ClientAttempts < 0 {
		bad("the client makes %d attempts (use 1 or more, the first try included)", a.ClientAttempts)
	}
	if a.Resumes < 0 {
		bad("there are %d resumes (use 0 or more)", a.Resumes)
	}
	return errors.Join(errs...)
}

// Wait is the wait between two attempts, as the policy draws it. A wait that a service asked for may be longer.
type Wait struct {
	// After is the number of code failures before it.
	After int
	// Least and Most bound it, Mean is its mean.
	Least, Mean, Most time.Duration
}

// Explanation is what a step's policies amount to. Make one with [Explain]. All times are of one task; they leave out waits that
// a service asks for, and what lost workers cost.
type Explanation struct {
	Assumptions Assumptions
	// Attempts is how many attempts may fail by the code's fault, math.MaxInt if there is no end to them. Rungs of a ladder that is
	// climbed come on top: see Climbs.
	Attempts int
	// Climbs is how many attempts a ladder adds: those that ran out of memory or time and were followed by one on the next rung.
	Climbs int
	// Lost is how many lost attempts are made up for on top of Attempts.
	Lost int
	// Waits are the first waits between attempts, at most ten. The last one stands for those that follow if there are more attempts,
	// and they are as long.
	Waits []Wait
	// LongestWaits is the sum of the upper bounds of all waits.
	LongestWaits time.Duration
	// Worst bounds the time from when the task is scheduled to its end, if every attempt takes all the time that it may. Waiting for a
	// worker counts as far as Timeout.Queue or Timeout.Total bounds it. It is Forever where nothing does. (A function that ignores its
	// context may keep its worker for ten minutes longer.)
	Worst time.Duration
	// Fit is how many attempts Timeout.Total has time for in any case: if each takes Timeout.Attempt and each wait is the longest. It
	// is Attempts without a Total, and 0 if nothing is known because attempts have no timeout.
	Fit int
	// Success is the probability that the task succeeds, without a catch function, a person or a resume.
	Success float64
	// ExpectedAttempts is the mean number of attempts, ExpectedTime the mean time until the task has succeeded or failed.
	ExpectedAttempts float64
	ExpectedTime     time.Duration
	// P50, P95 and P99 are the times within which half, 95 and 99 percent of the tasks have succeeded or failed.
	P50, P95, P99 time.Duration
	// Load is what becomes of the load when the service fails every call.
	Load Load
	// Warnings are what [Warnings] tells.
	Warnings []Warning
}

// Load says how many calls there are for each one that was meant, while everything fails. Layers that retry multiply: five
// layers of three attempts make 243 calls of one (M. Brooker, "Timeouts, retries, and backoff with jitter", Amazon Builders'
// Library, 2019). Lost workers are left out.
type Load struct {
	// Step is the number of the step's own attempts, with those of its ladder.
	Step int
	// Stacked is Step × ClientAttempts × (1 + Resumes).
	Stacked int
	// Budgeted is the number of the step's attempts for each first try that its budgets allow over time, 1 + Percent/100, with the
	// tighter one if there are two. It is zero if the step has none, or none that bounds it.
	Budgeted float64
}

// Explain says what policies amount to under assumptions. It is a calculation, no simulation, and gives the same answer each time.
// Its error tells which assumption makes no sense.
//
// With failure rate p, at most N attempts and no Timeout.Total that cuts them short, the number of attempts K is geometric and cut
// off at N:
//
//	P(success) = 1 - p^N
//	E[K]       = 1 + p + … + p^(N-1) = (1 - p^N) / (1 - p)
//	E[time]    = AttemptTime × E[K] + Σ p^n E[wait n],  n = 1 … N-1
//
// Wait n is uniform on [0, b], [b/2, b] or exactly b, with b = min(MaximumInterval, InitialInterval × BackoffCoefficient^(n-1)),
// for full, equal and no jitter, see [Jitter]. The quantiles come from the distribution of the time, a mixture of sums of such
// waits, by convolution on a grid of some ten thousand cells; they are accurate to a few of its cells. Where Timeout.Total may cut
// attempts short, everything comes from that distribution: a wait that would end after Total ends the task at once, and an attempt
// that is under way then ends with it.
func Explain(s Spec, a Assumptions) (Explanation, error) {
	if err := a.validate(); err != nil {
		return Explanation{}, err
	}
	a.ClientAttempts = max(a.ClientAttempts, 1)
	e := Explanation{
		Assumptions: a, Attempts: s.attempts(), Climbs: s.climbs(), Lost: s.Lost, Waits: s.waits(), LongestWaits: s.longestWaits(s.attempts()),
		Worst: s.worst(), Fit: s.fit(), Warnings: Warnings(s, a),
	}
	e.Load.Step = sumInt(e.Attempts, e.Climbs)
	e.Load.Stacked = timesInt(timesInt(e.Load.Step, a.ClientAttempts), sumInt(1, a.Resumes))
	e.Load.Budgeted = s.budgeted(e.Attempts)
	return e, newModel(s, a).explain(&e)
}

// attempts is how many there may be, math.MaxInt for more than anybody counts: the server's limit.
func (s Spec) attempts() int {
	if s.MaximumAttempts >= math.MaxInt32 {
		return math.MaxInt
	}
	return max(s.MaximumAttempts, 1)
}

func (s Spec) climbs() int {
	if s.Escalate == nil {
		return 0
	}
	return max(len(s.Escalate.Rungs)-1, 0)
}

// wait is the wait after code failure n.
func (s Spec) wait(n int) Wait {
	most := s.backoff(n)
	w := Wait{After: n, Mean: most / 2, Most: most}
	switch s.Jitter {
	case FullJitter:
	case EqualJitter:
		w.Least = most - most/2
		w.Mean = w.Least + most/4
	case NoJitter:
		w.Least, w.Mean = most, most
	}
	return w
}

const shownWaits = 10

func (s Spec) waits() []Wait {
	var waits []Wait
	for n := 1; n < s.attempts() && n <= shownWaits; n++ {
		waits = append(waits, s.wait(n))
		if n > 1 && waits[n-1].Most == waits[n-2].Most { // and so are all that follow
			break
		}
	}
	return waits
}

// longestWaits is the sum of the longest waits between the first n attempts.
func (s Spec) longestWaits(n int) time.Duration {
	var sum time.Duration
	for k := 1; k < n; k++ {
		b := s.backoff(k)
		if b == s.backoff(k+1) {
			return plus(sum, times(b, n-k))
		}
		sum = plus(sum, b)
	}
	return sum
}

// worst is the sum of all that may take time, cut at Timeout.Total.
func (s Spec) worst() time.Duration {
	bound := func(d time.Duration) time.Duration {
		if d > 0 {
			return d
		}
		return Forever
	}
	n, last := s.attempts(), s.At(s.climbs())
	sum := s.longestWaits(n)
	for rung := range s.climbs() {
		sum = plus(sum, plus(bound(s.At(rung).Timeout.Attempt), s.Timeout.Queue))
	}
	sum = plus(sum, times(plus(bound(last.Timeout.Attempt), s.Timeout.Queue), n))
	return min(sum, bound(s.Timeout.Total))
}

// fit is how many attempts there is time for in any case.
func (s Spec) fit() int {
	n, attempt, total := s.attempts(), s.Timeout.Attempt, s.Timeout.Total
	switch {
	case total == 0:
		return n
	case attempt == 0 || s.climbs() > 0:
		return 0
	}
	for k := 1; k < n; k++ {
		if plus(times(attempt, k+1), s.longestWaits(k+1)) > total {
			return k
		}
		if k > maxSteps {
			return 0
		}
	}
	return n
}

// budgeted is 1 + Percent/100 of the tighter budget, unless n attempts stay below it.
func (s Spec) budgeted(n int) float64 {
	percent := math.Inf(1)
	if s.Budget != nil && s.Budget.Percent > 0 {
		percent = s.Budget.Percent
	}
	if s.Dependency != nil && s.Dependency.Budget.Percent > 0 {
		percent = min(percent, s.Dependency.Budget.Percent)
	}
	if factor := 1 + percent/100; factor < float64(n) {
		return factor
	}
	return 0
}

// times multiplies a duration that is not negative and never overflows.
func times(d time.Duration, n int) time.Duration {
	if n > 0 && d > longest/time.Duration(n) {
		return longest
	}
	return d * time.Duration(n)
}

func sumInt(a, b int) int {
	if a > math.MaxInt-b {
		return math.MaxInt
	}
	return a + b
}

func timesInt(a, b int) int {
	if b > 0 && a > math.MaxInt/b {
		return math.MaxInt
	}
	return a * b
}
