package workflows

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

// fan is a foreach, or a part of its list, that is under way.
type fan struct {
	n    *flow.PlanNode
	x    flow.Index // of the foreach
	from *records.Ref
	list flow.List
	// quota is how many items may run at the same time, 0 for no limit.
	quota int
	// last is called when the last item starts, if it is set.
	last func(ctx workflow.Context)
}

// starts hears that unit i of n starts.
func (f *fan) starts(ctx workflow.Context, i, n int) {
	if i == n-1 && f.last != nil {
		f.last(ctx)
	}
}

// batch is how many items an activity runs, 1 when each task is an activity.
func (f *fan) batch() int { return max(1, f.n.Fan.Batch) }

// size is how many items a shard has.
func (f *fan) size(l Limits) int {
	if f.batch() > 1 {
		return l.Shard * f.batch()
	}
	return max(1, l.Shard/weight(&f.n.Nodes[0]))
}

// weight is about how many tasks of a node run in the workflow itself. A foreach within counts as a few: it has shards of its
// own unless it is small, see share.
func weight(n *flow.PlanNode) int {
	switch n.Kind {
	case flow.KindStep, flow.KindDecide:
		return 1
	case flow.KindForeach:
		return 5
	case flow.KindSwitch:
		most := 0
		for i := range n.Nodes {
			most = max(most, weight(&n.Nodes[i]))
		}
		return most
	default:
		sum := 0
		for i := range n.Nodes {
			sum += weight(&n.Nodes[i])
		}
		if n.Join != nil {
			sum++
		}
		return sum
	}
}

// foreach runs the items of a list, then the join.
func (r *run) foreach(ctx workflow.Context, s *scope, n *flow.PlanNode, x flow.Index, at *records.Cursor) error {
	d, ok := at.Ahead[n.Name]
	if !ok || d.Items == nil || n.Fan == nil {
		return undecided(n)
	}
	f := &fan{n: n, x: x, from: at.Last, list: *d.Items, quota: n.Fan.MaxParallel}
	tolerate := n.Fan.Tolerate.Of(f.list.Len)
	finish := n.Fan.OnFailure == flow.FinishAll
	inner := &scope{r: r, parent: s, finish: finish, strict: !finish && tolerate == 0}
	in := &activities.JoinInput{Len: f.list.Len, Shape: n.Name}
	p := r.begins(f)
	r.tell(ctx, p)
	defer func() {
		p.ended = true
		r.tell(ctx, p)
	}()
	switch each := weight(&n.Nodes[0]); {
	case f.list.Len == 0:
	case f.batch() == 1 && f.list.Len <= s.budget/each:
		inner.budget = r.share(s.budget, f.list.Len)
		if err := r.direct(ctx, inner, f, 0, f.list.Len, at, tolerate, p); err != nil {
			return err
		}
		in.Parts = items(at.Parts, 0)
	default:
		in.Shard = f.size(r.limits)
		if err := r.sharded(ctx, inner, f, 0, f.list.Len, at, tolerate, p); err != nil {
			return err
		}
	}
	return r.step(ctx, s, n.Join, x, at, in)
}

// share is the part of a budget that each of n parts has. A few tasks are cheaper here than in a workflow of their own; should
// that be too many in all, the workflow continues as new. What is within those few has no such privilege: a few of a few of a
// few are many, and the workflow's cursor must fit into its next input.
func (r *run) share(budget, n int) int {
	few := min(r.limits.Tasks, 20)
	if budget <= few {
		return budget / n
	}
	return max(few, budget/n)
}

// direct runs items of a list in this workflow.
func (r *run) direct(ctx workflow.Context, s *scope, f *fan, first, count int, at *records.Cursor, tolerate int, p *progress) error {
	if at.Look {
		parts, err := r.lookItems(ctx, f, first, count)
		if err != nil {
			return err
		}
		at.Parts, at.Look = parts, false
	}
	if at.Parts == nil {
		at.Parts = make([]*records.Cursor, count)
		for i := range at.Parts {
			at.Parts[i] = &records.Cursor{
				Last: f.from, Bind: &flow.Binding{Foreach: f.n.Name, List: f.list, Item: first + i}, Kept: &records.Kept{},
			}
		}
	}
	p.started(at.Parts)
	width := func() int { return f.within(r.limits.Window) }
	if r.window != nil {
		width = func() int { return f.within(r.window.limit) }
	}
	return r.parts(ctx, s, at.Parts, width, tolerate, func(ctx workflow.Context, i int) error {
		f.starts(ctx, i, count)
		err := r.tolerable(ctx, f, r.node(ctx, s, &f.n.Nodes[0], records.Within(f.x, first+i), at.Parts[i]))
		p.item(err)
		r.tell(ctx, p)
		return err
	})
}

