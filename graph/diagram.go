package graph

import (
	"fmt"
	"strings"

	"github.com/stepwell-flows/stepwell/flow"
)

// diagram is a flow as a directed graph.
type diagram struct {
	root  *frame
	edges []edge
	ids   map[string]bool
}

// frame is a part of the diagram with a border and a title: the body of a foreach. The root is one without either.
type frame struct {
	id     string
	title  string
	nodes  []vertex
	frames []*frame
}

type form int

const (
	entryForm form = iota
	exitForm
	stepForm
	splitForm
	joinForm
	switchForm
	loopForm
)

type vertex struct {
	id    string
	form  form
	lines []string
}

type edge struct {
	from, to string
	label    string
	back     bool // to the next turn of a loop
}

// end is an edge that does not lead anywhere yet.
type end struct{ from, label string }

func draw(p flow.Plan) *diagram {
	d := &diagram{root: &frame{}, ids: map[string]bool{}}
	ends := d.vertex(d.root, entryForm, "entry", nil, p.Flow)
	ends = d.node(d.root, p.Root, ends)
	d.vertex(d.root, exitForm, "exit", ends)
	return d
}

// vertex adds a node to which the ends lead, and returns its own.
func (d *diagram) vertex(in *frame, form form, id string, ends []end, lines ...string) []end {
	v := vertex{d.unique(id), form, lines}
	in.nodes = append(in.nodes, v)
	for _, e := range ends {
		d.edges = append(d.edges, edge{from: e.from, to: v.id, label: e.label})
	}
	return []end{{from: v.id}}
}

// unique makes an identifier that every language takes as it is and that no other node has.
func (d *diagram) unique(name string) string {
	id := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, name)
	for i, plain := 2, id; d.ids[strings.ToLower(id)]; i++ {
		id = fmt.Sprintf("%s_%d", plain, i)
	}
	d.ids[strings.ToLower(id)] = true
	return id
}

// node draws a node to which the ends lead, and returns those that lead on.
func (d *diagram) node(in *frame, n flow.PlanNode, ends []end) []end {
	switch n.Kind {
	case flow.KindStep:
		return d.step(in, stepForm, n, ends)
	case flow.KindSeq:
		for _, child := range n.Nodes {
			ends = d.node(in, child, ends)
		}
		return ends
	case flow.KindBranch:
		split := d.shape(in, splitForm, n, ends)
		var arms []end
		for _, arm := range n.Nodes {
			arms = append(arms, d.node(in, arm, split)...)
		}
		return d.join(in, n, arms)
	case flow.KindForeach:
		split := d.shape(in, splitForm, n, ends)
		// Mermaid draws over all but the first line of a title, and so what else there is to say about the items stands in the
		// node before.
		body := &frame{id: d.unique("items_" + n.Name), title: "each " + printable(n.Item)}
		in.frames = append(in.frames, body)
		ends = split
		for _, child := range n.Nodes {
			ends = d.node(body, child, ends)
		}
		return d.join(in, n, ends)
	case flow.KindSwitch:
		choice := d.shape(in, switchForm, n, ends)[0]
		var all []end
		for i, body := range n.Nodes {
			choice.label = "else"
			if i < len(n.Cases) {
				choice.label = caseText(n.Cases[i])
			}
			all = append(all, d.node(in, body, []end{choice})...)
		}
		return all
	case flow.KindLoop:
		loop := d.shape(in, loopForm, n, ends)[0]
		ends = []end{{loop.from, "again"}}
		for _, child := range n.Nodes {
			ends = d.node(in, child, ends)
		}
		for _, e := range ends {
			label := n.Name
			if e.label != "" {
				label = e.label + " · " + label
			}
			d.edges = append(d.edges, edge{e.from, loop.from, label, true})
		}
		return []end{{loop.from, "done"}}
	case flow.KindDecide: // part of the shape that follows
	}
	return ends
}

func (d *diagram) step(in *frame, form form, n flow.PlanNode, ends []end) []end {
	lines := []string{n.Name}
	if form == joinForm {
		lines[0] = "join " + n.Name
	}
	if text := policyText(n); text != "" {
		lines = append(lines, text)
	}
	return d.vertex(in, form, "step_"+n.Name, ends, lines...)
}

func (d *diagram) shape(in *frame, form form, n flow.PlanNode, ends []end) []end {
	lines := append([]string{string(n.Kind) + " " + n.Name}, fanText(n.Fan)...)
	return d.vertex(in, form, string(n.Kind)+"_"+n.Name, ends, lines...)
}

func (d *diagram) join(in *frame, n flow.PlanNode, ends []end) []end {
	if n.Join == nil {
		return ends
	}
	return d.step(in, joinForm, *n.Join, ends)
}
