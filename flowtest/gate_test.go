package flowtest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/workflows"
)

// callFlow has a foreach over s.N items with one step.
func callFlow(call func(context.Context, *waits) error, options ...flow.Option) *flow.Flow {
	return flow.New("WaitsFlow",
		flow.Foreach("all", func(s *waits) []int { return make([]int, s.N) }, func(*waits, int) {}, flow.Step("call", call, options...)).
			Join("join", func(_ context.Context, s *waits, in flow.Inputs[waits]) error {
				s.Tries = []int{in.Len()}
				return nil
			}))
}

// away is a deferral.
func away(d time.Duration) error { return policies.WithDeferral(errAway, policies.Deferral{For: d}) }

// giveUp cancels a run that would hang.
func giveUp(env *testsuite.TestWorkflowEnvironment) {
	env.RegisterDelayedCallback(env.CancelWorkflow, 24*time.Hour)
}

// A task that climbs while its gate is closed gives its place to the probe.
func TestTaskThatClimbsLetsTheProbePass(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]flowtest.Options{"MaxParallel": {MaxParallel: 1}, "activities": {Limits: &workflows.Limits{Activities: 1}}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := callFlow(func(ctx context.Context, _ *waits) error {
				i := flow.Current(ctx)
				switch {
				case i.Attempt > 1:
					return nil
				case i.Index[0] == 0:
					return away(2 * time.Minute)
				}
				return policies.WithClass(errors.New("too much"), policies.OutOfMemory)
			}, policies.Escalate{Rungs: []policies.Rung{{Memory: 1 << 30}, {Memory: 2 << 30}}})
			o.Params, o.Prepare = map[string]string{"n": "2"}, giveUp
			r := flowtest.Run(t, f, o)
			require.Equal(t, []int{2}, ended(t, r, f).Tries)
		})
	}
}
