package ui_test

import (
	"fmt"
	"html"
	"net/http"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

func TestFlowsAreListedWithTheirLatestRun(t *testing.T) {
	t.Parallel()
	s := setup(t)
	page := s.page("/")
	require.Contains(t, page, `<a href="/runs/TrainFlow">TrainFlow</a>`)
	require.Contains(t, page, `<td class="n">3</td>`)
	require.Contains(t, page, `<a href="/runs/TrainFlow/`+open+`">`)
}

func TestRunsAreFiltered(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for query, want := range map[string][]string{
		"": {open, failed, completed}, "?status=failed": {failed}, "?status=completed": {completed}, "?status=unknown": {open}, "?status=": {open, failed, completed},
		"?tag=nightly": {completed}, "?tags=nightly,+": {completed}, "?tag=nightly&tag=other": {}, "?user=bob": {failed}, "?user=ada": {open, completed},
		"?since=2026-01-01T12:30:00Z": {open, failed}, "?since=2026-01-01": {open, failed, completed}, "?since=24h": {}, "?since=1d": {},
		"?before=" + failed: {completed}, "?status=failed&user=ada": {},
	} {
		page := s.page("/runs/" + flowName + query)
		got := []string{}
		for _, m := range regexp.MustCompile(`<th scope="row"><a href="/runs/TrainFlow/([^"]+)">`).FindAllStringSubmatch(page, -1) {
			got = append(got, m[1])
		}
		require.Equal(t, want, got, query)
	}
	for _, query := range []string{"?status=odd", "?since=yesterday", "?since=-3h", "?since=1.5d"} {
		require.Equal(t, http.StatusBadRequest, s.get("/runs/"+flowName+query).Code, query)
	}
	require.Equal(t, http.StatusNotFound, s.get("/runs/OtherFlow").Code)
}

func TestALinkOfATagFindsItWhateverIsInIt(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.start("commas", at("15:00:00"), func(r *records.Run) { r.Tags = []string{"a, b&c=d"} })
	page := s.page("/runs/" + flowName)
	href := regexp.MustCompile(`href="([^"]+)">a, b&amp;c=d</a>`).FindStringSubmatch(page)
	require.NotNil(t, href)
	page = s.page(html.UnescapeString(href[1]))
	require.Contains(t, page, "/runs/TrainFlow/commas")
	require.NotContains(t, page, completed)
}

func TestRunsComeInPages(t *testing.T) {
	t.Parallel()
	s := setup(t)
	first := time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	for i := range 130 {
		started := first.Add(time.Duration(i) * time.Minute)
		s.start(runs.NewID(started), started, func(r *records.Run) { r.User = fmt.Sprintf("user%d", i%2) })
	}
	older := regexp.MustCompile(`rel="next" href="([^"]+)"`)
	row := regexp.MustCompile(`<th scope="row"><a href="/runs/TrainFlow/([^"]+)">`)
	for query, want := range map[string]int{"": 133, "?user=user1": 65} {
		seen, path := map[string]bool{}, "/runs/"+flowName+query
		for pages := 1; ; pages++ {
			page := s.page(path)
			for _, m := range row.FindAllStringSubmatch(page, -1) {
				require.False(t, seen[m[1]], "twice: %s", m[1])
				seen[m[1]] = true
			}
			next := older.FindStringSubmatch(page)
			if next == nil {
				require.Equal(t, (want+49)/50, pages)
				break
			}
			path = html.UnescapeString(next[1])
		}
		require.Len(t, seen, want)
	}
}

func TestARunThatCannotBeReadIsListedAsSuch(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.doc(records.RunKey(flowName, "20260101-150000-00ddddd"), "{damaged")
	page := s.page("/runs/" + flowName)
	require.Contains(t, page, "20260101-150000-00ddddd")
	require.Contains(t, page, completed)
	require.Contains(t, s.page("/"), `<a href="/runs/TrainFlow/`+open+`">`)
}
