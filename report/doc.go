// Package report draws runs as pages: a run with its graph and its timeline, a foreach with all of its items, a task.
//
// Each page is one HTML file with everything in it. It is made from the store alone, so that it can be made long after Temporal
// has forgotten the run; a run that has not ended is drawn as it stands.
//
//	run, err := reader.Find(ctx, "TrainFlow/latest")
//	…
//	err = report.Run(ctx, file, run, report.Options{})
//
// # Size
//
// A page costs little more for a foreach of many items than for one of few: tasks are counted by the keys of their records, and
// what needs the records themselves, such as durations, is taken from some of them, which the page says.
//
// # Safety
//
// Whatever a flow or a store can say is untrusted: names, tags, parameters, errors, lines of logs, artifacts. It is escaped, control
// characters are left out, and the page's Content-Security-Policy allows its own style sheet and nothing else, but for the one
// script that a program which serves the page may add.
package report
