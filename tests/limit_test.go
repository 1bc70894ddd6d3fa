package tests

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"golang.org/x/sync/errgroup"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
	"github.com/stepwell-flows/stepwell/tests/testserver"
)

type limited struct {
	Name  string `param:"name" default:"any"`
	Hold  bool   `param:"hold"`
	Ended string
}

// box is what a limit protects. It knows who is in it.
type box struct {
	mu      sync.Mutex
	in      int
	most    int
	entered []string
	open    chan struct{} // closed when those who hold may leave
	full    chan struct{} // closed when as many as may be in it were
	size    int
}

func newBox(size int) *box {
	return &box{open: make(chan struct{}), full: make(chan struct{}), size: size}
}

func (b *box) enter(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.in++
	b.entered = append(b.entered, name)
	if b.most = max(b.most, b.in); b.most == b.size && b.in == b.size {
		select {
		case <-b.full:
		default:
			close(b.full)
		}
	}
}

func (b *box) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.in--
}

func (b *box) names() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.entered...)
}

func (b *box) count(name string) (n int) {
	for _, one := range b.names() {
		if one == name {
			n++
		}
	}
	return n
}

func (b *box) has(name string) func() bool {
	return func() bool { return slices.Contains(b.names(), name) }
}

// use is a step that is in the box, until all places are taken, or until it is let go.
func (b *box) use(ctx context.Context, s *limited) error {
	b.enter(s.Name)
	defer b.leave()
	wait := b.full
	if s.Hold {
		wait = b.open
	}
	select {
	case <-wait:
	case <-ctx.Done():
		return ctx.Err()
	}
	s.Ended = s.Name
	return nil
}

func limitedFlow(name, key string, b *box) *flow.Flow {
	return flow.New(name, flow.Step("use", b.use, policies.Limit{Key: key, Max: b.size}))
}

// limitKey is a key that no other test has.
func limitKey(t *testing.T) string {
	t.Helper()
	return strings.NewReplacer("/", ".", "#", ".").Replace(t.Name())
}

// startLimit starts the limit that checks and ends quickly; the runs find it there.
func startLimit(t *testing.T, r *rig, key string, check, idle time.Duration) {
	t.Helper()
	_, err := r.temporal.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: activities.LimitID(key), TaskQueue: activities.LimitQueue},
		activities.LimitType, activities.LimitInput{Key: key, Check: check, Idle: idle})
	require.NoError(t, err)
}

func (r *rig) begin(f *flow.Flow, name, hold string) *runs.Run {
	r.t.Helper()
	run, err := r.client.Start(r.t.Context(), f, stepwell.StartOptions{Params: map[string]string{"name": name, "hold": hold}})
	require.NoError(r.t, err)
	return run
}

// asked waits until the limit has the messages of a number of runs, all of them together.
func (r *rig) asked(key string, messages int) {
	r.t.Helper()
	eventually(r.t, "the limit got its messages", func() bool {
		n := 0
		for _, e := range r.limitHistory(key).GetEvents() {
			if e.GetWorkflowExecutionSignaledEventAttributes() != nil {
				n++
			}
		}
		return n >= messages
	})
}

func (r *rig) limitHistory(key string) *historypb.History {
	r.t.Helper()
	h := &historypb.History{}
	iter := r.temporal.GetWorkflowHistory(r.t.Context(), activities.LimitID(key), "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for iter.HasNext() {
		e, err := iter.Next()
		if err != nil {
			return h // it was not started yet
		}
		h.Events = append(h.Events, e)
	}
	return h
}

// Two flows share a key; their runs, on two workers, never have more than two tasks in the box, and do have two.
func TestLimitHoldsAcrossRunsFlowsAndWorkers(t *testing.T) {
	t.Parallel()
	b, key := newBox(2), limitKey(t)
	one, two := limitedFlow("LimitOneFlow", key, b), limitedFlow("LimitTwoFlow", key, b)
	r := newRig(t, t.TempDir(), one, two)
	w, err := stepwell.NewWorker(r.temporal, r.store, stepwell.WorkerOptions{TaskQueue: limitKey(t), Drain: 500 * time.Millisecond}, one, two)
	require.NoError(t, err)
	require.NoError(t, w.Start())
	t.Cleanup(w.Stop)

	var all []*runs.Run
	for range 5 {
		all = append(all, r.begin(one, "one", "false"), r.begin(two, "two", "false"))
	}
	for _, run := range all {
		run = r.wait(run)
		require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
		replay(t, "limited", r.history(run))
	}
	require.Equal(t, 2, b.most)
	require.Len(t, b.names(), 10)
	replay(t, "limit", r.limitHistory(key))
}

