package failurehandling

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

// quiet is what a step called as a plain function runs in.
var quiet = flow.Runtime{Log: slog.New(slog.DiscardHandler)}

func TestFlowIsSound(t *testing.T) {
	t.Parallel()
	require.NoError(t, Flow().Check())
	require.Equal(t, "FailureHandlingFlow", Flow().Name())
}

func always(chance float64) service { return service{func() float64 { return chance }} }

func TestCallClasses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		chance   float64
		simulate bool
		class    policies.Class
		after    time.Duration
	}{
		{name: "busy", chance: 0.1, simulate: true, class: policies.RateLimited, after: 2 * time.Second},
		{name: "down", chance: 0.69, simulate: true, class: policies.Transient},
		{name: "up", chance: 0.7, simulate: true},
		{name: "not simulated", chance: 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := State{SimulateAPIFailure: test.simulate}
			err := always(test.chance).call(flow.NewContext(t.Context(), quiet), &s)
			if test.class == "" {
				require.NoError(t, err)
				require.Len(t, s.APIData, 3)
				require.Equal(t, 1, s.APIAttempts)
				return
			}
			f := policies.Classify(err)
			require.Equal(t, test.after, f.RetryAfter)
			require.Equal(t, test.class, f.Class)
			require.Empty(t, s.APIData)
		})
	}
}

func TestYesterdayStandsIn(t *testing.T) {
	t.Parallel()
	var s State
	f := &policies.Failure{Message: "weather service: 503 service unavailable"}
	require.NoError(t, yesterday(flow.NewContext(t.Context(), quiet), &s, f))
	require.Same(t, f, s.APIError)
	require.NoError(t, riskyLogic(flow.NewContext(t.Context(), quiet), &s))
	require.Equal(t, "warmest: Nairobi, 22.0 °C", s.Result)
}

func TestRiskyLogic(t *testing.T) {
	t.Parallel()
	s := State{APIData: map[string]string{"Bergen": "-3.5", "Lisbon": "-1.0"}}
	require.NoError(t, riskyLogic(flow.NewContext(t.Context(), quiet), &s))
	require.Equal(t, "warmest: Lisbon, -1.0 °C", s.Result)

	s.SimulateCodeBug = true
	require.Panics(t, func() { _ = riskyLogic(flow.NewContext(t.Context(), quiet), &s) })

	for want, data := range map[string]map[string]string{"temperature of Bergen": {"Bergen": "cold"}, "no temperatures": nil} {
		err := riskyLogic(flow.NewContext(t.Context(), quiet), &State{APIData: data})
		require.ErrorContains(t, err, want)
		require.Equal(t, policies.Permanent, policies.Classify(err).Class)
	}
}

func TestSummarizeShowsTheOutcome(t *testing.T) {
	t.Parallel()
	show := func(s State) string {
		card := &flow.CardContent{}
		ctx := flow.NewContext(t.Context(), flow.Runtime{Log: quiet.Log, Card: card})
		require.NoError(t, errors.Join(summarize(ctx, &s), end(ctx, &s)))
		page := ""
		for _, c := range card.Components() {
			page += string(c.CardHTML())
		}
		return page
	}
	data := map[string]string{"Bergen": "7.5"}
	require.Contains(t, show(State{APIData: data, APIAttempts: 3, Result: "warmest: Bergen"}), "at attempt 3")

	caught := show(State{
		APIData:  data,
		APIError: &policies.Failure{Class: policies.Transient, Message: "503"},
		Error:    &policies.Failure{Class: policies.Bug, Message: "index out of range [3] with length 3", Attempt: 1},
	})
	for _, want := range []string{"yesterday", "503", "index out of range", "risky_logic", "api_call"} {
		require.Contains(t, caught, want)
	}
	require.NotContains(t, caught, "Nothing had to be caught")
}
