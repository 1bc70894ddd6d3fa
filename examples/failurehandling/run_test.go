package failurehandling

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

// draws returns one number after the other, and the last one for ever.
func draws(numbers ...float64) func() float64 {
	var mu sync.Mutex
	return func() float64 {
		mu.Lock()
		defer mu.Unlock()
		n := numbers[0]
		if len(numbers) > 1 {
			numbers = numbers[1:]
		}
		return n
	}
}

const (
	busy = 0.1
	down = 0.5
	up   = 0.9
)

// run runs the flow to its end, and returns the run and the state it ended with.
func run(t *testing.T, draw func() float64, params map[string]string) (*runs.Run, *State) {
	t.Helper()
	f := FlowWith(draw)
	r := flowtest.Run(t, f, flowtest.Options{Params: params})
	require.Equal(t, records.StatusCompleted, r.Status, "%+v", r.Failure)
	last, err := r.Last(t.Context())
	require.NoError(t, err)
	require.Equal(t, "end", last.Step)
	s, err := runs.LoadState[State](t.Context(), last, f)
	require.NoError(t, err)
	return r, s
}

func task(t *testing.T, r *runs.Run, step string) (*runs.Task, []runs.Attempt) {
	t.Helper()
	found, err := r.Task(t.Context(), step)
	require.NoError(t, err)
	attempts, err := found.Attempts(t.Context())
	require.NoError(t, err)
	return found, attempts
}

func card(t *testing.T, r *runs.Run) string {
	t.Helper()
	summary, _ := task(t, r, "summarize")
	page, err := summary.Card(t.Context(), "default")
	require.NoError(t, err)
	return string(page)
}

func TestNothingFails(t *testing.T) {
	t.Parallel()
	r, s := run(t, draws(down), map[string]string{"simulate_api_failure": "false"})
	require.Equal(t, "warmest: Nairobi, 21.5 °C", s.Result)
	require.Nil(t, s.Error)
	require.Nil(t, s.APIError)
	_, attempts := task(t, r, "api_call")
	require.Len(t, attempts, 1)
	require.Contains(t, card(t, r), "Nothing had to be caught")
}

func TestTheServiceComesBack(t *testing.T) {
	t.Parallel()
	r, s := run(t, draws(busy, down, up), nil)
	require.Equal(t, 3, s.APIAttempts)
	require.Equal(t, "21.5", s.APIData["Nairobi"])
	require.Nil(t, s.APIError)

	found, attempts := task(t, r, "api_call")
	require.Equal(t, records.Completed, found.Record.Outcome)
	require.Len(t, attempts, 3)
	require.Equal(t, policies.RateLimited, attempts[0].Failure.Class)
	require.GreaterOrEqual(t, attempts[0].Delay, 2*time.Second, "the wait that the service asked for")
	require.Equal(t, policies.Transient, attempts[1].Failure.Class)
	require.Positive(t, attempts[1].Delay)
	require.Contains(t, card(t, r), "the service answered at attempt 3")
}

func TestTheServiceStaysDown(t *testing.T) {
	t.Parallel()
	r, s := run(t, draws(down), nil)
	require.Equal(t, "warmest: Nairobi, 22.0 °C", s.Result, "of yesterday's data")
	require.Zero(t, s.APIAttempts)
	require.Equal(t, policies.Transient, s.APIError.Class)
	require.Equal(t, 4, s.APIError.Attempt)

	found, attempts := task(t, r, "api_call")
	require.Equal(t, records.Caught, found.Record.Outcome)
	require.Len(t, attempts, 4)
	require.Less(t, attempts[0].Delay, attempts[2].Delay, "the waits grow")
	page := card(t, r)
	require.Contains(t, page, "the service could not be reached")
	require.Contains(t, page, "503 service unavailable")
}

// The whole run with both failures, which is what the flow is there to show.
func TestTheServiceIsDownAndTheCodeHasABug(t *testing.T) {
	t.Parallel()
	r, s := run(t, draws(down), map[string]string{"simulate_code_bug": "true"})
	require.Empty(t, s.Result, "what the failed attempt set never happened")
	require.Equal(t, policies.Bug, s.Error.Class)
	require.Contains(t, s.Error.Message, "index out of range [3] with length 3")
	require.Contains(t, s.Error.Stack, "riskyLogic")

	found, attempts := task(t, r, "risky_logic")
	require.Equal(t, records.Caught, found.Record.Outcome)
	require.Len(t, attempts, 1, "no retry was asked for")
	page := card(t, r)
	for _, want := range []string{"there is no result", "index out of range", "api_call", "risky_logic", "Bug", "Transient"} {
		require.Contains(t, page, want)
	}
}

func TestSevenCallsOfTenFail(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	api := service{rng.Float64}
	failed := 0
	const calls = 10_000
	for range calls {
		ctx := flow.NewContext(t.Context(), quiet)
		if err := api.call(ctx, &State{SimulateAPIFailure: true}); err != nil {
			failed++
		}
	}
	require.InDelta(t, 0.7, float64(failed)/calls, 0.02)
}
