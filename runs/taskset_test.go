package runs_test

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/artifacts/driver"
	"github.com/stepwell-flows/stepwell/artifacts/mem"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

// distant is a store that takes ten milliseconds for each object.
type distant struct{ driver.Driver }

func (d distant) Get(ctx context.Context, key string, offset int64) (io.ReadCloser, error) {
	time.Sleep(10 * time.Millisecond)
	return d.Driver.Get(ctx, key, offset)
}

func TestManyTasksAreReadAhead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n = 640
		store := artifacts.New(distant{mem.New()}, artifacts.Options{})
		f := grid(flow.Fan{})
		l := gridLab{lab{store, runs.New(store, nil)}, t, f, f.Plan()}
		l.begin("r1", nil)
		l.did("r1", "load", nil, items(n))
		for i := range n {
			l.did("r1", "fit", flow.Index{i}, nil)
		}
		fit := l.step("r1", "fit")
		require.NoError(t, store.DeleteDoc(t.Context(), records.TaskKey("Grid", "r1", "fit", flow.Index{5})))
		began, next := time.Now(), 0
		for task, err := range fit.Tasks(t.Context()) {
			require.NoError(t, err)
			if next == 5 {
				next++ // it was deleted meanwhile
			}
			require.Equal(t, flow.Index{next}, task.Index)
			require.NotNil(t, task.Record)
			next++
		}
		require.Equal(t, n, next)
		require.Equal(t, n/32*10*time.Millisecond, time.Since(began), "32 at a time")
	})
}

// The run names the failure that its workflow heard of first. Clocks of workers may say otherwise.
func TestTheFirstFailureIsTheOneThatTheRunNames(t *testing.T) {
	t.Parallel()
	l := newGridLab(t, grid(flow.Fan{}))
	l.did("r1", "merge", nil, items(10))
	for _, i := range []int{2, 5, 7} {
		f := failed("score", flow.Index{i}, 50-i)
		l.tried("r1", "score", flow.Index{i}, records.Attempt{Outcome: records.Failed, Failure: f, Ended: f.Time, Final: true})
	}
	l.over("r1", records.End{Status: records.StatusFailed, Failure: failed("score", flow.Index{5}, 45)})
	first, err := l.step("r1", "score").First(t.Context())
	require.NoError(t, err)
	require.Equal(t, "score[5]", first.Name())
	require.Equal(t, "bad item", first.Failure.Message)
	f, err := l.read("r1").Foreach(t.Context(), "grid")
	require.NoError(t, err)
	first, err = f.First(t.Context())
	require.NoError(t, err)
	require.Equal(t, "score[5]", first.Name())
}

// The batches of steps that their summaries do not count are read ahead, too.
func TestManyBatchesAreReadAhead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n = 64
		store := artifacts.New(distant{mem.New()}, artifacts.Options{})
		f := turns()
		l := gridLab{lab{store, runs.New(store, nil)}, t, f, f.Plan()}
		l.begin("r1", nil)
		l.did("r1", "merge", nil, items(3*n))
		for i := range n {
			var lines [3]records.Item
			for k := range lines {
				lines[k] = records.Item{Outcome: records.Completed, Step: "cell", Attempt: 1}
			}
			l.batch("r1", 3*i, lines[:]...)
		}
		began := time.Now()
		big := l.step("r1", "big")
		require.True(t, big.Untold)
		require.Less(t, time.Since(began), n*10*time.Millisecond, "one after the other")
		cell, next := l.step("r1", "cell"), 0
		began = time.Now()
		for task, err := range cell.Tasks(t.Context()) {
			require.NoError(t, err)
			require.Equal(t, flow.Index{next}, task.Index)
			next++
		}
		require.Equal(t, 3*n, next)
		require.Less(t, time.Since(began), n*10*time.Millisecond, "one after the other")
	})
}

// The items that a join comes from, which a comparison of runs reads, are read ahead.
func TestParentsOfAJoinAreReadAhead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n = 320
		store := artifacts.New(distant{mem.New()}, artifacts.Options{})
		f := grid(flow.Fan{})
		l := gridLab{lab{store, runs.New(store, nil)}, t, f, f.Plan()}
		l.begin("r1", nil)
		l.did("r1", "merge", nil, items(n))
		for i := range n {
			l.did("r1", "fit", flow.Index{i}, nil)
			l.did("r1", "score", flow.Index{i}, nil)
		}
		l.did("r1", "best", nil, nil)
		best := l.at("r1", "best")
		began, next := time.Now(), -1
		for task, err := range best.Parents(t.Context()) {
			require.NoError(t, err)
			if next >= 0 {
				require.Equal(t, flow.Index{next}, task.Index)
			}
			next++
		}
		require.Equal(t, n, next)
		require.Less(t, time.Since(began), n*10*time.Millisecond, "one after the other")
	})
}
