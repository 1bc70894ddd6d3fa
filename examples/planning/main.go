// Command planning is the worked example of docs/planning.md: a call that has to be answered within 800 ms in 95 of 100 cases.
package main

import (
	"context"
	"time"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/activities/predict"
	"github.com/stepwell-flows/stepwell/devserver"
	"github.com/stepwell-flows/stepwell/examples/modelserver/serve"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

// State is what the steps share.
type State struct {
	Server string `param:"server" default:"http://127.0.0.1:8090" help:"address of the model server, see examples/modelserver"`

	Probability float64
}

// call is how the client asks for one prediction.
var call = predict.Options{
	Timeout:  200 * time.Millisecond,
	Retry:    policies.Retry{MaximumAttempts: 3, InitialInterval: 50 * time.Millisecond},
	Patience: 800 * time.Millisecond,
	Dependency: policies.Dependency{
		Name:    "model",
		Breaker: policies.Breaker{Failures: 5},
		Budget:  policies.Budget{Percent: 20},
	},
}

// Flow is PlanningFlow. Each of its steps asks for a prediction, in another way.
func Flow() *flow.Flow {
	return flow.New("PlanningFlow",
		// What one would write first.
		flow.Step("first", ask(once), policies.Retry{MaximumAttempts: 5}, policies.Timeout{Attempt: 10 * time.Second}),
		// The plan for one call, with the step as what retries.
		flow.Step("call", ask(once), call.Retry, policies.Timeout{Attempt: call.Timeout}, call.Dependency),
		// The same plan in the client, and a step around it for what takes longer.
		flow.Step("score", ask(call), policies.Retry{MaximumAttempts: 3, InitialInterval: 10 * time.Second}, policies.Timeout{Attempt: 5 * time.Second}),
	)
}

// once leaves the retries to the step.
var once = predict.Options{Retry: policies.Retry{MaximumAttempts: 1}}

func ask(o predict.Options) func(context.Context, *State) error {
	return func(ctx context.Context, s *State) error {
		c, err := predict.New(predict.HTTP(s.Server+"/predict", predict.HTTPOptions{}), o)
		if err != nil {
			return flow.Fail("server %q: %w", s.Server, err)
		}
		a, err := predict.Call[serve.Flight, serve.Answer](ctx, c, "", serve.Flight{Departure: "2001/01/31 09:30", Origin: "SFO", Destination: "LAX", Distance: 337})
		s.Probability = a.Probability
		return err
	}
}

func app() stepwell.App { return stepwell.App{Flows: []*flow.Flow{Flow()}, Dev: devserver.Start} }

func main() { app().Main() }
