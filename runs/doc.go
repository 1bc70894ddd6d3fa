// Package runs reads runs back: flows, runs, steps, tasks, attempts, artifacts, logs and cards.
//
// Everything comes from the store, so a run stays readable after Temporal forgot it. Temporal is only
// asked about a run that has not ended: whether it is still running, and what its tasks are doing.
//
//	r := runs.New(store, temporalClient)
//	run, err := r.Run(ctx, "FlightDelayFlow", "20260131-120000-abc123")
//	task, err := run.Task(ctx, "evaluate")
//	auc, err := runs.Load[float64](ctx, task, "AUC")
//
// # Many tasks
//
// A step in a foreach or a loop has any number of tasks, up to millions. [Run.Steps] counts them, from the keys of their
// records and from the summaries of batches; [Step.Tasks] reads them one after the other, [Step.Failures] those that failed, and
// [Run.Task] finds one by its name, like "fit[3]" or, of item 0 of a foreach within item 3 of another, "fit[3,0]".
//
//	fit, err := run.Step(ctx, "fit")
//	fmt.Println(fit.Completed, "of", fit.Total)
//	for task, err := range fit.Failures(ctx) {
//		fmt.Println(task.Name(), task.Failure)
//	}
package runs