// The tasks get the one place in the order in which they asked, and each gets it as soon as the one before is done.
func TestLimitIsFirstInFirstOut(t *testing.T) {
	t.Parallel()
	b, key := newBox(1), limitKey(t)
	f := limitedFlow("LimitOrderFlow", key, b)
	r := newRig(t, t.TempDir(), f)
	all := []*runs.Run{r.begin(f, "0", "true")}
	eventually(t, "the first is in", b.has("0"))
	for i, name := range []string{"1", "2", "3", "4"} {
		all = append(all, r.begin(f, name, "true"))
		r.asked(key, i+2)
	}
	require.Equal(t, []string{"0"}, b.names())
	began := time.Now()
	close(b.open)
	for _, run := range all {
		require.Equal(t, records.StatusCompleted, r.wait(run).Status)
	}
	t.Logf("four turns took %s", time.Since(began))
	require.Equal(t, []string{"0", "1", "2", "3", "4"}, b.names())
	require.Equal(t, 1, b.most)
}

// A run that is terminated while its task runs cannot say so. The limit finds out.
func TestLimitTakesTheLeaseOfATerminatedRun(t *testing.T) {
	t.Parallel()
	b, key := newBox(1), limitKey(t)
	f := limitedFlow("LimitDeadFlow", key, b)
	r := newRig(t, t.TempDir(), f)
	startLimit(t, r, key, 100*time.Millisecond, time.Hour)
	holder := r.begin(f, "holder", "true")
	eventually(t, "the holder is in", b.has("holder"))
	dead := r.begin(f, "dead", "true")
	r.asked(key, 2)
	next := r.begin(f, "next", "false")
	r.asked(key, 3)
	require.NoError(t, r.temporal.TerminateWorkflow(t.Context(), dead.WorkflowID, "", "test"), "one that waits")
	require.NoError(t, r.temporal.TerminateWorkflow(t.Context(), holder.WorkflowID, "", "test"))
	require.Equal(t, records.StatusCompleted, r.wait(next).Status)
	require.Equal(t, []string{"holder", "next"}, b.names())
	replay(t, "limit-terminated", r.limitHistory(key))
}

// A run that is cancelled while it waits gives up its place in the queue at once, and one that is cancelled while its task
// runs gives back its lease.
func TestLimitForgetsACancelledRun(t *testing.T) {
	t.Parallel()
	b, key := newBox(1), limitKey(t)
	f := limitedFlow("LimitCancelFlow", key, b)
	r := newRig(t, t.TempDir(), f)
	startLimit(t, r, key, time.Hour, time.Hour) // it does not find out by itself
	holder := r.begin(f, "holder", "true")
	eventually(t, "the holder is in", b.has("holder"))
	waits := r.begin(f, "waits", "true")
	r.asked(key, 2)
	next := r.begin(f, "next", "true")
	r.asked(key, 3)
	last := r.begin(f, "last", "false")
	r.asked(key, 4)

	require.NoError(t, r.client.Cancel(t.Context(), f.Name(), waits.Run.Run))
	require.Equal(t, records.StatusCancelled, r.wait(waits).Status)
	r.asked(key, 5)
	require.NoError(t, r.client.Cancel(t.Context(), f.Name(), holder.Run.Run))
	require.Equal(t, records.StatusCancelled, r.wait(holder).Status)
	eventually(t, "the next is in", b.has("next"))
	close(b.open)
	require.Equal(t, records.StatusCompleted, r.wait(next).Status)
	require.Equal(t, records.StatusCompleted, r.wait(last).Status)
	require.Equal(t, []string{"holder", "next", "last"}, b.names())
	replay(t, "limited-cancelled", r.history(waits))
}

// A limit that nobody needs ends, and comes back when somebody does: with the same message that asks.
func TestLimitEndsWhenIdleAndComesBack(t *testing.T) {
	t.Parallel()
	b, key := newBox(1), limitKey(t)
	f := limitedFlow("LimitIdleFlow", key, b)
	r := newRig(t, t.TempDir(), f)
	startLimit(t, r, key, 20*time.Millisecond, 20*time.Millisecond)
	ended := func() bool {
		d, err := r.temporal.DescribeWorkflowExecution(t.Context(), activities.LimitID(key), "")
		return err == nil && d.GetWorkflowExecutionInfo().GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED
	}
	eventually(t, "the limit ended", ended)
	require.Equal(t, records.StatusCompleted, r.wait(r.begin(f, "a", "false")).Status)

	// Over and over, so that some requests come while it is about to end.
	require.NoError(t, r.temporal.TerminateWorkflow(t.Context(), activities.LimitID(key), "", "this one waits for five minutes"))
	for range 10 {
		if ended() {
			startLimit(t, r, key, time.Millisecond, time.Millisecond)
		}
		require.Equal(t, records.StatusCompleted, r.wait(r.begin(f, "b", "false")).Status)
	}
	require.Equal(t, 1, b.most)
	require.Len(t, b.names(), 11)
}

