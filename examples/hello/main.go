// Command hello is a flow of one's own in one file: worker, starter and, without a Temporal server, everything.
package main

import (
	"context"
	"errors"
	"time"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/devserver"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

// State is what the steps share. Exported fields are artifacts, those with a param tag are parameters; what is not
// exported never leaves the process.
type State struct {
	Name     string `param:"name" default:"world" help:"whom to greet"`
	Greeting string
	Unsent   *policies.Failure
}

func greet(ctx context.Context, s *State) error {
	if flow.Current(ctx).Attempt == 1 {
		return errors.New("the line is busy") // tried again, as the policy says
	}
	s.Greeting = "hello, " + s.Name
	flow.Log(ctx).Info("greeted", "name", s.Name) // kept with the attempt
	return nil
}

func send(_ context.Context, s *State) error {
	return flow.Fail("nobody answers to %q", s.Name) // trying again is of no use
}

func keep(_ context.Context, s *State, f *policies.Failure) error {
	s.Unsent = f // the run goes on
	return nil
}

// Hello is the flow: its steps, in order, with their policies.
func Hello() *flow.Flow {
	return flow.New("HelloFlow",
		flow.Step("greet", greet, policies.Retry{MaximumAttempts: 4, InitialInterval: time.Second}),
		flow.Step("send", send, policies.Catch(keep)),
	)
}

func main() {
	stepwell.App{Flows: []*flow.Flow{Hello()}, Dev: devserver.Start}.Main()
}
