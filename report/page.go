package report

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"strings"
	"time"

	"github.com/stepwell-flows/stepwell/cards"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

var (
	//go:embed *.html
	templates embed.FS
	//go:embed report.css
	ownStyle string

	pages = template.Must(template.New("report").Funcs(template.FuncMap{"count": cards.Count}).ParseFS(templates, "*.html"))

	style        = cards.Style() + "\n" + ownStyle
	styleElement = template.HTML("<style>" + style + "</style>") //nolint:gosec // constants of this module
)

// link is text that may lead somewhere.
type link struct{ Text, URL string }

type fact struct {
	Name string
	link
}

// pill is a state in a word and a colour.
type pill struct{ Word, Tone string }

// head is what all pages have at their top and bottom.
type head struct {
	Policy, Title string
	Style, Script template.HTML
	Path          []link
	Heading       string
	Kind          string // what the page is of
	Outcome       pill
	Facts         []fact
	Links         []link
	Live          bool   // the page is loaded anew
	Stood         string // when the run stood like this, of one that has not ended
	Foot          string
}

func (o places) head(kind, heading string, outcome pill) head {
	h := head{
		Policy: policy(o.Script), Style: styleElement, Script: script(o.Script), Kind: kind, Heading: text(heading), Outcome: outcome,
		Title: fmt.Sprintf("%s · %s · %s", text(heading), text(o.run.Flow), outcome.Word),
		Foot:  text(o.run.Pathspec()),
	}
	if !over(o.run) {
		h.Live, h.Stood = o.Live, instant(o.now())
	}
	return h
}

// policy allows the style sheet, the one script if there is any, images inside of the page, and the cards of whoever serves the
// page in frames. Whoever has a script may ask where the page came from.
func policy(script string) string {
	p := "default-src 'none'; style-src " + digest(style) + "; img-src data:; base-uri 'none'; form-action 'none'"
	if script != "" {
		p += "; script-src " + digest(script) + "; connect-src 'self'; frame-src 'self'"
	}
	return p
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

func script(s string) template.HTML {
	if s == "" {
		return ""
	}
	return template.HTML("<script>" + s + "</script>") //nolint:gosec // the caller's own program, see Options
}

// longest bounds names and other short texts, in characters.
const longest = 300

// text makes a short text of others fit to be shown.
func text(s string) string { return cards.Text(s, longest) }

func over(run *runs.Run) bool {
	return run.Status != records.StatusRunning && run.Status != runs.Unknown
}

func status(run *runs.Run) pill {
	switch run.Status {
	case records.StatusCompleted:
		return pill{"completed", "good"}
	case records.StatusFailed:
		return pill{"failed", "bad"}
	case records.StatusCancelled:
		return pill{"cancelled", "warn"}
	case records.StatusRunning:
		return pill{"running", "busy"}
	case runs.Unknown:
		return pill{"not ended", "quiet"}
	}
	return pill{text(string(run.Status)), "quiet"}
}

func state(s runs.State) pill { return pill{text(string(s)), tone(s)} }

func tone(s runs.State) string {
	switch s {
	case runs.Completed:
		return "good"
	case runs.Failed:
		return "bad"
	case runs.Caught, runs.Cancelled, runs.Paused:
		return "warn"
	case runs.Running:
		return "busy"
	case runs.NotStarted, runs.Skipped, runs.InBatches, runs.Unfinished:
	}
	return "quiet"
}

// outcomeTone is the colour of an attempt.
func outcomeTone(o records.Outcome) string {
	switch o {
	case records.Completed:
		return "good"
	case records.Failed, records.Lost:
		return "bad"
	case records.Caught, records.Cancelled, records.Skipped, records.Deferred:
		return "warn"
	}
	return "busy"
}

type failureView struct {
	Class, Type, Message, Stack string
	Task                        link
	Facts                       string
}

func (o places) failure(f *policies.Failure) *failureView {
	v := &failureView{
		Class: text(string(f.Class)), Type: text(f.Type), Message: cards.Text(f.Message, 4000), Stack: cards.Text(f.Stack, 20_000),
	}
	if v.Message == "" {
		v.Message = "the error has no message"
	}
	if f.Task != "" {
		v.Task = o.task(f.Task)
	}
	var facts []string
	if f.Attempt > 0 {
		facts = append(facts, fmt.Sprintf("attempt %d", f.Attempt))
	}
	if !f.Time.IsZero() {
		facts = append(facts, instant(f.Time))
	}
	if f.Worker != "" {
		facts = append(facts, "worker "+text(f.Worker))
	}
	v.Facts = strings.Join(facts, ", ")
	return v
}

func instant(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

func took(d time.Duration) string {
	if d <= 0 {
		return ""
	}
	return cards.Duration(d)
}

// many counts things: "1 task", "1,200 tasks".
func many(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return cards.Count(n) + " " + noun + "s"
}

// told says how the tasks of a step with many stand, and where to look for those that nothing tells of. It is "" before any has begun.
func told(s *runs.Step) string {
	where := "an item has one record, that of its last step, " + text(strings.Join(s.RecordedBy(), " or "))
	switch {
	case s.State == runs.InBatches:
		return where
	case s.Begun() == 0:
		return ""
	case s.Untold:
		return counts(s.Counts) + ", others in batches: " + where
	}
	return counts(s.Counts)
}

// counts says how the tasks of a step stand: "9,998 of 10,000 completed, 2 failed".
func counts(c runs.Counts) string {
	var parts []string
	add := func(n int, word string) {
		if n > 0 {
			parts = append(parts, cards.Count(n)+" "+word)
		}
	}
	switch {
	case c.Total > 0:
		parts = append(parts, fmt.Sprintf("%s of %s completed", cards.Count(c.Completed), cards.Count(c.Total)))
	default:
		add(c.Completed, "completed")
	}
	add(c.Caught, "caught")
	add(c.Failed, "failed")
	add(c.Cancelled, "cancelled")
	add(c.Running, "running")
	add(c.Paused, "paused")
	add(c.Unfinished, "unfinished")
	add(c.Reused, "reused")
	return strings.Join(parts, ", ")
}
