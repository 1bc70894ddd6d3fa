package graph_test

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/cards"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/graph"
	"github.com/stepwell-flows/stepwell/policies"
)

var update = flag.Bool("update", false, "write the golden files anew")

type state struct {
	Alpha float64
	Left  int
	Words []string
}

func nothing(context.Context, *state) error                   { return nil }
func merge(context.Context, *state, flow.Inputs[state]) error { return nil }
func alphas(*state) []float64                                 { return nil }
func words(*state) []string                                   { return nil }
func setAlpha(*state, float64)                                {}
func setWord(*state, string)                                  {}
func verdict(*state) string                                   { return "" }
func left(s *state) bool                                      { return s.Left > 0 }
func caught(context.Context, *state, *policies.Failure) error { return nil }
func step(name string, options ...flow.Option) flow.Node[state] {
	return flow.Step(name, nothing, options...)
}
func loop(name string, body ...flow.Node[state]) flow.Node[state] {
	return flow.Loop(name, left, body...)
}
func switchOf(name string, cases ...flow.SwitchCase[state, string]) flow.SwitchShape[state] {
	return flow.Switch(name, verdict, cases...)
}

// trainFlow has every shape as the documentation shows it.
func trainFlow() *flow.Flow {
	return flow.New("TrainFlow",
		step("load", policies.Retry{MaximumAttempts: 4}),
		flow.Branch("features",
			step("numeric"),
			flow.Seq(step("text"), step("embed")),
		).Join("merge", merge),
		flow.Foreach("grid", alphas, setAlpha,
			step("fit", policies.Retry{MaximumAttempts: 3}, policies.Catch(caught), policies.Limit{Key: "gpu-box", Max: 4}),
		).With(flow.Fan{MaxParallel: 100, Tolerate: flow.Percent(5)}).Join("best", merge, cards.Default()),
		switchOf("good",
			flow.Case("ship", step("ship")),
			flow.Case[state]("wait"),
		).Else(step("report")),
		loop("tune", step("tune_once", policies.Timeout{Attempt: time.Minute})),
		step("end"),
	)
}

// nestedFlow begins with a shape, and has shapes next to and within each other in the ways that have no step between them.
func nestedFlow() *flow.Flow {
	return flow.New("NestedFlow",
		flow.Foreach("outer", words, setWord,
			flow.Foreach("inner", alphas, setAlpha,
				switchOf("kind",
					flow.Case("a", step("on-a")),
					flow.Case("b", loop("retry", step("again"))),
				).OrFail(),
			).With(flow.Fan{OnFailure: flow.FinishAll, Tolerate: flow.Count(2)}).Join("join_inner", merge),
		).Join("join_outer", merge),
		loop("first", step("turn"), loop("within", step("turn_within"))),
		loop("second", flow.Branch("both",
			flow.Seq(loop("arm_loop", step("turn_arm")), step("after")),
			flow.Seq(switchOf("arm_switch", flow.Case("x", step("on_x")), flow.Case[state]("y")).Else(), step("after_x")),
			flow.Branch("deep", step("left"), step("right")).Join("join_deep", merge),
		).Join("join_both", merge)),
		flow.Foreach("many", words, setWord, loop("maybe", step("rarely"))).With(flow.Fan{Batch: 500}).Join("count", merge),
		switchOf("last", flow.Case[state](""), flow.Case[state]("else"), flow.Case[state](hostile)).Else(),
	)
}

const hostile = "say \"hi\" | <b>&amp;</b> #35; `x` $$y$$ {z} %%{init: {}}%% \\n -->\n\x1b[31mü \u202e"

func TestGolden(t *testing.T) {
	t.Parallel()
	for _, f := range []*flow.Flow{trainFlow(), nestedFlow()} {
		require.NoError(t, f.Check())
		for ext, text := range map[string]string{"dot": graph.DOT(f.Plan()), "mmd": graph.Mermaid(f.Plan())} {
			path := filepath.Join("testdata", f.Name()+"."+ext)
			if *update {
				require.NoError(t, os.MkdirAll("testdata", 0o755))
				require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
				continue
			}
			want, err := os.ReadFile(path)
			require.NoError(t, err, "write it with: go test ./graph -update")
			require.Equal(t, string(want), text, "%s differs (if the change is meant: go test ./graph -update)", path)
		}
	}
}

