package report_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/report"
	"github.com/stepwell-flows/stepwell/runs"
)

// links leads everywhere.
func links(p report.Place) string {
	parts := []string{"", p.Flow, p.Run, p.Task, p.Step, p.Foreach, p.Artifact, p.Card}
	if p.Logs {
		parts = append(parts, "logs")
	}
	return "/" + strings.Trim(strings.Join(parts, "/"), "/")
}

// has requires that a page has texts, and on failure does not print the page, which is long.
func has(t testing.TB, page string, texts ...string) {
	t.Helper()
	for _, s := range texts {
		if !strings.Contains(page, s) {
			t.Errorf("the page does not have %q", s)
		}
	}
}

// lacks requires that a page has none of the texts.
func lacks(t testing.TB, page string, texts ...string) {
	t.Helper()
	for _, s := range texts {
		if strings.Contains(page, s) {
			t.Errorf("the page has %q", s)
		}
	}
}

var styleText = regexp.MustCompile(`(?s)<style>.*?</style>|&#39;sha256-.*?&#39;`)

// golden compares a page without its style sheet and the place of its store to a file.
func golden(t testing.TB, name, page, store string) {
	t.Helper()
	page = strings.ReplaceAll(styleText.ReplaceAllString(page, ""), store, "STORE")
	path := filepath.Join("testdata", name+".html")
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(page), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	if string(want) != page {
		for i, line := range strings.Split(page, "\n") {
			if old := strings.Split(string(want), "\n"); i >= len(old) || old[i] != line {
				t.Fatalf("%s, line %d (go test ./report -update writes it anew):\n%.2000s", path, i+1, line)
			}
		}
		t.Fatalf("%s has more lines", path)
	}
}

func TestRunTellsWhatFailedFirstAndWhatCameOfIt(t *testing.T) {
	t.Parallel()
	l := newLab(t, grid(flow.Fan{}))
	l.failed("r1", 40)
	page := l.runPage("r1", report.Options{WebUI: "http://127.0.0.1:8233"})
	golden(t, "run", page, l.store.String())
	has(t, page, "item 7 has no rows", "main.fit(...)", "fit: 3 others failed", "never started: best, ship, tell, tune_once, end",
		"after the code is fixed", "starter resume GridFlow/r1", `href="http://127.0.0.1:8233/namespaces/default/workflows/GridFlow%2Fr1"`,
		"attempt 1 failed after 800 ms: RateLimited: store: 429 too many requests", "waited 2 s")
	// Of 13 items the first attempt failed, and 4 items failed, two of which are among those.
	has(t, page, `<th scope="row">fit</th><td class="n">15</td><td class="n">17</td>`)
	lacks(t, page, "<a href=\"/")
}

func TestRunThatCompletedTellsWhatItOvercame(t *testing.T) {
	t.Parallel()
	l := newLab(t, grid(flow.Fan{Tolerate: flow.Count(1)}))
	l.start("r1", nil)
	l.did("r1", "load", nil, 0, 1, func(r *records.Task) {
		r.Outcome, r.Failure = records.Caught, failure(policies.Invalid, "load", nil, "no such bucket", 1)
	})
	l.did("r1", "merge", nil, 1, 2, ahead(2))
	l.did("r1", "fit", flow.Index{0}, 2, 3)
	l.tried("r1", "fit", flow.Index{1}, records.Attempt{Attempt: 1, Outcome: records.Failed, Started: after(2), Ended: after(3), Final: true,
		Failure: failure(policies.Invalid, "fit", flow.Index{1}, "bad row", 3), CountsAsCodeFailure: true})
	l.did("r1", "best", nil, 3, 4)
	l.over("r1", records.End{Status: records.StatusCompleted, Ended: after(5)})
	has(t, l.runPage("r1", report.Options{Link: links}), "Failures that did not stop it", "no such bucket",
		`<b><a href="/GridFlow/r1///grid">fit</a></b> <span class="quiet">1 failed, which was tolerated</span>`)
	lacks(t, l.runPage("r1", report.Options{}), "What failed first")
}

func TestForeachShowsEachItemAndWhySomeFailed(t *testing.T) {
	t.Parallel()
	l := newLab(t, grid(flow.Fan{}))
	l.failed("r1", 40)
	page := l.foreachPage("r1", "grid", report.Options{Link: links})
	golden(t, "foreach", page, l.store.String())
	has(t, page, "item 7 has no rows", "item 17 has no rows", "PanicError", "32 of 40 items have ended", "28 completed", "4 failed",
		"<title>grid[27]: failed</title>", "starter show GridFlow/r1/fit --failed")
}

