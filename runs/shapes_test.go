package runs_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

func join(context.Context, *state, flow.Inputs[state]) error { return nil }

func setRows(s *state, n int) { s.Rows = n }

func none(*state) []int { return nil }

// grid is a flow of all shapes.
func grid(fan flow.Fan) *flow.Flow {
	return flow.New("Grid",
		flow.Step("load", nop),
		flow.Branch("features", flow.Step("numeric", nop), flow.Seq(flow.Step("text", nop), flow.Step("embed", nop))).Join("merge", join),
		flow.Foreach("grid", none, setRows,
			flow.Step("fit", nop, policies.Retry{MaximumAttempts: 3}, policies.Catch(func(context.Context, *state, *policies.Failure) error { return nil })),
			flow.Step("score", nop),
		).With(fan).Join("best", join),
		flow.Switch("good", func(*state) string { return "" }, flow.Case("ship", flow.Step("ship", nop))).Else(flow.Step("report", nop)),
		flow.Loop("tune", func(*state) bool { return false }, flow.Step("tune_once", nop)),
		flow.Step("end", nop),
	)
}

// gridLab is a run of it, which the test plays.
type gridLab struct {
	lab
	*testing.T
	flow *flow.Flow
	plan flow.Plan
}

func newGridLab(t *testing.T, f *flow.Flow) gridLab {
	t.Helper()
	require.NoError(t, f.Check())
	l := gridLab{newLab(t), t, f, f.Plan()}
	l.begin("r1", nil)
	return l
}

func (l gridLab) begin(id string, change func(*records.Run)) {
	l.Helper()
	r := records.Run{Flow: "Grid", Run: id, Root: id, Plan: l.plan, Started: noon, WorkflowID: "Grid/" + id, TaskQueue: "stepwell"}
	if change != nil {
		change(&r)
	}
	require.NoError(l, records.CreateRun(l.Context(), l.store, r))
}

// did writes the record of a task.
func (l gridLab) did(id, step string, x flow.Index, ahead flow.Ahead, changes ...func(*records.Task)) records.Ref {
	l.Helper()
	entries, changed, err := l.flow.Schema().Save(l.Context(), l.store, &state{Rows: len(x), Note: step}, nil, artifacts.Snapshot{}, id+"/"+step)
	require.NoError(l, err)
	rec := records.Task{Flow: "Grid", Run: id, Step: step, Index: x, Outcome: records.Completed, Attempt: 1, Started: noon,
		Ended: noon.Add(time.Second), Artifacts: entries, Changed: changed, Ahead: ahead}
	for _, change := range changes {
		change(&rec)
	}
	ref, _, err := records.CreateTask(l.Context(), l.store, rec)
	require.NoError(l, err)
	return ref
}

func (l gridLab) tried(id, step string, x flow.Index, a records.Attempt) {
	l.Helper()
	a.Attempt = max(a.Attempt, 1)
	require.NoError(l, records.PutAttempt(l.Context(), l.store, "Grid", id, step, x, a))
}

func (l gridLab) over(id string, e records.End) {
	l.Helper()
	require.NoError(l, records.CreateEnd(l.Context(), l.store, "Grid", id, e))
}

func (l gridLab) read(id string) *runs.Run {
	l.Helper()
	r, err := l.reader.Run(l.Context(), "Grid", id)
	require.NoError(l, err)
	return r
}

func (l gridLab) step(id, name string) *runs.Step {
	l.Helper()
	s, err := l.read(id).Step(l.Context(), name)
	require.NoError(l, err)
	return s
}

func (l gridLab) at(id, task string) *runs.Task {
	l.Helper()
	t, err := l.read(id).Task(l.Context(), task)
	require.NoError(l, err)
	return t
}

func items(n int) flow.Ahead { return flow.Ahead{"grid": {Items: &flow.List{Len: n}}} }

func failed(step string, x flow.Index, at int) *policies.Failure {
	return &policies.Failure{Class: policies.Invalid, Message: "bad item", Step: step, Task: flow.TaskName(step, x), Attempt: 1, Time: noon.Add(time.Duration(at) * time.Second)}
}