// tolerable makes the failure of an item whose input is damaged one that is not tolerated. The item itself did not fail, and once its
// foreach has ended no resume would look at it.
func (r *run) tolerable(ctx workflow.Context, f *fan, err error) error {
	var failure *policies.Failure
	if f.n.Fan.Tolerate == (flow.Tolerance{}) || !errors.As(err, &failure) || failure.Type != activities.InputErrorType {
		return err
	}
	if workflow.GetVersion(ctx, "damaged input is not tolerated", workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return err
	}
	return &fatalError{failure}
}

// within is how many items of so many may run at the same time.
func (f *fan) within(n int) int {
	if f.quota > 0 {
		n = min(n, f.quota)
	}
	return n
}

// lookItems asks how far items have come.
func (r *run) lookItems(ctx workflow.Context, f *fan, first, count int) ([]*records.Cursor, error) {
	var found activities.LookResult
	err := workflow.ExecuteActivity(r.bookkeeping(ctx, fmt.Sprintf("%s: which items are finished", f.n.Name)), activities.LookType, activities.LookInput{
		Flow: r.flow, Run: r.id, Foreach: f.n.Name, Index: f.x, From: f.from, List: f.list, First: first, Count: count,
	}).Get(ctx, &found)
	if err != nil {
		return nil, r.bookkept(ctx, err)
	}
	if len(found.Parts) != count {
		return nil, permanent("foreach %q: %d items of %d were looked at", f.n.Name, len(found.Parts), count)
	}
	return found.Parts, nil
}

// bookkept is the failure of one of the run's own activities.
func (r *run) bookkept(ctx workflow.Context, err error) error {
	if ctx.Err() != nil || temporal.IsCanceledError(err) {
		return temporal.NewCanceledError()
	}
	return r.failure(ctx, err, activities.StepInput{Flow: r.flow, Run: r.id})
}

// shard is a child workflow that runs a part of a foreach's list.
type shard struct {
	id     string
	scope  *scope
	future workflow.ChildWorkflowFuture
	ended  bool
	told   bool
	// next lets the next shard start. It may be called more than once.
	next func(ctx workflow.Context)
}

// halt tells the shard to start nothing further.
func (sh *shard) halt(ctx workflow.Context) {
	if sh.ended || sh.told {
		return
	}
	sh.told = true
	workflow.Go(ctx, func(ctx workflow.Context) {
		// It may have ended in the meantime, and then it need not be told.
		_ = sh.future.SignalChildWorkflow(ctx, haltSignal, nil).Get(ctx, nil)
	})
}

// maxOpen is how many shards of a list are open at the same time because each has slow items left, see Limits.Follow.
const maxOpen = 10

