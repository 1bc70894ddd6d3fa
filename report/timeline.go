package report

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/stepwell-flows/stepwell/cards"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

// The coordinates of a row of the timeline, which is stretched to the width that there is.
const (
	rowWidth  = 1000
	rowHeight = 20
)

// track is a row of the timeline: a step with its attempts, or one of a foreach or loop with all of its tasks.
type track struct {
	Step     link
	In       []link // the shapes around it
	State    pill
	Count    string // of many tasks
	Took     string
	Attempts string
	Note     string
	Bars     []bar
	Label    string // what the bars show, for those who do not see them
}

// bar is a part of a row: an attempt, a wait, or the outline of how many tasks ran.
type bar struct {
	X, Y, W, H string
	Path       string // instead of a box
	Class      string
	Title      string
}

type timeline struct {
	from, to time.Time
	Ticks    []string
	Tracks   []track
	More     int
}

// manyTracks bounds the rows of the timeline.
const manyTracks = 400

func (o places) timeline(all []*measure) timeline {
	v := timeline{from: o.run.Started, to: o.run.Ended}
	if v.to.IsZero() {
		v.to = o.now()
	}
	for _, m := range all {
		if m.to.After(v.to) {
			v.to = m.to
		}
		if !m.from.IsZero() && m.from.Before(v.from) {
			v.from = m.from
		}
	}
	if !v.to.After(v.from) {
		v.to = v.from.Add(time.Millisecond)
	}
	for i := range 5 {
		v.Ticks = append(v.Ticks, cards.Duration(v.to.Sub(v.from)*time.Duration(i)/4))
	}
	for _, m := range all {
		switch {
		case m.step.Begun() == 0: // the list beside the graph has them
		case len(v.Tracks) == manyTracks:
			v.More++
		default:
			v.Tracks = append(v.Tracks, o.track(&v, m))
		}
	}
	return v
}

func (o places) track(v *timeline, m *measure) track {
	s := m.step
	t := track{Step: o.step(s), State: state(s.State), Took: took(m.took())}
	for _, shape := range s.Shapes {
		if n, ok := o.run.Plan.Shape(shape); ok && n.Kind == flow.KindForeach {
			t.In = append(t.In, o.foreach(shape))
		} else {
			t.In = append(t.In, link{Text: text(shape)})
		}
	}
	if s.Task == nil {
		t.Count = told(s)
		o.band(v, m, &t)
		return t
	}
	if s.Task.Reused() {
		t.Note = "reused from " + text(s.Task.Owner)
		return t
	}
	if n := len(m.attempts); n > 1 || m.retried > 0 {
		t.Attempts = many(n, "attempt")
	}
	o.attempts(v, m, &t)
	return t
}

// attempts draws each attempt of a task and the waits between them.
func (o places) attempts(v *timeline, m *measure, t *track) {
	var before time.Time
	wait := func(until time.Time, why string) {
		if !before.IsZero() && until.After(before) {
			t.Bars = append(t.Bars, v.bar(before, until, 9, 2, "wait", why+" "+cards.Duration(until.Sub(before))))
		}
	}
	for _, a := range m.attempts {
		start := a.Started
		if start.IsZero() { // a lost one could not tell
			start = before
		}
		if start.IsZero() {
			start = a.Ended
		}
		end := a.Ended
		if end.IsZero() {
			end = start
		}
		wait(start, "waited")
		title := fmt.Sprintf("attempt %d %s", a.Attempt.Attempt, text(string(a.Outcome)))
		if end.After(start) {
			title += " after " + cards.Duration(end.Sub(start))
		}
		if a.Failure != nil {
			title += ": " + cards.Text(string(a.Failure.Class)+": "+a.Failure.Message, 200)
		}
		if !start.IsZero() {
			t.Bars = append(t.Bars, v.bar(start, end, 3, 14, outcomeTone(a.Outcome), title))
		}
		if end.After(before) {
			before = end
		}
	}
	task := m.step.Task
	if r := task.Record; r != nil && r.Outcome == records.Caught {
		t.Bars = append(t.Bars, v.bar(r.Started, r.Ended, 3, 14, "warn", "the catch function"))
	}
	switch p := task.Pending; {
	case p != nil && p.Running:
		if p.Started.IsZero() {
			p.Started = before
		}
		wait(p.Started, "waited")
		t.Bars = append(t.Bars, v.bar(p.Started, o.now(), 3, 14, "busy", fmt.Sprintf("attempt %d runs", p.Attempt)))
		t.Note = fmt.Sprintf("attempt %d runs", p.Attempt)
		if p.Total > 0 {
			t.Note += fmt.Sprintf(", %s of %s done", cards.Count(int(p.Done)), cards.Count(int(p.Total)))
		}
	case p != nil:
		wait(o.now(), "has waited")
		t.Note = "waits for a worker"
		if !p.Next.IsZero() {
			t.Note = fmt.Sprintf("attempt %d is due at %s", p.Attempt, instant(p.Next))
		}
	case task.State == runs.Paused:
		wait(o.now(), "has waited for a person for")
		t.Note = "waits for a person"
	}
	var words []string
	for _, b := range t.Bars {
		words = append(words, b.Title)
	}
	t.Label = strings.Join(words, ", ")
}

