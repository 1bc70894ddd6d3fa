package graph

import "github.com/stepwell-flows/stepwell/flow"

// Line is one line of an outline.
type Line struct {
	// Depth is how many shapes the line is in.
	Depth int
	// Word says what the line is, such as "branch" or "case". It is empty for a step.
	Word string
	// Name is that of the step or shape, or the value of the case. It is empty for a sequence, an else and the like.
	Name string
	// Note says more about a shape: what its items are, how they are run.
	Note string
	// Node is the plan's node, the zero node if the line is of none.
	Node flow.PlanNode
}

// Outline lists a flow's nodes in the order and with the indentation in which its author writes them.
func Outline(p flow.Plan) []Line {
	var o outline
	o.sequence(0, p.Root)
	return o
}

type outline []Line

func (o *outline) add(depth int, word, name, note string, n flow.PlanNode) {
	*o = append(*o, Line{depth, word, name, note, n})
}

// sequence lists what runs one after the other.
func (o *outline) sequence(depth int, n flow.PlanNode) {
	if n.Kind != flow.KindSeq {
		o.node(depth, n)
		return
	}
	for _, child := range n.Nodes {
		o.sequence(depth, child)
	}
}

func (o *outline) node(depth int, n flow.PlanNode) {
	switch n.Kind {
	case flow.KindStep:
		o.add(depth, "", n.Name, "", n)
	case flow.KindBranch:
		o.add(depth, "branch", n.Name, "", n)
		for _, arm := range n.Nodes {
			if parts(arm) == 1 {
				o.sequence(depth+1, arm)
				continue
			}
			o.add(depth+1, "seq", "", "", arm)
			o.sequence(depth+2, arm)
		}
	case flow.KindForeach:
		o.add(depth, "foreach", n.Name, items(n), n)
		o.children(depth+1, n.Nodes)
	case flow.KindLoop:
		o.add(depth, "loop", n.Name, "", n)
		o.children(depth+1, n.Nodes)
	case flow.KindSwitch:
		o.add(depth, "switch", n.Name, "", n)
		for i, body := range n.Nodes {
			word, name, note := "else", "", ""
			if i < len(n.Cases) {
				word, name = "case", caseText(n.Cases[i])
			}
			if parts(body) == 0 {
				note = "goes on"
			}
			o.add(depth+1, word, name, note, flow.PlanNode{})
			o.sequence(depth+2, body)
		}
		if len(n.Nodes) == len(n.Cases) {
			o.add(depth+1, "or fail", "", "", flow.PlanNode{})
		}
	case flow.KindSeq, flow.KindDecide: // a sequence has its lines; a decision belongs to its shape
	}
	if n.Join != nil {
		o.add(depth, "join", n.Join.Name, "", *n.Join)
	}
}

func (o *outline) children(depth int, nodes []flow.PlanNode) {
	for _, n := range nodes {
		o.sequence(depth, n)
	}
}

// parts counts the nodes that are listed for n.
func parts(n flow.PlanNode) int {
	switch n.Kind {
	case flow.KindSeq:
		total := 0
		for _, child := range n.Nodes {
			total += parts(child)
		}
		return total
	case flow.KindDecide:
		return 0
	default:
		return 1
	}
}

// Shapes counts the branches, foreach shapes, switches and loops of a flow.
func Shapes(p flow.Plan) int {
	count := 0
	for _, line := range Outline(p) {
		switch line.Node.Kind {
		case flow.KindBranch, flow.KindForeach, flow.KindSwitch, flow.KindLoop:
			count++
		case flow.KindStep, flow.KindSeq, flow.KindDecide:
		}
	}
	return count
}
