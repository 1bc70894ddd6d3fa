package flowtest_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/artifacts/mem"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
	"github.com/stepwell-flows/stepwell/workflows"
)

// planned lists the steps of a resume's plan: whether they are reused, and why.
func planned(t *testing.T, f *flow.Flow, origin *runs.Run) []string {
	t.Helper()
	p, err := stepwell.NewClient(nil, origin.Store(), stepwell.ClientOptions{User: "test"}).
		PlanResume(t.Context(), f, stepwell.ResumeOptions{Origin: origin.Run.Run})
	require.NoError(t, err)
	var lines []string
	for _, s := range p.Steps {
		verb := "run"
		switch {
		case s.Reuse:
			verb = "reuse"
		case s.Tasks > 0:
			verb = "both"
		}
		lines = append(lines, fmt.Sprintf("%s %s: %s", verb, s.Step, s.Why))
	}
	return lines
}

// Items that finished in batches have no records of their tasks, and tasks are no line of a batch: all items run again, in shards that
// are of the same size, too, and the plan says why.
func TestBatchesThatComeOrGo(t *testing.T) {
	t.Parallel()
	const now, gone = "its foreach has batches now", "its foreach has no batches any more"
	sharded := &workflows.Limits{Tasks: 1, Shard: 10}
	for name, test := range map[string]struct {
		was, is flow.Fan
		limits  *workflows.Limits
		why     string
	}{
		"batches":              {is: flow.Fan{Batch: 4}, why: now},
		"batches after shards": {is: flow.Fan{Batch: 4}, limits: sharded, why: now},
		"none":                 {was: flow.Fan{Batch: 4}, why: gone},
		"shards after batches": {was: flow.Fan{Batch: 4}, limits: sharded, why: gone},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var c calls
			broken := true
			build := func(fan flow.Fan) *flow.Flow {
				return textsFlow(&c, fan, func(_ context.Context, s *texts) error { s.Text = fmt.Sprint(s.Item); return nil },
					func(context.Context, *texts, flow.Inputs[texts]) error {
						if broken {
							return flow.Fail("not yet")
						}
						return nil
					})
			}
			o := flowtest.Options{Limits: test.limits}
			origin := flowtest.Run(t, build(test.was), o)
			require.Equal(t, records.StatusFailed, origin.Status)
			c.take()
			broken = false
			f := build(test.is)
			require.Equal(t, []string{"reuse start: completed", "run write: " + test.why, "run join: failed: not yet", `run end: follows "join"`}, planned(t, f, origin))
			run := flowtest.Resume(t, f, origin, o)
			require.Equal(t, []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}, total(t, run))
			require.Len(t, c.take(), 11)
			write, err := run.Step(t.Context(), "write")
			require.NoError(t, err)
			require.Equal(t, runs.Counts{Total: 10, Completed: 10}, write.Counts)
			require.Contains(t, planned(t, f, run), "reuse write: 10 items")
			require.Contains(t, planned(t, build(test.was), run), "reuse write: all items", "the join of other items is taken over")
		})
	}

	// An inner foreach runs again where it had not come to its join.
	origin := flowtest.Run(t, nestedFlow(flow.Fan{Batch: 2}, "cell[2,1]"), flowtest.Options{})
	require.Equal(t, records.StatusFailed, origin.Status)
	require.Subset(t, planned(t, nestedFlow(flow.Fan{}, ""), origin), []string{"run pos: " + gone, "run cell: " + gone, "both row: 2 of 3 items are reused"})
	origin = flowtest.Run(t, nestedFlow(flow.Fan{}, "all"), flowtest.Options{})
	require.Equal(t, records.StatusFailed, origin.Status)
	require.Subset(t, planned(t, nestedFlow(flow.Fan{Batch: 2}, ""), origin), []string{"reuse pos: all items", "reuse cell: all items", "reuse row: all 3 items"})
}

type cells struct{ Row, Turn int }

// nestedFlow has a foreach, a loop and a switch for each of three rows, and fails at a task.
func nestedFlow(fan flow.Fan, fails string) *flow.Flow {
	step := func(name string) flow.Node[cells] {
		return flow.Step(name, func(ctx context.Context, s *cells) error {
			if i := flow.Current(ctx); i.Task == fails {
				return flow.Fail("broken")
			} else if i.Step == "turn" {
				s.Turn++
			}
			return nil
		})
	}
	fan.OnFailure = flow.FinishAll
	return flow.New("NestedFlow", flow.Foreach("rows", func(*cells) []int { return []int{0, 1, 2} }, func(s *cells, i int) { s.Row = i },
		flow.Foreach("cols", func(*cells) []int { return make([]int, 2) }, func(*cells, int) {}, step("pos"), step("cell")).With(fan).
			Join("row", func(context.Context, *cells, flow.Inputs[cells]) error { return nil }),
		flow.Loop("turns", func(s *cells) bool { return s.Turn < 2 }, step("turn")),
		flow.Switch("kind", func(s *cells) int { return s.Row % 2 }, flow.Case(0, step("even")), flow.Case(1, step("odd"))).Else(step("other")),
	).With(flow.Fan{OnFailure: flow.FinishAll}).Join("all", func(ctx context.Context, _ *cells, _ flow.Inputs[cells]) error {
		if fails == "all" {
			return flow.Fail("broken")
		}
		return nil
	}))
}

