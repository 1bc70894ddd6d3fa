package guard

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stepwell-flows/stepwell/policies"
)

// Report is what a process tells about a dependency, and what it wants.
type Report struct {
	// Key says which: "dependency/<name>", or "budget/<flow>/<run>" for the budget of a run.
	Key string `json:"key"`
	// Settings are those of the process, defaults filled in.
	Settings policies.Dependency `json:"settings"`
	// Worker is the process, and Seq grows with its reports: one that comes twice is counted once.
	Worker string `json:"worker"`
	Seq    int    `json:"seq"`
	// Counts are what happened since the report before, and Since how long ago the first of it was. Retries are those that nobody
	// lent.
	Counts Counts        `json:"counts,omitzero"`
	Since  time.Duration `json:"since,omitzero"`
	// Streak is how many calls have failed since the last good one.
	Streak int `json:"streak,omitzero"`
	// Probed is how a probe ended, nil if none did.
	Probed *Probed `json:"probed,omitempty"`
	// WantProbe asks for the place of the probe.
	WantProbe bool `json:"want_probe,omitempty"`
	// WantRetries is how many retries it wants to borrow.
	WantRetries int `json:"want_retries,omitempty"`
	// Unspent is how many it did not make of those that it borrowed with report Loan, until they were good no more.
	Unspent int `json:"unspent,omitempty"`
	Loan    int `json:"loan,omitempty"`
}

// Probed is how a probe ended.
type Probed struct {
	// Ago is how long ago it began: clocks of machines differ.
	Ago   time.Duration  `json:"ago"`
	Blame policies.Blame `json:"blame"`
}

// Answer is what all processes together know.
type Answer struct {
	// Open says that the breaker is open. It opened Age ago, and it is For until it may be probed.
	Open bool          `json:"open,omitempty"`
	Age  time.Duration `json:"age,omitempty"`
	For  time.Duration `json:"for,omitempty"`
	// Probe says that the process has the place of the probe, ProbeFor for how long whoever has it does.
	Probe    bool          `json:"probe,omitempty"`
	ProbeFor time.Duration `json:"probe_for,omitempty"`
	// Why is the counts that opened the breaker.
	Why Counts `json:"why,omitzero"`
	// Retries is how many retries the process borrowed, for a little while; Left how many more there are.
	Retries int `json:"retries,omitempty"`
	Left    int `json:"left,omitempty"`
	// The counts within the three windows, this report included.
	Breaker  Counts `json:"breaker,omitzero"`
	Throttle Counts `json:"throttle,omitzero"`
	Budget   Counts `json:"budget,omitzero"`
	// Resets is how often everything was forgotten.
	Resets int `json:"resets,omitempty"`
	// Every is how long the process should wait until its next report.
	Every time.Duration `json:"every"`
}

// Board is where processes bring together what they know of a dependency. Like [State], it is plain data, knows no clock, and is
// not safe for concurrent use. Its zero value is ready.
type Board struct {
	State
	Workers []BoardWorker `json:"workers,omitempty"` // by name
	Resets  int           `json:"resets,omitempty"`
}

// BoardWorker is a process that reported.
type BoardWorker struct {
	Name string    `json:"name"`
	Seq  int       `json:"seq"`
	Seen time.Time `json:"seen"`
	// Called is when it last told of calls, Streak how many of the latest failed.
	Called time.Time `json:"called,omitzero"`
	Streak int       `json:"streak,omitzero"`
	// Lent is how many retries it borrowed last, with report Loan, and LentAt when they count.
	Lent   int       `json:"lent,omitzero"`
	Loan   int       `json:"loan,omitzero"`
	LentAt time.Time `json:"lent_at,omitzero"`
}

const (
	// forgetWorker is when a process that is silent is forgotten, and maxWorkers how many are remembered.
	forgetWorker = 10 * time.Minute
	maxWorkers   = 1000
	// reportEvery is how often a process reports what is new, and reportGap how far apart the reports of all are.
	reportEvery = time.Second
	reportGap   = 100 * time.Millisecond
	// maxLoan bounds how many retries a process borrows at once.
	maxLoan = 10_000
)

