package workflows

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

// run is one execution of the interpreter: of a whole run, or of a shard.
type run struct {
	flow, id    string
	info        *workflow.Info
	defaults    policies.Defaults
	limits      Limits
	maxParallel int
	permits     workflow.Semaphore // nil when there is no limit on tasks
	// activities and children are what this workflow may have under way at the server.
	activities, children workflow.Semaphore
	limiter              limiter
	// window is how many items run at the same time, nil if a limit says so.
	window *window
	// version is that of the input. In the first, the window heard otherwise, see [task.hear].
	version int
	// busy counts the tasks that the server has; in version 1, those that have entered.
	busy   int
	top    *scope
	shards []*shard // those that were started
	// failures are the names of the tasks that failed, in the order in which the workflow heard of it. Workers' clocks differ.
	failures []string
	// draining says that nothing starts any more, so that the workflow can continue as new.
	draining bool
	// details are what the Web UI shows; quiet says that there is one line instead, of a shard.
	details details
	quiet   bool
	fans    []*progress
	gates   []*gate // of the steps that have begun
	paused  []*paused
	// rungs is on which rung of their ladder steps begin.
	rungs map[string]int
	// caught counts the failures that were caught, since the run last continued as new.
	caught int
	// search names the search attributes that this workflow may set.
	search []string
	// failedSteps are the steps whose tasks failed for good, at most a few.
	failedSteps  []string
	markedPaused bool
	// wasReset says that the workflow was reset before it continued as new.
	wasReset bool
}

func newRun(ctx workflow.Context, flowName, id string, d policies.Defaults, l *Limits, maxParallel int) *run {
	var limits Limits
	if l != nil {
		limits = *l
	}
	r := &run{flow: flowName, id: id, info: workflow.GetInfo(ctx), defaults: d, limits: limits.WithDefaults(), maxParallel: maxParallel}
	r.top = &scope{r: r, strict: true, budget: r.limits.Tasks}
	if r.limits.Slots > 0 {
		r.window = newWindow(r.limits.Slots)
	}
	r.activities = workflow.NewSemaphore(ctx, int64(r.limits.Activities))
	r.children = workflow.NewSemaphore(ctx, int64(r.limits.Shards))
	if maxParallel > 0 {
		r.permits = workflow.NewSemaphore(ctx, int64(maxParallel))
	}
	return r
}

// errStopped says that a node stopped between two tasks: because something else failed, or for the workflow to continue as new.
var errStopped = errors.New("stopped")

// scope is a part of the run that can be told to start nothing further.
type scope struct {
	r      *run
	parent *scope
	// strict says that one failure within stops the scope.
	strict bool
	// finish says that failures do not stop it, however many.
	finish bool
	halted bool
	// budget is about how many tasks a foreach within may run in this workflow.
	budget int
	// tell is called when the scope is stopped by a failure. Only that of a whole shard has one.
	tell func(ctx workflow.Context)
}

// failed tells a scope and those around it of a failure within.
func (s *scope) failed(ctx workflow.Context) {
	for ; s != nil && s.strict; s = s.parent {
		if s.tell != nil && !s.halted {
			s.tell(ctx)
		}
		s.halt(ctx)
	}
}

// halt stops the scope, shards included.
func (s *scope) halt(ctx workflow.Context) {
	if s.halted {
		return
	}
	s.halted = true
	for _, sh := range s.r.shards {
		if sh.scope.within(s) {
			sh.halt(ctx)
		}
	}
}

func (s *scope) within(outer *scope) bool {
	for ; s != nil; s = s.parent {
		if s == outer {
			return true
		}
	}
	return false
}

func (s *scope) stopped() bool {
	for ; s != nil; s = s.parent {
		if s.halted {
			return true
		}
	}
	return false
}

// stop says why no further task may start, nil when one may.
func (r *run) stop(ctx workflow.Context, s *scope) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r.draining = r.draining || r.info.GetContinueAsNewSuggested()
	if r.draining || s.stopped() {
		return errStopped
	}
	return nil
}

