package runs_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

// Tasks that wait for a person are counted as such, also those of a step with a catch function, and those that had no time to wait for
// a service.
func TestPausedTasksOfAForeach(t *testing.T) {
	t.Parallel()
	pause := policies.Retry{Exhausted: policies.Pause}
	for name, options := range map[string][]flow.Option{
		"without a catch": {pause},
		"with a catch":    {pause, policies.Catch(func(context.Context, *state, *policies.Failure) error { return nil })},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newGridLab(t, flow.New("Grid", flow.Step("load", nop), flow.Foreach("grid", none, setRows, flow.Step("fit", nop, options...)).Join("best", join)))
			l.did("r1", "load", nil, items(3))
			waits := records.Attempt{Outcome: records.Deferred, Failure: failed("fit", flow.Index{0}, 1), Paused: true, Workflow: "Grid/r1"}
			l.tried("r1", "fit", flow.Index{0}, waits)
			spent := records.Attempt{Outcome: records.Failed, Failure: failed("fit", flow.Index{1}, 1), Paused: true, Workflow: "Grid/r1", CountsAsCodeFailure: true}
			l.tried("r1", "fit", flow.Index{1}, spent)
			l.tried("r1", "fit", flow.Index{2}, records.Attempt{Outcome: records.Deferred, Delay: time.Hour})
			run, err := l.with(described(enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING)).Run(t.Context(), "Grid", "r1")
			require.NoError(t, err)
			fit, err := run.Step(t.Context(), "fit")
			require.NoError(t, err)
			require.Equal(t, []string{"fit[0] paused", "fit[1] paused", "fit[2] running"}, names(t, fit))
			require.Equal(t, runs.Counts{Total: 3, Paused: 2, Running: 1}, fit.Counts)
			for task, want := range map[string]runs.State{"fit[0]": runs.Paused, "fit[1]": runs.Paused, "fit[2]": runs.Running} {
				got, err := run.Task(t.Context(), task)
				require.NoError(t, err)
				require.Equal(t, want, got.State, task)
			}
		})
	}
}
