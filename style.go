package stepwell

import (
	"fmt"
	"strings"
	"time"

	"charm.land/lipgloss/v2"

	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

// style colours text, or leaves it as it is.
type style struct{ colour bool }

var (
	goodStyle  = lipgloss.NewStyle().Foreground(lipgloss.Green)
	badStyle   = lipgloss.NewStyle().Foreground(lipgloss.Red)
	warnStyle  = lipgloss.NewStyle().Foreground(lipgloss.Yellow)
	busyStyle  = lipgloss.NewStyle().Foreground(lipgloss.Cyan)
	faintStyle = lipgloss.NewStyle().Faint(true)
	boldStyle  = lipgloss.NewStyle().Bold(true)
)

func (s style) with(l lipgloss.Style, text string) string {
	if !s.colour || text == "" {
		return text
	}
	return l.Render(text)
}

func (s style) good(text string) string  { return s.with(goodStyle, text) }
func (s style) bad(text string) string   { return s.with(badStyle, text) }
func (s style) warn(text string) string  { return s.with(warnStyle, text) }
func (s style) busy(text string) string  { return s.with(busyStyle, text) }
func (s style) faint(text string) string { return s.with(faintStyle, text) }
func (s style) bold(text string) string  { return s.with(boldStyle, text) }

// status colours a run's status.
func (s style) status(status records.Status) string {
	text := clean(string(status))
	switch status {
	case records.StatusCompleted:
		return s.good(text)
	case records.StatusFailed:
		return s.bad(text)
	case records.StatusCancelled:
		return s.warn(text)
	case records.StatusRunning:
		return s.busy(text)
	default:
		return text
	}
}

// state colours a task's state.
func (s style) state(state runs.State) string {
	switch state {
	case runs.Completed:
		return s.good(string(state))
	case runs.Failed:
		return s.bad(string(state))
	case runs.Caught, runs.Cancelled, runs.Unfinished, runs.Paused:
		return s.warn(string(state))
	case runs.Running:
		return s.busy(string(state))
	default:
		return s.faint(string(state))
	}
}

// clip shortens one line to a width of the screen, colours not counted.
func clip(line string, width int) string {
	if width <= 0 || lipgloss.Width(line) <= width {
		return line
	}
	if width == 1 {
		return "…"
	}
	return lipgloss.NewStyle().Inline(true).MaxWidth(width-1).Render(line) + "…"
}

// briefly writes a duration for people: "340ms", "3.4s", "2m10s", "1h5m".
func briefly(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	case d < time.Hour:
		d = d.Round(time.Second)
	default:
		d = d.Round(time.Minute)
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// clock and date write times in the user's own zone.
func clock(t time.Time) string {
	if t.IsZero() {
		return "?"
	}
	return t.Local().Format("15:04:05.000")
}

func date(t time.Time) string {
	if t.IsZero() {
		return "?"
	}
	return t.Local().Format("2006-01-02 15:04:05 MST")
}

// byteSize writes a size for people.
func byteSize(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}

// plural is "1 run", "2 runs".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
