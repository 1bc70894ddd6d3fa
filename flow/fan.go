package flow

import (
	"errors"
	"fmt"
)

// Fan says how a foreach runs its items. The zero value runs up to some thousand at a time, one activity each for every step,
// and stops at the first failure.
type Fan struct {
	// MaxParallel is how many items run at the same time, at most 1,000,000. 0 means no limit but those of the workers and of the
	// engine.
	MaxParallel int `json:"max_parallel,omitempty"`
	// Batch is how many items one activity runs, one after the other, at most 10,000. Use it for many items that take less than a
	// second: it costs one activity, and one object in the store, for all of them. 0 means 1: an activity for each task. The body
	// may then have steps, switches and loops, but no branch and no foreach, and its steps no card, [policies.Limit],
	// [policies.Pause], [policies.Escalate] or [Isolated].
	Batch int `json:"batch,omitempty"`
	// OnFailure says what the failure of an item that is not tolerated means for the others. Defaults to StopOnFirst.
	OnFailure OnFailure `json:"on_failure,omitempty"`
	// Tolerate is how many items may fail and the join runs all the same. Defaults to none. The join sees them in
	// [Inputs.Failures].
	Tolerate Tolerance `json:"tolerate,omitzero"`
}

// OnFailure says what becomes of the other items.
type OnFailure string

const (
	// StopOnFirst starts no further tasks; those that run finish. It is the zero value.
	StopOnFirst OnFailure = ""
	// FinishAll runs all items to their end before the foreach fails.
	FinishAll OnFailure = "finish_all"
)

// Tolerance is a number of items or a part of them; make it with [Count] or [Percent]. The zero value is none.
type Tolerance struct {
	Count   int     `json:"count,omitempty"`
	Percent float64 `json:"percent,omitempty"`
}

// Count tolerates n failed items.
func Count(n int) Tolerance { return Tolerance{Count: n} }

// Percent tolerates p percent of the items, rounded down: 5 percent of 30 items is one item.
func Percent(p float64) Tolerance { return Tolerance{Percent: p} }

// Of is how many of n items may fail: the larger number of the two if both are set, and n at the most.
func (t Tolerance) Of(n int) int {
	part := float64(n) * t.Percent / 100
	return min(n, max(t.Count, int(part+1e-6))) // 0.57 percent of 10,000 is 56.99999999999999
}

const (
	maxBatch    = 10_000
	maxParallel = 1_000_000
)

func (f Fan) validate() error {
	var errs []error
	if f.MaxParallel < 0 || f.MaxParallel > maxParallel {
		errs = append(errs, fmt.Errorf("Fan.MaxParallel is %d (use 0 for no limit, or 1 to %d)", f.MaxParallel, maxParallel))
	}
	if f.Batch < 0 || f.Batch > maxBatch {
		errs = append(errs, fmt.Errorf("Fan.Batch is %d (use 0 to %d)", f.Batch, maxBatch))
	}
	if f.OnFailure != StopOnFirst && f.OnFailure != FinishAll {
		errs = append(errs, fmt.Errorf("Fan.OnFailure is %q (use flow.StopOnFirst or flow.FinishAll)", f.OnFailure))
	}
	if t := f.Tolerate; t.Count < 0 || !(t.Percent >= 0 && t.Percent <= 100) {
		errs = append(errs, fmt.Errorf("Fan.Tolerate is %d items, %v percent (use flow.Count of 0 or more, or flow.Percent of 0 to 100)", t.Count, t.Percent))
	}
	return errors.Join(errs...)
}
