package stepwell

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
	"github.com/stepwell-flows/stepwell/workflows"
)

// Verdict is what a person says about a task that waits for one, see policies.Pause.
type Verdict string

// The verdicts.
const (
	// Retry lets the task be tried again, with all its attempts. A worker with mended code may run it.
	Retry Verdict = "retry"
	// Skip goes on without the task, from the state before it.
	Skip Verdict = "skip"
	// Fail lets the task fail; its catch function runs if it has one.
	Fail Verdict = "fail"
)

// updates are the workflow's updates that the verdicts are told with.
var updates = map[Verdict]string{Retry: workflows.RetryUpdate, Skip: workflows.SkipUpdate, Fail: workflows.FailUpdate}

const (
	// answerTime is how long a worker may take to take a verdict in.
	answerTime = 30 * time.Second
	// hearTime is how long the server may take to tell a workflow that an attempt has ended.
	hearTime = 5 * time.Second
	// failTime is how long workflow tasks that a verdict comes with may fail.
	failTime = 15 * time.Second
)

// Decide ends the waiting of a task of a run, like "fit" or "fit[3]". It returns when the run has taken the verdict in, with what
// that means, and does not wait for the task. A task that does not wait is an [ErrInput].
func (c *Client) Decide(ctx context.Context, flowName, run, task string, v Verdict) (string, error) {
	update, ok := updates[v]
	if !ok {
		return "", inputf("verdict %q is not known (use retry, skip or fail)", v)
	}
	step, x, err := flow.ParseTaskName(task)
	if err != nil {
		return "", &InputError{err}
	}
	r, err := c.reader.Run(ctx, flowName, run)
	if err != nil {
		return "", err
	}
	if r.Status != records.StatusRunning && r.Status != runs.Unknown {
		return "", inputf("run %s is %s already", r.Pathspec(), r.Status)
	}
	if _, ok := r.Plan.Task(step); !ok {
		return "", inputf("run %s has no step %q (it has %s)", r.Pathspec(), step, strings.Join(r.Plan.Steps(), ", "))
	}
	// A task of a foreach with many items waits in a shard. The ledger knows which.
	id := r.WorkflowID
	ledger, err := records.Attempts(ctx, c.store, flowName, run, step, x)
	if err != nil {
		return "", err
	}
	paused := false
	if n := len(ledger); n > 0 && ledger[n-1].Workflow != "" {
		id, paused = ledger[n-1].Workflow, ledger[n-1].Paused
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	said, err := c.tell(ctx, id, update, task, paused)
	refused, isRefused := errors.AsType[*temporal.ApplicationError](err)
	_, gone := errors.AsType[*serviceerror.NotFound](err)
	_, lost := errors.AsType[*serviceerror.WorkflowNotReady](err)
	switch {
	case err == nil:
		return said, nil
	case isRefused:
		return "", inputf("%s %s: %s", v, r.Pathspec()+"/"+task, refused.Message())
	case gone:
		return "", inputf("%s %s: the workflow %q does not run any more", v, r.Pathspec()+"/"+task, id)
	case lost:
		return "", fmt.Errorf("%s %s: the workflow tasks of %q fail (the Temporal Web UI says why, in the workflow's history): %w", v, r.Pathspec()+"/"+task, id, err)
	case ctx.Err() != nil:
		return "", fmt.Errorf("%s %s: no worker took it in within %s (start one on task queue %q)", v, r.Pathspec()+"/"+task, answerTime, r.TaskQueue)
	}
	return "", fmt.Errorf("%s %s: %w", v, r.Pathspec()+"/"+task, err)
}

// tell tells a workflow a verdict until it has heard it, and returns its answer. If the ledger says that the task waits, a refusal
// is too early: the workflow has not heard of it yet.
func (c *Client) tell(ctx context.Context, workflowID, update, task string, paused bool) (string, error) {
	for began := time.Now(); ; {
		said, err := c.update(ctx, workflowID, update, task)
		_, refused := errors.AsType[*temporal.ApplicationError](err)
		// The workflow task that the verdict came with failed at the server. It makes another one, but without the verdict.
		_, lost := errors.AsType[*serviceerror.WorkflowNotReady](err)
		took := time.Since(began)
		again := lost && took < failTime || refused && paused && took < hearTime
		if !again || sleep(ctx, 100*time.Millisecond) != nil {
			return said, err
		}
	}
}

// update tells a workflow a verdict once and returns its answer.
func (c *Client) update(ctx context.Context, workflowID, update, task string) (said string, _ error) {
	h, err := c.temporal.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: workflowID, UpdateName: update, Args: []any{task}, WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	if err == nil {
		err = h.Get(ctx, &said)
	}
	return said, err
}
