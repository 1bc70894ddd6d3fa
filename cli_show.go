package stepwell

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

func (c *command) showCmd() *cobra.Command {
	return c.withJSON(&cobra.Command{
		Use: "show FLOW/RUN[/STEP]", Short: "Show a run with its steps, or a task with its attempts and artifacts",
		Example: c.examples(
			"show FLOW/latest              the newest run: parameters, steps, what each set, what failed",
			"show FLOW/latest/STEP         a task: attempts with errors and waits, artifacts, cards",
			"show FLOW/latest --json       the same for scripts"),
		Args: exactly("a run or a task (Flow/run, Flow/latest, Flow/run/step)"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			reader, run, task, done, err := c.open(ctx, args[0])
			if err != nil {
				return err
			}
			defer done()
			if task == nil {
				return c.showRun(ctx, reader, run)
			}
			return c.showTask(ctx, reader, run, task)
		},
	})
}

// open reads the run, and the task if the pathspec names one.
func (c *command) open(ctx context.Context, spec string) (_ *runs.Reader, _ *runs.Run, _ *runs.Task, done func(), _ error) {
	p, err := runOrTaskSpec(spec)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	reader, done, err := c.reader(ctx)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	var task *runs.Task
	run, err := reader.Find(ctx, p.Flow+"/"+p.Run)
	if err == nil && p.Task != "" {
		task, err = run.Task(ctx, p.Task)
	}
	if err != nil {
		done()
		return nil, nil, nil, nil, err
	}
	return reader, run, task, done, nil
}

func (c *command) showRun(ctx context.Context, reader *runs.Reader, run *runs.Run) error {
	doc, err := documentRun(ctx, run, reader.Store())
	if err != nil {
		return err
	}
	if c.set.json {
		return c.printJSON(doc)
	}
	s := c.term.out.style
	title := s.bold(clean(run.Pathspec())) + " " + s.status(run.Status)
	if d := run.Duration(); d > 0 {
		title += " in " + briefly(d)
		if run.Ended.IsZero() {
			title += " so far"
		}
	}
	fmt.Fprintln(c.io.Out, title)
	t := newTable(c.io.Out)
	t.indent = "  "
	fact := func(name, value string) {
		if value != "" {
			t.row(s.faint(name), clean(value))
		}
	}
	by := ""
	if run.User != "" {
		by = " by " + run.User
	}
	fact("started", date(run.Started)+by)
	if !run.Ended.IsZero() {
		fact("ended", date(run.Ended))
	}
	fact("tags", strings.Join(run.Tags, ", "))
	if run.Origin != "" {
		fact("resumed from", run.Origin)
		if run.Root != run.Origin {
			fact("first run", run.Root)
		}
	}
	for i, name := range slices.Sorted(maps.Keys(run.Params)) {
		label := ""
		if i == 0 {
			label = "parameters"
		}
		t.row(s.faint(label), clean(name)+" = "+clean(shorten(run.Params[name], 200)))
	}
	fact("code", run.Code)
	fact("workflow", fmt.Sprintf("%s, namespace %s, task queue %s", run.WorkflowID, dash(run.Namespace), run.TaskQueue))
	fact("store", reader.Store().String())
	t.flush()

	fmt.Fprintln(c.io.Out)
	c.stepsTable(doc.Tasks)
	if f := run.Failure; f != nil {
		where := "failed"
		if f.Task != "" {
			where = fmt.Sprintf("step %q failed first", f.Task)
		}
		fmt.Fprintf(c.io.Out, "\n%s: %s\n", s.bad(clean(where)), failureText(f))
		fmt.Fprintf(c.io.Out, "see: %s\n", c.hint("why", run.Pathspec()))
	}
	if run.Status == runs.Unknown {
		fmt.Fprintln(c.io.Out, "\nthe run has not ended as far as the store knows, and Temporal could not be asked")
	}
	return nil
}

func (c *command) stepsTable(tasks []taskDocument) {
	s := c.term.out.style
	t := newTable(c.io.Out)
	t.row(s.faint("STEP"), s.faint("STATE"), s.faint("ATTEMPTS"), s.faint("TOOK"), s.faint("SET"), s.faint("NOTE"))
	for _, task := range tasks {
		attempts, took := "-", "-"
		if n := len(task.Attempts); n > 0 {
			attempts = fmt.Sprintf("%d of %d", n, task.MaximumAttempts)
			if lost := lostAttempts(task); lost > 0 { // they do not count
				attempts = fmt.Sprintf("%d of %d, %d lost", n-lost, task.MaximumAttempts, lost)
			}
		}
		if task.DurationSeconds > 0 {
			took = briefly(seconds(task.DurationSeconds))
		}
		t.row(clean(task.Task), s.state(task.State), attempts, took, dash(clean(shorten(strings.Join(task.Set, ", "), 60))), note(task))
	}
	t.flush()
}

func lostAttempts(task taskDocument) int {
	n := 0
	for _, a := range task.Attempts {
		if a.Outcome == records.Lost {
			n++
		}
	}
	return n
}

func seconds(f float64) time.Duration { return time.Duration(f * float64(time.Second)) }

// note is what is remarkable about a task.
func note(task taskDocument) string {
	var notes []string
	if task.ReusedFrom != "" {
		notes = append(notes, "reused from "+task.ReusedFrom)
	}
	if p := task.Pending; p != nil {
		switch {
		case p.Catch:
			notes = append(notes, "catching")
		case !p.Running && !p.Next.IsZero():
			notes = append(notes, fmt.Sprintf("attempt %d is due at %s", p.Attempt, clock(p.Next)))
		case !p.Running:
			notes = append(notes, "waits for a worker")
		default:
			notes = append(notes, fmt.Sprintf("attempt %d runs", p.Attempt))
		}
		if p.Total > 0 {
			notes = append(notes, fmt.Sprintf("%d of %d done", p.Done, p.Total))
		}
	}
	if f := task.Failure; f != nil {
		notes = append(notes, string(f.Class)+": "+shorten(f.Message, 80))
	}
	return clean(strings.Join(notes, "; "))
}

