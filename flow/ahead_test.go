package flow_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/artifacts/mem"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

func memory() *artifacts.Store { return artifacts.New(mem.New(), artifacts.Options{}) }

// script is a state that says what is decided.
type script struct {
	Switch string
	Loop   map[string]bool
	Items  []string
	Item   string
}

func line(name string) flow.Node[script] {
	return flow.Step(name, func(context.Context, *script) error { return nil })
}

func picks(name string, cases ...flow.SwitchCase[script, string]) flow.SwitchShape[script] {
	return flow.Switch(name, func(s *script) string { return s.Switch }, cases...)
}

func turns(name string, body ...flow.Node[script]) flow.Node[script] {
	return flow.Loop(name, func(s *script) bool { return s.Loop[name] }, body...)
}

func items(name string, body ...flow.Node[script]) flow.Node[script] {
	return flow.Foreach(name, func(s *script) []string { return s.Items }, func(s *script, item string) { s.Item = item }, body...).
		Join("join_"+name, func(context.Context, *script, flow.Inputs[script]) error { return nil })
}

func arms(name string, arms ...flow.Node[script]) flow.Node[script] {
	return flow.Branch(name, arms...).Join("join_"+name, func(context.Context, *script, flow.Inputs[script]) error { return nil })
}

// decided writes what was decided in one line, without digests.
func decided(a flow.Ahead) string {
	var parts []string
	for _, name := range []string{"s", "s2", "l", "l2", "f", "f2"} {
		d, ok := a[name]
		switch {
		case !ok:
		case d.Items != nil:
			parts = append(parts, fmt.Sprintf("%s:%d items", name, d.Items.Len))
		case name[0] == 's':
			parts = append(parts, fmt.Sprintf("%s:%d%s", name, d.Case, d.Value))
		default:
			parts = append(parts, fmt.Sprintf("%s:%v", name, d.Again))
		}
	}
	return strings.Join(parts, " ")
}

