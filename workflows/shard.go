package workflows

import (
	"errors"
	"fmt"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

// ShardType is the workflow type of the shards of a flow's foreach shapes.
func ShardType(flowName string) string { return flowName + ".shard" }

// haltSignal tells a shard to start nothing further.
const haltSignal = "stepwell.halt"

// ShardInput starts a shard. It has the part of the plan that it needs.
type ShardInput struct {
	Version int           `json:"version"`
	Flow    string        `json:"flow"`
	Run     string        `json:"run"`
	Node    flow.PlanNode `json:"node"`
	Index   flow.Index    `json:"index,omitempty"`
	// From is the record at the split.
	From *records.Ref `json:"from"`
	List flow.List    `json:"list"`
	// First and Count are the shard's part of the list.
	First int `json:"first"`
	Count int `json:"count"`
	// Quota is how many items may run at the same time, MaxParallel how many tasks. 0 means no limit.
	Quota       int `json:"quota,omitempty"`
	MaxParallel int `json:"max_parallel,omitempty"`
	// Stop says that one failure stops the foreach.
	Stop bool `json:"stop,omitempty"`
	// Tell says that the parent wants to know when the last item starts.
	Tell bool `json:"tell,omitempty"`
	// Look says that items may be finished already.
	Look     bool              `json:"look,omitempty"`
	Defaults policies.Defaults `json:"defaults,omitzero"`
	Limits   Limits            `json:"limits"`
	// Rungs is on which rung of their ladder steps begin.
	Rungs map[string]int `json:"rungs,omitempty"`
	// Search names the search attributes that the shard may set, see [Input.Search].
	Search []string `json:"search,omitempty"`
	// Width is how many items run at the same time at first, where that is found out.
	Width int `json:"width,omitempty"`
	// WasReset says that the workflow was reset before the shard continued as new.
	WasReset bool `json:"was_reset,omitempty"`
	// Start is where to go on, of a shard that continues as new.
	Start *records.Cursor `json:"start,omitempty"`
	// Gates hold tasks back in a shard that continues as new.
	Gates []Gate `json:"gates,omitempty"`
}

// ShardOutput says how a shard's items ended. Failed items are no failure of the shard.
type ShardOutput struct {
	records.Tally
	// Stopped says that not all items were run.
	Stopped bool `json:"stopped,omitempty"`
	// Width is how many items ran at the same time at last, where that is found out.
	Width int `json:"width,omitempty"`
}

// Shard runs a part of a foreach's list: the items themselves, or more shards.
func Shard(ctx workflow.Context, in ShardInput) (ShardOutput, error) {
	if in.Version > InputVersion || in.Node.Fan == nil || len(in.Node.Nodes) != 1 {
		return ShardOutput{}, temporal.NewNonRetryableApplicationError(
			"the shard was started by another version of Stepwell (upgrade this worker)", string(policies.Permanent), nil)
	}
	r := newRun(ctx, in.Flow, in.Run, in.Defaults, &in.Limits, in.MaxParallel)
	r.version = in.Version
	r.quiet = true
	if err := errors.Join(r.answers(ctx), r.persons(ctx)); err != nil {
		return ShardOutput{}, err
	}
	r.rungs, r.wasReset = in.Rungs, in.WasReset
	r.window.learned(in.Width)
	r.mayMark(ctx, in.Search)
	r.top.strict, r.top.tell = in.Stop, r.tellParent
	r.listen(ctx)
	r.takeOver(ctx, in.Gates)
	workflow.Go(ctx, func(ctx workflow.Context) {
		halts := workflow.GetSignalChannelWithOptions(ctx, haltSignal, workflow.SignalChannelOptions{
			Description: "start nothing further: something else failed; the parent sends it, without an argument",
		})
		halts.Receive(ctx, nil)
		r.top.halt(ctx)
	})
	at := in.Start
	if at == nil {
		at = &records.Cursor{Look: in.Look}
	}
	r.failures = at.Ranked()
	f := &fan{n: &in.Node, x: in.Index, from: in.From, list: in.List, quota: in.Quota}
	if in.Tell {
		f.last = r.tellLast
	}
	p := r.begins(f)
	p.Items = in.Count
	r.tell(ctx, p)

	// What fails here is for the parent to judge: it knows how many failures are tolerated.
	scope := &scope{r: r, parent: r.top, strict: in.Stop, budget: r.share(r.limits.Shard, min(in.Count, r.limits.Shard))}
	all := in.Count + 1
	var err error
	switch {
	case in.Count > f.size(r.limits):
		err = r.sharded(ctx, scope, f, in.First, in.Count, at, all, p)
	case f.batch() > 1:
		err = r.batches(ctx, scope, f, in.First, in.Count, at, p)
	default:
		err = r.direct(ctx, scope, f, in.First, in.Count, at, all, p)
	}
	if errors.Is(err, errStopped) && r.draining && !scope.stopped() {
		in.Start, in.Look, in.Rungs, in.Gates, in.Width = at, false, r.rungs, r.handOn(), r.window.now()
		in.WasReset = r.reset()
		at.Rank(r.failures)
		at.Trim()
		if err := r.leaveMarks(ctx); err != nil {
			return ShardOutput{}, err
		}
		return ShardOutput{}, workflow.NewContinueAsNewError(ctx, r.info.WorkflowType.Name, in)
	}
	if in.Count > f.size(r.limits) {
		return r.output(at, err)
	}
	// Even a shard that was cancelled says what is done: a resume reads this instead of the items' records.
	done, _ := workflow.NewDisconnectedContext(ctx)
	if writeErr := r.write(done, f, in, at); writeErr != nil && (err == nil || errors.Is(err, errStopped)) {
		err = writeErr
	}
	return r.output(at, err)
}

// failedSignal tells the parent of a shard that one of its items failed and it stops. The parent need not wait for what runs to
// find out: what it says is the workflow id of the shard.
const failedSignal = "stepwell.failed"

// lastSignal tells the parent of a shard that its last item starts.
const lastSignal = "stepwell.last"

// tellParent tells the parent that this shard stops.
func (r *run) tellParent(ctx workflow.Context) { r.signalParent(ctx, failedSignal) }

// tellLast tells the parent that this shard has nothing left to start.
func (r *run) tellLast(ctx workflow.Context) { r.signalParent(ctx, lastSignal) }

func (r *run) signalParent(ctx workflow.Context, name string) {
	parent := r.info.ParentWorkflowExecution
	if parent == nil {
		return
	}
	id := r.info.WorkflowExecution.ID
	workflow.Go(ctx, func(ctx workflow.Context) {
		// A parent that has ended need not know.
		_ = workflow.SignalExternalWorkflow(ctx, parent.ID, parent.RunID, name, id).Get(ctx, nil)
	})
}

// listen hears of shards that stop, or start their last item.
func (r *run) listen(ctx workflow.Context) {
	hear := func(name, text string, do func(workflow.Context, *shard)) {
		workflow.Go(ctx, func(ctx workflow.Context) {
			o := workflow.SignalChannelOptions{Description: text + "; the shard sends it, the argument is its workflow id"}
			for signals := workflow.GetSignalChannelWithOptions(ctx, name, o); ; {
				var id string
				signals.Receive(ctx, &id)
				for _, sh := range r.shards {
					if sh.id == id && !sh.ended {
						do(ctx, sh)
					}
				}
			}
		})
	}
	hear(failedSignal, "a shard stops because an item failed", func(ctx workflow.Context, sh *shard) { sh.scope.failed(ctx) })
	hear(lastSignal, "a shard starts its last item", func(ctx workflow.Context, sh *shard) { sh.next(ctx) })
}

// asError is a failure as a workflow returns it.
func asError(err error) error {
	if fatal, ok := errors.AsType[*fatalError](err); ok {
		err = fatal.f
	}
	if f, ok := errors.AsType[*policies.Failure](err); ok {
		return policies.Error(f, policies.Decision{})
	}
	return err
}

// output counts how a shard's items ended.
func (r *run) output(at *records.Cursor, err error) (ShardOutput, error) {
	out := ShardOutput{Tally: r.tally(at.Parts), Width: r.window.now()}
	for _, e := range at.Ended {
		out.Merge(e.Tally)
	}
	if err != nil && !errors.Is(err, errStopped) {
		return out, asError(err)
	}
	out.Stopped = err != nil
	return out, nil
}

// write writes the shard's document.
func (r *run) write(ctx workflow.Context, f *fan, in ShardInput, at *records.Cursor) error {
	d := records.Shard{Flow: r.flow, Run: r.id, Foreach: f.n.Name, Index: f.x, First: in.First, Count: in.Count, Tally: r.tally(at.Parts)}
	var parts []records.Item
	var batches []records.Batch
	if f.batch() > 1 {
		d.Batched = true
		for _, p := range at.Parts {
			if p.Batch != nil {
				batches = append(batches, *p.Batch)
			}
		}
	} else {
		parts = items(at.Parts, in.First)
	}
	err := workflow.ExecuteActivity(r.bookkeeping(ctx, fmt.Sprintf("write down how %d items ended", in.Count)),
		activities.ShardType, d, parts, batches).Get(ctx, nil)
	if err != nil {
		return asError(r.bookkept(ctx, err))
	}
	return nil
}
