package conformance

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flow"
)

// hop is one decision on the way from the root of a plan to a task: the how-manieth node of a sequence, arm, item or turn.
type hop struct {
	kind  flow.Kind
	at    int
	join  bool
	batch bool // an item of a foreach with batches
}

// way leads to a task. It is worked out from the plan and the task's name alone, and so it knows nothing of how a run got on.
func way(t *testing.T, plan flow.Plan, task string) []hop {
	t.Helper()
	step, index, err := flow.ParseTaskName(task)
	require.NoError(t, err)
	var visit func(n flow.PlanNode, x flow.Index) ([]hop, bool)
	visit = func(n flow.PlanNode, x flow.Index) ([]hop, bool) {
		if n.Name == step && n.Kind == flow.KindStep {
			return nil, true
		}
		if n.Join != nil && n.Join.Name == step {
			return []hop{{kind: n.Kind, join: true}}, true
		}
		for i, child := range n.Nodes {
			h, rest := hop{kind: n.Kind, at: i, batch: n.Fan != nil && n.Fan.Batch > 1}, x
			if (n.Kind == flow.KindForeach || n.Kind == flow.KindLoop) && len(x) > 0 {
				h.at, rest = x[0], x[1:]
			}
			if hops, ok := visit(child, rest); ok {
				return append([]hop{h}, hops...), true
			}
		}
		return nil, false
	}
	hops, ok := visit(plan.Root, index)
	require.True(t, ok, "the plan has no step %q", step)
	return hops
}

// follows says that the task at b is the one at a, or can only start when that has ended.
func follows(a, b []hop) bool {
	for i := range min(len(a), len(b)) {
		if a[i] == b[i] {
			continue
		}
		if a[i].join != b[i].join {
			return b[i].join
		}
		return (a[i].kind == flow.KindSeq || a[i].kind == flow.KindLoop) && b[i].at > a[i].at
	}
	return len(a) == len(b)
}

// repeats says that a task runs again when a step does from which a run is resumed, given the ways to both: what follows the step
// in the plan does, in all items, and so does the whole of a loop that the step is in.
func repeats(step, task []hop) bool {
	for i := range min(len(step), len(task)) {
		a, b := step[i], task[i]
		switch {
		case a.join != b.join:
			return b.join
		case a.kind == flow.KindLoop:
			return true
		case a.kind != flow.KindForeach && a.at != b.at:
			return a.kind == flow.KindSeq && b.at > a.at
		}
	}
	return len(step) == len(task)
}

// after lists those of all tasks that are, or follow, one that matches, in their order.
func after(t *testing.T, plan flow.Plan, all []string, match func(task string) bool) []string {
	t.Helper()
	ways := map[string][]hop{}
	for _, task := range all {
		ways[task] = way(t, plan, task)
	}
	var out []string
	for _, b := range all {
		if slices.ContainsFunc(all, func(a string) bool { return match(a) && follows(ways[a], ways[b]) }) {
			out = append(out, b)
		}
	}
	return out
}

// whole adds to some of all tasks the other tasks of their item, in batches: there, an item is the unit of resume.
func whole(t *testing.T, plan flow.Plan, all, some []string) []string {
	t.Helper()
	unit := func(task string) string {
		hops := way(t, plan, task)
		if i := slices.IndexFunc(hops, func(h hop) bool { return h.batch }); i >= 0 {
			return fmt.Sprint(hops[:i+1])
		}
		return task
	}
	units := map[string]bool{}
	for _, task := range some {
		units[unit(task)] = true
	}
	return slices.DeleteFunc(slices.Clone(all), func(task string) bool { return !units[unit(task)] })
}

// The tests' own idea of order is tested before it tests anything.
func TestOrder(t *testing.T) {
	t.Parallel()
	nested := everythingNested()
	plan := nested.build(&plot{}).Plan()
	for _, test := range []struct {
		a, b string
		want bool
	}{
		{"start", "start", true},
		{"start", "end", true},
		{"end", "start", false},
		{"left[0,0]", "right[0,0]", false},
		{"left[0,0]", "both[0,0]", true},
		{"both[0,0]", "left[0,0]", false},
		{"left[0,0]", "both[0,1]", false},
		{"left[0,0]", "collect[0]", true},
		{"left[0,0]", "turn[1]", true},
		{"turn[1]", "left[0,0]", false},
		{"collect[0]", "left[2,1]", true},
		{"collect[2]", "turn[1]", false},
		{"rest[1]", "end", true},
	} {
		require.Equal(t, test.want, follows(way(t, plan, test.a), way(t, plan, test.b)), "%s before %s", test.a, test.b)
	}
	require.Len(t, after(t, plan, nested.trail, func(task string) bool { return task == "start" }), len(nested.trail))
	require.True(t, repeats(way(t, plan, "left[0,0]"), way(t, plan, "turn[0]")), "the loop begins anew")
	require.False(t, repeats(way(t, plan, "left[0,0]"), way(t, plan, "start")))
	require.Equal(t, words("rest[1]"), whole(t, plan, nested.trail, words("rest[1]")))
}
