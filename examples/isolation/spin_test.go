package isolation

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/records"
)

func TestMain(m *testing.M) {
	stepwell.App{Flows: []*flow.Flow{Flow()}}.Child() // the processes of isolated steps are this program
	os.Exit(m.Run())
}

// An isolated step runs in a process of its own when it is run once more, and what it makes is not in the run's store.
func TestSpinInAProcessOfItsOwn(t *testing.T) {
	python(t)
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	store, err := artifacts.Open(t.Context(), t.TempDir(), artifacts.Options{})
	require.NoError(t, err)
	r := flowtest.Run(t, Flow(), flowtest.Options{Store: store})
	require.Equal(t, records.StatusCompleted, r.Status, "%+v", r.Failure)
	before := keys(t, store)
	task, err := r.Task(t.Context(), "simulate")
	require.NoError(t, err)
	spun, err := stepwell.Spin(t.Context(), Flow(), task, stepwell.SpinOptions{Params: map[string]string{"count": "300"}})
	require.NoError(t, err)
	require.Nil(t, spun.Failure)
	require.NotNil(t, spun.Usage, "it had no process of its own")
	require.Equal(t, []string{"points"}, spun.Changed)
	diff := spun.Output()
	require.Len(t, diff, 1)
	content, err := spun.Store.Content(t.Context(), *diff[0].B)
	require.NoError(t, err)
	var points []Point
	require.NoError(t, artifacts.Decode(*diff[0].B, content, &points))
	require.Len(t, points, 300)
	require.Equal(t, before, keys(t, store), "the run is as it was")
	spun.Close()
	left, err := os.ReadDir(temp)
	require.NoError(t, err)
	require.Empty(t, left)
}

func keys(t *testing.T, s *artifacts.Store) []string {
	t.Helper()
	var all []string
	for info, err := range s.List(t.Context(), "") {
		require.NoError(t, err)
		all = append(all, info.Key)
	}
	return all
}
