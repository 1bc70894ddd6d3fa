package stepwell

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

func (c *command) whyCmd() *cobra.Command {
	return c.withJSON(&cobra.Command{
		Use: "why FLOW/RUN[/STEP]", Short: "Explain what failed first, each attempt and its delay, and what to do next",
		Example: c.examples(
			"why FLOW/latest               why the newest run failed, or what it caught",
			"why FLOW/latest/STEP          what happened to one step",
			"why FLOW/latest/FOREACH       which of its items failed first, and how many others",
			"why 'FLOW/latest/STEP[3]'     what happened to one item"),
		Args: exactly("a run, a step, a foreach or a task (Flow/run, Flow/latest, Flow/run/step, Flow/run/step[3])"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			t, done, err := c.open(ctx, args[0])
			if err != nil {
				return err
			}
			defer done()
			doc, err := c.explain(ctx, t)
			if err != nil {
				return err
			}
			if c.set.json {
				return c.printJSON(doc)
			}
			for _, line := range doc.Explanation {
				fmt.Fprintln(c.io.Out, line)
			}
			if len(doc.Next) > 0 {
				fmt.Fprintln(c.io.Out, "\nNext:")
				t := newTable(c.io.Out)
				t.indent = "  "
				for _, n := range doc.Next {
					t.row(n.Command, n.Purpose)
				}
				t.flush()
			}
			return nil
		},
	})
}

// explain says why a run, or something in it, is as it is.
func (c *command) explain(ctx context.Context, t target) (*whyDocument, error) {
	doc := &whyDocument{Pathspec: t.run.Pathspec(), Status: t.run.Status, Caught: []taskDocument{}, Next: []nextDocument{}}
	e := &explanation{}
	var err error
	switch {
	case t.task != nil:
		err = e.task(ctx, t, doc)
	case t.step != nil:
		err = e.step(ctx, t, doc)
	case t.foreach != nil:
		err = e.foreach(ctx, t, doc)
	default:
		err = e.run(ctx, t.run, doc)
	}
	if err != nil {
		return nil, err
	}
	doc.Explanation = e.sentences
	c.next(t, doc)
	return doc, nil
}

// explanation collects sentences.
type explanation struct{ sentences []string }

func (e *explanation) say(format string, args ...any) {
	e.sentences = append(e.sentences, fmt.Sprintf(format, args...))
}

func (e *explanation) run(ctx context.Context, run *runs.Run, doc *whyDocument) error {
	doc.Failure = run.Failure
	steps, err := run.Steps(ctx)
	if err != nil {
		return err
	}
	finished, caught, err := survey(ctx, run, steps, doc)
	if err != nil {
		return err
	}
	spec := clean(run.Pathspec())
	after := ""
	if d := run.Duration(); d > 0 {
		after = " after " + briefly(d)
	}
	switch run.Status {
	case records.StatusCompleted:
		switch {
		case caught == 0 && len(doc.Failed) == 0:
			e.say("%s completed%s. Nothing failed for good.", spec, after)
		case caught == 0:
			e.say("%s completed%s. What failed was tolerated.", spec, after)
		default:
			e.say("%s completed%s. %s caught.", spec, after, wasWere(caught, "failure"))
		}
	case records.StatusFailed:
		e.say("%s failed%s.", spec, after)
		if f := run.Failure; f == nil || f.Task == "" {
			e.say("The reason: %s.", failureText(f))
		} else {
			e.say("%s failed first: %s%s.", clean(title(named(f.Task))), clean(f.Message), othersText(f))
		}
	case records.StatusCancelled:
		e.say("%s was cancelled%s. That is no failure: somebody asked for it.", spec, after)
	case records.StatusRunning:
		paused := slices.ContainsFunc(steps, func(s *runs.Step) bool { return s.Paused > 0 })
		switch {
		case paused:
			e.say("%s is running, and cannot end before somebody decides.", spec)
		case len(doc.Failed) == 0:
			e.say("%s is running. It has not failed.", spec)
		default:
			e.say("%s is running, with failures.", spec)
		}
		for _, s := range steps {
			if err := e.paused(ctx, s, doc); err != nil {
				return err
			}
		}
	case runs.Unknown:
		e.say("%s has not ended as far as the store knows, and Temporal could not be asked whether it runs.", spec)
	}
	if f := run.Failure; f != nil {
		e.class(f)
	}
	if doc.Task != nil {
		e.attempts(*doc.Task)
	}
	for _, s := range doc.Failed {
		e.failed(s, doc.Task)
	}
	for _, t := range doc.Caught {
		e.caught(t)
	}
	if more := caught - len(doc.Caught); more > 0 {
		e.say("%s caught, too.", wasWere(more, "other failure"))
	}
	if run.Status != records.StatusCompleted && len(finished) > 0 {
		e.say("Finished and kept: %s.", clean(strings.Join(finished, ", ")))
	}
	if doc.Tags = listedTags(run); len(doc.Tags) > 0 {
		e.say("Its tags: %s.", clean(strings.Join(doc.Tags, ", ")))
	}
	return nil
}