func names(t *testing.T, s *runs.Step) []string {
	t.Helper()
	var out []string
	for task, err := range s.Tasks(t.Context()) {
		require.NoError(t, err)
		out = append(out, fmt.Sprintf("%s %s", task.Name(), task.State))
	}
	return out
}

func TestStepsOfAForeach(t *testing.T) {
	t.Parallel()
	l := newGridLab(t, grid(flow.Fan{}))
	l.did("r1", "merge", nil, items(12))
	for i := range 12 {
		if i == 3 || i == 10 {
			l.tried("r1", "fit", flow.Index{i}, records.Attempt{Outcome: records.Failed, Failure: failed("fit", flow.Index{i}, 20-i), CountsAsCodeFailure: true})
		}
		if i == 10 {
			continue
		}
		l.did("r1", "fit", flow.Index{i}, nil, func(r *records.Task) {
			if i == 3 {
				r.Outcome, r.Failure = records.Caught, failed("fit", flow.Index{3}, 1)
			}
		})
		if i != 11 {
			l.did("r1", "score", flow.Index{i}, nil)
		}
	}
	l.tried("r1", "score", flow.Index{11}, records.Attempt{Outcome: records.Failed, Failure: failed("score", flow.Index{11}, 2), CountsAsCodeFailure: true})
	l.over("r1", records.End{Status: records.StatusFailed, Failure: failed("score", flow.Index{11}, 2)})

	steps, err := l.read("r1").Steps(t.Context())
	require.NoError(t, err)
	var order []string
	for _, s := range steps {
		order = append(order, s.Name)
	}
	require.Equal(t, []string{"load", "numeric", "text", "embed", "merge", "fit", "score", "best", "ship", "report", "tune_once", "end"}, order)

	fit := l.step("r1", "fit")
	require.Equal(t, []string{"grid"}, fit.Shapes)
	require.Nil(t, fit.Task)
	require.Equal(t, runs.Counts{Total: 12, Completed: 11, Caught: 1, Failed: 1}, fit.Counts)
	require.Equal(t, runs.Failed, fit.State)
	require.Equal(t, []string{
		"fit[0] completed", "fit[1] completed", "fit[2] completed", "fit[3] caught", "fit[4] completed", "fit[5] completed", "fit[6] completed",
		"fit[7] completed", "fit[8] completed", "fit[9] completed", "fit[10] failed", "fit[11] completed",
	}, names(t, fit))
	require.Equal(t, runs.Counts{Total: 12, Completed: 10, Failed: 1}, l.step("r1", "score").Counts)
	require.Equal(t, runs.NotStarted, l.step("r1", "best").State)
	require.Equal(t, runs.NotStarted, l.step("r1", "ship").State)
	require.Equal(t, runs.NotStarted, l.step("r1", "tune_once").State)

	f, err := l.read("r1").Foreach(t.Context(), "grid")
	require.NoError(t, err)
	require.Equal(t, []int{12, 10, 2}, []int{f.Items, f.Completed, f.Failed})
	first, err := f.First(t.Context())
	require.NoError(t, err)
	require.Equal(t, "score[11]", first.Name())
	var bad []string
	for task, err := range fit.Failures(t.Context()) {
		require.NoError(t, err)
		bad = append(bad, task.Name())
	}
	require.Equal(t, []string{"fit[10]"}, bad)

	require.Equal(t, runs.Failed, l.at("r1", "fit[10]").State)
	require.Equal(t, runs.NotStarted, l.at("r1", "score[10]").State)
	caught := l.at("r1", "fit[3]")
	require.Equal(t, runs.Caught, caught.State)
	require.Equal(t, "Grid/r1/fit[3]", caught.Pathspec())
	rows, err := runs.Load[int](t.Context(), caught, "Rows")
	require.NoError(t, err)
	require.Equal(t, 1, rows)
	for task, say := range map[string]string{
		"fit":      `step "fit" is in foreach "grid", and so its tasks are like fit[0]`,
		"fit[3,0]": `its tasks are like fit[0]`,
		"fit[12]":  "has 12 items there, counted from 0",
		"load[0]":  "has one task",
		"nope[0]":  "it has load, numeric",
	} {
		_, err := l.read("r1").Task(t.Context(), task)
		require.ErrorIs(t, err, runs.ErrNotFound)
		require.ErrorContains(t, err, say)
	}
}

