package runs_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

func TestGlancesAndSamplesOfAForeach(t *testing.T) {
	t.Parallel()
	l := newGridLab(t, grid(flow.Fan{}))
	l.did("r1", "merge", nil, items(30))
	for i := range 30 {
		x := flow.Index{i}
		if i%10 == 3 {
			l.tried("r1", "fit", x, records.Attempt{Outcome: records.Failed, Failure: failed("fit", x, i), CountsAsCodeFailure: true})
			continue
		}
		l.did("r1", "fit", x, nil)
		if i < 20 {
			l.did("r1", "score", x, nil)
		}
	}
	l.over("r1", records.End{Status: records.StatusFailed, Ended: noon.Add(time.Minute), Failure: failed("fit", flow.Index{3}, 3)})
	fit := l.step("r1", "fit")

	seen := map[runs.State]int{}
	for g, err := range fit.Glances(t.Context()) {
		require.NoError(t, err)
		require.Equal(t, g.State == runs.Failed, g.Tried)
		seen[g.State]++
	}
	require.Equal(t, map[runs.State]int{runs.Completed: 27, runs.Failed: 3}, seen)

	tasks, of, err := fit.Sample(t.Context(), 5, func(g runs.Glance) bool { return g.State == runs.Completed })
	require.NoError(t, err)
	require.Equal(t, 27, of)
	require.Len(t, tasks, 5)
	require.Equal(t, "fit[0]", tasks[0].Name())
	require.Equal(t, "fit[29]", tasks[4].Name())
	require.NotNil(t, tasks[4].Record)
	tasks, of, err = fit.Sample(t.Context(), 5, func(g runs.Glance) bool { return g.Tried })
	require.NoError(t, err)
	require.Equal(t, []int{3, 3}, []int{of, len(tasks)})

	f, err := l.read("r1").Foreach(t.Context(), "grid")
	require.NoError(t, err)
	require.Equal(t, "Grid/r1", f.Run().Pathspec())
	cells, err := f.Cells(t.Context(), 100)
	require.NoError(t, err)
	require.Len(t, cells, 30)
	require.Equal(t, runs.Cell{First: flow.Index{3}, Items: 1, Failed: 1}, cells[3])
	require.Equal(t, runs.Cell{First: flow.Index{4}, Items: 1, Completed: 1}, cells[4])
	require.Equal(t, runs.Cell{First: flow.Index{25}, Items: 1, Unfinished: 1}, cells[25], "its last step has not run")
	cells, err = f.Cells(t.Context(), 3)
	require.NoError(t, err)
	require.Equal(t, []runs.Cell{
		{First: flow.Index{0}, Items: 10, Completed: 9, Failed: 1}, {First: flow.Index{10}, Items: 10, Completed: 9, Failed: 1},
		{First: flow.Index{20}, Items: 10, Failed: 1, Unfinished: 9},
	}, cells)
}

func TestCellsOfManyItemsInBatchesComeFromSummaries(t *testing.T) {
	t.Parallel()
	l := newGridLab(t, grid(flow.Fan{Batch: 10}))
	l.did("r1", "merge", nil, items(40))
	for first := 0; first < 30; first += 10 {
		s := records.Shard{Flow: "Grid", Run: "r1", Foreach: "grid", First: first, Count: 10}
		for i := range 10 {
			item := records.Item{Index: first + i, Outcome: records.Completed, Step: "score", Attempt: 1, Started: noon, Took: time.Second}
			if first == 10 && i < 2 {
				x := flow.Index{first + i}
				item.Outcome, item.Failure = records.Failed, failed("fit", x, i)
			}
			s.Items = append(s.Items, item)
			s.Add(item)
		}
		_, _, err := records.CreateBatch(t.Context(), l.store, s)
		require.NoError(t, err)
	}
	f, err := l.read("r1").Foreach(t.Context(), "grid")
	require.NoError(t, err)
	for n, want := range map[int]string{4: "10/0 8/2 10/0 0/0", 2: "18/2 10/0", 1: "28/2"} {
		cells, err := f.Cells(t.Context(), n)
		require.NoError(t, err)
		text := ""
		for _, c := range cells {
			text += fmt.Sprintf(" %d/%d", c.Completed, c.Failed)
		}
		require.Equal(t, " "+want, text)
	}
	cells, err := f.Cells(t.Context(), 40)
	require.NoError(t, err)
	require.Equal(t, runs.Cell{First: flow.Index{11}, Items: 1, Failed: 1}, cells[11])

	tasks, of, err := l.step("r1", "score").Sample(t.Context(), 100, nil)
	require.NoError(t, err)
	require.Equal(t, []int{28, 28}, []int{of, len(tasks)})
}
