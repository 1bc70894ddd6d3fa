package ui_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
)

func TestLogsAreFiltered(t *testing.T) {
	t.Parallel()
	s := setup(t)
	base := "/runs/" + flowName + "/" + completed + "/tasks/load/logs"
	page := s.page(base)
	require.Contains(t, page, "12:00:01.000 INFO reading")
	require.Contains(t, page, "12:00:02.000 WARN &lt;b&gt;odd&lt;/b&gt;")
	require.NotContains(t, s.page(base+"?level=WARN"), "INFO reading")
	require.NotContains(t, s.page(base+"?q=odd"), "INFO reading")
	require.NotContains(t, s.page(base+"?attempt=2"), "INFO reading")
	require.Equal(t, http.StatusBadRequest, s.get(base+"?level=LOUD").Code)
}

// log writes lines of an attempt, each with the time that it begins with.
func (s *station) log(id, step string, x flow.Index, attempt int, lines ...string) {
	s.Helper()
	var all strings.Builder
	for _, line := range lines {
		clock, message, _ := strings.Cut(line, " ")
		fmt.Fprintf(&all, `{"time":"2026-01-01T%sZ","level":"INFO","msg":%q}`+"\n", clock, message)
	}
	s.doc(records.LogKey(flowName, id, step, x, attempt, false), all.String())
}

func TestTheLogOfARunIsInTheOrderOfTime(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.log(completed, "train", nil, 2, "12:00:01.500 in the middle", "12:00:03.000 last")
	base := "/runs/" + flowName + "/" + completed
	require.Contains(t, s.page(base), `href="`+base+`/logs"`)
	page := s.page(base + "/logs")
	at := -1
	for _, line := range []string{"12:00:01.000 INFO load reading", "12:00:01.500 INFO train#2 in the middle", "12:00:02.000 WARN load &lt;b&gt;odd", "12:00:03.000 INFO train#2 last"} {
		i := strings.Index(page, line)
		require.Greater(t, i, at, line)
		at = i
	}
	require.NotContains(t, s.page(base+"/logs?level=WARN"), "in the middle")
	require.NotContains(t, s.page(base+"/logs?attempt=1"), "in the middle")
	only := s.page(base + "/logs?step=train&q=last")
	require.Contains(t, only, "train#2 last")
	require.NotContains(t, only, "in the middle")
	require.NotContains(t, only, "reading")
	require.Contains(t, s.page(base+"/logs?q=nowhere"), "No line matches")
	require.Equal(t, http.StatusNotFound, s.get(base+"/logs?step=none").Code)
	require.Equal(t, http.StatusBadRequest, s.get(base+"/logs?level=LOUD").Code)
	require.Contains(t, s.page("/runs/"+flowName+"/"+failed+"/logs"), "No line matches")
}

func TestLogsOfARunThatGoesOnKeepThemselvesCurrent(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.log(open, "load", nil, 1, "14:00:01.000 first")
	for _, path := range []string{"/logs", "/tasks/load/logs"} {
		live, ended := s.get("/runs/"+flowName+"/"+open+path), s.get("/runs/"+flowName+"/"+completed+path)
		require.Contains(t, live.Body.String(), `<div id="page" data-live>`)
		require.Contains(t, live.Header().Get("Content-Security-Policy"), "script-src 'sha256-")
		require.NotContains(t, ended.Body.String(), "data-live")
		require.NotContains(t, ended.Header().Get("Content-Security-Policy"), "script-src")
	}
}

func TestALongLogOfARunHasPages(t *testing.T) {
	t.Parallel()
	s := setup(t)
	var lines []string
	for i := range 4500 {
		lines = append(lines, fmt.Sprintf("%s line %d", at("12:00:05").Add(time.Duration(i)*time.Millisecond).Format("15:04:05.000"), i))
	}
	s.log(completed, "train", nil, 1, lines...)
	base := "/runs/" + flowName + "/" + completed + "/logs?step=train"
	page := s.page(base)
	require.Contains(t, page, "Lines 4,001 to 4,500 of 4,500.")
	require.Contains(t, page, "line 4499\n")
	require.NotContains(t, page, "line 3999\n")
	require.Contains(t, page, "?page=2&amp;step=train")
	require.NotContains(t, page, "Later")
	page = s.page(base + "&page=1")
	require.Contains(t, page, "line 0\n")
	require.Contains(t, page, "Later")
	require.NotContains(t, page, "Earlier")
	require.Contains(t, s.page(base+"&page=99"), "line 4499\n")
	require.Contains(t, s.page(base+"&page=x"), "line 4499\n")
}
