package conformance

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/flowtest"
)

// sketch is a graph that was drawn at random. Its tasks are worked out from it without running anything.
type sketch struct {
	kind  flow.Kind
	name  string
	parts []*sketch
	join  string
	n     int // items of a foreach, turns of a loop
	fan   flow.Fan
	// by is the foreach or loop whose item or turn chooses the case of a switch, "" for the flow itself.
	by string
	// resets are the loops within a loop, which begin anew with each of its turns.
	resets []string
}

// sketcher draws.
type sketcher struct {
	*rand.Rand
	names map[flow.Kind]int
}

func (r *sketcher) name(kind flow.Kind) string {
	r.names[kind]++
	return fmt.Sprintf("%s%d", kind, r.names[kind])
}

func (r *sketcher) step() *sketch { return &sketch{kind: flow.KindStep, name: r.name(flow.KindStep)} }

// seq draws a sequence. It begins with a step if it has to run one.
func (r *sketcher) seq(depth int, by string, runs bool) *sketch {
	s := &sketch{kind: flow.KindSeq}
	if runs {
		s.parts = append(s.parts, r.step())
	}
	for range 1 + r.IntN(2) {
		s.parts = append(s.parts, r.node(depth, by))
	}
	return s
}

func (r *sketcher) node(depth int, by string) *sketch {
	kinds := []flow.Kind{flow.KindStep, flow.KindBranch, flow.KindForeach, flow.KindSwitch, flow.KindLoop}
	kind := kinds[r.IntN(len(kinds))]
	if depth == 0 || kind == flow.KindStep {
		return r.step()
	}
	s := &sketch{kind: kind, name: r.name(kind), by: by}
	switch kind { //nolint:exhaustive // those that are drawn
	case flow.KindBranch:
		for range 2 + r.IntN(2) {
			s.parts = append(s.parts, r.seq(depth-1, by, true))
		}
		s.join = r.name("join")
	case flow.KindForeach:
		s.n, s.join = r.IntN(4), r.name("join")
		s.fan.MaxParallel = r.IntN(3)
		s.parts = []*sketch{r.seq(depth-1, s.name, r.IntN(2) == 0)}
		if s.parts[0].batchable() {
			s.fan.Batch = r.IntN(3)
		}
	case flow.KindSwitch:
		for range 2 + r.IntN(2) {
			s.parts = append(s.parts, r.seq(depth-1, by, false))
		}
		if r.IntN(3) == 0 {
			s.parts = append(s.parts, &sketch{kind: flow.KindSeq}) // a case that does nothing
		}
	case flow.KindLoop:
		s.n = r.IntN(4)
		s.parts = []*sketch{r.seq(depth-1, s.name, true)}
		s.parts[0].walk(func(c *sketch) {
			if c.kind == flow.KindLoop {
				s.resets = append(s.resets, c.name)
			}
		})
	}
	return s
}

func (s *sketch) walk(visit func(*sketch)) {
	visit(s)
	for _, part := range s.parts {
		part.walk(visit)
	}
}

func (s *sketch) batchable() bool {
	can := true
	s.walk(func(c *sketch) { can = can && c.kind != flow.KindBranch && c.kind != flow.KindForeach })
	return can
}

// tasks is the trail of a run. Numbers are the items and turns around.
func (s *sketch) tasks(x flow.Index, numbers map[string]int) []string {
	var all []string
	within := func(part *sketch, n int) {
		numbers[s.name] = n
		all = append(all, part.tasks(append(slices.Clip(x), n), numbers)...)
	}
	switch s.kind { //nolint:exhaustive // those that are drawn
	case flow.KindStep:
		return []string{flow.TaskName(s.name, x)}
	case flow.KindSeq, flow.KindBranch:
		for _, part := range s.parts {
			all = append(all, part.tasks(x, numbers)...)
		}
	case flow.KindSwitch:
		return s.parts[numbers[s.by]%len(s.parts)].tasks(x, numbers)
	case flow.KindForeach, flow.KindLoop:
		for n := range s.n {
			within(s.parts[0], n)
		}
		delete(numbers, s.name)
	}
	if s.join != "" {
		all = append(all, flow.TaskName(s.join, x))
	}
	return all
}