// fanFlow has as many items as it is told to, each with a turn in the box.
func fanFlow(name, key string, b *box) *flow.Flow {
	return flow.New(name,
		flow.Foreach("each", func(s *limitedFan) []int { return make([]int, s.Items) }, func(*limitedFan, int) {},
			flow.Step("use", func(_ context.Context, s *limitedFan) error {
				b.enter(s.Name)
				defer b.leave()
				<-b.open
				for b.count(s.Name) < s.Together {
					time.Sleep(time.Millisecond)
				}
				return nil
			}, policies.Limit{Key: key, Max: b.size}),
		).Join("join", func(_ context.Context, s *limitedFan, in flow.Inputs[limitedFan]) error {
			s.Joined = in.Len()
			return nil
		}))
}

type limitedFan struct {
	Name     string `param:"name"`
	Items    int    `param:"items"`
	Together int    `param:"together"` // how many are to have been in the box before one leaves
	Joined   int
}

// A large foreach, in a shard, takes all places there are. When another run comes, it is the next to have some: the large one has
// no more tasks in the queue than could run.
func TestLimitIsFairToRunsBesideALargeForeach(t *testing.T) {
	t.Parallel()
	b, key := newBox(3), limitKey(t)
	f := fanFlow("LimitFanFlow", key, b)
	r := newRig(t, "mem:", f)
	start := func(name, items, together string) *runs.Run {
		run, err := r.client.Start(t.Context(), f, stepwell.StartOptions{Params: map[string]string{"name": name, "items": items, "together": together}})
		require.NoError(t, err)
		return run
	}
	large := start("large", "250", "1")
	eventually(t, "the large foreach has all places", func() bool { return len(b.names()) == 3 })
	small := start("small", "3", "3")
	eventually(t, "the small one has asked for all that it wants", func() bool {
		tasks := map[string]bool{}
		for _, e := range r.limitHistory(key).GetEvents() {
			var m activities.LimitMessage
			if in := e.GetWorkflowExecutionSignaledEventAttributes().GetInput(); in != nil {
				require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(in, &m))
			}
			if m.Workflow == small.WorkflowID {
				for _, task := range m.Ask {
					tasks[task] = true
				}
			}
		}
		return len(tasks) == 3
	})
	close(b.open)
	small, large = r.wait(small), r.wait(large)
	require.Equal(t, records.StatusCompleted, small.Status, "%+v", small.Failure)
	require.Equal(t, records.StatusCompleted, large.Status, "%+v", large.Failure)
	require.Equal(t, 250, lastState[limitedFan](t, large, f).Joined)
	require.Equal(t, 3, b.most)
	names := b.names()
	require.Len(t, names, 253)
	require.Equal(t, []string{"large", "large", "large", "small", "small", "small"}, names[:6])
	replay(t, "limit-fan", r.limitHistory(key))
}

// A run that fails elsewhere does not wait for the turn of a task that it will not run.
func TestLimitDoesNotHoldUpARunThatFails(t *testing.T) {
	t.Parallel()
	b, key := newBox(1), limitKey(t)
	f := limitedFlow("LimitHolderFlow", key, b)
	fails := flow.New("LimitFailsFlow", flow.Branch("both",
		flow.Step("use", b.use, policies.Limit{Key: key, Max: 1}),
		flow.Step("fail", func(ctx context.Context, _ *limited) error {
			select {
			case <-b.full: // closed when the other arm has asked
			case <-ctx.Done():
			}
			return flow.Fail("no luck")
		}),
	).Join("join", func(context.Context, *limited, flow.Inputs[limited]) error { return nil }))
	r := newRig(t, t.TempDir(), f, fails)
	b.full = make(chan struct{})
	b.size = 0 // it is the test that closes full
	holder := r.begin(f, "holder", "true")
	eventually(t, "the holder is in", b.has("holder"))
	run := r.begin(fails, "fails", "false")
	r.asked(key, 2)
	close(b.full)
	ended := r.wait(run)
	require.Equal(t, records.StatusFailed, ended.Status)
	require.Equal(t, "no luck", ended.Failure.Message)
	close(b.open)
	require.Equal(t, records.StatusCompleted, r.wait(holder).Status)
	require.Equal(t, records.StatusCompleted, r.wait(r.begin(f, "next", "true")).Status)
	require.Equal(t, []string{"holder", "next"}, b.names())
}

