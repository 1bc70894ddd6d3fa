package workflows

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flow"
)

// A plan that somebody wrote by hand, and not whole, fails the run at once and does not keep its workflow trying for ever.
func TestPlanThatIsNotWhole(t *testing.T) {
	t.Parallel()
	env := newEnv()
	Register(env, "HandFlow")
	env.ExecuteWorkflow("HandFlow", Input{Run: "r", Prepared: true, Plan: flow.Plan{Flow: "HandFlow", Root: flow.PlanNode{
		Kind: flow.KindSeq, Nodes: []flow.PlanNode{
			{Kind: flow.KindDecide, Name: "each"}, {Kind: flow.KindForeach, Name: "each"},
			{Kind: flow.KindBranch, Name: "both"}, {Kind: flow.KindLoop, Name: "again"},
		},
	}}})
	require.True(t, env.IsWorkflowCompleted())
	for _, text := range []string{
		`step "each" of the plan has no policy`, `foreach "each" of the plan is not whole`, `branch "both" of the plan is not whole`, `loop "again" of the plan has no body`,
	} {
		require.ErrorContains(t, env.GetWorkflowError(), text)
	}
}
