package cards

import (
	"fmt"
	"html/template"
	"strconv"
	"time"
)

const (
	maxTimelineRows  = 200
	maxTimelineSpans = 2000
	timelineWidth    = 1000 // units of the drawing, which is as wide as there is room
	minSpanWidth     = 4
)

// Timeline shows when things happened, as bars below each other. It is a table for those who cannot see the bars.
type Timeline struct {
	// Title says what happened.
	Title string
	// Spans are drawn in rows: those of the same name share one, in the order in which the names come first. At most 200 rows and
	// 2,000 spans are shown.
	Spans []Span
	// End is the right end. Defaults to the last end of a span, or to now if there is a span without one.
	End time.Time
}

// Span is a bar of a [Timeline].
type Span struct {
	Name string
	// Start is when it began. A span without is left out.
	Start time.Time
	// End is when it was over. Zero means that it goes on.
	End time.Time
	// Tone is "good", "warn" or "bad", for the colour. Defaults to none of them.
	Tone string
	// Note is written beside the duration. Defaults to none.
	Note string
}

type timelineRow struct {
	Name, Note string
	Took       string
	Bars       []timelineBar
	spans      int
	sum        time.Duration
	goes       bool
}

type timelineBar struct{ X, Width, Class string }

var timelineTable = template.Must(template.New("timeline").Parse(
	`<div class="scroll wide" role="region" aria-label="{{.Label}}" tabindex="0"><table class="timeline">{{with .Title}}<caption>{{.}}</caption>{{end}}` +
		`<thead><tr><th scope="col">Name</th><th scope="col" class="when"><span>{{.From}}</span> <span>{{.To}}</span></th><th scope="col" class="n">Took</th></tr></thead>` +
		`<tbody>{{range .Rows}}<tr><th scope="row">{{.Name}}</th>` +
		`<td class="when"><svg viewBox="0 0 1000 16" preserveAspectRatio="none" aria-hidden="true">{{range .Bars}}<rect class="{{.Class}}" x="{{.X}}" y="1" width="{{.Width}}" height="14"/>{{end}}</svg></td>` +
		`<td class="n">{{.Took}}{{with .Note}} <span class="quiet">{{.}}</span>{{end}}</td></tr>{{else}}<tr><td colspan="3" class="quiet">nothing yet</td></tr>{{end}}</tbody></table>` +
		`{{with .More}}<p class="quiet">{{.}}</p>{{end}}</div>`))

// CardHTML implements [flow.Component].
func (t Timeline) CardHTML() template.HTML {
	var from, to time.Time
	running := false
	for _, s := range t.Spans {
		if s.Start.IsZero() {
			continue
		}
		if from.IsZero() || s.Start.Before(from) {
			from = s.Start
		}
		if s.End.IsZero() {
			running = true
		}
		for _, at := range []time.Time{s.Start, s.End} {
			if at.After(to) {
				to = at
			}
		}
	}
	switch {
	case !t.End.IsZero():
		to = t.End
	case running:
		to = time.Now()
	}
	scale := 0.0
	if d := to.Sub(from); d > 0 {
		scale = timelineWidth / float64(d)
	}
	rows, left := t.rows(from, to, scale)
	data := struct {
		Label, Title, From, To, More string
		Rows                         []*timelineRow
	}{Label: "timeline", Title: label(t.Title), Rows: rows}
	if data.Title != "" {
		data.Label = data.Title
	}
	if len(rows) > 0 {
		data.From, data.To = instant(from), "+ "+duration(max(to.Sub(from), 0))
	}
	if left > 0 {
		data.More = "… and " + Count(left) + " more"
	}
	return execute(timelineTable, data)
}

func (t Timeline) rows(from, to time.Time, scale float64) (rows []*timelineRow, left int) {
	byName := map[string]*timelineRow{}
	shownSpans := 0
	for _, s := range t.Spans {
		if s.Start.IsZero() {
			continue
		}
		row := byName[s.Name]
		if shownSpans >= maxTimelineSpans || row == nil && len(rows) >= maxTimelineRows {
			left++
			continue
		}
		if row == nil {
			row = &timelineRow{Name: label(s.Name)}
			byName[s.Name], rows = row, append(rows, row)
		}
		shownSpans++
		end := s.End
		if end.IsZero() {
			end, row.goes = to, true
		}
		row.spans++
		row.sum += max(end.Sub(s.Start), 0)
		if s.Note != "" {
			row.Note = label(s.Note)
		}
		x := min(max(float64(s.Start.Sub(from))*scale, 0), timelineWidth-minSpanWidth)
		width := min(max(float64(end.Sub(s.Start))*scale, minSpanWidth), timelineWidth-x)
		class := "f-s1"
		switch s.Tone {
		case "good", "warn", "bad":
			class = "f-" + s.Tone
		}
		if s.End.IsZero() {
			class += " goes"
		}
		row.Bars = append(row.Bars, timelineBar{X: coordinate(x), Width: coordinate(width), Class: class})
	}
	for _, row := range rows {
		row.Took = duration(row.sum)
		switch {
		case row.goes:
			row.Took += ", goes on"
		case row.spans > 1:
			row.Took += fmt.Sprintf(" (%s)", times(row.spans))
		}
	}
	return rows, left
}

func coordinate(f float64) string { return strconv.FormatFloat(f, 'f', 1, 64) }
