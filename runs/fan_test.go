package runs_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/converter"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

func TestProgress(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start(t, "open", noon, nil)
	server := described(enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING)
	server.query = `[{"foreach":"grid","index":[2],"items":10000,"completed":1200,"failed":2}]`
	run, err := l.with(server).Run(t.Context(), "Train", "open")
	require.NoError(t, err)
	progress, err := run.Progress(t.Context())
	require.NoError(t, err)
	require.Equal(t, []runs.Progress{{Foreach: "grid", Index: flow.Index{2}, Items: 10000, Completed: 1200, Failed: 2}}, progress)
	require.Equal(t, 1202, progress[0].Done())
	_, err = l.run(t, "open").Progress(t.Context())
	require.Error(t, err, "there is nobody to ask")
}

func (f *temporal) QueryWorkflow(context.Context, string, string, string, ...any) (converter.EncodedValue, error) {
	return answer(f.query), nil
}

// answer is what a query returned, as JSON.
type answer string

func (answer) HasValue() bool       { return true }
func (a answer) Get(into any) error { return json.Unmarshal([]byte(a), into) }

func TestCountItems(t *testing.T) {
	t.Parallel()
	l := newGridLab(t, grid(flow.Fan{}))
	l.did("r1", "merge", nil, items(20))
	for i := range 8 {
		l.did("r1", "fit", flow.Index{i}, nil)
		if i < 5 {
			l.did("r1", "score", flow.Index{i}, nil)
		}
	}
	completed, wrong, err := l.read("r1").CountItems(t.Context(), "grid", nil)
	require.NoError(t, err)
	require.Equal(t, []int{5, 0}, []int{completed, wrong})

	l.begin("r2", func(r *records.Run) { r.Origin, r.Reused = "r1", map[string]string{"score": "r1"} })
	l.did("r2", "score", flow.Index{4}, nil) // again
	l.did("r2", "score", flow.Index{9}, nil)
	completed, _, err = l.read("r2").CountItems(t.Context(), "grid", nil)
	require.NoError(t, err)
	require.Equal(t, 6, completed)
	_, _, err = l.read("r2").CountItems(t.Context(), "features", nil)
	require.ErrorIs(t, err, runs.ErrNotFound)

	b := newGridLab(t, grid(flow.Fan{Batch: 2}))
	good, bad := records.Item{Outcome: records.Completed, Step: "score"}, records.Item{Outcome: records.Failed, Failure: failed("fit", flow.Index{3}, 1)}
	b.batch("r1", 0, good, good)
	b.batch("r1", 2, good, bad)
	completed, wrong, err = b.read("r1").CountItems(t.Context(), "grid", nil)
	require.NoError(t, err)
	require.Equal(t, []int{3, 1}, []int{completed, wrong})
}

// TestItemsOfBodiesWithShapes counts an item once, whichever way it took and however many of its tasks failed.
func TestItemsOfBodiesWithShapes(t *testing.T) {
	t.Parallel()
	l := newGridLab(t, flow.New("Grid",
		flow.Step("load", nop),
		flow.Foreach("outer", none, setRows,
			flow.Step("first", nop),
			flow.Foreach("inner", none, setRows, flow.Step("fit", nop)).Join("best", join),
			flow.Switch("good", func(*state) bool { return true }, flow.Case(true, flow.Step("ship", nop))).Else(),
		).Join("all", join),
		flow.Step("end", nop),
	))
	l.did("r1", "load", nil, flow.Ahead{"outer": {Items: &flow.List{Len: 4}}})
	for i := range 4 {
		l.did("r1", "first", flow.Index{i}, flow.Ahead{"inner": {Items: &flow.List{Len: 2}}})
		if i == 2 {
			for k := range 2 {
				l.tried("r1", "fit", flow.Index{i, k}, records.Attempt{Outcome: records.Failed, Failure: failed("fit", flow.Index{i, k}, 9-k)})
			}
			continue
		}
		l.did("r1", "fit", flow.Index{i, 0}, nil)
		l.did("r1", "fit", flow.Index{i, 1}, nil)
		l.did("r1", "best", flow.Index{i}, flow.Ahead{"good": {Case: i % 2, Value: []string{"ship", ""}[i%2]}})
		if i%2 == 0 {
			l.did("r1", "ship", flow.Index{i}, nil)
		}
	}
	l.did("r1", "all", nil, nil)
	l.over("r1", records.End{Status: records.StatusCompleted})
	f, err := l.read("r1").Foreach(t.Context(), "outer")
	require.NoError(t, err)
	require.Equal(t, []int{4, 3, 1}, []int{f.Items, f.Completed, f.Failed})
	require.Equal(t, runs.Completed, f.State)
	first, err := f.First(t.Context())
	require.NoError(t, err)
	require.Equal(t, "fit[2,1]", first.Name())
	inner, err := l.read("r1").Foreach(t.Context(), "inner")
	require.NoError(t, err)
	require.Equal(t, []int{8, 6, 2}, []int{inner.Items, inner.Completed, inner.Failed})
	require.Equal(t, runs.Completed, inner.State, "some of its executions had failed, and were tolerated")
}

