package stepwell

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"charm.land/lipgloss/v2"

	"github.com/stepwell-flows/stepwell/runs"
)

// someTasks is how many tasks of a step are shown when there are many.
const someTasks = 20

// showOptions choose among the tasks of a step with many.
type showOptions struct {
	all, failed bool
}

// stepsTable shows the steps of a run: those with one task with what it did, others with counts.
func (c *command) stepsTable(steps []stepDocument, tasks []taskDocument) {
	s := c.term.out.style
	width := len("STEP")
	for _, step := range steps {
		width = max(width, lipgloss.Width(clean(step.Step)))
	}
	padded := func(name string) string { return name + strings.Repeat(" ", width-lipgloss.Width(name)) }
	t := newTable(c.io.Out)
	t.row(s.faint(padded("STEP")), s.faint("STATE"), s.faint("ATTEMPTS"), s.faint("TOOK"), s.faint("SET"), s.faint("NOTE"))
	for _, step := range steps {
		name := clean(step.Step)
		i := slices.IndexFunc(tasks, func(task taskDocument) bool { return task.Step == step.Step })
		switch {
		case i >= 0:
			t.row(taskCells(tasks[i], s)...)
		case step.State == runs.InBatches:
			t.row(name, s.state(step.State), "-", "-", "-", stepText(step, s))
		case step.counts().Begun() == 0:
			t.row(name, s.state(step.State), "-", "-", "-")
		default:
			t.row(padded(name) + "  " + stepText(step, s))
		}
	}
	t.flush()
}

// taskCells are a row about a task.
func taskCells(task taskDocument, s style) []string {
	attempts, took := "-", "-"
	if n := triedAttempts(task); n > 0 {
		attempts = fmt.Sprintf("%d of %d", n, task.MaximumAttempts)
		if lost := lostAttempts(task); lost > 0 { // they do not count
			attempts = fmt.Sprintf("%d of %d, %d lost", n-lost, task.MaximumAttempts, lost)
		}
	}
	if task.DurationSeconds > 0 {
		took = briefly(seconds(task.DurationSeconds))
	}
	return []string{clean(task.Task), s.state(task.State), attempts, took, dash(clean(shorten(strings.Join(task.Set, ", "), 60))), note(task)}
}

// showStep shows a step with many tasks, and some or all of them.
func (c *command) showStep(ctx context.Context, t target, o showOptions) error {
	doc := documentStep(t.run, t.step)
	if c.set.json {
		return c.printStep(ctx, t, doc, o)
	}
	s := c.term.out.style
	fmt.Fprintf(c.io.Out, "%s %s: %s\n", s.bold(clean(doc.Pathspec)), s.state(doc.State), stepText(doc, s))
	if n, ok := t.run.Plan.Step(t.step.Name); ok && n.Policy != nil {
		fmt.Fprintf(c.io.Out, "  %s\n", policyText(*n.Policy))
	}
	table := newTable(c.io.Out)
	shown, first := 0, ""
	for task, err := range some(ctx, t.step, o) {
		if err != nil {
			return err
		}
		if first == "" {
			first = task.Pathspec()
		}
		if shown%1000 == 0 { // a million rows need not be in memory to be in line
			table.flush()
			fmt.Fprintln(c.io.Out)
			table.row(s.faint("TASK"), s.faint("STATE"), s.faint("ATTEMPTS"), s.faint("TOOK"), s.faint("SET"), s.faint("NOTE"))
		}
		shown++
		d, err := documentTask(ctx, t.run, task)
		if err != nil {
			return err
		}
		table.row(taskCells(d, s)...)
	}
	table.flush()
	hints := newTable(c.io.Out)
	if more := unshown(doc, o, shown); more > 0 {
		hints.row(grouped(more)+" more", c.hint("show", doc.Pathspec, "--all"))
		if doc.Failed > someTasks {
			hints.row("those that failed", c.hint("show", doc.Pathspec, "--failed"))
		}
	}
	if first != "" && !o.all && !o.failed {
		hints.row("one of them", c.hint("show", first))
	}
	if len(hints.rows) > 0 {
		fmt.Fprintln(c.io.Out)
		hints.flush()
	}
	return nil
}

// unshown is how many tasks have begun and were not shown.
func unshown(doc stepDocument, o showOptions, shown int) int {
	if o.failed {
		return 0
	}
	return max(doc.counts().Begun()-shown, 0)
}

