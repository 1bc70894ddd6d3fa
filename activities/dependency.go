package activities

import (
	"context"
	"fmt"
	"slices"
	"strings"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/stepwell-flows/stepwell/guard"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

// The names of dependencies in Temporal. What all workers know of one is kept by a workflow of the type DependencyType, which
// every worker takes from the queue LimitQueue.
const (
	DependencyType  = "stepwell.dependency"
	DependencyQuery = "stepwell.dependency" // answers with a DependencyView
	ReportUpdate    = "report"              // takes a guard.Report, answers with a guard.Answer
	ResetUpdate     = "reset"               // takes a ResetInput, answers with a guard.View
)

// DependencyPrefix begins the id of the workflow that keeps a dependency. What keeps the budget of a run has another one.
const DependencyPrefix = "stepwell/dependency/"

// DependencyID is the id of the workflow that keeps what is known under a key, see [guard.Report].
func DependencyID(key string) string { return "stepwell/" + key }

// DependencyKey is the key that the id of a workflow was made from.
func DependencyKey(id string) string { return strings.TrimPrefix(id, "stepwell/") }

// DependencyInput starts the workflow that keeps a dependency. Key is enough.
type DependencyInput struct {
	Key string `json:"key"`
	// Board is the state, when it continues as new.
	Board guard.Board `json:"board,omitzero"`
}

// DependencyView is what people see of a dependency as of the latest report, and the state, which says what there is to see later.
type DependencyView struct {
	guard.View
	Board guard.Board `json:"board"`
}

// ResetInput says who resets a dependency, for the history.
type ResetInput struct {
	By string `json:"by,omitempty"`
}

type sharer struct{ client client.Client }

// NewSharer connects a process with the others through the workflows of dependencies.
func NewSharer(c client.Client) guard.Sharer { return sharer{c} }

// Share starts the workflow if it does not run, in one transaction with the report: whether it is about to end makes no
// difference.
func (s sharer) Share(ctx context.Context, r guard.Report) (guard.Answer, error) {
	var a guard.Answer
	summary := r.Settings.String()
	if r.Settings.Name == "" {
		summary = "the budget of run " + strings.TrimPrefix(r.Key, "budget/") + summary
	}
	start := s.client.NewWithStartWorkflowOperation(client.StartWorkflowOptions{
		ID: DependencyID(r.Key), TaskQueue: LimitQueue, StaticSummary: summary,
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
	}, DependencyType, DependencyInput{Key: r.Key})
	h, err := s.client.UpdateWithStartWorkflow(ctx, client.UpdateWithStartWorkflowOptions{
		StartWorkflowOperation: start,
		UpdateOptions:          client.UpdateWorkflowOptions{UpdateName: ReportUpdate, Args: []any{r}, WaitForStage: client.WorkflowUpdateStageCompleted},
	})
	if err != nil {
		return a, err
	}
	return a, h.Get(ctx, &a)
}

// guards are an attempt as what guards its step sees it: a call of the dependency, and one that counts for the budget of the run.
type guards [2]*guard.Call

// end tells how the attempt ended, nil for well. What is told later does not count.
func (g guards) end(f *policies.Failure) {
	g[0].End(f)
	g[1].End(f)
}

// nothing is the end of an attempt that says nothing about what was called.
var nothing = &policies.Failure{Class: policies.Cancelled}

// admit asks what guards the step whether the attempt may begin.
func (t *attempt) admit() (err error) {
	if t.catch || t.in.Skip {
		return nil
	}
	if d := t.spec.Dependency; d != nil {
		if t.guards[0], err = t.options.Guard.Dependency(*d).Begin(!t.first()); err != nil {
			return err
		}
	}
	if b := t.spec.Budget; b != nil {
		if t.guards[1], err = t.options.Guard.Run(t.in.Flow, t.in.Run, *b).Begin(!t.first()); err != nil {
			t.guards.end(nothing)
			return err
		}
	}
	return nil
}

// first says that nothing was called for the task yet, as far as is known.
func (t *attempt) first() bool {
	return !slices.ContainsFunc(t.ledger, func(e records.Attempt) bool { return e.Attempt > t.in.Forgiven && !refused(e) })
}

// refused says that an attempt was not made, to spare a service.
func refused(e records.Attempt) bool {
	return e.Outcome == records.Deferred && e.Failure != nil && e.Failure.Type == guard.RefusedType
}

// allowRetry asks the budgets that a step has a share in whether it may be tried again. The run's is asked first: what it refuses
// does not count for the dependency.
func (a *Activities) allowRetry(spec policies.Spec, flow, run string) error {
	if b := spec.Budget; b != nil {
		if err := a.options.Guard.Run(flow, run, *b).AllowRetry(); err != nil {
			return err
		}
	}
	if d := spec.Dependency; d != nil {
		return a.options.Guard.Dependency(*d).AllowRetry()
	}
	return nil
}

// withinBudget refuses a retry that was decided on when there were too many already. The failure then says so.
func (t *attempt) withinBudget(f *policies.Failure, d policies.Decision) policies.Decision {
	if !d.Retry {
		return d
	}
	refused := t.allowRetry(t.spec, t.in.Flow, t.in.Run)
	if refused == nil {
		return d
	}
	over := policies.Classify(refused)
	f.Class, f.Message = over.Class, fmt.Sprintf("%s; it was to be tried again after: %s", over.Message, f.Message)
	return policies.Decision{Reason: over.Message}
}
