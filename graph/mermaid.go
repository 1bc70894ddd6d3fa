package graph

import (
	"fmt"
	"strings"

	"github.com/stepwell-flows/stepwell/flow"
)

// Mermaid draws a flow in Mermaid's language, which GitHub and many editors draw within Markdown.
func Mermaid(p flow.Plan) string {
	d := draw(p)
	w := &writer{}
	w.line("flowchart TD")
	w.depth++
	w.mermaidFrame(d.root)
	for _, e := range d.edges {
		arrow := "-->"
		if e.back {
			arrow = "-.->"
		}
		if e.label != "" {
			arrow += "|" + mermaidString(e.label) + "|"
		}
		w.line("%s %s %s", e.from, arrow, e.to)
	}
	return w.String()
}

func (w *writer) mermaidFrame(f *frame) {
	for _, v := range f.nodes {
		label := mermaidString(v.lines...)
		switch v.form {
		case entryForm:
			w.line("%s([%s])", v.id, label)
		case exitForm:
			w.line(`%s(((" ")))`, v.id)
		case stepForm:
			w.line("%s(%s)", v.id, label)
		case splitForm:
			w.line(`%s[/%s\]`, v.id, label)
		case joinForm:
			w.line(`%s[\%s/]`, v.id, label)
		case switchForm:
			w.line("%s{%s}", v.id, label)
		case loopForm:
			w.line("%s{{%s}}", v.id, label)
		}
	}
	for _, inner := range f.frames {
		w.line("subgraph %s [%s]", inner.id, mermaidString(inner.title))
		w.depth++
		w.mermaidFrame(inner)
		w.depth--
		w.line("end")
	}
}

// mermaidString is a label of one or several lines. What could mean something to Mermaid, to Markdown or to HTML is written
// as the number of its character.
func mermaidString(lines ...string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i, line := range lines {
		if i > 0 {
			b.WriteString("<br/>")
		}
		for _, r := range line {
			if strings.ContainsRune("\"#&<>`\\|;:${}\n", r) {
				fmt.Fprintf(&b, "#%d;", r)
			} else {
				b.WriteRune(r)
			}
		}
	}
	b.WriteByte('"')
	return b.String()
}
