package cards

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"html/template"
	"image"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

// everywhere is a card that shows text in every place that text can get to.
func everywhere(text string) *flow.CardData {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	failure := &policies.Failure{Class: policies.Class(text), Type: text, Message: text, Stack: text, Attempt: 1}
	value := flow.CardValue{Name: text, Type: text, Preview: text, Digest: text, Size: 1, Changed: true}
	plot := func(layers ...Layer) Plot { return Plot{Title: text, XLabel: text, YLabel: text, Layers: layers} }
	ones := []float64{1, 2}
	return &flow.CardData{
		Info:    flow.Info{Flow: text, Run: text, Step: text, Task: text, Origin: text, Tags: []string{text, text}},
		Outcome: text, Worker: text, Started: at, Ended: at.Add(time.Second),
		Params: []flow.CardValue{value}, Artifacts: []flow.CardValue{value},
		Attempts: []flow.CardAttempt{{Number: 1, Outcome: text, Failure: failure, Delay: time.Second, Reason: text}},
		Failure:  failure,
		Components: []flow.Component{
			Markdown(text), Markdown("[a](" + text + ") ![b](" + text + ") <" + text + ">"),
			ValueBox{Label: text, Value: text, Note: text}, ValueBox{Value: errors.New(text)}, ValueBox{Value: []string{text}},
			Table{Caption: text, Columns: []string{text}, Rows: [][]any{{text, errors.New(text), map[string]string{text: text}}}},
			plot(Line{Name: text, Y: ones}, Scatter{Name: text, Y: ones}, Histogram{Name: text, Values: ones}, Diagonal(text), AtX(text, 1), AtY(text, 1)),
			plot(Bars{Name: text, Labels: []string{text, text}, Values: ones}, Bars{Name: text, Labels: []string{text, text}, Values: ones}),
			&ProgressBar{Label: text, Total: 10, Unit: text, done: 3}, &ProgressBar{Label: text, done: 3},
			Log{Title: text, Lines: []string{text, text}}, Error{Title: text, Err: errors.New(text), Stack: text}, Error{Title: text, Err: failure}, Error{Title: text},
			Artifact{Name: text, Value: text}, Artifact{Name: text, Value: map[string]any{text: []string{text}}}, Artifact{Name: text, Value: errors.New(text)},
			JSON{Title: text, Value: map[string]any{text: text, "b": []any{text, nil, 1, map[string]string{text: text}}}}, JSON{Value: []byte(text)},
			Image{Alt: text, Caption: text, Data: []byte(text)}, Image{Alt: text, Caption: text, Picture: image.NewGray(image.Rect(0, 0, 2, 2))},
			Timeline{Title: text, Spans: []Span{{Name: text, Start: at, End: at.Add(time.Second), Tone: text, Note: text}, {Name: text, Start: at, Note: text}}},
			plot(HeatMap{Name: text, Columns: []string{text, text}, Rows: []string{text}, Values: [][]float64{ones}}), plot(HeatMap{Name: text}),
			VegaLite{Title: text, Spec: map[string]any{"mark": text, text: text}}, VegaLite{Title: text, Spec: text}, VegaLite{Spec: map[string]any{"mark": "bar", "data": map[string]any{"url": text}}},
			plot(), plot(Bars{Name: text, Labels: []string{text}}), // become notes
			angry{text},
		},
		Log: []string{text, text},
	}
}

// angry is a component that panics.
type angry struct{ text string }

func (a angry) CardHTML() template.HTML { panic(a.text) }

// What may stand in a card. Each of the attributes holds text that nothing acts upon, but href and src, which are looked at.
var (
	allowedElements = strings.Fields(`html head meta title style body header nav ol li div h1 span dl dt dd main section h2 h3 h4 h5 h6 p code pre
		details summary table caption thead tbody tr th td b footer figure figcaption svg path text
		progress rect script br hr strong em del blockquote ul a img`)
	allowedAttributes = strings.Fields(`lang charset http-equiv content name aria-label aria-labelledby aria-hidden class id role tabindex title
		scope colspan viewbox d fill stroke-width stroke-dasharray x y font-size textlength lengthadjust transform
		max value open width height preserveaspectratio fill-opacity data-vega align start href src alt rel`)
	safeLink  = regexp.MustCompile(`^(?i)(https?|mailto):`)
	safeImage = regexp.MustCompile(`^(?i)data:image/(png|gif|jpeg|webp|svg\+xml);base64,`)
)

