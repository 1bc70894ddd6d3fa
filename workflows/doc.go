// Package workflows interprets a flow's plan as a Temporal workflow.
//
// There is one interpreter. It is registered under each flow's name, so that Temporal lists flows by
// type, and it runs the plan that is in its own input, never the one that the program registers today:
// a deployed change cannot break the replay of a running flow. It passes references to records around,
// and of data only what is as small as a preview, see [records.Kept].
//
// # Cursor
//
// Where a run stands is a [Cursor]: the next node and the record before it. A resumed run starts with a
// cursor that was made from the records of its origin; a run whose history grows long continues as new
// with a cursor that it made itself. It is one mechanism.
//
// # Changing the interpreter
//
// Old histories must replay. The histories in testdata are replayed by the tests; a change that
// alters the order of commands goes behind workflow.GetVersion, and gets a saved history of its own.
package workflows