func (c *command) showTask(ctx context.Context, reader *runs.Reader, run *runs.Run, task *runs.Task) error {
	width := 60
	if w := c.term.out.width(); w > 0 {
		width = max(w/2, 40)
	}
	doc, err := documentTask(ctx, run, task)
	if err != nil {
		return err
	}
	if doc.Artifacts, err = documentArtifacts(ctx, task, width); err != nil {
		return err
	}
	if doc.Cards, err = task.Cards(ctx); err != nil {
		return err
	}
	if c.set.json {
		return c.printJSON(doc)
	}
	s := c.term.out.style
	title := s.bold(clean(task.Pathspec())) + " " + s.state(task.State)
	if doc.DurationSeconds > 0 {
		title += " in " + briefly(seconds(doc.DurationSeconds))
	}
	fmt.Fprintln(c.io.Out, title)
	if doc.ReusedFrom != "" {
		fmt.Fprintf(c.io.Out, "  reused from %s/%s\n", clean(run.Flow), clean(doc.ReusedFrom))
	}
	if n, ok := run.Plan.Step(task.Step); ok && n.Policy != nil {
		fmt.Fprintf(c.io.Out, "  %s\n", policyText(*n.Policy))
	}
	if text := note(taskDocument{Pending: doc.Pending}); text != "" {
		fmt.Fprintf(c.io.Out, "  %s\n", text)
	}

	if len(doc.Attempts) > 0 {
		fmt.Fprintln(c.io.Out, "\n"+s.faint("ATTEMPTS"))
		for _, a := range doc.Attempts {
			for i, line := range attemptLines(a, s) {
				indent := "  "
				if i > 0 {
					indent = "      "
				}
				fmt.Fprintln(c.io.Out, indent+line)
			}
		}
	}
	if task.State == runs.Caught && doc.Failure != nil {
		fmt.Fprintf(c.io.Out, "  then the catch function stood in for the step\n")
	}
	if len(doc.Artifacts) > 0 {
		fmt.Fprintln(c.io.Out)
		c.artifactsTable(doc)
	}
	for _, card := range doc.Cards {
		where := cardFile(reader.Store(), task, card)
		if where == "" {
			where = c.hint("card", task.Pathspec(), card)
		}
		fmt.Fprintf(c.io.Out, "\ncard %s: %s\n", clean(card), clean(where))
	}
	return nil
}

func (c *command) artifactsTable(doc taskDocument) {
	s := c.term.out.style
	t := newTable(c.io.Out)
	t.row(s.faint("ARTIFACT"), s.faint("TYPE"), s.faint("SIZE"), s.faint("DIGEST"), s.faint("SET BY"), s.faint("VALUE"))
	for _, a := range doc.Artifacts {
		by := setBy(a.SetBy, doc)
		if slices.Contains(doc.Set, a.Name) {
			by = "this step"
		}
		digest := strings.TrimPrefix(a.Digest.String(), "sha256:")
		t.row(clean(a.Name), clean(a.Type), byteSize(a.Size), digest[:min(12, len(digest))], clean(by), clean(a.Preview))
	}
	t.flush()
}

// setBy is the task that set an artifact, without the run when it is the one that is shown.
func setBy(by string, doc taskDocument) string {
	run, task, ok := strings.Cut(by, "/")
	p, err := runs.ParsePathspec(doc.Pathspec)
	switch own := err == nil && p.Run == run; {
	case run == "":
		return "-"
	case !ok && own:
		return "the start"
	case !ok:
		return "the start of " + run
	case own:
		return task
	}
	return by
}

// attemptLines tells one attempt: what happened, why, and what was decided.
func attemptLines(a attemptDocument, s style) []string {
	head := fmt.Sprintf("%d  ", a.Attempt)
	switch a.Outcome {
	case records.Completed:
		head += s.good("completed")
	case records.Failed:
		head += s.bad("failed")
	case records.Lost, records.Cancelled, records.Caught:
		head += s.warn(string(a.Outcome))
	default:
		head += clean(string(a.Outcome))
	}
	if !a.Started.IsZero() {
		head += ", started " + clock(a.Started)
	}
	if a.DurationSeconds > 0 {
		head += ", took " + briefly(seconds(a.DurationSeconds))
	}
	if a.WaitedSeconds > 0 {
		head += ", waited " + briefly(seconds(a.WaitedSeconds))
	}
	if a.Worker != "" {
		head += ", worker " + clean(a.Worker)
	}
	lines := []string{head}
	if f := a.Failure; f != nil {
		text := clean(string(f.Class))
		if f.Type != "" {
			text += " (" + clean(f.Type) + ")"
		}
		lines = append(lines, text+": "+clean(f.Message))
		for line := range strings.SplitSeq(strings.TrimSpace(f.Stack), "\n") {
			if line != "" {
				lines = append(lines, s.faint("  "+clean(line)))
			}
		}
	}
	switch {
	case a.DelaySeconds > 0:
		lines = append(lines, fmt.Sprintf("next attempt after %s: %s", briefly(seconds(a.DelaySeconds)), clean(a.Reason)))
	case a.Reason != "" && (a.Failure == nil || a.Reason != a.Failure.Message):
		lines = append(lines, clean(a.Reason))
	}
	return lines
}
