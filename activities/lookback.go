package activities

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

// lookBack is what an attempt after the first does first: adopt the record if an earlier attempt finished
// the task and only could not say so, read the ledger, and tell lost attempts from failed ones.
func (t *attempt) lookBack(ctx context.Context) (done bool, _ StepResult, _ *policies.Failure, _ error) {
	ref, rec, err := records.FindTask(ctx, t.store, t.in.Flow, t.in.Run, t.in.Step, t.in.Index)
	switch {
	case err == nil:
		return true, t.result(ref, rec), nil, nil
	case !errors.Is(err, artifacts.ErrNotFound):
		return false, StepResult{}, nil, err
	}
	if t.catch { // the ledger belongs to the step; a catch is only tried again when its worker was lost
		return false, StepResult{}, nil, nil
	}
	known, first, err := t.readLedger(ctx)
	if err != nil {
		return false, StepResult{}, nil, err
	}
	for n := first; n < t.number; n++ {
		e, ok := known[n]
		if !ok {
			e = t.lostEntry(ctx, n)
			if err := records.PutAttempt(ctx, t.store, t.in.Flow, t.in.Run, t.in.Step, t.in.Index, e); err != nil {
				return false, StepResult{}, nil, err
			}
			t.options.Metrics.Failed(ctx, t.named(), string(policies.Lost))
		}
		t.ledger = append(t.ledger, e)
	}
	if _, lost := t.count(); lost > t.spec.Lost {
		f := &policies.Failure{Class: policies.Lost, Message: fmt.Sprintf(
			"the worker was lost %d times while it ran this task (look for a crash or too little memory; Retry.Lost allows %d)", lost, t.spec.Lost)}
		return false, StepResult{}, f, f
	}
	// The attempt before this one settled that there is none after it, and its worker was lost before the server heard.
	if n := len(t.ledger); n > 0 && t.ledger[n-1].Final && t.ledger[n-1].Attempt > t.in.Forgiven && !t.in.Skip {
		return false, StepResult{}, nil, &spentError{t.ledger[n-1].Failure}
	}
	return false, StepResult{}, nil, t.waits(ctx)
}

// recent is how many of the attempts before it an attempt reads when there are more than twice as many. A service that is away for a
// night leaves hundreds.
const recent = 50

// tally counts attempts that failed by the code's fault, and those that were lost.
type tally struct{ code, lost int }

// readLedger reads the ledger by number, from the first one that matters on.
func (t *attempt) readLedger(ctx context.Context) (known map[int]records.Attempt, first int, _ error) {
	first = 1
	if t.number > 2*recent {
		first = t.number - recent
	}
	for {
		ledger, err := records.AttemptsFrom(ctx, t.store, t.in.Flow, t.in.Run, t.in.Step, t.in.Index, first)
		if err != nil {
			return nil, 0, err
		}
		known = make(map[int]records.Attempt, len(ledger))
		for _, e := range ledger {
			known[e.Attempt] = e
		}
		e := known[first]
		switch {
		case first <= t.in.Forgiven+1: // what was before does not count
			return known, first, nil
		case refused(e): // and knows what was before it
			t.earlier = tally{e.Failure.CodeFailures, e.Failure.LostAttempts}
			return known, first, nil
		}
		first = 1
	}
}

// count is how many attempts of the task failed by the code's fault, and how many were lost.
func (t *attempt) count() (code, lost int) {
	code, lost = count(t.ledger, t.in.Forgiven)
	return t.earlier.code + code, t.earlier.lost + lost
}

// clockSkew is a difference between the clocks of two workers that is waited out.
const clockSkew = time.Second

// waits is a deferral for the rest of a wait that a service asked an earlier attempt for: its worker was lost before the server
// heard of it.
func (t *attempt) waits(ctx context.Context) error {
	for _, e := range slices.Backward(t.ledger) {
		left := e.Ended.Add(e.Delay).Sub(t.started)
		if t.in.Skip || e.Attempt <= t.in.Forgiven || e.Failure == nil || left <= 0 {
			continue
		}
		if refused(e) || e.Outcome != records.Deferred && e.Failure.RetryAfter == 0 {
			continue // the guard is asked again, and a backoff is nothing that a service insists on
		}
		if left > clockSkew {
			f := *e.Failure
			return policies.WithDeferral(&f, policies.Deferral{For: left, Reason: "the rest of a wait: " + e.Reason})
		}
		select {
		case <-time.After(left):
		case <-ctx.Done():
		}
		break
	}
	return nil
}

// spentError says that the task has failed for good in an earlier attempt.
type spentError struct{ f *policies.Failure }

// Error is the failure's text.
func (e *spentError) Error() string { return e.f.Error() }

const lostText = "the attempt left no trace: its worker was killed or cut off"

// lostEntry describes an attempt that left nothing behind. The last heartbeat of the attempt just before
// this one is still at the server.
func (t *attempt) lostEntry(ctx context.Context, n int) records.Attempt {
	e := records.Attempt{Attempt: n, Outcome: records.Lost, Reason: lostText}
	var b beatDetails
	if activity.HasHeartbeatDetails(ctx) && activity.GetHeartbeatDetails(ctx, &b) == nil && b.Attempt == n {
		e.Worker, e.Started = b.Worker, b.Started
	}
	e.Failure = &policies.Failure{
		Class: policies.Lost, Message: lostText, Flow: t.in.Flow, Run: t.in.Run, Step: t.in.Step,
		Task: flow.TaskName(t.in.Step, t.in.Index), Attempt: n, Worker: e.Worker,
	}
	return e
}