// enter waits until one more may be under way that counts as so many tasks, and asks again whether it may start: that can take
// long. Release lets the next one in.
func (r *run) enter(ctx workflow.Context, s *scope, room workflow.Semaphore, tasks int64) (release func(), _ error) {
	if r.permits == nil {
		tasks = 0
	}
	if tasks > 0 {
		if err := r.permits.Acquire(ctx, tasks); err != nil {
			return nil, err
		}
	}
	err := room.Acquire(ctx, 1)
	if err == nil {
		if err = r.stop(ctx, s); err != nil {
			room.Release(1)
		}
	}
	if err != nil {
		if tasks > 0 {
			r.permits.Release(tasks)
		}
		return nil, err
	}
	return func() {
		room.Release(1)
		if tasks > 0 {
			r.permits.Release(tasks)
		}
	}, nil
}

// later is the reason why a part of the run came to no end: of two, the one that is no mere stop.
func later(was, err error) error {
	if was == nil || errors.Is(was, errStopped) {
		return err
	}
	return was
}

// goesOn says that a scope with too many failures has to run the rest when the workflow has continued as new.
func (r *run) goesOn(s *scope, stopped error) bool {
	return s.finish && r.draining && errors.Is(stopped, errStopped) && !s.stopped()
}

// node runs a node from where at stands to its end, and keeps at up to date.
func (r *run) node(ctx workflow.Context, s *scope, n *flow.PlanNode, x flow.Index, at *records.Cursor) error {
	switch n.Kind {
	case flow.KindStep, flow.KindDecide:
		return r.step(ctx, s, n, x, at, nil)
	case flow.KindSeq:
		return r.seq(ctx, s, n.Nodes, x, at)
	case flow.KindSwitch:
		d, ok := at.Ahead[n.Name]
		chosen := n.Chosen(d)
		if !ok || chosen < 0 {
			return undecided(n)
		}
		return r.inside(ctx, s, &n.Nodes[chosen], x, at)
	case flow.KindLoop:
		for {
			d, ok := at.Ahead[n.Name]
			if !ok {
				return undecided(n)
			}
			if !d.Again {
				return nil
			}
			if err := r.inside(ctx, s, &n.Nodes[0], records.Within(x, at.Next), at); err != nil {
				return err
			}
			at.Next++
		}
	case flow.KindBranch:
		return r.branch(ctx, s, n, x, at)
	case flow.KindForeach:
		return r.foreach(ctx, s, n, x, at)
	default:
		return permanent("the plan has a node of kind %q (upgrade this worker)", n.Kind)
	}
}

func undecided(n *flow.PlanNode) error {
	return permanent("nothing was decided about %s %q (does the worker have another version of the flow?)", n.Kind, n.Name)
}

func permanent(format string, args ...any) error {
	return &policies.Failure{Class: policies.Permanent, Message: fmt.Sprintf(format, args...)}
}

// seq runs nodes one after the other.
func (r *run) seq(ctx workflow.Context, s *scope, nodes []flow.PlanNode, x flow.Index, at *records.Cursor) error {
	for at.Next < len(nodes) {
		if err := r.inside(ctx, s, &nodes[at.Next], x, at); err != nil {
			return err
		}
		at.Next++
	}
	return nil
}

// inside runs a node within the one that at is the cursor of.
func (r *run) inside(ctx workflow.Context, s *scope, n *flow.PlanNode, x flow.Index, at *records.Cursor) error {
	if at.Inside == nil {
		at.Inside = at.Start()
	}
	if err := r.node(ctx, s, n, x, at.Inside); err != nil {
		return err
	}
	at.End(at.Inside)
	return nil
}

