package conformance

import (
	"fmt"
	"strings"

	"github.com/stepwell-flows/stepwell/flow"
)

// graph is one of Metaflow's fifteen graphs, or of ours.
type graph struct {
	name  string
	build func(p *plot) *flow.Flow
	// trail is the trail of the state in the end: all tasks that run, those of items and arms in their order.
	trail []string
	// results is what the foreach of the graph made.
	results []string
}

// words are tasks of steps outside of foreach shapes and loops.
func words(text string) []string { return strings.Fields(text) }

// each makes the names of a task for n items or turns.
func each(n int, steps ...string) []string {
	var tasks []string
	for i := range n {
		for _, step := range steps {
			tasks = append(tasks, fmt.Sprintf("%s[%d]", step, i))
		}
	}
	return tasks
}

func trail(parts ...[]string) []string {
	var all []string
	for _, part := range parts {
		all = append(all, part...)
	}
	return all
}

func letters(text string) []string { return strings.Split(text, "") }

// graphs are Metaflow's fifteen, by its names.
func graphs() []graph {
	return []graph{
		linear(), branch(), nestedBranches(), smallForeach(), simpleForeach(), nestedForeach(), smallParallel(),
		simpleSwitch(), nestedSwitch(), branchInSwitch(), foreachInSwitch(), switchInBranch(), switchInForeach(),
		recursiveSwitch(), recursiveSwitchInsideForeach(),
	}
}

func linear() graph {
	return graph{name: "single-linear-step", trail: words("start a end"), build: func(p *plot) *flow.Flow {
		return flow.New("singlelinearstep", p.step("start", nil), p.step("a", nil), p.step("end", nil))
	}}
}

func branch() graph {
	return graph{name: "single-and-branch", trail: words("start a b join end"), build: func(p *plot) *flow.Flow {
		return flow.New("singleandbranch",
			p.step("start", nil),
			p.join(flow.Branch("split", p.step("a", nil), p.step("b", nil)), "join", nil),
			p.step("end", nil),
		)
	}}
}

func nestedBranches() graph {
	var halves func(p *plot, path string) flow.Node[state]
	halves = func(p *plot, path string) flow.Node[state] {
		if len(path) == 3 {
			return p.step("leaf_"+path, nil)
		}
		return p.join(flow.Branch("split_"+path+"x",
			flow.Seq(p.step("left_"+path, nil), halves(p, path+"a")),
			flow.Seq(p.step("right_"+path, nil), halves(p, path+"b")),
		), "join_"+path+"x", nil)
	}
	var tasks func(path string) []string
	tasks = func(path string) []string {
		if len(path) == 3 {
			return []string{"leaf_" + path}
		}
		return trail([]string{"left_" + path}, tasks(path+"a"), []string{"right_" + path}, tasks(path+"b"), []string{"join_" + path + "x"})
	}
	return graph{name: "nested-branches", trail: trail(words("start"), tasks(""), words("end")), build: func(p *plot) *flow.Flow {
		return flow.New("nestedbranches", p.step("start", nil), halves(p, ""), p.step("end", nil))
	}}
}

// made collects what the items made.
func made(s *state, inputs []*state) {
	for _, in := range inputs {
		s.Results = append(s.Results, in.Made)
	}
}

func smallForeach() graph {
	return graph{
		name:    "small-foreach",
		trail:   trail(words("start foreach_split"), each(3, "foreach_inner"), words("foreach_join end")),
		results: words("1! 2! 3!"),
		build: func(p *plot) *flow.Flow {
			return flow.New("smallforeach",
				p.step("start", nil),
				p.step("foreach_split", nil),
				p.join(flow.Foreach("arr", func(*state) []string { return words("1 2 3") }, bindX,
					p.step("foreach_inner", func(s *state) { s.Made = s.X + "!" }),
				), "foreach_join", made),
				p.step("end", nil),
			)
		},
	}
}

func simpleForeach() graph {
	return graph{
		name:    "simple-foreach",
		trail:   trail(words("start foreach_split"), each(3, "foreach_first", "foreach_second"), words("foreach_join end")),
		results: words("1! 2! 3!"),
		build: func(p *plot) *flow.Flow {
			return flow.New("simpleforeach",
				p.step("start", nil),
				p.step("foreach_split", nil),
				p.join(flow.Foreach("arr", func(*state) []string { return words("1 2 3") }, bindX,
					p.step("foreach_first", func(s *state) { s.Made = s.X }),
					p.step("foreach_second", func(s *state) { s.Made += "!" }),
				), "foreach_join", made),
				p.step("end", nil),
			)
		},
	}
}

