package activities

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

// BatchInput is a part of a foreach's list whose items run one after the other in one activity.
type BatchInput struct {
	Flow    string     `json:"flow"`
	Run     string     `json:"run"`
	Foreach string     `json:"foreach"`
	Index   flow.Index `json:"index,omitempty"`
	// From is the record at the split.
	From *records.Ref `json:"from,omitempty"`
	List flow.List    `json:"list"`
	// First and Count are the batch's part of the list.
	First int `json:"first"`
	Count int `json:"count"`
	// Stop ends the batch at its first failure.
	Stop bool `json:"stop,omitempty"`
	// Look says that items may be finished already.
	Look bool `json:"look,omitempty"`
}

// saveEvery is how often a batch under way writes down what it got done.
const saveEvery = 5 * time.Second

// batch is one attempt at a batch.
type batch struct {
	*Activities
	flow  *flow.Flow
	in    BatchInput
	run   records.Run
	shape flow.PlanNode // the foreach
	body  flow.PlanNode
	items *flow.Items
	beat  heartbeat
	log   *attemptLog

	number int
	base   map[string]artifacts.Entry // at the split
	ends   map[int]records.Item       // items that ended, whenever
	tries  map[int]records.Item       // items that failed and are tried again, with Failure and Due
	part   records.Shard              // what this attempt did
	before artifacts.Digest           // of the record from before the workflow was reset, which does not stand
	saved  time.Time
	// careful attempts come after one that was lost: they write down which item they begin, to know which one kills workers.
	careful bool
	// looked says that it is known what the attempts before did. Idle is how many of them, the latest, began and got nothing done.
	looked bool
	idle   int
}

func (a *Activities) batch(ctx context.Context, f *flow.Flow, in BatchInput) (records.Batch, error) {
	info := activity.GetInfo(ctx)
	b := &batch{
		Activities: a, flow: f, in: in, number: int(info.Attempt),
		ends: map[int]records.Item{}, tries: map[int]records.Item{}, saved: time.Now(),
	}
	b.part = records.Shard{Flow: in.Flow, Run: in.Run, Foreach: in.Foreach, Index: in.Index, First: in.First, Count: in.Count}
	b.part.Execution, b.part.Scheduled = info.WorkflowExecution.RunID, info.ScheduledTime
	ctx, ended := b.observe(ctx)
	b.beat.start(ctx, info.HeartbeatTimeout, b.number, a.options.Worker, a.options.Now())
	defer b.beat.stop()
	defer func() {
		if b.log != nil {
			b.log.close()
		}
	}()
	out, err := b.try(ctx)
	ended(err)
	if err == nil {
		return out, nil
	}
	b.part.Away = b.looked && unavailable(err)
	_ = b.save(context.WithoutCancel(ctx), true)
	return out, b.fail(ctx, err)
}

// laterError ends an attempt whose remaining items wait for their next try, or for what was away to come back.
type laterError struct{ delay time.Duration }

func (e *laterError) Error() string { return fmt.Sprintf("items are tried again in %s", e.delay) }

// fail returns the error for Temporal. What is no item's failure is the store's, the data's or the worker's.
func (b *batch) fail(ctx context.Context, err error) error {
	f := policies.Classify(err)
	if f.Task == "" { // it is of no item
		f.Flow, f.Run, f.Step, f.Task, f.Attempt = b.in.Flow, b.in.Run, b.in.Foreach, b.name(), b.number
		f.Worker, f.Time = b.options.Worker, b.options.Now()
	}
	later, waits := errors.AsType[*laterError](err)
	switch cause := context.Cause(ctx); {
	case waits:
		f.Class = policies.Transient
		return policies.Error(f, policies.Decision{Retry: true, Delay: later.delay})
	case cause != nil && temporal.IsCanceledError(cause):
		f.Class = policies.Cancelled
		return policies.Error(f, policies.Decision{})
	case cause != nil, errors.Is(err, errDrained):
		f.Class = policies.Lost
		return policies.Error(f, policies.Decision{Retry: true, Delay: time.Millisecond})
	case unavailable(err):
		f.Class = policies.Lost
		// A store that cannot even be looked at says nothing about the batch, and its run cannot end without it either: it is waited
		// for, however long. What is away for this batch alone, an object of its items, ends it when nothing gets done meanwhile.
		idle := b.looked && len(b.part.Items) == 0 && b.idle >= maxBatchStarts
		return policies.Error(f, policies.Decision{Retry: !idle, Delay: 5 * time.Second})
	case f.Class == policies.Cancelled:
		f.Class = policies.Unknown
	}
	return policies.Error(f, policies.Decision{})
}

