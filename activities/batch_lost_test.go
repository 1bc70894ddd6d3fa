package activities_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/artifacts/mem"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

func nothingToJoin(context.Context, *state, flow.Inputs[state]) error { return nil }

func count(n int) func(*state) []int {
	return func(*state) []int { return make([]int, n) }
}

// A foreach that has failed stays failed when the attempt of its batch is lost: no item after the failed one is run.
func TestBatchStopsAtAFailureOfAnEarlierAttempt(t *testing.T) {
	t.Parallel()
	var calls [3]atomic.Int32
	var away atomic.Bool
	f := flow.New("StopFlow",
		flow.Foreach("items", count(len(calls)), func(*state, int) {},
			flow.Step("call", func(ctx context.Context, _ *state) error {
				i := flow.Current(ctx).Index[0]
				calls[i].Add(1)
				if i == 0 {
					return flow.Fail("broken")
				}
				return nil
			}),
		).With(flow.Fan{Batch: len(calls)}).Join("join", nothingToJoin),
	)
	d := &faulty{Driver: mem.New(), fail: func(key string) (bool, bool) {
		return strings.Contains(key, "/batches/") && away.CompareAndSwap(false, true), false
	}}
	run := flowtest.Run(t, f, flowtest.Options{Store: artifacts.New(d, artifacts.Options{})})
	require.True(t, away.Load())
	require.Equal(t, records.StatusFailed, run.Status)
	require.Equal(t, policies.Permanent, run.Failure.Class)
	require.Equal(t, "call[0]", run.Failure.Task)
	require.Equal(t, [3]int32{1, 0, 0}, [3]int32{calls[0].Load(), calls[1].Load(), calls[2].Load()})
}