// A limit with a long history leaves it behind, and its state not.
func TestLimitContinuesAsNew(t *testing.T) {
	t.Parallel()
	b, key := newBox(1), limitKey(t)
	f := limitedFlow("LimitLongFlow", key, b)
	r := newRig(t, t.TempDir(), f)
	startLimit(t, r, key, 100*time.Millisecond, time.Hour)
	holder := r.begin(f, "holder", "true")
	eventually(t, "the holder is in", b.has("holder"))
	next := r.begin(f, "next", "false")
	r.asked(key, 2)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var g errgroup.Group
	for range 8 {
		g.Go(func() error {
			var err error
			for ctx.Err() == nil && err == nil {
				err = r.temporal.SignalWorkflow(t.Context(), activities.LimitID(key), "", activities.LimitSignal, activities.LimitMessage{Key: key, Free: []string{"nobody"}})
			}
			return err
		})
	}
	eventually(t, "it left its history behind", func() bool {
		d, err := r.temporal.DescribeWorkflowExecution(t.Context(), activities.LimitID(key), "")
		e := d.GetWorkflowExecutionInfo()
		return err == nil && e.GetFirstRunId() != e.GetExecution().GetRunId()
	})
	stop()
	require.NoError(t, g.Wait())
	require.Equal(t, []string{"holder"}, b.names())
	close(b.open)
	require.Equal(t, records.StatusCompleted, r.wait(holder).Status)
	require.Equal(t, records.StatusCompleted, r.wait(next).Status)
	require.Equal(t, []string{"holder", "next"}, b.names())
	replay(t, "limit-continued", r.limitHistory(key))
}

// The workers of the run that needed a limit first may go; the others keep it.
func TestLimitSurvivesItsWorker(t *testing.T) {
	t.Parallel()
	b, key := newBox(1), limitKey(t)
	f := limitedFlow("LimitMovesFlow", key, b)
	r := newRig(t, t.TempDir(), f)
	holder := r.begin(f, "holder", "true")
	eventually(t, "the holder is in", b.has("holder"))
	next := r.begin(f, "next", "false")
	r.asked(key, 2)
	r.restart(f)
	close(b.open)
	require.Equal(t, records.StatusCompleted, r.wait(holder).Status)
	require.Equal(t, records.StatusCompleted, r.wait(next).Status)
}

// After a reset, a run that waited still waits, and one whose task ran does not stand in its own way: neither when the task's
// request is done again, nor when the history up to the reset has the grant.
func TestLimitKnowsARunThatWasReset(t *testing.T) {
	t.Parallel()
	for _, last := range []bool{false, true} {
		t.Run(map[bool]string{false: "before it asked", true: "after its turn came"}[last], func(t *testing.T) {
			t.Parallel()
			b, key := newBox(1), limitKey(t)
			f := limitedFlow("LimitResetFlow", key, b)
			r := newRig(t, t.TempDir(), f)
			startLimit(t, r, key, 100*time.Millisecond, time.Hour)
			holder := r.begin(f, "holder", "true")
			eventually(t, "the holder is in", b.has("holder"))
			waits := r.begin(f, "waits", "true")
			r.asked(key, 2)
			r.reset(waits, last)
			r.reset(holder, last)
			eventually(t, "the holder is in again", func() bool { return len(b.names()) == 2 })
			time.Sleep(500 * time.Millisecond) // the limit looks a few times
			require.Equal(t, []string{"holder", "holder"}, b.names())
			close(b.open)
			require.Equal(t, records.StatusCompleted, r.wait(holder).Status)
			require.Equal(t, records.StatusCompleted, r.wait(waits).Status)
			require.Equal(t, []string{"holder", "holder", "waits"}, b.names())
			replay(t, "limit-reset", r.limitHistory(key))
		})
	}
}

// reset resets a run to its first or last workflow task.
func (r *rig) reset(run *runs.Run, last bool) {
	r.t.Helper()
	var task int64
	eventually(r.t, "a workflow task is done", func() bool {
		for _, e := range r.history(run).GetEvents() {
			if (last || task == 0) && e.GetWorkflowTaskCompletedEventAttributes() != nil {
				task = e.GetEventId()
			}
		}
		return task > 0
	})
	_, err := r.temporal.WorkflowService().ResetWorkflowExecution(r.t.Context(), &workflowservice.ResetWorkflowExecutionRequest{
		Namespace: testserver.Get(r.t).Namespace, WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: run.WorkflowID},
		RequestId: run.WorkflowID, Reason: "test", WorkflowTaskFinishEventId: task,
	})
	require.NoError(r.t, err)
}