// branch runs its arms at the same time, then its join.
func (r *run) branch(ctx workflow.Context, s *scope, n *flow.PlanNode, x flow.Index, at *records.Cursor) error {
	if at.Parts == nil {
		for range n.Nodes {
			arm := at.Start()
			arm.Kept = nil // arms are few: the join reads their records
			at.Parts = append(at.Parts, arm)
		}
	}
	inner := &scope{r: r, parent: s, strict: true, budget: r.share(s.budget, len(n.Nodes))}
	err := r.parts(ctx, inner, at.Parts, func() int { return len(at.Parts) }, 0, func(ctx workflow.Context, i int) error {
		return r.node(ctx, inner, &n.Nodes[i], x, at.Parts[i])
	})
	if err != nil {
		return err
	}
	in := &activities.JoinInput{Len: len(at.Parts), Branch: true, Shape: n.Name, Parts: items(at.Parts, 0)}
	return r.step(ctx, s, n.Join, x, at, in)
}

// parts runs what has not ended of some parts, up to width at the same time. Up to tolerate of them may fail. It returns when all
// that was started has come to an end.
func (r *run) parts(ctx workflow.Context, s *scope, parts []*records.Cursor, width func() int, tolerate int, one func(ctx workflow.Context, i int) error) error {
	var (
		next, open, failures int
		stopped              error
		done                 = workflow.NewWaitGroup(ctx)
		start                func(ctx workflow.Context)
	)
	for _, p := range parts {
		if p.Outcome == records.Failed {
			failures++
			r.heard(p.Failure) // before the workflow continued as new
		}
	}
	start = func(ctx workflow.Context) {
		open++
		done.Add(1)
		workflow.Go(ctx, func(ctx workflow.Context) {
			defer done.Done()
			defer func() { open-- }()
			for next < len(parts) && open <= width() {
				i := next
				next++
				p := parts[i]
				if p.Outcome != "" {
					continue
				}
				if err := r.stop(ctx, s); err != nil {
					stopped = later(stopped, err)
					return
				}
				err := one(ctx, i)
				var failure *policies.Failure
				switch {
				case err == nil:
					p.Outcome = records.Completed
					if p.Caught {
						p.Outcome = records.Caught
					}
					p.Ahead, p.Bind, p.Caught, p.Next = nil, nil, false, 0
				case errors.As(err, &failure):
					r.heard(failure)
					*p = records.Cursor{Outcome: records.Failed, Failure: brief(failure, failures)}
					if failures++; failures > tolerate && !s.finish {
						s.halt(ctx)
						s.parent.failed(ctx)
					}
				case errors.Is(err, errStopped):
					stopped = later(stopped, err)
				default:
					stopped = later(stopped, err)
					s.halt(ctx)
					s.parent.failed(ctx)
					return
				}
				for r.window != nil && next < len(parts) && open < width() {
					start(ctx)
				}
			}
		})
	}
	for range min(width(), len(parts)) {
		start(ctx)
	}
	done.Wait(ctx)
	if err := ctx.Err(); err != nil {
		return err
	}
	if failures > tolerate && !r.goesOn(s, stopped) {
		t := r.tally(parts)
		return t.Err()
	}
	return stopped
}

// heard notes that a task failed.
func (r *run) heard(f *policies.Failure) {
	r.failedStep(f)
	if f != nil && !slices.Contains(r.failures, f.Task) {
		r.failures = append(r.failures, f.Task)
	}
}

// tally counts how parts ended. Its failure is the one that the workflow heard of first.
func (r *run) tally(parts []*records.Cursor) records.Tally {
	var t records.Tally
	for _, p := range parts {
		if p.Batch != nil {
			t.Merge(p.Batch.Tally)
		} else {
			t.Add(records.Item{Outcome: p.Outcome, Failure: p.Failure})
		}
	}
	first := -1
	for _, p := range parts {
		f := p.Failure
		if p.Batch != nil {
			f = p.Batch.Failure
		}
		if f == nil || p.Outcome != records.Failed && p.Batch == nil {
			continue
		}
		if rank := slices.Index(r.failures, f.Task); rank >= 0 && (first < 0 || rank < first) {
			first, t.Failure = rank, f
		}
	}
	return t
}

