package flow

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/stepwell-flows/stepwell/policies"
)

// PlanVersion is the version of the plan's form that this package writes.
const PlanVersion = 1

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
	KindStep Kind = "step"
	KindSeq  Kind = "seq"
)

// PlanNode is a step or a shape.
type PlanNode struct {
	Kind Kind `json:"kind"`
	// Name is the step's name; sequences have none.
	Name string `json:"name,omitempty"`
	// Policy is the step's policies.
	Policy *policies.Spec `json:"policy,omitempty"`
	// Cards names the step's cards.
	Cards []string `json:"cards,omitempty"`
	// Nodes are a shape's parts, in order.
	Nodes []PlanNode `json:"nodes,omitempty"`
}

// Plan returns the graph as data. Call it on a flow that passes [Flow.Check].
func (f *Flow) Plan() Plan {
	p := Plan{Version: PlanVersion, Flow: f.name, Root: f.root.plan()}
	for _, b := range f.params {
		p.Params = append(p.Params, b.Param)
	}
	return p
}

func (n *node) plan() PlanNode {
	p := PlanNode{Kind: n.kind, Name: n.name}
	if n.step != nil {
		spec := n.step.Spec // a copy: whoever edits a plan must not edit the flow
		p.Policy = &spec
		for _, c := range n.step.Cards {
			p.Cards = append(p.Cards, c.Name)
		}
	}
	for _, child := range n.nodes {
		p.Nodes = append(p.Nodes, child.plan())
	}
	return p
}

// Steps lists the names of the plan's steps in order of definition.
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
func (p Plan) Step(name string) (PlanNode, bool) {
	var found PlanNode
	ok := false
	p.Root.walk(func(n PlanNode) {
		if n.Kind == KindStep && n.Name == name {
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
