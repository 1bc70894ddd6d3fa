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
		names = max(names, lipgloss.Width(step.name))
	}
	names = min(names, max(width/3, 8))
	from, to := window(steps, max(height-2, 3))
	var lines []string
	if from > 0 {
		lines = append(lines, s.faint(fmt.Sprintf("  … %s before", plural(from, "step"))))
	}
	for _, step := range steps[from:to] {
		name := clip(step.name, names)
		name += strings.Repeat(" ", max(names-lipgloss.Width(name), 0))
		glyph, text := row(step, now, s)
		if step.state != runs.NotStarted {
			name = s.bold(name)
		} else {
			name = s.faint(name)
		}
		lines = append(lines, clip(glyph+" "+name+"  "+text, width-1))
	}
	if to < len(steps) {
		lines = append(lines, s.faint(fmt.Sprintf("  … %s to come", plural(len(steps)-to, "step"))))
	}
	return lines
}

// window chooses which steps are shown when not all fit: those around the first that is not finished, with room for
// the lines that say what is left out.
func window(steps []watched, room int) (from, to int) {
	if len(steps) <= room {
		return 0, len(steps)
	}
	room = max(room-2, 1)
	current := len(steps)
	for i, step := range steps {
		if step.ended.IsZero() {
			current = i
			break
		}
	}
	from = min(max(current-room/2, 0), len(steps)-room)
	return from, from + room
}

// row is a step's glyph and what it is doing.
func row(step watched, now time.Time, s style) (glyph, text string) {
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
	switch step.state {
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
		return running(step, took, now, s)
	case runs.NotStarted:
	}
	return s.faint("○"), ""
}

func running(step watched, took string, now time.Time, s style) (glyph, text string) {
	p := step.pending
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
	if step.spec.MaximumAttempts > 1 || p.Attempt > 1 {
		text += ", " + step.of(p.Attempt)
	}
	if p.Total > 0 {
		text += "  " + bar(p.Done, p.Total, s) + fmt.Sprintf(" %d/%d", p.Done, p.Total)
	} else if p.Done > 0 {
		text += fmt.Sprintf("  %d done", p.Done)
	}
	if p.Attempt > 1 && p.Failure != nil {
		text += s.faint("  before: " + failureText(p.Failure))
	}
	return s.busy("●"), text
}

const barWidth = 20

// bar draws a share of the whole.
func bar(done, total int64, s style) string {
	full := int(float64(barWidth) * min(max(float64(done)/float64(total), 0), 1))
	return s.busy(strings.Repeat("━", full)) + s.faint(strings.Repeat("─", barWidth-full))
}
