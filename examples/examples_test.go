package examples

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The worker registers all of them: each must pass its check, and no two may share a name.
func TestFlows(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, f := range Flows() {
		require.NoError(t, f.Check())
		require.False(t, names[f.Name()], "two flows are named %q", f.Name())
		names[f.Name()] = true
	}
	require.Equal(t, map[string]bool{
		"FailureHandlingFlow": true, "FailuresFlow": true, "FlightDelayFlow": true, "GridSearchFlow": true, "GeocodeFlow": true, "PredictionFlow": true, "IsolationFlow": true, "GalleryFlow": true,
	}, names)
}
