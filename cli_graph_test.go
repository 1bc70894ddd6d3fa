package stepwell

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/cards"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/graph"
	"github.com/stepwell-flows/stepwell/policies"
)

type shapesState struct {
	Region string `param:"region" default:"eu" help:"where the sites are"`

	Sites, Days []string
	Site, Day   string
	Left        int
}

// shapesFlow has every shape, within each other and next to each other.
func shapesFlow() *flow.Flow {
	step := func(name string, options ...flow.Option) flow.Node[shapesState] {
		return flow.Step(name, func(context.Context, *shapesState) error { return nil }, options...)
	}
	join := func(context.Context, *shapesState, flow.Inputs[shapesState]) error { return nil }
	left := func(s *shapesState) bool { return s.Left > 0 }
	return flow.New("ShapesFlow",
		flow.Branch("sources",
			step("sites", policies.Retry{MaximumAttempts: 4, InitialInterval: 2 * time.Second}),
			flow.Seq(
				step("weather"),
				flow.Switch("season", func(*shapesState) string { return "summer" },
					flow.Case("summer", step("heat")),
					flow.Case("winter", step("snow"), flow.Loop("thaw", left, step("wait"))),
					flow.Case[shapesState]("spring or autumn"),
				).Else(step("unknown_season", policies.Limit{Key: "weather-service", Max: 2})),
			),
		).Join("merge", join, policies.Timeout{Attempt: time.Minute}),
		flow.Foreach("by_site", func(s *shapesState) []string { return s.Sites }, func(s *shapesState, site string) { s.Site = site },
			flow.Foreach("by_day", func(s *shapesState) []string { return s.Days }, func(s *shapesState, day string) { s.Day = day },
				step("fit", policies.Retry{MaximumAttempts: 3}),
			).With(flow.Fan{Batch: 250, OnFailure: flow.FinishAll}).Join("site", join),
		).With(flow.Fan{MaxParallel: 100, Tolerate: flow.Percent(2.5)}).Join("all", join, cards.Default()),
		flow.Loop("tune", left, step("tune_once")),
		flow.Loop("retune", left, step("retune_once")),
		flow.Switch("good", func(*shapesState) bool { return true },
			flow.Case(true, step("ship", policies.Catch(func(context.Context, *shapesState, *policies.Failure) error { return nil }))),
			flow.Case[shapesState](false),
		).OrFail(),
		step("end"),
	)
}

func TestGraphAndCheckOfShapes(t *testing.T) {
	t.Parallel()
	app := App{Flows: []*flow.Flow{shapesFlow(), emptyFlow()}}
	for _, args := range []string{
		"graph ShapesFlow", "graph ShapesFlow --format dot", "graph ShapesFlow --format mermaid", "check", "check ShapesFlow --json",
	} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			got := call(t.Context(), app, nil, strings.Fields(args)...)
			require.Equal(t, ExitOK, got.code, got.err)
			require.Empty(t, got.err)
			golden(t, "shapes-"+strings.NewReplacer(" ShapesFlow", "", " --format ", "-", " --", "-").Replace(args), got.out)
		})
	}
	require.Equal(t,
		call(t.Context(), app, nil, "graph", "ShapesFlow"),
		call(t.Context(), app, nil, "graph", "ShapesFlow", "--format", "text"))
	require.Equal(t, graph.Mermaid(shapesFlow().Plan()), call(t.Context(), app, nil, "graph", "ShapesFlow", "--format=mermaid").out)
}

// TestGraphPrintsThePlan reads it back as an interpreter does.
func TestGraphPrintsThePlan(t *testing.T) {
	t.Parallel()
	app := App{Flows: []*flow.Flow{shapesFlow()}}
	want := call(t.Context(), app, nil, "graph", "ShapesFlow", "--json")
	require.Equal(t, ExitOK, want.code)
	for _, args := range []string{"--format json", "--format json --json"} {
		require.Equal(t, want, call(t.Context(), app, nil, append([]string{"graph", "ShapesFlow"}, strings.Fields(args)...)...))
	}
	var plan flow.Plan
	require.NoError(t, json.Unmarshal([]byte(want.out), &plan))
	require.Equal(t, graph.DOT(shapesFlow().Plan()), graph.DOT(plan))
}

func TestGraphRefuses(t *testing.T) {
	t.Parallel()
	bad := flow.New("BadFlow", flow.Step("x", nothing), flow.Step("x", nothing))
	app := App{Flows: []*flow.Flow{shapesFlow(), bad}}
	for _, test := range []struct{ args, say string }{
		{"graph ShapesFlow --format svg", `--format "svg" is not a format (use text, dot, mermaid or json)`},
		{"graph ShapesFlow --format=", `--format "" is not a format`},
		{"graph ShapesFlow --format dot --json", "--json and --format dot exclude each other"},
		{"graph BadFlow --format dot", `two steps are named "x"`},
		{"graph BadFlow --format mermaid", `two steps are named "x"`},
	} {
		t.Run(test.args, func(t *testing.T) {
			t.Parallel()
			got := call(t.Context(), app, nil, strings.Fields(test.args)...)
			require.Equal(t, ExitInput, got.code)
			require.Contains(t, got.err, test.say)
			require.Empty(t, got.out)
		})
	}
}

// TestGraphIsSafeForTerminals prints a case whose value would do something to one.
func TestGraphIsSafeForTerminals(t *testing.T) {
	t.Parallel()
	f := flow.New("Hostile", flow.Step("first", nothing),
		flow.Switch("of", func(*trainState) string { return "" }, flow.Case(hostile, flow.Step("second", nothing))).Else())
	for _, format := range []string{"text", "dot", "mermaid", "json"} {
		got := call(t.Context(), App{Flows: []*flow.Flow{f}}, nil, "graph", "Hostile", "--format", format)
		require.Equal(t, ExitOK, got.code, got.err)
		require.False(t, strings.ContainsFunc(strings.ReplaceAll(got.out, "\n", ""), hidden), "%q", got.out)
	}
}