// The document of a shard sums up the records of its items. One that is damaged is read past.
func TestDamagedShard(t *testing.T) {
	t.Parallel()
	l := newGridLab(t, grid(flow.Fan{}))
	l.did("r1", "merge", nil, items(4))
	for i := range 4 {
		if i != 3 {
			l.did("r1", "fit", flow.Index{i}, nil)
			l.did("r1", "score", flow.Index{i}, nil)
		}
	}
	bad := failed("fit", flow.Index{3}, 1)
	l.tried("r1", "fit", flow.Index{3}, records.Attempt{Outcome: records.Failed, Failure: bad, CountsAsCodeFailure: true})
	require.NoError(t, records.PutShard(t.Context(), l.store, records.Shard{Flow: "Grid", Run: "r1", Foreach: "grid", First: 2, Count: 2,
		Tally: records.Tally{Completed: 1, Failed: 1, Failure: bad},
		Items: []records.Item{{Index: 2, Outcome: records.Completed}, {Index: 3, Outcome: records.Failed, Failure: bad}}}))
	l.over("r1", records.End{Status: records.StatusFailed, Failure: bad})
	for name, content := range map[string]string{"empty": "", "cut off": `{"version":1,"flow":"Gr`, "of something else": "null\n"} {
		for _, first := range []int{0, 2} {
			require.NoError(t, l.store.PutDoc(t.Context(), records.ShardKey("Grid", "r1", "grid", nil, first), []byte(content)))
		}
		require.Equal(t, runs.Counts{Total: 4, Completed: 3, Failed: 1}, l.step("r1", "fit").Counts, name)
		f, err := l.read("r1").Foreach(t.Context(), "grid")
		require.NoError(t, err, name)
		require.Equal(t, []int{4, 3, 1}, []int{f.Items, f.Completed, f.Failed}, name)
		require.Equal(t, bad.Message, l.at("r1", "fit[3]").Failure.Message, name)
		require.Equal(t, runs.NotStarted, l.at("r1", "score[3]").State, name)
	}
}

// TestPassedBy tells steps that a switch or a loop left out from those that were not come to.
func TestPassedBy(t *testing.T) {
	t.Parallel()
	states := func(end records.Status, ahead flow.Ahead) map[string]runs.State {
		l := newGridLab(t, grid(flow.Fan{}))
		l.did("r1", "best", nil, ahead)
		if end != "" {
			l.over("r1", records.End{Status: end})
		}
		steps, err := l.read("r1").Steps(t.Context())
		require.NoError(t, err)
		out := map[string]runs.State{}
		for _, s := range steps {
			if slices.Contains([]string{"ship", "report", "tune_once", "end"}, s.Name) {
				out[s.Name] = s.State
			}
		}
		return out
	}
	not, skipped := runs.NotStarted, runs.Skipped
	require.Equal(t, map[string]runs.State{"ship": skipped, "report": not, "tune_once": not, "end": not},
		states(records.StatusFailed, flow.Ahead{"good": {Case: 1}}))
	require.Equal(t, map[string]runs.State{"ship": not, "report": skipped, "tune_once": not, "end": not},
		states("", flow.Ahead{"good": {Case: 0, Value: "ship"}}))
	require.Equal(t, map[string]runs.State{"ship": skipped, "report": skipped, "tune_once": skipped, "end": skipped},
		states(records.StatusCompleted, nil))
}

