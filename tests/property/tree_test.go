// Package property runs random flows: whatever the shapes and however often a run fails and is resumed, the outcome is that of a
// plain loop over the same steps, and nothing that is finished runs again.
package property

import (
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

// tree describes a node of a flow. The flow and the evaluator are both made from it.
type tree struct {
	kind flow.Kind
	name string
	kids []*tree // the nodes of a sequence and of a loop's or foreach's body, the arms of a branch, the cases of a switch
	// Of a step and of a join:
	caught bool // it fails, and a catch function goes on
	flaky  bool // its first attempt fails
	doomed bool // it fails with some states
	// Of every node:
	batched  bool // it is in a foreach with batches
	tolerant bool // it is in a foreach that tolerates failures
	// Of a branch and a foreach:
	join *tree
	// Of a foreach:
	fan flow.Fan
	// Of a loop: the loops within, which begin anew with each of its turns.
	inner []string
}

// generator draws trees of a limited number of nodes.
type generator struct {
	t        *rapid.T
	named    int
	budget   int
	tolerant int // foreach shapes around that tolerate failures
}

const (
	maxDepth = 5
	maxItems = 4
	maxTurns = 3
)

// drawTree draws a whole flow.
func drawTree(t *rapid.T) *tree {
	g := &generator{t: t, budget: 16}
	return g.seq(maxDepth, false)
}

func (g *generator) name(kind string) string {
	g.named++
	return fmt.Sprintf("%s%d", kind, g.named)
}

func (g *generator) chance(percent int, what string) bool {
	return rapid.IntRange(0, 99).Draw(g.t, what) >= 100-percent // shrinks to false
}

// seq draws one to three nodes, one after the other. In a batch there are no branches and no foreach.
func (g *generator) seq(depth int, batch bool) *tree {
	s := &tree{kind: flow.KindSeq}
	for range rapid.IntRange(1, 3).Draw(g.t, "length") {
		s.kids = append(s.kids, g.node(depth, batch))
	}
	return s
}

func (g *generator) node(depth int, batch bool) *tree {
	kinds := []flow.Kind{flow.KindStep}
	if g.budget--; depth > 0 && g.budget > 0 {
		kinds = append(kinds, flow.KindSwitch, flow.KindLoop)
		if !batch {
			kinds = append(kinds, flow.KindForeach, flow.KindBranch, flow.KindForeach)
		}
	}
	switch kind := rapid.SampledFrom(kinds).Draw(g.t, "kind"); kind {
	case flow.KindBranch:
		b := &tree{kind: kind, name: g.name("branch"), join: g.step("join")}
		for range rapid.IntRange(2, 3).Draw(g.t, "arms") {
			b.kids = append(b.kids, g.surely(g.seq(depth-1, false)))
		}
		return b
	case flow.KindForeach:
		f := &tree{kind: kind, name: g.name("foreach"), join: g.step("join")}
		f.fan.MaxParallel = rapid.SampledFrom([]int{0, 1, 2}).Draw(g.t, "max parallel")
		f.fan.OnFailure = rapid.SampledFrom([]flow.OnFailure{flow.StopOnFirst, flow.FinishAll}).Draw(g.t, "on failure")
		if g.chance(25, "batch") {
			f.fan.Batch = rapid.IntRange(2, 3).Draw(g.t, "batch size")
		}
		if g.chance(30, "tolerate") {
			f.fan.Tolerate = flow.Percent(100) // so that the run as a whole does not fail
			if g.tolerant > 0 {
				f.fan.Tolerate = rapid.SampledFrom([]flow.Tolerance{flow.Percent(50), flow.Count(1), flow.Percent(0)}).Draw(g.t, "tolerance")
			}
			g.tolerant++
			defer func() { g.tolerant-- }()
		}
		f.kids = g.seq(depth-1, f.fan.Batch > 0).kids
		return f
	case flow.KindSwitch:
		s := &tree{kind: kind, name: g.name("switch")}
		for range rapid.IntRange(1, 3).Draw(g.t, "cases") {
			s.kids = append(s.kids, g.seq(depth-1, batch))
		}
		return s
	case flow.KindLoop:
		l := &tree{kind: kind, name: g.name("loop")}
		l.kids = g.seq(depth-1, batch).kids
		for _, kid := range l.kids {
			kid.walk(func(n *tree) {
				if n.kind == flow.KindLoop {
					l.inner = append(l.inner, n.name)
				}
			})
		}
		// A step that counts the turns; it is not called like one that may be caught, since a loop must come to its end.
		l.kids = append(l.kids, &tree{kind: flow.KindStep, name: l.name + "_turn", inner: append(l.inner, l.name)})
		return l
	default:
		return g.step("step")
	}
}

func (g *generator) step(kind string) *tree {
	n := &tree{kind: flow.KindStep, name: g.name(kind), caught: g.chance(15, "caught"), flaky: g.chance(15, "flaky")}
	n.doomed = g.tolerant > 0 && !n.caught && g.chance(30, "doomed")
	return n
}

// surely gives a sequence that may run no step a step: an arm has to end with one.
func (g *generator) surely(s *tree) *tree {
	for _, kid := range s.kids {
		if kid.kind != flow.KindLoop && kid.kind != flow.KindSwitch {
			return s
		}
	}
	s.kids = append(s.kids, g.step("step"))
	return s
}

func (n *tree) walk(visit func(*tree)) {
	visit(n)
	for _, kid := range n.kids {
		kid.walk(visit)
	}
	if n.join != nil {
		n.join.walk(visit)
	}
}

// String writes the tree in a line, for the report of a failure.
func (n *tree) String() string {
	var b strings.Builder
	if b.WriteString(n.name); n.caught {
		b.WriteString("!")
	}
	if n.flaky {
		b.WriteString("?")
	}
	if n.doomed {
		b.WriteString("*")
	}
	if n.fan != (flow.Fan{}) {
		fmt.Fprintf(&b, "%+v", n.fan)
	}
	if n.kind != flow.KindStep {
		fmt.Fprintf(&b, "(%s)", strings.Trim(fmt.Sprint(n.kids), "[]"))
	}
	if n.join != nil {
		fmt.Fprintf(&b, "->%s", n.join)
	}
	return b.String()
}

// state is changed by every task in a way that depends on all that came before it, so that a task too many or too few, a wrong
// order and a wrong item all show.
type state struct {
	Trail uint64
	Item  uint64
	Turns map[string]int
	Seen  []string // the tasks on the way here, since the last join
}

func (s *state) clone() *state {
	c := *s
	c.Turns, c.Seen = maps.Clone(s.Turns), slices.Clone(s.Seen)
	return &c
}

func mix(parts ...any) uint64 {
	h := fnv.New64a()
	for _, p := range parts {
		fmt.Fprintf(h, "%v|", p)
	}
	return h.Sum64()
}

// step is what a step does; what says how it came to its end.
func (s *state) step(n *tree, task, what string) {
	s.Trail = mix(s.Trail, s.Item, task, what)
	s.Seen = append(s.Seen, task)
	if len(n.inner) == 0 {
		return
	}
	turns := maps.Clone(s.Turns)
	if turns == nil {
		turns = map[string]int{}
	}
	own := n.inner[len(n.inner)-1]
	for _, loop := range n.inner[:len(n.inner)-1] {
		delete(turns, loop)
	}
	turns[own]++
	s.Turns = turns
}

// joined is what a join does with its inputs, which come in order. That of an item that failed is nil.
func (s *state) joined(n *tree, task string, inputs []*state) {
	s.step(n, task, "")
	s.Seen = []string{task}
	for i, in := range inputs {
		if in == nil {
			s.Trail = mix(s.Trail, i, "failed")
			continue
		}
		s.Trail = mix(s.Trail, i, in.Trail, in.Item, in.Seen)
	}
}

// doomed says whether a task fails for good.
func (s *state) doomed(n *tree, task string) bool {
	return n.doomed && mix(s.Trail, s.Item, task)%3 == 0
}

func (s *state) items(n *tree) []uint64 {
	items := make([]uint64, mix(s.Trail, n.name)%(maxItems+1))
	for i := range items {
		items[i] = mix(s.Trail, n.name, i)
	}
	return items
}

func (s *state) bind(item uint64) { s.Item = mix(s.Item, item) }

func (s *state) choose(n *tree) int { return int(mix(s.Trail, n.name) % uint64(len(n.kids))) }

func (s *state) again(n *tree) bool {
	return s.Turns[n.name] < maxTurns && mix(s.Trail, n.name)%4 != 0
}

// nodes makes the flow's nodes. What the functions do besides is up to the probe.
func (n *tree) nodes(p *probe) []flow.Node[state] {
	var all []flow.Node[state]
	for _, kid := range n.kids {
		all = append(all, kid.node(p))
	}
	return all
}

func (n *tree) node(p *probe) flow.Node[state] {
	switch n.kind {
	case flow.KindSeq:
		return flow.Seq(n.nodes(p)...)
	case flow.KindBranch:
		return flow.Branch(n.name, n.nodes(p)...).Join(n.join.name, n.join.joinFunc(p), n.join.options(p)...)
	case flow.KindForeach:
		items := func(s *state) []uint64 { p.asked(n.name); return s.items(n) }
		return flow.Foreach(n.name, items, (*state).bind, n.nodes(p)...).With(n.fan).Join(n.join.name, n.join.joinFunc(p), n.join.options(p)...)
	case flow.KindSwitch:
		var cases []flow.SwitchCase[state, int]
		for i, kid := range n.kids[1:] {
			cases = append(cases, flow.Case(i+1, kid.nodes(p)...))
		}
		if len(cases) == 0 {
			cases = append(cases, flow.Case[state](len(n.kids))) // never chosen: a switch has a case
		}
		choose := func(s *state) int { p.asked(n.name); return s.choose(n) }
		return flow.Switch(n.name, choose, cases...).Else(n.kids[0].nodes(p)...)
	case flow.KindLoop:
		return flow.Loop(n.name, func(s *state) bool { p.asked(n.name); return s.again(n) }, n.nodes(p)...)
	default:
		return flow.Step(n.name, func(ctx context.Context, s *state) error {
			return p.called(ctx, n, s, func(task string) { s.step(n, task, "") })
		}, n.options(p)...)
	}
}

func (n *tree) joinFunc(p *probe) func(context.Context, *state, flow.Inputs[state]) error {
	return func(ctx context.Context, s *state, in flow.Inputs[state]) error {
		inputs := make([]*state, in.Len())
		missing := in.Len()
		for i, input := range in.All() {
			inputs[i] = input
			missing--
		}
		for i := range in.Failures() {
			if inputs[i] != nil {
				return flow.Fail("item %d has failed and has not", i)
			}
			missing--
		}
		if missing != 0 {
			return flow.Fail("%d items neither failed nor came to their end", missing)
		}
		return p.called(ctx, n, s, func(task string) { s.joined(n, task, inputs) })
	}
}

func (n *tree) options(p *probe) []flow.Option {
	var options []flow.Option
	if n.flaky {
		options = append(options, policies.Retry{MaximumAttempts: 2, InitialInterval: time.Minute})
	}
	if n.caught {
		options = append(options, policies.Catch(func(ctx context.Context, s *state, _ *policies.Failure) error {
			return p.caught(ctx, s, func(task string) { s.step(n, task, "caught") })
		}))
	}
	return options
}
