package ui

import (
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
	"github.com/stepwell-flows/stepwell/tests/ui/browser"
	"github.com/stepwell-flows/stepwell/ui"
)

func TestMain(m *testing.M) { os.Exit(browser.Main(m)) }

// serve is where the pages of a store are.
func serve(t testing.TB, store *artifacts.Store) string {
	t.Helper()
	s := httptest.NewServer(ui.Handler(ui.Fixed(runs.New(store, nil), ""), ui.Options{}))
	t.Cleanup(s.Close)
	return s.URL
}

// TestFromFlowsToAnArtifact follows links only, as a person does, and looks at each page on the way.
func TestFromFlowsToAnArtifact(t *testing.T) {
	store, err := artifacts.Open(t.Context(), "mem:", artifacts.Options{})
	require.NoError(t, err)
	run := flowtest.Run(t, trainFlow(t), flowtest.Options{Store: store, Tags: []string{"nightly", "gpu"}, Params: map[string]string{"note": "quietly"}})
	require.Equal(t, records.StatusCompleted, run.Status, "%v", run.Failure)
	b := browser.Open(t, serve(t, store))

	look := func(name, path string, contains ...string) {
		t.Helper()
		got := browser.Eval[string](b, "location.pathname")
		require.Equal(t, path, got, name)
		for _, text := range contains {
			require.Contains(t, b.Text(), text, name)
		}
		require.LessOrEqual(t, browser.Eval[int](b, "document.querySelectorAll('h1').length"), 1, name)
		b.Accessible(name)
		b.Phone()
		require.LessOrEqual(t, browser.Eval[float64](b, "document.documentElement.scrollWidth"), 391.0, "%s is not wider than a phone", name)
		b.Desk()
		b.Quiet(name)
		b.Picture("ui-" + name)
	}
	follow := func(selector string) {
		t.Helper()
		before := browser.Eval[string](b, "document.querySelector('main').dataset.seen = location.href")
		b.Do(chromedp.Click(chromedp.CSS(selector)))
		b.Until(fmt.Sprintf("location.href !== %q && document.readyState === 'complete' && document.querySelector('main') !== null", before))
	}
	base := "/runs/" + flowName + "/" + run.Run.Run

	b.Show("/")
	look("flows", "/", flowName)
	follow("tbody th a")
	look("runs", "/runs/"+flowName, run.Run.Run, "completed", "nightly")
	b.Do(chromedp.SetValue(chromedp.CSS("#tags"), "other"))
	follow(".filters button")
	require.Contains(t, b.Text(), "No run matches")
	b.Show("/runs/" + flowName)
	follow("tbody th a")
	look("run", base, "completed", "quietly", "nightly")
	follow(fmt.Sprintf("a[href='%s/logs']", base))
	look("run-log", base+"/logs", "load reading quietly", "load#2 reading quietly")
	b.Do(chromedp.SetValue(chromedp.CSS("#level"), "WARN"))
	follow(".filters button")
	look("run-log-warnings", base+"/logs", "WARN load odd row")
	require.NotContains(t, b.Text(), "reading")
	follow("nav li:last-child a")
	follow(fmt.Sprintf("a[href='%s/tasks/load']", base))
	look("task", base+"/tasks/load", "connection reset", "1200")
	follow(fmt.Sprintf("a[href='%s/tasks/load/logs']", base))
	look("logs", base+"/tasks/load/logs", "INFO reading quietly", "WARN odd row")
	follow(fmt.Sprintf("a[href='%s/tasks/load/artifacts']", base))
	look("artifacts", base+"/tasks/load/artifacts", "rows.html", "1200")

	b.Show(base + "/tasks/report")
	look("task-with-card", base+"/tasks/report", "report")
	b.Show(base + "/tasks/report/cards/default")
	require.Contains(t, b.Text(), "AUC")
	b.Show(base + "/foreach/grid")
	look("foreach", base+"/foreach/grid", "grid")
	b.Show(base + "/steps/fit?state=failed")
	look("step", base+"/steps/fit", "fit[7]", "no rows are left")
	b.Go("/nowhere")
	require.Contains(t, b.Text(), "no such page")
}

