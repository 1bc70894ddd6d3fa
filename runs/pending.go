package runs

import (
	"context"
	"encoding/json"
	"maps"
	"strings"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"golang.org/x/sync/errgroup"

	"github.com/stepwell-flows/stepwell/policies"
)

// Pending is what Temporal says of a task that has not ended.
type Pending struct {
	// Attempt is the attempt that runs, or waits to.
	Attempt int
	// Catch says that the attempts are spent and it is the catch function that runs.
	Catch bool
	// Running is false while the task waits for a worker or for its next attempt.
	Running bool
	// Started is when the attempt that runs was started, zero if none runs.
	Started time.Time
	// Next is when the next attempt is due, zero if it is not waiting for one.
	Next time.Time
	// Failure is why the attempt before failed.
	Failure *policies.Failure
	// Done and Total are the latest progress that the step told; both zero if it told none.
	Done, Total int64
}

// pendings is what Temporal says of the tasks of a run that have not ended.
type pendings struct {
	tasks map[string]Pending // by task
	own   map[string]Pending // those of them that the run's own workflow runs
	// batches counts the batches of each foreach that run.
	batches map[string]int
	// children are the ids of workflows that run parts of a foreach, as long as they were not asked.
	children []string
	// hidden says that there were too many of them to ask all.
	hidden bool
}

// readPending reads the description of a run's workflow, or of a part of it.
func readPending(flowName string, d *workflowservice.DescribeWorkflowExecutionResponse) pendings {
	out := pendings{tasks: map[string]Pending{}, batches: map[string]int{}}
	for _, a := range d.GetPendingActivities() {
		name, ok := strings.CutPrefix(a.GetActivityType().GetName(), flowName+".")
		if !ok {
			continue
		}
		running := a.GetState() == enumspb.PENDING_ACTIVITY_STATE_STARTED
		if foreach, ok := strings.CutSuffix(name, ".batch"); ok {
			if running {
				out.batches[foreach]++
			}
			continue
		}
		p := Pending{Attempt: int(a.GetAttempt()), Running: running}
		if !p.Running && p.Attempt > 1 && a.GetScheduledTime() != nil {
			p.Next = a.GetScheduledTime().AsTime()
		}
		if p.Running && a.GetLastStartedTime() != nil {
			p.Started = a.GetLastStartedTime().AsTime()
		}
		if f := a.GetLastFailure(); f != nil {
			p.Failure = policies.FailureOf(temporal.GetDefaultFailureConverter().FailureToError(f))
		}
		p.Done, p.Total = progress(a.GetHeartbeatDetails())
		// The activity's id is the task's name.
		var task string
		task, p.Catch = strings.CutSuffix(a.GetActivityId(), ".catch")
		out.tasks[task] = p
	}
	for _, c := range d.GetPendingChildren() {
		if strings.HasPrefix(c.GetWorkflowTypeName(), flowName+".") {
			out.children = append(out.children, c.GetWorkflowId())
		}
	}
	out.own = maps.Clone(out.tasks)
	return out
}

// add takes over what a part of the run says.
func (p *pendings) add(part pendings) {
	maps.Copy(p.tasks, part.tasks)
	for foreach, n := range part.batches {
		p.batches[foreach] += n
	}
	p.children = append(p.children, part.children...)
	p.hidden = p.hidden || part.hidden
}

// manyChildren bounds how many child workflows are asked what they are doing.
const manyChildren = 20

// allPending is what Temporal says of the run's tasks, those in child workflows included: of a large foreach, of some.
func (r *Run) allPending(ctx context.Context) map[string]Pending {
	r.mu.Lock()
	defer r.mu.Unlock()
	for asked := 0; len(r.pending.children) > 0; {
		ids := r.pending.children[:min(len(r.pending.children), manyChildren-asked)]
		if len(ids) == 0 {
			r.pending.children, r.pending.hidden = nil, true
			break
		}
		r.pending.children = r.pending.children[len(ids):]
		asked += len(ids)
		for _, part := range r.askParts(ctx, ids) {
			r.pending.add(part)
		}
	}
	return r.pending.tasks
}

// askParts asks child workflows. One that does not answer runs nothing that we know of.
func (r *Run) askParts(ctx context.Context, ids []string) []pendings {
	patience, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	parts := make([]pendings, len(ids))
	var g errgroup.Group
	g.SetLimit(4)
	for i, id := range ids {
		g.Go(func() error {
			if d, err := r.reader.temporal.DescribeWorkflowExecution(patience, id, ""); err == nil {
				parts[i] = readPending(r.Flow, d)
			}
			return nil
		})
	}
	_ = g.Wait()
	return parts
}

// pendingTask is what Temporal says of one task. Child workflows are asked only for a task that can be in one.
func (r *Run) pendingTask(ctx context.Context, name string) (Pending, bool) {
	r.mu.Lock()
	p, ok := r.pending.tasks[name]
	r.mu.Unlock()
	if !ok && strings.Contains(name, "[") {
		p, ok = r.allPending(ctx)[name]
	}
	return p, ok
}

// runningBatches counts the batches of a foreach that run.
func (r *Run) runningBatches(ctx context.Context, foreach string) int {
	r.allPending(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pending.batches[foreach]
}

func progress(details *commonpb.Payloads) (done, total int64) {
	if len(details.GetPayloads()) == 0 {
		return 0, 0
	}
	var beat struct {
		Done  int64 `json:"done"`
		Total int64 `json:"total"`
	}
	var raw json.RawMessage
	if converter.GetDefaultDataConverter().FromPayload(details.GetPayloads()[0], &raw) != nil || json.Unmarshal(raw, &beat) != nil {
		return 0, 0
	}
	return beat.Done, beat.Total
}
