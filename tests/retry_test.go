package tests

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

type calls struct {
	Answer string
	Partly string
	Number int `param:"number"`
}

// failing fails with err until attempt n.
func failing(n int, err error) func(context.Context, *calls) error {
	return func(ctx context.Context, s *calls) error {
		s.Partly = "left by an attempt"
		if flow.Current(ctx).Attempt < n {
			return err
		}
		s.Answer, s.Partly = "at last", ""
		return nil
	}
}

// Three attempts fail and the fourth succeeds, on a real server, and the waits are those of the policy.
func TestRetryOnServer(t *testing.T) {
	t.Parallel()
	f := flow.New("RetryFlow", flow.Step("call", failing(4, errors.New("not yet")), policies.Retry{
		MaximumAttempts: 4, InitialInterval: 200 * time.Millisecond, MaximumInterval: 500 * time.Millisecond, Jitter: policies.NoJitter,
	}))
	r := newRig(t, t.TempDir(), f)
	run := r.run(f, nil)
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	require.Equal(t, calls{Answer: "at last"}, *lastState[calls](t, run, f))

	all := attempts(t, run, "call")
	require.Equal(t, []records.Outcome{records.Failed, records.Failed, records.Failed, records.Completed}, outcomes(all))
	for i, want := range []time.Duration{200 * time.Millisecond, 400 * time.Millisecond, 500 * time.Millisecond} {
		require.Equal(t, want, all[i].Delay)
		require.Equal(t, "not yet", all[i].Failure.Message)
		require.GreaterOrEqual(t, all[i+1].Waited, want, "attempt %d came too soon", i+2)
	}
	require.Equal(t, "exponential 500ms (MaximumInterval), no jitter", all[2].Reason)
}

// Runs that fail together do not come back together, and never later than the policy says.
func TestJitterSpreads(t *testing.T) {
	t.Parallel()
	const wait = 400 * time.Millisecond
	f := flow.New("JitterFlow", flow.Step("call", failing(2, errors.New("503")), policies.Retry{MaximumAttempts: 2, InitialInterval: wait}))
	r := newRig(t, t.TempDir(), f)
	const n = 24
	started := make([]*runs.Run, n)
	for i := range started {
		var err error
		started[i], err = r.client.Start(t.Context(), f, stepwell.StartOptions{})
		require.NoError(t, err)
	}
	drawn := map[time.Duration]bool{}
	var shortest, longest = wait, time.Duration(0)
	for _, run := range started {
		all := attempts(t, r.wait(run), "call")
		require.Len(t, all, 2)
		d := all[0].Delay
		require.LessOrEqual(t, d, wait)
		require.GreaterOrEqual(t, all[1].Waited, d)
		drawn[d] = true
		shortest, longest = min(shortest, d), max(longest, d)
	}
	require.Greater(t, len(drawn), n/2, "the delays are the same")
	// Twenty-four draws that all lie in one half of the range: once in eight million.
	require.Less(t, shortest, wait/2)
	require.Greater(t, longest, wait/2)
}

func TestRetryAfterOnServer(t *testing.T) {
	t.Parallel()
	f := flow.New("RetryAfterFlow", flow.Step("call", failing(2, fmt.Errorf("api: %w", flow.RetryAfter(errors.New("429"), 1200*time.Millisecond))),
		policies.Retry{MaximumAttempts: 2, InitialInterval: 10 * time.Millisecond, MaximumInterval: 20 * time.Millisecond}))
	r := newRig(t, t.TempDir(), f)
	all := attempts(t, r.run(f, nil), "call")
	require.Equal(t, []records.Outcome{records.Failed, records.Completed}, outcomes(all))
	require.Equal(t, policies.RateLimited, all[0].Failure.Class)
	require.GreaterOrEqual(t, all[0].Delay, 1200*time.Millisecond)
	require.GreaterOrEqual(t, all[1].Waited, 1200*time.Millisecond, "longer than MaximumInterval, because the other side asked for it")
}

func TestFailOnServer(t *testing.T) {
	t.Parallel()
	f := flow.New("FailFlow", flow.Step("check", failing(9, fmt.Errorf("wrapped twice: %w", fmt.Errorf("wrapped: %w", flow.Fail("bad input")))),
		policies.Retry{MaximumAttempts: 5, InitialInterval: 10 * time.Millisecond}))
	r := newRig(t, t.TempDir(), f)
	run := r.run(f, nil)
	require.Equal(t, records.StatusFailed, run.Status)
	require.Equal(t, policies.Permanent, run.Failure.Class)
	require.Len(t, attempts(t, run, "check"), 1)
	require.Len(t, r.scheduled(run), 1)
}

