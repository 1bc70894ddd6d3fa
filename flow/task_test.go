package flow_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

// A unit test calls a step as a plain function, without a run around it.
func TestOutsideOfARun(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	require.Equal(t, flow.Info{}, flow.Current(ctx))
	require.Same(t, slog.Default(), flow.Log(ctx))
	require.Empty(t, flow.IdempotencyKey(ctx))
	flow.Progress(ctx, 1, 2)
	flow.Card(ctx).Append(nil)
	require.Empty(t, flow.Card(ctx).Components())

	ctx = flow.NewContext(ctx, flow.Runtime{})
	require.Same(t, slog.Default(), flow.Log(ctx))
	flow.Progress(ctx, 1, 2)
	flow.Card(ctx).Append(nil)
}

func TestInsideOfARun(t *testing.T) {
	t.Parallel()
	var (
		log      strings.Builder
		card     flow.CardContent
		progress [2]int64
	)
	info := flow.Info{Flow: "F", Run: "r", Step: "fit", Task: "fit[3]", Index: flow.Index{3}, Attempt: 2, Previous: &policies.Failure{Message: "boom"}}
	ctx := flow.NewContext(t.Context(), flow.Runtime{
		Info: info, Log: slog.New(slog.NewTextHandler(&log, nil)), Card: &card,
		Progress: func(done, total int64) { progress = [2]int64{done, total} },
	})
	ctx, cancel := context.WithCancel(ctx) // what a step derives knows the task as well
	defer cancel()
	require.Equal(t, info, flow.Current(ctx))
	flow.Log(ctx).Info("fitted", "loss", 0.5)
	require.Contains(t, log.String(), "msg=fitted loss=0.5")
	flow.Progress(ctx, 5, 10)
	require.Equal(t, [2]int64{5, 10}, progress)
	require.Same(t, &card, flow.Card(ctx))
}

func keyOf(ctx context.Context, i flow.Info) string {
	return flow.IdempotencyKey(flow.NewContext(ctx, flow.Runtime{Info: i}))
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	first := flow.Info{Flow: "OrderFlow", Run: "run-1", Root: "run-1", Step: "charge", Task: "charge[3,0]", Index: flow.Index{3, 0}, Attempt: 1}
	// Services remember keys: the value itself must not change.
	require.Equal(t, "d51d8bd727d41beec9a04152f8d342fe", keyOf(t.Context(), first))

	same := func(change func(*flow.Info)) {
		t.Helper()
		i := first
		change(&i)
		require.Equal(t, keyOf(t.Context(), first), keyOf(t.Context(), i))
	}
	same(func(i *flow.Info) { i.Attempt, i.Previous = 7, &policies.Failure{Message: "boom"} })
	same(func(i *flow.Info) { i.Run, i.Origin = "run-2", "run-1" })
	same(func(i *flow.Info) {
		i.Run, i.Origin, i.Tags, i.Project, i.Branch = "run-3", "run-2", []string{"nightly"}, "fraud", "prod"
	})
	same(func(i *flow.Info) { i.Root = "" }) // a run that was not resumed is its own root

	seen := map[string]string{keyOf(t.Context(), first): "first"}
	for what, change := range map[string]func(*flow.Info){
		"flow":                   func(i *flow.Info) { i.Flow = "OrderFlow2" },
		"run":                    func(i *flow.Info) { i.Run, i.Root = "run-2", "run-2" },
		"step":                   func(i *flow.Info) { i.Step = "refund" },
		"index":                  func(i *flow.Info) { i.Index = flow.Index{3, 1} },
		"index of another depth": func(i *flow.Info) { i.Index = flow.Index{30} },
		"no index":               func(i *flow.Info) { i.Index = nil },
		"names run together":     func(i *flow.Info) { i.Flow, i.Root = "OrderFlowr", "un-1" },
	} {
		i := first
		change(&i)
		key := keyOf(t.Context(), i)
		require.Len(t, key, 32)
		require.Empty(t, seen[key], "%s: %s", what, key)
		seen[key] = what
	}
}

func TestIdempotencyKeysDiffer(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		draw := func(who string) flow.Info {
			return flow.Info{
				Flow: rapid.StringMatching(`[A-Za-z][A-Za-z0-9_-]{0,3}`).Draw(rt, who+" flow"), Run: "any",
				Root:  rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9._-]{0,3}`).Draw(rt, who+" root"),
				Step:  rapid.StringMatching(`[A-Za-z][A-Za-z0-9_-]{0,3}`).Draw(rt, who+" step"),
				Index: rapid.SliceOfN(rapid.IntRange(0, 20), 0, 3).Draw(rt, who+" index"),
			}
		}
		a, b := draw("a"), draw("b")
		same := a.Flow == b.Flow && a.Root == b.Root && a.Step == b.Step && a.Index.Equal(b.Index)
		require.Equal(rt, same, keyOf(t.Context(), a) == keyOf(t.Context(), b))
	})
}

func TestFail(t *testing.T) {
	t.Parallel()
	cause := errors.New("loss is NaN")
	err := fmt.Errorf("fit: %w", flow.Fail("alpha %g is too high: %w", 0.5, flow.Transient(cause)))
	require.EqualError(t, err, "fit: alpha 0.5 is too high: loss is NaN")
	require.ErrorIs(t, err, cause)
	require.Equal(t, policies.Permanent, policies.Classify(err).Class, "it ends the task, whatever it was made of")
	require.Equal(t, policies.Permanent, policies.Classify(errors.Join(errors.New("also"), err)).Class)

	spec := policies.NewSpec(&policies.Retry{MaximumAttempts: 9}, nil, nil)
	require.False(t, spec.Decide(policies.Classify(err), err, func(error) bool { return true }, 1, nil).Retry)
}

func TestTransient(t *testing.T) {
	t.Parallel()
	require.NoError(t, flow.Transient(nil))
	cause := context.DeadlineExceeded
	err := fmt.Errorf("call: %w", flow.Transient(fmt.Errorf("get: %w", cause)))
	require.EqualError(t, err, "call: get: context deadline exceeded")
	require.ErrorIs(t, err, cause)
	require.Equal(t, policies.Transient, policies.Classify(err).Class)
	require.Equal(t, policies.Transient, policies.Classify(flow.Transient(flow.Fail("x"))).Class, "the outer word counts")
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	require.NoError(t, flow.RetryAfter(nil, time.Minute))
	cause := errors.New("429")
	err := fmt.Errorf("call: %w", flow.RetryAfter(cause, time.Minute))
	require.EqualError(t, err, "call: 429")
	require.ErrorIs(t, err, cause)
	f := policies.Classify(err)
	require.Equal(t, policies.RateLimited, f.Class)
	require.Equal(t, time.Minute, f.RetryAfter)

	spec := policies.NewSpec(&policies.Retry{MaximumAttempts: 2}, nil, nil)
	require.GreaterOrEqual(t, spec.Decide(f, err, nil, 1, nil).Delay, time.Minute, "no sooner")
	require.Equal(t, policies.Permanent, policies.Classify(flow.RetryAfter(flow.Fail("over"), time.Minute)).Class, "a wait allows no attempt")
}
