package ui_test

import (
	"context"
	"html"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
)

func TestARunLeadsToAllThatBelongsToIt(t *testing.T) {
	t.Parallel()
	s := setup(t)
	base := "/runs/" + flowName + "/" + completed
	page := s.page(base)
	require.Contains(t, page, `href="`+base+`/tasks/load"`)
	require.Contains(t, page, `href="/runs/TrainFlow"`)
	require.Contains(t, page, "http://127.0.0.1:8233/namespaces/default/workflows/TrainFlow%2F"+completed)
	page = s.page(base + "/tasks/load")
	require.Contains(t, page, base+"/tasks/load/artifacts/Data")
	require.Contains(t, page, base+"/tasks/load/cards/default")
	require.Contains(t, page, base+"/tasks/load/logs")

	got := s.get("/runs/" + flowName + "/latest")
	require.Equal(t, http.StatusFound, got.Code)
	require.Equal(t, "/runs/"+flowName+"/"+open, got.Header().Get("Location"))
	for _, path := range []string{"/runs/" + flowName + "/20260101-120000-00zzzzz", base + "/tasks/none", base + "/foreach/none", base + "/steps/none", base + "/tasks/load/cards/none"} {
		require.Equal(t, http.StatusNotFound, s.get(path).Code, path)
	}
	require.Equal(t, http.StatusBadRequest, s.get(base+"/tasks/load[").Code)
}

func TestOnlyARunThatGoesOnKeepsItsPageCurrent(t *testing.T) {
	t.Parallel()
	s := setup(t)
	live := s.get("/runs/" + flowName + "/" + open)
	require.Contains(t, live.Body.String(), "data-live")
	require.NotContains(t, strings.ReplaceAll(s.get("/runs/"+flowName+"/"+completed).Body.String(), "[data-live]", ""), "data-live")
}

func TestArtifactsAreListedAndLargeOnesAreNotRead(t *testing.T) {
	t.Parallel()
	s := setup(t)
	page := s.page("/runs/" + flowName + "/" + completed + "/tasks/load/artifacts")
	require.Contains(t, page, html.EscapeString("auc"))
	require.Contains(t, page, "file page.html")
	require.Contains(t, page, `aria-label="JSON of Large"`)
	require.Contains(t, s.page("/runs/"+flowName+"/"+open+"/tasks/load/artifacts"), "only a finished one")
}

func TestACardIsInAFrameOfItsOwnOrigin(t *testing.T) {
	t.Parallel()
	s := setup(t)
	base := "/runs/" + flowName + "/" + completed + "/tasks/load/cards/default"
	require.Contains(t, s.get("/runs/"+flowName+"/"+completed+"/tasks/load").Body.String(), `src="`+base+`"`)
	card := s.get(base)
	require.Contains(t, card.Body.String(), "a card")
	policy := card.Header().Get("Content-Security-Policy")
	require.Contains(t, policy, "sandbox")
	require.NotContains(t, policy, "allow-same-origin")
	require.NotContains(t, policy, "script-src 'unsafe")
	require.Contains(t, policy, "script-src 'sha256-", "what draws charts")
	require.Contains(t, policy, "frame-ancestors 'self'")
}

func TestPagesOfAStepWithinBatchesSayWhereTheRecordIs(t *testing.T) {
	t.Parallel()
	s := setup(t)
	nothing := func(context.Context, *state) error { return nil }
	f := flow.New(flowName, flow.Step("load", nothing), flow.Foreach("rows", func(*state) []int { return nil }, func(*state, int) {},
		flow.Loop("turns", func(*state) bool { return true }, flow.Step("turn", nothing)), flow.Step("cell", nothing),
	).With(flow.Fan{Batch: 10}).Join("total", func(context.Context, *state, flow.Inputs[state]) error { return nil }))
	const id = "20260101-150000-00ddddd"
	s.start(id, at("15:00:00"), func(r *records.Run) { r.Plan = f.Plan() })
	d := records.Shard{Flow: flowName, Run: id, Foreach: "rows", Count: 1, Items: []records.Item{{Outcome: records.Completed, Step: "cell", Attempt: 1}}}
	d.Add(d.Items[0])
	_, _, err := records.CreateBatch(t.Context(), s.store, d)
	require.NoError(t, err)
	require.NoError(t, records.CreateEnd(t.Context(), s.store, flowName, id, records.End{Status: records.StatusCompleted, Ended: at("15:01:00")}))
	base := "/runs/" + flowName + "/" + id
	page := s.page(base + "/steps/turn")
	require.Contains(t, page, "in batches")
	require.Contains(t, page, "an item has one record, that of its last step, cell")
	require.Contains(t, s.page(base+"/tasks/turn[0]/artifacts"), "that of its last task: cell[0]")
}
