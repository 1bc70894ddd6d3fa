package isolation

import (
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

func python(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("there is no python3")
	}
}

// The script runs in tests as it does elsewhere. The isolated Go step runs in the test's own process.
func TestFit(t *testing.T) {
	t.Parallel()
	python(t)
	r := flowtest.Run(t, Flow(), flowtest.Options{})
	require.Equal(t, records.StatusCompleted, r.Status, "%+v", r.Failure)
	last, err := r.Last(t.Context())
	require.NoError(t, err)
	s, err := runs.LoadState[State](t.Context(), last, Flow())
	require.NoError(t, err)
	require.InDelta(t, 2, s.Model.Slope, 0.01)
	require.InDelta(t, 1, s.Model.Intercept, 0.05)
	require.Equal(t, "y = 2.000 x + 1.002\n", s.Report)
	require.Less(t, s.Error, 0.15)
}

func TestTracebackIsShown(t *testing.T) {
	t.Parallel()
	python(t)
	r := flowtest.Run(t, Flow(), flowtest.Options{Params: map[string]string{"count": "1"}})
	require.Equal(t, records.StatusFailed, r.Status)
	require.Equal(t, "python3 fit.py ended with exit code 1: ValueError: a line needs two points, there are 1", r.Failure.Message)
	require.Contains(t, r.Failure.Stack, "Traceback (most recent call last):\n")
	require.Contains(t, r.Failure.Stack, `fit.py", line 33, in <module>`)
}
