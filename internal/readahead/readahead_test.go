package readahead_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/internal/readahead"
)

func TestInOrder(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 3, 4, 5, 100} {
		synctest.Test(t, func(t *testing.T) {
			var now, most atomic.Int32
			read := func(_ context.Context, i int) (int, error) {
				most.Store(max(most.Load(), now.Add(1)))
				defer now.Add(-1)
				time.Sleep(time.Duration(1+i*7%5) * time.Second) // they end in another order
				return i * i, nil
			}
			next := 0
			for v, err := range readahead.InOrder(t.Context(), 4, n, read) {
				require.NoError(t, err)
				require.Equal(t, next*next, v)
				next++
			}
			require.Equal(t, n, next)
			require.EqualValues(t, min(4, n), most.Load())
		})
	}
}

func TestInOrderEnds(t *testing.T) {
	t.Parallel()
	failed := errors.New("failed")
	var calls, cancelled atomic.Int32
	read := func(ctx context.Context, i int) (int, error) {
		calls.Add(1)
		switch {
		case i == 5:
			return 0, failed
		case i < 5:
			return i, nil
		}
		<-ctx.Done()
		cancelled.Add(1)
		return 0, ctx.Err()
	}
	var got []int
	var last error
	for v, err := range readahead.InOrder(t.Context(), 4, 100, read) {
		if last = err; err == nil {
			got = append(got, v)
		}
	}
	require.Equal(t, []int{0, 1, 2, 3, 4}, got)
	require.ErrorIs(t, last, failed)
	require.LessOrEqual(t, calls.Load(), int32(5+4), "nothing is begun after the error")
	require.Equal(t, calls.Load()-6, cancelled.Load(), "what was under way was told, and waited for")

	calls.Store(0)
	cancelled.Store(0)
	for v, err := range readahead.InOrder(t.Context(), 4, 100, func(ctx context.Context, i int) (int, error) {
		calls.Add(1)
		if i < 3 {
			return i, nil
		}
		<-ctx.Done()
		cancelled.Add(1)
		return 0, ctx.Err()
	}) {
		require.NoError(t, err)
		if v == 2 {
			break
		}
	}
	require.Equal(t, calls.Load()-3, cancelled.Load(), "who leaves the loop waits for what was under way")
}