// sharded runs a part of a list as shards, each a child workflow.
func (r *run) sharded(ctx workflow.Context, s *scope, f *fan, first, count int, at *records.Cursor, tolerate int, p *progress) error {
	size := f.size(r.limits)
	for (count+size-1)/size > r.limits.Children { // shards of shards
		size *= r.limits.Children
	}
	children := (count + size - 1) / size
	if at.Look && len(at.Ended) == 0 { // else it was asked before the workflow continued as new
		if err := r.lookShards(ctx, f, first, count, size, at); err != nil {
			return err
		}
	}
	var total records.Tally
	ended := make([]bool, children)
	for _, e := range at.Ended {
		ended[e.Shard] = true
		total.Merge(e.Tally)
		r.failedStep(e.Failure)
	}
	p.counts(&total)

	width := min(children, r.limits.Shards)
	quota := f.quota
	if quota > 0 {
		width = min(width, max(1, quota/r.limits.Window))
		quota = max(1, quota/width)
	}
	permits := 0
	if r.maxParallel > 0 {
		width = min(width, r.maxParallel)
		permits = max(1, r.maxParallel/width)
	}
	follow := r.limits.Follow && f.quota == 0 && r.maxParallel == 0
	var (
		next, open int
		stopped    error
		done       = workflow.NewWaitGroup(ctx)
		start      func(ctx workflow.Context)
	)
	// Each of these runs one shard after the other, until another takes its place: because the shard has only some slow items left.
	start = func(ctx workflow.Context) {
		open++
		done.Add(1)
		workflow.Go(ctx, func(ctx workflow.Context) {
			defer done.Done()
			defer func() { open-- }()
			for replaced := false; next < children && !replaced; {
				k := next
				next++
				if ended[k] {
					continue
				}
				if err := r.stop(ctx, s); err != nil {
					stopped = later(stopped, err)
					return
				}
				from := first + k*size
				out, err := r.shard(ctx, s, ShardInput{
					Version: r.version, Flow: r.flow, Run: r.id, Node: *f.n, Index: f.x, From: f.from, List: f.list,
					First: from, Count: min(size, first+count-from), Quota: quota, MaxParallel: permits, Tell: follow && next < children,
					Stop: s.strict, Look: at.Look || r.reset(), Defaults: r.defaults, Limits: r.limits, Rungs: r.rungs,
					Search: r.search, Width: r.window.now(),
				}, func(ctx workflow.Context) (yes bool) {
					if yes = !replaced && next < children && open < maxOpen; yes {
						replaced = true
						start(ctx)
					}
					return yes
				})
				if errors.Is(err, errStopped) {
					stopped = later(stopped, err)
					return
				}
				if err != nil {
					stopped = later(stopped, err)
					s.halt(ctx)
					s.parent.failed(ctx)
					return
				}
				r.window.learned(out.Width)
				r.failedStep(out.Failure)
				if total.Failure != nil {
					out.Failure = nil // one is told
				}
				at.Ended = append(at.Ended, records.ShardEnd{Shard: k, Tally: out.Tally})
				total.Merge(out.Tally)
				r.tell(ctx, p)
				if out.Stopped && stopped == nil {
					stopped = errStopped
				}
				if total.Failed > 0 {
					s.failed(ctx) // a strict scope need not know how many are tolerated
				}
				if total.Failed > tolerate && !s.finish {
					s.halt(ctx)
					s.parent.failed(ctx)
				}
			}
		})
	}
	for range width {
		start(ctx)
	}
	done.Wait(ctx)
	if err := ctx.Err(); err != nil {
		return err
	}
	if total.Failed > tolerate && !r.goesOn(s, stopped) {
		return total.Err()
	}
	return stopped
}

// lookShards asks which shards are finished already.
func (r *run) lookShards(ctx workflow.Context, f *fan, first, count, size int, at *records.Cursor) error {
	if size != f.size(r.limits) {
		return nil // the shards ask for their own shards
	}
	var found activities.LookResult
	err := workflow.ExecuteActivity(r.bookkeeping(ctx, fmt.Sprintf("%s: which shards are finished", f.n.Name)), activities.LookType, activities.LookInput{
		Flow: r.flow, Run: r.id, Foreach: f.n.Name, Index: f.x, From: f.from, List: f.list, First: first, Count: count, Shard: size,
	}).Get(ctx, &found)
	if err != nil {
		return r.bookkept(ctx, err)
	}
	for _, e := range found.Ended { // a shard of this run that has failed items is not among them
		if !slices.ContainsFunc(at.Ended, func(h records.ShardEnd) bool { return h.Shard == e.Shard }) {
			at.Ended = append(at.Ended, e)
		}
	}
	return nil
}

// shard runs one shard to its end. When the shard has started its last item, follow may start another.
func (r *run) shard(ctx workflow.Context, s *scope, in ShardInput, follow func(workflow.Context) bool) (ShardOutput, error) {
	release, err := r.enter(ctx, s, r.children, int64(in.MaxParallel))
	if err != nil {
		return ShardOutput{}, err
	}
	room := true
	leave := func() {
		if room {
			room = false
			release()
		}
	}
	defer leave()
	last := in.First + in.Count - 1
	sh := &shard{id: ShardID(r.flow, r.id, in.Node.Name, in.Index, in.First, last), scope: s}
	sh.next = func(ctx workflow.Context) {
		if follow(ctx) {
			leave()
		}
	}
	ctx = workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowID:          sh.id,
		WaitForCancellation: true,
		ParentClosePolicy:   enumspb.PARENT_CLOSE_POLICY_TERMINATE,
		StaticSummary:       fmt.Sprintf("%s: items %d to %d of %d", flow.TaskName(in.Node.Name, in.Index), in.First, last, in.List.Len),
	})
	sh.future = workflow.ExecuteChildWorkflow(ctx, ShardType(r.flow), in)
	r.shards = append(r.shards, sh)
	var out ShardOutput
	err = sh.future.Get(ctx, &out)
	sh.ended = true
	r.forget(sh)
	if err == nil {
		return out, nil
	}
	if ctx.Err() != nil || temporal.IsCanceledError(err) {
		return out, temporal.NewCanceledError()
	}
	// A shard tells of its items' failures in its result; this one was ended by somebody or something else.
	f := r.failure(ctx, err, activities.StepInput{Flow: r.flow, Run: r.id, Step: in.Node.Name, Index: in.Index})
	if f.Class == policies.Cancelled {
		f.Class, f.Message = policies.Unknown, fmt.Sprintf("the shard of items %d to %d was ended: %s", in.First, last, f.Message)
	}
	return out, &fatalError{f}
}