// title begins a sentence.
func title(text string) string { return strings.ToUpper(text[:1]) + text[1:] }

func (e *explanation) task(ctx context.Context, target target, doc *whyDocument) error {
	task := target.task
	t, err := documentTask(ctx, target.run, task)
	if err != nil {
		return err
	}
	doc.Pathspec = task.Pathspec()
	if t.State == runs.Caught {
		doc.Caught = append(doc.Caught, t)
		e.caught(t)
		return nil
	}
	doc.Task, doc.Failure = &t, t.Failure
	name := clean(t.Pathspec)
	switch t.State {
	case runs.Completed:
		if task.Record == nil {
			e.say("%s completed.", name)
			break
		}
		e.say("%s completed on attempt %d.", name, task.Record.Attempt)
	case runs.NotStarted:
		e.say("%s has not started. The run's status: %s.", name, clean(string(doc.Status)))
	case runs.Skipped:
		e.say("%s was skipped: the run went another way.", name)
	case runs.InBatches:
		e.say("%s is in batches: nothing tells whether it ran.", name)
		if t.RecordedBy == "" {
			e.say("The record of its batch is written when that ends.")
		} else {
			e.say("An item of a batch has one record, that of its last task: %s.", clean(t.RecordedBy))
		}
	case runs.Paused:
		e.say("%s is paused: it has failed for good and waits for a person.", name)
		if t.Failure != nil {
			e.say("Its latest failure: %s.", clean(t.Failure.Message))
			e.class(t.Failure)
		}
	case runs.Running, runs.Unfinished, runs.Cancelled, runs.Failed, runs.Caught:
		e.say("%s is %s.", name, t.State)
		if t.Failure != nil {
			e.say("Its latest failure: %s.", clean(t.Failure.Message))
			e.class(t.Failure)
		}
	}
	if t.ReusedFrom != "" {
		e.say("It was not run again: it was reused from run %s.", clean(t.ReusedFrom))
	}
	e.attempts(t)
	return nil
}

func (e *explanation) caught(t taskDocument) {
	message := "its failure was not recorded"
	if t.Failure != nil {
		message = clean(t.Failure.Message)
	}
	if t.Skipped {
		e.say("Somebody skipped %s, which had failed: %s.", named(clean(t.Task)), message)
	} else {
		e.say("The failure of %s was caught, and its catch function stood in for it: %s.", named(clean(t.Task)), message)
	}
	if t.Failure != nil {
		e.class(t.Failure)
	}
	e.attempts(t)
}

// class says what a failure's class means.
func (e *explanation) class(f *policies.Failure) {
	meaning := map[policies.Class]string{
		policies.Transient:   "it was expected to pass by itself, and did not within the attempts that the step has",
		policies.RateLimited: "the other side asked for fewer or later calls",
		policies.TimedOut:    "it took longer than it may",
		policies.Lost:        "the worker that ran it stopped, was killed or was cut off; the step's own code reported nothing",
		policies.Invalid:     "the input is wrong and stays wrong, so it is never tried again",
		policies.Denied:      "credentials or rights are missing, so it is never tried again",
		policies.Permanent:   "the step's code said that trying again is of no use",
		policies.Bug:         "the step's code panicked",
		policies.OutOfMemory: "it used more memory than it was given",
		policies.OverBudget:  "too much was tried again already, and more would only have added to the load",
		policies.Cancelled:   "the run was cancelled",
		policies.Unknown:     "no rule knows this error",
	}
	text := fmt.Sprintf("Class %s", clean(string(f.Class)))
	if m, ok := meaning[f.Class]; ok {
		text += ": " + m
	}
	if f.Type != "" {
		text += fmt.Sprintf(" (the error's type is %s)", clean(f.Type))
	}
	e.say("%s.", text)
}

