package activities

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

// SpinInput says which task to run once more.
type SpinInput struct {
	// In is the task with what it starts from. In.Run is the run that its step sees.
	In StepInput `json:"in"`
	// Run is the run's document, with the plan and the parameters to go by.
	Run records.Run `json:"-"`
	// Attempt is the attempt that the step sees, 1 if it is zero.
	Attempt int `json:"attempt,omitempty"`
	// Previous is the failure of the attempt before it, nil if there was none.
	Previous *policies.Failure `json:"previous,omitempty"`
}

// SpinResult is what became of it.
type SpinResult struct {
	// Input is the state that it started from, its item and its parameters included. Of a step in a process of its own they are not.
	Input map[string]artifacts.Entry
	// Artifacts is the whole state after the step, Changed what it set. They are empty if it failed.
	Artifacts map[string]artifacts.Entry
	Changed   []string
	// Ahead is what was decided about the shapes that follow.
	Ahead flow.Ahead
	// Ref is the record that was written.
	Ref records.Ref
	// Failure is why it failed, nil if it did not.
	Failure        *policies.Failure
	Started, Ended time.Time
	Usage          *records.Usage
}

// Spin runs a task once, in this process and outside of any run: no ledger, no retries, no catch function, and nobody is asked whether its
// dependency or its budget allow it. The attempt's timeout holds, and isolated steps and commands run as they are.
//
// What it makes is written to the store as an attempt would, its record too: give [New] an [artifacts.Overlay] of the run's store to leave
// the run as it is. An error means that the step could not be run; that it failed is told in the result.
func (a *Activities) Spin(ctx context.Context, s SpinInput) (SpinResult, error) {
	t, err := a.spun(ctx, s)
	if err != nil {
		return SpinResult{}, err
	}
	defer t.log.close()
	defer t.cleanUp()
	out := SpinResult{Started: t.started}

	var state any
	var join *joinSource
	var snapshot artifacts.Snapshot
	prev, parents := map[string]artifacts.Entry(nil), []records.Ref(nil)
	if !t.apart() {
		if state, prev, parents, err = t.load(ctx); err != nil {
			return out, err
		}
		if t.in.Join != nil {
			if join, err = t.joinSource(ctx, state, prev); err != nil {
				return out, err
			}
			parents = append(parents, t.in.Join.parents()...)
		}
		if snapshot, err = t.flow.Schema().Snapshot(state); err != nil {
			return out, err
		}
		if out.Input, err = t.input(state, prev); err != nil {
			return out, err
		}
	}
	failure, err := t.call(ctx, state, join)
	out.Ended, out.Usage = a.options.Now(), t.usage
	if err == nil {
		if err = t.keepSpun(ctx, &out, state, prev, parents, snapshot); err == nil {
			return out, nil
		}
		failure = nil
	}
	if ctx.Err() != nil {
		return out, context.Cause(ctx)
	}
	if unavailable(err) && (failure == nil || failure.Class != policies.Bug) {
		return out, err
	}
	if failure == nil {
		failure = t.classify(err)
		if failure.Class == policies.Cancelled || failure.Class == policies.Lost {
			failure.Class = policies.Unknown
		}
	}
	t.secrets().failure(failure)
	failure.Flow, failure.Run, failure.Step, failure.Task = t.in.Flow, t.in.Run, t.in.Step, t.info().Task
	failure.Attempt, failure.Worker, failure.Time = t.number, t.worker, out.Ended
	out.Failure = failure
	t.renderCards(ctx, records.Task{
		Flow: t.in.Flow, Run: t.in.Run, Step: t.in.Step, Index: t.in.Index,
		Outcome: records.Failed, Attempt: t.number, Worker: t.worker, Started: t.started, Ended: out.Ended, Failure: failure,
	})
	return out, nil
}

// spun is the attempt.
func (a *Activities) spun(ctx context.Context, s SpinInput) (*attempt, error) {
	i := slices.IndexFunc(a.flows, func(f *flow.Flow) bool { return f.Name() == s.In.Flow })
	if i < 0 {
		return nil, policies.WithClass(fmt.Errorf("flow %q is not in this program", s.In.Flow), policies.Permanent)
	}
	f := a.flows[i]
	def := f.StepDef(s.In.Step)
	node, ok := s.Run.Plan.Task(s.In.Step)
	if def == nil || !ok || node.Policy == nil {
		return nil, policies.WithClass(fmt.Errorf("flow %q of this program has no step %q", s.In.Flow, s.In.Step), policies.Permanent)
	}
	if (def.Join != nil) != (s.In.Join != nil) {
		return nil, policies.WithClass(fmt.Errorf("step %q was a join and is none any more, or the other way round", s.In.Step), policies.Permanent)
	}
	t := &attempt{
		Activities: a, flow: f, def: def, in: s.In, run: s.Run, spec: node.Policy.At(s.In.Rung),
		number: max(s.Attempt, 1), worker: a.options.Worker, started: a.options.Now(),
	}
	if s.Previous != nil {
		t.ledger = []records.Attempt{{Attempt: t.number - 1, Outcome: records.Failed, Failure: s.Previous}}
	}
	t.log = newAttemptLog(ctx, t)
	t.isolated = t.limits(node)
	return t, nil
}

