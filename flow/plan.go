package flow

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/stepwell-flows/stepwell/policies"
)

// PlanVersion is the newest version of the plan's form. A plan of steps and sequences alone has version 1, which workers from
// before there were shapes understand.
const PlanVersion = 2

// Plan is a flow's graph as plain data: names, shapes and policies, no functions. It travels in
// the workflow's input, so that a running flow never depends on what a newer program registers;
// the interpreter, the graph and check commands, cards and the resume all read this one form.
type Plan struct {
	Version int     `json:"version"`
	Flow    string  `json:"flow"`
	Params  []Param `json:"params,omitempty"`
	// Root is the sequence of the flow's nodes.
	Root PlanNode `json:"root"`
}

// Kind says what a plan's node is.
type Kind string

// The kinds of nodes.
const (
	KindStep    Kind = "step"
	KindSeq     Kind = "seq"
	KindBranch  Kind = "branch"
	KindForeach Kind = "foreach"
	KindSwitch  Kind = "switch"
	KindLoop    Kind = "loop"
	// KindDecide asks the author's code about the shape that follows, which has the same name, where no step goes before it
	// that could: at the start of a flow and of an item.
	KindDecide Kind = "decide"
)

// PlanNode is a step or a shape.
type PlanNode struct {
	Kind Kind `json:"kind"`
	// Name is the name of the step or shape; sequences have none.
	Name string `json:"name,omitempty"`
	// Policy is the step's policies.
	Policy *policies.Spec `json:"policy,omitempty"`
	// Isolated is set if the step runs in a process of its own.
	Isolated *Isolated `json:"isolated,omitempty"`
	// Cards names the step's cards.
	Cards []string `json:"cards,omitempty"`
	// Nodes are a shape's parts, in order: the nodes of a sequence, the arms of a branch, the cases of a switch. A foreach and a
	// loop have one, their body.
	Nodes []PlanNode `json:"nodes,omitempty"`
	// Join is the step that ends a branch or a foreach.
	Join *PlanNode `json:"join,omitempty"`
	// Fan says how a foreach runs its items.
	Fan *Fan `json:"fan,omitempty"`
	// Item is the Go type of a foreach's items, for people.
	Item string `json:"item,omitempty"`
	// Cases are the values of a switch's cases, as text. There is one node more than cases if the switch has an else.
	Cases []string `json:"cases,omitempty"`
}

// Chosen is the index of the node of a switch that a decision is for, -1 if there is none. A worker that has another version of the flow may have
// decided, with other cases before it: the value counts, and the else stands for values that this plan does not know.
func (n *PlanNode) Chosen(d Decision) int {
	i := d.Case
	if i < 0 || i >= len(n.Cases) || n.Cases[i] != d.Value {
		if i = slices.Index(n.Cases, d.Value); i < 0 || d.Value == "" && d.Case != i { // "" may be the worker's else as well
			i = len(n.Cases)
		}
	}
	if i >= len(n.Nodes) {
		return -1
	}
	return i
}

// Plan returns the graph as data. Call it on a flow that passes [Flow.Check].
func (f *Flow) Plan() Plan {
	p := Plan{Version: 1, Flow: f.name, Root: f.root.plan()}
	p.Root.walk(func(n PlanNode) {
		if n.Kind != KindStep && n.Kind != KindSeq {
			p.Version = PlanVersion
		}
	})
	for _, b := range f.params {
		p.Params = append(p.Params, b.Param)
	}
	return p
}

func (n *node) plan() PlanNode {
	p := PlanNode{Kind: n.kind, Name: n.name}
	if n.step != nil {
		spec := n.step.Spec // a copy: whoever edits a plan must not edit the flow
		p.Policy, p.Isolated = &spec, n.step.Isolated
		for _, c := range n.step.Cards {
			p.Cards = append(p.Cards, c.Name)
		}
	}
	for _, child := range n.nodes {
		p.Nodes = append(p.Nodes, child.plan())
	}
	if n.join != nil {
		j := n.join.plan()
		p.Join = &j
	}
	if s := n.shape; s != nil {
		p.Cases = slices.Clone(s.labels)
		if n.kind == KindForeach {
			fan := s.fan
			p.Fan, p.Item = &fan, s.elem.String()
		}
	}
	return p
}

// Steps lists the names of the plan's steps in order of definition, joins after what they join.
func (p Plan) Steps() []string {
	var names []string
	p.Root.walk(func(n PlanNode) {
		if n.Kind == KindStep {
			names = append(names, n.Name)
		}
	})
	return names
}

// Step finds a step by name.
func (p Plan) Step(name string) (PlanNode, bool) { return p.find(name, KindStep) }

// Task finds what a task of that name runs: a step, or a split that is decided on its own.
func (p Plan) Task(name string) (PlanNode, bool) { return p.find(name, KindStep, KindDecide) }

// Shape finds a branch, foreach, switch or loop by name.
func (p Plan) Shape(name string) (PlanNode, bool) {
	return p.find(name, KindBranch, KindForeach, KindSwitch, KindLoop)
}

func (p Plan) find(name string, kinds ...Kind) (PlanNode, bool) {
	var found PlanNode
	ok := false
	p.Root.walk(func(n PlanNode) {
		if n.Name == name && slices.Contains(kinds, n.Kind) {
			found, ok = n, true
		}
	})
	return found, ok
}

func (n PlanNode) walk(visit func(PlanNode)) {
	visit(n)
	for _, child := range n.Nodes {
		child.walk(visit)
	}
	if n.Join != nil {
		n.Join.walk(visit)
	}
}

// Index is the path of a task through the foreach shapes and loops around its step, outermost
// first. A task outside of any has a nil Index.
type Index []int

// String is "" for a nil index, else like "[3,0]".
func (x Index) String() string {
	if len(x) == 0 {
		return ""
	}
	return "[" + x.join(",") + "]"
}

// Key is the index as part of a store key: "_" for a nil index, else like "3.0".
func (x Index) Key() string {
	if len(x) == 0 {
		return "_"
	}
	return x.join(".")
}

func (x Index) join(sep string) string {
	parts := make([]string, len(x))
	for i, n := range x {
		parts[i] = strconv.Itoa(n)
	}
	return strings.Join(parts, sep)
}

// ParseIndex reads what [Index.Key] wrote.
func ParseIndex(key string) (Index, error) {
	if key == "_" {
		return nil, nil
	}
	var x Index
	for part := range strings.SplitSeq(key, ".") {
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 || strconv.Itoa(n) != part {
			return nil, fmt.Errorf("%q is not a task index", key)
		}
		x = append(x, n)
	}
	return x, nil
}

// Equal reports whether both are the same path.
func (x Index) Equal(y Index) bool { return slices.Equal(x, y) }

// TaskName names a task for people: the step, and the index if it has one.
func TaskName(step string, x Index) string { return step + x.String() }

// ParseTaskName reads what [TaskName] wrote. Whether there is such a step is another question.
func ParseTaskName(task string) (step string, x Index, err error) {
	step, index, has := strings.Cut(task, "[")
	if !has {
		return step, nil, nil
	}
	x, err = ParseIndex(strings.ReplaceAll(strings.TrimSuffix(index, "]"), ",", "."))
	if err != nil || step == "" || TaskName(step, x) != task {
		return "", nil, fmt.Errorf("%q is not the name of a task (write step, or step[3] in a foreach)", task)
	}
	return step, x, nil
}