func TestAhead(t *testing.T) {
	t.Parallel()
	again := map[string]bool{"l": true, "l2": true}
	two := []string{"x", "y"}
	for _, test := range []struct {
		name  string
		nodes []flow.Node[script]
		task  string
		state script
		want  string
	}{
		{"a step follows", []flow.Node[script]{line("a"), line("b"), turns("l", line("c"))}, "a", script{}, ""},
		{"the end", []flow.Node[script]{line("a")}, "a", script{}, ""},
		{"case", []flow.Node[script]{line("a"), picks("s", flow.Case("x", line("b")), flow.Case("y", line("c"))).OrFail()}, "a", script{Switch: "y"}, "s:1y"},
		{"else", []flow.Node[script]{line("a"), picks("s", flow.Case("x", line("b"))).Else(line("c"))}, "a", script{Switch: "z"}, "s:1"},
		{"an empty else", []flow.Node[script]{line("a"), picks("s", flow.Case("x", line("b"))).Else(), items("f", line("c"))}, "a", script{Switch: "z", Items: two}, "s:1 f:2 items"},
		{"an empty case", []flow.Node[script]{line("a"), picks("s", flow.Case[script]("x")).OrFail(), turns("l", line("c"))}, "a", script{Switch: "x"}, "s:0x l:false"},
		{"a switch within a case", []flow.Node[script]{line("a"), picks("s", flow.Case("x", picks("s2", flow.Case("y", line("b"))).Else(line("c")), line("d"))).OrFail()},
			"a", script{Switch: "x"}, "s:0x s2:1"},
		{"past a case with a step", []flow.Node[script]{line("a"), picks("s", flow.Case("x", line("b"))).OrFail(), turns("l", line("c"))}, "a", script{Switch: "x"}, "s:0x"},
		{"out of a case", []flow.Node[script]{line("a"), picks("s", flow.Case("x", line("b"))).OrFail(), turns("l", line("c"))}, "b", script{Switch: "x"}, "l:false"},
		{"no other case", []flow.Node[script]{line("a"), picks("s", flow.Case("x", line("b")), flow.Case("y", turns("l", line("c")))).OrFail()}, "b", script{Loop: again}, ""},
		{"a loop begins", []flow.Node[script]{line("a"), turns("l", line("b"))}, "a", script{Loop: again}, "l:true"},
		{"a loop does not begin", []flow.Node[script]{line("a"), turns("l", line("b")), picks("s", flow.Case("", line("c"))).OrFail()}, "a", script{}, "s:0 l:false"},
		{"a loop goes on", []flow.Node[script]{line("a"), turns("l", line("b"), picks("s", flow.Case("x", line("c"))).Else())}, "b", script{Loop: again}, "s:1 l:true"},
		{"a loop goes on with a switch", []flow.Node[script]{line("a"), turns("l", picks("s", flow.Case("x", line("b"))).Else(), line("c"))}, "c", script{Switch: "x", Loop: again}, "s:0x l:true"},
		{"a loop ends", []flow.Node[script]{line("a"), turns("l", line("b")), items("f", line("c"))}, "b", script{Items: two}, "l:false f:2 items"},
		{"a loop in a loop ends", []flow.Node[script]{line("a"), turns("l", line("b"), turns("l2", line("c")))}, "c", script{Loop: map[string]bool{"l": true}}, "l:true l2:false"},
		{"both loops end", []flow.Node[script]{line("a"), turns("l", line("b"), turns("l2", line("c")))}, "c", script{}, "l:false l2:false"},
		{"items", []flow.Node[script]{line("a"), items("f", line("b"))}, "a", script{Items: two}, "f:2 items"},
		{"no items", []flow.Node[script]{line("a"), items("f", line("b"))}, "a", script{}, "f:0 items"},
		{"the join of a foreach follows", []flow.Node[script]{line("a"), items("f", line("b")), turns("l", line("c"))}, "b", script{Loop: again}, ""},
		{"out of a foreach", []flow.Node[script]{line("a"), items("f", line("b")), turns("l", line("c"))}, "join_f", script{Loop: again}, "l:true"},
		{"items within items", []flow.Node[script]{line("a"), items("f", line("b"), items("f2", line("c")))}, "b", script{Items: two}, "f2:2 items"},
		{"items at the head of items", []flow.Node[script]{line("a"), items("f", items("f2", line("c")))}, "a", script{Items: two}, "f:2 items"},
		{"a decision of its own for each item", []flow.Node[script]{line("a"), items("f", items("f2", line("c")))}, "f2", script{Items: two}, "f2:2 items"},
		{"an inner join ends the item", []flow.Node[script]{line("a"), items("f", items("f2", line("c"))), line("d")}, "join_f2", script{Items: two}, ""},
		{"arms", []flow.Node[script]{line("a"), arms("b", flow.Seq(picks("s", flow.Case("x", line("b1"))).Else(), line("b2")), items("f", line("c")), line("d"))},
			"a", script{Items: two}, "s:1 f:2 items"},
		{"the join of a branch follows", []flow.Node[script]{line("a"), arms("b", line("b1"), line("b2")), turns("l", line("c"))}, "b1", script{Loop: again}, ""},
		{"an arm goes on", []flow.Node[script]{line("a"), arms("b", flow.Seq(line("b1"), turns("l", line("c"))), line("b2"))}, "b1", script{Loop: again}, "l:true"},
		{"out of a branch", []flow.Node[script]{line("a"), arms("b", line("b1"), line("b2")), turns("l", line("c"))}, "join_b", script{Loop: again}, "l:true"},
		{"at the start of the flow", []flow.Node[script]{picks("s", flow.Case("x", line("a"))).Else(), turns("l", line("b"))}, "s", script{Loop: again}, "s:1 l:true"},
		{"arms at the start of the flow", []flow.Node[script]{arms("b", items("f", line("b1")), items("f2", line("b2")))}, "b", script{Items: two}, "f:2 items f2:2 items"},
		{"a switch in a loop in a foreach in a branch", []flow.Node[script]{line("a"), arms("b", items("f", line("c"), turns("l", line("d"), picks("s", flow.Case("x", line("e"))).Else())), line("g"))},
			"d", script{Loop: again}, "s:1 l:true"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := flow.New("F", test.nodes...)
			require.NoError(t, f.Check())
			got, err := f.Ahead(t.Context(), memory(), test.task, &test.state)
			require.NoError(t, err)
			require.Equal(t, test.want, decided(got))
			require.Equal(t, test.want == "", got == nil, "nothing decided is nothing in the record")
		})
	}
}

