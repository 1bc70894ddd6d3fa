package flowtest_test

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
	"github.com/stepwell-flows/stepwell/workflows"
)

// trail is a state whose steps write down the way they went.
type trail struct {
	Items int `param:"items" default:"3"`
	Turns int `param:"turns" default:"2"`
	Break int `param:"break" default:"-1"`

	Item  int
	Turn  int
	Paths []string
	Ends  []string
}

func (s *trail) items() []int {
	var all []int
	for i := range s.Items {
		all = append(all, i)
	}
	return all
}
func (s *trail) setItem(i int) { s.Item = i }
func (s *trail) odd() bool     { return s.Item%2 == 1 }
func (s *trail) more() bool    { return s.Turn < s.Turns }
func (s *trail) big() bool     { return s.Items > 100 }
func (s *trail) whether() bool { return s.Turn%2 == 1 }
func (s *trail) never() bool   { return false }
func (s *trail) nobody() []int { return nil }
func (s *trail) resetTurn()    { s.Turn = 0 }
func visit(step string) func(context.Context, *trail) error {
	return func(_ context.Context, s *trail) error {
		s.Paths = append(slices.Clone(s.Paths), step)
		return nil
	}
}

func turn(_ context.Context, s *trail) error {
	s.Turn++
	return visit("turn")(context.Background(), s)
}

func breakable(_ context.Context, s *trail) error {
	if s.Item == s.Break {
		return flow.Fail("item %d is broken", s.Item)
	}
	return visit("fit")(context.Background(), s)
}

func gather(_ context.Context, s *trail, in flow.Inputs[trail]) error {
	s.Ends = nil
	for _, item := range in.All() {
		s.Ends = append(s.Ends, fmt.Sprint(item.Paths))
	}
	s.resetTurn()
	return nil
}

// trailFlow has every shape, and shapes within shapes.
func trailFlow(fan flow.Fan) *flow.Flow {
	return flow.New("Trail",
		flow.Step("start", visit("start")),
		flow.Branch("arms",
			flow.Step("left", visit("left")),
			flow.Seq(flow.Step("right", visit("right")), flow.Loop("inner", (*trail).more, flow.Step("turn", turn))),
		).Join("merge", gather),
		flow.Loop("outer", (*trail).more,
			flow.Step("turn_outer", turn),
			flow.Switch("odd_turn", (*trail).whether,
				flow.Case(true, flow.Step("odd_one", visit("odd_one"))),
			).Else(flow.Step("even_one", visit("even_one"))),
		),
		flow.Switch("size", (*trail).big,
			flow.Case(true, flow.Step("huge", visit("huge"))),
		).Else(flow.Loop("none", (*trail).never, flow.Step("no_turn", visit("no_turn")))),
		flow.Foreach("grid", (*trail).items, (*trail).setItem,
			flow.Step("fit", breakable),
			flow.Switch("parity", (*trail).odd,
				flow.Case(true, flow.Step("refine", visit("refine"))),
			).Else(flow.Step("keep", visit("keep"))),
		).With(fan).Join("best", gather),
		flow.Foreach("empty", (*trail).nobody, (*trail).setItem, flow.Step("nobody", visit("nobody"))).Join("closed", gather),
		flow.Step("end", visit("end")),
	)
}

func names(t *testing.T, all iter.Seq2[*runs.Task, error]) []string {
	t.Helper()
	out := []string{}
	for task, err := range all {
		require.NoError(t, err)
		out = append(out, task.Name())
	}
	return out
}