// band draws how many of the tasks of a step ran at a time, as far as they were read.
func (o places) band(v *timeline, m *measure, t *track) {
	if m.took() <= 0 {
		return
	}
	t.Bars = append(t.Bars, v.bar(m.from, m.to, 3, 14, "span", ""))
	if median, longest := m.typical(); longest > 0 {
		t.Note = fmt.Sprintf("a task took %s, the longest %s", cards.Duration(median), cards.Duration(longest))
		if len(m.tasks) < m.of {
			t.Note += fmt.Sprintf(" (of %s that were looked at)", cards.Count(len(m.tasks)))
		}
	}
	const bins = 120
	var running [bins]float64
	width := float64(v.to.Sub(v.from)) / bins
	for _, task := range m.tasks {
		a, b := float64(task.Record.Started.Sub(v.from))/width, float64(task.Record.Ended.Sub(v.from))/width
		for i := max(int(a), 0); i < bins && float64(i) <= b; i++ {
			running[i] += max(min(b, float64(i+1))-max(a, float64(i)), 0.01)
		}
	}
	most := 0.0
	for _, n := range running {
		most = max(most, n)
	}
	if most > 0 {
		var path strings.Builder
		for i, n := range running {
			if n > 0 {
				x, y := number(float64(i)*rowWidth/bins), number(rowHeight-3-14*n/most)
				fmt.Fprintf(&path, "M%s %dV%sH%sV%dZ", x, rowHeight-3, y, number(float64(i+1)*rowWidth/bins), rowHeight-3)
			}
		}
		t.Bars = append(t.Bars, bar{Path: path.String(), Class: "good", Title: "how many ran at a time of those that completed"})
	}
	for _, at := range m.fails {
		t.Bars = append(t.Bars, v.bar(at, at, 0, rowHeight, "bad", "failed"))
	}
	t.Label = fmt.Sprintf("tasks ran from %s to %s", cards.Duration(m.from.Sub(v.from)), cards.Duration(m.to.Sub(v.from)))
}

// bar is a box from one time to another, wide enough to be seen.
func (v *timeline) bar(from, to time.Time, y, h int, class, title string) bar {
	x := v.x(from)
	w := max(v.x(to)-x, 3)
	return bar{X: number(min(x, rowWidth-w)), Y: strconv.Itoa(y), W: number(w), H: strconv.Itoa(h), Class: class, Title: title}
}

func (v *timeline) x(t time.Time) float64 {
	f := float64(t.Sub(v.from)) / float64(v.to.Sub(v.from)) * rowWidth
	return min(max(f, 0), rowWidth)
}

func number(f float64) string {
	s := strconv.FormatFloat(f, 'f', 1, 64)
	return strings.TrimSuffix(s, ".0")
}