func TestAheadErrors(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	f := flow.New("F", line("a"),
		picks("s", flow.Case("x", line("b")), flow.Case("", line("c"))).OrFail(),
		flow.Loop("l", func(*script) bool { panic("cond") }, line("d")), line("e"),
		flow.ForeachStream("f", func(_ context.Context, s *script) iter.Seq2[string, error] {
			return func(yield func(string, error) bool) {
				if yield("x", nil) {
					yield("", flow.RetryAfter(boom, 30e9))
				}
			}
		}, func(s *script, item string) { s.Item = item }, line("g")).Join("h", func(context.Context, *script, flow.Inputs[script]) error { return nil }),
	)
	require.NoError(t, f.Check())
	got, err := f.Ahead(t.Context(), memory(), "a", &script{Switch: "z"})
	require.EqualError(t, err, `switch "s": value "z" is none of its cases "x", "" (add a case, or Else)`)
	require.Equal(t, policies.Permanent, policies.Classify(err).Class, "no attempt changes that")
	require.Nil(t, got)
	_, err = f.Ahead(t.Context(), memory(), "a", &script{Switch: strings.Repeat("é", 1000)})
	require.Less(t, len(err.Error()), 250)
	require.ErrorContains(t, err, "é…")

	require.PanicsWithValue(t, "cond", func() { _, _ = f.Ahead(t.Context(), memory(), "b", &script{}) })

	got, err = f.Ahead(t.Context(), memory(), "e", &script{})
	require.EqualError(t, err, `items of foreach "f": boom`)
	require.ErrorIs(t, err, boom)
	require.Equal(t, 30*time.Second, policies.Classify(err).RetryAfter, "what the author's error says is kept")
	require.Nil(t, got)

	_, err = f.Ahead(t.Context(), memory(), "nobody", &script{})
	require.EqualError(t, err, `flow "F" has no step "nobody"`)
	_, err = f.Ahead(t.Context(), memory(), "s", &script{})
	require.EqualError(t, err, `flow "F" has no step "s"`, "only a shape that is decided on its own is a task")
}

func TestBind(t *testing.T) {
	t.Parallel()
	store := memory()
	f := flow.New("F", line("a"), items("f", line("b")), picks("s", flow.Case("", line("c"))).OrFail())
	ahead, err := f.Ahead(t.Context(), store, "a", &script{Items: []string{"x", "y"}})
	require.NoError(t, err)
	list, err := flow.OpenItems(t.Context(), store, *ahead["f"].Items)
	require.NoError(t, err)
	require.Equal(t, 2, list.Len())
	s := script{Switch: "kept"}
	require.NoError(t, f.Bind(t.Context(), list, "f", 1, &s))
	require.Equal(t, script{Switch: "kept", Item: "y"}, s)
	require.EqualError(t, f.Bind(t.Context(), list, "f", 2, &s), `foreach "f": item 2 of a list of 2`)
	for _, name := range []string{"s", "nobody", "a"} {
		err := f.Bind(t.Context(), list, name, 0, &s)
		require.EqualError(t, err, fmt.Sprintf(`flow "F" has no foreach %q`, name))
		require.Equal(t, policies.Permanent, policies.Classify(err).Class)
	}
}

// A parameter is read-only for whoever sets fields.
func TestBindToParameter(t *testing.T) {
	t.Parallel()
	type S struct {
		Alpha float64 `param:"alpha"`
		Item  float64
	}
	nop := func(context.Context, *S) error { return nil }
	f := flow.New("F", flow.Step("a", nop), flow.Foreach("f", func(*S) []float64 { return []float64{1, 0} }, func(s *S, alpha float64) {
		s.Alpha, s.Item = alpha, alpha
	}, flow.Step("b", nop)).Join("c", func(context.Context, *S, flow.Inputs[S]) error { return nil }))
	require.NoError(t, f.Check())
	store := memory()
	ahead, err := f.Ahead(t.Context(), store, "a", &S{})
	require.NoError(t, err)
	list, err := flow.OpenItems(t.Context(), store, *ahead["f"].Items)
	require.NoError(t, err)
	require.NoError(t, f.Bind(t.Context(), list, "f", 1, &S{}), "it has that value already")
	err = f.Bind(t.Context(), list, "f", 0, &S{})
	require.EqualError(t, err, `foreach "f" binds its item to parameter "alpha" (parameters are read-only: bind it to another field)`)
	require.Equal(t, policies.Permanent, policies.Classify(err).Class)
}

