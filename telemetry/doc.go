// Package telemetry makes the spans and metrics of runs with the API of OpenTelemetry. Package telemetry/export sends them somewhere;
// without it, or another provider of the process's own, they cost nothing.
//
// # Spans
//
// A run is one trace: the start by a client, the run, its steps, their attempts, and what those call. A run or a step may begin on
// one worker and end on another, days later, so nobody holds their spans open: their ids follow from their names, attempts name them
// as parents, and whoever ends a step or run makes its span then, whole. No span is made in a workflow, where a replay would make it
// again.
//
// The trace's id comes with the workflow, in a header that [Propagator] carries. A run that came without one has an id that follows
// from its name.
//
// # Metrics
//
// [Metrics] are counted where things happen, with labels whose values the program's code bounds: flows, steps, classes, never runs
// or items.
package telemetry
