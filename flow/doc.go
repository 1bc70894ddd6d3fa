// Package flow defines flows: a state struct, plain Go functions over it, and how they follow each other.
//
// The exported fields of the state are the flow's artifacts: what a step sets, the next step finds.
// Fields with a param tag are parameters; they are set at the start and read-only (see [Param]).
// A step is an ordinary function and can be called from a unit test without a server:
//
//	type State struct {
//		Name     string `param:"name" default:"world" help:"whom to greet"`
//		Greeting string
//	}
//
//	func greet(ctx context.Context, s *State) error {
//		s.Greeting = "hello, " + s.Name
//		flow.Log(ctx).Info("greeted", "name", s.Name)
//		return nil
//	}
//
//	var Hello = flow.New("Hello",
//		flow.Step("greet", greet, policies.Retry{MaximumAttempts: 3}),
//	)
//
// # Names
//
// The names of flows and steps are durable identity: they are workflow and activity types in Temporal
// and folders in the store. They are explicit strings, never names of Go functions.
//
// # Inside a step
//
// [Current], [Log], [Card], [Progress] and [IdempotencyKey] read what the worker put into the step's
// context. [Fail], [Transient] and [RetryAfter] make errors that say what should happen next; any other
// error is tried again as [policies.Retry] says.
package flow
