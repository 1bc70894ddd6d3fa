package runs_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

func TestNewestAndLatestSuccessful(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	_, err := l.reader.LatestSuccessful(t.Context(), "Train")
	require.ErrorIs(t, err, runs.ErrNotFound)

	l.start(t, runs.NewID(noon), noon, func(r *records.Run) { r.Tags = []string{"best"} })
	first, err := l.reader.Newest(t.Context(), "Train", runs.Filter{})
	require.NoError(t, err)
	_, err = l.reader.LatestSuccessful(t.Context(), "Train")
	require.ErrorIs(t, err, runs.ErrNotFound)
	require.ErrorContains(t, err, "completed run")
	l.end(t, first.Run.Run, records.End{Status: records.StatusCompleted, Ended: noon.Add(time.Minute)})

	later := noon.Add(time.Hour)
	l.start(t, runs.NewID(later), later, nil)
	newest, err := l.reader.Newest(t.Context(), "Train", runs.Filter{})
	require.NoError(t, err)
	require.NotEqual(t, first.Run.Run, newest.Run.Run)
	l.end(t, newest.Run.Run, records.End{Status: records.StatusFailed, Ended: later.Add(time.Minute)})

	good, err := l.reader.LatestSuccessful(t.Context(), "Train")
	require.NoError(t, err)
	require.Equal(t, first.Run.Run, good.Run.Run)
	tagged, err := l.reader.Newest(t.Context(), "Train", runs.Filter{Tags: []string{"best"}})
	require.NoError(t, err)
	require.Equal(t, first.Run.Run, tagged.Run.Run)
}

// latestModel is what docs/reading.md shows.
func latestModel(ctx context.Context, store *artifacts.Store) ([]float64, error) {
	reader := runs.New(store, nil) // with a Temporal client in place of nil, runs that go on have their state, too
	run, err := reader.LatestSuccessful(ctx, "Train")
	if err != nil {
		return nil, err
	}
	task, err := run.Task(ctx, "fit")
	if err != nil {
		return nil, err
	}
	return runs.Load[[]float64](ctx, task, "Model")
}

func TestLatestModel(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	_, err := latestModel(t.Context(), l.store)
	require.ErrorIs(t, err, runs.ErrNotFound)
	id := runs.NewID(noon)
	l.start(t, id, noon, nil)
	l.task(t, id, "fit", &state{Model: []float64{1, 2}}, nil)
	l.end(t, id, records.End{Status: records.StatusCompleted, Ended: noon.Add(time.Minute)})
	model, err := latestModel(t.Context(), l.store)
	require.NoError(t, err)
	require.Equal(t, []float64{1, 2}, model)
}

func TestResumedAndOrigin(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	ids := make([]string, 4)
	for i := range ids {
		at := noon.Add(time.Duration(i) * time.Hour)
		ids[i] = runs.NewID(at)
		l.start(t, ids[i], at, func(r *records.Run) {
			switch i {
			case 1, 3:
				r.Origin, r.Root = ids[0], ids[0]
			case 2:
				r.Origin, r.Root = ids[1], ids[0]
			}
		})
	}
	resumed := func(id string) []string {
		got := []string{}
		for run, err := range l.run(t, id).Resumed(t.Context()) {
			require.NoError(t, err)
			got = append(got, run.Run.Run)
		}
		return got
	}
	require.Equal(t, []string{ids[3], ids[1]}, resumed(ids[0]), "newest first")
	require.Equal(t, []string{ids[2]}, resumed(ids[1]))
	require.Empty(t, resumed(ids[3]))

	origin, err := l.run(t, ids[2]).OriginRun(t.Context())
	require.NoError(t, err)
	require.Equal(t, ids[1], origin.Run.Run)
	_, err = l.run(t, ids[0]).OriginRun(t.Context())
	require.ErrorIs(t, err, runs.ErrNotFound)
}