// input is what the state is before the step.
func (t *attempt) input(state any, prev map[string]artifacts.Entry) (map[string]artifacts.Entry, error) {
	entries := make(map[string]artifacts.Entry, len(prev))
	for _, f := range t.flow.Schema().Fields() {
		e, err := f.Entry(state)
		if err != nil {
			return nil, err
		}
		if e.Codec != "" {
			entries[f.Name] = e
		}
	}
	return entries, nil
}

// keepSpun stores what the step set, and its record.
func (t *attempt) keepSpun(ctx context.Context, out *SpinResult, state any, prev map[string]artifacts.Entry, parents []records.Ref, snapshot artifacts.Snapshot) error {
	var err error
	if out.Ahead = t.ahead; t.saved != nil {
		out.Artifacts, out.Changed = t.saved.entries, t.saved.changed
	} else {
		by := t.in.Run + "/" + t.info().Task
		out.Artifacts, out.Changed, err = t.flow.Schema().Save(ctx, t.store, state, prev, snapshot, by)
		if err != nil && !errors.Is(err, artifacts.ErrUnavailable) {
			return policies.WithClass(err, policies.Permanent) // the same state fails the same way
		}
	}
	if err != nil {
		return err
	}
	rec := records.Task{
		Flow: t.in.Flow, Run: t.in.Run, Step: t.in.Step, Index: t.in.Index,
		Outcome: records.Completed, Attempt: t.number, Worker: t.worker, Started: t.started, Ended: out.Ended,
		Parents: parents, Artifacts: out.Artifacts, Changed: out.Changed, Ahead: t.ahead, Usage: t.usage,
	}
	t.renderCards(ctx, rec)
	t.log.flush()
	if err := t.store.DeleteDoc(ctx, records.TaskKey(t.in.Flow, t.in.Run, t.in.Step, t.in.Index)); err != nil { // of an earlier spin
		return err
	}
	out.Ref, _, err = records.CreateTask(ctx, t.store, rec)
	return err
}

// Inputs reads all that a task starts from, the content of its artifacts included, and keeps nothing of it: with an [artifacts.Copying]
// store, the copy has all that [Activities.Spin] needs. It returns how many bytes the artifacts have; more than limit is an error, and 0
// means no limit.
func (a *Activities) Inputs(ctx context.Context, s SpinInput, limit int64) (bytes int64, _ error) {
	t, err := a.spun(ctx, s)
	if err != nil {
		return 0, err
	}
	defer t.log.close()
	seen := map[artifacts.Digest]bool{}
	read := func(entries map[string]artifacts.Entry) error {
		for name, e := range entries {
			if seen[e.Digest] {
				continue
			}
			seen[e.Digest] = true
			if bytes += e.Size; limit > 0 && bytes > limit {
				return &TooMuchError{Limit: limit}
			}
			if e.Inline != nil || e.Size == 0 && e.Name == "" {
				continue
			}
			if err := t.drain(ctx, e); err != nil {
				return fmt.Errorf("artifact %q: %w", name, err)
			}
		}
		return nil
	}
	if t.in.From != nil { // before anything is loaded whole
		rec, err := records.LoadTask(ctx, t.store, t.in.Flow, *t.in.From)
		if err == nil {
			err = read(rec.Artifacts)
		}
		if err != nil {
			return bytes, err
		}
	}
	state, prev, _, err := t.load(ctx)
	if err != nil || t.in.Join == nil {
		return bytes, err
	}
	join, err := t.joinSource(ctx, state, prev)
	if err != nil {
		return bytes, err
	}
	for in, err := range join.all(ctx) {
		if err == nil {
			err = read(in.Artifacts)
		}
		if err != nil {
			return bytes, err
		}
	}
	return bytes, nil
}

// drain reads a blob to its end.
func (t *attempt) drain(ctx context.Context, e artifacts.Entry) error {
	r, err := t.store.OpenBlob(ctx, e.Digest)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	return err
}

// TooMuchError says that what a task starts from is larger than it may be.
type TooMuchError struct {
	// Limit is in bytes.
	Limit int64
}

// Error tells the limit.
func (e *TooMuchError) Error() string {
	return fmt.Sprintf("what the task starts from has more than %d bytes", e.Limit)
}

// Secrets are those of some named values that look like secrets, by their names or by themselves.
func (a *Activities) Secrets(named map[string]string) []string {
	var names []string
	for name, value := range named {
		if len(value) >= minSecret && a.redactor.named(name, value) != value {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