func bindX(s *state, x string)  { s.X = x }
func bindY(s *state, y string)  { s.Y = y }
func bindZ(s *state, z string)  { s.Z = z }
func bindItem(s *state, i item) { s.Item = i }

func over(text string) func(*state) []string { return func(*state) []string { return letters(text) } }

// gather appends what the joins of the items gathered.
func gather(s *state, inputs []*state) {
	for _, in := range inputs {
		s.Results = append(s.Results, in.Results...)
	}
}

func nestedForeach() graph {
	var tasks, leaves []string
	for i, x := range letters("abc") {
		tasks = append(tasks, fmt.Sprintf("foreach_split_y[%d]", i))
		for j, y := range letters("de") {
			tasks = append(tasks, fmt.Sprintf("foreach_split_z[%d,%d]", i, j))
			for k, z := range letters("fghijk") {
				tasks = append(tasks, fmt.Sprintf("foreach_inner[%d,%d,%d]", i, j, k))
				leaves = append(leaves, x+y+z)
			}
			tasks = append(tasks, fmt.Sprintf("foreach_join_z[%d,%d]", i, j))
		}
		tasks = append(tasks, fmt.Sprintf("foreach_join_y[%d]", i))
	}
	return graph{
		name:    "nested-foreach",
		trail:   trail(words("start foreach_split_x"), tasks, words("foreach_join_x end")),
		results: leaves,
		build: func(p *plot) *flow.Flow {
			return flow.New("nestedforeach",
				p.step("start", nil),
				p.step("foreach_split_x", nil),
				p.join(flow.Foreach("x", over("abc"), bindX,
					p.step("foreach_split_y", nil),
					p.join(flow.Foreach("y", over("de"), bindY,
						p.step("foreach_split_z", nil),
						p.join(flow.Foreach("z", over("fghijk"), bindZ,
							p.step("foreach_inner", func(s *state) { s.Made = s.X + s.Y + s.Z }),
						), "foreach_join_z", made),
					), "foreach_join_y", gather),
				), "foreach_join_x", gather),
				p.step("end", nil),
			)
		},
	}
}

// A gang of nodes is a foreach over their numbers: Stepwell knows none that must start together.
func smallParallel() graph {
	return graph{
		name:    "small-parallel",
		trail:   trail(words("start parallel_split"), each(4, "parallel_inner"), words("parallel_join end")),
		results: words("node0 node1 node2 node3"),
		build: func(p *plot) *flow.Flow {
			return flow.New("smallparallel",
				p.step("start", nil),
				p.step("parallel_split", nil),
				p.join(flow.Foreach("nodes", func(*state) []int { return []int{0, 1, 2, 3} }, func(s *state, n int) { s.X = fmt.Sprint(n) },
					p.step("parallel_inner", func(s *state) { s.Made = "node" + s.X }),
				).With(flow.Fan{MaxParallel: 4}), "parallel_join", made),
				p.step("end", nil),
			)
		},
	}
}

func value(s *state) string { return s.Value }
func inner(s *state) string { return s.Inner }

func setValue(value string) func(*state) { return func(s *state) { s.Value = value } }

func simpleSwitch() graph {
	return graph{name: "simple_switch", trail: words("start b end"), build: func(p *plot) *flow.Flow {
		return flow.New("simple_switch",
			p.step("start", setValue("case2")),
			flow.Switch("condition", value,
				flow.Case("case1", p.step("a", nil)),
				flow.Case("case2", p.step("b", nil)),
				flow.Case("case3", p.step("c", nil)),
			).OrFail(),
			p.step("end", nil),
		)
	}}
}

func nestedSwitch() graph {
	return graph{name: "nested_switch", trail: words("start switch2 d end"), build: func(p *plot) *flow.Flow {
		return flow.New("nested_switch",
			p.step("start", setValue("case1")),
			flow.Switch("condition", value,
				flow.Case("case1",
					p.step("switch2", func(s *state) { s.Inner = "case2_2" }),
					flow.Switch("condition2", inner,
						flow.Case("case2_1", p.step("c", nil)),
						flow.Case("case2_2", p.step("d", nil)),
					).OrFail()),
				flow.Case("case2", p.step("b", nil)),
			).OrFail(),
			p.step("end", nil),
		)
	}}
}

