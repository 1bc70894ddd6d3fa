package failurehandling

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/stepwell-flows/stepwell/cards"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

// State is what the steps share.
type State struct {
	SimulateAPIFailure bool `param:"simulate_api_failure" default:"true" help:"make the API call fail 70% of the time"`
	SimulateCodeBug    bool `param:"simulate_code_bug" help:"make risky_logic panic"`

	APIData     map[string]string // temperature in °C by city
	APIAttempts int               // which attempt brought the data, 0 when none did
	APIError    *policies.Failure // nil unless api_call was caught

	Result string
	Error  *policies.Failure // nil unless risky_logic was caught
}

// Flow is FailureHandlingFlow.
func Flow() *flow.Flow { return FlowWith(rand.Float64) }

// FlowWith is [Flow] with another source of chance: draw returns numbers from 0 up to 1, and the simulated service fails
// when one is below 0.7. It must be safe for concurrent use.
func FlowWith(draw func() float64) *flow.Flow {
	api := service{draw}
	return flow.New("FailureHandlingFlow",
		flow.Step("start", start),
		flow.Step("api_call", api.call,
			policies.Retry{MaximumAttempts: 4, InitialInterval: time.Second},
			policies.Timeout{Attempt: 10 * time.Second},
			// After four attempts the catch takes over. It may do whatever a step may, and may fail as well.
			policies.Catch(yesterday)),
		flow.Step("risky_logic", riskyLogic,
			policies.Catch(func(_ context.Context, s *State, f *policies.Failure) error {
				s.Error = f
				return nil
			})),
		flow.Step("summarize", summarize, cards.Default()),
		flow.Step("end", end),
	)
}

func start(ctx context.Context, s *State) error {
	flow.Log(ctx).Info("starting", "simulate_api_failure", s.SimulateAPIFailure, "simulate_code_bug", s.SimulateCodeBug)
	return nil
}

// service stands for a weather service on the network.
type service struct{ draw func() float64 }

func (a service) call(ctx context.Context, s *State) error {
	attempt := max(1, flow.Current(ctx).Attempt)
	if before := flow.Current(ctx).Previous; before != nil {
		flow.Log(ctx).Warn("trying again", "attempt", attempt, "before", before.Message)
	}
	if s.SimulateAPIFailure {
		switch chance := a.draw(); {
		case chance < 0.2:
			// The service says when it wants to be asked again; the next attempt starts no sooner.
			return flow.RetryAfter(fmt.Errorf("weather service: 429 too many requests"), 2*time.Second)
		case chance < 0.7:
			return flow.Transient(fmt.Errorf("weather service: 503 service unavailable"))
		}
	}
	s.APIData = map[string]string{"Bergen": "7.5", "Lisbon": "17.0", "Nairobi": "21.5"}
	s.APIAttempts = attempt
	flow.Log(ctx).Info("the service answered", "attempt", attempt, "cities", len(s.APIData))
	return nil
}

// yesterday stands in for the service when it could not be reached.
func yesterday(ctx context.Context, s *State, f *policies.Failure) error {
	s.APIData = map[string]string{"Bergen": "6.0", "Lisbon": "16.5", "Nairobi": "22.0"}
	s.APIError = f
	flow.Log(ctx).Warn("using yesterday's data", "because", f.Message)
	return nil
}

func riskyLogic(ctx context.Context, s *State) error {
	// Whatever an attempt sets is kept only if the attempt succeeds: no later step ever sees this text.
	s.Result = "not finished"

	cities := slices.Sorted(maps.Keys(s.APIData))
	if len(cities) == 0 {
		return flow.Fail("there are no temperatures")
	}
	last := len(cities) - 1
	if s.SimulateCodeBug {
		last++ // the classic: one too far
	}
	warmest, high := "", 0.0
	for i := 0; i <= last; i++ {
		temperature, err := strconv.ParseFloat(s.APIData[cities[i]], 64)
		if err != nil {
			return flow.Fail("temperature of %s: %w", cities[i], err)
		}
		if i == 0 || temperature > high {
			warmest, high = cities[i], temperature
		}
	}
	s.Result = fmt.Sprintf("warmest: %s, %.1f °C", warmest, high)
	flow.Log(ctx).Info("computed", "result", s.Result)
	return nil
}

func end(ctx context.Context, s *State) error {
	flow.Log(ctx).Info("done", "result", s.Result, "caught", s.Error != nil)
	return nil
}
