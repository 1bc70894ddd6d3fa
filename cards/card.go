package cards

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

// Limits of the default card. What is left out is said on the card.
const (
	maxComponents     = 500
	maxComponentBytes = 8 << 20 // of all together
	maxPreviewRunes   = 2000
	maxErrorRunes     = 4000
	maxStackRunes     = 20_000
	maxAttempts       = 100
	maxLogLines       = 500
	maxLineRunes      = 2000
)

// New is a card of that name beside the default one, for what does not belong there or is for other readers: it has what the
// step puts on it with [flow.CardNamed], and why the task failed. Artifacts, parameters, attempts and log are on the default card.
//
//	flow.Step("evaluate", evaluate, cards.Default(), cards.New("fairness"))
func New(name string) flow.CardSpec {
	return flow.CardSpec{Name: name, Render: func(w io.Writer, d *flow.CardData) error {
		own := *d
		own.Artifacts, own.Params, own.Attempts, own.Log = nil, nil, nil, nil
		return write(w, &own, name)
	}}
}

// Default is the card "default": what the task was and how it ended, the step's own components, the artifacts with
// those it set marked, the parameters, every attempt with its error and the wait after it, and the end of the log.
func Default() flow.CardSpec {
	return flow.CardSpec{Name: flow.DefaultCard, Render: render}
}

var (
	//go:embed card.css
	styleSheet string
	//go:embed card.html
	pageText string

	page = template.Must(template.New("card").Parse(pageText))

	// The policy names the style sheet by its digest, so the digest must be of exactly what stands between the tags.
	styleElement = template.HTML("<style>" + styleSheet + "</style>") //nolint:gosec // a constant of this package
	policy       = contentPolicy(styleSheet)
)