func branchInSwitch() graph {
	return graph{
		name: "branch_in_switch", trail: words("start process p1 p2 join end"), results: words("p1_done p2_done"),
		build: func(p *plot) *flow.Flow {
			return flow.New("branch_in_switch",
				p.step("start", setValue("process")),
				flow.Switch("condition", value,
					flow.Case("process",
						p.step("process", nil),
						p.join(flow.Branch("paths",
							p.step("p1", func(s *state) { s.Made = "p1_done" }),
							p.step("p2", func(s *state) { s.Made = "p2_done" }),
						), "join", made)),
					flow.Case("skip", p.step("skip", nil)),
				).OrFail(),
				p.step("end", nil),
			)
		},
	}
}

func foreachInSwitch() graph {
	return graph{
		name: "foreach_in_switch", trail: trail(words("start process"), each(3, "do_work"), words("join end")), results: words("1! 2! 3!"),
		build: func(p *plot) *flow.Flow {
			return flow.New("foreach_in_switch",
				p.step("start", setValue("process")),
				flow.Switch("condition", value,
					flow.Case("process",
						p.step("process", nil),
						p.join(flow.Foreach("items", func(*state) []string { return words("1 2 3") }, bindX,
							p.step("do_work", func(s *state) { s.Made = s.X + "!" }),
						), "join", made)),
					flow.Case("skip", p.step("skip", nil)),
				).OrFail(),
				p.step("end", nil),
			)
		},
	}
}

func switchInBranch() graph {
	return graph{name: "switch_in_branch", trail: words("start a c b join end"), build: func(p *plot) *flow.Flow {
		return flow.New("switch_in_branch",
			p.step("start", nil),
			p.join(flow.Branch("split",
				flow.Seq(
					p.step("a", setValue("case1")),
					flow.Switch("condition", value,
						flow.Case("case1", p.step("c", nil)),
						flow.Case("case2", p.step("d", nil)),
					).OrFail()),
				p.step("b", nil),
			), "join", nil),
			p.step("end", nil),
		)
	}}
}

func switchInForeach() graph {
	return graph{
		name: "switch_in_foreach",
		trail: trail(words("start"),
			words("process_item[0] handle_a[0] process_item[1] handle_b[1] process_item[2] handle_a[2]"), words("join end")),
		results: words("A(200) B(100.0) A(600)"),
		build: func(p *plot) *flow.Flow {
			return flow.New("switch_in_foreach",
				p.step("start", nil),
				p.join(flow.Foreach("items", func(*state) []item { return []item{{"A", 100}, {"B", 200}, {"A", 300}} }, bindItem,
					p.step("process_item", func(s *state) { s.Value = s.Item.Kind }),
					flow.Switch("kind", value,
						flow.Case("A", p.step("handle_a", func(s *state) { s.Made = fmt.Sprintf("A(%.0f)", s.Item.Number*2) })),
						flow.Case("B", p.step("handle_b", func(s *state) { s.Made = fmt.Sprintf("B(%.1f)", s.Item.Number/2) })),
					).OrFail(),
				), "join", made),
				p.step("end", nil),
			)
		},
	}
}

// notYet is the condition of the loops.
func notYet(s *state) bool { return s.Count < s.Limit }

func countUp(s *state) { s.Count++ }

func recursiveSwitch() graph {
	return graph{
		name: "recursive_switch", trail: trail(words("start"), each(10, "loop_step"), words("exit_loop end")), results: words("10"),
		build: func(p *plot) *flow.Flow {
			return flow.New("recursive_switch",
				p.step("start", nil),
				flow.Loop("loop", notYet, p.step("loop_step", countUp)),
				p.step("exit_loop", func(s *state) { s.Results = []string{fmt.Sprint(s.Count)} }),
				p.step("end", nil),
			)
		},
	}
}

