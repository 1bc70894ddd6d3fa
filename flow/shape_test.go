package flow_test

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

func step(name string, options ...flow.Option) flow.Node[state] {
	return flow.Step(name, ok, options...)
}

func ints(*state) []int { return []int{1, 2} }

func bindInt(s *state, n int) { s.N = n }

func never(*state) bool { return false }

func pick(*state) string { return "x" }

// Everything that can be wrong with shapes is told at once, in the order in which it is written.
func TestCheckTellsEverythingOfShapes(t *testing.T) {
	t.Parallel()
	card := flow.CardSpec{Name: "default", Render: render}
	pointer := new(int)
	f := flow.New("F",
		// What they lack.
		flow.Branch[state]("b1").Join("j1", joinOK),
		flow.Branch("b2", step("s1")).Join("j2", nil),
		flow.Branch("b3", step("s2"), flow.Node[state]{}, flow.Seq[state](), flow.Seq(step("s3"), flow.Node[state]{})).Join("j3", joinOK),
		flow.Foreach("f1", ints, bindInt).Join("j4", joinOK),
		flow.Foreach("f2", ints, bindInt, flow.Seq[state]()).Join("j5", joinOK),
		flow.Foreach[state, int]("f3", nil, nil, step("s4")).Join("j6", joinOK),
		flow.ForeachStream[state, int]("f4", nil, nil, flow.Node[state]{}).Join("j7", joinOK),
		flow.Switch[state, string]("w1", nil).OrFail(),
		flow.Switch("w2", pick, flow.Case("x", flow.Node[state]{})).Else(flow.Node[state]{}),
		flow.Loop("l1", never),
		flow.Loop("l2", nil, step("s5")),
		flow.Loop("l3", never, flow.Seq[state]()),
		flow.Loop("l4", never, flow.Node[state]{}),
		flow.BranchShape[state]{}.Join("j8", joinOK),
		flow.ForeachShape[state]{}.With(flow.Fan{}).Join("j9", joinOK),
		flow.SwitchShape[state]{}.Else(),
		flow.SwitchShape[state]{}.OrFail(),
		// Names, of which joins and all shapes have one.
		flow.Foreach("1st", ints, bindInt, step("s6")).Join("a b", joinOK),
		flow.Loop("", never, step("s7")),
		flow.Loop("S7", never, step("l5")),
		flow.Loop("l5", never, step("L5")),
		flow.Foreach("f5", ints, bindInt, step("s8")).Join("f5", joinOK),
		flow.Foreach("f5", ints, bindInt, step("s9")).Join("j10", joinOK),
		flow.Branch("b4", step("s10"), step("s11")).Join("j10", joinOK),
		flow.Branch("B4", step("s12"), step("s13")).Join("j11", joinOK),
		// What might run no step.
		flow.Loop("l6", never, flow.Loop("l7", never, step("s14"))),
		flow.Loop("l8", never, flow.Switch("w3", pick, flow.Case("x", step("s15"))).Else()),
		flow.Loop("l9", never, flow.Switch("w4", pick, flow.Case("x", step("s16")), flow.Case[state]("y")).OrFail()),
		flow.Branch("b5", step("s17"), flow.Loop("l10", never, step("s18"))).Join("j12", joinOK),
		// Items and cases that cannot be kept.
		flow.Foreach("f6", func(*state) []func() { return nil }, func(*state, func()) {}, step("s19")).Join("j13", joinOK),
		flow.Foreach("f7", func(*state) []any { return nil }, func(*state, any) {}, step("s20")).Join("j14", joinOK),
		flow.Switch("w5", func(*state) any { return nil }, flow.Case[state, any](1), flow.Case[state, any]("1"), flow.Case[state, any](pointer), flow.Case[state, any]([]int{1})).Else(),
		flow.Switch("w6", pick, flow.Case[state]("x"), flow.Case[state]("y"), flow.Case[state]("x")).Else(),
		// Fans.
		flow.Foreach("f8", ints, bindInt, step("s21")).With(flow.Fan{MaxParallel: -1, Batch: -1, OnFailure: "go_on", Tolerate: flow.Percent(101)}).With(flow.Fan{}).Join("j15", joinOK),
		flow.Foreach("f9", ints, bindInt, step("s22")).With(flow.Fan{MaxParallel: 1_000_001, Batch: 10_001, Tolerate: flow.Count(-1)}).Join("j16", joinOK),
		flow.Foreach("f10", ints, bindInt, step("s23")).With(flow.Fan{Tolerate: flow.Percent(math.NaN())}).Join("j17", joinOK),
		flow.Foreach("f11", ints, bindInt, step("s24", card, policies.Limit{Key: "gpu", Max: 1}),
			flow.Switch("w7", pick, flow.Case("x", flow.Branch("b6", step("s25"), step("s26")).Join("j18", joinOK, card))).Else(),
			flow.Loop("l11", never, flow.Foreach("f12", ints, bindInt, step("s27")).Join("j19", joinOK)),
		).With(flow.Fan{Batch: 2}).Join("j20", joinOK, card, policies.Limit{Key: "gpu", Max: 1}),
		// A join is a step like any other.
		flow.Branch("b7", step("s28"), step("s29")).Join("j21", joinOK, policies.Retry{MaximumAttempts: -1}, card, card,
			policies.Catch(func(context.Context, *otherState, *policies.Failure) error { return nil })),
	)
	golden(t, "wrong_shapes.golden", f.Check().Error()+"\n")
	require.NotPanics(t, func() {
		f.Plan()
		f.Steps()
	}, "what is wrong can still be looked at")
}

