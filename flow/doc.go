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
// # Shapes
//
// Steps follow each other as they are written. [Branch], [Foreach], [Switch] and [Loop] are nodes like a step and nest to any depth,
// so that the indentation is the graph:
//
//	flow.New("TrainFlow",
//		flow.Step("load", load),
//		flow.Branch("features",
//			flow.Step("numeric", numeric),
//			flow.Seq(flow.Step("text", text), flow.Step("embed", embed)),
//		).Join("merge", merge),
//		flow.Foreach("grid", (*State).alphas, (*State).setAlpha,
//			flow.Step("fit", fit, policies.Retry{MaximumAttempts: 3}),
//		).With(flow.Fan{MaxParallel: 100, Tolerate: flow.Percent(5)}).Join("best", best),
//		flow.Switch("good", (*State).verdict,
//			flow.Case("ship", flow.Step("ship", ship)),
//		).Else(flow.Step("report", report)),
//		flow.Loop("tune", (*State).notConverged, flow.Step("tune_once", tuneOnce)),
//	)
//
// A branch or foreach without its join, a switch that does not say what other values mean, a step of another state and an item of
// another type do not compile. A join is a step with one argument more: the [Inputs], which are the states that the arms or items
// ended with. What it takes over from them it says itself, or leaves to [Inputs.Merge]. [NewInputs] and [NewBranches] make inputs
// for the unit test of a join.
//
// Functions that decide (the items of a foreach, the selector of a switch, the condition of a loop) belong to the step before them:
// they are called once, right after it and with the state that it leaves, what they return is kept in its record, and if they fail
// or panic, its attempt does, to be tried again by its policies. They must not change the state. Where no step goes before, at the
// start of the flow or of an item, a task with the name of the shape calls them, in one attempt; put a step before them if they
// need a retry.
//
// # Names
//
// The names of flows, steps and shapes are durable identity: they are workflow and activity types in Temporal
// and folders in the store. They are explicit strings, never names of Go functions.
//
// # Inside a step
//
// [Current], [Log], [Card], [Progress] and [IdempotencyKey] read what the worker put into the step's
// context. [Fail], [Transient] and [RetryAfter] make errors that say what should happen next; any other
// error is tried again as [policies.Retry] says.
package flow