func TestParentsAndChildren(t *testing.T) {
	t.Parallel()
	run := flowtest.Run(t, trailFlow(flow.Fan{}), flowtest.Options{})
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	for _, c := range []struct {
		task              string
		parents, children []string
	}{
		{"start", []string{}, []string{"left", "right", "merge"}},
		{"left", []string{"start"}, []string{"merge"}},
		{"right", []string{"start"}, []string{"turn[0]"}},
		{"turn[0]", []string{"right"}, []string{"turn[1]"}},
		{"turn[1]", []string{"turn[0]"}, []string{"merge"}},
		{"merge", []string{"start", "left", "turn[1]"}, []string{"turn_outer[0]"}},
		{"turn_outer[0]", []string{"merge"}, []string{"odd_one[0]"}},
		{"odd_one[0]", []string{"turn_outer[0]"}, []string{"turn_outer[1]"}},
		{"turn_outer[1]", []string{"odd_one[0]"}, []string{"even_one[1]"}},
		{"even_one[1]", []string{"turn_outer[1]"}, []string{"fit[0]", "fit[1]", "fit[2]", "best"}},
		{"fit[1]", []string{"even_one[1]"}, []string{"refine[1]"}},
		{"keep[2]", []string{"fit[2]"}, []string{"best"}},
		{"best", []string{"even_one[1]", "keep[0]", "refine[1]", "keep[2]"}, []string{"closed"}},
		{"closed", []string{"best"}, []string{"end"}},
		{"end", []string{"closed"}, []string{}},
	} {
		task, err := run.Task(t.Context(), c.task)
		require.NoError(t, err)
		require.Equal(t, c.parents, names(t, task.Parents(t.Context())), "parents of %s", c.task)
		require.Equal(t, c.children, names(t, task.Children(t.Context())), "children of %s", c.task)
	}
}

// everyTask yields all tasks of a run that finished, splits included.
func everyTask(t *testing.T, run *runs.Run) []*runs.Task {
	t.Helper()
	var all []*runs.Task
	run.Plan.Walk(func(n flow.PlanNode) {
		if n.Kind != flow.KindStep && n.Kind != flow.KindDecide {
			return
		}
		step, err := run.Step(t.Context(), n.Name)
		require.NoError(t, err)
		for task, err := range step.Tasks(t.Context()) {
			require.NoError(t, err)
			if task.State == runs.Completed {
				all = append(all, task)
			}
		}
	})
	require.NotEmpty(t, all)
	return all
}

// TestParentsAndChildrenAgree says that a task is among the children of each of its parents, and the other way round.
func TestParentsAndChildrenAgree(t *testing.T) {
	t.Parallel()
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, f := range []*flow.Flow{trailFlow(way.fan), nested(way.fan)} {
				o := flowtest.Options{Limits: &way.limits, Params: map[string]string{"items": "7"}}
				if f.Name() == "Nested" {
					o.Params = nil
				}
				run := flowtest.Run(t, f, o)
				require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
				up, down := map[string]bool{}, map[string]bool{}
				for _, task := range everyTask(t, run) {
					for _, parent := range names(t, task.Parents(t.Context())) {
						up[parent+" → "+task.Name()] = true
					}
					for _, child := range names(t, task.Children(t.Context())) {
						down[task.Name()+" → "+child] = true
					}
				}
				require.Equal(t, up, down)
			}
		})
	}
}

// TestEveryTaskSpinsTheSame runs every task of a run once more: each makes what it made.
func TestEveryTaskSpinsTheSame(t *testing.T) {
	t.Parallel()
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, f := range []*flow.Flow{trailFlow(way.fan), nested(way.fan)} {
				run := flowtest.Run(t, f, flowtest.Options{Limits: &way.limits})
				require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
				spun := 0
				for _, task := range everyTask(t, run) {
					got, err := stepwell.Spin(t.Context(), f, task, stepwell.SpinOptions{})
					require.NoError(t, err, task.Name())
					got.Close()
					require.Nil(t, got.Failure, task.Name())
					if task.Batched() && task.Record == nil {
						continue
					}
					spun++
					require.Empty(t, got.Output(), task.Name())
					if !task.Batched() {
						require.ElementsMatch(t, task.Record.Changed, got.Changed, task.Name())
						require.Equal(t, task.Record.Ahead, got.Ahead, task.Name())
					}
				}
				require.Greater(t, spun, 2)
			}
		})
	}
}