// What looks like a mistake and is none.
func TestCheckAccepts(t *testing.T) {
	t.Parallel()
	for name, node := range map[string]flow.Node[state]{
		"a loop with a switch and a step":  flow.Loop("l", never, flow.Switch("w", pick, flow.Case("x", step("a"))).Else(), step("b")),
		"a switch with a step in all ways": flow.Loop("l", never, flow.Switch("w", pick, flow.Case("x", step("a"))).Else(step("b"))),
		"a switch that may fail":           flow.Loop("l", never, flow.Switch("w", pick, flow.Case("x", step("a"))).OrFail()),
		"an item that may run no step":     flow.Foreach("f", ints, bindInt, flow.Switch("w", pick, flow.Case("x", step("a"))).Else()).Join("j", joinOK),
		"an arm with a foreach alone":      flow.Branch("b", flow.Foreach("f", ints, bindInt, step("a")).Join("j", joinOK), step("c")).Join("k", joinOK),
		"batches of shapes without joins": flow.Foreach("f", ints, bindInt, flow.Loop("l", never, step("a")), flow.Switch("w", pick, flow.Case("x", step("b"))).Else()).
			With(flow.Fan{Batch: 10_000, MaxParallel: 1_000_000, OnFailure: flow.FinishAll, Tolerate: flow.Percent(100)}).Join("j", joinOK),
		"batches of one": flow.Foreach("f", ints, bindInt, flow.Branch("b", step("a"), step("c")).Join("j", joinOK)).With(flow.Fan{Batch: 1}).Join("k", joinOK),
		"keys that read differently": flow.Switch("w", func(*state) time.Duration { return 0 },
			flow.Case(time.Second, step("a")), flow.Case(time.Minute, step("b"))).Else(),
	} {
		require.NoError(t, flow.New("F", node).Check(), name)
	}
}