func TestForeachOfManyItemsIsSummedUp(t *testing.T) {
	t.Parallel()
	l := newLab(t, grid(flow.Fan{Batch: 1000}))
	l.start("r1", nil)
	const items = 30_000
	l.did("r1", "merge", nil, 0, 1, ahead(items))
	for first := 0; first < items; first += 1000 {
		s := records.Shard{Flow: "GridFlow", Run: "r1", Foreach: "grid", First: first, Count: 1000}
		for i := range 1000 {
			item := records.Item{Index: first + i, Outcome: records.Completed, Step: "score", Attempt: 1, Started: after(float64(first) / 1000), Took: time.Second}
			if first == 5000 && i == 500 {
				item.Outcome, item.Failure = records.Failed, failure(policies.Invalid, "fit", flow.Index{5500}, "item 5500 has no rows", 6)
			}
			s.Items = append(s.Items, item)
			s.Add(item)
		}
		_, _, err := records.CreateBatch(t.Context(), l.store, s)
		require.NoError(t, err)
	}
	l.over("r1", records.End{Status: records.StatusFailed, Ended: after(40), Failure: failure(policies.Invalid, "fit", flow.Index{5500}, "item 5500 has no rows", 6)})
	page := l.foreachPage("r1", "grid", report.Options{Link: links})
	has(t, page, "Each square is 3 items", "29,999 completed", "1 failed", "30,000 of 30,000 items have ended")
	if n := len(page); n > 400_000 {
		t.Errorf("the page has %d bytes", n)
	}
}

// Items of a batch have one record, of their last step: pages must not say that the others did not run.
func TestStepsWithinBatchesAreNotCalledSkipped(t *testing.T) {
	t.Parallel()
	l := newLab(t, flow.New("GridFlow",
		flow.Step("merge", nop),
		flow.Foreach("grid", none, setRows,
			flow.Loop("turns", func(*state) bool { return true }, flow.Step("turn", nop, policies.Retry{MaximumAttempts: 3})),
			flow.Step("score", nop),
		).With(flow.Fan{Batch: 10, Tolerate: flow.Count(1)}).Join("best", join),
	))
	l.start("r1", nil)
	l.did("r1", "merge", nil, 0, 1, ahead(2))
	s := records.Shard{Flow: "GridFlow", Run: "r1", Foreach: "grid", Count: 2, Items: []records.Item{
		{Index: 0, Outcome: records.Completed, Step: "score", Attempt: 1, Started: after(2), Took: time.Second},
		{Index: 1, Outcome: records.Completed, Step: "score", Attempt: 3, Started: after(3), Took: time.Second},
	}}
	for _, item := range s.Items {
		s.Add(item)
	}
	_, _, err := records.CreateBatch(t.Context(), l.store, s)
	require.NoError(t, err)
	l.did("r1", "best", nil, 5, 6)
	l.over("r1", records.End{Status: records.StatusCompleted, Ended: after(7)})
	for _, page := range []string{
		l.runPage("r1", report.Options{Link: links}),
		l.foreachPage("r1", "grid", report.Options{Link: links}),
	} {
		has(t, page, "in batches", "an item has one record, that of its last step, score")
		require.NotContains(t, page, ">skipped<")
	}
	has(t, l.taskPage("r1", "turn[1]", report.Options{}), "Nothing tells whether this task ran", "score[1]")
	has(t, l.taskPage("r1", "turn[1]", report.Options{Link: links}), "an item of a batch has one, that of its last task: score[1]")
	has(t, l.taskPage("r1", "score[1]", report.Options{Link: links}), "3, of which an item of a batch keeps the last")
}

func TestTaskHasADefaultCardAlthoughItsStepAskedForNone(t *testing.T) {
	t.Parallel()
	l := newLab(t, grid(flow.Fan{}))
	l.failed("r1", 40)
	has(t, l.taskPage("r1", "merge", report.Options{}), "<h1>merge</h1>", "Parameters", "alpha", `<code>&#34;merge&#34;</code>`)
	has(t, l.taskPage("r1", "fit[7]", report.Options{}), "item 7 has no rows", "<h1>fit[7]</h1>")
	has(t, l.taskPage("r1", "end", report.Options{}), "<h1>end</h1>", "This task has not started.")
	page := l.taskPage("r1", "load", report.Options{Link: links})
	has(t, page, "store: 429 too many requests", "waited 2 s: asked for 2s by the error", "12:00:03.400 #2 INFO read rows=1200",
		`<a href="/GridFlow/r1/load///Rows">Rows</a>`)
}

