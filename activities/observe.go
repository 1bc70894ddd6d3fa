package activities

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/telemetry"
)

// What attempts, tasks, items and runs tell telemetry. Without a tracer provider and metrics all of it is a few comparisons.

// observe opens the attempt's span. The attempt has a slot until the function that it returns is called.
func (t *attempt) observe(ctx context.Context) (_ context.Context, ended func()) {
	ctx, t.span = telemetry.Attempt(ctx, t.named(), t.number, t.catch)
	return ctx, t.options.Metrics.Began(ctx)
}

func (t *attempt) named() telemetry.Task {
	return telemetry.Task{Flow: t.in.Flow, Run: t.in.Run, Step: t.in.Step, Name: flow.TaskName(t.in.Step, t.in.Index)}
}

// parent is the attempt's span for a process that it starts, "" if there is none.
func (t *attempt) parent() string {
	if t.span == nil {
		return ""
	}
	return telemetry.Parent(trace.ContextWithSpan(context.Background(), t.span))
}

// succeeded tells of an attempt that finished its task.
func (t *attempt) succeeded(ctx context.Context, r StepResult) {
	now := t.options.Now()
	task := telemetry.End{Outcome: string(r.Outcome)}
	if f := t.in.Failure; f != nil && r.Outcome != records.Completed {
		task.Class, task.Message = string(f.Class), f.Message
	}
	e := telemetry.End{Outcome: string(records.Completed)}
	if t.in.Skip {
		e.Outcome = string(records.Skipped)
	}
	telemetry.Finish(t.span, e)
	if !t.catch && !t.in.Skip {
		t.options.Metrics.Attempt(ctx, t.named(), e, now.Sub(t.started), false, false)
	}
	t.taskEnded(ctx, t.named(), t.in.Index, task, t.ledger, t.started, t.ahead)
}

// failed tells of an attempt that did not finish its task, and of the task if nothing comes after it.
func (t *attempt) failed(ctx context.Context, f *policies.Failure, entry records.Attempt, d policies.Decision) {
	e := telemetry.End{Outcome: string(entry.Outcome), Class: string(f.Class), Message: f.Message}
	telemetry.Finish(t.span, e)
	if !t.catch {
		t.options.Metrics.Attempt(ctx, t.named(), e, entry.Ended.Sub(t.started), d.Retry, entry.Outcome == records.Deferred)
	}
	if d.Retry || entry.Paused || t.def.Catch != nil && !t.catch && f.Class != policies.Cancelled {
		return
	}
	if entry.Outcome != records.Cancelled {
		e.Outcome = string(records.Failed)
	}
	t.taskEnded(ctx, t.named(), t.in.Index, e, t.ledger, t.started, nil)
}

// taskEnded tells of a task that ended in an attempt that began last, after those in the ledger. Ahead is what it decided.
func (a *Activities) taskEnded(
	ctx context.Context, k telemetry.Task, x flow.Index, e telemetry.End, ledger []records.Attempt, last time.Time, ahead flow.Ahead,
) {
	began := last
	for _, entry := range ledger {
		if !entry.Started.IsZero() {
			began = entry.Started
			break
		}
	}
	telemetry.TaskEnded(ctx, k, e, began, a.options.Now())
	if a.options.Metrics == nil {
		return
	}
	a.options.Metrics.Task(ctx, k, e.Outcome)
	if at, ok := a.items[k.Flow+"/"+k.Step]; ok && len(x) > 0 && (at.ends(ahead) || e.Outcome == string(records.Failed)) {
		a.options.Metrics.Item(ctx, k.Flow, at.foreach, e.Outcome)
	}
}

// gaveUp tells of a task that the server gave up: its worker was lost too often, or a timeout passed that no attempt saw.
func (a *Activities) gaveUp(ctx context.Context, f *policies.Failure, ledger []records.Attempt) {
	step, x, err := flow.ParseTaskName(f.Task)
	if err != nil {
		return
	}
	k := telemetry.Task{Flow: f.Flow, Run: f.Run, Step: step, Name: f.Task}
	e := telemetry.End{Outcome: string(records.Failed), Class: string(f.Class), Message: f.Message}
	a.options.Metrics.Failed(ctx, k, e.Class)
	a.taskEnded(ctx, k, x, e, ledger, a.options.Now(), nil)
}

