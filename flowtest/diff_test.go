package flowtest_test

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
	"github.com/stepwell-flows/stepwell/workflows"
)

// twoRuns runs a flow twice over one store and reads both with one reader.
func twoRuns(t *testing.T, f *flow.Flow, l workflows.Limits, a, b map[string]string) (*runs.Run, *runs.Run) {
	t.Helper()
	store, err := artifacts.Open(t.Context(), "mem:", artifacts.Options{})
	require.NoError(t, err)
	one := flowtest.Run(t, f, flowtest.Options{Store: store, Limits: &l, Params: a})
	two := flowtest.Run(t, f, flowtest.Options{Store: store, Limits: &l, Params: b})
	return one, two
}

func steps(d *runs.Diff) []string {
	out := []string{}
	for _, s := range d.Steps {
		out = append(out, s.Step)
	}
	return out
}

func TestDiffOfTheSame(t *testing.T) {
	t.Parallel()
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := twoRuns(t, trailFlow(way.fan), way.limits, nil, nil)
			d, err := runs.Compare(t.Context(), a, b, runs.CompareOptions{All: true})
			require.NoError(t, err)
			require.Empty(t, d.Steps)
			require.True(t, d.Same())
		})
	}
}

func TestDiffFindsTheItemThatFailed(t *testing.T) {
	t.Parallel()
	for name, limits := range map[string]workflows.Limits{"direct": {}, "shards": {Tasks: 1, Shard: 3}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := twoRuns(t, trailFlow(flow.Fan{}), limits, nil, map[string]string{"break": "1"})
			d, err := runs.Compare(t.Context(), a, b, runs.CompareOptions{})
			require.NoError(t, err)
			require.False(t, d.Same())
			require.Len(t, d.Params, 1)
			require.Equal(t, "break", d.Params[0].Name)
			require.Equal(t, "-1", *d.Params[0].A)
			require.Equal(t, "1", *d.Params[0].B)
			require.Equal(t, []string{"fit"}, steps(d), "a parameter alone makes no step differ")
			step := d.Steps[0]
			i := slices.IndexFunc(step.Tasks, func(d runs.TaskDiff) bool { return d.Task == "fit[1]" })
			require.GreaterOrEqual(t, i, 0)
			task := step.Tasks[i]
			require.True(t, task.Failed)
			require.Equal(t, runs.Completed, task.A.State)
			require.Equal(t, runs.Failed, task.B.State)
			require.Equal(t, "item 1 is broken", task.B.Failure.Message)
			require.Empty(t, task.Input)
			require.False(t, task.Item)

			d, err = runs.Compare(t.Context(), a, b, runs.CompareOptions{All: true})
			require.NoError(t, err)
			require.Contains(t, steps(d), "best")
			require.Contains(t, steps(d), "end")
			require.Equal(t, 1, d.Steps[len(d.Steps)-1].OnlyA)
		})
	}
}

type listed struct {
	Offset int `param:"offset"`

	Base  int
	Item  int
	Value int
	Sum   int
}

// listFlow has a foreach whose second item changes with the offset.
func listFlow() *flow.Flow {
	nothing := func(context.Context, *listed) error { return nil }
	return flow.New("Listed",
		flow.Step("start", nothing),
		flow.Foreach("grid", func(s *listed) []int { return []int{1, 2 + s.Offset, 3} }, func(s *listed, i int) { s.Item = i },
			flow.Step("double", func(_ context.Context, s *listed) error { s.Value = 2 * s.Item; return nil }),
		).Join("sum", func(_ context.Context, s *listed, in flow.Inputs[listed]) error {
			s.Sum = 0
			for _, item := range in.All() {
				s.Sum += item.Value
			}
			return nil
		}),
	)
}

func TestDiffOfItems(t *testing.T) {
	t.Parallel()
	a, b := twoRuns(t, listFlow(), workflows.Limits{}, nil, map[string]string{"offset": "5"})
	d, err := runs.Compare(t.Context(), a, b, runs.CompareOptions{All: true})
	require.NoError(t, err)
	require.Equal(t, []string{"start", "double", "sum"}, steps(d))

	require.Empty(t, d.Steps[0].Tasks[0].Output)
	require.Len(t, d.Steps[0].Tasks[0].Ahead, 1, "the list is another one")
	require.Equal(t, "grid", d.Steps[0].Tasks[0].Ahead[0].Shape)

	double := d.Steps[1]
	require.Equal(t, 2, double.Same)
	require.Equal(t, 1, double.Differ)
	require.Equal(t, "double[1]", double.Tasks[0].Task)
	require.True(t, double.Tasks[0].Item)
	require.Empty(t, double.Tasks[0].Input)

	sum := d.Steps[2].Tasks[0]
	require.Equal(t, 1, sum.Inputs)
	require.Len(t, sum.Output, 1)
	require.Equal(t, "Sum", sum.Output[0].Name)

	ta, err := a.Task(t.Context(), "sum")
	require.NoError(t, err)
	tb, err := b.Task(t.Context(), "sum")
	require.NoError(t, err)
	one, err := runs.CompareTasks(t.Context(), ta, tb)
	require.NoError(t, err)
	require.Equal(t, 1, one.Inputs)
	one, err = runs.CompareTasks(t.Context(), ta, ta)
	require.NoError(t, err)
	require.True(t, one.Same())
}

// TestDiffOfAResume has a step that was taken over, which is the same whatever code the runs have.
func TestDiffOfAResume(t *testing.T) {
	t.Parallel()
	f := trailFlow(flow.Fan{})
	a := flowtest.Run(t, f, flowtest.Options{Params: map[string]string{"break": "1"}})
	b := flowtest.Resume(t, f, a, flowtest.Options{Step: "start", Params: map[string]string{"break": "-1"}})
	require.Equal(t, records.StatusCompleted, b.Status)
	d, err := runs.Compare(t.Context(), a, b, runs.CompareOptions{})
	require.NoError(t, err)
	require.Equal(t, []string{"fit"}, steps(d))
}

func TestSameFailure(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"odd", "odd", true},
		{"odd", "even", false},
		{"GET http://127.0.0.1:4001/x: 422", "GET http://127.0.0.1:4002/x: 422", true},
		{"GET http://127.0.0.1:4001/x: 422", "GET http://127.0.0.1:4001/x: 500", false},
		{"pc=0x47ab12cd", "pc=0x47ab12ff", true},
		{"index 1 of 3", "index 2 of 3", false},
	} {
		a := &policies.Failure{Class: policies.Unknown, Message: c.a}
		require.Equal(t, c.same, runs.SameFailure(a, &policies.Failure{Class: policies.Unknown, Message: c.b}), "%s, %s", c.a, c.b)
		require.False(t, runs.SameFailure(a, &policies.Failure{Class: policies.Bug, Message: c.a}))
		require.False(t, runs.SameFailure(a, nil))
	}
	require.True(t, runs.SameFailure(nil, nil))
}