// Check refuses reports that no process makes.
func (r Report) Check() error {
	switch {
	case r.Worker == "" || len(r.Worker) > 500:
		return fmt.Errorf("worker %.20q is not a name (use 1 to 500 bytes)", r.Worker)
	case r.Seq < 1:
		return fmt.Errorf("seq is %d (count reports from 1)", r.Seq)
	case !r.Counts.valid():
		return fmt.Errorf("counts %+v cannot be", r.Counts)
	case r.Streak < 0:
		return fmt.Errorf("streak is %d (use 0 or more)", r.Streak)
	case r.WantRetries < 0 || r.WantRetries > maxLoan:
		return fmt.Errorf("%d retries are wanted (use 0 to %d)", r.WantRetries, maxLoan)
	case r.Unspent < 0 || r.Unspent > maxLoan:
		return fmt.Errorf("%d retries were not spent (use 0 to %d)", r.Unspent, maxLoan)
	case r.Since < 0, r.Probed != nil && r.Probed.Ago < 0:
		return errors.New("something happened in the future (since and ago are durations, counted back)")
	}
	d := r.Settings
	d.Name = cmp.Or(d.Name, "run") // the budget of a run has no name
	return d.Validate()
}

// Report takes a report at a time and answers it. The report must have passed its Check.
func (b *Board) Report(now time.Time, r Report) Answer {
	b.use(r.Settings)
	if b.fresh(now, r) {
		if p := r.Probed; p != nil {
			open := b.Open
			b.probed(now, now.Add(-p.Ago), p.Blame)
			if open && !b.Open {
				b.forgive()
			}
		}
		b.record(now, now.Add(-r.Since), r.Counts)
		b.trip(now, b.Breaker.sum(now), b.streak(now))
	}
	a := Answer{Resets: b.Resets, Every: max(reportEvery, time.Duration(b.active(now))*reportGap)}
	if r.WantProbe {
		a.Probe = b.probe(now, r.Worker)
	}
	if b.Open {
		a.Open, a.Age, a.Why = true, now.Sub(b.Opened), b.Why
		a.For, a.ProbeFor = max(0, b.Until.Sub(now)), max(0, b.ProbeEnd.Sub(now))
	}
	if b.Settings.Budget.Percent > 0 {
		b.lend(now, r, &a)
	}
	a.Breaker, a.Throttle, a.Budget = b.Breaker.sum(now), b.Throttle.sum(now), b.lendable(now)
	return a
}

// lend lends retries of the budget, after those were taken back that the process has left of its last loan.
func (b *Board) lend(now time.Time, r Report, a *Answer) {
	i, known := b.worker(r.Worker)
	if known && r.Unspent > 0 && r.Loan == b.Workers[i].Loan {
		w := &b.Workers[i]
		b.Budget.take(w.LentAt, min(r.Unspent, w.Lent))
		w.Lent = 0
	}
	c := b.lendable(now)
	a.Left = b.left(c.Firsts, c.Retries)
	a.Retries = min(r.WantRetries, a.Left)
	a.Left -= a.Retries
	if a.Retries == 0 {
		return
	}
	at := now.Add(b.loan())
	b.Budget.add(now, at, Counts{Retries: a.Retries})
	if known {
		w := &b.Workers[i]
		w.Lent, w.Loan, w.LentAt = a.Retries, r.Seq, at
	}
}

func (b *Board) worker(name string) (int, bool) {
	return slices.BinarySearchFunc(b.Workers, name, func(w BoardWorker, name string) int { return cmp.Compare(w.Name, name) })
}

// fresh notes that a process reported, and says whether this report has not come before.
func (b *Board) fresh(now time.Time, r Report) bool {
	i, known := b.worker(r.Worker)
	if !known {
		b.Workers = slices.Insert(b.Workers, i, BoardWorker{Name: r.Worker})
	}
	w := &b.Workers[i]
	w.Seen = now
	if r.Seq <= w.Seq {
		return false
	}
	w.Seq, w.Streak = r.Seq, r.Streak
	if r.Counts.Calls > 0 || r.Probed != nil {
		w.Called = now
	}
	if known {
		return true
	}
	b.Workers = slices.DeleteFunc(b.Workers, func(w BoardWorker) bool { return now.Sub(w.Seen) > forgetWorker })
	if len(b.Workers) > maxWorkers {
		oldest := 0
		for i, w := range b.Workers {
			if w.Seen.Before(b.Workers[oldest].Seen) {
				oldest = i
			}
		}
		b.Workers = slices.Delete(b.Workers, oldest, oldest+1)
	}
	return true
}

