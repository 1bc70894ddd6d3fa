package workflows

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

// The updates that end the waiting of a paused task. Their argument is the task's name, like "fit" or "fit[3]".
const (
	RetryUpdate = "stepwell.retry"
	SkipUpdate  = "stepwell.skip"
	FailUpdate  = "stepwell.fail"
)

// paused is a task that waits for a person.
type paused struct {
	task string
	s    *scope
	// tried is what gets the verdict. The workflow may be about to continue as new: then the next one obeys it.
	tried *records.Tried
}

// persons sets the handlers of the updates.
func (r *run) persons(ctx workflow.Context) error {
	for _, u := range []struct {
		name, text, told string
		verdict          records.Verdict
	}{
		{RetryUpdate, "try a paused task again, with all its attempts; the argument is the task's name", "is tried again", records.RetryIt},
		{SkipUpdate, "go on without a paused task, from the state before it; the argument is the task's name", "is skipped", records.SkipIt},
		{FailUpdate, "let a paused task fail; the argument is the task's name", "fails", records.FailIt},
	} {
		err := workflow.SetUpdateHandlerWithOptions(ctx, u.name,
			func(_ workflow.Context, task string) (string, error) {
				p, err := r.find(task)
				if err != nil { // another update came first
					return "", temporal.NewNonRetryableApplicationError(err.Error(), string(policies.Invalid), nil)
				}
				p.tried.Verdict = u.verdict
				return fmt.Sprintf("task %s %s", task, u.told), nil
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
		if p.tried.Verdict != "" || p.s.stopped() {
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

// pause waits for a person's verdict about a task. A failure that no attempt told, because the server or [task.late] made it, gets its
// number from the ledger first, which then says that the task waits.
func (r *run) pause(ctx workflow.Context, s *scope, task string, tried *records.Tried) error {
	if tried.Paused.Attempt == 0 {
		var whole policies.Failure
		err := workflow.ExecuteActivity(r.bookkeeping(ctx, task+" waits for a person"), activities.SettleType, activities.SettleInput{
			Failure: *tried.Paused, Forgiven: tried.Forgiven, Workflow: r.info.WorkflowExecution.ID,
		}).Get(ctx, &whole)
		if err != nil {
			return r.bookkept(ctx, err)
		}
		tried.Paused = &whole
	}
	p := &paused{task: task, s: s, tried: tried}
	r.paused = append(r.paused, p)
	if err := r.markPaused(ctx); err != nil {
		return err
	}
	r.show(ctx, task, statePaused, fmt.Sprintf("waits for a person (updates %s, %s, %s): %s", RetryUpdate, SkipUpdate, FailUpdate, tried.Paused.Message))
	var stopped error
	err := workflow.Await(ctx, func() bool {
		stopped = r.stop(ctx, s)
		return stopped != nil || tried.Verdict != ""
	})
	if tried.Verdict == "" && errors.Is(stopped, errStopped) {
		return stopped // while the workflow waits for what is under way, a person may still decide
	}
	r.paused = slices.DeleteFunc(r.paused, func(o *paused) bool { return o == p })
	err = cmp.Or(err, r.markPaused(ctx))
	if tried.Verdict == "" {
		return cmp.Or(stopped, err)
	}
	return nil
}