// brief is a failure that comes after some others, as the workflow keeps it: only the first ones are told at length, for all of
// them travel in one input.
func brief(f *policies.Failure, before int) *policies.Failure {
	const atLength = 20
	if f == nil || before < atLength {
		return f
	}
	short := *f
	short.Stack, short.Message = "", shorten(f.Message, 200)
	return &short
}

// items is how parts ended, for a join or a shard's document.
func items(parts []*records.Cursor, first int) []records.Item {
	out := make([]records.Item, len(parts))
	for i, p := range parts {
		out[i] = records.Item{Index: first + i, Outcome: p.Outcome}
		switch p.Outcome {
		case records.Completed, records.Caught:
			out[i].Ref = p.Last
			if p.Kept.Wanted() {
				out[i].Kept = p.Kept
			}
		case records.Failed:
			out[i].Failure = p.Failure
		case records.Lost, records.Cancelled, records.Skipped, records.Deferred: // no part ends like that
		}
	}
	return out
}

// step runs a step or a join and, when its attempts are spent, its catch function.
func (r *run) step(ctx workflow.Context, s *scope, n *flow.PlanNode, x flow.Index, at *records.Cursor, join *activities.JoinInput) error {
	if err := r.stop(ctx, s); err != nil {
		return err
	}
	t := &task{run: r, s: s, n: n, at: at, name: flow.TaskName(n.Name, x)}
	t.in = activities.StepInput{Flow: r.flow, Run: r.id, Step: n.Name, Index: x, From: at.Last, Bind: at.Bind, Join: join, Keep: at.Kept.Wanted(), LookBack: r.reset()}
	defer t.leave()
	res, err := t.try(ctx)
	if err == nil {
		return r.stepped(ctx, t.name, at, res)
	}
	failure, failed := errors.AsType[*policies.Failure](err)
	if !failed {
		return err
	}
	if !n.Policy.Catch {
		r.show(ctx, t.name, stateFailed, failure.Message)
		r.heard(failure)
		s.failed(ctx)
		return failure
	}

	t.in.Failure = failure
	r.show(ctx, t.name, stateCatching, failure.Message)
	o := n.Policy.CatchOptions(r.defaults)
	o.ActivityID, o.Summary = t.name+".catch", oneLine(fmt.Sprintf("catch %s: %s", failure.Class, failure.Message), maxSummary)
	res = activities.StepResult{}
	err = workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, o), activities.CatchType(r.flow, n.Name), t.in).Get(ctx, &res)
	if err == nil {
		return r.stepped(ctx, t.name, at, res)
	}
	caught := failure
	failure = r.failure(ctx, err, t.in)
	if failure.Class == policies.Cancelled || ctx.Err() != nil {
		r.show(ctx, t.name, stateCancelled, "")
		return temporal.NewCanceledError()
	}
	if failure.Attempt == 0 { // the server ended the catch activity: it is no attempt of the step
		failure.Attempt = max(caught.Attempt, 1)
		failure.Message = fmt.Sprintf("the catch function failed: %s; it was called for: %s", failure.Message, caught.Message)
	}
	r.show(ctx, t.name, stateFailed, failure.Message)
	r.heard(failure)
	s.failed(ctx)
	return failure
}

// stepped takes over what a task ended with. An attempt that was given up may have finished it before its failure was caught.
func (r *run) stepped(ctx workflow.Context, task string, at *records.Cursor, res activities.StepResult) error {
	*at = records.Cursor{Last: &res.Ref, Ahead: res.Ahead, Kept: at.Kept.Then(res.Kept, at.Last), Caught: res.Outcome == records.Caught || res.Outcome == records.Skipped}
	if at.Caught {
		r.caught++
	}
	text := ""
	if len(res.Earlier) > 0 {
		text = fmt.Sprintf("attempt %d; before it %s", res.Attempt, strings.Join(res.Earlier, "; "))
	}
	r.show(ctx, task, state(res.Outcome), text)
	return nil
}