// A shape that has not got its join, else or fan yet can be used for several.
func TestShapesAreValues(t *testing.T) {
	t.Parallel()
	each := flow.Foreach("f", ints, bindInt, step("a"))
	bad, good := each.With(flow.Fan{Batch: -1}), each.With(flow.Fan{Batch: 7})
	require.NoError(t, flow.New("F", each.Join("j", joinOK)).Check())
	require.ErrorContains(t, flow.New("F", bad.Join("j", joinOK)).Check(), "Fan.Batch is -1")
	f := flow.New("F", good.Join("j", joinOK))
	require.NoError(t, f.Check())
	shape, _ := f.Plan().Shape("f")
	require.Equal(t, 7, shape.Fan.Batch)
	require.EqualError(t, flow.New("F", each.Join("j", joinOK), good.Join("k", joinOK)).Check(), strings.Join([]string{
		`flow "F": two foreach shapes are named "f" (rename one)`, `flow "F": two steps are named "a" (rename one)`}, "\n"))

	w := flow.Switch("w", pick, flow.Case("y", step("a")))
	one, two, fails := flow.New("F", w.Else(step("b"))), flow.New("F", w.Else(step("c"), step("d"))), flow.New("F", w.OrFail())
	for _, f := range []*flow.Flow{one, two, fails} {
		require.NoError(t, f.Check())
	}
	require.Equal(t, []string{"a", "b"}, one.Plan().Steps())
	require.Equal(t, []string{"a", "c", "d"}, two.Plan().Steps())
	require.Equal(t, []string{"a"}, fails.Plan().Steps())
	_, err := one.Ahead(t.Context(), memory(), "w", &state{})
	require.NoError(t, err)
	_, err = fails.Ahead(t.Context(), memory(), "w", &state{})
	require.ErrorContains(t, err, "none of its cases")
}

// A nesting of everything, for the form of its plan.
func everything() *flow.Flow {
	stream := func(context.Context, *state) iter.Seq2[string, error] { return nil }
	bindString := func(*state, string) {}
	return flow.New("TrainFlow",
		flow.Foreach("shards", ints, bindInt,
			flow.ForeachStream("files", stream, bindString, step("read", policies.Retry{MaximumAttempts: 3})).
				With(flow.Fan{MaxParallel: 100, Batch: 50, OnFailure: flow.FinishAll, Tolerate: flow.Percent(0.5)}).Join("concat", joinOK),
		).With(flow.Fan{Tolerate: flow.Count(1)}).Join("collect", joinOK),
		flow.Branch("features",
			step("numeric"),
			flow.Seq(step("text"), step("embed", flow.CardSpec{Name: "default", Render: render})),
			flow.Branch("image", step("small"), flow.Seq(flow.Loop("enlarge", never, step("large"), flow.Seq(step("check"))), step("plain"))).Join("images", joinOK),
		).Join("merge", joinOK, policies.Timeout{Attempt: time.Minute}),
		flow.Switch("good", func(*state) bool { return true },
			flow.Case(true, step("ship")),
			flow.Case(false, flow.Foreach("reasons", ints, bindInt, step("explain")).Join("report", joinOK), step("mail")),
		).OrFail(),
		flow.Switch("size", func(*state) int { return 1 }, flow.Case[state](1), flow.Case(2, step("split"))).Else(),
		step("end"),
	)
}

func TestPlanOfShapes(t *testing.T) {
	t.Parallel()
	f := everything()
	require.NoError(t, f.Check())
	p := f.Plan()
	b, err := json.MarshalIndent(p, "", "  ")
	require.NoError(t, err)
	golden(t, "plan_shapes.golden.json", string(b)+"\n")
	var back flow.Plan
	require.NoError(t, json.Unmarshal(b, &back))
	require.Equal(t, p, back)
	require.Equal(t, flow.PlanVersion, p.Version)

	require.Equal(t, []string{"read", "concat", "collect", "numeric", "text", "embed", "small", "large", "check", "plain", "images", "merge",
		"ship", "explain", "report", "mail", "split", "end"}, p.Steps())
	var defs []string
	for _, def := range f.Steps() {
		defs = append(defs, def.Name)
		require.NotEqual(t, def.Run == nil, def.Join == nil, def.Name)
		n, ok := p.Task(def.Name)
		require.True(t, ok)
		require.Equal(t, def.Spec, *n.Policy)
	}
	require.Equal(t, append([]string{"shards", "files"}, p.Steps()...), defs, "with the splits that no step goes before")
	_, ok := p.Step("shards")
	require.False(t, ok)
	n, ok := p.Task("shards")
	require.True(t, ok)
	require.Equal(t, flow.KindDecide, n.Kind)
	n, ok = p.Shape("shards")
	require.True(t, ok)
	require.Equal(t, flow.KindForeach, n.Kind)
	_, ok = p.Task("reasons")
	require.False(t, ok, "the step before the switch decides it")
}

