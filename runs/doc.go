// Package runs reads runs back: flows, runs, steps, tasks, attempts, artifacts, logs and cards.
//
// Everything comes from the store, so a run stays readable after Temporal forgot it. Temporal is only
// asked about a run that has not ended: whether it is still running, and what its tasks are doing.
//
//	r := runs.New(store, temporalClient)
//	run, err := r.Run(ctx, "FlightDelayFlow", "20260131-120000-abc123")
//	task, err := run.Task(ctx, "evaluate")
//	auc, err := runs.Load[float64](ctx, task, "AUC")
package runs