// TestAForeachOfTenThousandItemsIsUsable looks at its page, and goes to one that failed.
func TestAForeachOfTenThousandItemsIsUsable(t *testing.T) {
	const items = 10_000
	p := newPlay(t, "large", nil)
	p.split(items)
	for i := range items {
		if i%1000 == 77 {
			_ = p.failed("fit", flow.Index{i}, 4*time.Second, "item has no rows")
			continue
		}
		p.did("fit", flow.Index{i}, 4*time.Second+time.Duration(i)*time.Millisecond, nil)
	}
	p.end(records.End{Status: records.StatusFailed, Ended: noon.Add(time.Minute), Failure: p.failed("fit", flow.Index{77}, 4*time.Second, "item has no rows")})
	b := browser.Open(t, serve(t, p.store))
	b.Show(p.path("/foreach/grid"))
	require.Contains(t, b.Text(), "10,000")
	require.Contains(t, b.Text(), "item has no rows")
	b.Accessible("foreach")
	b.Picture("ui-foreach-10000")
	size := browser.Eval[int](b, "document.documentElement.outerHTML.length")
	require.Less(t, size, 4<<20, "the page can be loaded again and again")
	b.Do(chromedp.Click(chromedp.CSS(fmt.Sprintf("a[href='%s']", p.path("/tasks/"+url.PathEscape("fit[77]"))))))
	b.Until("location.pathname.includes('/tasks/') && document.querySelector('main') !== null")
	require.Contains(t, b.Text(), "item has no rows")
	b.Show(p.path(""))
	require.Contains(t, b.Text(), "10,000")
	b.Picture("ui-run-10000")
	b.Quiet("large")
}

// TestARunningRunKeepsItsPageCurrent plays a run while its page is open.
func TestARunningRunKeepsItsPageCurrent(t *testing.T) {
	p := newPlay(t, "live", nil)
	p.split(4)
	b := browser.Open(t, serve(t, p.store))
	b.Show(p.path(""))
	b.Until("document.querySelector('#live [role=status]')?.textContent === 'live'")
	b.Accessible("a live page")
	b.Picture("ui-live")
	// What the reader did stays, and so does the document: nothing is loaded anew.
	browser.Eval[bool](b, "window.same = true")
	b.Do(chromedp.Focus(chromedp.CSS("nav a")))
	for i := range 4 {
		p.did("fit", flow.Index{i}, time.Duration(4+i)*time.Second, nil)
	}
	b.Until("document.querySelector('main').innerText.includes('4 of 4')")
	require.True(t, browser.Eval[bool](b, "window.same"))
	require.True(t, browser.Eval[bool](b, "document.activeElement.matches('nav a')"))

	b.Do(chromedp.Click(chromedp.CSS("#live button")))
	b.Until("document.querySelector('#live [role=status]').textContent === 'paused'")
	p.did("best", nil, 9*time.Second, nil)
	last := p.did("report", nil, 10*time.Second, nil)
	p.end(records.End{Status: records.StatusCompleted, Ended: noon.Add(11 * time.Second), Last: &last})
	require.NotContains(t, browser.Eval[string](b, "document.querySelector('header').innerText"), "completed")
	b.Do(chromedp.Click(chromedp.CSS("#live button")))
	b.Until("document.querySelector('#live [role=status]').textContent === 'ended'")
	require.Contains(t, browser.Eval[string](b, "document.querySelector('#page > header').innerText"), "completed")
	require.True(t, browser.Eval[bool](b, "document.querySelector('#live button') === null"))
	require.True(t, browser.Eval[bool](b, "window.same"))
	b.Quiet("live")
}

// TestTheLogOfARunIsFollowed has lines written while their page is open and somebody types.
func TestTheLogOfARunIsFollowed(t *testing.T) {
	p := newPlay(t, "logged", nil)
	log := func(lines int) {
		var all strings.Builder
		for i := range lines {
			fmt.Fprintf(&all, `{"time":"2026-01-01T12:00:%02d.%03dZ","level":"INFO","msg":"line %d"}`+"\n", i/1000, i%1000, i)
		}
		require.NoError(t, p.store.PutDoc(t.Context(), records.LogKey(flowName, p.id, "load", nil, 1, false), []byte(all.String())))
	}
	log(200)
	b := browser.Open(t, serve(t, p.store))
	b.Show(p.path("/logs"))
	b.Until("document.querySelector('#live [role=status]')?.textContent === 'live'")
	b.Accessible("the log of a run")
	b.Do(chromedp.Focus(chromedp.CSS("#q")))
	b.Do(chromedp.SendKeys(chromedp.CSS("#q"), "line 1"))
	browser.Eval[bool](b, "scrollTo(0, document.documentElement.scrollHeight); true")
	log(400)
	b.Until("document.querySelector('pre.log').innerText.includes('line 399')")
	require.True(t, browser.Eval[bool](b, "scrollY + innerHeight >= document.documentElement.scrollHeight - 2"), "who is at the end stays there")
	require.Equal(t, "line 1", browser.Eval[string](b, "document.querySelector('#q').value"))
	require.True(t, browser.Eval[bool](b, "document.activeElement.id === 'q'"))
	b.Quiet("the log of a run")
	b.Scheme("dark")
	b.Picture("ui-run-log-dark")
	b.Phone()
	browser.Eval[bool](b, "scrollTo(0, 0); true")
	b.Picture("ui-run-log-phone")
}