// checkSafe parses a card as a browser does and refuses whatever the card itself would not write.
func checkSafe(t *testing.T, page string) {
	t.Helper()
	const known = "(one of the card's own scripts)" // which are long
	for _, s := range vegaScripts() {
		page = strings.Replace(page, "<script>"+s+"</script>", "<script>"+known+"</script>", 1)
	}
	doc, err := html.Parse(strings.NewReader(page))
	require.NoError(t, err)
	count := map[string]int{}
	for n := range doc.Descendants() {
		switch n.Type {
		case html.CommentNode, html.RawNode:
			require.Fail(t, "a comment in the page", "%q", n.Data)
		case html.ErrorNode, html.DocumentNode, html.DoctypeNode:
		case html.TextNode:
			switch n.Parent.Data {
			case "style":
				require.Equal(t, styleSheet, n.Data)
			case "script":
				require.Equal(t, known, n.Data)
			}
		case html.ElementNode:
			count[n.Data]++
			require.Contains(t, allowedElements, n.Data)
			for _, a := range n.Attr {
				require.Contains(t, allowedAttributes, strings.ToLower(a.Key), "of %s", n.Data)
				switch a.Key {
				case "href":
					require.Regexp(t, safeLink, a.Val)
				case "src":
					require.Regexp(t, safeImage, a.Val)
				}
			}
		}
	}
	for element, want := range map[string]int{"html": 1, "head": 1, "body": 1, "style": 1, "meta": 5, "title": 1, "h1": 1, "main": 1, "script": len(vegaScripts())} {
		require.Equal(t, want, count[element], "number of %s elements", element)
	}
	require.LessOrEqual(t, count["section"], 7)
}

var hostile = []string{
	`<script>alert(1)</script>`,
	`"><script>alert(1)</script>`, `' onmouseover='alert(1)`, `" onload="alert(1)`, `--><script>`, `</style><script>alert(1)</script>`,
	`</pre></section></main><iframe src="https://example.com">`, `</title><meta http-equiv="refresh" content="0;url=https://example.com">`,
	`javascript:alert(1)`, `JaVaScRiPt:alert(1)`, "java\tscript:alert(1)", `&#106;avascript:alert(1)`, `data:text/html,<script>alert(1)</script>`,
	`data:image/svg+xml;base64,PHN2Zz4=`, `//example.com/x`, `https://example.com/"onclick="x`, `vbscript:x`, `file:///etc/passwd`,
	`<img src=x onerror=alert(1)>`, `<svg onload=alert(1)>`, `<svg><style><img src=x onerror=alert(1)></style></svg>`, `<!--`, `]]>`, `<base href="//example.com">`,
	`{{.Policy}}`, "<scr\x00ipt>", "\xff\xfe<script>", "\u202egnp.exe", "\x1b[31mred\x1b[0m<b>", "`<script>`", "|a|b|\n|-|-|\n|<script>|\" x=\"|", "<a style=\"color:red\">",
	"[x]: javascript:alert(1)\n[x]", "![x](javascript:alert(1))", "[x](https://example.com \"\" onclick=x)", "<https://example.com/\"onclick=x>", "# <script>", "1. <script>",
}

func TestNoTextBreaksOut(t *testing.T) {
	t.Parallel()
	for _, text := range hostile {
		checkSafe(t, renderCard(t, everywhere(text)))
	}
}

func FuzzCardIsSafe(f *testing.F) {
	for _, text := range append(hostile, "", " ", "plain", "0.5", "completed", "caught") {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		checkSafe(t, renderCard(t, everywhere(text)))
	})
}

// The text arrives: being safe by dropping everything would be easy.
func TestTextIsShownAsItIs(t *testing.T) {
	t.Parallel()
	const text = `<b>"a" & 'b'</b>`
	d := everywhere(text)
	d.Components = []flow.Component{
		ValueBox{Label: text, Value: text, Note: text}, Table{Caption: text, Columns: []string{text}, Rows: [][]any{{text}}},
		Plot{Title: text, XLabel: text, YLabel: text, Layers: []Layer{Line{Name: text, Y: []float64{1, 2}}, AtY(text, 1)}},
	}
	doc, err := html.Parse(strings.NewReader(renderCard(t, d)))
	require.NoError(t, err)
	where := map[string]bool{}
	for n := range doc.Descendants() {
		if n.Type == html.TextNode && n.Data == text {
			where[n.Parent.Data] = true
		}
	}
	for element := range strings.FieldsSeq("h1 li span dd dt code pre p td th caption figcaption text") {
		require.True(t, where[element], "the text is in no %s; it is in %v", element, where)
	}
}

func TestPolicyAllowsTheStyleSheetAndNothingElse(t *testing.T) {
	t.Parallel()
	doc, err := html.Parse(strings.NewReader(renderCard(t, sample())))
	require.NoError(t, err)
	var content, style string
	for n := range doc.Descendants() {
		if n.Data == "meta" && slices.Contains(n.Attr, html.Attribute{Key: "http-equiv", Val: "Content-Security-Policy"}) {
			for _, a := range n.Attr {
				if a.Key == "content" {
					content = a.Val
				}
			}
			require.Empty(t, style, "the policy must come before the style")
		}
		if n.Data == "style" {
			style = n.FirstChild.Data
		}
	}
	sum := sha256.Sum256([]byte(style))
	require.Equal(t, "default-src 'none'; style-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'; img-src data:; base-uri 'none'; form-action 'none'", content)
	require.NotContains(t, style, "url(")
	require.NotContains(t, style, "@import")
}

// A component that is not of this package and forgets to escape is held by the policy; what it writes stays text for
// the reader of this test.
func TestForeignComponentIsPutInAsItIs(t *testing.T) {
	t.Parallel()
	page := renderCard(t, &flow.CardData{Components: []flow.Component{foreign("<i>mine</i>\xff")}})
	require.Contains(t, page, "<i>mine</i>\ufffd")
}

type foreign string

func (f foreign) CardHTML() template.HTML { return template.HTML(f) }
