package stepwell_test

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

type docsState struct{ Alpha float64 }

func (*docsState) alphas() []float64  { return nil }
func (s *docsState) set(a float64)    { s.Alpha = a }
func (s *docsState) verdict() string  { return "" }
func (s *docsState) converging() bool { return false }

func step(context.Context, *docsState) error                         { return nil }
func join(context.Context, *docsState, flow.Inputs[docsState]) error { return nil }

var load, numeric, text, embed, fit, ship, report, tune = step, step, step, step, step, step, step, step
var merge, best = join, join

type State = docsState

// The function that the documentation shows, to the letter.

func TrainFlow() *flow.Flow {
	return flow.New("TrainFlow",
		flow.Step("load", load),
		flow.Branch("features",
			flow.Step("numeric", numeric),
			flow.Seq(flow.Step("text", text), flow.Step("embed", embed)),
		).Join("merge", merge),
		flow.Foreach("grid", (*State).alphas, (*State).set,
			flow.Step("fit", fit, policies.Retry{MaximumAttempts: 3}),
		).With(flow.Fan{MaxParallel: 100, Tolerate: flow.Percent(5)}).Join("best", best),
		flow.Switch("good", (*State).verdict,
			flow.Case("ship", flow.Step("ship", ship)),
			flow.Case[State]("wait"),
		).Else(flow.Step("report", report)),
		flow.Loop("tune", (*State).converging, flow.Step("tune_once", tune)),
	)
}

// TestShapesDocument compares what docs/shapes.md shows with what the program prints.
func TestShapesDocument(t *testing.T) {
	t.Parallel()
	document, err := os.ReadFile("docs/shapes.md")
	require.NoError(t, err)
	source, err := os.ReadFile("graph_docs_test.go")
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(source), "\nfunc TrainFlow()")
	require.True(t, ok)
	body, _, ok := strings.Cut(rest, "\n}\n")
	require.True(t, ok)
	require.Contains(t, string(document), "```go\nfunc TrainFlow()"+body+"\n}\n```\n", "copy TrainFlow of this file into docs/shapes.md")
	for fence, args := range map[string][]string{"": {"graph", "TrainFlow"}, "mermaid": {"graph", "TrainFlow", "--format", "mermaid"}} {
		var out, errs bytes.Buffer
		code := stepwell.App{Flows: []*flow.Flow{TrainFlow()}}.Run(t.Context(), args, stepwell.IO{Out: &out, Err: &errs})
		require.Equal(t, stepwell.ExitOK, code, errs.String())
		require.Contains(t, string(document), "```"+fence+"\n"+out.String()+"```\n", "copy what %v prints into docs/shapes.md", args)
	}
}

// TestShapesDocumentTellsWhatCheckTells makes the mistakes that the document names.
func TestShapesDocumentTellsWhatCheckTells(t *testing.T) {
	t.Parallel()
	document, err := os.ReadFile("docs/shapes.md")
	require.NoError(t, err)
	named := func(name string) flow.Node[State] { return flow.Step(name, step) }
	bad := flow.New("BadFlow",
		named("load"), named("load"), named("Load"), named("a b"),
		flow.Branch("features", named("numeric"), flow.Seq[State]()).Join("merge", merge),
		named("features"),
		flow.Branch("features", named("only")).Join("merge_one", merge),
		flow.Foreach("grid", (*State).alphas, (*State).set).Join("best", best),
		flow.Switch[State, string]("good", (*State).verdict).Else(),
		flow.Switch("good", (*State).verdict, flow.Case("ship", named("ship")), flow.Case[State]("ship")).OrFail(),
		flow.Loop("tune", (*State).converging, flow.Loop("within", (*State).converging, named("turn"))),
	)
	var out, errs bytes.Buffer
	code := stepwell.App{Flows: []*flow.Flow{bad}}.Run(t.Context(), []string{"check"}, stepwell.IO{Out: &out, Err: &errs})
	require.Equal(t, stepwell.ExitInput, code)
	for _, message := range []string{
		`switch "good" has no cases`, `switch "good" has two cases "ship"`, `step name "a b" is not allowed`, `two steps are named "load"`,
		`a branch and a step are named "features"`, `steps "load" and "Load" differ only in case`, `foreach "grid" has no steps`,
		`branch "features" has fewer than two arms`, `arm 2 of branch "features" may run no step`,
		`loop "tune" may turn without running a step, and so without end`,
	} {
		require.Contains(t, errs.String(), message)
		require.Contains(t, string(document), "`"+message)
	}
}