func recursiveSwitchInsideForeach() graph {
	var tasks []string
	for i, turns := range []int{2, 0, 3} {
		tasks = append(tasks, fmt.Sprintf("start_loop[%d]", i))
		for turn := range turns {
			tasks = append(tasks, fmt.Sprintf("loop_body[%d,%d]", i, turn))
		}
		tasks = append(tasks, fmt.Sprintf("exit_loop[%d]", i))
	}
	return graph{
		name: "recursive_switch_inside_foreach", trail: trail(words("start"), tasks, words("join end")), results: words("2 0 3"),
		build: func(p *plot) *flow.Flow {
			return flow.New("recursive_switch_inside_foreach",
				p.step("start", nil),
				p.join(flow.Foreach("items", func(*state) []item { return []item{{Number: 2}, {Number: 0}, {Number: 3}} }, bindItem,
					p.step("start_loop", func(s *state) { s.Count = s.Limit - int(s.Item.Number) }),
					flow.Loop("loop", notYet, p.step("loop_body", countUp)),
					p.step("exit_loop", func(s *state) { s.Made = fmt.Sprint(s.Item.Number) }),
				), "join", made),
				p.step("end", nil),
			)
		},
	}
}

// ours are graphs that Metaflow has not.
func ours() []graph {
	return []graph{everythingNested(), bareForeach(), batches()}
}

// everythingNested is a branch in a foreach in a switch in a loop.
func everythingNested() graph {
	var tasks []string
	for turn := range 3 {
		tasks = append(tasks, fmt.Sprintf("turn[%d]", turn))
		if turn == 1 {
			tasks = append(tasks, "rest[1]")
			continue
		}
		for i := range 2 {
			tasks = append(tasks, fmt.Sprintf("left[%d,%d]", turn, i), fmt.Sprintf("right[%d,%d]", turn, i), fmt.Sprintf("both[%d,%d]", turn, i))
		}
		tasks = append(tasks, fmt.Sprintf("collect[%d]", turn))
	}
	return graph{
		name: "branch_in_foreach_in_switch_in_loop", trail: trail(words("start"), tasks, words("end")),
		results: words("1pL 1pR 1qL 1qR 3pL 3pR 3qL 3qR"),
		build: func(p *plot) *flow.Flow {
			return flow.New("branch_in_foreach_in_switch_in_loop",
				p.step("start", func(s *state) { s.Count = s.Limit - 3 }),
				flow.Loop("loop", notYet,
					p.step("turn", countUp),
					flow.Switch("odd", func(s *state) bool { return (s.Limit-s.Count)%2 == 0 },
						flow.Case(true,
							p.join(flow.Foreach("pq", over("pq"), bindX,
								p.join(flow.Branch("sides",
									p.step("left", func(s *state) { s.Made = fmt.Sprint(3-(s.Limit-s.Count)) + s.X + "L" }),
									p.step("right", func(s *state) { s.Made = fmt.Sprint(3-(s.Limit-s.Count)) + s.X + "R" }),
								), "both", func(s *state, inputs []*state) { s.Results = nil; made(s, inputs) }),
							), "collect", gather)),
					).Else(p.step("rest", nil)),
				),
				p.step("end", nil),
			)
		},
	}
}

// bareForeach begins with a foreach in a foreach, with no step before either, and has one without items.
func bareForeach() graph {
	var tasks, leaves []string
	for i, x := range letters("ab") {
		for j, y := range letters("cd") {
			tasks = append(tasks, fmt.Sprintf("pair[%d,%d]", i, j))
			leaves = append(leaves, x+y)
		}
		tasks = append(tasks, fmt.Sprintf("row[%d]", i))
	}
	return graph{
		name: "bare_foreach", trail: trail(tasks, words("rows none end")), results: leaves,
		build: func(p *plot) *flow.Flow {
			return flow.New("bare_foreach",
				p.join(flow.Foreach("x", over("ab"), bindX,
					p.join(flow.Foreach("y", over("cd"), bindY,
						p.step("pair", func(s *state) { s.Made = s.X + s.Y }),
					), "row", made),
				), "rows", gather),
				p.join(flow.Foreach("nothing", func(*state) []string { return nil }, bindX, p.step("never", nil)), "none", gather),
				p.step("end", nil),
			)
		},
	}
}

// batches runs items in batches, the last of which is not full.
func batches() graph {
	var results []string
	for i := range 10 {
		results = append(results, fmt.Sprint(i*i))
	}
	return graph{
		name: "batches", trail: trail(words("start"), each(10, "square"), words("squares end")), results: results,
		build: func(p *plot) *flow.Flow {
			return flow.New("batches",
				p.step("start", nil),
				p.join(flow.Foreach("numbers", func(*state) []int { return []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9} }, func(s *state, n int) { s.Count = n },
					p.step("square", func(s *state) { s.Made = fmt.Sprint(s.Count * s.Count) }),
				).With(flow.Fan{Batch: 4}), "squares", made),
				p.step("end", nil),
			)
		},
	}
}
