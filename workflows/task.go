package workflows

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

// task is a step's task under way. Most are one activity. One that has to wait, climbs a ladder or was let be tried again by a
// person goes on in another.
type task struct {
	*run
	s    *scope
	n    *flow.PlanNode
	at   *records.Cursor
	name string
	in   activities.StepInput
	// release gives back what an activity under way counts as, nil while the task waits.
	release func()
}

func (t *task) leave() {
	if t.release != nil {
		t.release()
		t.release = nil
	}
}

// try runs the task until it is finished or has failed for good: then the error is a *policies.Failure.
func (t *task) try(ctx workflow.Context) (activities.StepResult, error) {
	policy := t.n.Policy
	tried := records.Tried{Rung: t.rungs[t.n.Name]}
	if t.at.Tried != nil {
		tried = *t.at.Tried
	}
	// keep is what a workflow that continues as new goes on with.
	keep := func() { at := tried; t.at.Tried = &at }
	for {
		if tried.Paused != nil && tried.Verdict == "" {
			t.leave()
			err := t.pause(ctx, t.s, t.name, t.at.Tried)
			if tried = *t.at.Tried; err != nil {
				return activities.StepResult{}, err
			}
		}
		switch tried.Verdict {
		case records.FailIt:
			if err := t.enter(ctx); err != nil { // for its catch function
				return activities.StepResult{}, err
			}
			t.at.Tried = nil
			return activities.StepResult{}, tried.Paused
		case records.SkipIt:
			t.in.Skip, t.in.Failure = true, tried.Paused
			tried.Attempt, tried.Forgiven, tried.Since = tried.Paused.Attempt, tried.Paused.Attempt, time.Time{}
		case records.RetryIt:
			tried = records.Tried{Attempt: tried.Paused.Attempt, Forgiven: tried.Paused.Attempt, Rung: tried.Rung}
			keep()
		}
		t.in.Before, t.in.Forgiven, t.in.Rung = tried.Attempt, tried.Forgiven, tried.Rung
		res, err := t.activity(ctx, &tried)
		if err == nil && res.Again == nil {
			t.at.Tried = nil
			return res, nil
		}
		var failure *policies.Failure
		if err == nil {
			failure, err = t.again(ctx, res.Again, &tried)
			if failure == nil {
				keep() // also when the workflow is about to continue as new
			}
			if failure == nil && err == nil {
				continue
			}
		}
		if failure == nil && !errors.As(err, &failure) {
			return activities.StepResult{}, err
		}
		if policy.Exhausted != policies.Pause || t.in.Skip {
			if policy.Catch { // it may have waited, and its catch function counts
				if err := t.enter(ctx); err != nil {
					return activities.StepResult{}, err
				}
			}
			return activities.StepResult{}, failure
		}
		tried.Paused = failure
		keep()
	}
}

// enter counts the task as one under way.
func (t *task) enter(ctx workflow.Context) error {
	if t.release != nil {
		return nil
	}
	release, err := t.run.enter(ctx, t.s, t.activities, 1)
	if err == nil {
		t.release = release
	}
	if err == nil && t.version == 1 {
		t.busy++
		t.release = func() {
			t.busy--
			release()
		}
	}
	return err
}

// hear tells the window what a task said that has come back. In version 1, one that did not know said that it had not waited, and
// those with a limit were not heard.
func (t *task) hear(queued *bool) {
	switch {
	case t.version > 1 && queued != nil:
		t.window.heard(*queued, t.busy)
	case t.version == 1 && t.n.Policy.Limit == (policies.Limit{}):
		t.window.heard(queued != nil && *queued, t.busy)
	}
}