// maxBatchStarts is how many attempts of a batch may begin, one after the other, and end without having done anything.
const maxBatchStarts = 20

func (b *batch) name() string { return BatchName(b.in.Foreach, b.in.Index, b.in.First, b.in.Count) }

// BatchName names a batch for people: the foreach, its index and its part of the list.
func BatchName(foreach string, x flow.Index, first, count int) string {
	return fmt.Sprintf("%s[%d-%d]", flow.TaskName(foreach, x), first, first+count-1)
}

func (b *batch) try(ctx context.Context) (records.Batch, error) {
	var err error
	if b.run, err = b.Activities.run(ctx, b.in.Flow, b.in.Run); err != nil {
		return records.Batch{}, err
	}
	n, ok := b.run.Plan.Shape(b.in.Foreach)
	if !ok || len(n.Nodes) == 0 {
		return records.Batch{}, policies.WithClass(fmt.Errorf("foreach %q is not in the plan of run %q", b.in.Foreach, b.in.Run), policies.Permanent)
	}
	b.shape, b.body = n, n.Nodes[0]
	b.log = newAttemptLog(ctx, &attempt{Activities: b.Activities, number: b.number, in: StepInput{
		Flow: b.in.Flow, Run: b.in.Run, Step: b.in.Foreach, Index: records.Within(b.in.Index, b.in.First),
	}})
	if b.number > 1 || b.in.Look {
		out, done, err := b.lookBack(ctx)
		if done || err != nil {
			return out, err
		}
	}
	b.looked = true
	if b.items, err = flow.OpenItems(ctx, b.store, b.in.List); err != nil {
		return records.Batch{}, badInput(err)
	}
	if err := b.loadBase(ctx); err != nil {
		return records.Batch{}, err
	}
	stop := activity.GetWorkerStopChannel(ctx)
	stopped := b.in.Stop && b.failed() // by an attempt before this one
	for i := b.in.First; i < b.in.First+b.in.Count && !stopped; i++ {
		if _, ended := b.ends[i]; ended {
			continue
		}
		if again, ok := b.tries[i]; ok && again.Due.After(b.options.Now()) {
			continue
		}
		select {
		case <-stop:
			return records.Batch{}, errDrained
		case <-ctx.Done():
			return records.Batch{}, context.Cause(ctx)
		default:
		}
		if err := b.item(ctx, i); err != nil {
			return records.Batch{}, err
		}
		stopped = b.in.Stop && b.ends[i].Outcome == records.Failed
		if time.Since(b.saved) > saveEvery {
			if err := b.save(ctx, false); err != nil {
				return records.Batch{}, err
			}
		}
	}
	if len(b.tries) > 0 && !stopped {
		if err := b.save(ctx, true); err != nil { // else the delays would be forgotten
			return records.Batch{}, err
		}
		b.at(ctx, PointNoted)
		return records.Batch{}, &laterError{b.wait()}
	}
	b.log.flush()
	return b.seal(context.WithoutCancel(ctx))
}

// failed says whether an item failed for good.
func (b *batch) failed() bool {
	for _, p := range b.ends {
		if p.Outcome == records.Failed {
			return true
		}
	}
	return false
}

// wait is how long to wait until the next item is due, or some that are due at about the same time: jitter spreads them, and
// each attempt of the batch reads what all those before it wrote.
func (b *batch) wait() time.Duration {
	const together = time.Second
	var first, last time.Time
	for _, t := range b.tries {
		if first.IsZero() || t.Due.Before(first) {
			first = t.Due
		}
		if t.Due.After(last) {
			last = t.Due
		}
	}
	now := b.options.Now()
	return max(first.Sub(now), min(last.Sub(now), together), time.Millisecond)
}

// loadBase reads the state at the split.
func (b *batch) loadBase(ctx context.Context) error {
	t := b.attemptOf(nil, nil, 0)
	t.in.From = b.in.From
	var err error
	_, b.base, _, err = t.load(ctx)
	return err
}

// seal writes the record of all items that ended.
func (b *batch) seal(ctx context.Context) (records.Batch, error) {
	digest, d, err := b.write(ctx)
	if err == nil && b.late(d) {
		b.before = digest
		for _, p := range d.Items {
			if endedWell(p) && !endedWell(b.ends[p.Index]) {
				b.ends[p.Index] = p
			}
		}
		digest, d, err = b.write(ctx)
	}
	if err != nil {
		return records.Batch{}, err
	}
	b.at(ctx, PointRecord)
	return records.Batch{Run: b.in.Run, First: d.First, Count: d.Count, Digest: digest, Tally: d.Tally}, nil
}

