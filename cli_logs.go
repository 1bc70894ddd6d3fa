package stepwell

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

// manyLogs is how many tasks of a step have their logs read, unless all are asked for.
const manyLogs = 1000

func (c *command) logsCmd() *cobra.Command {
	var attempt int
	var all bool
	cmd := &cobra.Command{
		Use: "logs FLOW/RUN[/STEP]", Short: "Print what steps logged, in the order of time",
		Example: c.examples(
			"logs FLOW/latest                     all lines of the newest run",
			"logs FLOW/latest/STEP --attempt 2    those of one attempt of a step",
			"logs 'FLOW/latest/STEP[3]'           those of one item, of a step in a foreach",
			"logs FLOW/latest --json              a JSON object per line"),
		Args: exactly("a run, a step or a task (Flow/run, Flow/latest, Flow/run/step, Flow/run/step[3])"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("attempt") && attempt < 1 {
				return inputf("--attempt %d is not an attempt (they count from 1)", attempt)
			}
			ctx := cmd.Context()
			t, done, err := c.open(ctx, args[0])
			if err != nil {
				return err
			}
			defer done()
			limit := manyLogs
			if all {
				limit = 0
			}
			tasks, more, err := logged(ctx, t, limit)
			if err != nil {
				return err
			}
			lines, err := logLines(ctx, tasks, attempt)
			if err != nil {
				return err
			}
			if len(lines) == 0 {
				fmt.Fprintln(c.io.Err, "no lines were logged")
			}
			for _, step := range more {
				fmt.Fprintf(c.io.Err, "of step %q only the first %s are here that logged something (add --all, or name one)\n", clean(step), many(manyLogs, "task"))
			}
			return c.printLogs(lines)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, fmt.Sprintf("of a step with many tasks the logs of all, not only of the first %d", manyLogs))
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

// logged are the tasks of a target that can have logged something, of a step at most limit, and the steps that have more.
// A limit of 0 is none.
func logged(ctx context.Context, t target, limit int) (tasks []*runs.Task, more []string, _ error) {
	var steps []*runs.Step
	switch {
	case t.task != nil:
		return []*runs.Task{t.task}, nil, nil
	case t.step != nil:
		steps = []*runs.Step{t.step}
	case t.foreach != nil:
		steps = t.foreach.Steps
	default:
		var err error
		if steps, err = t.run.Steps(ctx); err != nil {
			return nil, nil, err
		}
	}
	for _, s := range steps {
		n := 0
		for task, err := range s.Logged(ctx) {
			if err != nil {
				return nil, nil, err
			}
			if n++; limit > 0 && n > limit {
				more = append(more, s.Name)
				break
			}
			tasks = append(tasks, task)
		}
	}
	return tasks, more, nil
}

// logLine is a line as it is shown and as it is stored.
type logLine struct {
	entry logEntry
	raw   string
}

// logLines merges the logs of tasks in the order of time. A line without a time stays behind the one before it.
func logLines(ctx context.Context, tasks []*runs.Task, attempt int) ([]logLine, error) {
	all := make([][]runs.Log, len(tasks))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for i, t := range tasks {
		g.Go(func() (err error) {
			all[i], err = t.Logs(ctx)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var lines []logLine
	for i, t := range tasks {
		batched := t.Batched()
		for _, l := range all[i] {
			if attempt > 0 && l.Attempt != attempt {
				continue
			}
			var before time.Time
			for raw := range strings.Lines(string(l.Raw)) {
				raw = strings.TrimSuffix(raw, "\n")
				e := entryOf(t.Name(), l.Attempt, l.Catch, records.ReadLogLine([]byte(raw)))
				if batched {
					e.itsTask()
				}
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
