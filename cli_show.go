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
	var o showOptions
	cmd := &cobra.Command{
		Use: "show FLOW/RUN[/STEP]", Short: "Show a run with its steps, a step with its tasks, or a task with its attempts and artifacts",
		Example: c.examples(
			"show FLOW/latest                  the newest run: parameters, steps, what each set, what failed",
			"show FLOW/latest/STEP             a task: attempts with errors and waits, artifacts, cards",
			"show FLOW/latest/STEP --failed    of a step in a foreach: the tasks that failed",
			"show 'FLOW/latest/STEP[3]'        the task of one item",
			"show FLOW/latest --json           the same for scripts"),
		Args: exactly("a run, a step or a task (Flow/run, Flow/latest, Flow/run/step, Flow/run/step[3])"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.all && o.failed {
				return inputf("--all shows those that failed, too (leave --failed out)")
			}
			ctx := cmd.Context()
			t, done, err := c.open(ctx, args[0])
			if err != nil {
				return err
			}
			defer done()
			switch {
			case t.step != nil:
				return c.showStep(ctx, t, o)
			case o.all || o.failed:
				return inputf("--all and --failed are for a step with many tasks, and %q is none", args[0])
			case t.task != nil:
				return c.showTask(ctx, t.reader, t.run, t.task)
			case t.foreach != nil:
				return c.showForeach(ctx, t)
			}
			return c.showRun(ctx, t.reader, t.run)
		},
	}
	cmd.Flags().BoolVar(&o.all, "all", false, fmt.Sprintf("of a step with many tasks all, not only %d, those that failed first", someTasks))
	cmd.Flags().BoolVar(&o.failed, "failed", false, "of a step with many tasks those that failed")
	return c.withJSON(cmd)
}

func (c *command) showRun(ctx context.Context, reader *runs.Reader, run *runs.Run) error {
	if c.set.json {
		doc, err := documentRun(ctx, run, reader.Store())
		if err != nil {
			return err
		}
		return c.printJSON(doc)
	}
	c.showFacts(reader, run) // before the steps are counted, which takes a while if they have many tasks
	doc, err := documentRun(ctx, run, reader.Store())
	if err != nil {
		return err
	}
	fmt.Fprintln(c.io.Out)
	c.stepsTable(doc.Steps, doc.Tasks)
	if f := run.Failure; f != nil {
		where := "failed"
		if f.Task != "" {
			where = named(f.Task) + " failed first"
		}
		fmt.Fprintf(c.io.Out, "\n%s: %s%s\n", c.term.out.style.bad(clean(where)), failureText(f), othersText(f))
		fmt.Fprintf(c.io.Out, "see: %s\n", c.hint("why", run.Pathspec()))
	}
	if run.Status == runs.Unknown {
		fmt.Fprintln(c.io.Out, "\nthe run has not ended as far as the store knows, and Temporal could not be asked")
	}
	return nil
}

// showFacts shows what is known of a run without its steps.
func (c *command) showFacts(reader *runs.Reader, run *runs.Run) {
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
	if run.Project != "" {
		fact("project", fmt.Sprintf("%s, branch %s", run.Project, run.Branch))
	}
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
	if c.set.web.namespace != "" && c.set.web.namespace == run.Namespace {
		fact("web ui", runURL(c.set.web.address, run.Namespace, run))
	}
	fact("store", reader.Store().String())
	t.flush()
}

// triedAttempts is how many attempts a task had. An item of a batch keeps only the last of them.
func triedAttempts(task taskDocument) int {
	n := len(task.Attempts)
	if n > 0 {
		n = max(n, task.Attempts[n-1].Attempt)
	}
	for _, a := range task.Attempts {
		if a.Outcome == records.Deferred {
			n--
		}
	}
	return n
}

// lastKept says why attempts of a task are missing.
const lastKept = "of an item of a batch only the last attempt is kept"

// unkept reports whether a task had more attempts than its record tells of.
func unkept(task taskDocument) bool {
	return task.batched && len(task.Attempts) > 0 && triedAttempts(task) > len(task.Attempts)
}

func lostAttempts(task taskDocument) int {
	n := 0
	for _, a := range task.Attempts {
		if a.Outcome == records.Lost && !a.damaged {
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
	if doc.RecordedBy != "" {
		fmt.Fprintf(c.io.Out, "  an item of a batch has one record, that of its last task: %s\n", clean(doc.RecordedBy))
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
		if unkept(doc) {
			fmt.Fprintln(c.io.Out, "  "+s.faint(lastKept))
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
	if a.damaged {
		return []string{head + s.warn("not known"), clean(a.Reason)}
	}
	switch a.Outcome {
	case records.Completed:
		head += s.good("completed")
	case records.Failed:
		head += s.bad("failed")
	case records.Lost, records.Cancelled, records.Caught, records.Skipped, records.Deferred:
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
	if a.PeakMemory > 0 {
		head += fmt.Sprintf(", used %s of memory and %s of a processor", byteSize(a.PeakMemory), briefly(seconds(a.CPUSeconds)))
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
