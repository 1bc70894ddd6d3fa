package policies_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/policies"
)

func TestDependencyDefaults(t *testing.T) {
	t.Parallel()
	d := policies.Dependency{
		Name: "model", Breaker: policies.Breaker{Failures: 5}, Budget: policies.Budget{Percent: 20}, Throttle: policies.Throttle{Percent: 50},
	}
	want := policies.Dependency{
		Name:     "model",
		Breaker:  policies.Breaker{Failures: 5, Percent: 50, Window: 30 * time.Second, Cooldown: 5 * time.Second},
		Budget:   policies.Budget{Percent: 20, Minimum: 10, Window: time.Minute},
		Throttle: policies.Throttle{Percent: 50, Window: 30 * time.Second},
	}
	require.Equal(t, want, d.WithDefaults())
	require.Equal(t, want, want.WithDefaults())
	require.Equal(t, policies.Dependency{Name: "model"}, policies.Dependency{
		Name: "model", Breaker: policies.Breaker{Window: time.Hour}, Budget: policies.Budget{Minimum: 3}, Throttle: policies.Throttle{Window: time.Hour},
	}.WithDefaults(), "what does nothing is nothing")
	none := policies.Dependency{Budget: policies.Budget{Percent: 1, Minimum: -7}}.WithDefaults()
	require.Equal(t, -1, none.Budget.Minimum)
	require.Equal(t, none, none.WithDefaults())
	require.NoError(t, d.Validate())
	require.NoError(t, want.Validate())
	require.Equal(t, "model: opens for 5s at 5 failures and 50% within 30s; 20% retries within 1m, at least 10; throttles beyond 50% failures within 30s", d.String())
	require.Equal(t, "model", policies.Dependency{Name: "model"}.String())
	require.Equal(t, "opens for 5s at 1 failure and 12.5% within 1m30s", policies.Breaker{Failures: 1, Percent: 12.5, Window: 90 * time.Second}.String())
	require.Equal(t, "no breaker, no budget, no throttle", strings.Join([]string{policies.Breaker{}.String(), policies.Budget{}.String(), policies.Throttle{}.String()}, ", "))
}

func TestDependencyTravels(t *testing.T) {
	t.Parallel()
	d := policies.Dependency{
		Name:     "model",
		Breaker:  policies.Breaker{Failures: 5, Percent: 12.5, Window: 90 * time.Second, Cooldown: time.Millisecond},
		Budget:   policies.Budget{Percent: 20, Minimum: -1, Window: time.Hour},
		Throttle: policies.Throttle{Percent: 50, Window: time.Second},
	}
	b, err := json.Marshal(d)
	require.NoError(t, err)
	require.JSONEq(t, `{"name":"model","breaker":{"failures":5,"percent":12.5,"window":"1m30s","cooldown":"1ms"},
		"budget":{"percent":20,"minimum":-1,"window":"1h0m0s"},"throttle":{"percent":50,"window":"1s"}}`, string(b))
	var back policies.Dependency
	require.NoError(t, json.Unmarshal(b, &back))
	require.Equal(t, d, back)
	b, err = json.Marshal(policies.Dependency{Name: "model"})
	require.NoError(t, err)
	require.JSONEq(t, `{"name":"model"}`, string(b))
	require.Error(t, json.Unmarshal([]byte(`{"breaker":{"window":5}}`), &back))
	require.Error(t, json.Unmarshal([]byte(`{"budget":{"window":"soon"}}`), &back))
	require.Error(t, json.Unmarshal([]byte(`{"throttle":{"percent":"half"}}`), &back))
}

func TestDependencyMistakes(t *testing.T) {
	t.Parallel()
	for want, d := range map[string]policies.Dependency{
		`Name "a/b" is not allowed`:                    {Name: "a/b"},
		`Name "" is not allowed`:                       {},
		"Breaker: Failures is -1":                      {Name: "a", Breaker: policies.Breaker{Failures: -1}},
		"Breaker has no Failures":                      {Name: "a", Breaker: policies.Breaker{Percent: 50}},
		"Breaker: Percent is 101":                      {Name: "a", Breaker: policies.Breaker{Failures: 1, Percent: 101}},
		"Breaker: Percent is -1":                       {Name: "a", Breaker: policies.Breaker{Failures: 1, Percent: -1}},
		"Breaker: Window is 30ns (a number needs":      {Name: "a", Breaker: policies.Breaker{Failures: 1, Window: 30}},
		"Breaker: Cooldown is -1s":                     {Name: "a", Breaker: policies.Breaker{Failures: 1, Cooldown: -time.Second}},
		"Budget has no Percent":                        {Name: "a", Budget: policies.Budget{Minimum: 3}},
		"Budget: Percent is NaN":                       {Name: "a", Budget: policies.Budget{Percent: math.NaN()}},
		"Budget: Percent is +Inf":                      {Name: "a", Budget: policies.Budget{Percent: math.Inf(1)}},
		"Budget: Window is 5ns":                        {Name: "a", Budget: policies.Budget{Percent: 1, Window: 5}},
		"Throttle has no Percent":                      {Name: "a", Throttle: policies.Throttle{Window: time.Minute}},
		"Throttle: Percent is 100, so it does nothing": {Name: "a", Throttle: policies.Throttle{Percent: 100}},
		"Throttle: Percent is 120":                     {Name: "a", Throttle: policies.Throttle{Percent: 120}},
		"Throttle: Window is -1s":                      {Name: "a", Throttle: policies.Throttle{Percent: 50, Window: -time.Second}},
	} {
		require.ErrorContains(t, d.Validate(), want)
		s := policies.NewSpec(nil, nil, nil)
		s.Dependency = &d
		require.ErrorContains(t, s.Validate(), "dependency: "+want)
	}
	s := policies.NewSpec(nil, nil, nil)
	s.Budget = &policies.Budget{}
	require.EqualError(t, s.Validate(), "budget has no Percent, so it bounds nothing (use 20 for a retry to five first tries)")
	all := policies.Dependency{Name: "-", Breaker: policies.Breaker{Failures: -1}, Budget: policies.Budget{Percent: -1}, Throttle: policies.Throttle{Percent: -1}}
	require.Len(t, strings.Split(all.Validate().Error(), "\n"), 4)
}

func TestBlames(t *testing.T) {
	t.Parallel()
	for c, want := range map[policies.Class]policies.Blame{
		policies.Transient: policies.Failed, policies.TimedOut: policies.Failed, policies.Unknown: policies.Failed, "new": policies.Failed,
		policies.RateLimited: policies.Slowed, policies.Invalid: policies.Answered, policies.Denied: policies.Answered, policies.Permanent: policies.Answered,
		policies.Bug: policies.Nothing, policies.OutOfMemory: policies.Nothing, policies.Lost: policies.Nothing,
		policies.Cancelled: policies.Nothing, policies.OverBudget: policies.Nothing,
	} {
		require.Equal(t, want, c.Blames(), c)
	}
}
