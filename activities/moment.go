package activities

import (
	"context"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
)

// Point is a place in an attempt at which a worker may die with a difference.
type Point string

// The points, in the order of an attempt. One that fails passes PointNoted instead of the last two.
const (
	PointBegin  Point = "before_run"      // the input is read; the author's function is called next
	PointRan    Point = "after_run"       // the function returned, well or with an error; nothing of that is written
	PointStored Point = "after_artifacts" // what the task set is written; its record is not
	PointRecord Point = "after_record"    // the record is written; the server does not know
	PointNoted  Point = "after_ledger"    // the failure is in the ledger; the server does not know
)

// Moment is a point in a certain attempt.
type Moment struct {
	Point Point
	Flow  string
	Run   string
	// Step and Index are the task's. A batch has its foreach as Step and its first item as the last of Index.
	Step  string
	Index flow.Index
	// Attempt counts from 1.
	Attempt int
	// Catch says that it is the step's catch function that is called.
	Catch bool
	// Batch says that it is a batch as a whole.
	Batch bool
}

// at tells a test where the attempt is.
func (t *attempt) at(ctx context.Context, p Point) {
	if t.options.At != nil {
		t.options.At(ctx, Moment{Point: p, Flow: t.in.Flow, Run: t.in.Run, Step: t.in.Step, Index: t.in.Index, Attempt: t.number, Catch: t.catch})
	}
}

// at tells a test where the batch is.
func (b *batch) at(ctx context.Context, p Point) {
	if b.options.At != nil {
		x := records.Within(b.in.Index, b.in.First)
		b.options.At(ctx, Moment{Point: p, Flow: b.in.Flow, Run: b.in.Run, Step: b.in.Foreach, Index: x, Attempt: b.number, Batch: true})
	}
}
