package policies

import (
	"fmt"
	"math"
	"time"
)

const (
	// maxSteps is how many attempts are followed at most.
	maxSteps = 100_000
	// gridCells is how fine the grid of times is, and coarseCells is it where many attempts make the distribution smooth.
	gridCells, coarseCells = 1 << 13, 1 << 11
	manySteps              = 1_000
	// beyondP99 is what the quantiles may leave out.
	beyondP99 = 0.004
)

// model is a task whose attempts fail independently with probability p and take as long as each other.
type model struct {
	spec     Spec
	p        float64
	attempt  time.Duration
	attempts int
	total    time.Duration // 0: no bound
}

func newModel(s Spec, a Assumptions) model {
	m := model{spec: s, p: a.FailureRate, attempt: a.AttemptTime, attempts: s.attempts(), total: s.Timeout.Total}
	limit := s.Timeout.Attempt
	for rung := 0; rung <= s.climbs(); rung++ { // the one that a task ends on, which is remembered
		if limit = s.At(rung).Timeout.Attempt; limit == 0 || limit >= m.attempt {
			return m
		}
	}
	m.p, m.attempt = 1, limit
	return m
}

var errTooMany = fmt.Errorf("a task makes more than %d attempts under these assumptions (take a lower failure rate or a longer time of an attempt)", maxSteps)

// explain fills in what is random.
func (m model) explain(e *Explanation) error {
	e.Success, e.ExpectedAttempts, e.ExpectedTime = m.uncut()
	if m.cut() {
		whole := m.follow(m.total)
		if whole.left > beyondP99 {
			return errTooMany
		}
		e.Success, e.ExpectedAttempts, e.ExpectedTime = whole.success, whole.attempts, toDuration(whole.time)
	}
	d := m.follow(m.horizon())
	if d.left > beyondP99 {
		return errTooMany
	}
	most := m.longestOf(m.attempts) // rounding to cells must not exceed it
	if m.total > 0 {
		most = min(most, m.total)
	}
	e.P50, e.P95, e.P99 = min(d.quantile(0.50), most), min(d.quantile(0.95), most), min(d.quantile(0.99), most)
	return nil
}

// longestOf is the longest that n attempts and the waits between them take.
func (m model) longestOf(n int) time.Duration {
	return plus(times(m.attempt, n), m.spec.longestWaits(n))
}

// cut says that Timeout.Total may end a task before its attempts are spent.
func (m model) cut() bool { return m.total > 0 && m.longestOf(m.attempts) > m.total }

// uncut is what the formulas at [Explain] give.
func (m model) uncut() (success, attempts float64, mean time.Duration) {
	n := float64(m.attempts)
	if m.attempts == math.MaxInt {
		n = math.Inf(1)
	}
	failed := math.Pow(m.p, n) // 1 for p = 1, whatever n
	attempts = n
	if m.p < 1 {
		attempts = (1 - failed) / (1 - m.p)
	}
	ns := float64(m.attempt) * attempts
	if m.attempt == 0 {
		ns = 0 // also without end
	}
	reached := 1.0 // p^k
	for k := 1; k < m.attempts && reached > 0; k++ {
		reached *= m.p
		w := m.spec.wait(k)
		if w.Most < m.spec.backoff(k+1) && k < maxSteps {
			ns += reached * float64(w.Mean)
			continue
		}
		// From here on all waits are equal: Σ p^i for i = k … N-1.
		left := n - float64(k)
		if m.p < 1 {
			left = (reached - failed) / (1 - m.p)
		}
		ns += left * float64(w.Mean)
		break
	}
	return 1 - failed, attempts, toDuration(ns)
}

// horizon is a time by which all but very few tasks have ended.
func (m model) horizon() time.Duration {
	n := m.attempts
	if m.p < 1 {
		n = min(n, 1)
		if m.p > 0 {
			n = min(m.attempts, int(math.Ceil(math.Log(beyondP99)/math.Log(m.p))))
		}
	}
	h := m.longestOf(max(n, 1))
	if m.total > 0 {
		h = min(h, m.total)
	}
	return h
}

// distribution is that of the time at which a task ends.
type distribution struct {
	cell float64   // nanoseconds
	at   []float64 // nanoseconds; nil: cell × index
	ends []float64 // the probability that it ends there
	// Of all tasks, whenever they end.
	success, attempts, time float64
	// left is the probability of those that were not followed to their end.
	left float64
}

// quantile is the time by which the part q of the tasks has ended.
func (d distribution) quantile(q float64) time.Duration {
	sum := 0.0
	for i, mass := range d.ends {
		if sum += mass; sum >= q-1e-9 {
			at := float64(i) * d.cell
			if d.at != nil {
				at = d.at[i]
			}
			return toDuration(math.Round(at))
		}
	}
	return Forever
}