func TestTurns(t *testing.T) {
	t.Parallel()
	l := newGridLab(t, grid(flow.Fan{}))
	for i := range 11 {
		l.did("r1", "tune_once", flow.Index{i}, flow.Ahead{"tune": {Again: true}})
	}
	tune := l.step("r1", "tune_once")
	require.Equal(t, 11, tune.Completed)
	require.Zero(t, tune.Total, "nobody knows how many turns there will be")
	require.Equal(t, "tune_once[10] completed", names(t, tune)[10])
	_, err := l.read("r1").Task(t.Context(), "tune_once[11]")
	require.ErrorIs(t, err, runs.ErrNotFound)
	ref := l.did("r1", "end", nil, nil)
	l.over("r1", records.End{Status: records.StatusCompleted, Last: &ref})
	require.Equal(t, 11, l.step("r1", "tune_once").Total)
	require.Equal(t, runs.Completed, l.step("r1", "tune_once").State)
}

// TestTakenOver has tasks of three runs: each took over what the one before had done.
func TestTakenOver(t *testing.T) {
	t.Parallel()
	l := newGridLab(t, grid(flow.Fan{}))
	l.did("r1", "merge", nil, items(6))
	l.did("r1", "fit", flow.Index{0}, nil)
	l.did("r1", "fit", flow.Index{4}, nil)
	reused := func(from string) func(*records.Run) {
		return func(r *records.Run) {
			r.Origin, r.Root, r.Reused = from, "r1", map[string]string{"load": from, "merge": from, "fit": from}
		}
	}
	l.begin("r2", reused("r1"))
	l.did("r2", "fit", flow.Index{2}, nil)
	l.tried("r2", "fit", flow.Index{3}, records.Attempt{Outcome: records.Failed, Failure: failed("fit", flow.Index{3}, 1)})
	l.begin("r3", reused("r2"))
	l.did("r3", "fit", flow.Index{1}, nil)
	l.did("r3", "fit", flow.Index{4}, nil) // run again: its own record counts
	l.over("r3", records.End{Status: records.StatusCancelled})

	fit := l.step("r3", "fit")
	require.Equal(t, runs.Counts{Total: 6, Completed: 4, Reused: 2}, fit.Counts)
	require.Equal(t, runs.Unfinished, fit.State)
	owners := map[string]string{}
	for task, err := range fit.Tasks(t.Context()) {
		require.NoError(t, err)
		owners[task.Name()] = task.Owner
		require.Equal(t, task.Owner, l.at("r3", task.Name()).Owner)
	}
	require.Equal(t, map[string]string{"fit[0]": "r1", "fit[1]": "r3", "fit[2]": "r2", "fit[4]": "r3"}, owners)
	merge := l.at("r3", "merge")
	require.Equal(t, "r1", merge.Owner)
	require.True(t, merge.Reused())
	require.Equal(t, runs.NotStarted, l.at("r3", "fit[3]").State, "it failed in another run")
}

// batch writes the record of some items of a foreach.
func (l gridLab) batch(id string, first int, lines ...records.Item) {
	l.Helper()
	d := records.Shard{Flow: "Grid", Run: id, Foreach: "grid", First: first, Count: len(lines), Items: lines}
	for i := range d.Items {
		d.Items[i].Index = first + i
		d.Add(d.Items[i])
	}
	_, _, err := records.CreateBatch(l.Context(), l.store, d)
	require.NoError(l, err)
}