// chaos is a state whose only field decides everything.
type chaos struct{ N uint32 }

func (s *chaos) add(n int) { s.N = (s.N+uint32(n))*2654435761 + 12345 }

func (s *chaos) roll(sides uint32) int { return int((s.N >> 8) % sides) }

// grown is a part of a random flow: its node, and what it means.
type grown struct {
	node flow.Node[chaos]
	run  func(s *chaos, trace *[]string)
}

// grower makes random flows.
type grower struct {
	t *rapid.T
	n int
}

func (g *grower) name(kind string) (string, int) {
	g.n++
	return fmt.Sprintf("%s%d", kind, g.n), g.n
}

func (g *grower) step() grown {
	name, id := g.name("step")
	return grown{
		flow.Step(name, func(_ context.Context, s *chaos) error { s.add(id); return nil }),
		func(s *chaos, trace *[]string) { s.add(id); *trace = append(*trace, name) },
	}
}

// body is a sequence, with a step somewhere if it must not be empty.
func (g *grower) body(depth int, full bool) grown {
	var parts []grown
	for range rapid.IntRange(0, 3).Draw(g.t, "parts") {
		parts = append(parts, g.part(depth))
	}
	if full || len(parts) == 0 {
		at := rapid.IntRange(0, len(parts)).Draw(g.t, "step")
		parts = append(parts[:at:at], append([]grown{g.step()}, parts[at:]...)...)
	}
	var nodes []flow.Node[chaos]
	for _, p := range parts {
		nodes = append(nodes, p.node)
	}
	return grown{flow.Seq(nodes...), func(s *chaos, trace *[]string) {
		for _, p := range parts {
			p.run(s, trace)
		}
	}}
}

func (g *grower) part(depth int) grown {
	kinds := []string{"step", "branch", "foreach", "switch", "loop"}
	if depth == 0 {
		kinds = kinds[:1]
	}
	kind := rapid.SampledFrom(kinds).Draw(g.t, "kind")
	if kind == "step" {
		return g.step()
	}
	name, id := g.name(kind)
	join := func(s *chaos, ends []*chaos) {
		for _, end := range ends {
			s.add(int(end.N))
		}
		s.add(id)
	}
	joined := func(_ context.Context, s *chaos, in flow.Inputs[chaos]) error {
		var ends []*chaos
		for _, end := range in.All() {
			ends = append(ends, end)
		}
		join(s, ends)
		return nil
	}
	switch kind {
	case "branch":
		one, two := g.body(depth-1, true), g.body(depth-1, true)
		return grown{flow.Branch(name, one.node, two.node).Join("join_"+name, joined), func(s *chaos, trace *[]string) {
			a, b := *s, *s
			one.run(&a, trace)
			two.run(&b, trace)
			join(s, []*chaos{&a, &b})
			*trace = append(*trace, "join_"+name)
		}}
	case "foreach":
		body := g.body(depth-1, false)
		list := func(s *chaos) []int { return make([]int, s.roll(4)) }
		return grown{flow.Foreach(name, list, func(s *chaos, item int) { s.add(item) }, body.node).Join("join_"+name, joined), func(s *chaos, trace *[]string) {
			var ends []*chaos
			for _, item := range list(s) {
				end := *s
				end.add(item)
				body.run(&end, trace)
				ends = append(ends, &end)
			}
			join(s, ends)
			*trace = append(*trace, "join_"+name)
		}}
	case "switch":
		cases := []grown{g.body(depth-1, false), g.body(depth-1, false), {flow.Seq[chaos](), func(*chaos, *[]string) {}}}
		return grown{
			flow.Switch(name, func(s *chaos) int { return s.roll(3) }, flow.Case(0, cases[0].node), flow.Case(1, cases[1].node)).Else(),
			func(s *chaos, trace *[]string) { cases[s.roll(3)].run(s, trace) },
		}
	default:
		body := g.body(depth-1, true)
		again := func(s *chaos) bool { return s.roll(5) < 2 }
		return grown{flow.Loop(name, again, body.node), func(s *chaos, trace *[]string) {
			for again(s) {
				body.run(s, trace)
			}
		}}
	}
}

// interpreter runs a plan as the workflow does: it knows of decisions what the task before has told, and nothing else.
type interpreter struct {
	t     *rapid.T
	ctx   context.Context //nolint:containedctx // of one test
	flow  *flow.Flow
	defs  map[string]*flow.StepDef
	store *artifacts.Store
	trace []string
}

