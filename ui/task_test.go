package ui_test

import (
	"html"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
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
