package report

import (
	"fmt"
	"html/template"
	"strings"
	"unicode/utf8"

	"github.com/stepwell-flows/stepwell/cards"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/graph"
	"github.com/stepwell-flows/stepwell/runs"
)

// outlineLine is a line of the graph as text.
type outlineLine struct {
	Depth int
	Word  string
	Name  link
	State pill
	Count string
	Note  string
}

// manyNodes bounds the picture of a graph. A larger one has its outline alone.
const manyNodes = 300

// graph draws a run's graph, and lists it.
func (o places) graph(steps []*runs.Step) (template.HTML, []outlineLine) {
	byName := map[string]*runs.Step{}
	for _, s := range steps {
		byName[s.Name] = s
	}
	var lines []outlineLine
	for _, l := range graph.Outline(o.run.Plan) {
		line := outlineLine{Depth: min(l.Depth, 8), Word: l.Word, Name: link{Text: text(l.Name)}, Note: text(l.Note)}
		if s := byName[l.Node.Name]; s != nil && l.Node.Kind == flow.KindStep {
			line.Name, line.State = o.step(s), state(s.State)
			if s.Task == nil {
				line.Count = told(s)
			}
		}
		if l.Node.Kind == flow.KindForeach {
			line.Name = o.foreach(l.Name)
		}
		lines = append(lines, line)
	}
	if len(lines) > manyNodes {
		return "", lines
	}
	d := &drawing{places: o, steps: byName}
	root := d.node(o.run.Plan.Root)
	const margin = 8
	root.draw(margin, margin)
	w, h := number(root.w+2*margin), number(root.h+2*margin)
	class := "flow"
	if root.w > 720 {
		class = "flow large"
	}
	// The list beside it says the same to those who do not see it.
	svg := fmt.Sprintf(`<svg class="%s" width="%s" height="%s" viewBox="0 0 %s %s" aria-hidden="true" focusable="false">%s</svg>`, class, w, h, w, h, d.out.String())
	return template.HTML(svg), lines //nolint:gosec // numbers, classes of this package, and text that was escaped
}

// drawing is a picture of a plan. Shapes nest, so that each is a box which is drawn where the one around it says.
type drawing struct {
	places
	steps map[string]*runs.Step
	out   strings.Builder
}

// cell is a part of the picture, entered at the middle of its top and left at the middle of its bottom.
type cell struct {
	w, h float64
	draw func(x, y float64)
}

const (
	nodeHeight = 34.0
	gap        = 22.0
	pad        = 14.0
)

func (d *drawing) node(n flow.PlanNode) cell {
	switch n.Kind {
	case flow.KindStep:
		return d.box(n.Name)
	case flow.KindSeq:
		var parts []cell
		for _, child := range n.Nodes {
			if child.Kind != flow.KindDecide {
				parts = append(parts, d.node(child))
			}
		}
		return d.stack(parts)
	case flow.KindBranch:
		return d.stack(d.withJoin(n, d.caption("branch", n.Name), d.beside(n, nil)))
	case flow.KindForeach:
		return d.stack(d.withJoin(n, d.caption("foreach", n.Name), d.frame(n, "each")))
	case flow.KindSwitch:
		return d.stack([]cell{d.caption("switch", n.Name), d.beside(n, n.Cases)})
	case flow.KindLoop:
		return d.stack([]cell{d.caption("loop", n.Name), d.frame(n, "again")})
	case flow.KindDecide:
	}
	return cell{w: 20, draw: func(float64, float64) {}}
}

func (d *drawing) withJoin(n flow.PlanNode, parts ...cell) []cell {
	if n.Join != nil {
		parts = append(parts, d.box(n.Join.Name))
	}
	return parts
}

// box is a step.
func (d *drawing) box(name string) cell {
	class, second, l := "quiet", "", link{Text: text(name)}
	if s := d.steps[name]; s != nil {
		class, l = tone(s.State), d.step(s)
		if s.Task == nil && s.Begun() > 0 {
			second = cards.Count(s.Completed)
			if s.Total > 0 {
				second += " of " + cards.Count(s.Total)
			}
			if s.Failed > 0 {
				second += ", " + cards.Count(s.Failed) + " failed"
			}
		}
	}
	label := brief(name)
	c := cell{w: max(width(label, 13), width(second, 11)) + 28, h: nodeHeight}
	if second != "" {
		c.h += 12
	}
	c.draw = func(x, y float64) {
		end := ""
		if l.URL != "" && strings.HasPrefix(l.URL, "/") { // an address of the same place, whatever Link is
			d.printf(`<a href="%s" tabindex="-1">`, template.HTMLEscapeString(l.URL))
			end = "</a>"
		}
		d.printf(`<rect class="g-%s" x="%s" y="%s" width="%s" height="%s" rx="7"/>`, class, number(x), number(y), number(c.w), number(c.h))
		d.label(x+c.w/2, y+22, "g-name", label)
		if second != "" {
			d.label(x+c.w/2, y+37, "g-more", second)
		}
		d.out.WriteString(end)
	}
	return c
}

