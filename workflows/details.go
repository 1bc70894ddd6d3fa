package workflows

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"
)

// details is the Markdown that the Web UI shows under "current details": a table with a row for each step and each foreach, not
// for each task, so that it costs as much with a million items as with ten. It is not in the history.
type details struct {
	rows []*detail // in the order in which they began
	at   map[string]*detail
	// dropped counts rows of what is over that made room for others.
	dropped int
}

// detail is a row: of a step, or of a foreach.
type detail struct {
	name string
	// states are those of the step's tasks under way, counts how many tasks are, or ended, in which.
	states map[string]state
	counts map[state]int
	tasks  int
	text   string // what is to say of the latest task
	// fans, items, done and failed are of a foreach: how many of its turns are under way, and its items in all of them.
	foreach                   bool
	fans, items, done, failed int
	began, ended              time.Time
	line                      string
}

// state is how a task is, as people read it.
type state string

const (
	stateRunning   state = "running"
	stateWaiting   state = "waiting"
	statePaused    state = "paused"
	stateCatching  state = "catching"
	stateCompleted state = "completed"
	stateCaught    state = "caught"
	stateSkipped   state = "skipped"
	stateFailed    state = "failed"
	stateCancelled state = "cancelled"
)

// underWay are the states of tasks that are not over, and ends those that are told beside the number of what is done.
var (
	underWay = []state{stateRunning, stateWaiting, statePaused, stateCatching}
	ends     = []state{stateCaught, stateSkipped, stateCancelled}
)

func (s state) over() bool { return !slices.Contains(underWay, s) }

// show keeps the details up to date: a task is in a state now, of which text says more.
func (r *run) show(ctx workflow.Context, task string, s state, text string) {
	if r.quiet {
		return
	}
	step, _, _ := strings.Cut(task, "[")
	d := r.details.row(step, workflow.Now(ctx))
	before, known := d.states[task]
	if known {
		d.counts[before]--
	} else {
		d.tasks++
	}
	d.counts[s]++
	if s.over() {
		delete(d.states, task)
		d.ended = workflow.Now(ctx)
	} else {
		d.states[task] = s
	}
	if d.text = string(s); text != "" {
		d.text += ": " + text
	}
	r.render(ctx, d)
}

// tell shows how far a foreach has come.
func (r *run) tell(ctx workflow.Context, p *progress) {
	q, before := p.now(), p.told
	after := told{begun: true, ended: p.ended, items: q.Items, completed: q.Completed, failed: q.Failed}
	if before == after {
		return
	}
	p.told = after
	if r.quiet {
		if p == r.fans[0] { // the shard's own, not one within an item
			workflow.SetCurrentDetails(ctx, after.String())
		}
		return
	}
	d := r.details.row(p.Foreach, workflow.Now(ctx))
	if d.foreach = true; !before.begun {
		d.fans++
	}
	if after.ended {
		d.fans--
		d.ended = workflow.Now(ctx)
	}
	d.items += after.items - before.items
	d.done += after.completed + after.failed - before.completed - before.failed
	d.failed += after.failed - before.failed
	r.render(ctx, d)
}

// String is what a shard says of its items.
func (t told) String() string {
	text := fmt.Sprintf("%s of %s items done", grouped(t.completed+t.failed), grouped(t.items))
	if t.failed > 0 {
		text += fmt.Sprintf(", %s failed", grouped(t.failed))
	}
	return text
}

func (r *run) render(ctx workflow.Context, d *detail) {
	line := d.markdown()
	if line == d.line {
		return
	}
	d.line = line
	workflow.SetCurrentDetails(ctx, r.details.String())
}

// maxShown is about how many rows there are: the page sends them in a URL.
const maxShown = 50

// row is the row of a step or foreach, a new one if need be.
func (t *details) row(name string, now time.Time) *detail {
	d := t.at[name]
	if d == nil {
		d = &detail{name: name, began: now, states: map[string]state{}, counts: map[state]int{}}
		if t.at == nil {
			t.at = map[string]*detail{}
		}
		t.at[name] = d
		t.rows = append(t.rows, d)
		t.makeRoom()
	}
	return d
}

// makeRoom drops the oldest row of what is over when there are too many.
func (t *details) makeRoom() {
	if len(t.rows) <= maxShown {
		return
	}
	for i, d := range t.rows {
		if !d.busy() && i < len(t.rows)-1 {
			t.rows = append(t.rows[:i], t.rows[i+1:]...)
			delete(t.at, d.name)
			t.dropped++
			return
		}
	}
}

// String is the table.
func (t *details) String() string {
	var b strings.Builder
	size := 100
	for _, d := range t.rows {
		size += len(d.line)
	}
	b.Grow(size)
	b.WriteString("| step | state | done | failed | time |\n|---|---|---|---|---|\n")
	if t.dropped > 0 {
		b.WriteString(fmt.Sprintf("| … | %d before | | | |\n", t.dropped))
	}
	for i, d := range t.rows {
		if i == 2*maxShown {
			b.WriteString(fmt.Sprintf("| … | and %d others | | | |\n", len(t.rows)-i))
			break
		}
		b.WriteString(d.line)
	}
	return b.String()
}

func (d *detail) busy() bool { return len(d.states) > 0 || d.fans > 0 }

// markdown is the row.
func (d *detail) markdown() string {
	var how, done, failed string
	switch {
	case d.foreach:
		if how = "running"; d.fans == 0 {
			how = "ended"
		}
		done = grouped(d.done) + " of " + grouped(d.items)
		failed = number(d.failed)
	case d.tasks == 1:
		how = oneLine(d.text, 200)
	default:
		how = d.several()
		done = number(d.counts[stateCompleted] + d.counts[stateCaught] + d.counts[stateSkipped])
		failed = number(d.counts[stateFailed])
	}
	when := "since " + d.began.UTC().Format("15:04:05 UTC")
	if !d.busy() {
		when = roughly(d.ended.Sub(d.began))
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s |\n", d.name, how, done, failed, when)
}

// several is "20 running, 1 paused" of a step with many tasks.
func (d *detail) several() string {
	var parts []string
	for _, s := range slices.Concat(underWay, ends) {
		if n := d.counts[s]; n > 0 {
			parts = append(parts, grouped(n)+" "+string(s))
		}
	}
	if !d.busy() {
		parts = append([]string{"ended"}, parts...)
	}
	return strings.Join(parts, ", ")
}

// number is empty for none.
func number(n int) string {
	if n == 0 {
		return ""
	}
	return grouped(n)
}

// grouped writes a number for people: "1,200".
func grouped(n int) string {
	digits := strconv.Itoa(n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// roughly rounds a duration for people.
func roughly(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	default:
		return d.Round(time.Second).String()
	}
}