func TestLoggedTasks(t *testing.T) {
	t.Parallel()
	lines := func(run *runs.Run, step string) []string {
		s, err := run.Step(t.Context(), step)
		require.NoError(t, err)
		var out []string
		for task, err := range s.Logged(t.Context()) {
			require.NoError(t, err)
			logs, err := task.Logs(t.Context())
			require.NoError(t, err)
			for _, log := range logs {
				for _, line := range log.Lines {
					out = append(out, task.Name()+" "+line.Message)
				}
			}
		}
		return out
	}
	l := newGridLab(t, grid(flow.Fan{}))
	l.did("r1", "merge", nil, items(20))
	put := func(l gridLab, id, step string, x flow.Index, text string) {
		require.NoError(t, l.store.PutDoc(t.Context(), records.LogKey("Grid", id, step, x, 1, false), []byte(text)))
	}
	l.begin("r2", func(r *records.Run) { r.Origin, r.Reused = "r1", map[string]string{"fit": "r1"} })
	put(l, "r1", "fit", flow.Index{10}, `{"msg":"ten"}`+"\n")
	put(l, "r1", "fit", flow.Index{9}, `{"msg":"nine"}`+"\n")
	put(l, "r2", "fit", flow.Index{9}, `{"msg":"nine again"}`+"\n")
	require.Equal(t, []string{"fit[9] nine again", "fit[10] ten"}, lines(l.read("r2"), "fit"))

	b := newGridLab(t, grid(flow.Fan{Batch: 10}))
	b.did("r1", "merge", nil, items(20))
	text := ""
	for _, task := range []string{"fit[10]", "score[10]", "fit[11]", ""} {
		text += fmt.Sprintf(`{"msg":"of %s","task":%q}`+"\n", task, task)
	}
	put(b, "r1", "grid", flow.Index{10}, text)
	require.Equal(t, []string{"fit[10] of fit[10]", "fit[10] of fit[11]", "fit[10] of "}, lines(b.read("r1"), "fit"))
	require.Equal(t, []string{"score[10] of score[10]"}, lines(b.read("r1"), "score"))
	logs, err := b.at("r1", "fit[11]").Logs(t.Context())
	require.NoError(t, err)
	require.Len(t, logs, 1)
	require.Len(t, logs[0].Lines, 2, "its own, and the one that nobody can be told of")
}

// TestCaughtAndExplained finds what was caught, and why tasks failed that nothing but their ledger tells of.
func TestCaughtAndExplained(t *testing.T) {
	t.Parallel()
	l := newGridLab(t, grid(flow.Fan{}))
	l.did("r1", "merge", nil, items(20))
	for i := range 20 {
		if i%5 != 0 {
			l.did("r1", "fit", flow.Index{i}, nil)
			continue
		}
		l.tried("r1", "fit", flow.Index{i}, records.Attempt{Outcome: records.Failed, Failure: failed("fit", flow.Index{i}, 50-i), Ended: noon.Add(time.Minute)})
		if i != 15 {
			l.did("r1", "fit", flow.Index{i}, nil, func(r *records.Task) {
				r.Outcome, r.Failure = records.Caught, failed("fit", flow.Index{i}, 50-i)
			})
		}
	}
	l.over("r1", records.End{Status: records.StatusFailed, Failure: &policies.Failure{Class: policies.Unknown, Message: "odd"}})
	fit := l.step("r1", "fit")
	var caught []string
	for task, err := range fit.CaughtTasks(t.Context()) {
		require.NoError(t, err)
		caught = append(caught, task.Name()+" "+task.Failure.Message)
	}
	require.Equal(t, []string{"fit[0] bad item", "fit[5] bad item", "fit[10] bad item"}, caught)
	first, err := fit.First(t.Context())
	require.NoError(t, err)
	require.Equal(t, "fit[15]", first.Name())
	require.Equal(t, "bad item", first.Failure.Message)
}

// TestManyTasks has more tasks than any listing holds at once, in no order of their keys.
func TestManyTasks(t *testing.T) {
	t.Parallel()
	l := newGridLab(t, grid(flow.Fan{}))
	const n = 2345
	l.did("r1", "merge", nil, items(n))
	for i := range n {
		l.did("r1", "fit", flow.Index{i}, nil)
	}
	fit := l.step("r1", "fit")
	require.Equal(t, runs.Counts{Total: n, Completed: n}, fit.Counts)
	next := 0
	for task, err := range fit.Tasks(t.Context()) {
		require.NoError(t, err)
		require.Equal(t, flow.Index{next}, task.Index)
		if next++; next == 1500 { // whoever stops pays for no more
			break
		}
	}
	require.Equal(t, 1500, next)
}
