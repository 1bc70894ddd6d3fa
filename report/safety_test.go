package report_test

import (
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/report"
)

// hostile is text that would be a script in an element, an attribute and an address, colours a terminal and turns text around. It
// has no slash, so that it can be a name in a store.
const hostile = "javascript:alert(1)\" onload='alert(1)'><script>alert(1)<img src=x onerror=alert(1)>\x1b[31m\x07\u202e]]>{{.}}"

// name is hostile as far as a name in a store can be.
const name = "javascript:alert(1)\" onload='alert(1)'><script>alert(1)<img src=x onerror=alert(1)>\u202e{{.}}"

// everywhere plays a run whose store says hostile wherever it can.
func (l lab) everywhere() {
	l.Helper()
	f := &policies.Failure{Class: policies.Class(hostile), Type: hostile, Message: hostile, Stack: hostile + "</script>", Step: name, Task: name, Attempt: 1,
		Worker: hostile, Time: after(2)}
	plan := flow.Plan{Version: 2, Flow: "GridFlow", Params: []flow.Param{{Name: hostile, Kind: hostile}}, Root: flow.PlanNode{Kind: flow.KindSeq, Nodes: []flow.PlanNode{
		{Kind: flow.KindStep, Name: name, Policy: &policies.Spec{MaximumAttempts: 2}, Cards: []string{hostile}},
		{Kind: flow.KindSwitch, Name: "s" + name, Cases: []string{hostile}, Nodes: []flow.PlanNode{{Kind: flow.KindStep, Name: "c" + name}}},
		{Kind: flow.KindBranch, Name: "b" + name, Nodes: []flow.PlanNode{{Kind: flow.KindStep, Name: "a" + name}}, Join: &flow.PlanNode{Kind: flow.KindStep, Name: "j" + name}},
		{Kind: flow.KindForeach, Name: "f" + name, Item: hostile, Nodes: []flow.PlanNode{{Kind: flow.KindStep, Name: "i" + name}}, Join: &flow.PlanNode{Kind: flow.KindStep, Name: "k" + name}},
		{Kind: flow.KindLoop, Name: "l" + name, Nodes: []flow.PlanNode{{Kind: flow.KindStep, Name: "t" + name}}},
	}}}
	l.start("r1", func(r *records.Run) {
		r.Plan, r.User, r.Code, r.Origin, r.Root, r.Tags, r.TaskQueue, r.WorkflowID, r.Namespace = plan, hostile, hostile, hostile, "x"+hostile, []string{hostile}, hostile, hostile, hostile
		r.Params = map[string]string{hostile: hostile}
	})
	entry := func(r *records.Task) {
		r.Worker, r.Failure, r.Outcome, r.Changed = hostile, f, records.Caught, []string{hostile}
		e := r.Artifacts["Note"]
		e.Type, e.By, e.Codec = hostile, hostile, hostile
		r.Artifacts = map[string]artifacts.Entry{hostile: e, "Note": r.Artifacts["Note"]}
		r.Ahead = flow.Ahead{"f" + name: {Items: &flow.List{Len: 3}}}
	}
	attempt := records.Attempt{Attempt: 1, Outcome: records.Outcome(hostile), Worker: hostile, Started: after(1), Ended: after(2), Failure: f, Delay: time.Second, Reason: hostile}
	l.did("r1", "j"+name, nil, 3, 4, entry)
	l.did("r1", "i"+name, flow.Index{0}, 3, 4, entry)
	for step, x := range map[string]flow.Index{"j" + name: nil, name: nil, "i" + name: {1}} {
		l.tried("r1", step, x, attempt)
		l.log("r1", step, x, 1, `{"time":"2026-01-01T12:00:01Z","level":"<b>","msg":"<script>alert(1)</script>","a":"<img src=x onerror=alert(1)>"}`+"\n"+hostile+"\n")
		require.NoError(l, l.store.PutDoc(l.Context(), records.CardKey("GridFlow", "r1", step, x, name), []byte("<script>")))
	}
	l.over("r1", records.End{Status: records.Status(hostile), Ended: after(9), Failure: f})
}

func TestHostileTextStaysInert(t *testing.T) {
	t.Parallel()
	l := newLab(t, grid(flow.Fan{}))
	l.everywhere()
	for _, o := range []report.Options{
		{}, {Link: func(report.Place) string { return hostile }, WebUI: "javascript:alert(1)", Script: "ok()", Live: true},
		{Link: links, WebUI: "http://x/\"><script>alert(1)</script>", Command: func(...string) string { return hostile }},
	} {
		for what, page := range map[string]string{
			"run": l.runPage("r1", o), "foreach": l.foreachPage("r1", "f"+name, o), "task": l.taskPage("r1", "j"+name, o), "failed": l.taskPage("r1", name, o),
			"item": l.taskPage("r1", "i"+name+"[0]", o),
		} {
			inert(t, what, page, o.Script)
		}
	}
}

var (
	safeLink   = regexp.MustCompile(`^(/|https?://|#ZgotmplZ$)`)
	elements   = strings.Fields(`html head meta title style body div header nav ol ul li a h1 h2 h3 span dl dt dd main section p b code pre details summary table caption thead tbody tr th td footer svg path rect text figure figcaption iframe script br`)
	attributes = strings.Fields(`lang charset http-equiv content name id class data-live aria-label aria-labelledby aria-hidden role tabindex title scope href colspan focusable
		viewbox preserveaspectratio width height x y rx d fill stroke-width stroke-dasharray font-size text-anchor textlength lengthadjust transform sandbox src loading open`)
)

// inert parses a page as a browser does and refuses what could act.
func inert(t *testing.T, what, page, script string) {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(page))
	require.NoError(t, err)
	scripts := 0
	for n := range doc.Descendants() {
		if n.Type == html.TextNode && strings.ContainsFunc(n.Data, turnsAround) {
			t.Errorf("%s: control characters in %q", what, n.Data)
		}
		if n.Type != html.ElementNode {
			continue
		}
		if n.Data == "script" {
			scripts++
			require.Equal(t, script, n.FirstChild.Data, what)
		}
		require.Contains(t, elements, n.Data, what)
		for _, a := range n.Attr {
			require.Contains(t, attributes, strings.ToLower(a.Key), "%s: %s=%q", what, a.Key, a.Val)
			if (a.Key == "href" || a.Key == "src") && !safeLink.MatchString(a.Val) && strings.Contains(a.Val, ":") {
				t.Errorf("%s: %s leads to %q", name, n.Data, a.Val)
			}
			if a.Key != "href" && a.Key != "src" && strings.ContainsFunc(a.Val, turnsAround) {
				t.Errorf("%s: control characters in %s=%q", what, a.Key, a.Val)
			}
		}
	}
	want := 0
	if script != "" {
		want = 1
	}
	require.Equal(t, want, scripts, what)
}

func turnsAround(r rune) bool {
	return unicode.IsControl(r) && r != '\n' && r != '\t' || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}
