package geocode

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

func TestResultsAreInTheOrderOfTheAddresses(t *testing.T) {
	t.Parallel()
	r := flowtest.Run(t, Flow(), flowtest.Options{Params: map[string]string{"count": "300"}})
	require.Equal(t, records.StatusCompleted, r.Status, "%+v", r.Failure)
	last, err := r.Last(t.Context())
	require.NoError(t, err)
	s, err := runs.LoadState[State](t.Context(), last, Flow())
	require.NoError(t, err)
	require.Len(t, s.Results, 300)
	require.Equal(t, 3, s.Failures)
	for i, got := range s.Results {
		if i%97 == 96 {
			require.Equal(t, Result{Error: `"somewhere" is no address`}, got, i)
			continue
		}
		want := State{Address: (&State{Count: i + 1}).addresses()[i]}
		require.NoError(t, locate(flow.NewContext(t.Context(), flow.Runtime{Info: flow.Info{Attempt: 2}}), &want))
		require.Equal(t, Result{Place: want.Place}, got, i)
	}

	step, err := r.Step(t.Context(), "locate")
	require.NoError(t, err)
	require.Equal(t, 297, step.Completed)
	require.Equal(t, 3, step.Failed)
	again := 0
	for task, err := range step.Tasks(t.Context()) {
		require.NoError(t, err)
		if task.State == runs.Completed && task.Record.Attempt == 2 {
			again++
		}
	}
	require.Positive(t, again, "items that were tried again")
	require.Less(t, again, 50, "and those alone")
}

func TestLocate(t *testing.T) {
	t.Parallel()
	err := locate(t.Context(), &State{Address: "nowhere"})
	require.ErrorContains(t, err, `"nowhere" is no address`)
	require.Equal(t, policies.Permanent, policies.Classify(err).Class)
}