// late says that an attempt from before the workflow was reset wrote the record meanwhile, and that items failed in it. It was scheduled
// before this one, which may itself be from before a reset.
func (b *batch) late(d records.Shard) bool {
	return b.in.Look && b.before.IsZero() && d.Completed < d.Count &&
		d.Execution != "" && d.Execution != b.part.Execution && d.Scheduled.Before(b.part.Scheduled)
}

func (b *batch) write(ctx context.Context) (artifacts.Digest, records.Shard, error) {
	d := b.part
	d.Items, d.Tally = nil, records.Tally{}
	for _, i := range slices.Sorted(maps.Keys(b.ends)) {
		d.Items = append(d.Items, b.ends[i])
		d.Tally.Add(b.ends[i])
	}
	if b.before.IsZero() {
		return records.CreateBatch(ctx, b.store, d)
	}
	return records.ReplaceBatch(ctx, b.store, d, b.before)
}

// lookBack takes over what was done before: by another attempt, or by a run that this one was resumed from.
func (b *batch) lookBack(ctx context.Context) (out records.Batch, done bool, _ error) {
	in := b.in
	digest, d, err := records.FindBatch(ctx, b.store, in.Flow, in.Run, in.Foreach, in.Index, in.First)
	switch {
	case err == nil && in.Look && d.Completed < d.Count && d.Execution != b.part.Execution:
		// The workflow was reset: what failed is tried again, as outside of batches.
		b.before = digest
		if _, err := b.take(ctx, "", d.Items); err != nil {
			return out, false, err
		}
	case err == nil && d.Count == in.Count:
		return records.Batch{Run: in.Run, First: d.First, Count: d.Count, Digest: digest, Tally: d.Tally}, true, nil
	case err != nil && !errors.Is(err, artifacts.ErrNotFound):
		return out, false, err
	}
	if in.Look {
		s := records.Seeker{Store: b.store, Run: b.run}
		chain, err := s.Chain(ctx, records.ItemsKey(in.Foreach))
		if err != nil {
			return out, false, err
		}
		for _, run := range since(chain, in.From)[1:] { // what this run has is told by its parts
			if err := b.takeOver(ctx, run); err != nil {
				return out, false, err
			}
		}
	}
	parts, err := records.BatchParts(ctx, b.store, in.Flow, in.Run, in.Foreach, in.Index, in.First)
	if err != nil {
		return out, false, err
	}
	own := map[int]records.Shard{}
	for p, part := range parts {
		if p.Attempt < b.number && (part.Execution == "" || part.Execution == b.part.Execution) {
			before, known := own[p.Attempt]
			if own[p.Attempt] = part; !known {
				continue
			}
			part = before // of an earlier version, which did not tell
		}
		// It is from before the workflow was reset.
		took, err := b.take(ctx, "", part.Items)
		if err != nil {
			return out, false, err
		}
		if p.Execution == b.apart() { // an attempt of now may write over it, so this one keeps what it has
			b.part.Items = append(b.part.Items, took...)
		}
	}
	for n := 1; n < b.number; n++ {
		part, wrote := own[n]
		b.careful = b.careful || !wrote || !part.Final
		if !wrote { // it did not begin: the store was away, it came to another program, or it was the first and its worker was lost
			continue
		}
		if b.idle++; !idle(part) {
			b.idle = 0
		}
		for _, p := range part.Items {
			if _, ended := b.ends[p.Index]; ended {
				continue
			}
			switch {
			case p.Outcome != "":
				b.ends[p.Index] = p
				delete(b.tries, p.Index)
			case p.Failure == nil: // it was begun, and nothing was heard of it again
				b.lost(p.Index, part.Worker)
			default:
				b.tries[p.Index] = p
			}
		}
	}
	if b.idle > maxBatchStarts {
		return out, false, policies.WithClass(fmt.Errorf("the worker was lost %d times before batch %q could do anything (look for a crash or too little memory)", b.idle, b.name()), policies.Permanent)
	}
	if b.careful { // so that this attempt is known to have begun
		return out, false, b.save(ctx, false)
	}
	return out, false, nil
}

// idle says that an attempt got nothing done, but for items that wait for their next try, when it was lost or the store was away.
func idle(part records.Shard) bool {
	did := func(p records.Item) bool { return p.Outcome != "" || p.Failure == nil }
	return (!part.Final || part.Away) && !slices.ContainsFunc(part.Items, did)
}