// activity runs the task's activity once.
func (t *task) activity(ctx workflow.Context, tried *records.Tried) (activities.StepResult, error) {
	var res activities.StepResult
	stop := func() error { return t.stop(ctx, t.s) }
	policy := t.n.Policy
	total := policy.Timeout.Total
	var deadline time.Time
	if total > 0 && !tried.Since.IsZero() {
		deadline = tried.Since.Add(total)
	}
	through := false
	if !t.in.Skip { // that asks nobody for anything
		gate := t.gate(t.n)
		if !gate.open() {
			t.leave() // one that climbs: whoever goes through first may need its place
		}
		ended, err := gate.pass(ctx, deadline, stop)
		if errors.Is(err, errLate) {
			return res, t.late(ctx, nil, "passed while the task waited for what it needs")
		}
		if err != nil {
			return res, err
		}
		defer func() { ended(through) }()
	}
	if err := t.enter(ctx); err != nil {
		return res, err
	}
	asked := workflow.Now(ctx)
	if policy.Limit != (policies.Limit{}) {
		t.show(ctx, t.name, stateWaiting, policy.Limit.String())
	}
	leave, err := t.limiter.acquire(ctx, policy.Limit, t.name, stop)
	if errors.Is(err, errStopped) {
		return res, err
	}
	now := workflow.Now(ctx)
	switch {
	case total == 0:
	case tried.Since.IsZero():
		tried.Since = now
	default:
		tried.Since = tried.Since.Add(now.Sub(asked)) // the queue of a limit does not count
	}
	left := total - now.Sub(tried.Since)
	if err == nil && total > 0 && left <= 0 {
		leave()
		return res, t.late(ctx, nil, "passed while the task waited for its turn")
	}
	if err == nil {
		o := policy.At(tried.Rung).ActivityOptions(t.defaults)
		o.ActivityID, o.Summary = t.name, summary(t.n, t.in.Index)
		if tried.Attempt > 0 {
			o.Summary = oneLine(fmt.Sprintf("goes on after attempt %d, %s", tried.Attempt, o.Summary), maxSummary)
			if o.ScheduleToCloseTimeout > 0 {
				o.ScheduleToCloseTimeout = left
			}
		}
		if e := policy.Escalate; e != nil && tried.Rung < len(e.Rungs) {
			o.TaskQueue = e.Rungs[tried.Rung].Queue
		}
		t.show(ctx, t.name, stateRunning, "")
		if t.version > 1 {
			t.busy++
		}
		err = workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, o), activities.StepType(t.flow, t.n.Name), t.in).Get(ctx, &res)
		if err == nil { // one that failed does not tell
			t.hear(res.Queued)
		}
		if t.version > 1 {
			t.busy--
		}
		leave() // a catch runs without the limit
		through = err != nil || res.Again == nil || !res.Again.Deferred
	}
	if err == nil {
		return res, nil
	}
	failure := t.failure(ctx, err, t.in)
	if failure.Class == policies.Cancelled || ctx.Err() != nil {
		t.show(ctx, t.name, stateCancelled, "")
		return res, temporal.NewCanceledError()
	}
	return res, failure
}

// again prepares the task's next activity. It returns a failure if there is no time for one.
func (t *task) again(ctx workflow.Context, a *activities.Again, tried *records.Tried) (*policies.Failure, error) {
	tried.Attempt, tried.Rung = a.Attempt, a.Rung
	if a.Deferred && !a.Alone { // also when this task has no time to wait: others may
		t.gate(t.n).close(ctx, cmp.Or(a.Wait, time.Second))
	}
	total := t.n.Policy.Timeout.Total
	if left := total - workflow.Now(ctx).Sub(tried.Since); total > 0 && a.Wait >= left {
		return t.late(ctx, a.Failure, fmt.Sprintf("leaves no time to wait for %s (%s)", a.Wait.Round(time.Millisecond), a.Reason)), nil
	}
	if !a.Deferred {
		t.rungs = raised(t.rungs, t.n.Name, a.Rung) // whoever comes later need not find out again
		t.show(ctx, t.name, stateWaiting, a.Reason)
		return nil, nil
	}
	t.show(ctx, t.name, stateWaiting, fmt.Sprintf("%s, %s", a.Wait.Round(time.Millisecond), a.Reason))
	t.leave() // the place of one that can work
	if !a.Alone {
		return nil, t.stop(ctx, t.s)
	}
	var stopped error
	_, err := workflow.AwaitWithTimeout(ctx, a.Wait, func() bool {
		stopped = t.stop(ctx, t.s)
		return stopped != nil
	})
	return nil, cmp.Or(stopped, err)
}

// late is the failure of a task whose Timeout.Total is too short, with the failure before it if there is one. As of those that the
// server makes, the ledger knows how many attempts there were.
func (t *task) late(ctx workflow.Context, before *policies.Failure, text string) *policies.Failure {
	f := policies.Failure{Type: "TimeoutError", Flow: t.in.Flow, Run: t.in.Run, Step: t.in.Step, Task: t.name, Time: workflow.Now(ctx)}
	text = fmt.Sprintf("Timeout.Total of %s %s", t.n.Policy.Timeout.Total, text)
	if before != nil {
		f = *before
		text += "; before it: " + before.Message
	}
	f.Class, f.Message, f.Attempt = policies.TimedOut, text, 0
	return &f
}

// raised notes on which rung a step begins.
func raised(rungs map[string]int, step string, rung int) map[string]int {
	if rungs == nil {
		rungs = map[string]int{}
	}
	rungs[step] = max(rungs[step], rung)
	return rungs
}