// some yields the tasks of a step that were asked for: all, those that failed, or a few, those that failed first.
func some(ctx context.Context, step *runs.Step, o showOptions) iter.Seq2[*runs.Task, error] {
	switch {
	case o.failed:
		return step.Failures(ctx)
	case o.all:
		return step.Tasks(ctx)
	}
	return func(yield func(*runs.Task, error) bool) {
		n := 0
		for task, err := range step.Failures(ctx) {
			if !yield(task, err) || err != nil {
				return
			}
			if n++; n == someTasks {
				return
			}
		}
		for task, err := range step.Tasks(ctx) {
			if err == nil && task.State == runs.Failed {
				continue
			}
			if !yield(task, err) || err != nil {
				return
			}
			if n++; n == someTasks {
				return
			}
		}
	}
}

// printStep prints a step's document with the tasks as they are read, since there may be a million.
func (c *command) printStep(ctx context.Context, t target, doc stepDocument, o showOptions) error {
	head, err := marshalJSON(doc, "  ")
	if err != nil {
		return err
	}
	fmt.Fprintf(c.io.Out, "%s,\n  \"tasks\": [", bytes.TrimSuffix(head, []byte("\n}\n")))
	shown := 0
	for task, err := range some(ctx, t.step, o) {
		if err != nil {
			return err
		}
		d, err := documentTask(ctx, t.run, task)
		if err != nil {
			return err
		}
		text, err := marshalJSON(d, "  ")
		if err != nil {
			return err
		}
		if shown++; shown > 1 {
			fmt.Fprint(c.io.Out, ",")
		}
		fmt.Fprint(c.io.Out, "\n    "+strings.ReplaceAll(strings.TrimSuffix(string(text), "\n"), "\n", "\n    "))
	}
	end := "]"
	if shown > 0 {
		end = "\n  ]"
	}
	if more := unshown(doc, o, shown); more > 0 {
		end += fmt.Sprintf(",\n  \"more\": %d", more)
	}
	fmt.Fprintln(c.io.Out, end+"\n}")
	return nil
}

// showForeach shows a foreach with the steps in it and what failed first.
func (c *command) showForeach(ctx context.Context, t target) error {
	doc, err := documentForeach(ctx, t)
	if err != nil {
		return err
	}
	if c.set.json {
		return c.printJSON(doc)
	}
	s := c.term.out.style
	fmt.Fprintf(c.io.Out, "%s %s: %s\n\n", s.bold(clean(doc.Pathspec)), s.state(doc.State), foreachText(doc, s))
	var join []taskDocument
	if task := t.foreach.Join.Task; task != nil {
		d, err := documentTask(ctx, t.run, task)
		if err != nil {
			return err
		}
		join = append(join, d)
	}
	c.stepsTable(doc.Steps, join)
	if f := doc.First; f != nil {
		fmt.Fprintf(c.io.Out, "\n%s: %s\nsee: %s\n", s.bad(clean(fmt.Sprintf("task %q failed first", f.Task))), failureText(f.Failure), c.hint("why", doc.Pathspec))
	}
	return nil
}

// foreachText counts items: "998 of 1,000 items completed, 2 failed".
func foreachText(doc foreachDocument, s style) string {
	text := many(doc.Items, "item")
	if doc.Items == 0 {
		text = "items are not counted yet"
		if doc.State == runs.Completed {
			text = "it had no items"
		}
	}
	switch {
	case doc.Items == 0 && doc.Completed > 0: // in a loop
		text = s.good(many(doc.Completed, "item") + " completed")
	case doc.Completed > 0:
		text = s.good(fmt.Sprintf("%s of %s completed", grouped(doc.Completed), many(doc.Items, "item")))
	}
	if doc.Failed > 0 {
		text += ", " + s.bad(grouped(doc.Failed)+" failed")
	}
	if doc.Running > 0 {
		text += ", " + s.busy(many(doc.Running, "task")+" running")
	}
	return text
}

// documentForeach describes a foreach.
func documentForeach(ctx context.Context, t target) (foreachDocument, error) {
	f := t.foreach
	doc := foreachDocument{
		Pathspec: t.run.Pathspec() + "/" + f.Name, Foreach: f.Name, State: f.State, Items: f.Items, Completed: f.Completed, Failed: f.Failed, Running: f.Running,
	}
	for _, s := range append(slices.Clip(f.Steps), f.Join) {
		doc.Steps = append(doc.Steps, documentStep(t.run, s))
	}
	first, err := f.First(ctx)
	if err != nil || first == nil {
		return doc, err
	}
	d, err := documentTask(ctx, t.run, first)
	doc.First = &d
	return doc, err
}
