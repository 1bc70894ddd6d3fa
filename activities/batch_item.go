package activities

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

// itemState is how far an item has come.
type itemState struct {
	index   flow.Index
	bound   bool
	entries map[string]artifacts.Entry
	ahead   flow.Ahead
	set     map[string]bool
	last    records.Item
}

// item runs the body for one item. Its failure is no error.
func (b *batch) item(ctx context.Context, i int) error {
	if b.careful {
		if err := b.save(ctx, false, records.Item{Index: i, Started: b.options.Now()}); err != nil {
			return err
		}
	}
	it := &itemState{index: records.Within(b.in.Index, i), entries: b.base, set: map[string]bool{}}
	started := b.options.Now()
	failure, err := b.node(ctx, b.body, it.index, it, i)
	if err != nil {
		return err
	}
	end := records.Item{Index: i, Step: it.last.Step, Attempt: it.last.Attempt, Outcome: it.last.Outcome, Started: started, Took: b.options.Now().Sub(started), Failure: it.last.Failure}
	if failure == nil {
		for name := range it.set {
			e, ok := it.entries[name]
			if !ok {
				end.Gone = append(end.Gone, name)
				continue
			}
			if end.Set == nil {
				end.Set = make(map[string]artifacts.Entry, len(it.set))
			}
			end.Set[name] = e
		}
		slices.Sort(end.Gone)
		b.end(end)
		return nil
	}
	if b.shape.Fan.Tolerate != (flow.Tolerance{}) && failure.f.Type == InputErrorType {
		return failure.f // nothing tolerates that, and the item itself did not fail
	}
	end.Failure, end.Attempt = failure.f, failure.f.Attempt
	if failure.d.Retry {
		end.Outcome, end.Due = "", b.options.Now().Add(failure.d.Delay)
		end.Tries = maps.Clone(b.tries[i].Tries)
		if end.Tries == nil {
			end.Tries = map[string]int{}
		}
		end.Tries[failure.f.Task]++
		b.tries[i] = end
		return nil
	}
	end.Outcome = records.Failed
	b.end(end)
	return nil
}

// itemFailure ends a try of an item.
type itemFailure struct {
	f *policies.Failure
	d policies.Decision
}

func (b *batch) node(ctx context.Context, n flow.PlanNode, x flow.Index, it *itemState, i int) (*itemFailure, error) {
	switch n.Kind {
	case flow.KindStep, flow.KindDecide:
		return b.step(ctx, n, x, it, i)
	case flow.KindSeq:
		for _, child := range n.Nodes {
			if failure, err := b.node(ctx, child, x, it, i); failure != nil || err != nil {
				return failure, err
			}
		}
		return nil, nil
	case flow.KindSwitch:
		d, ok := it.ahead[n.Name]
		chosen := n.Chosen(d)
		if !ok || chosen < 0 {
			return nil, undecided(n)
		}
		return b.node(ctx, n.Nodes[chosen], x, it, i)
	case flow.KindLoop:
		for turn := 0; ; turn++ {
			d, ok := it.ahead[n.Name]
			if !ok {
				return nil, undecided(n)
			}
			if !d.Again {
				return nil, nil
			}
			if failure, err := b.node(ctx, n.Nodes[0], records.Within(x, turn), it, i); failure != nil || err != nil {
				return failure, err
			}
		}
	default:
		return nil, policies.WithClass(fmt.Errorf("the body of a batch has a node of kind %q", n.Kind), policies.Permanent)
	}
}

func undecided(n flow.PlanNode) error {
	return policies.WithClass(fmt.Errorf("nothing was decided about %s %q (does the worker have another version of the flow?)", n.Kind, n.Name), policies.Permanent)
}

// attemptOf is an attempt of a step for an item.
func (b *batch) attemptOf(def *flow.StepDef, x flow.Index, tried int) *attempt {
	t := &attempt{
		Activities: b.Activities, flow: b.flow, def: def, run: b.run, log: b.log, batched: true,
		number: tried + 1, worker: b.options.Worker, started: b.options.Now(),
		in: StepInput{Flow: b.in.Flow, Run: b.in.Run, Step: b.in.Foreach, Index: x},
	}
	if def != nil {
		t.in.Step = def.Name
	}
	return t
}

