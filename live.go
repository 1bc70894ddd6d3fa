package stepwell

import (
	"fmt"
	"strings"
	"time"

	"charm.land/lipgloss/v2"

	"github.com/stepwell-flows/stepwell/runs"
)

// block draws the steps of a run, a line each, to fit a screen.
func block(steps []watched, now time.Time, s style, width, height int) []string {
	names := 0
	for _, step := range steps {
		names = max(names, lipgloss.Width(step.task()))
	}
	names = min(names, max(width/3, 8))
	shown, before, after := window(steps, max(height-2, 3))
	d := drawing{now: now, style: s, width: width}
	var lines []string
	if before > 0 {
		lines = append(lines, s.faint(fmt.Sprintf("  … %s before", plural(before, "step"))))
	}
	for _, step := range shown {
		name := clip(step.task(), names)
		name += strings.Repeat(" ", max(names-lipgloss.Width(name), 0))
		glyph, text := d.row(step)
		if step.began || step.state != runs.NotStarted && step.state != runs.Skipped {
			name = s.bold(name)
		} else {
			name = s.faint(name)
		}
		lines = append(lines, clip(glyph+" "+name+"  "+text, max(width-1, 1)))
	}
	if after > 0 {
		lines = append(lines, s.faint(fmt.Sprintf("  … %s to come", plural(after, "step"))))
	}
	return lines
}

// window chooses which steps are shown when not all fit: what is under way or failed first, then what comes next, then what
// ended last. It says how many it left out of those that are over and of those to come.
func window(steps []watched, room int) (shown []watched, before, after int) {
	if len(steps) <= room {
		return steps, 0, 0
	}
	room = max(room-2, 1) // for the lines that say what is left out
	keep := make([]bool, len(steps))
	take := func(i int) {
		if room > 0 && !keep[i] {
			keep[i] = true
			room--
		}
	}
	over := func(s watched) bool { return !s.ended.IsZero() || s.state == runs.Skipped }
	next := len(steps)
	for i, step := range steps {
		if busy := step.began && !over(step); busy || step.state == runs.Failed {
			take(i)
		}
		if !over(step) {
			next = min(next, i)
		}
	}
	context := room / 2
	for i := next; i < len(steps) && room > context; i++ {
		if !over(steps[i]) {
			take(i)
		}
	}
	for i := min(next, len(steps)) - 1; i >= 0; i-- {
		take(i)
	}
	for i := range steps {
		take(i)
	}
	for i, step := range steps {
		switch {
		case keep[i]:
			shown = append(shown, step)
		case over(step):
			before++
		default:
			after++
		}
	}
	return shown, before, after
}

// drawing is how rows are drawn: at what time, and on a screen of what width.
type drawing struct {
	now   time.Time
	style style
	width int
}

// narrow says that there is no room for whole sentences beside a bar.
func (d drawing) narrow() bool { return d.width < 80 }

// row is a step's glyph and what it is doing.
func (d drawing) row(step watched) (glyph, text string) {
	now, s := d.now, d.style
	took := ""
	if !step.started.IsZero() {
		end := step.ended
		if end.IsZero() {
			end = now
		}
		took = briefly(end.Sub(step.started))
	}
	if step.reused != "" {
		return s.good("✓"), s.faint("reused from " + clean(step.reused))
	}
	if step.fan != nil && step.began {
		return d.fanRow(step, took)
	}
	switch step.state {
	case runs.Skipped:
		return s.faint("–"), s.faint("skipped")
	case runs.Completed:
		if step.attempt > 1 {
			took += s.faint(", " + step.of(step.attempt))
		}
		return s.good("✓"), took
	case runs.Caught:
		return s.warn("!"), took + s.warn(" caught: ") + failureText(step.failure)
	case runs.Failed:
		return s.bad("✗"), took + s.bad(" failed: ") + failureText(step.failure)
	case runs.Cancelled:
		return s.warn("■"), took + " cancelled"
	case runs.Running, runs.Unfinished:
		return d.running(step, took)
	case runs.Paused:
		return s.warn("‖"), took + s.warn(" paused: ") + failureText(step.failure)
	case runs.NotStarted, runs.InBatches:
	}
	return s.faint("○"), ""
}