// streak is how many of the latest calls failed, of all processes together. It is 0 when the latest call of any was good: a process
// that fails alone has trouble of its own.
func (b *Board) streak(now time.Time) int {
	sum := 0
	for _, w := range b.Workers {
		if now.Sub(w.Called) > current {
			continue
		}
		if w.Streak == 0 {
			return 0
		}
		sum += w.Streak
	}
	return sum
}

// forgive forgets the failures of before the breaker closed.
func (b *Board) forgive() {
	for i := range b.Workers {
		b.Workers[i].Streak = 0
	}
}

// active is how many processes reported within the last minute.
func (b *Board) active(now time.Time) int {
	n := 0
	for _, w := range b.Workers {
		if now.Sub(w.Seen) < time.Minute {
			n++
		}
	}
	return n
}

// Reset closes the breaker and forgets all counts.
func (b *Board) Reset(now time.Time) {
	b.reset(now)
	b.forgive()
	for i := range b.Workers {
		b.Workers[i].Lent = 0
	}
	b.Resets++
}

// The states of a breaker.
const (
	Closed   = "closed"
	Opened   = "open"
	HalfOpen = "half-open"
)

// View is what people see of a dependency.
type View struct {
	Key string `json:"key"`
	// State is "closed", "open" or "half-open": open, and the next call is a probe, or one is under way.
	State string `json:"state"`
	// Opened and Until are when an open breaker opened and may be probed.
	Opened time.Time `json:"opened,omitzero"`
	Until  time.Time `json:"until,omitzero"`
	// Probe is who probes.
	Probe string `json:"probe,omitempty"`
	// Why is the counts that opened the breaker.
	Why Counts `json:"why,omitzero"`
	// Breaker, Throttle and Budget are the counts within the three windows.
	Breaker  Counts `json:"breaker"`
	Throttle Counts `json:"throttle"`
	Budget   Counts `json:"budget"`
	// Left is how many retries the budget has left.
	Left     int                 `json:"left,omitzero"`
	Settings policies.Dependency `json:"settings"`
	Workers  []BoardWorker       `json:"workers"`
}

// View is what there is to see at a time.
func (b *Board) View(now time.Time, key string) View {
	v := View{
		Key: key, State: Closed, Breaker: b.Breaker.sum(now), Throttle: b.Throttle.sum(now), Budget: b.lendable(now),
		Settings: b.Settings, Workers: slices.Clone(b.Workers),
	}
	v.Left = b.left(v.Budget.Firsts, v.Budget.Retries)
	if b.Open {
		v.State, v.Opened, v.Until, v.Why = Opened, b.Opened, b.Until, b.Why
		if !now.Before(b.Until) {
			v.State = HalfOpen
			if now.Before(b.ProbeEnd) {
				v.Probe = b.Probe
			}
		}
	}
	return v
}

// Markdown is a table for Temporal's Web UI.
func (v View) Markdown() string {
	rows := []string{fmt.Sprintf("**%s** %s\n\n| | |\n|---|---|\n", v.Key, v.State)}
	row := func(name, format string, args ...any) {
		rows = append(rows, fmt.Sprintf("| %s | %s |\n", name, fmt.Sprintf(format, args...)))
	}
	if v.State != Closed {
		row("open since", "%s, after %d of %d calls failed", v.Opened.UTC().Format(time.RFC3339), v.Why.Failures, v.Why.Calls)
		row("may be probed", "%s", v.Until.UTC().Format(time.RFC3339))
	}
	if d := v.Settings; d.Breaker.Failures > 0 {
		row("breaker", "%s", d.Breaker)
		row("calls failed", "%d of %d", v.Breaker.Failures, v.Breaker.Calls)
	}
	if d := v.Settings; d.Budget.Percent > 0 {
		row("budget", "%s", d.Budget)
		row("retries", "%d for %d first tries, %d left", v.Budget.Retries, v.Budget.Firsts, v.Left)
	}
	if d := v.Settings; d.Throttle.Percent > 0 {
		row("throttle", "%s", d.Throttle)
		row("calls refused", "%d, %d made", v.Throttle.Refused, v.Throttle.Calls)
	}
	row("workers", "%d", len(v.Workers))
	return strings.Join(rows, "")
}
