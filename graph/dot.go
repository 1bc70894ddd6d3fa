package graph

import (
	"fmt"
	"strings"

	"github.com/stepwell-flows/stepwell/flow"
)

// DOT draws a flow in Graphviz' language.
func DOT(p flow.Plan) string {
	d := draw(p)
	w := &writer{}
	w.line("digraph %s {", dotString(p.Flow))
	w.depth++
	w.line("graph [fontname=Helvetica, fontsize=11, labeljust=l, style=rounded, color=gray50];")
	w.line("node [fontname=Helvetica, shape=box, style=rounded];")
	w.line("edge [fontname=Helvetica, fontsize=11];")
	w.dotFrame(d.root)
	for _, e := range d.edges {
		var attributes []string
		if e.label != "" {
			attributes = append(attributes, "label="+dotString(e.label))
		}
		if e.back {
			attributes = append(attributes, "style=dashed")
		}
		if len(attributes) > 0 {
			w.line("%s -> %s [%s];", e.from, e.to, strings.Join(attributes, ", "))
		} else {
			w.line("%s -> %s;", e.from, e.to)
		}
	}
	w.depth--
	w.line("}")
	return w.String()
}

func (w *writer) dotFrame(f *frame) {
	for _, v := range f.nodes {
		label := dotString(v.lines...)
		switch v.form {
		case entryForm:
			w.line("%s [label=%s, shape=oval, style=bold];", v.id, label)
		case exitForm:
			w.line(`%s [shape=doublecircle, label="", width=0.15, style=filled, fillcolor=black];`, v.id)
		case stepForm:
			w.line("%s [label=%s];", v.id, label)
		case splitForm:
			w.line("%s [label=%s, shape=trapezium, style=solid, margin=0];", v.id, label)
		case joinForm:
			w.line("%s [label=%s, shape=invtrapezium, style=solid, margin=0];", v.id, label)
		case switchForm:
			w.line("%s [label=%s, shape=diamond, style=solid];", v.id, label)
		case loopForm:
			w.line("%s [label=%s, shape=hexagon, style=solid];", v.id, label)
		}
	}
	for _, inner := range f.frames {
		w.line("subgraph cluster_%s {", inner.id)
		w.depth++
		w.line("label=%s;", dotString(inner.title))
		w.dotFrame(inner)
		w.depth--
		w.line("}")
	}
}

// dotString is a label of one or several lines. Graphviz knows escapes and the entities of HTML in it.
func dotString(lines ...string) string {
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "&", "&amp;", "\n", " ")
	escaped := make([]string, len(lines))
	for i, line := range lines {
		escaped[i] = escape.Replace(line)
	}
	return `"` + strings.Join(escaped, `\n`) + `"`
}

// writer writes indented lines.
type writer struct {
	strings.Builder
	depth int
}

func (w *writer) line(format string, args ...any) {
	w.WriteString(strings.Repeat("  ", w.depth))
	fmt.Fprintf(w, format+"\n", args...)
}