// A step that sets too much fails once, with a message that says what to do, and the server never sees the data.
func TestOversizedState(t *testing.T) {
	t.Parallel()
	type big struct{ Data []byte }
	f := flow.New("OversizedFlow", flow.Step("load", func(_ context.Context, s *big) error {
		s.Data = make([]byte, 100<<20)
		return nil
	}, policies.Retry{MaximumAttempts: 3, InitialInterval: 10 * time.Millisecond}))
	r := newRig(t, t.TempDir(), f)
	run := r.run(f, nil)
	require.Equal(t, records.StatusFailed, run.Status)
	require.Contains(t, run.Failure.Message, `artifact "Data"`)
	require.Contains(t, run.Failure.Message, "artifacts.File")
	require.Len(t, attempts(t, run, "load"), 1)
}

// A failure whose text and stack are huge still arrives, is tried again, and is read back.
func TestHugeFailure(t *testing.T) {
	t.Parallel()
	text := make([]byte, 5<<20)
	for i := range text {
		text[i] = byte('a' + i%26)
	}
	f := flow.New("HugeFailureFlow", flow.Step("call", func(ctx context.Context, _ *calls) error {
		if flow.Current(ctx).Attempt == 1 {
			panic(string(text) + "\xff\xfe")
		}
		return nil
	}, policies.Retry{MaximumAttempts: 2, InitialInterval: 10 * time.Millisecond}))
	r := newRig(t, t.TempDir(), f)
	run := r.run(f, nil)
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	all := attempts(t, run, "call")
	require.Len(t, all, 2)
	require.Equal(t, policies.Bug, all[0].Failure.Class)
	require.Contains(t, all[0].Failure.Message, "panic: abcdef")
	require.Contains(t, all[0].Failure.Message, "(cut)")
}

// Timeout.Total ends the task when the next attempt would come too late.
func TestTotalTimeout(t *testing.T) {
	t.Parallel()
	f := flow.New("TotalFlow", flow.Step("call", failing(99, errors.New("down")),
		policies.Timeout{Total: 10 * time.Second},
		policies.Retry{MaximumAttempts: 99, InitialInterval: 500 * time.Millisecond, BackoffCoefficient: 40, Jitter: policies.NoJitter}))
	r := newRig(t, t.TempDir(), f)
	run := r.run(f, nil)
	require.Equal(t, records.StatusFailed, run.Status)
	require.Contains(t, run.Failure.Message, "down")
	require.Contains(t, run.Failure.Message, "Timeout.Total")
	require.Len(t, attempts(t, run, "call"), 2, "the third would come 20 s later")
}

// A step cut short by a cancel keeps what was finished before it, and nothing is caught.
func TestCancelOnServer(t *testing.T) {
	t.Parallel()
	var once sync.Once
	running := make(chan struct{})
	f := flow.New("CancelFlow",
		flow.Step("first", failing(1, nil)),
		flow.Step("waits", func(ctx context.Context, s *calls) error {
			s.Answer = "changed"
			once.Do(func() { close(running) })
			<-ctx.Done()
			return ctx.Err()
		}, policies.Retry{MaximumAttempts: 5}, policies.Catch(func(context.Context, *calls, *policies.Failure) error { return nil })),
	)
	r := newRig(t, t.TempDir(), f)
	run, err := r.client.Start(t.Context(), f, stepwell.StartOptions{})
	require.NoError(t, err)
	<-running
	require.NoError(t, r.client.Cancel(t.Context(), f.Name(), run.Run.Run))
	run = r.wait(run)
	require.Equal(t, records.StatusCancelled, run.Status)
	require.Nil(t, run.Failure)
	require.Equal(t, "at last", lastState[calls](t, run, f).Answer)
	task, err := run.Task(t.Context(), "waits")
	require.NoError(t, err)
	require.Equal(t, runs.Cancelled, task.State)
	require.ErrorContains(t, r.client.Cancel(t.Context(), f.Name(), run.Run.Run), "is cancelled already")

}
