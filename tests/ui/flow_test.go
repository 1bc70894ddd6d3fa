package ui

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/cards"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

const flowName = "TrainFlow"

// state is what the flow of these tests works on. Its texts are what the tests want to see on pages.
type state struct {
	Items int    `param:"items" default:"12" help:"how many alphas to try"`
	Note  string `param:"note" help:"anything"`

	Rows   int
	Alpha  float64
	Scores map[string]float64
	Report string
	Data   artifacts.File
}

func alphas(s *state) []float64 {
	all := make([]float64, s.Items)
	for i := range all {
		all[i] = float64(i) / 10
	}
	return all
}

func setAlpha(s *state, alpha float64) { s.Alpha = alpha }

// trainFlow is run in the test environment, and played by hand where its state in between matters.
func trainFlow(t testing.TB) *flow.Flow {
	t.Helper()
	dir := t.TempDir()
	return flow.New(flowName,
		flow.Step("load", func(ctx context.Context, s *state) error {
			flow.Log(ctx).Info("reading "+s.Note, "source", s.Note) //nolint:sloglint // the text is hostile in a test
			flow.Log(ctx).Warn("odd row", "line", 7)
			if flow.Current(ctx).Attempt == 1 {
				return errors.New("connection reset " + s.Note)
			}
			path := filepath.Join(dir, "rows.html")
			if err := os.WriteFile(path, []byte("<!doctype html><script>parent.pwned = 1; alert(1)</script>"), 0o600); err != nil {
				return err
			}
			s.Data.SetPath(path)
			s.Rows, s.Report, s.Scores = 1200, s.Note, map[string]float64{s.Note: 0.5}
			return nil
		}, policies.Retry{MaximumAttempts: 3, InitialInterval: time.Second}),
		flow.Branch("features", flow.Step("numeric", nothing), flow.Step("text", nothing)).Join("merge", join),
		flow.Foreach("grid", alphas, setAlpha,
			flow.Step("fit", func(ctx context.Context, s *state) error {
				if s.Alpha == 0.7 {
					return flow.Fail("no rows are left %s", s.Note)
				}
				return nil
			}),
		).With(flow.Fan{Tolerate: flow.Percent(50)}).Join("best", join),
		flow.Step("report", func(ctx context.Context, s *state) error {
			flow.Card(ctx).Append(
				cards.Markdown("## Result "+s.Note+"\n\n["+s.Note+"](javascript:alert(1)) <script>alert(1)</script> ![x](http://127.0.0.1:1/x.png)"),
				cards.ValueBox{Label: "AUC " + s.Note, Value: 0.71, Note: s.Note},
				cards.Table{Caption: s.Note, Columns: []string{"name", s.Note}, Rows: [][]any{{"a", s.Note}}},
				cards.Plot{Title: s.Note, Layers: []cards.Layer{cards.Line{Name: s.Note, X: []float64{0, 1, 2}, Y: []float64{1, 3, 2}}}},
			)
			return nil
		}, cards.Default()),
	)
}

func nothing(context.Context, *state) error { return nil }

func join(_ context.Context, s *state, in flow.Inputs[state]) error {
	s.Rows = in.Len()
	return nil
}

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// play is a run that is written by hand, task by task.
type play struct {
	testing.TB
	store *artifacts.Store
	flow  *flow.Flow
	id    string
}

func newPlay(t testing.TB, id string, change func(*records.Run)) *play {
	t.Helper()
	store, err := artifacts.Open(t.Context(), "mem:", artifacts.Options{})
	require.NoError(t, err)
	p := &play{t, store, trainFlow(t), id}
	r := records.Run{Flow: flowName, Run: id, Root: id, Plan: p.flow.Plan(), Started: noon, User: "ada", WorkflowID: flowName + "/" + id, Namespace: "default"}
	if change != nil {
		change(&r)
	}
	require.NoError(t, records.CreateRun(t.Context(), store, r))
	return p
}

// did writes the record of a finished task, which took a second.
func (p *play) did(step string, x flow.Index, started time.Duration, change func(*records.Task)) records.Ref {
	p.Helper()
	rec := records.Task{
		Flow: flowName, Run: p.id, Step: step, Index: x, Outcome: records.Completed, Attempt: 1, Worker: "7@host",
		Started: noon.Add(started), Ended: noon.Add(started + time.Second), Artifacts: map[string]artifacts.Entry{},
	}
	if change != nil {
		change(&rec)
	}
	ref, _, err := records.CreateTask(p.Context(), p.store, rec)
	require.NoError(p, err)
	return ref
}

// failed writes that an item failed for good.
func (p *play) failed(step string, x flow.Index, started time.Duration, message string) *policies.Failure {
	p.Helper()
	f := &policies.Failure{
		Class: policies.Invalid, Message: message, Flow: flowName, Run: p.id, Step: step, Task: flow.TaskName(step, x), Attempt: 1,
		Time: noon.Add(started + time.Second), Worker: "7@host",
	}
	require.NoError(p, records.PutAttempt(p.Context(), p.store, flowName, p.id, step, x, records.Attempt{
		Attempt: 1, Outcome: records.Failed, Worker: "7@host", Started: noon.Add(started), Ended: f.Time, Failure: f, CountsAsCodeFailure: true, Final: true,
	}))
	return f
}

// split writes the tasks up to a foreach of n items.
func (p *play) split(n int) {
	p.Helper()
	p.did("load", nil, 0, nil)
	p.did("numeric", nil, time.Second, nil)
	p.did("text", nil, time.Second, nil)
	p.did("merge", nil, 2*time.Second, func(r *records.Task) { r.Ahead = flow.Ahead{"grid": {Items: &flow.List{Len: n}}} })
}

func (p *play) end(e records.End) {
	p.Helper()
	require.NoError(p, records.CreateEnd(p.Context(), p.store, flowName, p.id, e))
}

func (p *play) path(more string) string { return fmt.Sprintf("/runs/%s/%s%s", flowName, p.id, more) }
