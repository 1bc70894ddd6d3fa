package stepwell

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/runs"
)

// diffOptions are the flags of diff.
type diffOptions struct {
	all, exitCode bool
	tasks         int
}

func (c *command) diffCmd() *cobra.Command {
	var o diffOptions
	cmd := c.withJSON(&cobra.Command{
		Use: "diff FLOW/RUN[/STEP] FLOW/RUN[/STEP]", Short: "Find the first step in which two runs, or the ways of two tasks, differ",
		Long: `Find the first step in which two runs of a flow differ.

Parameters, the version of the code and the plan come first. Then, in the order of the plan, the
first step that started from something else, made something else, ended in another way or was
executed by other code than the rest of its run. Digests are compared: artifacts are only read
to show them. Of two tasks of a step, what differs between them is shown.

The exit code is 0 whether something differs or not, since 1 means that something failed;
--exit-code makes it 1 when something differs, as git diff does.`,
		Example: c.examples(
			"diff FLOW/RUN FLOW/latest               where the newest run went another way",
			"diff FLOW/RUN FLOW/latest --all         all steps that differ",
			"diff FLOW/RUN/STEP FLOW/latest/STEP     one step",
			"diff 'FLOW/RUN/STEP[3]' 'FLOW/RUN/STEP[4]'   two items of a foreach",
			"diff FLOW/RUN FLOW/latest --exit-code   for scripts: 1 if something differs"),
		Args: exactly("a run or a task", "another run, or the task in another run"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.tasks < 0 {
				return inputf("--tasks cannot be negative (0 counts them only)")
			}
			same, err := c.diff(cmd.Context(), args[0], args[1], o)
			if err == nil && !same && o.exitCode {
				return &exitError{ExitFailed}
			}
			return err
		},
	})
	f := cmd.Flags()
	f.BoolVar(&o.all, "all", false, "all steps that differ, not only the first")
	f.IntVar(&o.tasks, "tasks", 5, "how many tasks that differ are shown of a step with many")
	f.BoolVar(&o.exitCode, "exit-code", false, "exit with 1 when something differs")
	return cmd
}

// diff compares what two pathspecs name.
func (c *command) diff(ctx context.Context, first, second string, o diffOptions) (same bool, _ error) {
	pa, err := runOrTaskSpec(first)
	if err != nil {
		return false, err
	}
	pb, err := runOrTaskSpec(second)
	if err != nil {
		return false, err
	}
	if (pa.Task == "") != (pb.Task == "") {
		return false, inputf("%q and %q are a run and a task (name two runs, or two tasks)", first, second)
	}
	if pa.Flow != pb.Flow {
		return false, inputf("%q and %q are of two flows (name runs of one)", first, second)
	}
	reader, done, err := c.reader(ctx)
	if err != nil {
		return false, err
	}
	defer done()
	a, err := reader.Find(ctx, pa.Flow+"/"+pa.Run)
	if err != nil {
		return false, err
	}
	b, err := reader.Find(ctx, pb.Flow+"/"+pb.Run)
	if err != nil {
		return false, err
	}
	width := 40
	if w := c.term.out.width(); w > 0 {
		width = max(w/4, 24)
	}
	if pa.Task != "" {
		return c.diffTasks(ctx, a, b, pa.Task, pb.Task, width)
	}
	keep := o.tasks
	if keep == 0 {
		keep = 1 // one is shown all the same when it is the only one
	}
	d, err := runs.Compare(ctx, a, b, runs.CompareOptions{All: o.all, Tasks: keep})
	if err != nil {
		return false, err
	}
	doc, err := documentDiff(ctx, d, width)
	if err != nil {
		return false, err
	}
	if c.set.json {
		return doc.Same, c.printJSON(doc)
	}
	c.printDiff(doc, o)
	return doc.Same, nil
}

func (c *command) diffTasks(ctx context.Context, a, b *runs.Run, nameA, nameB string, width int) (same bool, _ error) {
	ta, err := a.Task(ctx, nameA)
	if err != nil {
		return false, err
	}
	tb, err := b.Task(ctx, nameB)
	if err != nil {
		return false, err
	}
	d, err := runs.CompareTasks(ctx, ta, tb)
	if err != nil {
		return false, err
	}
	doc, err := documentTaskDiff(ctx, d, width, true)
	if err != nil {
		return false, err
	}
	if c.set.json {
		return doc.Same, c.printJSON(doc)
	}
	c.diffHead(doc.A, doc.B)
	if doc.Same {
		fmt.Fprintln(c.io.Out, "nothing differs")
		return true, nil
	}
	c.printTaskDiff(doc, "", true)
	return false, nil
}

func (c *command) diffHead(a, b string) {
	s := c.term.out.style
	fmt.Fprintf(c.io.Out, "%s → %s\n", s.bold(clean(a)), s.bold(clean(b)))
}