// contentPolicy forbids everything but one style sheet, these scripts and images inside the page: no other script, no style
// attribute, no request to anywhere, no form, no other base address.
func contentPolicy(style string, scripts ...string) string {
	var p strings.Builder
	p.WriteString("default-src 'none'; style-src " + digest(style) + "; img-src data:; base-uri 'none'; form-action 'none'")
	for i, s := range scripts {
		if i == 0 {
			p.WriteString("; script-src")
		}
		p.WriteString(" " + digest(s))
	}
	return p.String()
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// The view is the card as the template shows it: text that is ready, and nothing else.
type view struct {
	Policy, Title string
	Style         template.HTML
	Scripts       []template.HTML
	Path          []string
	Task          string
	Outcome       string
	Live          bool
	Stood         string // when the task stood like this, of one that runs
	Progress      template.HTML
	Facts         []fact
	Failure       *failureView
	Components    []template.HTML
	Artifacts     []valueView
	Params        []valueView
	Attempts      []attemptView
	Earlier       string // how many attempts are left out
	Log           string
	LogLines      int
	LogEarlier    string // how many lines of the log are left out
}

type fact struct{ Name, Value string }

type failureView struct{ Class, Type, Message, Stack, Facts string }

type valueView struct {
	Name, Type, Size, Preview, Digest string
	Changed                           bool
	Hidden                            bool // there is a value, and no preview of it
}

type attemptView struct {
	Number                   int
	Outcome, Tone            string
	Took, Error, Class, Wait string
}

func render(w io.Writer, d *flow.CardData) error { return write(w, d, "") }

// write writes a card. The name is that of a card other than the default one.
func write(w io.Writer, d *flow.CardData, name string) error {
	v := view{
		Policy:     policy,
		Style:      styleElement,
		Task:       label(d.Info.Task),
		Outcome:    label(d.Outcome),
		Facts:      facts(d),
		Failure:    failureOf(d.Failure),
		Components: componentsOf(d.Components),
		Artifacts:  valuesOf(d.Artifacts),
		Params:     valuesOf(d.Params),
	}
	if usesVega(v.Components) {
		v.Policy, v.Scripts = vegaPolicy(), vegaElements()
	}
	if v.Task == "" {
		v.Task = label(d.Info.Step)
	}
	v.Path = []string{label(d.Info.Flow), label(d.Info.Run), label(d.Info.Step)}
	if name != "" {
		v.Path = append(v.Path, label(name))
	}
	if d.Live {
		v.Live, v.Outcome, v.Stood = true, "running", instant(d.Written)
	}
	if d.Total > 0 && d.Outcome != "completed" {
		v.Progress = (&ProgressBar{Total: d.Total, done: d.Done}).CardHTML()
	}
	v.Title = strings.Trim(fmt.Sprintf("%s · %s · %s", v.Task, v.Path[0], v.Outcome), " ·")
	if v.Task == "" { // a page needs a heading
		v.Task, v.Title = "task", strings.Trim("task · "+v.Title, " ·")
	}
	// What the task set comes first.
	slices.SortStableFunc(v.Artifacts, func(a, b valueView) int {
		switch {
		case a.Changed == b.Changed:
			return 0
		case a.Changed:
			return -1
		}
		return 1
	})
	skipped := max(0, len(d.Attempts)-maxAttempts)
	v.Earlier = some(skipped)
	for _, a := range d.Attempts[skipped:] {
		v.Attempts = append(v.Attempts, attemptOf(a))
	}
	skipped = max(0, len(d.Log)-maxLogLines)
	v.LogEarlier = some(skipped)
	lines := make([]string, 0, len(d.Log)-skipped)
	for _, line := range d.Log[skipped:] {
		lines = append(lines, shown(strings.TrimRight(line, "\r\n"), maxLineRunes))
	}
	v.Log, v.LogLines = strings.Join(lines, "\n"), len(lines)
	if err := page.Execute(w, v); err != nil {
		return fmt.Errorf("write the card of %q: %w", d.Info.Task, err)
	}
	return nil
}

// some is a number of things that are left out, "" if none are.
func some(n int) string {
	if n == 0 {
		return ""
	}
	return Count(n)
}

func facts(d *flow.CardData) []fact {
	var facts []fact
	add := func(name, value string) {
		if value != "" {
			facts = append(facts, fact{name, shown(value, maxCellRunes)})
		}
	}
	if !d.Started.IsZero() && !d.Ended.IsZero() {
		add("Duration", duration(d.Ended.Sub(d.Started)))
	}
	if d.Live && !d.Started.IsZero() && d.Written.After(d.Started) {
		add("Running for", duration(d.Written.Sub(d.Started)))
	}
	if n := len(d.Attempts); n > 0 {
		add("Attempts", Count(n))
	}
	add("Started", instant(d.Started))
	add("Ended", instant(d.Ended))
	add("Worker", d.Worker)
	add("Resumed from", d.Info.Origin)
	add("Tags", strings.Join(d.Info.Tags, ", "))
	return facts
}

func instant(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

func failureOf(f *policies.Failure) *failureView {
	if f == nil {
		return nil
	}
	v := &failureView{
		Class:   label(string(f.Class)),
		Type:    label(f.Type),
		Message: shown(f.Message, maxErrorRunes),
		Stack:   shown(f.Stack, maxStackRunes),
	}
	if v.Message == "" {
		v.Message = "the error has no message"
	}
	var parts []string
	if f.Attempt > 0 {
		parts = append(parts, fmt.Sprintf("attempt %d", f.Attempt))
	}
	if f.CodeFailures > 0 {
		parts = append(parts, fmt.Sprintf("failed in code %s", times(f.CodeFailures)))
	}
	if f.LostAttempts > 0 {
		parts = append(parts, fmt.Sprintf("lost with a worker %s", times(f.LostAttempts)))
	}
	v.Facts = strings.Join(parts, ", ")
	return v
}

func times(n int) string {
	switch n {
	case 1:
		return "once"
	case 2:
		return "twice"
	}
	return fmt.Sprintf("%d times", n)
}

// componentsOf renders what the step appended, as far as there is room.
func componentsOf(components []flow.Component) []template.HTML {
	var out []template.HTML
	for room := maxComponentBytes; len(out) < min(len(components), maxComponents) && room > 0; {
		out = append(out, componentHTML(len(out), components[len(out)]))
		room -= len(out[len(out)-1])
	}
	if left := len(components) - len(out); left > 0 {
		out = append(out, note("%s more components are left out", Count(left)))
	}
	return out
}

// componentHTML renders one component. One that panics, or is nil, leaves a note in its place.
func componentHTML(i int, c flow.Component) (out template.HTML) {
	defer func() {
		if r := recover(); r != nil {
			out = note("component %d (%T) could not be shown: %v", i, c, r)
		}
	}()
	if c == nil {
		return note("component %d is nil", i)
	}
	return template.HTML(strings.ToValidUTF8(string(c.CardHTML()), "\ufffd")) //nolint:gosec // flow.Component's contract
}

func valuesOf(values []flow.CardValue) []valueView {
	out := make([]valueView, len(values))
	for i, v := range values {
		out[i] = valueView{
			Name: label(v.Name), Type: label(v.Type), Preview: shown(v.Preview, maxPreviewRunes),
			Digest: label(v.Digest), Changed: v.Changed,
		}
		if v.Size > 0 {
			out[i].Size = bytes(v.Size)
		}
		out[i].Hidden = v.Preview == "" && v.Size > 0
	}
	return out
}

func attemptOf(a flow.CardAttempt) attemptView {
	v := attemptView{Number: a.Number, Outcome: label(a.Outcome), Tone: "bad"}
	switch a.Outcome {
	case "completed":
		v.Tone = "good"
	case "":
		v.Outcome, v.Tone = "running", "quiet"
	}
	if !a.Started.IsZero() && !a.Ended.IsZero() {
		v.Took = duration(a.Ended.Sub(a.Started))
	}
	if a.Failure != nil {
		v.Class, v.Error = label(string(a.Failure.Class)), shown(a.Failure.Message, maxErrorRunes)
	}
	reason := shown(a.Reason, maxErrorRunes)
	switch {
	case a.Delay > 0 && reason != "":
		v.Wait = fmt.Sprintf("waited %s: %s", duration(a.Delay), reason)
	case a.Delay > 0:
		v.Wait = "waited " + duration(a.Delay)
	default:
		v.Wait = reason
	}
	return v
}
