package stepwell

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

func (c *command) logsCmd() *cobra.Command {
	var attempt int
	cmd := &cobra.Command{
		Use: "logs FLOW/RUN[/STEP]", Short: "Print what steps logged, in the order of time",
		Example: c.examples(
			"logs FLOW/latest                     all lines of the newest run",
			"logs FLOW/latest/STEP --attempt 2    those of one attempt of a step",
			"logs FLOW/latest --json              a JSON object per line"),
		Args: exactly("a run or a task (Flow/run, Flow/latest, Flow/run/step)"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("attempt") && attempt < 1 {
				return inputf("--attempt %d is not an attempt (they count from 1)", attempt)
			}
			ctx := cmd.Context()
			_, run, task, done, err := c.open(ctx, args[0])
			if err != nil {
				return err
			}
			defer done()
			tasks := []*runs.Task{task}
			if task == nil {
				if tasks, err = started(ctx, run); err != nil {
					return err
				}
			}
			lines, err := logLines(ctx, tasks, attempt)
			if err != nil {
				return err
			}
			if len(lines) == 0 {
				fmt.Fprintln(c.io.Err, "no lines were logged")
			}
			return c.printLogs(lines)
		},
	}
	cmd.Flags().IntVar(&attempt, "attempt", 0, "only this attempt (default all)")
	return c.withJSON(cmd)
}

func (c *command) printLogs(lines []logLine) error {
	var b strings.Builder
	for _, l := range lines {
		if !c.set.json {
			b.WriteString(l.entry.line(c.term.out.style) + "\n")
			continue
		}
		doc, err := marshalJSON(l.document(), "")
		if err != nil {
			return err
		}
		b.Write(doc)
	}
	fmt.Fprint(c.io.Out, b.String())
	return nil
}

// started are the tasks of a run that can have logged something.
func started(ctx context.Context, run *runs.Run) ([]*runs.Task, error) {
	steps, err := run.Steps(ctx)
	if err != nil {
		return nil, err
	}
	var tasks []*runs.Task
	for _, s := range steps {
		if s.Task != nil {
			tasks = append(tasks, s.Task)
		}
	}
	return tasks, nil
}

// logLine is a line as it is shown and as it is stored.
type logLine struct {
	entry logEntry
	raw   string
}

// logLines merges the logs of tasks in the order of time. A line without a time stays behind the one before it.
func logLines(ctx context.Context, tasks []*runs.Task, attempt int) ([]logLine, error) {
	var lines []logLine
	for _, t := range tasks {
		logs, err := t.Logs(ctx)
		if err != nil {
			return nil, err
		}
		for _, l := range logs {
			if attempt > 0 && l.Attempt != attempt {
				continue
			}
			var before time.Time
			for raw := range strings.Lines(string(l.Raw)) {
				raw = strings.TrimSuffix(raw, "\n")
				e := entryOf(t.Name(), l.Attempt, l.Catch, records.ReadLogLine([]byte(raw)))
				if e.time.IsZero() {
					e.time = before
				}
				before = e.time
				lines = append(lines, logLine{e, raw})
			}
		}
	}
	slices.SortStableFunc(lines, func(a, b logLine) int { return a.entry.time.Compare(b.entry.time) })
	return lines, nil
}

// document keeps the attributes as the step logged them: numbers stay numbers.
func (l logLine) document() logDocument {
	e := l.entry
	doc := logDocument{Time: e.time, Level: e.level, Task: e.task, Attempt: e.attempt, Catch: e.catch, Message: e.message}
	var attrs map[string]any
	if json.Unmarshal([]byte(l.raw), &attrs) != nil {
		return doc
	}
	for _, own := range []string{"time", "level", "msg"} {
		delete(attrs, own)
	}
	if len(attrs) > 0 {
		doc.Attrs = attrs
	}
	return doc
}
