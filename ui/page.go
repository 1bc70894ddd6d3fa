package ui

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/url"
	"strings"
	"time"

	"github.com/stepwell-flows/stepwell/cards"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

var (
	//go:embed ui.css
	ownStyle string
	//go:embed live.js
	liveScript string
	//go:embed *.html
	files embed.FS

	templates = template.Must(template.New("").Funcs(template.FuncMap{
		"text": text, "count": cards.Count, "instant": instant, "size": cards.Size, "tone": tone, "flowLink": flowLink, "runLink": runLink,
	}).ParseFS(files, "*.html"))

	// The policy names the style sheet by its digest, so the digest must be of exactly what stands between the tags.
	styleElement = template.HTML("<style>" + cards.Style() + ownStyle + "</style>") //nolint:gosec // constants

	pagePolicy = "default-src 'none'; style-src " + hash(cards.Style()+ownStyle) +
		"; img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
	livePolicy  = pagePolicy + "; connect-src 'self'; script-src " + hash(liveScript)
	liveElement = template.HTML("<script>" + liveScript + "</script>") //nolint:gosec // a constant
)

// hash names an inline style sheet or script in a policy.
func hash(content string) string {
	sum := sha256.Sum256([]byte(content))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// frame is what every page has.
type frame struct {
	Title string
	Style template.HTML
	Path  []link
	// WebUI is the page's address in the Temporal Web UI.
	WebUI string
	// Script keeps the page current, "" on one that is not.
	Script template.HTML
}

// policy is what the page may do.
func (f frame) policy() string {
	if f.Script != "" {
		return livePolicy
	}
	return pagePolicy
}

type link struct{ Text, Href string }

// frame is that of a page below the links of path.
func (q *request) frame(title string, path []link) frame {
	return frame{Title: text(title), Style: styleElement, Path: append([]link{{"Flows", "/"}}, path...)}
}

// Links. Parts are escaped one by one, so that a name is one part of a path whatever is in it.

func flowLink(flow string) string { return "/runs/" + url.PathEscape(flow) }

func runLink(r *runs.Run) string { return flowLink(r.Flow) + "/" + url.PathEscape(r.Run.Run) }

func taskLink(r *runs.Run, task string) string { return runLink(r) + "/tasks/" + url.PathEscape(task) }

func stepLink(r *runs.Run, step string) string { return runLink(r) + "/steps/" + url.PathEscape(step) }

func flowPath(flow string) []link { return []link{{text(flow), flowLink(flow)}} }

func runPath(r *runs.Run) []link {
	return append(flowPath(r.Flow), link{text(r.Run.Run), runLink(r)})
}

// temporalLink is a run's page in the Temporal Web UI.
func (q *request) temporalLink(r *runs.Run) string {
	if q.webUI == "" || r.WorkflowID == "" {
		return ""
	}
	namespace := r.Namespace
	if namespace == "" {
		namespace = "default"
	}
	return fmt.Sprintf("%s/namespaces/%s/workflows/%s", strings.TrimSuffix(q.webUI, "/"), url.PathEscape(namespace), url.PathEscape(r.WorkflowID))
}

// text makes what others wrote fit to be shown. Templates escape it.
func text(s string) string { return cards.Text(s, 4000) }

func instant(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// tone is the colour of a state.
func tone(state any) string {
	switch fmt.Sprint(state) {
	case string(records.StatusCompleted):
		return "good"
	case string(records.StatusFailed):
		return "bad"
	case string(runs.Caught), string(runs.Cancelled), string(runs.Unfinished), string(runs.Paused):
		return "warn"
	case string(runs.Running):
		return "busy"
	}
	return "none"
}
