package stepwell

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stepwell-flows/stepwell/runs"
)

func (c *command) cardCmd() *cobra.Command {
	var (
		output string
		open   bool
	)
	cmd := &cobra.Command{
		Use: "card FLOW/RUN/STEP [NAME]", Short: "Write a task's card, an HTML page, to a file, or open it",
		Long: `Write a task's card, an HTML page of one file, and print the file's path.

Without NAME it is the only card, or if there are several, their names are printed. The file is
FLOW-RUN-STEP-NAME.html in the working directory unless --output names another; --output -
writes to standard output. --open shows it in the browser, from a temporary file unless
--output names one.`,
		Example: c.examples(
			"card FLOW/latest/STEP                     write the card to the working directory",
			"card FLOW/latest/STEP --open              show it in the browser",
			"card FLOW/latest/STEP default -o a.html   the card named default, to a.html"),
		Args: between(1, "a task (Flow/run/step, or Flow/latest/step)", "a card"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkTaskSpec(args[0]); err != nil {
				return err
			}
			if open && output == "-" {
				return inputf("--open shows a file, --output - writes none (leave one out)")
			}
			ctx := cmd.Context()
			t, done, err := c.openTask(ctx, args[0])
			if err != nil {
				return err
			}
			defer done()
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
			name := "default" // if that is not there either, the error says what to do
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
			if err != nil {
				return err
			}
			return c.writeCard(ctx, task, name, page, output, open)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "the file to write, - for standard output")
	cmd.Flags().BoolVar(&open, "open", false, "open the card in the browser")
	return c.withJSON(cmd)
}

func (c *command) writeCard(ctx context.Context, task *runs.Task, name string, page []byte, output string, open bool) error {
	file := strings.NewReplacer("/", "-", "[", "-", "]", "", ",", "-").Replace(task.Pathspec()+"/"+name) + ".html"
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
