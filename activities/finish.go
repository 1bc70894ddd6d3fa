package activities

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/guard"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

// save writes what the task set and, last, its record.
func (t *attempt) save(ctx context.Context, state any, prev map[string]artifacts.Entry, parents []records.Ref, snapshot artifacts.Snapshot) (StepResult, error) {
	by := t.in.Run + "/" + flow.TaskName(t.in.Step, t.in.Index)
	var entries map[string]artifacts.Entry
	var changed []string
	var err error
	if t.saved != nil {
		entries, changed = t.saved.entries, t.saved.changed
	} else {
		entries, changed, err = t.flow.Schema().Save(ctx, t.store, state, prev, snapshot, by)
	}
	if err != nil {
		if errors.Is(err, artifacts.ErrUnavailable) {
			return StepResult{}, err
		}
		return StepResult{}, policies.WithClass(err, policies.Permanent) // the same state fails the same way
	}
	t.at(ctx, PointStored)
	rec := records.Task{
		Flow: t.in.Flow, Run: t.in.Run, Step: t.in.Step, Index: t.in.Index,
		Outcome: records.Completed, Attempt: t.number, Worker: t.worker, Started: t.started, Ended: t.options.Now(),
		Parents: parents, Artifacts: entries, Changed: changed, Ahead: t.ahead, Usage: t.usage,
	}
	if t.catch {
		rec.Outcome, rec.Failure, rec.Attempt = records.Caught, t.in.Failure, t.in.Failure.Attempt
	}
	if t.in.Skip {
		rec.Outcome, rec.Failure = records.Skipped, t.in.Failure
	}
	t.renderCards(ctx, rec)
	t.log.flush() // who sees the record sees the log
	ref, rec, err := records.CreateTask(ctx, t.store, rec)
	if err != nil {
		return StepResult{}, err
	}
	t.remember(ctx)
	t.at(ctx, PointRecord)
	return t.result(ref, rec), nil
}

// remember keeps on which rung the step finished, for the next run. It is a hint: who loses it climbs once more.
func (t *attempt) remember(ctx context.Context) {
	if t.in.Rung == 0 || t.in.Skip || t.catch {
		return
	}
	if err := records.PutRung(ctx, t.store, t.in.Flow, t.in.Step, t.in.Rung); err != nil {
		t.log.logger.Warn("the rung is not remembered for the next run", "rung", t.in.Rung+1, "error", err)
	}
}

// maxPreviews bounds the previews in a result, in bytes, names included. They are for people who look at the history, where every byte
// is kept for long.
const maxPreviews = 1024

func (t *attempt) result(ref records.Ref, rec records.Task) StepResult {
	r := StepResult{Ref: ref, Outcome: rec.Outcome, Attempt: rec.Attempt, Ahead: rec.Ahead, Earlier: earlier(t.ledger)}
	if t.in.Keep {
		r.Kept = records.KeptOf(rec)
	}
	room := maxPreviews
	for _, name := range rec.Changed {
		e := rec.Artifacts[name]
		text := artifacts.Preview(e, e.Inline, records.MaxPreview)
		if room -= len(name) + len(text); room < 0 {
			r.Unshown = len(rec.Changed) - len(r.Set)
			break
		}
		if r.Set == nil {
			r.Set = map[string]string{}
		}
		r.Set[name] = text
	}
	return r
}

// earlier tells of the last attempts that failed.
func earlier(ledger []records.Attempt) []string {
	const most, length = 4, 160
	var lines []string
	for _, e := range ledger[max(0, len(ledger)-most):] {
		line := fmt.Sprintf("attempt %d: %s", e.Attempt, e.Outcome)
		if e.Failure != nil {
			line = fmt.Sprintf("attempt %d: %s: %s", e.Attempt, e.Failure.Class, strings.ReplaceAll(e.Failure.Message, "\n", " "))
		}
		if len(line) > length {
			line = strings.ToValidUTF8(line[:length], "") + "…"
		}
		lines = append(lines, line)
	}
	return lines
}