// caption says what shape begins.
func (d *drawing) caption(kind, name string) cell {
	label := kind + " " + brief(name)
	c := cell{w: width(label, 12) + 16, h: 22}
	c.draw = func(x, y float64) {
		d.printf(`<rect class="g-shape" x="%s" y="%s" width="%s" height="%s" rx="11"/>`, number(x), number(y), number(c.w), number(c.h))
		d.label(x+c.w/2, y+15, "g-more", label)
	}
	return c
}

// stack puts parts below each other, with lines between them.
func (d *drawing) stack(parts []cell) cell {
	if len(parts) == 0 {
		return cell{w: 20, draw: func(float64, float64) {}}
	}
	c := cell{h: gap * float64(len(parts)-1)}
	for _, p := range parts {
		c.w, c.h = max(c.w, p.w), c.h+p.h
	}
	c.draw = func(x, y float64) {
		middle := x + c.w/2
		for i, p := range parts {
			p.draw(middle-p.w/2, y)
			y += p.h
			if i < len(parts)-1 {
				d.line(middle, y, middle, y+gap)
			}
			y += gap
		}
	}
	return c
}

// beside puts the arms of a branch, or the cases of a switch, next to each other.
func (d *drawing) beside(n flow.PlanNode, cases []string) cell {
	var arms []cell
	var labels []string
	top := gap
	c := cell{}
	for i, child := range n.Nodes {
		inner, label := d.node(child), ""
		if n.Kind == flow.KindSwitch {
			label = "else"
			if i < len(cases) {
				label = brief(cases[i])
			}
			top = 2 * gap
		}
		arm := cell{w: max(inner.w, width(label, 11)+8), h: inner.h}
		arm.draw = func(x, y float64) { inner.draw(x+(arm.w-inner.w)/2, y) }
		arms, labels = append(arms, arm), append(labels, label)
		c.w += arm.w + pad
		c.h = max(c.h, arm.h)
	}
	c.w = max(c.w-pad, 20)
	inner := c.h
	c.h += top + gap
	c.draw = func(x, y float64) {
		middle := x + c.w/2
		for i, arm := range arms {
			m := x + arm.w/2
			d.curve(middle, y, m, y+top)
			if labels[i] != "" {
				d.label(m, y+top-5, "g-more g-case", labels[i])
			}
			arm.draw(x, y+top)
			d.line(m, y+top+arm.h, m, y+top+inner)
			d.curve(m, y+top+inner, middle, y+c.h)
			x += arm.w + pad
		}
	}
	return c
}

// frame is drawn around what runs many times.
func (d *drawing) frame(n flow.PlanNode, word string) cell {
	var parts []cell
	for _, child := range n.Nodes {
		parts = append(parts, d.node(child))
	}
	body := d.stack(parts)
	c := cell{w: max(body.w, 60) + 2*pad, h: body.h + 2*pad + 6}
	c.draw = func(x, y float64) {
		d.printf(`<rect class="g-frame" x="%s" y="%s" width="%s" height="%s" rx="9"/>`, number(x), number(y), number(c.w), number(c.h))
		d.printf(`<text class="g-more" x="%s" y="%s">%s</text>`, number(x+6), number(y+13), word)
		top := y + pad + 6
		d.line(x+c.w/2, y, x+c.w/2, top)
		body.draw(x+(c.w-body.w)/2, top)
		d.line(x+c.w/2, top+body.h, x+c.w/2, y+c.h)
	}
	return c
}

func (d *drawing) line(x1, y1, x2, y2 float64) {
	if x1 == x2 && y1 == y2 {
		return
	}
	d.printf(`<path class="g-edge" d="M%s %sL%s %s"/>`, number(x1), number(y1), number(x2), number(y2))
}

func (d *drawing) curve(x1, y1, x2, y2 float64) {
	half := number((y1 + y2) / 2)
	d.printf(`<path class="g-edge" d="M%s %sC%s %s %s %s %s %s"/>`, number(x1), number(y1), number(x1), half, number(x2), half, number(x2), number(y2))
}

func (d *drawing) label(x, y float64, class, s string) {
	d.printf(`<text class="%s" x="%s" y="%s" text-anchor="middle">%s</text>`, class, number(x), number(y), template.HTMLEscapeString(s))
}

func (d *drawing) printf(format string, args ...any) { fmt.Fprintf(&d.out, format, args...) }

// brief makes a name short enough for the picture.
func brief(s string) string {
	runes := []rune(strings.Join(strings.Fields(text(s)), " "))
	if len(runes) > 28 {
		return string(runes[:27]) + "…"
	}
	return string(runes)
}

// width is about how wide a text is in the picture.
func width(s string, size float64) float64 { return float64(utf8.RuneCountInString(s)) * size * 0.58 }
