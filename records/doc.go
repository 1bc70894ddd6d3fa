// Package records holds the documents that describe a run in a store, and their keys.
//
//	flows/<Flow>/<run>/run.json                              what was started: plan, parameters, origin (written once)
//	flows/<Flow>/<run>/tasks/<step>.json                     what a task produced (written once, last: the task is finished if and only if it exists)
//	flows/<Flow>/<run>/tasks/<step>/<index>.json             … of a task in a foreach or loop
//	flows/<Flow>/<run>/fans/<foreach>/<index>/<first>.jsonl  how the items of a shard of a foreach ended
//	flows/<Flow>/<run>/batches/<foreach>/<index>/<first>.jsonl  what the items of a batch produced (its record)
//	flows/<Flow>/<run>/batches/<foreach>/<index>/<first>.after.<sha256>.jsonl  what took the place of such a record after a reset
//	flows/<Flow>/<run>/parts/<foreach>/<index>/<first>/<n>.jsonl  what an attempt at a batch got done before it ended, of a run that was resumed or
//	                                                         reset <n>.<execution>.jsonl
//	flows/<Flow>/<run>/attempts/<step>/<index>/<n>.json      an attempt that failed or was lost
//	flows/<Flow>/<run>/logs/<step>/<index>/<n>.log           the lines of an attempt, JSON, one object each
//	flows/<Flow>/<run>/checkpoints/<step>/<index>/<name>     what a task keeps for its next attempt, and for resumes of the run
//	flows/<Flow>/<run>/cards/<step>/<index>/<name>.html      reports
//	flows/<Flow>/<run>/end.json                              how the run ended (written once)
//	tags/<Flow>/<run>/<n>.json                               the run's tags after their n-th change (each written once)
//	rungs/<Flow>/<step>.json                                 on which rung of its ladder a step finished last
//
// The documents alone are enough to read a run back and to resume it after Temporal has forgotten it.
// They are JSON, so that a person with nothing but the store can read them; unknown fields are ignored,
// so that a newer Stepwell may add some.
package records
