package conformance

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/runs"
)

// Metaflow's switches: the steps of the cases that were not chosen have no tasks.
func TestSwitches(t *testing.T) {
	t.Parallel()
	for _, g := range []graph{simpleSwitch(), nestedSwitch(), branchInSwitch(), foreachInSwitch(), switchInBranch(), switchInForeach()} {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			both(t, func(t *testing.T, w world) {
				f := g.build(&plot{})
				run := w.run(t, f, options{})
				g.undisturbed(t, run, f)
				ran := steps(g.trail)
				for _, step := range f.Plan().Steps() {
					if slices.Contains(ran, step) {
						continue
					}
					skipped, err := run.Step(t.Context(), step)
					require.NoError(t, err)
					require.Equal(t, runs.Skipped, skipped.State, step)
				}
			})
		})
	}
}

// A value that no case has fails the step before the switch, which is not tried again, and says what the cases are.
func TestSwitchUnknownValue(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, w world) {
		build := func(name string, orElse bool) *flow.Flow {
			s := flow.Switch("condition", value,
				flow.Case("case1", flow.Step("a", func(context.Context, *state) error { return nil })),
				flow.Case("case2", flow.Step("b", func(context.Context, *state) error { return nil })),
			)
			last := s.OrFail()
			if orElse {
				last = s.Else(flow.Step("other", func(_ context.Context, s *state) error { s.Made = "otherwise"; return nil }))
			}
			return flow.New(name, flow.Step("start", func(_ context.Context, s *state) error { s.Value = "case9"; return nil }, fixed(3)), last)
		}
		f := build("UnknownValue", false)
		run := failed(t, w.run(t, f, options{}))
		require.Equal(t, "start", run.Failure.Step)
		require.Equal(t, policies.Permanent, run.Failure.Class)
		require.Contains(t, run.Failure.Message, `switch "condition": value "case9" is none of its cases "case1", "case2"`)
		require.Len(t, attempts(t, run, "start"), 1)

		f = build("OtherValue", true)
		require.Equal(t, "otherwise", final[state](t, w.run(t, f, options{}), f).Made)
	})
}

// A switch that is chosen by a parameter, first in the flow: nothing runs before it.
func TestSwitchFirst(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, w world) {
		g := func(p *plot) *flow.Flow {
			return flow.New("SwitchFirst", flow.Switch("size", func(s *state) bool { return s.Limit > 100 },
				flow.Case(true, p.step("large", nil)),
				flow.Case(false, p.step("small", nil)),
			).OrFail())
		}
		f := g(&plot{})
		require.Equal(t, words("small"), final[state](t, w.run(t, f, options{}), f).Trail)
		require.Equal(t, words("large"), final[state](t, w.run(t, f, options{params: map[string]string{"limit": "101"}}), f).Trail)
	})
}

// Metaflow's recursion: ten turns, and none.
func TestRecursion(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, w world) {
		f := recursiveSwitch().build(&plot{})
		s := final[state](t, w.run(t, f, options{}), f)
		require.Equal(t, 10, s.Count)
		require.Equal(t, trail(words("start"), each(10, "loop_step"), words("exit_loop end")), s.Trail)
		none := final[state](t, w.run(t, f, options{params: map[string]string{"limit": "0"}}), f)
		require.Equal(t, words("start exit_loop end"), none.Trail)
	})
}

// Fifty turns are no special case, and each has its record.
func TestManyTurns(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, w world) {
		f := recursiveSwitch().build(&plot{})
		run := w.run(t, f, options{params: map[string]string{"limit": "50"}})
		s := final[state](t, run, f)
		require.Equal(t, 50, s.Count)
		count, err := runs.Load[int](t.Context(), task(t, run, "loop_step[37]"), "Count")
		require.NoError(t, err)
		require.Equal(t, 38, count)
	})
}

// What is wrong with a graph is told by its Check, before anything runs.
func TestGraphMistakes(t *testing.T) {
	t.Parallel()
	step := func(name string) flow.Node[state] {
		return flow.Step(name, func(context.Context, *state) error { return nil })
	}
	err := flow.New("Mistakes",
		step("a"), step("a"), step("B"), step("b"), step("next step"),
		flow.Switch("none", value).OrFail(),
		flow.Switch("twice", value, flow.Case("x", step("c")), flow.Case("x", step("d"))).OrFail(),
		flow.Loop("endless", notYet, flow.Switch("maybe", value, flow.Case("x", step("e"))).Else()),
		flow.Foreach[state]("empty", over("ab"), bindX).Join("join", nil),
	).Check()
	for _, want := range []string{
		`two steps are named "a"`, `"B" and "b" differ only in case`, `step name "next step" is not allowed`,
		`switch "none" has no cases`, `switch "twice" has two cases "x"`, `loop "endless" may turn without running a step`,
		`foreach "empty" has no steps`, `join "join" has no function`,
	} {
		require.ErrorContains(t, err, want)
	}
	require.NotContains(t, strings.ToLower(err.Error()), "panic")
}