// TestCasesReadAsTheyAre has values that mean something to Graphviz, Mermaid, HTML, Markdown or a terminal.
func TestCasesReadAsTheyAre(t *testing.T) {
	t.Parallel()
	values := []string{
		"ship", "two words", "größer", "1. x", "# x", "a|b", "<b>", "a-->b", "&lt;", "#35;", "`x`", "$$x$$", "{{x}}", "[x]", "%%{init: {}}%%", "fa:fa-car",
		"", " ", "else", `"`, `\`, `\n`, "\n", "\r\n", "\t", "\x1b[31m", "\u202e", "\u2028", "\xff", hostile,
	}
	var cases []flow.SwitchCase[state, string]
	for _, v := range values {
		cases = append(cases, flow.Case[state](v))
	}
	f := flow.New("Labels", step("first"), switchOf("of", cases...).Else())
	require.NoError(t, f.Check())

	dotLabels := regexp.MustCompile(`switch_of -> exit \[label="(.*)"\];\n`).FindAllStringSubmatch(graph.DOT(f.Plan()), -1)
	mermaidLabels := regexp.MustCompile(`switch_of -->\|"(.*)"\| exit\n`).FindAllStringSubmatch(graph.Mermaid(f.Plan()), -1)
	require.Len(t, dotLabels, len(values)+1)
	require.Len(t, mermaidLabels, len(values)+1)
	var outline []graph.Line
	for _, line := range graph.Outline(f.Plan()) {
		if line.Word == "case" {
			outline = append(outline, line)
		}
	}
	require.Len(t, outline, len(values))
	for i, v := range values {
		shown := strings.NewReplacer(`\\`, `\`, `\"`, `"`, "&amp;", "&").Replace(dotLabels[i][1])
		require.Equal(t, shown, regexp.MustCompile(`#\d+;`).ReplaceAllStringFunc(mermaidLabels[i][1], func(code string) string {
			n, err := strconv.Atoi(code[1 : len(code)-1])
			require.NoError(t, err)
			return string(rune(n))
		}))
		require.Equal(t, shown, outline[i].Name)
		if shown != v {
			unquoted, err := strconv.Unquote(shown)
			require.NoError(t, err, shown)
			require.Equal(t, v, unquoted)
		}
		require.False(t, strings.ContainsFunc(shown, func(r rune) bool { return !strconv.IsPrint(r) }), "%q", shown)
	}
	require.Equal(t, "else", dotLabels[len(values)][1])
	require.Equal(t, "else", mermaidLabels[len(values)][1])
}

func TestLongCasesAreCut(t *testing.T) {
	t.Parallel()
	f := flow.New("Labels", step("first"), switchOf("of", flow.Case(strings.Repeat("ä", 1000), step("x"))).OrFail())
	require.Equal(t, strings.Repeat("ä", 79)+"…", graph.Outline(f.Plan())[2].Name)
	require.Less(t, len(graph.DOT(f.Plan())), 2000)
}

// TestNamesAreNoKeywords has steps that are named like words of the languages, or like each other but for a character that
// the languages do not take.
func TestNamesAreNoKeywords(t *testing.T) {
	t.Parallel()
	names := []string{
		"entry", "exit", "end", "start", "graph", "digraph", "subgraph", "node", "edge", "strict", "default", "style", "class", "click", "flowchart",
		"a-b", "a_b", "a-b_2", "a--b", "a-", "a-gt", "x", "o", "step_x", "items_x",
	}
	var steps []flow.Node[state]
	for _, name := range names {
		steps = append(steps, step(name))
	}
	f := flow.New("graph", steps...)
	require.NoError(t, f.Check())
	p := readMermaid(t, graph.Mermaid(f.Plan()))
	require.Equal(t, p, readDOT(t, graph.DOT(f.Plan())))
	require.Len(t, p.frame, len(names)+2)
	for id := range p.frame {
		require.True(t, id == "entry" || id == "exit" || strings.HasPrefix(id, "step_"), id)
	}
}

func TestOutline(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	for _, line := range graph.Outline(nestedFlow().Plan()) {
		words := slices.DeleteFunc([]string{line.Word, line.Name, line.Note}, func(s string) bool { return s == "" })
		text.WriteString(strings.Repeat("\t", line.Depth) + strings.Join(words, " ") + "\n")
	}
	require.Equal(t, `foreach outer each string
	foreach inner each float64; a failure does not stop the others; 2 of them may fail
		switch kind
			case a
				on-a
			case b
				loop retry
					again
			or fail
	join join_inner
join join_outer
loop first
	turn
	loop within
		turn_within
loop second
	branch both
		seq
			loop arm_loop
				turn_arm
			after
		seq
			switch arm_switch
				case x
					on_x
				case y goes on
				else goes on
			after_x
		branch deep
			left
			right
		join join_deep
	join join_both
foreach many each string; in batches of 500
	loop maybe
		rarely
join count
switch last
	case "" goes on
	case "else" goes on
	case `+strconv.Quote(hostile)+` goes on
	else goes on
`, text.String())
}

func TestShapes(t *testing.T) {
	t.Parallel()
	require.Equal(t, 4, graph.Shapes(trainFlow().Plan()))
	require.Equal(t, 14, graph.Shapes(nestedFlow().Plan()))
	require.Zero(t, graph.Shapes(flow.New("Plain", step("only")).Plan()))
}