func TestBatches(t *testing.T) {
	t.Parallel()
	l := newGridLab(t, grid(flow.Fan{Batch: 3}))
	split := l.did("r1", "merge", nil, items(8))
	set, _, err := l.flow.Schema().Save(t.Context(), l.store, &state{Rows: 7, Note: "scored"}, nil, artifacts.Snapshot{}, "r1/score")
	require.NoError(t, err)
	good := records.Item{Outcome: records.Completed, Step: "score", Attempt: 1, Started: noon, Took: time.Second, Set: map[string]artifacts.Entry{"Rows": set["Rows"]}, Gone: []string{"Model"}}
	bad := func(step string, i, at int) records.Item {
		done := map[string]string{"score": "fit"} // the item's step is the last that completed
		return records.Item{Outcome: records.Failed, Step: done[step], Attempt: 1, Failure: failed(step, flow.Index{i}, at)}
	}
	l.batch("r1", 0, good, good, good)
	l.batch("r1", 3, good, bad("fit", 4, 9), bad("score", 5, 3))
	l.batch("r1", 6, good, records.Item{}) // the second did not end
	l.over("r1", records.End{Status: records.StatusFailed, Failure: failed("score", flow.Index{5}, 3)})

	fit, score := l.step("r1", "fit"), l.step("r1", "score")
	require.Equal(t, runs.Counts{Total: 8, Completed: 6, Failed: 1}, fit.Counts)
	require.Equal(t, runs.Counts{Total: 8, Completed: 5, Failed: 1}, score.Counts)
	require.Equal(t, []string{"score[0] completed", "score[1] completed", "score[2] completed", "score[3] completed", "score[5] failed", "score[6] completed"}, names(t, score))
	require.Equal(t, []string{"fit[0] completed", "fit[1] completed", "fit[2] completed", "fit[3] completed", "fit[4] failed", "fit[5] completed", "fit[6] completed"}, names(t, fit))

	item := l.at("r1", "score[6]")
	require.Equal(t, []records.Ref{split}, item.Record.Parents)
	require.Equal(t, []string{"Rows"}, item.Record.Changed)
	rows, err := runs.Load[int](t.Context(), item, "Rows")
	require.NoError(t, err)
	require.Equal(t, 7, rows)
	note, err := runs.Load[string](t.Context(), item, "Note")
	require.NoError(t, err)
	require.Equal(t, "merge", note, "of the split")
	require.NotContains(t, item.Artifacts(), "Model")
	loaded, err := runs.LoadState[state](t.Context(), item, l.flow)
	require.NoError(t, err)
	require.Equal(t, 7, loaded.Rows)
	attempts, err := item.Attempts(t.Context())
	require.NoError(t, err)
	require.Len(t, attempts, 1)
	require.Equal(t, noon.Add(time.Second), attempts[0].Ended)

	_, err = l.at("r1", "fit[6]").Artifact("Rows")
	require.ErrorContains(t, err, "that of its last task, score[6]")
	require.Equal(t, "bad item", l.at("r1", "fit[4]").Failure.Message)
	require.Equal(t, runs.NotStarted, l.at("r1", "score[7]").State)
	_, err = l.read("r1").Task(t.Context(), "score[8]")
	require.ErrorIs(t, err, runs.ErrNotFound)

	f, err := l.read("r1").Foreach(t.Context(), "grid")
	require.NoError(t, err)
	require.Equal(t, []int{8, 5, 2}, []int{f.Items, f.Completed, f.Failed})
	first, err := f.First(t.Context())
	require.NoError(t, err)
	require.Equal(t, "score[5]", first.Name())

	// The resume runs again what did not end well, and other batches than the first run had.
	l.begin("r2", func(r *records.Run) {
		r.Origin, r.Reused = "r1", map[string]string{"merge": "r1", "fit": "r1", "score": "r1", records.ItemsKey("grid"): "r1"}
	})
	l.batch("r2", 4, good, good)
	l.batch("r2", 7, good)
	l.over("r2", records.End{Status: records.StatusCompleted})
	require.Equal(t, runs.Counts{Total: 8, Completed: 8, Reused: 5}, l.step("r2", "score").Counts)
	var owners []string
	for task, err := range l.step("r2", "score").Tasks(t.Context()) {
		require.NoError(t, err)
		require.Len(t, owners, task.Index[0])
		owners = append(owners, task.Owner)
		require.Equal(t, task.Owner, l.at("r2", task.Name()).Owner)
	}
	require.Equal(t, []string{"r1", "r1", "r1", "r1", "r2", "r2", "r1", "r2"}, owners)
}

