package workflows

import (
	"fmt"
	"slices"
	"strings"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/policies"
)

// The updates that end the waiting of a paused task. Their argument is the task's name, like "fit" or "fit[3]".
const (
	RetryUpdate = "stepwell.retry"
	SkipUpdate  = "stepwell.skip"
	FailUpdate  = "stepwell.fail"
)

// verdict is what a person said about a paused task.
type verdict string

const (
	undecidedYet verdict = ""
	retryIt      verdict = "is tried again"
	skipIt       verdict = "is skipped"
	failIt       verdict = "fails"
)

// paused is a task that waits for a person.
type paused struct {
	task    string
	verdict verdict
}

// persons sets the handlers of the updates.
func (r *run) persons(ctx workflow.Context) error {
	for _, u := range []struct {
		name, text string
		verdict    verdict
	}{
		{RetryUpdate, "try a paused task again, with all its attempts; the argument is the task's name", retryIt},
		{SkipUpdate, "go on without a paused task, from the state before it; the argument is the task's name", skipIt},
		{FailUpdate, "let a paused task fail; the argument is the task's name", failIt},
	} {
		err := workflow.SetUpdateHandlerWithOptions(ctx, u.name,
			func(_ workflow.Context, task string) (string, error) {
				p, err := r.find(task)
				if err != nil { // another update came first
					return "", temporal.NewNonRetryableApplicationError(err.Error(), string(policies.Invalid), nil)
				}
				p.verdict = u.verdict
				return fmt.Sprintf("task %s %s", task, u.verdict), nil
			},
			workflow.UpdateHandlerOptions{
				Description: u.text,
				Validator:   func(task string) error { _, err := r.find(task); return err },
			})
		if err != nil {
			return err
		}
	}
	return nil
}

// find finds a task that waits.
func (r *run) find(task string) (*paused, error) {
	var names []string
	for _, p := range r.paused {
		if p.verdict != undecidedYet {
			continue
		}
		if p.task == task {
			return p, nil
		}
		names = append(names, p.task)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("task %q does not wait for a person, and no other here does", task)
	}
	return nil, fmt.Errorf("task %q does not wait for a person (these do: %s)", task, shorten(strings.Join(names, ", "), 500))
}

// pause waits for a person's verdict about a task. A failure that the server made gets its number from the ledger first.
func (r *run) pause(ctx workflow.Context, s *scope, task string, f *policies.Failure, forgiven int) (verdict, *policies.Failure, error) {
	if f.Attempt == 0 {
		var whole policies.Failure
		err := workflow.ExecuteActivity(r.bookkeeping(ctx, task+" waits for a person"), activities.SettleType, activities.SettleInput{
			Failure: *f, Forgiven: forgiven, Workflow: r.info.WorkflowExecution.ID,
		}).Get(ctx, &whole)
		if err != nil {
			return undecidedYet, f, r.bookkept(ctx, err)
		}
		f = &whole
	}
	p := &paused{task: task}
	r.paused = append(r.paused, p)
	defer func() { r.paused = slices.DeleteFunc(r.paused, func(o *paused) bool { return o == p }) }()
	r.show(ctx, task, fmt.Sprintf("paused, waits for a person (updates %s, %s, %s): %s", RetryUpdate, SkipUpdate, FailUpdate, f.Message))
	var stopped error
	err := workflow.Await(ctx, func() bool {
		stopped = r.stop(ctx, s)
		return stopped != nil || p.verdict != undecidedYet
	})
	if p.verdict == undecidedYet {
		if stopped != nil {
			return undecidedYet, f, stopped
		}
		if err != nil {
			return undecidedYet, f, err
		}
	}
	return p.verdict, f, nil
}