// fatalError is a failure that no tolerance of failed items covers.
type fatalError struct{ f *policies.Failure }

func (e *fatalError) Error() string { return e.f.Message }

// batches runs items of a list in batches.
func (r *run) batches(ctx workflow.Context, s *scope, f *fan, first, count int, at *records.Cursor, p *progress) error {
	size := f.batch()
	units := (count + size - 1) / size
	if at.Parts == nil {
		for range units {
			at.Parts = append(at.Parts, &records.Cursor{})
		}
	}
	p.started(at.Parts)
	failed := 0 // batches with failed items
	for _, part := range at.Parts {
		if part.Batch != nil && part.Batch.Failed > 0 {
			r.heard(part.Batch.Failure)
			failed++
		}
	}
	width := func() int { return f.within(r.limits.Window) }
	return r.parts(ctx, s, at.Parts, width, units, func(ctx workflow.Context, i int) error {
		f.starts(ctx, i, units)
		in := activities.BatchInput{
			Flow: r.flow, Run: r.id, Foreach: f.n.Name, Index: f.x, From: f.from, List: f.list,
			First: first + i*size, Count: min(size, count-i*size), Stop: s.strict, Look: at.Look || r.reset(),
		}
		b, err := r.batch(ctx, s, in)
		if err != nil {
			return err
		}
		if b.Failed > 0 {
			r.heard(b.Failure)
			b.Failure = brief(b.Failure, failed)
			failed++
			s.failed(ctx)
		}
		at.Parts[i].Batch = &b
		p.Completed += b.Completed
		p.Failed += b.Failed
		r.tell(ctx, p)
		return nil
	})
}

func (r *run) batch(ctx workflow.Context, s *scope, in activities.BatchInput) (records.Batch, error) {
	release, err := r.enter(ctx, s, r.activities, 1)
	if err != nil {
		return records.Batch{}, err
	}
	defer release()
	name := activities.BatchName(in.Foreach, in.Index, in.First, in.Count)
	// The batch itself decides what is tried again and when.
	o := policies.NewSpec(nil, nil, nil).ActivityOptions(r.defaults)
	o.RetryPolicy.MaximumAttempts = math.MaxInt32
	o.ActivityID, o.Summary = name, fmt.Sprintf("items %d to %d", in.First, in.First+in.Count-1)
	var out records.Batch
	err = workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, o), activities.BatchType(in.Flow, in.Foreach), in).Get(ctx, &out)
	if err == nil {
		return out, nil
	}
	if ctx.Err() != nil || temporal.IsCanceledError(err) {
		return out, temporal.NewCanceledError()
	}
	return out, &fatalError{r.failure(ctx, err, activities.StepInput{Flow: r.flow, Run: r.id, Step: in.Foreach, Index: in.Index})}
}

func (r *run) forget(sh *shard) {
	for i, other := range r.shards {
		if other == sh {
			r.shards = append(r.shards[:i], r.shards[i+1:]...)
			return
		}
	}
}

// maxWorkflowID is what PostgreSQL stores of an id.
const maxWorkflowID = 255

// ShardID is the workflow id of a shard. One that would be too long ends in a digest.
func ShardID(flowName, run, foreach string, x flow.Index, first, last int) string {
	base := flowName + "/" + run + "/"
	name := fmt.Sprintf("%s/%d-%d", flow.TaskName(foreach, x), first, last)
	if len(base)+len(name) > maxWorkflowID {
		sum := sha256.Sum256([]byte(name))
		name = hex.EncodeToString(sum[:12])
	}
	return base + name
}