// A batch of a resumed run has the items that it took over in its own record, and says of each which run it ran in.
func TestItemsThatABatchTookOverAreReused(t *testing.T) {
	t.Parallel()
	l := newGridLab(t, grid(flow.Fan{Batch: 3}))
	l.did("r1", "merge", nil, items(6))
	good := records.Item{Outcome: records.Completed, Step: "score", Attempt: 1, Started: noon, Took: time.Second}
	bad := records.Item{Outcome: records.Failed, Failure: failed("fit", flow.Index{1}, 1)}
	l.batch("r1", 0, good, bad, good)
	l.over("r1", records.End{Status: records.StatusFailed, Failure: failed("fit", flow.Index{1}, 1)})
	l.begin("r2", func(r *records.Run) {
		r.Origin, r.Reused = "r1", map[string]string{"merge": "r1", records.ItemsKey("grid"): "r1"}
	})
	taken, caught := good, good
	taken.From = "r1"
	caught.From, caught.Outcome, caught.Failure = "r1", records.Caught, failed("score", flow.Index{2}, 1)
	l.batch("r2", 0, taken, good, caught)
	l.batch("r2", 3, taken, good, good) // that of r1 was cut off, and the summary tells
	require.Equal(t, runs.Counts{Total: 6, Completed: 6, Reused: 3}, l.step("r2", "fit").Counts)
	require.Equal(t, runs.Counts{Total: 6, Completed: 6, Caught: 1, Reused: 3}, l.step("r2", "score").Counts)
	for i, owner := range []string{"r1", "r2", "r1", "r1"} {
		for _, step := range []string{"fit", "score"} {
			require.Equal(t, owner, l.at("r2", flow.TaskName(step, flow.Index{i})).Owner, "%s[%d]", step, i)
		}
	}
}

// TestNested has a foreach in a foreach, whose items are decided by a task of their own at the head of the outer body.
func TestNested(t *testing.T) {
	t.Parallel()
	l := newGridLab(t, flow.New("Grid",
		flow.Step("load", nop),
		flow.Foreach("outer", none, setRows,
			flow.Foreach("inner", none, setRows, flow.Step("fit", nop)).Join("best", join),
			flow.Loop("tune", func(*state) bool { return true }, flow.Step("tune_once", nop)),
			flow.Switch("good", func(*state) bool { return true }, flow.Case(true, flow.Step("ship", nop))).Else(),
		).Join("all", join),
	))
	l.did("r1", "load", nil, flow.Ahead{"outer": {Items: &flow.List{Len: 2}}})
	for i, n := range []int{3, 2} {
		l.did("r1", "inner", flow.Index{i}, flow.Ahead{"inner": {Items: &flow.List{Len: n}}})
		for k := range n {
			l.did("r1", "fit", flow.Index{i, k}, nil)
		}
		l.did("r1", "best", flow.Index{i}, nil)
	}
	l.did("r1", "tune_once", flow.Index{0, 0}, nil)
	l.did("r1", "tune_once", flow.Index{0, 1}, flow.Ahead{"good": {Case: 1}})
	l.did("r1", "tune_once", flow.Index{1, 0}, flow.Ahead{"good": {Value: "true"}})
	l.did("r1", "ship", flow.Index{1}, nil)
	l.over("r1", records.End{Status: records.StatusFailed})

	require.Equal(t, runs.Counts{Total: 5, Completed: 5}, l.step("r1", "fit").Counts)
	require.Equal(t, []string{"outer", "inner"}, l.step("r1", "fit").Shapes)
	require.Equal(t, []string{"fit[0,0] completed", "fit[0,1] completed", "fit[0,2] completed", "fit[1,0] completed", "fit[1,1] completed"}, names(t, l.step("r1", "fit")))
	require.Equal(t, runs.Counts{Total: 2, Completed: 2}, l.step("r1", "best").Counts)
	require.Equal(t, runs.Counts{Total: 3, Completed: 3}, l.step("r1", "tune_once").Counts)
	require.Equal(t, runs.Counts{Total: 1, Completed: 1}, l.step("r1", "ship").Counts)
	require.Equal(t, runs.Skipped, l.at("r1", "ship[0]").State)
	require.Equal(t, 2, l.step("r1", "inner").Completed, "the task that decides")
	_, err := l.read("r1").Task(t.Context(), "fit[1,2]")
	require.ErrorContains(t, err, "has 2 items there")
}