// attempts tells each attempt with its delay. A task without a failed attempt needs no words.
func (e *explanation) attempts(t taskDocument) {
	if !slices.ContainsFunc(t.Attempts, func(a attemptDocument) bool { return a.Outcome != records.Completed }) {
		return
	}
	lost := lostAttempts(t)
	had := plural(triedAttempts(t)-lost, "attempt")
	if lost > 0 {
		had += fmt.Sprintf(" and %d lost,", lost)
	}
	if triedAttempts(t)-lost <= t.MaximumAttempts { // a climb, or a person who says retry, gives more
		had += fmt.Sprintf(" of at most %d", t.MaximumAttempts)
	}
	had = strings.TrimSuffix(had, ",")
	if unkept(t) {
		had += " (" + lastKept + ")"
	}
	e.say("%s had %s:", title(named(clean(t.Task))), had)
	for i, a := range t.Attempts {
		text := fmt.Sprintf("  attempt %d", a.Attempt)
		if a.damaged {
			e.say("%s is not known: %s", text, clean(a.Reason))
			continue
		}
		if !a.Started.IsZero() {
			text += " at " + clock(a.Started)
		}
		if a.WaitedSeconds > 0 {
			text += fmt.Sprintf(", %s after the one before,", briefly(seconds(a.WaitedSeconds)))
		}
		switch a.Outcome {
		case records.Lost:
			text += " was lost with its worker"
			if a.Worker != "" {
				text += " " + clean(a.Worker)
			}
		case records.Cancelled:
			text += " was cancelled"
		case records.Completed:
			text += " completed"
		case records.Deferred:
			text += " had to wait, which is no failure,"
		case records.Failed, records.Caught, records.Skipped:
			text += " failed"
		}
		if a.DurationSeconds > 0 {
			text += " after " + briefly(seconds(a.DurationSeconds))
		}
		if f := a.Failure; f != nil && a.Outcome == records.Lost {
			text += ": " + clean(f.Message)
		} else if f != nil {
			text += fmt.Sprintf(" with class %s: %s", clean(string(f.Class)), clean(f.Message))
		}
		e.say("%s", text)
		switch {
		case a.DelaySeconds > 0:
			e.say("    the next attempt was to wait %s: %s", briefly(seconds(a.DelaySeconds)), clean(a.Reason))
		case a.Reason != "" && i == len(t.Attempts)-1 && (over(t.State) || t.State == runs.Paused):
			e.say("    no further attempt: %s", clean(a.Reason))
		case a.Reason != "" && i < len(t.Attempts)-1 && a.Outcome != records.Lost: // it climbed, or a person let it go on
			e.say("    %s", clean(a.Reason))
		}
	}
	if lost > 0 {
		e.say("%s lost, which does not count against the maximum (look for a crash, too little memory or a machine that went away).",
			wasWere(lost, "attempt"))
	}
}

// over says that a task has no further attempt.
func over(s runs.State) bool { return s == runs.Failed || s == runs.Caught || s == runs.Cancelled }

// next is what to do now.
func (c *command) next(t target, doc *whyDocument) {
	run, task := t.run, t.task
	add := func(command, purpose string) { doc.Next = append(doc.Next, nextDocument{command, purpose}) }
	resume := c.hint("resume", run.Pathspec())
	logs := func(t string) {
		add(c.hint("logs", run.Pathspec()+"/"+t), "what it logged")
	}
	switch {
	case task != nil:
		if task.State != runs.NotStarted && task.State != runs.Skipped {
			logs(task.Name())
		}
		if task.State == runs.Paused {
			c.verdicts(task.Pathspec(), add)
		}
	case t.step != nil || t.foreach != nil:
		if doc.Task != nil {
			logs(doc.Task.Task)
		}
		for _, s := range doc.Failed {
			if s.Failed > 1 {
				add(c.hint("show", s.Pathspec, "--failed"), "all that failed of step "+clean(s.Step))
			}
		}
	case doc.Task != nil:
		logs(doc.Task.Task)
	case run.Failure != nil && run.Failure.Step != "": // a batch
		logs(run.Failure.Step)
	}
	if task == nil && t.step == nil && t.foreach == nil {
		for _, s := range doc.Failed {
			if s.Failed > 1 {
				add(c.hint("why", s.Pathspec), "what failed of step "+clean(s.Step))
			}
		}
	}
	if t := doc.Task; t != nil && t.State == runs.Failed && ofCode(t.Failure) {
		add(c.hint("spin", run.Pathspec()+"/"+t.Task), "run it once more here, without touching the run")
	}
	switch run.Status {
	case records.StatusFailed:
		what := "a new run that reuses what is finished"
		if f := run.Failure; f != nil && f.Class == policies.Bug {
			what = "after the code is fixed: " + what
		}
		add(resume, what)
	case records.StatusCancelled:
		add(resume, "a new run that reuses what is finished")
	case runs.Unknown:
		add(c.hint("attach", run.Pathspec()), "go on with it, or follow it")
	case records.StatusRunning:
		if task == nil && len(doc.Paused) > 0 {
			c.verdicts(run.Pathspec()+"/"+doc.Paused[0], add)
		}
		add(c.hint("attach", run.Pathspec()), "follow it")
	case records.StatusCompleted:
	}
}

// ofCode says that the code of the step is where to look first.
func ofCode(f *policies.Failure) bool {
	return f != nil && slices.Contains([]policies.Class{policies.Bug, policies.Unknown, policies.Invalid, policies.Permanent}, f.Class)
}

// verdicts are what a person may say about a paused task.
func (c *command) verdicts(pathspec string, add func(command, purpose string)) {
	add(c.hint("retry", pathspec), "try it again, with all its attempts; a worker with mended code may")
	add(c.hint("skip", pathspec), "go on without it, from the state before it")
	add(c.hint("fail", pathspec), "let it fail")
}

func wasWere(n int, noun string) string {
	if n == 1 {
		return "1 " + noun + " was"
	}
	return fmt.Sprintf("%d %ss were", n, noun)
}
