package stepwell

import (
	"context"
	"errors"
	"fmt"

	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

// someCaught is how many caught failures of a step are told.
const someCaught = 3

// survey finds what failed and what was caught in a run, and names what is finished.
func survey(ctx context.Context, run *runs.Run, steps []*runs.Step, doc *whyDocument) (finished []string, caught int, _ error) {
	if f := run.Failure; f != nil && f.Task != "" {
		t, err := run.Task(ctx, f.Task)
		switch {
		case err == nil:
			d, err := documentTask(ctx, run, t)
			if err != nil {
				return nil, 0, err
			}
			doc.Task = &d
		case !errors.Is(err, runs.ErrNotFound) && !errors.Is(err, runs.ErrPathspec): // a batch as a whole has no task
			return nil, 0, err
		}
	}
	for _, s := range steps {
		switch {
		case s.Completed > 0 && s.Task != nil:
			finished = append(finished, s.Name)
		case s.Completed > 0:
			finished = append(finished, fmt.Sprintf("%s (%s)", s.Name, grouped(s.Completed)))
		}
		if s.Failed > 0 && s.Task == nil {
			d, err := documentFailed(ctx, run, s)
			if err != nil {
				return nil, 0, err
			}
			doc.Failed = append(doc.Failed, d)
		}
		caught += s.Caught
		if s.Caught == 0 {
			continue
		}
		told := 0
		for t, err := range s.CaughtTasks(ctx) {
			if err != nil {
				return nil, 0, err
			}
			d, err := documentTask(ctx, run, t)
			if err != nil {
				return nil, 0, err
			}
			doc.Caught = append(doc.Caught, d)
			if told++; told == someCaught {
				break
			}
		}
	}
	return finished, caught, nil
}

// paused tells of the tasks of a step that wait for a person.
func (e *explanation) paused(ctx context.Context, s *runs.Step, doc *whyDocument) error {
	if s.Paused == 0 {
		return nil
	}
	told := 0
	for t, err := range s.PausedTasks(ctx) {
		if err != nil {
			return err
		}
		doc.Paused = append(doc.Paused, t.Name())
		e.say("%s waits for a person: %s.", title(named(clean(t.Name()))), failureText(t.Failure))
		if told++; told == someCaught {
			break
		}
	}
	if more := s.Paused - told; more > 0 {
		e.say("%s of step %q wait for a person, too.", many(more, "other task"), clean(s.Name))
	}
	return nil
}

// documentFailed describes a step of which tasks failed, with the one that failed first.
func documentFailed(ctx context.Context, run *runs.Run, s *runs.Step) (stepDocument, error) {
	doc := documentStep(run, s)
	first, err := s.First(ctx)
	if err != nil || first == nil {
		return doc, err
	}
	d, err := documentTask(ctx, run, first)
	doc.Tasks, doc.More = []taskDocument{d}, s.Failed-1
	return doc, err
}

// failed tells of a step of which tasks failed. One of them may have been told already.
func (e *explanation) failed(s stepDocument, told *taskDocument) {
	if len(s.Tasks) == 0 {
		return
	}
	first := s.Tasks[0]
	switch {
	case told == nil || told.Task != first.Task:
		e.say("Of step %q, %s failed. The first was %s: %s.", clean(s.Step), many(s.Failed, "task"), clean(first.Task), failureText(first.Failure))
	case s.More > 0:
		e.say("Of step %q, %s failed.", clean(s.Step), many(s.More, "other task"))
	}
}

// step explains a step with many tasks.
func (e *explanation) step(ctx context.Context, t target, doc *whyDocument) error {
	d, err := documentFailed(ctx, t.run, t.step)
	if err != nil {
		return err
	}
	doc.Pathspec = d.Pathspec
	e.say("%s is %s: %s.", clean(d.Pathspec), d.State, stepText(d, style{}))
	if d.Failed > 0 {
		doc.Failed = append(doc.Failed, d)
	}
	e.first(d.Tasks, d.More, t.run, doc)
	if d.Caught > 0 {
		e.say("%s caught.", wasWere(d.Caught, "failure"))
	}
	return nil
}

// foreach explains a foreach.
func (e *explanation) foreach(ctx context.Context, t target, doc *whyDocument) error {
	d, err := documentForeach(ctx, t)
	if err != nil {
		return err
	}
	doc.Pathspec = d.Pathspec
	e.say("%s is %s: %s.", clean(d.Pathspec), d.State, foreachText(d, style{}))
	tasks := 0
	for _, s := range t.foreach.Steps {
		tasks += s.Failed
		if s.Failed == 0 {
			continue
		}
		failed, err := documentFailed(ctx, t.run, s)
		if err != nil {
			return err
		}
		doc.Failed = append(doc.Failed, failed)
	}
	if d.First != nil {
		e.first([]taskDocument{*d.First}, tasks-1, t.run, doc)
	}
	return nil
}

// first tells the task that failed first, and how many others did.
func (e *explanation) first(tasks []taskDocument, others int, run *runs.Run, doc *whyDocument) {
	if len(tasks) == 0 {
		return
	}
	first := tasks[0]
	doc.Task, doc.Failure = &first, first.Failure
	text := fmt.Sprintf("%s failed first: %s", title(named(clean(first.Task))), failureText(first.Failure))
	if others > 0 {
		text += fmt.Sprintf(". %s failed, too", title(many(others, "other task")))
	}
	e.say("%s.", text)
	if run.Status == records.StatusCompleted {
		e.say("The run completed all the same: that many failures were tolerated.")
	}
	if first.Failure != nil {
		e.class(first.Failure)
	}
	e.attempts(first)
}
