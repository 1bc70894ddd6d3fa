package graph_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/graph/formats/dot"
	"gonum.org/v1/gonum/graph/formats/dot/ast"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/graph"
)

// picture is a diagram as it is read back.
type picture struct {
	frame map[string]string   // node → the innermost frame around it, "" for none
	edges map[string][]string // node → where its edges lead, once for each edge
	title map[string]string   // frame → the frame around it
}

// TestDiagramsAreTheFlow reads the diagrams of many flows back: a step leads to exactly those that can follow it.
func TestDiagramsAreTheFlow(t *testing.T) {
	t.Parallel()
	plans := []flow.Plan{trainFlow().Plan(), nestedFlow().Plan()}
	for seed := range uint64(300) {
		f := randomFlow(rand.New(rand.NewPCG(seed, 0)))
		require.NoError(t, f.Check())
		plans = append(plans, f.Plan())
	}
	for _, plan := range plans {
		fromDOT, fromMermaid := readDOT(t, graph.DOT(plan)), readMermaid(t, graph.Mermaid(plan))
		require.Equal(t, fromDOT, fromMermaid)
		require.Equal(t, follows(plan), fromDOT.follows(), graph.DOT(plan))

		frames := map[string]string{} // of steps, joins and frames, by name
		framesOf(plan.Root, "", frames)
		for id, in := range fromDOT.frame {
			if name, isStep := strings.CutPrefix(id, "step_"); isStep {
				require.Equal(t, frames[name], in, name)
			}
		}
		for id, in := range fromDOT.title {
			require.Equal(t, frames[id], in, id)
		}
		into := map[string]int{}
		for from, targets := range fromDOT.edges {
			require.Contains(t, fromDOT.frame, from)
			for _, to := range targets {
				require.Contains(t, fromDOT.frame, to)
				into[to]++
			}
		}
		for id := range fromDOT.frame {
			require.Equal(t, id == "entry", into[id] == 0, id)
			require.Equal(t, id == "exit", len(fromDOT.edges[id]) == 0, id)
		}
	}
}

// follows lists, for each step and the entry, the steps and the exit that it leads to over what is no step.
func (p picture) follows() map[string][]string {
	isStep := func(id string) bool { return id == "entry" || id == "exit" || strings.HasPrefix(id, "step_") }
	all := map[string][]string{}
	for from := range p.frame {
		if !isStep(from) || from == "exit" {
			continue
		}
		seen := map[string]bool{}
		var visit func(id string)
		visit = func(id string) {
			for _, to := range p.edges[id] {
				if seen[to] {
					continue
				}
				seen[to] = true
				if !isStep(to) {
					visit(to)
				}
			}
		}
		visit(from)
		for to := range seen {
			if isStep(to) {
				all[strings.TrimPrefix(from, "step_")] = append(all[strings.TrimPrefix(from, "step_")], strings.TrimPrefix(to, "step_"))
			}
		}
	}
	for _, to := range all {
		slices.Sort(to)
	}
	return all
}

// language is what sequences of steps a node runs, as far as needed to say which steps follow each other. A branch runs one
// of its arms here: its steps follow each other arm by arm.
type language struct {
	first, last map[string]bool
	empty       bool
}

func of(name string) language {
	name = strings.ReplaceAll(name, "-", "_") // as in the diagrams
	return language{map[string]bool{name: true}, map[string]bool{name: true}, false}
}

// follows works out from the plan what the diagrams must say.
func follows(p flow.Plan) map[string][]string {
	pairs := map[[2]string]bool{}
	then := func(a, b language) language {
		for from := range a.last {
			for to := range b.first {
				pairs[[2]string{from, to}] = true
			}
		}
		sum := language{maps.Clone(a.first), maps.Clone(b.last), a.empty && b.empty}
		if a.empty {
			maps.Copy(sum.first, b.first)
		}
		if b.empty {
			maps.Copy(sum.last, a.last)
		}
		return sum
	}
	either := func(all []language) language {
		sum := language{map[string]bool{}, map[string]bool{}, false}
		for _, l := range all {
			maps.Copy(sum.first, l.first)
			maps.Copy(sum.last, l.last)
			sum.empty = sum.empty || l.empty
		}
		return sum
	}
	nothing := language{map[string]bool{}, map[string]bool{}, true}
	var visit func(n flow.PlanNode) language
	visit = func(n flow.PlanNode) language {
		var parts []language
		for _, child := range n.Nodes {
			parts = append(parts, visit(child))
		}
		switch n.Kind {
		case flow.KindStep:
			return of(n.Name)
		case flow.KindSeq:
			sum := nothing
			for _, part := range parts {
				sum = then(sum, part)
			}
			return sum
		case flow.KindBranch, flow.KindForeach:
			return then(either(parts), visit(*n.Join))
		case flow.KindSwitch:
			return either(parts)
		case flow.KindLoop:
			then(parts[0], parts[0])
			parts[0].empty = true
			return parts[0]
		case flow.KindDecide:
		}
		return nothing
	}
	then(then(of("entry"), visit(p.Root)), of("exit"))
	all := map[string][]string{}
	for pair := range pairs {
		all[pair[0]] = append(all[pair[0]], pair[1])
	}
	for _, to := range all {
		slices.Sort(to)
	}
	return all
}