// follow computes the distribution up to a horizon. Only with Timeout.Total as the horizon are the sums those of all tasks.
func (m model) follow(horizon time.Duration) distribution {
	switch {
	case horizon == Forever:
		return distribution{}
	case m.spec.Jitter == NoJitter:
		return m.exactly()
	}
	g := m.grid(horizon)
	d := distribution{cell: g.cell, ends: make([]float64, g.last+1)}
	end := func(at float64, mass float64) { // what ends beyond the horizon is not kept
		d.time += mass * at * g.cell
		if i := int(at); i < g.last {
			part := at - float64(i)
			d.ends[i] += mass * (1 - part)
			d.ends[i+1] += mass * part
		}
	}
	attempt, total := float64(m.attempt)/g.cell, math.Inf(1)
	if m.total > 0 {
		total = float64(m.total) / g.cell
	}
	last := int(min(total+1e-6, float64(g.last))) // where an attempt may begin
	starts := make([]float64, g.last+1)
	failed := make([]float64, g.last+2)
	starts[0] = 1
	for n := 1; n <= min(m.attempts, maxSteps); n++ {
		clear(failed)
		d.left = 0
		for i, mass := range starts {
			if mass == 0 {
				continue
			}
			d.attempts += mass
			at := float64(i) + attempt
			if at > total+1e-6 {
				end(total, mass)
				continue
			}
			d.success += mass * (1 - m.p)
			end(at, mass*(1-m.p))
			if n == m.attempts {
				end(at, mass*m.p)
			} else if j := int(at + 1e-9); j <= g.last {
				part := max(at-float64(j), 0)
				failed[j] += mass * m.p * (1 - part)
				failed[j+1] += mass * m.p * part
				d.left += mass * m.p
			}
		}
		if d.left < 1e-12 {
			break
		}
		w := g.kernel(m.spec.wait(n))
		if m.total > 0 {
			for j, mass := range failed {
				if cut := mass * w.beyond(int(total+1e-6)-j); cut > 0 {
					end(min(float64(j), total), cut)
				}
			}
		}
		w.spread(failed, starts, last)
	}
	return d
}

// exactly follows a task whose waits are not random: there is one time for each number of attempts.
func (m model) exactly() (d distribution) {
	end := func(at time.Duration, mass float64) {
		d.at, d.ends, d.time = append(d.at, float64(at)), append(d.ends, mass), d.time+mass*float64(at)
	}
	total := m.total
	if total == 0 {
		total = Forever
	}
	at := time.Duration(0)
	d.left = 1
	for n := 1; n <= min(m.attempts, maxSteps) && d.left > 1e-12; n++ {
		d.attempts += d.left
		if at = plus(at, m.attempt); at > total {
			end(total, d.left)
			d.left = 0
			break
		}
		d.success += d.left * (1 - m.p)
		end(at, d.left*(1-m.p))
		d.left *= m.p
		next := plus(at, m.spec.backoff(n))
		if n == m.attempts || next > total {
			end(at, d.left)
			d.left = 0
			break
		}
		at = next
	}
	return d
}

// grid divides times into cells.
type grid struct {
	cell float64 // nanoseconds
	last int     // the index of the horizon
}

// grid aligns the cells with the time of an attempt where that is not too fine or coarse, so that the time of a task that
// succeeds at once is exact.
func (m model) grid(horizon time.Duration) grid {
	cells := float64(gridCells)
	if m.p > 0 && m.p < 1 && math.Log(beyondP99)/math.Log(m.p) > manySteps || m.p == 1 && m.attempts > manySteps {
		cells = coarseCells
	}
	cell := max(float64(horizon)/cells, 1)
	if m.attempt > 0 {
		if aligned := float64(m.attempt) / math.Ceil(float64(m.attempt)/cell); aligned > cell/2 {
			cell = aligned
		}
	}
	// Each attempt and each wait may move what is shared between two cells by one.
	return grid{cell, int(math.Ceil(float64(horizon)/cell)) + 2*min(m.attempts, manySteps)}
}

// kernel is the distribution of a wait on the grid. Each point of the wait is shared between the two cells next to it, so that the
// mean is exact.
type kernel struct {
	first   int       // the cell of sums[0]
	sums    []float64 // of the probabilities, from the first cell on
	changes []change  // where the probability of a cell differs from that of the one before
}

// change is how much more probable a cell is than the one before.
type change struct {
	at int
	by float64
}

func (g grid) kernel(w Wait) kernel {
	low, high := float64(w.Least)/g.cell, float64(w.Most)/g.cell
	k := kernel{first: int(min(low, float64(g.last+1)))}
	size := max(int(min(high, float64(g.last)))-k.first+2, 0)
	sum, before := 0.0, 0.0
	for i := range size {
		x := float64(k.first + i)
		mass := max(1-math.Abs(low-x), 0)
		if high-low > 1e-9 {
			mass = (hat(high-x) - hat(low-x)) / (high - low)
		}
		if mass != before { // inside of the wait they are equal to the last bit
			k.changes = append(k.changes, change{k.first + i, mass - before})
		}
		sum, before = sum+mass, mass
		k.sums = append(k.sums, sum)
	}
	k.changes = append(k.changes, change{k.first + size, -before})
	return k
}

// hat is the integral of the triangle over [-1, 1] up to x.
func hat(x float64) float64 {
	switch {
	case x <= -1:
		return 0
	case x <= 0:
		return (x + 1) * (x + 1) / 2
	case x < 1:
		return 1 - (1-x)*(1-x)/2
	default:
		return 1
	}
}

// beyond is the probability of a wait of more than some cells.
func (k kernel) beyond(cells int) float64 {
	i := min(cells-k.first, len(k.sums)-1)
	if i < 0 {
		return 1
	}
	return max(1-k.sums[i], 0)
}

// spread is what failed at each cell, moved by the wait. What falls beyond the last cell is left out.
func (k kernel) spread(failed, starts []float64, last int) {
	clear(starts)
	for _, c := range k.changes {
		for j := 0; j+c.at <= last; j++ {
			starts[j+c.at] += failed[j] * c.by
		}
	}
	sum := 0.0
	for i, difference := range starts[:last+1] {
		sum += difference
		starts[i] = sum
		if sum < 1e-16 { // what rounding leaves
			starts[i] = 0
		}
	}
}
