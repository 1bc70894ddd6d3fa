package workflows

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/workflow"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

// detailed is what the Web UI shows after do.
func detailed(t *testing.T, do func(ctx workflow.Context, r *run)) string {
	t.Helper()
	env := newEnv()
	env.SetStartTime(time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC))
	env.ExecuteWorkflow(func(ctx workflow.Context) (string, error) {
		r := newRun(ctx, "GridFlow", "1", policies.Defaults{}, nil, 0)
		do(ctx, r)
		return r.details.String(), nil
	})
	var text string
	require.NoError(t, env.GetWorkflowResult(&text))
	text, ok := strings.CutPrefix(text, "| step | state | done | failed | time |\n|---|---|---|---|---|\n")
	require.True(t, ok, text)
	return strings.TrimSpace(text)
}

func TestDetailsHaveARowForEachStep(t *testing.T) {
	t.Parallel()
	got := detailed(t, func(ctx workflow.Context, r *run) {
		r.show(ctx, "load", stateRunning, "")
		_ = workflow.Sleep(ctx, 2500*time.Millisecond)
		r.show(ctx, "load", stateCompleted, "attempt 2; before it RateLimited: 429 | `x` <b>")
		p := r.begins(&fan{n: &flow.PlanNode{Name: "grid"}, list: flow.List{Len: 12_000}})
		r.tell(ctx, p)
		for i := range 5 {
			r.show(ctx, fmt.Sprintf("fit[%d]", i), stateRunning, "")
		}
		_ = workflow.Sleep(ctx, time.Second)
		r.show(ctx, "fit[0]", stateCompleted, "")
		r.show(ctx, "fit[1]", stateFailed, "boom")
		r.show(ctx, "fit[2]", statePaused, "waits")
		r.show(ctx, "fit[3]", stateCaught, "")
		p.Completed, p.Failed = 1200, 1
		r.tell(ctx, p)
	})
	require.Equal(t, strings.TrimSpace(`
| load | completed: attempt 2; before it RateLimited: 429 \| 'x' &lt;b> |  |  | 2.5s |
| grid | running | 1,201 of 12,000 | 1 | since 12:00:02 UTC |
| fit | 1 running, 1 paused, 1 caught | 2 | 1 | since 12:00:02 UTC |
`), got)

	got = detailed(t, func(ctx workflow.Context, r *run) { // in a loop, a foreach begins again
		for turn := range 2 {
			p := r.begins(&fan{n: &flow.PlanNode{Name: "grid"}, x: flow.Index{turn}, list: flow.List{Len: 3}})
			r.tell(ctx, p)
			p.tally = &records.Tally{Completed: 2, Failed: 1}
			p.ended = true
			r.tell(ctx, p)
			_ = workflow.Sleep(ctx, time.Minute)
		}
		r.show(ctx, "once[0]", stateRunning, "")
		r.show(ctx, "once[0]", stateCompleted, "")
		r.show(ctx, "once[1]", stateRunning, "")
		r.show(ctx, "once[1]", stateCompleted, "")
	})
	require.Equal(t, strings.TrimSpace(`
| grid | ended | 6 of 6 | 2 | 1m0s |
| once | ended | 2 |  | 0s |
`), got)
}

// However many steps a run has, what the page is sent stays small, and what is under way is in it.
func TestDetailsStaySmall(t *testing.T) {
	t.Parallel()
	got := detailed(t, func(ctx workflow.Context, r *run) {
		r.show(ctx, "beside", stateRunning, "")
		for i := range 900 {
			r.show(ctx, fmt.Sprintf("step%d", i), stateRunning, "")
			r.show(ctx, fmt.Sprintf("step%d", i), stateCompleted, strings.Repeat("x", 1000))
		}
		r.show(ctx, "last", stateRunning, "")
	})
	require.Less(t, len(got), 20_000)
	lines := strings.Split(got, "\n")
	require.Equal(t, "| … | 852 before | | | |", lines[0])
	require.Equal(t, "| beside | running |  |  | since 12:00:00 UTC |", lines[1])
	require.Len(t, lines, maxShown+1)
	require.Contains(t, lines[maxShown], "| last | running |")

	got = detailed(t, func(ctx workflow.Context, r *run) { // arms of a branch
		for i := range 900 {
			r.show(ctx, fmt.Sprintf("arm%d", i), stateRunning, "")
		}
	})
	require.Less(t, len(got), 20_000)
	require.Contains(t, got, "| … | and 800 others | | | |")
}

// A shard tells of its own items, and of nothing within them.
func TestDetailsOfAShard(t *testing.T) {
	t.Parallel()
	require.Equal(t, "1,201 of 12,000 items done, 1 failed", told{items: 12_000, completed: 1200, failed: 1}.String())
	require.Equal(t, "0 of 1 items done", told{items: 1}.String())
	require.Empty(t, detailed(t, func(ctx workflow.Context, r *run) {
		r.quiet = true
		p := r.begins(&fan{n: &flow.PlanNode{Name: "grid"}, list: flow.List{Len: 3}})
		r.tell(ctx, p)
		r.show(ctx, "fit[0]", stateRunning, "")
	}))
}

func BenchmarkDetails(b *testing.B) {
	env := newEnv()
	env.ExecuteWorkflow(func(ctx workflow.Context) error {
		r := newRun(ctx, "GridFlow", "1", policies.Defaults{}, nil, 0)
		for i := range maxShown {
			r.show(ctx, fmt.Sprintf("step%d", i), stateCompleted, strings.Repeat("x", 100))
		}
		p := r.begins(&fan{n: &flow.PlanNode{Name: "grid"}, list: flow.List{Len: 1_000_000}})
		b.ReportAllocs()
		for b.Loop() {
			p.Completed++
			r.tell(ctx, p)
		}
		return nil
	})
}