// framesOf finds the foreach whose body a step is in, and the frames around frames.
func framesOf(n flow.PlanNode, in string, frames map[string]string) {
	switch n.Kind {
	case flow.KindStep:
		frames[strings.ReplaceAll(n.Name, "-", "_")] = in
	case flow.KindForeach:
		frames["items_"+n.Name] = in
		framesOf(*n.Join, in, frames)
		in = "items_" + n.Name
	case flow.KindBranch:
		framesOf(*n.Join, in, frames)
	case flow.KindSeq, flow.KindSwitch, flow.KindLoop, flow.KindDecide:
	}
	for _, child := range n.Nodes {
		framesOf(child, in, frames)
	}
}

func readDOT(t *testing.T, text string) picture {
	t.Helper()
	file, err := dot.ParseString(text)
	require.NoError(t, err, text)
	require.Len(t, file.Graphs, 1)
	require.True(t, file.Graphs[0].Directed)
	p := picture{map[string]string{}, map[string][]string{}, map[string]string{}}
	var visit func(stmts []ast.Stmt, in string)
	visit = func(stmts []ast.Stmt, in string) {
		for _, stmt := range stmts {
			switch s := stmt.(type) {
			case *ast.NodeStmt:
				require.NotContains(t, p.frame, s.Node.ID)
				p.frame[s.Node.ID] = in
			case *ast.Subgraph:
				id, isCluster := strings.CutPrefix(s.ID, "cluster_")
				require.True(t, isCluster, s.ID)
				p.title[id] = in
				visit(s.Stmts, id)
			case *ast.EdgeStmt:
				from, to := s.From.(*ast.Node).ID, s.To.Vertex.(*ast.Node).ID
				p.edges[from] = append(p.edges[from], to)
			}
		}
	}
	visit(file.Graphs[0].Stmts, "")
	return p
}

// The lines of a Mermaid diagram. What is in quotes must not have anything that Mermaid does not read as text.
var (
	text       = `"(?:[^"#&<>{}|;:$\\` + "`" + `\n]|#\d+;|<br/>)*"`
	nodeLine   = regexp.MustCompile(`^(\w+)(?:\(` + text + `\)|\[/` + text + `\\\]|\[\\` + text + `/\]|\{` + text + `\}|\{\{` + text + `\}\}|\(\[` + text + `\]\)|\(\(\(" "\)\)\))$`)
	frameLine  = regexp.MustCompile(`^subgraph (\w+) \[` + text + `\]$`)
	arrowLine  = regexp.MustCompile(`^(\w+) (?:-->|-\.->)(?:\|` + text + `\|)? (\w+)$`)
	headerLine = "flowchart TD"
)

func readMermaid(t *testing.T, text string) picture {
	t.Helper()
	p := picture{map[string]string{}, map[string][]string{}, map[string]string{}}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	require.Equal(t, headerLine, lines[0])
	around := []string{""}
	for _, line := range lines[1:] {
		line = strings.TrimSpace(line)
		in := around[len(around)-1]
		if m := nodeLine.FindStringSubmatch(line); m != nil {
			require.NotContains(t, p.frame, m[1])
			p.frame[m[1]] = in
		} else if m := frameLine.FindStringSubmatch(line); m != nil {
			p.title[m[1]] = in
			around = append(around, m[1])
		} else if m := arrowLine.FindStringSubmatch(line); m != nil {
			p.edges[m[1]] = append(p.edges[m[1]], m[2])
		} else {
			require.Equal(t, "end", line, text)
			around = around[:len(around)-1]
		}
	}
	require.Len(t, around, 1)
	return p
}

// randomFlow nests shapes at random, with no step before, between or in them where that is allowed.
func randomFlow(r *rand.Rand) *flow.Flow {
	g := &generator{Rand: r}
	return flow.New("RandomFlow", g.nodes(3, 1)...)
}

type generator struct {
	*rand.Rand
	names int
}

func (g *generator) name() string {
	g.names++
	return fmt.Sprintf("n%d", g.names)
}

// nodes are at least least nodes, one of which is a step then.
func (g *generator) nodes(depth, least int) []flow.Node[state] {
	nodes := make([]flow.Node[state], g.IntN(4))
	for i := range nodes {
		nodes[i] = g.node(depth)
	}
	if least > 0 {
		nodes = slices.Insert(nodes, g.IntN(len(nodes)+1), step(g.name()))
	}
	return nodes
}

func (g *generator) node(depth int) flow.Node[state] {
	if depth == 0 {
		return step(g.name())
	}
	switch g.IntN(5) {
	case 0:
		return flow.Branch(g.name(), flow.Seq(g.nodes(depth-1, 1)...), flow.Seq(g.nodes(depth-1, 1)...)).Join(g.name(), merge)
	case 1:
		body := append(g.nodes(depth-1, 0), g.node(depth-1))
		return flow.Foreach(g.name(), alphas, setAlpha, body...).Join(g.name(), merge)
	case 2:
		s := switchOf(g.name(), flow.Case("a", g.nodes(depth-1, 0)...), flow.Case("b", g.nodes(depth-1, 0)...))
		if g.IntN(2) == 0 {
			return s.OrFail()
		}
		return s.Else(g.nodes(depth-1, 0)...)
	case 3:
		return loop(g.name(), g.nodes(depth-1, 1)...)
	default:
		return step(g.name())
	}
}
