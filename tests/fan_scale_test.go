package tests

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
	"github.com/stepwell-flows/stepwell/workflows"
)

// What no workflow of a run may exceed: a fifth of what a server allows.
const (
	historyEvents = 10_000
	historyBytes  = 10 << 20
)

// crowd is the state of flows with a foreach in a loop in a foreach.
type crowd struct {
	Outer, Turn, Inner int
	Trail              []string // where the items have been, in order
}

func numbers(n int) func(*crowd) []int {
	return func(*crowd) []int {
		all := make([]int, n)
		for i := range all {
			all[i] = i
		}
		return all
	}
}

// gather is a join that appends the trails of its inputs.
func gather(_ context.Context, s *crowd, in flow.Inputs[crowd]) error {
	var trail []string
	for _, one := range in.All() {
		trail = append(trail, one.Trail...)
	}
	s.Trail = append(s.Trail, trail...)
	return nil
}

// crowdFlow has names that end in the suffix.
func crowdFlow(name, suffix string, outer, turns, inner int) *flow.Flow {
	return flow.New(name,
		flow.Foreach("outer"+suffix, numbers(outer), func(s *crowd, i int) { s.Outer, s.Turn, s.Trail = i, 0, nil },
			flow.Loop("turns"+suffix, func(s *crowd) bool { return s.Turn < turns },
				flow.Step("turn"+suffix, func(_ context.Context, s *crowd) error { s.Turn++; return nil }),
				flow.Foreach("inner"+suffix, numbers(inner), func(s *crowd, i int) { s.Inner, s.Trail = i, nil },
					flow.Step("item"+suffix, func(_ context.Context, s *crowd) error {
						s.Trail = append(s.Trail, fmt.Sprintf("%d.%d.%d", s.Outer, s.Turn, s.Inner))
						return nil
					}),
				).Join("gather"+suffix, gather),
			),
		).Join("all"+suffix, gather),
	)
}

// trails are those of a crowd, in order.
func trails(outer, turns, inner int) (all []string) {
	for i := range outer {
		for turn := range turns {
			for k := range inner {
				all = append(all, fmt.Sprintf("%d.%d.%d", i, turn+1, k))
			}
		}
	}
	return all
}

// runWithin runs a flow within limits.
func (r *rig) runWithin(f *flow.Flow, id string, l workflows.Limits) *runs.Run {
	r.t.Helper()
	ctx, workflowID := r.t.Context(), f.Name()+"/"+id
	w, err := r.temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: workflowID, TaskQueue: queueOf(r.t), WorkflowExecutionErrorWhenAlreadyStarted: true,
	}, f.Name(), workflows.Input{
		Version: workflows.InputVersion, Plan: f.Plan(), Run: id, Limits: &l,
	})
	require.NoError(r.t, err)
	require.NoError(r.t, w.Get(ctx, nil))
	run, err := r.client.Runs().Run(ctx, f.Name(), id)
	require.NoError(r.t, err)
	return run
}

// executions lists the workflows of a run, one for each time that it continued as new, and its shards. It checks what none of
// them may exceed.
func (r *rig) executions(run *runs.Run) []*workflowpb.WorkflowExecutionInfo {
	r.t.Helper()
	ctx := r.t.Context()
	var all []*workflowpb.WorkflowExecutionInfo
	eventually(r.t, "all workflows are listed", func() bool {
		before := len(all)
		all = nil
		for token := []byte(nil); ; {
			page, err := r.temporal.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{
				Query: fmt.Sprintf("WorkflowId = '%[1]s' OR WorkflowId STARTS_WITH '%[1]s/'", run.WorkflowID), NextPageToken: token,
			})
			require.NoError(r.t, err)
			all = append(all, page.GetExecutions()...)
			if token = page.GetNextPageToken(); len(token) == 0 {
				break
			}
		}
		return len(all) > 0 && len(all) == before && !slices.ContainsFunc(all, func(e *workflowpb.WorkflowExecutionInfo) bool {
			return e.GetCloseTime() == nil
		})
	})
	for _, e := range all {
		id := e.GetExecution().GetWorkflowId()
		require.LessOrEqual(r.t, len(id), 255, id)
		require.LessOrEqual(r.t, e.GetHistoryLength(), int64(historyEvents), id)
		require.LessOrEqual(r.t, e.GetHistorySizeBytes(), int64(historyBytes), id)
	}
	return all
}

// depth is how many workflows there are above another.
func depth(all []*workflowpb.WorkflowExecutionInfo, e *workflowpb.WorkflowExecutionInfo) int {
	if e.GetParentExecution().GetWorkflowId() == "" {
		return 0
	}
	for _, other := range all {
		if other.GetExecution().GetWorkflowId() == e.GetParentExecution().GetWorkflowId() {
			return 1 + depth(all, other)
		}
	}
	return 1
}

// A foreach in a loop in a foreach, cut into the smallest shards: shards of shards of shards, and ids too long to be told in full.
func TestShardsOfShards(t *testing.T) {
	t.Parallel()
	const outer, turns, inner = 5, 2, 9
	suffix := strings.Repeat("_", 58) // the longest legal names
	f := crowdFlow(strings.Repeat("F", 128), suffix, outer, turns, inner)
	require.NoError(t, f.Check())
	r := newRig(t, t.TempDir(), f)
	run := r.runWithin(f, strings.Repeat("r", 100), workflows.Limits{Tasks: 1, Shard: 2, Children: 2, Window: 1, Shards: 2})
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	require.Equal(t, trails(outer, turns, inner), lastState[crowd](t, run, f).Trail)

	all := r.executions(run)
	deepest := 0
	for _, e := range all {
		deepest = max(deepest, depth(all, e))
	}
	require.GreaterOrEqual(t, deepest, 6, "shards of shards of shards, in shards of shards of shards")
	require.Greater(t, len(all), outer*turns*inner/2, "no shard has more than two items")
}

// A run with more tasks than a history may have events leaves its history behind when the server suggests it, in the middle of
// a foreach, and loses nothing.
func TestForeachContinuesAsNew(t *testing.T) {
	t.Parallel()
	const turns, inner = 12, 150
	f := crowdFlow("LongFlow", "", 1, turns, inner)
	r := newRig(t, t.TempDir(), f)
	run := r.runWithin(f, "long", workflows.Limits{Tasks: 2 * inner})
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	require.Equal(t, trails(1, turns, inner), lastState[crowd](t, run, f).Trail)
	all := r.executions(run)
	require.GreaterOrEqual(t, len(all), 2, "turns of 150 activities with three events each, and the server suggests it at 4,096")
	for _, e := range all {
		require.Equal(t, run.WorkflowID, e.GetExecution().GetWorkflowId(), "there are no shards")
	}
}