// fail ends the attempt: it settles what comes next, writes the ledger and returns the error for Temporal, or the result that
// makes the workflow go on in another activity.
func (t *attempt) fail(ctx context.Context, f *policies.Failure, err error) (StepResult, error) {
	ctx = context.WithoutCancel(ctx)
	t.secrets().failure(f)
	f.Flow, f.Run, f.Step, f.Task = t.in.Flow, t.in.Run, t.in.Step, flow.TaskName(t.in.Step, t.in.Index)
	f.Attempt, f.Worker, f.Time = t.number, t.worker, t.options.Now()
	if t.catch {
		f.Attempt = t.in.Failure.Attempt
	}
	entry := records.Attempt{
		Attempt: t.number, Outcome: records.Failed, Worker: t.worker, Started: t.started, Ended: f.Time, Failure: f,
		Workflow: t.workflow, Rung: t.in.Rung, Usage: t.usage,
	}
	code, lost := t.count()
	if t.catch {
		code, lost = 0, t.number-1 // it is called again only when it was lost
	}

	var d policies.Decision
	var again *Again
	switch {
	case f.Class == policies.Cancelled:
		entry.Outcome, d.Reason = records.Cancelled, f.Message
	case f.Class != policies.Bug && unavailable(err):
		f.Class = policies.Lost // not the author's doing
		entry.Outcome = records.Lost
		d = policies.Decision{Retry: lost < t.lostLimit(), Delay: 5 * time.Second, Reason: "the store was unavailable"}
		// It hardly takes the ledger entry now; an attempt without one counts as lost too.
		short, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		ctx = short
	case f.Class == policies.Lost:
		entry.Outcome = records.Lost
		d = policies.Decision{Retry: lost < t.lostLimit(), Delay: time.Millisecond, Reason: f.Message}
	case t.catch:
		code, lost = t.in.Failure.CodeFailures, t.in.Failure.LostAttempts
		f.Message = fmt.Sprintf("the catch function failed: %s; it was called for: %s", f.Message, t.in.Failure.Message)
		d.Reason = "a catch function is called once"
	default:
		if again = t.again(f, err, code); again != nil {
			again.Reason = t.secrets().text(again.Reason)
			d = policies.Decision{Retry: true, Delay: again.Wait, Reason: again.Reason}
			if again.Deferred {
				entry.Outcome = records.Deferred
			}
			break
		}
		code++
		entry.CountsAsCodeFailure = true
		d = t.withinBudget(f, t.spec.Decide(f, err, t.def.RetryIf, code, t.options.Random))
	}
	if entry.Outcome == records.Lost {
		lost++
	}
	f.CodeFailures, f.LostAttempts = code, lost
	if d.Retry {
		entry.Delay = d.Delay
	}
	entry.Final = !d.Retry && !t.catch && entry.Outcome == records.Failed
	if entry.Paused = !d.Retry && !t.catch && f.Class != policies.Cancelled && t.spec.Exhausted == policies.Pause; entry.Paused {
		d.Reason += "; waits for a person (retry, skip or fail)"
	}
	d.Reason = t.secrets().text(d.Reason) // it may quote the error
	entry.Reason = d.Reason

	if t.log != nil && !refused(entry) { // the ledger says all there is to say about one
		if again != nil && again.Deferred {
			t.log.logger.Warn("the task has to wait", "wait", d.Delay, "reason", d.Reason, "error", f.Message)
		} else {
			t.log.logger.Error("attempt failed", "class", string(f.Class), "error", f.Message, "next", d.Reason)
		}
		t.log.flush()
		entry.LogBytes = t.log.size()
	}
	if !t.catch {
		if err := records.PutAttempt(ctx, t.store, t.in.Flow, t.in.Run, t.in.Step, t.in.Index, entry); err != nil && d.Retry {
			// Without its entry the attempt would count as lost, which is the truth about the store.
			d.Delay = max(d.Delay, time.Second)
		}
	}
	t.at(ctx, PointNoted)
	t.failed(ctx, f, entry, d)
	if again != nil {
		return StepResult{Again: again}, nil
	}
	if !d.Retry && (t.def.Catch == nil || t.catch) && f.Class != policies.Cancelled {
		t.ledger = append(t.ledger, entry)
		t.renderCards(ctx, records.Task{
			Flow: t.in.Flow, Run: t.in.Run, Step: t.in.Step, Index: t.in.Index,
			Outcome: records.Failed, Attempt: t.number, Worker: t.worker, Started: t.started, Ended: f.Time, Failure: f,
		})
	}
	return StepResult{}, policies.Error(f, d)
}

// again says how a task goes on in another activity, nil if it does not: it has to wait for something that is away, or gets more
// memory or time. Code is how many attempts had failed before.
func (t *attempt) again(f *policies.Failure, err error, code int) *Again {
	if t.in.Skip {
		return nil
	}
	brief := *f
	brief.Stack = ""
	if d, ok := t.spec.Defers(f, err, t.def.RetryIf, code); ok {
		if f.Type == guard.RefusedType {
			d.For = t.refusedAgain(d.For)
		}
		return &Again{Attempt: t.number, Wait: t.spread(d.For), Deferred: true, Alone: d.Alone, Rung: t.in.Rung, Reason: d.Reason, Failure: &brief}
	}
	if t.spec.Climb(f, t.in.Rung) {
		return &Again{
			Attempt: t.number, Rung: t.in.Rung + 1, Failure: &brief,
			Reason: fmt.Sprintf("class %s: goes on with rung %d of %d: %s", f.Class, t.in.Rung+2, len(t.spec.Escalate.Rungs), t.spec.Escalate.Rungs[t.in.Rung+1]),
		}
	}
	return nil
}

// spread adds up to a tenth to the wait of a deferral, unless the step wants no jitter: thousands of runs may have been told the same
// number.
func (t *attempt) spread(wait time.Duration) time.Duration {
	if t.spec.Jitter == policies.NoJitter {
		return wait
	}
	return wait + time.Duration(t.options.Random()*float64(wait)/10)
}

// mostRefused is the longest wait that repeated refusals grow to.
const mostRefused = time.Minute

// refusedAgain doubles the wait with each refusal after a refusal: a service may be away for long.
func (t *attempt) refusedAgain(wait time.Duration) time.Duration {
	longest := max(wait, mostRefused)
	for _, e := range slices.Backward(t.ledger) {
		if !refused(e) || wait >= longest {
			break
		}
		wait *= 2
	}
	return min(wait, longest)
}

// unavailable says that the store was away. It outlives errors of the author's that panic when they are unwrapped.
func unavailable(err error) (yes bool) {
	defer func() {
		if recover() != nil {
			yes = false
		}
	}()
	return errors.Is(err, artifacts.ErrUnavailable)
}

func (t *attempt) lostLimit() int {
	if t.spec.MaximumAttempts == 0 { // the plan was never read
		return 5
	}
	return t.spec.Lost
}
