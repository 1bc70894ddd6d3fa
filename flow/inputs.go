package flow

import (
	"context"
	"iter"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/policies"
)

// Source is what a join reads: the worker makes one.
type Source struct {
	// Schema and Store read the states.
	Schema *artifacts.Schema
	Store  *artifacts.Store
	// Split is the state at the split, an item that was bound there included.
	Split map[string]artifacts.Entry
	// Len is the number of inputs.
	Len int
	// Arms maps the names of a branch's steps and shapes to the index of their arm. It is nil in a foreach.
	Arms map[string]int
	// At reads one input, All reads all of them in order.
	At  func(ctx context.Context, i int) (Input, error)
	All func(ctx context.Context) iter.Seq2[Input, error]
	// Failed is set to the first error of reading, which ends the attempt whatever the join makes of it.
	Failed *error
}

// Input is what one arm or item ended with.
type Input struct {
	Index int
	// Artifacts are those of its last task. Nil when it failed.
	Artifacts map[string]artifacts.Entry
	// Failure is why it failed, nil when it did not.
	Failure *policies.Failure
}

// Inputs are what a join reads: the states that the arms of a branch or the items of a foreach ended with.
type Inputs[S any] struct {
	ctx context.Context //nolint:containedctx // inputs live as long as the call of one join
	in  Source
}

func newInputs[S any](ctx context.Context, in Source) Inputs[S] { return Inputs[S]{ctx, in} }