// A plan that older workers understand says so.
func TestPlanVersion(t *testing.T) {
	t.Parallel()
	require.Equal(t, 1, flow.New("F", step("a"), flow.Seq(step("b"))).Plan().Version)
	for _, node := range []flow.Node[state]{
		flow.Loop("x", never, step("a")),
		flow.Switch("x", pick, flow.Case("x", step("a"))).OrFail(),
		flow.Branch("x", step("a"), step("b")).Join("c", joinOK),
		flow.Foreach("x", ints, bindInt, step("a")).Join("c", joinOK),
	} {
		require.Equal(t, 2, flow.New("F", node).Plan().Version)
	}
}

// Where no step goes before a shape that asks, a task of its own decides; nowhere else.
func TestDecides(t *testing.T) {
	t.Parallel()
	inLoop := flow.Loop("l", never, flow.Loop("m", never, step("a")), step("b"))
	for _, test := range []struct {
		nodes []flow.Node[state]
		want  string
	}{
		{[]flow.Node[state]{step("a"), flow.Loop("l", never, step("b"))}, ""},
		{[]flow.Node[state]{inLoop}, "l"},
		{[]flow.Node[state]{flow.Seq(flow.Seq(inLoop))}, "l"},
		{[]flow.Node[state]{flow.Branch("b", step("a"), step("c")).Join("j", joinOK)}, ""},
		{[]flow.Node[state]{flow.Branch("b", step("a"), flow.Seq(flow.Switch("w", pick, flow.Case("x", step("c"))).Else(), step("d"))).Join("j", joinOK)}, "b"},
		{[]flow.Node[state]{step("a"), flow.Foreach("f", ints, bindInt, flow.Switch("w", pick, flow.Case("x", step("c"))).Else()).Join("j", joinOK)}, "w"},
		{[]flow.Node[state]{step("a"), flow.Foreach("f", ints, bindInt, flow.Branch("b", step("c"), step("d")).Join("j", joinOK)).Join("k", joinOK)}, ""},
		{[]flow.Node[state]{flow.Foreach("f", ints, bindInt, flow.Foreach("g", ints, bindInt, inLoop).Join("j", joinOK)).Join("k", joinOK)}, "f g l"},
	} {
		f := flow.New("F", test.nodes...)
		var decides []string
		for _, def := range f.Steps() {
			if n, _ := f.Plan().Task(def.Name); n.Kind == flow.KindDecide {
				decides = append(decides, def.Name)
				require.NoError(t, def.Run(t.Context(), &state{}), "it does nothing but decide")
			}
		}
		require.Equal(t, test.want, strings.Join(decides, " "))
	}
}

func TestTolerance(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		tolerance flow.Tolerance
		n, want   int
	}{
		{flow.Tolerance{}, 100, 0},
		{flow.Count(3), 100, 3},
		{flow.Count(3), 2, 2},
		{flow.Count(3), 0, 0},
		{flow.Percent(5), 30, 1},
		{flow.Percent(5), 19, 0},
		{flow.Percent(5), 20, 1},
		{flow.Percent(10), 30, 3},
		{flow.Percent(0.57), 10_000, 57},
		{flow.Percent(0.1), 10_000_000, 10_000},
		{flow.Percent(1.1), 1000, 11},
		{flow.Percent(99.9), 1000, 999},
		{flow.Percent(99.9), 999, 998},
		{flow.Percent(100), 7, 7},
		{flow.Percent(100), flow.MaxItems, flow.MaxItems},
		{flow.Tolerance{Count: 2, Percent: 10}, 10, 2},
		{flow.Tolerance{Count: 2, Percent: 10}, 100, 10},
	} {
		require.Equal(t, test.want, test.tolerance.Of(test.n), "%+v of %d", test.tolerance, test.n)
	}
}

// Percents with two decimals are exact: what integers say.
func TestToleranceProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n, hundredths := rapid.IntRange(0, flow.MaxItems).Draw(t, "n"), rapid.IntRange(0, 100_00).Draw(t, "percent")
		require.Equal(t, n*hundredths/100_00, flow.Percent(float64(hundredths)/100).Of(n), fmt.Sprint(n, hundredths))
	})
}
