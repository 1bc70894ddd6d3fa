// Package browser looks at pages in a real browser for tests: Chromium without a window, driven through its debugging protocol.
//
// A package calls [Main] from its TestMain, and [Open] for each test, which is skipped where there is no Chromium.
package browser

import (
	"context"
	_ "embed" // of the accessibility checker
	"encoding/json"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

var pictures = flag.String("pictures", "", "write pictures of the pages to this directory, to look at and for the documents")

// Main runs the tests of a package and ends the browser.
func Main(m *testing.M) int {
	defer func() {
		if chromium.stop != nil {
			chromium.stop()
		}
	}()
	return m.Run()
}

// patience bounds a test in the browser. It is long, because the machine may be slow; nothing waits for it to pass.
const patience = 4 * time.Minute

// chromium is the browser of all tests.
var chromium shared

type shared struct {
	once sync.Once
	ctx  context.Context //nolint:containedctx // it is how chromedp names a browser
	stop context.CancelFunc
	err  error
}

// programs are the names that Chromium goes by.
var programs = []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "headless-shell", "chrome"}

func (s *shared) start(path string) {
	o := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WSURLReadTimeout(patience),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("force-color-profile", "srgb"), chromedp.WindowSize(1100, 900),
	)
	allocator, stop := chromedp.NewExecAllocator(context.Background(), o...)
	s.ctx, _ = chromedp.NewContext(allocator)
	s.stop = stop
	s.err = chromedp.Do(s.ctx)
}

// Tab is a page of the browser with nothing in common with others.
type Tab struct {
	testing.TB
	ctx  context.Context //nolint:containedctx // it is how chromedp names a tab
	base string

	mu     sync.Mutex
	faults []string
}

// Open opens an empty tab. What it is told to show is below base.
func Open(t testing.TB, base string) *Tab {
	t.Helper()
	if testing.Short() {
		t.Skip("it starts a browser")
	}
	var path string
	for _, name := range programs {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Skip("there is no Chromium on this machine (install the Debian package chromium)")
	}
	chromium.once.Do(func() { chromium.start(path) })
	require.NoError(t, chromium.err, "start %s", path)
	ctx, cancel := chromedp.NewContext(chromium.ctx, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	ctx, stop := context.WithTimeout(ctx, patience)
	t.Cleanup(stop)
	b := &Tab{TB: t, ctx: ctx, base: base}
	require.NoError(t, chromedp.Listen(ctx, b.hear))
	call(b, network.Enable, network.EnableParams{})
	call(b, log.Enable, cdp.Empty{})
	call(b, runtime.Enable, cdp.Empty{})
	return b
}

// hear notes everything that an inert page never does: dialogs, errors, refused content, requests to elsewhere.
func (b *Tab) hear(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fault := func(format string, args ...any) {
		b.faults = append(b.faults, fmt.Sprintf(format, args...))
	}
	switch e := event.(type) {
	case *page.EventJavascriptDialogOpening:
		fault("dialog %q", e.Message)
		go func() { // not in the loop that tells of events
			_, _ = chromedp.Call(b.ctx, page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{})
		}()
	case *runtime.EventExceptionThrown:
		fault("exception %s", e.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		if e.Type == "error" || e.Type == "warning" {
			fault("console %s %v", e.Type, e.Args)
		}
	case *log.EventEntryAdded:
		if (e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning) && !strings.HasSuffix(e.Entry.URL, "/favicon.ico") {
			fault("%s: %s %s", e.Entry.Level, e.Entry.Text, e.Entry.URL)
		}
	case *network.EventRequestWillBeSent:
		if u, err := url.Parse(e.Request.URL); err != nil || u.Scheme != "data" && u.Scheme != "about" && !strings.HasPrefix(e.Request.URL, b.base) {
			fault("request to %s", e.Request.URL)
		}
	}
}

// Quiet requires that nothing was heard.
func (b *Tab) Quiet(where string) {
	b.Helper()
	require.Empty(b, b.Faults(), where)
}

// Do does some steps. One whose element a live page replaces at that moment has done nothing, and is tried again.
func (b *Tab) Do(steps ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	for _, step := range steps {
		err := chromedp.Do(b.ctx, step)
		for tries := 1; tries < 5 && err != nil && strings.Contains(err.Error(), "Could not find node with given id"); tries++ {
			err = chromedp.Do(b.ctx, step)
		}
		require.NoError(b, err)
	}
}

func call[P, R any](b *Tab, c cdp.Command[P, R], params P) R {
	b.Helper()
	r, err := chromedp.Call(b.ctx, c, params)
	require.NoError(b, err)
	return r
}

// At changes the base: the tab is told to show other pages.
func (b *Tab) At(base string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.base = base
}

// Go goes to an address below the base.
func (b *Tab) Go(path string) {
	b.Helper()
	b.mu.Lock()
	base := b.base
	b.mu.Unlock()
	b.Do(chromedp.Navigate(base + path))
}

// Show goes to a page, as far as its main part.
func (b *Tab) Show(path string) {
	b.Helper()
	b.Go(path)
	b.Do(chromedp.WaitReady(chromedp.CSS("main")))
}

// Eval is the value of a JavaScript expression in the page, which may be a promise.
func Eval[T any](b *Tab, expression string) T {
	b.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	require.NoError(b, err, expression)
	return v
}

// Until waits until an expression is true. The expression must also be right while another page is loaded. The policy of the pages
// allows nothing that would wait in the page itself.
func (b *Tab) Until(expression string) {
	b.Helper()
	for {
		ok, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool](expression))
		if err == nil && ok {
			return
		}
		select {
		case <-b.ctx.Done():
			require.NoError(b, b.ctx.Err(), "%s: %v", expression, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Text is what the page shows as text.
func (b *Tab) Text() string { return Eval[string](b, "document.body.innerText") }

// Scheme chooses light or dark.
func (b *Tab) Scheme(name string) {
	b.Helper()
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}}})
}

// Phone makes the window as narrow as a phone.
func (b *Tab) Phone() { b.Do(chromedp.EmulateViewport(390, 844)) }

// Desk makes the window as wide as on a desk.
func (b *Tab) Desk() { b.Do(chromedp.EmulateViewport(1100, 900)) }

//go:embed axe/axe.min.js
var axe string

// Accessible requires that the page, in light and dark, has no fault that keeps people from using it.
func (b *Tab) Accessible(where string) {
	b.Helper()
	for _, scheme := range []string{"light", "dark"} {
		b.Scheme(scheme)
		Eval[string](b, axe+"; axe.version")
		found := Eval[[]struct {
			ID, Impact, Help string
			Nodes            []struct{ HTML, FailureSummary string }
		}](b, `axe.run(document, {resultTypes: ["violations"], iframes: false}).then(r => r.violations)`)
		var serious []string
		for _, v := range found {
			if v.Impact == "serious" || v.Impact == "critical" {
				nodes, err := json.MarshalIndent(v.Nodes[:min(len(v.Nodes), 3)], "", " ")
				require.NoError(b, err)
				serious = append(serious, fmt.Sprintf("%s (%s): %s: %s", v.ID, v.Impact, v.Help, nodes))
			}
		}
		require.Empty(b, serious, "%s in %s colours", where, scheme)
	}
	b.Scheme("light")
}

// Picture keeps a picture of what the window shows, if any are wanted.
func (b *Tab) Picture(name string) {
	b.Helper()
	if *pictures == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	require.NoError(b, err)
	require.NoError(b, os.WriteFile(filepath.Join(*pictures, name+".png"), png, 0o644))
}

// Faults are what was heard that an inert page never does.
func (b *Tab) Faults() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.faults)
}