// runEnded tells of a run whose end is written.
func (a *Activities) runEnded(ctx context.Context, in EndInput) {
	e := telemetry.End{Outcome: string(in.End.Status)}
	if f := in.End.Failure; f != nil {
		e.Class, e.Message = string(f.Class), f.Message
	}
	a.options.Metrics.Run(ctx, in.Flow, e.Outcome)
	if run, err := a.run(ctx, in.Flow, in.Run); err == nil {
		telemetry.RunEnded(ctx, in.Flow, in.Run, e, run.Started, a.options.Now())
	}
}

// observe opens the batch's span. The function that it returns says how the batch ended.
func (b *batch) observe(ctx context.Context) (_ context.Context, ended func(error)) {
	free := b.options.Metrics.Began(ctx)
	ctx, span := telemetry.Batch(ctx, telemetry.Task{Flow: b.in.Flow, Run: b.in.Run, Step: b.in.Foreach, Name: b.name()}, b.number)
	return ctx, func(err error) {
		free()
		e := telemetry.End{Outcome: string(records.Completed)}
		if _, waits := errors.AsType[*laterError](err); waits {
			e.Outcome = string(records.Deferred)
		} else if err != nil {
			e = telemetry.End{Outcome: string(records.Failed), Class: string(policies.Classify(err).Class), Message: b.redactor.text(err.Error())}
		}
		telemetry.Finish(span, e)
	}
}

// observeItem opens the span of an attempt of an item. The function that it returns says how the attempt ended: it has a failure, or
// was interrupted, if it has an outcome.
func (b *batch) observeItem(ctx context.Context, t *attempt) (_ context.Context, ended func(o records.Outcome, f *policies.Failure, retry bool)) {
	ctx, span := telemetry.ItemAttempt(ctx, t.named(), t.number, t.catch)
	t.span = span
	return ctx, func(o records.Outcome, f *policies.Failure, retry bool) {
		e := telemetry.End{Outcome: string(o)}
		if f != nil {
			e.Class, e.Message = string(f.Class), f.Message
		}
		telemetry.Finish(span, e)
		m := b.options.Metrics
		if m == nil {
			return
		}
		if !t.catch {
			m.Attempt(ctx, t.named(), e, b.options.Now().Sub(t.started), retry, o == records.Deferred)
		}
		switch {
		case o == records.Completed && t.catch:
			m.Task(ctx, t.named(), string(records.Caught))
		case o == records.Completed, o == records.Failed && !retry && (t.catch || t.def.Catch == nil):
			m.Task(ctx, t.named(), string(o))
		}
	}
}

// itemStep says which foreach a step belongs to, and whether an item ends with it.
type itemStep struct {
	foreach string
	last    bool
	// loops are those around the step that have no step after them.
	loops []string
}

func (s itemStep) ends(ahead flow.Ahead) bool {
	return s.last && !slices.ContainsFunc(s.loops, func(loop string) bool { return ahead[loop].Again })
}

// itemSteps finds the steps of items in the plans of flows, by flow and step.
func itemSteps(flows []*flow.Flow) map[string]itemStep {
	steps := map[string]itemStep{}
	for _, f := range flows {
		var walk func(n flow.PlanNode, foreach string, last bool, loops []string)
		walk = func(n flow.PlanNode, foreach string, last bool, loops []string) {
			switch n.Kind {
			case flow.KindStep:
				if foreach != "" {
					steps[f.Name()+"/"+n.Name] = itemStep{foreach, last, loops}
				}
				return
			case flow.KindSeq:
				for i, child := range n.Nodes {
					walk(child, foreach, last && i == len(n.Nodes)-1, loops)
				}
			case flow.KindSwitch:
				for _, child := range n.Nodes {
					walk(child, foreach, last, loops)
				}
			case flow.KindForeach:
				walk(n.Nodes[0], n.Name, true, nil)
			case flow.KindLoop:
				walk(n.Nodes[0], foreach, last, append(slices.Clip(loops), n.Name))
			case flow.KindBranch:
				for _, child := range n.Nodes {
					walk(child, foreach, false, nil)
				}
			case flow.KindDecide:
			}
			if n.Join != nil {
				walk(*n.Join, foreach, last, loops)
			}
		}
		walk(f.Plan().Root, "", false, nil)
	}
	return steps
}