// build makes the flow. The state's Numbers hold the items and turns around.
func (s *sketch) build(p *plot, before ...func(*state)) flow.Node[state] {
	switch s.kind { //nolint:exhaustive // those that are drawn
	case flow.KindStep:
		return p.step(s.name, func(st *state) {
			for _, do := range before {
				do(st)
			}
		})
	case flow.KindSeq:
		return flow.Seq(s.nodes(p, before...)...)
	case flow.KindBranch:
		var arms []flow.Node[state]
		for _, part := range s.parts {
			arms = append(arms, part.build(p))
		}
		return p.join(flow.Branch(s.name, arms...), s.join, nil)
	case flow.KindForeach:
		return p.join(flow.Foreach(s.name, func(*state) []int {
			items := make([]int, s.n)
			for i := range items {
				items[i] = i
			}
			return items
		}, func(st *state, n int) { st.number(s.name, n) }, s.parts[0].nodes(p)...).With(s.fan), s.join, nil)
	case flow.KindSwitch:
		var cases []flow.SwitchCase[state, int]
		for i, part := range s.parts {
			cases = append(cases, flow.Case(i, part.nodes(p)...))
		}
		return flow.Switch(s.name, func(st *state) int { return st.Numbers[s.by] % len(s.parts) }, cases...).OrFail()
	default: // a loop, whose first step counts the turns: those that have ended
		return flow.Loop(s.name, func(st *state) bool { return st.Turns[s.name] < s.n },
			s.parts[0].nodes(p, func(st *state) {
				st.number(s.name, st.Turns[s.name])
				st.turn(s.name, st.Turns[s.name]+1)
				for _, loop := range s.resets {
					st.turn(loop, 0)
				}
			})...)
	}
}

// nodes builds the parts of a sequence. Before is done by the first step.
func (s *sketch) nodes(p *plot, before ...func(*state)) []flow.Node[state] {
	var nodes []flow.Node[state]
	for i, part := range s.parts {
		if i > 0 {
			before = nil
		}
		nodes = append(nodes, part.build(p, before...))
	}
	return nodes
}

func (s *state) number(name string, n int) {
	if s.Numbers == nil {
		s.Numbers = map[string]int{}
	}
	s.Numbers[name] = n
}

func (s *state) turn(name string, n int) {
	if s.Turns == nil {
		s.Turns = map[string]int{}
	}
	s.Turns[name] = n
}

// draw draws a graph of up to some tasks.
func draw(seed uint64) graph {
	for {
		r := &sketcher{rand.New(rand.NewPCG(seed, 0)), map[flow.Kind]int{}}
		root := r.seq(4, "", r.IntN(2) == 0)
		trail := root.tasks(nil, map[string]int{})
		if len(trail) < 5 || len(trail) > 60 {
			seed += 1_000_000
			continue
		}
		return graph{
			name: fmt.Sprintf("seed-%d", seed), trail: trail,
			build: func(p *plot) *flow.Flow { return flow.New("Random", root.build(p)) },
		}
	}
}

// Graphs drawn at random, in the test environment: run; left behind whenever it can be; resumed after a failure of any task and
// from any step.
func TestRandomGraphs(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		g := draw(seed)
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 1))
			p := &plot{}
			f := g.build(p)
			require.NoError(t, f.Check())
			w := newSimulation(t)
			origin := w.run(t, f, options{})
			g.undisturbed(t, origin, f)
			begun, _ := p.did(origin.Run.Run)
			require.Equal(t, times(1, g.trail), begun)

			p = &plot{}
			f = g.build(p)
			run := flowtest.Run(t, f, flowtest.Options{Prepare: func(env *testsuite.TestWorkflowEnvironment) {
				env.SetOnActivityCompletedListener(func(*activity.Info, converter.EncodedValue, error) {
					env.SetContinueAsNewSuggested(r.IntN(3) == 0)
				})
			}})
			g.undisturbed(t, run, f)
			begun, _ = p.did(run.Run.Run)
			require.Equal(t, times(1, g.trail), begun)

			for range 4 {
				g.resumeAfter(t, w, 1, p, f, []string{g.trail[r.IntN(len(g.trail))]})
				g.resumeFrom(t, w, p, f, stepOf(g.trail[r.IntN(len(g.trail))]))
			}
		})
	}
}

// Some of them on a server.
func TestRandomGraphsOnServer(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		g := draw(seed)
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 2))
			p := &plot{}
			f := g.build(p)
			w := newDeployment(t)
			g.resumeAfter(t, w, 1, p, f, []string{g.trail[r.IntN(len(g.trail))]})
			g.resumeFrom(t, w, p, f, stepOf(g.trail[r.IntN(len(g.trail))]))
		})
	}
}
