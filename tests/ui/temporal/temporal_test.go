// Package temporal opens the pages of "starter ui" and those of the Temporal Web UI side by side: a run is started on the embedded
// server, by the program itself, and followed from one to the other.
package temporal

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/devserver"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/tests/testserver"
	"github.com/stepwell-flows/stepwell/tests/ui/browser"
)

type state struct {
	Note string `param:"note" help:"anything"`
	Rows int
}

func orderFlow() *flow.Flow {
	return flow.New("OrderFlow",
		flow.Step("load", func(ctx context.Context, s *state) error {
			flow.Log(ctx).Info("loading", "note", s.Note)
			s.Rows = 1200
			return nil
		}),
		flow.Step("check", func(context.Context, *state) error { return flow.Fail("no rows are left") }),
	)
}

func TestMain(m *testing.M) {
	testserver.Main(m, stepwell.App{Flows: []*flow.Flow{orderFlow(), shopFlow(), slowFlow()}, Dev: devserver.Start})
}

// program is a program of the test binary, until the test ends.
type program struct {
	testing.TB
	cmd   *exec.Cmd
	lines *bufio.Scanner
}

func start(t testing.TB, args ...string) *program {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	p := &program{TB: t, cmd: exec.Command(self, args...)}
	p.cmd.Env = []string{testserver.Program + "=starter", "PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "NO_COLOR=1"}
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	p.lines = bufio.NewScanner(out)
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
	return p
}

// after is what the program prints after a text, up to the next space.
func (p *program) after(text string) string {
	p.Helper()
	for p.lines.Scan() {
		if rest, ok := strings.CutPrefix(p.lines.Text(), text); ok {
			word, _, _ := strings.Cut(rest, " ")
			return word
		}
	}
	require.FailNow(p, "the program ended", "it did not print %q", text)
	return ""
}

// rest reads what else the program prints, so that it can go on printing.
func (p *program) rest() {
	go func() {
		for p.lines.Scan() { // nobody wants it
		}
	}()
}

func TestFromARunToTheTemporalWebUI(t *testing.T) {
	dir := t.TempDir()
	tab := browser.Open(t, "http://127.0.0.1")
	dev := start(t, "dev", "--state-dir", dir)
	webUI := dev.after("Temporal Web UI ")
	dev.after("worker for ")
	dev.rest()

	run := start(t, "run", "OrderFlow", "--state-dir", dir, "--note", "quietly")
	var all strings.Builder
	for run.lines.Scan() {
		all.WriteString(run.lines.Text() + "\n")
	}
	var ended *exec.ExitError
	require.ErrorAs(t, run.cmd.Wait(), &ended, all.String())
	require.Equal(t, stepwell.ExitFailed, ended.ExitCode(), all.String())

	pages := start(t, "ui", "--listen", "127.0.0.1:0", "--state-dir", dir)
	at := strings.TrimSuffix(pages.after("pages at "), "/")
	pages.rest()
	tab.At(at)
	tab.Show("/runs/OrderFlow/latest")
	require.Contains(t, tab.Text(), "no rows are left")
	require.Contains(t, tab.Text(), "quietly")
	tab.Quiet("run")
	link := `a[href^="` + webUI + `/namespaces/default/workflows/OrderFlow"]`
	tab.Until("document.querySelector('" + link + "') !== null")
	tab.At(webUI)
	tab.Do(chromedp.Click(chromedp.CSS(link)))
	tab.Until("location.href.startsWith(" + quoted(webUI) + ") && document.body.innerText.includes('OrderFlow') && document.body.innerText.includes('Failed')")
	tab.Until("document.body.innerText.includes('load') && document.body.innerText.includes('check')")
	tab.Picture("ui-temporal")
}

func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", "%27") + "'" }