// Of an inner foreach, a case and a loop the plan knows how many tasks are finished, and that nothing is left once all items have come
// past them.
func TestPlanOfNestedShapes(t *testing.T) {
	t.Parallel()
	for fails, want := range map[string][]string{
		"cell[2,1]": {
			"both pos: 6 items are reused", "both cell: 5 items are reused", "both row: 2 of 3 items are reused", "both turn: 4 turns are reused",
			"both even: 1 of 3 items are reused", "both odd: 1 of 3 items are reused", "run other: did not finish", "run all: did not finish",
		},
		"even[2]": {
			"reuse pos: all 6 items", "reuse cell: all 6 items", "reuse row: all 3 items", "both turn: 6 turns are reused",
			"both even: 1 of 3 items are reused", "both odd: 1 of 3 items are reused", "run other: did not finish", "run all: did not finish",
		},
		"all": {
			"reuse pos: all 6 items", "reuse cell: all 6 items", "reuse row: all 3 items", "reuse turn: all 6 turns",
			"reuse even: all 2 items", "reuse odd: all 1 item", "run other: not on the way that the run took", "run all: failed: broken",
		},
	} {
		t.Run(fails, func(t *testing.T) {
			t.Parallel()
			origin := flowtest.Run(t, nestedFlow(flow.Fan{}, fails), flowtest.Options{})
			require.Equal(t, records.StatusFailed, origin.Status)
			require.Equal(t, want, planned(t, nestedFlow(flow.Fan{}, ""), origin))
		})
	}
}

// A batch has a line for each item, whatever its body is.
func TestPlanOfABatch(t *testing.T) {
	t.Parallel()
	build := func(fails string) *flow.Flow {
		step := func(name string) flow.Node[cells] {
			return flow.Step(name, func(ctx context.Context, s *cells) error {
				if s.Turn++; flow.Current(ctx).Task == fails {
					return flow.Fail("broken")
				}
				return nil
			})
		}
		return flow.New("BatchFlow", flow.Foreach("rows", func(*cells) []int { return make([]int, 5) }, func(s *cells, i int) {},
			flow.Loop("turns", func(s *cells) bool { return s.Turn < 2 }, step("turn")),
			flow.Switch("kind", func(s *cells) bool { return true }, flow.Case(true, step("yes"))).Else(step("no")),
		).With(flow.Fan{Batch: 2, OnFailure: flow.FinishAll}).Join("all", func(ctx context.Context, _ *cells, _ flow.Inputs[cells]) error {
			if fails == "all" {
				return flow.Fail("broken")
			}
			return nil
		}))
	}
	require.Equal(t, []string{"both turn: 4 of 5 items are reused", "both yes: 4 of 5 items are reused", "both no: 4 of 5 items are reused", "run all: did not finish"},
		planned(t, build(""), flowtest.Run(t, build("yes[3]"), flowtest.Options{})))
	require.Equal(t, []string{"reuse turn: all 5 items", "reuse yes: all 5 items", "reuse no: all 5 items", "run all: failed: broken"},
		planned(t, build(""), flowtest.Run(t, build("all"), flowtest.Options{})))
}

// A case of a switch may have nothing to do.
func TestPlanOfAnEmptyCase(t *testing.T) {
	t.Parallel()
	build := func(fails string) *flow.Flow {
		step := func(name string) flow.Node[cells] {
			return flow.Step(name, func(ctx context.Context, s *cells) error {
				if flow.Current(ctx).Task == fails {
					return flow.Fail("broken")
				}
				return nil
			})
		}
		return flow.New("EmptyFlow", flow.Foreach("rows", func(*cells) []int { return make([]int, 3) }, func(*cells, int) {},
			step("begin"),
			flow.Switch("kind", func(*cells) string { return "skip" }, flow.Case[cells]("skip")).Else(step("no")),
		).Join("all", func(context.Context, *cells, flow.Inputs[cells]) error { return nil }))
	}
	require.Equal(t, []string{"both begin: 2 of 3 items are reused", "run no: did not finish", "run all: did not finish"},
		planned(t, build(""), flowtest.Run(t, build("begin[1]"), flowtest.Options{})))
}

// reads counts the documents of shards and batches that are read.
type reads struct {
	*mem.Driver
	of map[string]int
	mu sync.Mutex
}

func (d *reads) Get(ctx context.Context, key string, offset int64) (io.ReadCloser, error) {
	d.mu.Lock()
	if strings.Contains(key, "/batches/") || strings.Contains(key, "/fans/") {
		d.of[key]++
	}
	d.mu.Unlock()
	return d.Driver.Get(ctx, key, offset)
}

// What a plan says of the steps of a batch's body is the same for all of them, and its documents are read once.
func TestPlanReadsBatchesOnce(t *testing.T) {
	t.Parallel()
	pass := func(context.Context, *cells) error { return nil }
	f := flow.New("BatchFlow", flow.Foreach("rows", func(*cells) []int { return make([]int, 20) }, func(s *cells, i int) {},
		flow.Seq(flow.Step("one", pass), flow.Step("two", pass), flow.Step("three", pass), flow.Step("four", func(ctx context.Context, _ *cells) error {
			if flow.Current(ctx).Index[0] == 7 {
				return flow.Fail("broken")
			}
			return nil
		})),
	).With(flow.Fan{Batch: 2, OnFailure: flow.FinishAll}).Join("all", func(context.Context, *cells, flow.Inputs[cells]) error { return nil }))
	d := &reads{Driver: mem.New()}
	d.of = map[string]int{}
	origin := flowtest.Run(t, f, flowtest.Options{Store: artifacts.New(d, artifacts.Options{})})
	clear(d.of)
	require.Contains(t, planned(t, f, origin), "both three: 19 of 20 items are reused")
	require.NotEmpty(t, d.of)
	for key, n := range d.of {
		require.Equal(t, 1, n, key)
	}
}
