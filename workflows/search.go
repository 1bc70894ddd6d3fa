package workflows

import (
	"slices"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/stepwell-flows/stepwell/policies"
)

// The search attributes of runs, by which Temporal finds them. A namespace of an external server has them after "starter setup".
var (
	AttrFlow    = temporal.NewSearchAttributeKeyKeyword("StepwellFlow")
	AttrRun     = temporal.NewSearchAttributeKeyKeyword("StepwellRun")
	AttrUser    = temporal.NewSearchAttributeKeyKeyword("StepwellUser")
	AttrOrigin  = temporal.NewSearchAttributeKeyKeyword("StepwellOrigin")
	AttrProject = temporal.NewSearchAttributeKeyKeyword("StepwellProject")
	AttrBranch  = temporal.NewSearchAttributeKeyKeyword("StepwellBranch")
	AttrTags    = temporal.NewSearchAttributeKeyKeywordList("StepwellTags")
	// AttrFailedSteps names the steps with tasks that failed for good and were not caught, those that a foreach tolerates
	// included. The run sets it when it ends.
	AttrFailedSteps = temporal.NewSearchAttributeKeyKeywordList("StepwellFailedSteps")
	// AttrPaused is true while a task of the workflow waits for a person. Shards have it as well: the task's updates go to them.
	AttrPaused = temporal.NewSearchAttributeKeyBool("StepwellPaused")
)

// SearchAttributes are all search attributes of runs, in the order in which people are told of them.
func SearchAttributes() []temporal.SearchAttributeKey {
	return []temporal.SearchAttributeKey{
		AttrFlow, AttrRun, AttrUser, AttrOrigin, AttrProject, AttrBranch, AttrTags, AttrFailedSteps, AttrPaused,
	}
}

// OwnAttributes are those of a namespace's attributes that the workflows of a run set by themselves, see [Input.Search].
func OwnAttributes(has map[string]enumspb.IndexedValueType) []string {
	var own []string
	for _, a := range []temporal.SearchAttributeKey{AttrFailedSteps, AttrPaused} {
		if has[a.GetName()] == a.GetValueType() {
			own = append(own, a.GetName())
		}
	}
	return own
}

// maxFailedSteps bounds the attribute with the steps that failed: Temporal takes 2 KiB of a value, and nobody reads more.
const maxFailedSteps = 10

// failedStep notes that tasks of a step failed for good.
func (r *run) failedStep(f *policies.Failure) {
	if f != nil && f.Step != "" && len(r.failedSteps) < maxFailedSteps && !slices.Contains(r.failedSteps, f.Step) {
		r.failedSteps = append(r.failedSteps, f.Step)
	}
}

// markFailed sets the attribute with the steps that failed, if there are any.
func (r *run) markFailed(ctx workflow.Context) error {
	if len(r.failedSteps) == 0 || !slices.Contains(r.search, AttrFailedSteps.GetName()) {
		return nil
	}
	return workflow.UpsertTypedSearchAttributes(ctx, AttrFailedSteps.ValueSet(r.failedSteps))
}

// mayMark takes over which attributes this workflow may set, and what the workflow that continued as new left in them.
func (r *run) mayMark(ctx workflow.Context, search []string) {
	if r.search = search; slices.Contains(search, AttrPaused.GetName()) {
		r.markedPaused, _ = workflow.GetTypedSearchAttributes(ctx).GetBool(AttrPaused)
	}
}

// leaveMarks readies the attributes for a workflow that continues as new. Tasks that have a verdict by now wait no more.
func (r *run) leaveMarks(ctx workflow.Context) error {
	r.paused = slices.DeleteFunc(r.paused, func(p *paused) bool { return p.tried.Verdict != "" })
	return r.markPaused(ctx)
}

// markPaused sets the attribute that says that a task waits for a person, when the first one does and when none does any more.
func (r *run) markPaused(ctx workflow.Context) error {
	paused := len(r.paused) > 0
	if paused == r.markedPaused || !slices.Contains(r.search, AttrPaused.GetName()) {
		return nil
	}
	r.markedPaused = paused
	return workflow.UpsertTypedSearchAttributes(ctx, AttrPaused.ValueSet(paused))
}
