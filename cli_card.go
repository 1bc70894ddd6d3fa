package stepwell

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stepwell-flows/stepwell/report"
	"github.com/stepwell-flows/stepwell/runs"
)

func (c *command) cardCmd() *cobra.Command {
	var (
		output string
		open   bool
	)
	cmd := &cobra.Command{
		Use: "card FLOW/RUN[/STEP] [NAME]", Short: "Write the card of a run, a foreach or a task, an HTML page, to a file, or open it",
		Long: `Write the card of a run, a foreach or a task, an HTML page of one file, and print the file's path.

The card of a run shows its graph, when each step ran, what failed first and what retries cost; that
of a foreach shows all items. A task has the cards that its step asked for, and if there are none,
the default one. Without NAME it is the only card, or if there are several, their names are printed.

The file is FLOW-RUN-STEP-NAME.html in the working directory unless --output names another;
--output - writes to standard output. --open shows it in the browser, from a temporary file unless
--output names one.`,
		Example: c.examples(
			"card FLOW/latest --open                   the newest run, in the browser",
			"card FLOW/latest/FOREACH                  a foreach with all of its items",
			"card FLOW/latest/STEP                     a task: write its card to the working directory",
			"card FLOW/latest/STEP default -o a.html   the card named default, to a.html"),
		Args: between(1, "a run, a foreach or a task (Flow/run, Flow/latest, Flow/run/step)", "a card"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if open && output == "-" {
				return inputf("--open shows a file, --output - writes none (leave one out)")
			}
			ctx := cmd.Context()
			t, done, err := c.openCard(ctx, args[0])
			if err != nil {
				return err
			}
			defer done()
			if t.task == nil {
				return c.runCard(ctx, t, args[1:], output, open)
			}
			task := t.task
			names, err := task.Cards(ctx)
			if err != nil {
				return err
			}
			if c.set.json {
				docs := []cardDocument{}
				for _, name := range names {
					docs = append(docs, cardDocument{Pathspec: task.Pathspec(), Name: name, Path: cardFile(t.reader.Store(), task, name)})
				}
				return c.printJSON(docs)
			}
			name := defaultCard
			switch {
			case len(args) == 2:
				name = args[1]
			case len(names) == 1:
				name = names[0]
			case len(names) > 1 && (open || output != ""):
				return inputf("%s has several cards (name one of %s)", task.Pathspec(), strings.Join(names, ", "))
			case len(names) > 1:
				for _, name := range names {
					fmt.Fprintln(c.io.Out, clean(name))
				}
				return nil
			}
			page, err := task.Card(ctx, name)
			if errors.Is(err, runs.ErrNotFound) && name == defaultCard && len(names) == 0 {
				var b bytes.Buffer
				err = report.Task(ctx, &b, task, report.Options{Command: c.hint})
				page = b.Bytes()
			}
			if err != nil {
				return err
			}
			return c.writeCard(ctx, task.Pathspec()+"/"+name, page, output, open)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "the file to write, - for standard output")
	cmd.Flags().BoolVar(&open, "open", false, "open the card in the browser")
	return c.withJSON(cmd)
}

// defaultCard is the card that every task has.
const defaultCard = "default"

// openCard reads what the pathspec names: a run, a foreach or a task.
func (c *command) openCard(ctx context.Context, spec string) (target, func(), error) {
	t, done, err := c.open(ctx, spec)
	if err != nil || t.step == nil {
		return t, done, err
	}
	done()
	return c.openTask(ctx, spec) // says how the tasks of the step are named
}

// runCard writes the card of a run or a foreach, which is made from the store as it stands.
func (c *command) runCard(ctx context.Context, t target, names []string, output string, open bool) error {
	spec, what := t.run.Pathspec(), "run"
	if t.foreach != nil {
		spec, what = spec+"/"+t.foreach.Name, "foreach"
	}
	switch {
	case len(names) > 0 && names[0] != what:
		return inputf("%s has one card (leave %q out)", spec, names[0])
	case c.set.json:
		return c.printJSON([]cardDocument{{Pathspec: spec, Name: what}})
	}
	var page bytes.Buffer
	o := report.Options{Command: c.hint, WebUI: c.embeddedUI(ctx)}
	var err error
	if t.foreach != nil {
		err = report.Foreach(ctx, &page, t.foreach, o)
	} else {
		err = report.Run(ctx, &page, t.run, o)
	}
	if err != nil {
		return err
	}
	return c.writeCard(ctx, spec+"/"+what, page.Bytes(), output, open)
}

// embeddedUI is the address of the embedded server's Web UI, "" if that server does not run or another one is used.
func (c *command) embeddedUI(ctx context.Context) string {
	if _, configured, err := c.temporalOptions(); err != nil || configured || c.app.Dev == nil {
		return ""
	}
	dev, err := c.app.Dev(ctx, DevOptions{Dir: c.set.stateDir, Existing: true, Logger: c.logger()})
	if err != nil {
		return "" // nothing runs, and the page needs nothing that does
	}
	defer dev.Stop()
	return dev.WebUI
}

// writeCard writes a card that has a name to the file that was asked for, and shows it if that was asked for.
func (c *command) writeCard(ctx context.Context, name string, page []byte, output string, open bool) error {
	file := strings.NewReplacer("/", "-", "[", "-", "]", "", ",", "-").Replace(name) + ".html"
	switch {
	case output == "-":
		_, err := c.io.Out.Write(page)
		return err
	case output == "" && open:
		dir, err := os.MkdirTemp("", "stepwell-card-") // the browser reads it after this program ended
		if err != nil {
			return err
		}
		output = filepath.Join(dir, file)
	case output == "":
		output = file
	}
	if err := c.save(output, func(w io.Writer) error { _, err := w.Write(page); return err }); err != nil || !open {
		return err
	}
	return openFile(ctx, output)
}

// openFile shows a local file in the user's browser.
func openFile(ctx context.Context, path string) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	opener := []string{"xdg-open"}
	switch runtime.GOOS {
	case "darwin":
		opener = []string{"open"}
	case "windows":
		opener = []string{"rundll32", "url.dll,FileProtocolHandler"}
	}
	program, err := exec.LookPath(opener[0])
	if err != nil {
		return inputf("no %s on this machine to open a browser with (open %s yourself)", opener[0], abs)
	}
	args := append(slices.Clone(opener[1:]), abs)
	if err := exec.CommandContext(ctx, program, args...).Run(); err != nil { //nolint:gosec // the system's opener, and a file that this program wrote
		return inputf("%s could not open a browser: %w (open %s yourself)", opener[0], err, abs)
	}
	return nil
}