// TestRunningForeach has tasks in the run's workflow and in a part of it, tasks that failed for good, that are tried again and
// that are about to be caught.
func TestRunningForeach(t *testing.T) {
	t.Parallel()
	l := newGridLab(t, grid(flow.Fan{}))
	l.did("r1", "merge", nil, items(1000))
	l.did("r1", "fit", flow.Index{0}, nil)
	l.tried("r1", "fit", flow.Index{1}, records.Attempt{Outcome: records.Failed, Failure: failed("fit", flow.Index{1}, 1), CountsAsCodeFailure: true})
	l.tried("r1", "score", flow.Index{1}, records.Attempt{Outcome: records.Failed, Failure: failed("score", flow.Index{1}, 1), CountsAsCodeFailure: true})
	l.tried("r1", "fit", flow.Index{2}, records.Attempt{Outcome: records.Failed, Delay: time.Minute, CountsAsCodeFailure: true})
	late := failed("fit", flow.Index{3}, 2) // its worker told nothing
	d := records.Shard{Flow: "Grid", Run: "r1", Foreach: "grid", First: 0, Count: 500, Items: []records.Item{{Index: 3, Outcome: records.Failed, Failure: late}}}
	d.Add(d.Items[0])
	require.NoError(t, records.PutShard(t.Context(), l.store, d))

	activity := func(id string) *workflowpb.PendingActivityInfo {
		return &workflowpb.PendingActivityInfo{ActivityId: id, ActivityType: &commonpb.ActivityType{Name: "Grid.fit"}, Attempt: 1, State: enumspb.PENDING_ACTIVITY_STATE_STARTED}
	}
	server := &temporal{describe: func(_ context.Context, id string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
		d := &workflowservice.DescribeWorkflowExecutionResponse{WorkflowExecutionInfo: &workflowpb.WorkflowExecutionInfo{Status: enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING}}
		switch id {
		case "Grid/r1":
			d.PendingActivities = append(d.PendingActivities, activity("fit[7]"))
			for n := range 50 {
				d.PendingChildren = append(d.PendingChildren, &workflowpb.PendingChildExecutionInfo{WorkflowId: fmt.Sprintf("Grid/r1/grid/%d", n), WorkflowTypeName: "Grid.shard"})
			}
		case "Grid/r1/grid/3":
			d.PendingActivities = append(d.PendingActivities, activity("fit[700]"), activity("score[701]"))
		}
		return d, nil
	}}
	run, err := l.with(server).Run(t.Context(), "Grid", "r1")
	require.NoError(t, err)
	fit, err := run.Step(t.Context(), "fit")
	require.NoError(t, err)
	require.Equal(t, runs.Counts{Total: 1000, Completed: 1, Failed: 1, Running: 4}, fit.Counts)
	require.Equal(t, runs.Running, fit.State)
	require.EqualValues(t, 21, server.calls.Load(), "the run, and twenty of its fifty parts")
	require.Equal(t, []string{"fit[0] completed", "fit[1] running", "fit[2] running", "fit[3] failed", "fit[7] running", "fit[700] running"}, names(t, fit))
	for task, want := range map[string]runs.State{
		"fit[0]": runs.Completed, "fit[1]": runs.Running, "score[1]": runs.Failed, "fit[2]": runs.Running, "fit[3]": runs.Failed, "fit[7]": runs.Running, "fit[700]": runs.Running, "fit[800]": runs.NotStarted,
	} {
		got, err := run.Task(t.Context(), task)
		require.NoError(t, err)
		require.Equal(t, want, got.State, task)
	}
	require.Equal(t, runs.Running, run.PendingTask("fit[7]").State)
	require.Nil(t, run.PendingTask("fit[700]"), "it is in a child workflow")
	f, err := run.Foreach(t.Context(), "grid")
	require.NoError(t, err)
	require.Equal(t, []int{1000, 0, 2, 5}, []int{f.Items, f.Completed, f.Failed, f.Running})
}