// TestNothingThatAFlowSaysRuns has a flow that puts a script wherever it can say something.
func TestNothingThatAFlowSaysRuns(t *testing.T) {
	note := `"'><img data-evil src=x onerror="alert(1)"><script data-evil>alert(1)</script><svg data-evil onload=alert(1)></svg></style></script></title></textarea><style data-evil>*{display:none}</style><a data-evil href="javascript:alert(1)">x</a>{{.}}${alert(1)}`
	store, err := artifacts.Open(t.Context(), "mem:", artifacts.Options{})
	require.NoError(t, err)
	run := flowtest.Run(t, trainFlow(t), flowtest.Options{Store: store, Tags: []string{note}, Params: map[string]string{"note": note}})
	require.Equal(t, records.StatusCompleted, run.Status, "%v", run.Failure)
	b := browser.Open(t, serve(t, store))
	base := "/runs/" + flowName + "/" + run.Run.Run
	for _, path := range []string{
		"/", "/runs/" + flowName, "/runs/" + flowName + "?tag=" + url.QueryEscape(note), "/runs/" + flowName + "?user=" + url.QueryEscape(note),
		base, base + "/logs", base + "/logs?q=" + url.QueryEscape(note), base + "/foreach/grid", base + "/steps/fit", base + "/tasks/load", base + "/tasks/load/artifacts", base + "/tasks/load/logs",
		base + "/tasks/load/logs?q=" + url.QueryEscape(note), base + "/tasks/report", base + "/tasks/report/cards/default",
		base + "/tasks/fit%5B7%5D",
	} {
		b.Show(path)
		require.Zero(t, browser.Eval[int](b, "document.querySelectorAll('[data-evil], main script, header script, a[href^=javascript]').length"), path)
		require.NotEmpty(t, strings.TrimSpace(b.Text()), path)
		b.Quiet(path)
	}
	for _, path := range []string{"/" + url.PathEscape(note), "/runs/" + url.PathEscape(note), base + "/tasks/" + url.PathEscape(note), "/runs/" + flowName + "?since=" + url.QueryEscape(note), base + "/logs?step=" + url.QueryEscape(note)} {
		b.Go(path)
		require.Zero(t, browser.Eval[int](b, "document.querySelectorAll('[data-evil], script').length"), path)
	}
}

// TestAStoredCardReachesNothing has a card that was put into the store by hand, and does what it can.
func TestAStoredCardReachesNothing(t *testing.T) {
	p := newPlay(t, "evil", nil)
	p.did("load", nil, 0, nil)
	require.NoError(t, p.store.PutDoc(t.Context(), records.CardKey(flowName, p.id, "load", nil, "default"), []byte(
		`<!doctype html><title>evil</title><p>a card</p><main></main><script>parent.pwned = 1; top.location = "/nowhere"; alert(1)</script>`+
			`<img src="/nowhere.png"><img src="http://127.0.0.1:1/x.png"><iframe src="/"></iframe><form action="/nowhere"><button autofocus>b</button></form>`)))
	b := browser.Open(t, serve(t, p.store))
	for _, path := range []string{p.path("/tasks/load"), p.path("/tasks/load/cards/default")} {
		b.Show(path)
		b.Until("document.readyState === 'complete'")
		require.Equal(t, path, browser.Eval[string](b, "location.pathname"))
		require.False(t, browser.Eval[bool](b, "'pwned' in window"), path)
	}
	require.Equal(t, "null", browser.Eval[string](b, "self.origin"), "an origin of its own")
	for _, fault := range b.Faults() { // what was refused is told; nothing was shown or asked
		require.NotContains(t, fault, "dialog")
	}
}