func (b *batch) step(ctx context.Context, n flow.PlanNode, x flow.Index, it *itemState, i int) (*itemFailure, error) {
	def := b.flow.StepDef(n.Name)
	if def == nil || n.Policy == nil {
		return nil, policies.WithClass(fmt.Errorf("step %q of foreach %q is not in the flow that this worker has", n.Name, b.in.Foreach), policies.Permanent)
	}
	before, task := b.tries[i], flow.TaskName(n.Name, x)
	failed := before.Tries[task]
	lost := 0
	if before.Failure != nil {
		lost = before.Failure.LostAttempts
	}
	t := b.attemptOf(def, x, failed+lost)
	t.spec = *n.Policy
	if before.Failure != nil {
		t.ledger = []records.Attempt{{Attempt: before.Attempt, Failure: before.Failure, CountsAsCodeFailure: failed > 0}}
	}
	within, ended := b.observeItem(ctx, t)
	failure, err := b.call(within, t, it, i)
	if err == nil {
		ended(records.Completed, nil, false)
		it.bound = true
		it.last = records.Item{Step: n.Name, Attempt: t.number, Outcome: records.Completed}
		return nil, nil
	}
	if ctx.Err() != nil || unavailable(err) && (failure == nil || failure.Class != policies.Bug) {
		ended(records.Lost, nil, true)
		return nil, err
	}
	if drained(failure) {
		ended(records.Lost, nil, true)
		return nil, errDrained
	}
	if failure == nil {
		failure = t.classify(err)
		if failure.Class == policies.Cancelled || failure.Class == policies.Lost {
			failure.Class = policies.Unknown
		}
	}
	b.log.redactor.failure(failure)
	if d, ok := t.spec.Defers(failure, err, def.RetryIf, failed); ok {
		// The items after it would fare no better: the whole batch waits, and then this item goes first.
		wait := t.spread(d.For)
		ended(records.Deferred, failure, true)
		b.log.logger.Warn("the batch has to wait", "task", task, "wait", wait, "reason", d.Reason, "error", failure.Message)
		return nil, &laterError{wait}
	}
	f := failure
	f.Flow, f.Run, f.Step, f.Task = b.in.Flow, b.in.Run, n.Name, task
	f.Attempt, f.Worker, f.Time = t.number, t.worker, b.options.Now()
	f.CodeFailures, f.LostAttempts = failed+1, lost
	d := t.withinBudget(f, t.spec.Decide(f, err, def.RetryIf, f.CodeFailures, b.options.Random))
	ended(records.Failed, f, d.Retry)
	b.log.logger.Error("attempt failed", "task", f.Task, "class", string(f.Class), "error", f.Message, "next", d.Reason)
	if d.Retry || def.Catch == nil {
		return &itemFailure{f, d}, nil
	}
	// The catch gets the state from before the step.
	c := b.attemptOf(def, x, failed+lost)
	c.spec, c.catch, c.in.Failure = *n.Policy, true, f
	within, ended = b.observeItem(ctx, c)
	cf, err := b.call(within, c, it, i)
	if err == nil {
		ended(records.Completed, nil, false)
		it.bound = true
		it.last = records.Item{Step: n.Name, Attempt: f.Attempt, Outcome: records.Caught, Failure: f}
		return nil, nil
	}
	if ctx.Err() != nil || unavailable(err) {
		ended(records.Lost, nil, true)
		return nil, err
	}
	if drained(cf) { // the item begins anew elsewhere
		ended(records.Lost, nil, true)
		return nil, errDrained
	}
	if cf == nil {
		cf = c.classify(err)
	}
	b.log.redactor.failure(cf)
	cf.Message = fmt.Sprintf("the catch function failed: %s; it was called for: %s", cf.Message, f.Message)
	cf.Flow, cf.Run, cf.Step, cf.Task = f.Flow, f.Run, f.Step, f.Task
	cf.Attempt, cf.CodeFailures, cf.LostAttempts, cf.Worker, cf.Time = f.Attempt, f.CodeFailures, f.LostAttempts, f.Worker, b.options.Now()
	ended(records.Failed, cf, false)
	return &itemFailure{cf, policies.Decision{}}, nil
}

// drained says that a call ended because the worker was told to stop, while the batch's own context is good. A failure of this class that
// the author's code returns comes as its error alone.
func drained(f *policies.Failure) bool { return f != nil && f.Class == policies.Lost }

// call runs a step's function, or its catch, on the item's state and keeps what it set.
func (b *batch) call(ctx context.Context, t *attempt, it *itemState, i int) (*policies.Failure, error) {
	if err := t.admit(); err != nil {
		return nil, err
	}
	defer t.guards.end(nothing) // if the step is not called
	schema := b.flow.Schema()
	state := b.flow.NewState()
	if err := schema.Load(ctx, b.store, it.entries, state); err != nil {
		return nil, badInput(err)
	}
	if err := b.flow.SetParams(state, b.run.Params); err != nil {
		return nil, policies.WithClass(err, policies.Permanent)
	}
	if !it.bound {
		if err := b.flow.Bind(ctx, b.items, b.in.Foreach, i, state); err != nil {
			return nil, badInput(err)
		}
	}
	snapshot, err := schema.Snapshot(state)
	if err != nil {
		return nil, err
	}
	defer t.cleanUp()
	if failure, err := t.guarded(ctx, state, nil); err != nil {
		return failure, err
	}
	entries, changed, err := schema.Save(ctx, b.store, state, it.entries, snapshot, b.in.Run+"/"+flow.TaskName(t.in.Step, t.in.Index))
	if err != nil {
		if errors.Is(err, artifacts.ErrUnavailable) {
			return nil, err
		}
		return nil, policies.WithClass(err, policies.Permanent)
	}
	t.at(ctx, PointStored)
	it.entries, it.ahead = entries, t.ahead
	for _, name := range changed {
		it.set[name] = true
	}
	return nil, nil
}
