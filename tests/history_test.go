package tests

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/temporalproto"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/workflows"
)

var update = flag.Bool("update", false, "save the histories that package workflows replays")

// Runs of every kind replay, here and, from what -update saved, in every later version.
func TestHistoriesReplay(t *testing.T) {
	t.Parallel()
	type state struct{ Note string }
	step := func(name string, options ...flow.Option) flow.Node[state] {
		return flow.Step(name, func(ctx context.Context, s *state) error {
			s.Note += name
			if name == "flaky" && flow.Current(ctx).Attempt == 1 {
				return errors.New("once")
			}
			if strings.HasPrefix(name, "broken") {
				return errors.New("always")
			}
			return nil
		}, options...)
	}
	retry := policies.Retry{MaximumAttempts: 2, InitialInterval: 10 * time.Millisecond}
	catch := policies.Catch(func(_ context.Context, s *state, f *policies.Failure) error { s.Note += f.Message; return nil })

	completed := flow.New("CompletedFlow", step("first"), step("flaky", retry), step("broken", retry, catch), step("last"))
	failed := flow.New("FailedFlow", step("first"), step("broken", retry))
	waits := flow.New("CancelledFlow", step("first"), flow.Step("waits", func(ctx context.Context, _ *state) error {
		<-ctx.Done()
		return ctx.Err()
	}))
	r := newRig(t, t.TempDir(), completed, failed, waits)

	run := r.run(completed, nil)
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	replay(t, "completed", r.history(run))

	run = r.run(failed, nil)
	require.Equal(t, records.StatusFailed, run.Status)
	replay(t, "failed", r.history(run))

	run, _ = r.resume(failed, stepwell.ResumeOptions{})
	require.Equal(t, records.StatusFailed, run.Status)
	replay(t, "resumed", r.history(run))

	run, err := r.client.Start(t.Context(), waits, stepwell.StartOptions{})
	require.NoError(t, err)
	eventually(t, "the first step is done", func() bool {
		task, err := run.Task(t.Context(), "first")
		return err == nil && task.Record != nil
	})
	require.NoError(t, r.client.Cancel(t.Context(), waits.Name(), run.Run.Run))
	run = r.wait(run)
	require.Equal(t, records.StatusCancelled, run.Status)
	replay(t, "cancelled", r.history(run))
}

func replay(t *testing.T, name string, h *historypb.History) {
	t.Helper()
	workflowType := h.GetEvents()[0].GetWorkflowExecutionStartedEventAttributes().GetWorkflowType().GetName()
	r := worker.NewWorkflowReplayer()
	workflows.RegisterLimit(r)
	workflows.RegisterDependency(r)
	if workflowType != activities.LimitType && workflowType != activities.DependencyType {
		workflows.Register(r, strings.TrimSuffix(workflowType, ".shard"))
	}
	require.NoError(t, r.ReplayWorkflowHistory(log.NewStructuredLogger(slog.New(slog.DiscardHandler)), h), name)
	if !*update {
		return
	}
	b, err := temporalproto.CustomJSONMarshalOptions{Indent: " "}.Marshal(h)
	require.NoError(t, err)
	if host, err := os.Hostname(); err == nil {
		b = []byte(strings.ReplaceAll(string(b), "@"+host, "@host"))
	}
	require.NoError(t, os.MkdirAll("../workflows/testdata", 0o755))
	require.NoError(t, os.WriteFile(filepath.Join("../workflows/testdata", name+".json"), b, 0o644))
}