func TestSpinOfAFailedItem(t *testing.T) {
	t.Parallel()
	f := trailFlow(flow.Fan{})
	run := flowtest.Run(t, f, flowtest.Options{Params: map[string]string{"break": "1"}})
	require.Equal(t, records.StatusFailed, run.Status)
	task, err := run.Task(t.Context(), "fit[1]")
	require.NoError(t, err)
	got, err := stepwell.Spin(t.Context(), f, task, stepwell.SpinOptions{})
	require.NoError(t, err)
	defer got.Close()
	require.NotNil(t, got.Failure)
	require.Equal(t, run.Failure.Message, got.Failure.Message)
	require.Equal(t, run.Failure.Class, got.Failure.Class)

	// With another parameter it does not fail, and the run is as it was.
	got, err = stepwell.Spin(t.Context(), f, task, stepwell.SpinOptions{Params: map[string]string{"break": "2"}})
	require.NoError(t, err)
	defer got.Close()
	require.Nil(t, got.Failure)
	require.NotEmpty(t, got.Changed)
	again, err := run.Task(t.Context(), "fit[1]")
	require.NoError(t, err)
	require.Equal(t, runs.Failed, again.State)
	require.Nil(t, again.Record)

	// What comes after it has nothing to start from.
	for _, name := range []string{"best", "end", "refine[1]"} {
		task, err := run.Task(t.Context(), name)
		require.NoError(t, err)
		_, err = stepwell.Spin(t.Context(), f, task, stepwell.SpinOptions{})
		require.ErrorIs(t, err, runs.ErrNoInput, name)
		require.ErrorIs(t, err, stepwell.ErrInput, name)
	}
}

// An item of a batch is run from its first step on, since a batch keeps no state between its steps.
func TestSpinOfALaterStepInABatch(t *testing.T) {
	t.Parallel()
	f := trailFlow(flow.Fan{Batch: 2})
	run := flowtest.Run(t, f, flowtest.Options{})
	task, err := run.Task(t.Context(), "refine[1]")
	require.NoError(t, err)
	dir := t.TempDir() + "/refine"
	_, err = stepwell.ExportTask(t.Context(), f, task, dir, stepwell.ExportOptions{})
	require.NoError(t, err)
	got := flowtest.Repro(t, f, dir, flowtest.Options{})
	got.RequireSuccess(t)
	require.Equal(t, "refine", got.Step)
	var paths []string
	got.Load(t, "Paths", &paths)
	require.Equal(t, []string{"fit", "refine"}, paths[len(paths)-2:])

	// One that fails before it, or goes another way, does not come to it.
	got = flowtest.Repro(t, f, dir, flowtest.Options{Params: map[string]string{"break": "1"}})
	got.RequireFailure(t, policies.Permanent, "item 1 is broken")
	require.Equal(t, "fit", got.Step)
	task, err = run.Task(t.Context(), "refine[2]")
	require.NoError(t, err)
	require.Equal(t, runs.Skipped, task.State)
	_, err = stepwell.Spin(t.Context(), f, task, stepwell.SpinOptions{})
	require.ErrorContains(t, err, "did not come to step")
}

func TestSpinOfAJoinSeesFailedItems(t *testing.T) {
	t.Parallel()
	for name, limits := range map[string]workflows.Limits{"direct": {}, "shards": {Tasks: 1, Shard: 3}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := flow.New("Tolerant",
				flow.Step("start", visit("start")),
				flow.Foreach("grid", (*trail).items, (*trail).setItem, flow.Step("fit", breakable)).
					With(flow.Fan{Tolerate: flow.Count(1)}).
					Join("best", func(_ context.Context, s *trail, in flow.Inputs[trail]) error {
						for _, f := range in.Failures() {
							s.Ends = append(s.Ends, f.Message)
						}
						return nil
					}),
			)
			run := flowtest.Run(t, f, flowtest.Options{Limits: &limits, Params: map[string]string{"break": "2"}})
			require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
			task, err := run.Task(t.Context(), "best")
			require.NoError(t, err)
			ends, err := runs.Load[[]string](t.Context(), task, "Ends")
			require.NoError(t, err)
			require.Equal(t, []string{"item 2 is broken"}, ends)
			got, err := stepwell.Spin(t.Context(), f, task, stepwell.SpinOptions{})
			require.NoError(t, err)
			defer got.Close()
			require.Nil(t, got.Failure)
			require.Empty(t, got.Output())
			require.Equal(t, []string{"start", "fit[0]", "fit[1]"}, names(t, task.Parents(t.Context())))
		})
	}
}