func (x *interpreter) task(name string, s *chaos, ends []*chaos) flow.Ahead {
	def := x.defs[name]
	require.NotNil(x.t, def)
	if def.Join != nil {
		schema := x.flow.Schema()
		src := flow.Source{Schema: schema, Store: x.store, Len: len(ends), All: func(context.Context) iter.Seq2[flow.Input, error] {
			return func(yield func(flow.Input, error) bool) {
				for i, end := range ends {
					entries, _, err := schema.Save(x.ctx, x.store, end, nil, artifacts.Snapshot{}, "")
					if !yield(flow.Input{Index: i, Artifacts: entries}, err) {
						return
					}
				}
			}
		}}
		require.NoError(x.t, def.Join(x.ctx, s, src))
	} else {
		require.NoError(x.t, def.Run(x.ctx, s))
	}
	ahead, err := x.flow.Ahead(x.ctx, x.store, name, s)
	require.NoError(x.t, err)
	return ahead
}

func (x *interpreter) decision(ahead flow.Ahead, n flow.PlanNode) flow.Decision {
	d, ok := ahead[n.Name]
	require.True(x.t, ok, "nobody decided about %s %q", n.Kind, n.Name)
	return d
}

func (x *interpreter) run(n flow.PlanNode, s *chaos, ahead flow.Ahead) flow.Ahead {
	switch n.Kind {
	case flow.KindStep, flow.KindDecide:
		if n.Kind == flow.KindStep {
			x.trace = append(x.trace, n.Name)
		}
		return x.task(n.Name, s, nil)
	case flow.KindSeq:
		for _, child := range n.Nodes {
			ahead = x.run(child, s, ahead)
		}
		return ahead
	case flow.KindSwitch:
		return x.run(n.Nodes[x.decision(ahead, n).Case], s, ahead)
	case flow.KindLoop:
		for x.decision(ahead, n).Again {
			ahead = x.run(n.Nodes[0], s, ahead)
		}
		return ahead
	case flow.KindBranch, flow.KindForeach:
		var ends []*chaos
		if n.Kind == flow.KindBranch {
			for _, arm := range n.Nodes {
				end := *s
				x.run(arm, &end, ahead)
				ends = append(ends, &end)
			}
		} else {
			list, err := flow.OpenItems(x.ctx, x.store, *x.decision(ahead, n).Items)
			require.NoError(x.t, err)
			for i := range list.Len() {
				end := *s
				require.NoError(x.t, x.flow.Bind(x.ctx, list, n.Name, i, &end))
				x.run(n.Nodes[0], &end, nil)
				ends = append(ends, &end)
			}
		}
		x.trace = append(x.trace, n.Join.Name)
		return x.task(n.Join.Name, s, ends)
	}
	x.t.Fatalf("a node of kind %q", n.Kind)
	return nil
}

// Whatever the shapes, each decision that the workflow needs is told by the task before, and the steps that run are those that the
// author's expression means.
func TestAheadProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		root := (&grower{t: rt}).body(3, true)
		f := flow.New("F", root.node)
		require.NoError(rt, f.Check())
		start := chaos{N: rapid.Uint32().Draw(rt, "start")}

		want, wantEnd := []string{}, start
		root.run(&wantEnd, &want)

		x := interpreter{t: rt, ctx: t.Context(), flow: f, defs: map[string]*flow.StepDef{}, store: memory()}
		for _, def := range f.Steps() {
			x.defs[def.Name] = def
		}
		end := start
		x.run(f.Plan().Root, &end, nil)
		require.Equal(rt, want, append([]string{}, x.trace...))
		require.Equal(rt, wantEnd, end)
	})
}

func BenchmarkBind(b *testing.B) {
	store := memory()
	f := flow.New("F", line("a"), items("f", line("b")))
	ahead, err := f.Ahead(b.Context(), store, "a", &script{Items: make([]string, 100_000)})
	require.NoError(b, err)
	list, err := flow.OpenItems(b.Context(), store, *ahead["f"].Items)
	require.NoError(b, err)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		var s script
		if err := f.Bind(b.Context(), list, "f", i, &s); err != nil {
			b.Fatal(err)
		}
		i = (i + 1) % list.Len()
	}
}