// Shapes in shapes, shards and batches, a run that was resumed in the middle of them all.
func TestHistoriesOfShapesReplay(t *testing.T) {
	t.Parallel()
	type state struct{ Item, Turn, Sum int }
	var broken atomic.Bool
	broken.Store(true)
	add := func(_ context.Context, s *state) error { s.Sum += s.Item + 1; return nil }
	sum := func(_ context.Context, s *state, in flow.Inputs[state]) error {
		for _, one := range in.All() {
			s.Sum += one.Sum
		}
		return nil
	}
	many := func(n int) func(*state) []int { return func(*state) []int { return make([]int, n) } }
	bind := func(s *state, i int) { s.Item = i }
	f := flow.New("ShapesFlow",
		flow.Loop("turns", func(s *state) bool { return s.Turn < 2 },
			flow.Step("turn", func(_ context.Context, s *state) error { s.Turn++; return nil }),
			flow.Branch("both",
				flow.Switch("odd", func(s *state) bool { return s.Turn%2 == 1 }, flow.Case(true, flow.Step("one", add))).Else(flow.Step("two", add)),
				flow.Foreach("few", many(3), bind, flow.Step("item", add)).Join("few_sum", sum),
			).Join("both_sum", sum),
		),
		flow.Foreach("many", many(210), bind, flow.Step("shard_item", func(ctx context.Context, s *state) error {
			if broken.Load() && flow.Current(ctx).Index[0] == 205 {
				return errors.New("not yet")
			}
			return add(ctx, s)
		})).Join("many_sum", sum),
		flow.Foreach("tiny", many(10), bind, flow.Step("batch_item", add)).With(flow.Fan{Batch: 4}).Join("tiny_sum", sum),
	)
	r := newRig(t, t.TempDir(), f)
	run := r.run(f, nil)
	require.Equal(t, records.StatusFailed, run.Status)
	require.Equal(t, "shard_item[205]", run.Failure.Task, "%+v", run.Failure)
	replay(t, "shapes-failed", r.history(run))

	broken.Store(false)
	run, _ = r.resume(f, stepwell.ResumeOptions{})
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	replay(t, "shapes-resumed", r.history(run))
	for name, id := range map[string]string{"shard-resumed": workflows.ShardID(f.Name(), run.Run.Run, "many", nil, 0, 209), "shard-batches": workflows.ShardID(f.Name(), run.Run.Run, "tiny", nil, 0, 9)} {
		replay(t, name, r.historyOf(id))
	}
	run = r.run(f, nil)
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	replay(t, "shapes-completed", r.history(run))
	replay(t, "shard-completed", r.historyOf(workflows.ShardID(f.Name(), run.Run.Run, "many", nil, 0, 209)))
}

// A run of so many steps that the server asks it to leave its history behind, twice.
func TestLongRunContinuesAsNew(t *testing.T) {
	t.Parallel()
	type state struct{ Sum int }
	var nodes []flow.Node[state]
	const steps = 900
	for i := range steps {
		nodes = append(nodes, flow.Step(fmt.Sprintf("s%d", i), func(_ context.Context, s *state) error { s.Sum += i; return nil }))
	}
	f := flow.New("LongFlow", nodes...)
	r := newRig(t, t.TempDir(), f)
	run := r.run(f, nil)
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	require.Equal(t, steps*(steps-1)/2, lastState[state](t, run, f).Sum)
	h := r.history(run)
	require.NotEmpty(t, h.GetEvents()[0].GetWorkflowExecutionStartedEventAttributes().GetContinuedExecutionRunId(), "it never continued as new")
	require.Less(t, len(h.GetEvents()), 4*steps)
	replay(t, "continued", h)
}

// A flow is a workflow: another one starts it as its child, with nothing but the plan and the parameters.
func TestFlowAsChildWorkflow(t *testing.T) {
	t.Parallel()
	f := chainFlow()
	r := newRig(t, t.TempDir(), f)
	queue := strings.ReplaceAll(t.Name(), "/", "-")
	parent := worker.New(r.temporal, queue+"-parent", worker.Options{})
	parent.RegisterWorkflowWithOptions(func(ctx workflow.Context) (workflows.Output, error) {
		params, err := f.ResolveParams(map[string]string{"factor": "4"}, nil)
		if err != nil {
			return workflows.Output{}, err
		}
		ctx = workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{TaskQueue: queue, WorkflowID: "child-of-mine"})
		var out workflows.Output
		err = workflow.ExecuteChildWorkflow(ctx, f.Name(), workflows.Input{Plan: f.Plan(), Params: params}).Get(ctx, &out)
		return out, err
	}, workflow.RegisterOptions{Name: "parent"})
	require.NoError(t, parent.Start())
	defer parent.Stop()
	w, err := r.temporal.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{TaskQueue: queue + "-parent"}, "parent")
	require.NoError(t, err)
	var out workflows.Output
	require.NoError(t, w.Get(t.Context(), &out))

	run, err := r.client.Runs().Find(t.Context(), f.Name()+"/latest")
	require.NoError(t, err)
	require.Equal(t, records.StatusCompleted, run.Status)
	require.Equal(t, "child-of-mine", run.WorkflowID)
	require.Equal(t, out.Last.Run, run.Run.Run)
	require.Equal(t, 4444, lastState[chain](t, run, f).Number)
}
