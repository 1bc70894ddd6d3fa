package activities

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"time"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

// save writes what the task set and, last, its record.
func (t *attempt) save(ctx context.Context, state any, prev map[string]artifacts.Entry, parents []records.Ref, snapshot artifacts.Snapshot) (StepResult, error) {
	by := t.in.Run + "/" + flow.TaskName(t.in.Step, t.in.Index)
	entries, changed, err := t.flow.Schema().Save(ctx, t.store, state, prev, snapshot, by)
	if err != nil {
		if errors.Is(err, artifacts.ErrUnavailable) {
			return StepResult{}, err
		}
		return StepResult{}, policies.WithClass(err, policies.Permanent) // the same state fails the same way
	}
	rec := records.Task{
		Flow: t.in.Flow, Run: t.in.Run, Step: t.in.Step, Index: t.in.Index,
		Outcome: records.Completed, Attempt: t.number, Worker: t.worker, Started: t.started, Ended: t.options.Now(),
		Parents: parents, Artifacts: entries, Changed: changed, Ahead: t.ahead,
	}
	if t.catch {
		rec.Outcome, rec.Failure, rec.Attempt = records.Caught, t.in.Failure, t.in.Failure.Attempt
	}
	t.renderCards(ctx, rec)
	t.log.flush() // who sees the record sees the log
	ref, rec, err := records.CreateTask(ctx, t.store, rec)
	if err != nil {
		return StepResult{}, err
	}
	return t.result(ref, rec), nil
}

// Previews in a result are for people who look at the history, where every byte is kept for long.
const (
	maxPreview  = 80   // of one artifact, in bytes
	maxPreviews = 1024 // of all, names included
)

func (t *attempt) result(ref records.Ref, rec records.Task) StepResult {
	r := StepResult{Ref: ref, Outcome: rec.Outcome, Attempt: rec.Attempt, Ahead: rec.Ahead}
	room := maxPreviews
	for _, name := range rec.Changed {
		e := rec.Artifacts[name]
		text := artifacts.Preview(e, e.Inline, maxPreview)
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

// fail ends the attempt: it settles what comes next, writes the ledger and returns the error for Temporal.
func (t *attempt) fail(ctx context.Context, f *policies.Failure, err error) error {
	ctx = context.WithoutCancel(ctx)
	f.Flow, f.Run, f.Step, f.Task = t.in.Flow, t.in.Run, t.in.Step, flow.TaskName(t.in.Step, t.in.Index)
	f.Attempt, f.Worker, f.Time = t.number, t.worker, t.options.Now()
	if t.catch {
		f.Attempt = t.in.Failure.Attempt
	}
	entry := records.Attempt{Attempt: t.number, Outcome: records.Failed, Worker: t.worker, Started: t.started, Ended: f.Time, Failure: f}
	code, lost := count(t.ledger)
	if t.catch {
		code, lost = 0, t.number-1 // it is called again only when it was lost
	}

	var d policies.Decision
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
		code++
		entry.CountsAsCodeFailure = true
		d = t.spec.Decide(f, err, t.def.RetryIf, code, t.options.Random)
	}
	if entry.Outcome == records.Lost {
		lost++
	}
	f.CodeFailures, f.LostAttempts = code, lost
	if d.Retry {
		entry.Delay = d.Delay
	}
	entry.Reason = d.Reason

	if t.log != nil {
		t.log.logger.Error("attempt failed", "class", string(f.Class), "error", f.Message, "next", d.Reason)
		t.log.flush()
	}
	if !t.catch {
		if err := records.PutAttempt(ctx, t.store, t.in.Flow, t.in.Run, t.in.Step, t.in.Index, entry); err != nil && d.Retry {
			// Without its entry the attempt would count as lost, which is the truth about the store.
			d.Delay = max(d.Delay, time.Second)
		}
	}
	if !d.Retry && (t.def.Catch == nil || t.catch) && f.Class != policies.Cancelled {
		t.ledger = append(t.ledger, entry)
		t.renderCards(ctx, records.Task{
			Flow: t.in.Flow, Run: t.in.Run, Step: t.in.Step, Index: t.in.Index,
			Outcome: records.Failed, Attempt: t.number, Worker: t.worker, Started: t.started, Ended: f.Time, Failure: f,
		})
	}
	return policies.Error(f, d)
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

// renderCards writes the step's cards. Nothing that goes wrong here touches the task's outcome.
func (t *attempt) renderCards(ctx context.Context, rec records.Task) {
	for _, c := range t.def.Cards {
		if err := t.renderCard(ctx, c, rec); err != nil && t.log != nil {
			t.log.logger.Warn("card was not written", "card", c.Name, "error", err)
		}
	}
}

func (t *attempt) renderCard(ctx context.Context, c flow.CardSpec, rec records.Task) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	data := &flow.CardData{
		Info: t.info(), Outcome: string(rec.Outcome), Worker: t.worker, Started: rec.Started, Ended: rec.Ended,
		Failure: rec.Failure, Components: t.card.Components(),
	}
	if t.log != nil {
		data.Log = t.log.tail(50)
	}
	params := map[string]bool{}
	for _, p := range t.flow.Params() {
		params[p.Name] = true
		data.Params = append(data.Params, flow.CardValue{Name: p.Name, Type: string(p.Kind), Preview: t.run.Params[p.Name]})
	}
	for _, name := range slices.Sorted(maps.Keys(rec.Artifacts)) {
		if params[name] {
			continue
		}
		e := rec.Artifacts[name]
		v := flow.CardValue{Name: name, Type: e.Type, Size: e.Size, Digest: e.Digest.String(), Changed: slices.Contains(rec.Changed, name)}
		if e.Size <= 64<<10 {
			if content, err := t.store.Content(ctx, e); err == nil {
				v.Preview = artifacts.Preview(e, content, 300)
			}
		}
		data.Artifacts = append(data.Artifacts, v)
	}
	for _, e := range t.ledger {
		data.Attempts = append(data.Attempts, flow.CardAttempt{Number: e.Attempt, Outcome: string(e.Outcome), Started: e.Started, Ended: e.Ended, Failure: e.Failure, Delay: e.Delay, Reason: e.Reason})
	}
	if rec.Outcome == records.Completed {
		data.Attempts = append(data.Attempts, flow.CardAttempt{Number: rec.Attempt, Outcome: string(rec.Outcome), Started: rec.Started, Ended: rec.Ended})
	}
	var page bytes.Buffer
	if err := c.Render(&page, data); err != nil {
		return err
	}
	return t.store.PutDoc(ctx, records.CardKey(t.in.Flow, t.in.Run, t.in.Step, t.in.Index, c.Name), page.Bytes())
}
