package tests

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/log"
	"google.golang.org/grpc"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/artifacts/mem"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/tests/testserver"
	"github.com/stepwell-flows/stepwell/workflows"
)

// slowFlow has items that take long, compared to what it takes to hand them over.
func slowFlow(name string, items int, options ...flow.Option) *flow.Flow {
	type state struct{ Item, Sum int }
	return flow.New(name,
		flow.Foreach("items", func(*state) []int { return make([]int, items) }, func(s *state, i int) { s.Item = i },
			flow.Step("item", func(ctx context.Context, s *state) error {
				select {
				case <-ctx.Done():
				case <-time.After(800 * time.Millisecond):
				}
				s.Sum = 1
				return ctx.Err()
			}, options...),
		).Join("sum", func(_ context.Context, s *state, in flow.Inputs[state]) error {
			for _, one := range in.All() {
				s.Sum += one.Sum
			}
			return nil
		}),
	)
}

// underWay returns the most activities of a type that were under way at the same time.
func underWay(h *historypb.History, activityType string) (most int) {
	open, now := map[int64]bool{}, 0
	for _, e := range h.GetEvents() {
		switch e.GetEventType() {
		case enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
			if e.GetActivityTaskScheduledEventAttributes().GetActivityType().GetName() == activityType {
				open[e.GetEventId()] = true
				now++
			}
		case enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
			if open[e.GetActivityTaskCompletedEventAttributes().GetScheduledEventId()] {
				now--
			}
		default: // no activity begins or ends
		}
		most = max(most, now)
	}
	return most
}

// With known slots a foreach begins with as many items, and finds out how many more the workers can run: 16 at a time.
func TestWindowGrowsToWhatTheWorkersRun(t *testing.T) {
	t.Parallel()
	f := slowFlow("WindowFlow", 100)
	r := newRig(t, t.TempDir(), f)
	run := r.runWithin(f, "grows", workflows.Limits{Slots: 3})
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	h := r.history(run)
	most := underWay(h, "WindowFlow.item")
	require.GreaterOrEqual(t, most, 6, "it began with 3")
	require.LessOrEqual(t, most, 40, "what waits costs the server")
	replay(t, "window-v2", h)

	// A shard begins where one before it left off. The next one starts before it ends.
	run = r.runWithin(f, "shards", workflows.Limits{Slots: 3, Tasks: 10, Shard: 35, Shards: 1, Follow: true})
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	replay(t, "window-v2-shards", r.history(run))
	h = r.historyOf(workflows.ShardID(f.Name(), run.Run.Run, "items", nil, 70, 99))
	replay(t, "window-v2-shard", h)
	var in workflows.ShardInput
	input := h.GetEvents()[0].GetWorkflowExecutionStartedEventAttributes().GetInput()
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(input, &in))
	require.Greater(t, in.Width, 3)
}

// No more is under way than is known to be of use: attempts after the first do not tell, and the place of a limit is no worker's.
func TestWindowHearsThoseThatKnow(t *testing.T) {
	t.Parallel()
	type state struct{ Item int }
	flaky := flow.New("FlakyFlow",
		flow.Foreach("items", func(*state) []int { return make([]int, 60) }, func(s *state, i int) { s.Item = i },
			flow.Step("item", func(ctx context.Context, _ *state) error {
				if flow.Current(ctx).Attempt == 1 {
					return errors.New("at first")
				}
				return nil
			}, policies.Retry{MaximumAttempts: 2, InitialInterval: 10 * time.Millisecond, Jitter: policies.NoJitter}),
		).Join("all", func(context.Context, *state, flow.Inputs[state]) error { return nil }),
	)
	limited := slowFlow("LimitedWindowFlow", 40, policies.Limit{Key: "window", Max: 8})
	r := newRig(t, t.TempDir(), flaky, limited)
	run := r.runWithin(flaky, "flaky", workflows.Limits{Slots: 3})
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	require.Equal(t, 3, underWay(r.history(run), "FlakyFlow.item"))

	run = r.runWithin(limited, "limited", workflows.Limits{Slots: 3})
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	most := underWay(r.history(run), "LimitedWindowFlow.item")
	require.GreaterOrEqual(t, most, 4, "it began with 3")
	require.LessOrEqual(t, most, 8)
}

// The embedded server hands what fits the slots of its worker over with the answer to the workflow task, and no poll holds those slots.
func TestEmbeddedWorkerIsHandedStepsDirectly(t *testing.T) {
	t.Parallel()
	const items = 150
	var direct, polled, open, most atomic.Int64
	count := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, next grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		if q, ok := req.(*workflowservice.PollActivityTaskQueueRequest); ok && q.GetTaskQueue().GetName() == t.Name() {
			most.Store(max(most.Load(), open.Add(1)))
			defer open.Add(-1)
		}
		err := next(ctx, method, req, reply, cc, opts...)
		switch r := reply.(type) {
		case *workflowservice.RespondWorkflowTaskCompletedResponse:
			direct.Add(int64(len(r.GetActivityTasks())))
		case *workflowservice.PollActivityTaskQueueResponse:
			if len(r.GetTaskToken()) > 0 {
				polled.Add(1)
			}
		}
		return err
	}
	server := testserver.Get(t)
	c, err := client.DialContext(t.Context(), client.Options{
		HostPort: server.Address, Namespace: server.Namespace, Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler)),
		ConnectionOptions: client.ConnectionOptions{GetSystemInfoTimeout: time.Minute, DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(count)}},
	})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	store := artifacts.New(mem.New(), artifacts.Options{})
	type state struct{ Item int }
	f := flow.New("DirectFlow",
		flow.Foreach("items", func(*state) []int { return make([]int, items) }, func(s *state, i int) { s.Item = i },
			flow.Step("item", func(context.Context, *state) error { return nil }),
		).Join("all", func(context.Context, *state, flow.Inputs[state]) error { return nil }),
	)
	w, err := stepwell.NewWorker(c, store, stepwell.WorkerOptions{TaskQueue: t.Name(), Embedded: true, Drain: time.Second}, f)
	require.NoError(t, err)
	require.NoError(t, w.Start())
	t.Cleanup(w.Stop)
	ours := stepwell.NewClient(c, store, stepwell.ClientOptions{TaskQueue: t.Name(), Namespace: server.Namespace, Slots: stepwell.DefaultSlots()})
	run, err := ours.Start(t.Context(), f, stepwell.StartOptions{})
	require.NoError(t, err)
	run, err = ours.Wait(t.Context(), run.Flow, run.Run.Run)
	require.NoError(t, err)
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	t.Logf("%d handed over directly, %d polled", direct.Load(), polled.Load())
	require.GreaterOrEqual(t, direct.Load()+polled.Load(), int64(items))
	require.Greater(t, direct.Load(), polled.Load())
	require.EqualValues(t, 1, most.Load(), "polls at the same time")

	var in workflows.Input
	input := (&rig{t: t, temporal: c}).history(run).GetEvents()[0].GetWorkflowExecutionStartedEventAttributes().GetInput()
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(input, &in))
	require.Equal(t, 2, in.Version, "older workers refuse what has slots")
	require.Equal(t, 1, workflows.Limits{}.WithDefaults().Version(), "and nothing else")
}