func TestArtifactWhoseContentIsGoneDoesNotKeepATaskFromBeingShown(t *testing.T) {
	t.Parallel()
	l := newLab(t, grid(flow.Fan{}))
	l.start("r1", nil)
	l.did("r1", "load", nil, 0, 1, func(r *records.Task) {
		e := r.Artifacts["Note"]
		e.Inline, e.Size = nil, 10
		r.Artifacts["Note"] = e
	})
	has(t, l.taskPage("r1", "load", report.Options{}), "(the content is gone)")
}

// temporal says that one workflow runs, and which activities.
type temporal struct {
	client.Client
	pending []*workflowpb.PendingActivityInfo
}

func (f temporal) DescribeWorkflowExecution(context.Context, string, string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	return &workflowservice.DescribeWorkflowExecutionResponse{
		WorkflowExecutionInfo: &workflowpb.WorkflowExecutionInfo{Status: enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING}, PendingActivities: f.pending,
	}, nil
}

func TestRunThatGoesOnIsDrawnAsItStands(t *testing.T) {
	t.Parallel()
	l := newLab(t, grid(flow.Fan{}))
	l.start("r1", nil)
	l.did("r1", "load", nil, 0, 10)
	l.did("r1", "numeric", nil, 10, 20)
	lost := failure(policies.Transient, "embed", nil, "connection refused", 30)
	l.did("r1", "text", nil, 10, 15)
	l.tried("r1", "embed", nil, records.Attempt{Attempt: 1, Outcome: records.Failed, Started: after(15), Ended: after(30), Failure: lost, CountsAsCodeFailure: true,
		Final: true, Paused: true})
	l.tried("r1", "merge", nil, records.Attempt{Attempt: 1, Outcome: records.Failed, Started: after(30), Ended: after(31), Failure: lost, CountsAsCodeFailure: true, Delay: time.Minute})
	server := temporal{pending: []*workflowpb.PendingActivityInfo{{ActivityId: "merge", ActivityType: &commonpb.ActivityType{Name: "GridFlow.merge"}, Attempt: 2,
		State: enumspb.PENDING_ACTIVITY_STATE_STARTED, LastStartedTime: timestamppb.New(after(91))}}}
	run, err := runs.New(l.store, server).Run(t.Context(), "GridFlow", "r1")
	require.NoError(t, err)
	o := report.Options{Live: true, Script: "refresh()", Now: after(100), Link: links}
	page := l.page(func(b *bytes.Buffer) error { return report.Run(t.Context(), b, run, o) })
	has(t, page, `<div id="page" data-live>`, "live, as of 2026-01-01 12:01:40 UTC", "Waits for a person", "starter skip GridFlow/r1/embed", "attempt 2 runs",
		"<script>refresh()</script>", "script-src &#39;sha256-", "1 m 40 s", "starter attach GridFlow/r1")

	task, err := run.Task(t.Context(), "embed")
	require.NoError(t, err)
	has(t, l.page(func(b *bytes.Buffer) error { return report.Task(t.Context(), b, task, o) }), "starter retry GridFlow/r1/embed", "connection refused")
	task, err = run.Task(t.Context(), "merge")
	require.NoError(t, err)
	has(t, l.page(func(b *bytes.Buffer) error { return report.Task(t.Context(), b, task, report.Options{Now: after(100)}) }), "running", "<b>Attempt 2</b>")

	// Without Temporal nobody knows whether it goes on, and the page says when it was drawn.
	has(t, l.runPage("r1", report.Options{Now: after(100)}), "not ended", "as of 2026-01-01 12:01:40 UTC")
}

func TestRunLeadsToItsOriginAndToWhatWasResumedFromIt(t *testing.T) {
	t.Parallel()
	l := newLab(t, grid(flow.Fan{}))
	l.failed("r1", 3)
	lacks(t, l.runPage("r1", report.Options{Link: links}), "Resumed as", "Resumed from")
	for i, id := range []string{"r2", "r3", "r4"} {
		l.start(id, func(r *records.Run) {
			r.Started, r.Origin, r.Root = after(60*float64(i+1)), "r1", "r1"
			if id == "r4" {
				r.Origin = "r3"
			}
		})
	}
	l.over("r2", records.End{Status: records.StatusCompleted, Ended: after(90)})
	page := l.runPage("r1", report.Options{Link: links})
	has(t, page, `<dt>Resumed as</dt><dd><a href="/GridFlow/r2">r2, completed</a></dd>`, `<a href="/GridFlow/r3">r3, not ended</a>`)
	lacks(t, page, "r4")
	has(t, l.runPage("r4", report.Options{Link: links}), `<dt>Resumed from</dt><dd><a href="/GridFlow/r3">r3</a></dd>`, `<dt>First run</dt><dd><a href="/GridFlow/r1">r1</a></dd>`)
}