// lost counts a lost attempt of an item, which fails when there were too many.
func (b *batch) lost(i int, worker string) {
	t := b.tries[i]
	f := &policies.Failure{
		Class: policies.Lost, Message: lostText, Flow: b.in.Flow, Run: b.in.Run, Step: b.in.Foreach,
		Task: flow.TaskName(b.in.Foreach, records.Within(b.in.Index, i)), Worker: worker, Time: b.options.Now(), Attempt: t.Attempt + 1, LostAttempts: 1,
	}
	if t.Failure != nil {
		f.CodeFailures, f.LostAttempts = t.Failure.CodeFailures, t.Failure.LostAttempts+1
	}
	limit := 0
	for _, name := range bodySteps(b.body) {
		limit = max(limit, name.Policy.Lost)
	}
	t.Index, t.Attempt, t.Failure, t.Due = i, f.Attempt, f, time.Time{}
	if f.LostAttempts > limit {
		t.Outcome = records.Failed
		b.end(t)
		return
	}
	b.tries[i] = t
}

func bodySteps(n flow.PlanNode) []flow.PlanNode {
	if n.Policy != nil {
		return []flow.PlanNode{n}
	}
	var all []flow.PlanNode
	for _, child := range n.Nodes {
		all = append(all, bodySteps(child)...)
	}
	return all
}

// takeOver takes the finished items of another run's batches, which may have been cut otherwise.
func (b *batch) takeOver(ctx context.Context, run string) error {
	firsts, err := records.Batches(ctx, b.store, b.in.Flow, run, b.in.Foreach, b.in.Index)
	if err != nil {
		return err
	}
	for k, first := range firsts {
		if first >= b.in.First+b.in.Count || k+1 < len(firsts) && firsts[k+1] <= b.in.First {
			continue
		}
		_, d, err := records.FindBatch(ctx, b.store, b.in.Flow, run, b.in.Foreach, b.in.Index, first)
		if errors.Is(err, artifacts.ErrCorrupt) {
			continue
		}
		if err != nil {
			return err
		}
		if _, err := b.take(ctx, run, d.Items); err != nil {
			return err
		}
	}
	// A batch that was cut off got some of its items done all the same.
	parts, err := records.BatchParts(ctx, b.store, b.in.Flow, run, b.in.Foreach, b.in.Index, b.in.First)
	if err != nil {
		return err
	}
	for _, part := range parts {
		if _, err := b.take(ctx, run, part.Items); err != nil {
			return err
		}
	}
	return nil
}

func endedWell(p records.Item) bool {
	return p.Outcome == records.Completed || p.Outcome == records.Caught
}

// take takes over the items that ended well, of another run or, with "", of this one. It returns those that were not known.
func (b *batch) take(ctx context.Context, run string, items []records.Item) (took []records.Item, _ error) {
	for _, p := range items {
		if _, ended := b.ends[p.Index]; ended || !endedWell(p) || p.Index < b.in.First || p.Index >= b.in.First+b.in.Count {
			continue
		}
		if b.run.Verify {
			if _, why, err := records.Damaged(ctx, b.store, p.Set); err != nil {
				return nil, err
			} else if why != "" {
				continue
			}
		}
		p.From = cmp.Or(p.From, run)
		b.ends[p.Index] = p
		took = append(took, p)
	}
	return took, nil
}

// save writes down what this attempt got done so far, and which item it begins, if any. Final says that the attempt ends.
func (b *batch) save(ctx context.Context, final bool, begun ...records.Item) error {
	b.saved = time.Now()
	d := b.part
	d.Worker, d.Final = b.options.Worker, final
	d.Items = slices.Clip(d.Items)
	for _, i := range slices.Sorted(maps.Keys(b.tries)) {
		d.Items = append(d.Items, b.tries[i])
	}
	d.Items = append(d.Items, begun...)
	return records.PutBatchPart(ctx, b.store, d, records.Part{Attempt: b.number, Execution: b.apart()})
}

// apart names the execution that parts are of, if there may have been others.
func (b *batch) apart() string {
	if b.in.Look {
		return b.part.Execution
	}
	return ""
}

func (b *batch) end(p records.Item) {
	p.Due, p.Tries = time.Time{}, nil
	b.ends[p.Index] = p
	b.part.Items = append(b.part.Items, p)
	b.options.Metrics.Item(context.Background(), b.in.Flow, b.in.Foreach, string(p.Outcome))
	delete(b.tries, p.Index)
}