func (c *command) printDiff(doc diffDocument, o diffOptions) {
	s := c.term.out.style
	c.diffHead(doc.A, doc.B)
	if doc.Same {
		fmt.Fprintln(c.io.Out, "nothing differs")
		return
	}
	t := newTable(c.io.Out)
	t.indent = "  "
	if doc.Status != nil {
		t.row(s.faint("status"), s.status(doc.Status[0])+" → "+s.status(doc.Status[1]))
	}
	if doc.Code != nil {
		t.row(s.faint("code"), dash(clean(doc.Code[0]))+" → "+dash(clean(doc.Code[1])))
	}
	for i, p := range doc.Params {
		label := ""
		if i == 0 {
			label = "parameters"
		}
		t.row(s.faint(label), clean(p.Name)+": "+paramText(p.A)+" → "+paramText(p.B))
	}
	if len(doc.Added) > 0 {
		t.row(s.faint("new steps"), clean(strings.Join(doc.Added, ", ")))
	}
	if len(doc.Removed) > 0 {
		t.row(s.faint("gone steps"), clean(strings.Join(doc.Removed, ", ")))
	}
	t.flush()
	if len(doc.Steps) == 0 {
		fmt.Fprintln(c.io.Out, "\nno step that both have differs")
	}
	for i, step := range doc.Steps {
		what := "step " + step.Step
		if i == 0 {
			what += " is the first that differs"
		}
		many := step.Same+step.Differ+step.OnlyInA+step.OnlyInB > 1
		if many {
			what += ": " + tasksText(step)
		}
		fmt.Fprintf(c.io.Out, "\n%s\n", s.bold(clean(what)))
		shown := 0
		for _, task := range step.Tasks {
			if many && shown >= o.tasks {
				break
			}
			shown++
			indent := "  "
			if many {
				fmt.Fprintf(c.io.Out, "  %s\n", clean(task.Task))
				indent = "    "
			}
			c.printTaskDiff(task, indent, i == 0)
		}
		if more := step.Differ + step.OnlyInA + step.OnlyInB - shown; more > 0 {
			fmt.Fprintf(c.io.Out, "  %s\n", s.faint(fmt.Sprintf("and %s more (--tasks %d shows them)", grouped(more), shown+more)))
		}
	}
	if !o.all && len(doc.Steps) > 0 {
		fmt.Fprintf(c.io.Out, "\n%s\n", c.hint("diff", doc.A, doc.B, "--all"))
	}
}

// tasksText counts the tasks of a step: "3 of 100 tasks differ, 1 only in the second run".
func tasksText(step stepDiffDocument) string {
	both := step.Same + step.Differ
	text := fmt.Sprintf("%s of %s differ", grouped(step.Differ), many(both, "task"))
	if both == 0 {
		text = "no task is in both"
	}
	if step.OnlyInA > 0 {
		text += fmt.Sprintf(", %s only in the first run", grouped(step.OnlyInA))
	}
	if step.OnlyInB > 0 {
		text += fmt.Sprintf(", %s only in the second run", grouped(step.OnlyInB))
	}
	return text
}

func paramText(v *string) string {
	if v == nil {
		return "(not set)"
	}
	return clean(shorten(fmt.Sprintf("%q", *v), 80))
}

// printTaskDiff shows how a task differs. In steps after the first one, what they started from differs by what came before: its names do.
func (c *command) printTaskDiff(d taskDiffDocument, indent string, first bool) {
	s := c.term.out.style
	t := newTable(c.io.Out)
	t.indent = indent
	if d.States[0] != d.States[1] {
		t.row(s.faint("state"), s.state(d.States[0])+" → "+s.state(d.States[1]))
	}
	if f := d.Failures; f != nil && (f[0] != nil || f[1] != nil) {
		t.row(s.faint("failure"), diffFailure(f[0])+" → "+diffFailure(f[1]))
	}
	if d.Code != nil {
		t.row(s.faint("code"), dash(clean(d.Code[0]))+" → "+dash(clean(d.Code[1])))
	}
	if d.Item {
		t.row(s.faint("item"), "its item of the foreach differs")
	}
	if d.Inputs > 0 {
		t.row(s.faint("inputs"), many(d.Inputs, "input")+" of the join "+differ(d.Inputs))
	}
	for _, a := range d.Ahead {
		t.row(s.faint("decided"), clean(a.Shape)+": "+decisionText(a.A)+" → "+decisionText(a.B))
	}
	if !first && len(d.Input) > 0 {
		var names []string
		for _, a := range d.Input {
			names = append(names, a.Name)
		}
		t.row(s.faint("input"), clean(strings.Join(names, ", ")))
		d.Input = nil
	}
	for _, part := range []struct {
		label string
		diffs []artifactDiffDocument
	}{{"input", d.Input}, {"output", d.Output}} {
		for i, a := range part.diffs {
			label := ""
			if i == 0 {
				label = part.label
			}
			t.row(s.faint(label), clean(a.Name), diffValue(a.A)+" → "+diffValue(a.B))
			t.row("", "", s.faint(diffFacts(a.A)+" → "+diffFacts(a.B)))
		}
	}
	t.flush()
}

func differ(n int) string {
	if n == 1 {
		return "differs"
	}
	return "differ"
}

func diffFailure(f *policies.Failure) string {
	if f == nil {
		return "none"
	}
	return clean(fmt.Sprintf("%s: %s", f.Class, shorten(f.Message, 100)))
}

func diffValue(a *artifactDocument) string {
	if a == nil {
		return "(not there)"
	}
	return clean(a.Preview)
}

// diffFacts are the type, the size and the beginning of the digest.
func diffFacts(a *artifactDocument) string {
	if a == nil {
		return "-"
	}
	_, digits, _ := strings.Cut(a.Digest.String(), ":")
	return fmt.Sprintf("%s, %s, %s", clean(a.Type), byteSize(a.Size), shortDigest(digits))
}

func shortDigest(digits string) string { return digits[:min(len(digits), 12)] }

func decisionText(d flow.Decision) string {
	switch {
	case d.Items != nil:
		_, digits, _ := strings.Cut(d.Items.Digest.String(), ":")
		return fmt.Sprintf("%s (list %s)", many(d.Items.Len, "item"), dash(shortDigest(digits)))
	case d.Value != "":
		return "case " + clean(d.Value)
	case d.Case > 0:
		return fmt.Sprintf("case %d", d.Case)
	case d.Again:
		return "another turn"
	}
	return "no"
}