// fanRow is the glyph of a foreach and how far it is.
func (d drawing) fanRow(step watched, took string) (glyph, text string) {
	f, s := *step.fan, d.style
	switch step.state {
	case runs.Completed:
		glyph = s.good("✓")
		if f.failed > 0 {
			glyph = s.warn("!")
		}
		return glyph, took + "  " + f.text(s)
	case runs.Failed:
		return s.bad("✗"), took + "  " + f.text(s)
	case runs.Cancelled:
		return s.warn("■"), took + " cancelled  " + f.text(s)
	default:
	}
	done, total, told := int64(f.done()), int64(max(f.items, 1)), f.text(s)
	if d.narrow() {
		told = grouped(f.done()) + "/" + grouped(f.items)
		if f.failed > 0 {
			told += ", " + s.bad(grouped(f.failed)+" failed")
		}
	}
	return s.busy("●"), took + "  " + d.bar(done, total) + told + d.speed(f.rate(d.now), f.left(d.now))
}

// speed is how fast it goes and when it will be over, as far as that is known. A very narrow screen has room for the end.
func (d drawing) speed(perSecond float64, left time.Duration) string {
	text := ""
	if perSecond > 0 && d.width >= 60 {
		text = ", " + rateText(perSecond)
	}
	switch rest := briefly(left.Round(time.Second)); {
	case left <= 0:
	case d.narrow():
		text += ", " + rest + " left"
	default:
		text += ", about " + rest + " left"
	}
	return d.style.faint(text)
}

func (d drawing) running(step watched, took string) (glyph, text string) {
	now, s, p := d.now, d.style, step.pending
	switch {
	case p == nil:
		return s.busy("●"), took
	case p.Catch:
		return s.warn("●"), took + " catching: " + failureText(p.Failure)
	case !p.Running && !p.Next.IsZero():
		text = "next attempt now"
		if wait := p.Next.Sub(now); wait > 0 {
			text = "next attempt in " + briefly(wait.Round(100*time.Millisecond))
		}
		return s.warn("↻"), fmt.Sprintf("%s, %s, %s: %s", took, step.of(p.Attempt), text, failureText(p.Failure))
	case !p.Running:
		return s.faint("●"), took + " waits for a worker"
	}
	text = took
	switch {
	case d.narrow() && p.Attempt > 1:
		text += fmt.Sprintf(", attempt %d", p.Attempt)
	case !d.narrow() && (step.spec.MaximumAttempts > 1 || p.Attempt > 1):
		text += ", " + step.of(p.Attempt)
	}
	if p.Total > 0 {
		text += "  " + d.bar(p.Done, p.Total) + grouped(int(p.Done)) + "/" + grouped(int(p.Total)) +
			d.speed(step.pace.rate(p.Done, now), step.pace.left(p.Done, p.Total, now))
	} else if p.Done > 0 {
		text += "  " + grouped(int(p.Done)) + " done" + d.speed(step.pace.rate(p.Done, now), 0)
	}
	if p.Attempt > 1 && p.Failure != nil {
		text += s.faint("  before: " + failureText(p.Failure))
	}
	return s.busy("●"), text
}

// bar draws a share of the whole and a space, on a very narrow screen as a number.
func (d drawing) bar(done, total int64) string {
	share := min(max(float64(done)/float64(total), 0), 1)
	width := 20
	switch {
	case d.width < 40:
		return fmt.Sprintf("%d%% ", int(100*share))
	case d.narrow():
		width = 10
	}
	full := int(float64(width) * share)
	return d.style.busy(strings.Repeat("━", full)) + d.style.faint(strings.Repeat("─", width-full)) + " "
}
