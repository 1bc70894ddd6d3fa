package conformance

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

// cross tests a property on every graph, everywhere.
func cross(t *testing.T, property func(t *testing.T, w world, g graph)) {
	t.Helper()
	t.Parallel()
	for _, g := range append(graphs(), ours()...) {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			everywhere(t, func(t *testing.T, w world) { property(t, w, g) })
		})
	}
}

// undisturbed checks that a run ended as the graph says, whatever happened on the way.
func (g graph) undisturbed(t *testing.T, run *runs.Run, f *flow.Flow) {
	t.Helper()
	s := final[state](t, run, f)
	require.Equal(t, g.trail, s.Trail)
	require.Equal(t, g.results, s.Results)
}

// times says that each of the tasks was called n times.
func times(n int, tasks []string) map[string]int {
	calls := map[string]int{}
	for _, task := range tasks {
		calls[task] = n
	}
	return calls
}

// steps are the steps of tasks, in order of first appearance.
func steps(tasks []string) []string {
	var all []string
	for _, task := range tasks {
		if step := stepOf(task); !slices.Contains(all, step) {
			all = append(all, step)
		}
	}
	return all
}

func stepOf(task string) string {
	step, _, err := flow.ParseTaskName(task)
	if err != nil {
		panic(err)
	}
	return step
}

func fixed(attempts int) policies.Retry {
	return policies.Retry{MaximumAttempts: attempts, InitialInterval: time.Millisecond, BackoffCoefficient: 1, Jitter: policies.NoJitter}
}

// Each graph runs the tasks that it says, once each, and the joins see their inputs in order.
func TestGraphs(t *testing.T) {
	cross(t, func(t *testing.T, w world, g graph) {
		p := &plot{}
		f := g.build(p)
		run := w.run(t, f, options{})
		g.undisturbed(t, run, f)
		begun, ended := p.did(run.Run.Run)
		require.Equal(t, times(1, g.trail), begun)
		require.Equal(t, begun, ended)
	})
}

// The first attempt of every task returns an error or panics: the graph ends like one that nothing happened to.
func TestRetryOnEveryGraph(t *testing.T) {
	cross(t, func(t *testing.T, w world, g graph) {
		p := &plot{policies: func(string, bool, policies.CatchPolicy) []flow.Option { return []flow.Option{fixed(2)} }}
		p.disturbing(func(_ context.Context, i flow.Info) error {
			switch {
			case i.Attempt > 1:
				return nil
			case len(i.Task)%2 == 0:
				panic(i.Task)
			default:
				return &plotError{i.Task}
			}
		})
		f := g.build(p)
		run := w.run(t, f, options{})
		g.undisturbed(t, run, f)
		begun, ended := p.did(run.Run.Run)
		require.Equal(t, times(2, g.trail), begun)
		require.Equal(t, times(1, g.trail), ended)
	})
}

// Every step but the joins fails for good and is caught; the catch functions do what the steps would have done.
func TestCatchOnEveryGraph(t *testing.T) {
	cross(t, func(t *testing.T, w world, g graph) {
		joins := map[string]bool{}
		p := &plot{policies: func(step string, join bool, catch policies.CatchPolicy) []flow.Option {
			joins[step] = join
			if join {
				return nil // a catch function has no inputs
			}
			return []flow.Option{fixed(2), catch}
		}}
		f := g.build(p)
		p.failing(func(i flow.Info) bool { return !joins[i.Step] })
		run := w.run(t, f, options{})
		g.undisturbed(t, run, f)
		begun, ended := p.did(run.Run.Run)
		for _, task := range g.trail {
			if joins[stepOf(task)] {
				require.Equal(t, 1, begun[task], task)
				require.Equal(t, 1, ended[task], task)
				continue
			}
			require.Equal(t, 2, begun[task], task)
			require.Zero(t, ended[task], task)
		}
	})
}

// Every join fails for good and is caught: the flow goes on from the state at the split.
func TestCaughtJoinOnEveryGraph(t *testing.T) {
	cross(t, func(t *testing.T, w world, g graph) {
		joins := map[string]bool{}
		p := &plot{policies: func(step string, join bool, catch policies.CatchPolicy) []flow.Option {
			joins[step] = join
			if join {
				return []flow.Option{catch}
			}
			return nil
		}}
		f := g.build(p)
		p.failing(func(i flow.Info) bool { return joins[i.Step] })
		run := w.run(t, f, options{})

		var want []string // what is on the way to the end without going through an arm or an item
		for _, task := range g.trail {
			if !slices.ContainsFunc(way(t, f.Plan(), task), func(h hop) bool {
				return (h.kind == flow.KindBranch || h.kind == flow.KindForeach) && !h.join
			}) {
				want = append(want, task)
			}
		}
		require.Equal(t, want, final[state](t, run, f).Trail)
	})
}

// The first attempt of one step of every graph does not come back in time.
func TestTimeoutOnEveryGraph(t *testing.T) {
	cross(t, func(t *testing.T, w world, g graph) {
		names := steps(g.trail)
		victim := names[len(names)/2] // within the innermost shape, of most graphs
		p := &plot{policies: func(step string, _ bool, _ policies.CatchPolicy) []flow.Option {
			if step == victim {
				return []flow.Option{policies.Timeout{Attempt: 100 * time.Millisecond}, fixed(20)}
			}
			return nil
		}}
		p.disturbing(func(ctx context.Context, i flow.Info) error {
			if i.Step == victim && i.Attempt == 1 {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		})
		f := g.build(p)
		run := w.run(t, f, options{})
		g.undisturbed(t, run, f)
		for _, task := range g.trail {
			if stepOf(task) != victim || g.name == "batches" { // whose items have no ledger of their own
				continue
			}
			all := attempts(t, run, task)
			require.GreaterOrEqual(t, len(all), 2, task)
			require.Equal(t, policies.TimedOut, all[0].Failure.Class)
			require.Equal(t, records.Completed, all[len(all)-1].Outcome)
		}
	})
}

// thorough says that a world is cheap enough to try everything in it.
func thorough(w world) bool {
	_, ok := w.(*simulation)
	return ok
}

// sample is all steps in the test environment, and the first, the last and one in the middle on the server.
func sample(w world, all []string) []string {
	if thorough(w) {
		return all
	}
	return []string{all[0], all[len(all)/2], all[len(all)-1]}
}

// For every step of every graph: all its tasks fail, or only the last of several, and the run fails with it. The resumed run
// ends like one that nothing happened to; the tasks that had finished do not run again, all others do, once.
func TestResumeAtEveryStep(t *testing.T) {
	cross(t, func(t *testing.T, w world, g graph) {
		p := &plot{policies: func(string, bool, policies.CatchPolicy) []flow.Option { return []flow.Option{fixed(2)} }}
		f := g.build(p)
		for _, step := range sample(w, steps(g.trail)) {
			tasks := slices.DeleteFunc(slices.Clone(g.trail), func(task string) bool { return stepOf(task) != step })
			g.resumeAfter(t, w, 2, p, f, tasks)
			if len(tasks) > 1 && thorough(w) {
				g.resumeAfter(t, w, 2, p, f, tasks[len(tasks)-1:])
			}
		}
	})
}

// resumeAfter fails tasks on so many attempts, and resumes.
func (g graph) resumeAfter(t *testing.T, w world, attempts int, p *plot, f *flow.Flow, tasks []string) {
	t.Helper()
	fails := func(task string) bool { return slices.Contains(tasks, task) }
	p.failing(func(i flow.Info) bool { return fails(i.Task) })
	origin := failed(t, w.run(t, f, options{}))
	require.Contains(t, tasks, origin.Failure.Task)
	require.Equal(t, origin.Failure.Task+" fails by the plot", origin.Failure.Message)
	begun, ended := p.did(origin.Run.Run)
	for _, task := range after(t, f.Plan(), g.trail, func(task string) bool { return fails(task) && begun[task] > 0 }) {
		require.Zero(t, ended[task], "%s follows what failed", task)
		if !fails(task) {
			require.Zero(t, begun[task], "%s follows what failed", task)
		}
	}
	require.Equal(t, attempts, begun[origin.Failure.Task], "attempts of %s", origin.Failure.Task)

	p.disturbing(nil)
	run := w.resume(t, f, origin, options{})
	g.undisturbed(t, run, f)
	again, _ := p.did(run.Run.Run)
	require.Equal(t, times(1, g.left(t, f, ended)), again, "after %v", tasks)
	require.Equal(t, origin.Run.Run, run.Origin)
}

// left are the tasks that a resume has to run.
func (g graph) left(t *testing.T, f *flow.Flow, ended map[string]int) []string {
	t.Helper()
	left := slices.DeleteFunc(slices.Clone(g.trail), func(task string) bool { return ended[task] > 0 })
	return whole(t, f.Plan(), g.trail, left)
}

// For every step of every graph: a run that is resumed from there runs this step and what follows, and nothing else. A step in a
// loop takes the whole loop with it.
func TestResumeFromEveryStep(t *testing.T) {
	cross(t, func(t *testing.T, w world, g graph) {
		p := &plot{}
		f := g.build(p)
		for _, step := range sample(w, steps(g.trail)) {
			g.resumeFrom(t, w, p, f, step)
		}
	})
}

// resumeFrom runs a graph to its end, unless that was done, and resumes it from a step.
func (g graph) resumeFrom(t *testing.T, w world, p *plot, f *flow.Flow, step string) {
	t.Helper()
	if p.origin == nil {
		p.origin = w.run(t, f, options{})
		g.undisturbed(t, p.origin, f)
	}
	run := w.resume(t, f, p.origin, options{step: step})
	g.undisturbed(t, run, f)
	again, _ := p.did(run.Run.Run)
	plan := f.Plan()
	first := slices.IndexFunc(g.trail, func(task string) bool { return stepOf(task) == step })
	from := way(t, plan, g.trail[first])
	want := slices.DeleteFunc(slices.Clone(g.trail), func(task string) bool { return !repeats(from, way(t, plan, task)) })
	require.Equal(t, times(1, whole(t, plan, g.trail, want)), again, "from %s", step)
}

// However wide a graph is, a run with a limit of two tasks runs no more than two at the same time.
func TestMaxParallelOnEveryGraph(t *testing.T) {
	cross(t, func(t *testing.T, w world, g graph) {
		var now, most atomic.Int32
		p := &plot{}
		p.disturbing(func(context.Context, flow.Info) error {
			n := now.Add(1)
			defer now.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			time.Sleep(time.Millisecond)
			return nil
		})
		f := g.build(p)
		g.undisturbed(t, w.run(t, f, options{maxParallel: 2}), f)
		require.LessOrEqual(t, most.Load(), int32(2))
	})
}

// A run is cancelled while a task in the middle runs. The task ends well, and the resumed run does not run it again. The test
// environment does not wait for tasks that are cancelled, so this is for the server alone.
func TestCancelOnEveryGraph(t *testing.T) {
	t.Parallel()
	for _, g := range append(graphs(), ours()...) {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			victim := g.trail[len(g.trail)/2]
			began, requested := make(chan struct{}), make(chan struct{})
			p := &plot{}
			p.disturbing(func(_ context.Context, i flow.Info) error {
				if i.Task == victim && i.Origin == "" {
					close(began)
					<-requested
				}
				return nil
			})
			f, d := g.build(p), newDeployment(t)
			started := d.start(t, f, options{})
			<-began
			require.NoError(t, d.client(t, f).Cancel(t.Context(), started.Flow, started.Run.Run))
			close(requested)
			origin := d.wait(t, f, started)
			require.Equal(t, records.StatusCancelled, origin.Status)
			require.Nil(t, origin.Failure)
			_, ended := p.did(origin.Run.Run)
			require.Equal(t, 1, ended[victim])
			require.Less(t, len(ended), len(g.trail))
			run := d.resume(t, f, origin, options{})
			g.undisturbed(t, run, f)
			again, _ := p.did(run.Run.Run)
			require.Equal(t, times(1, g.left(t, f, ended)), again)
		})
	}
}

// The history is left behind whenever it can be, after every task.
func TestContinueAsNewEverywhere(t *testing.T) {
	t.Parallel()
	for _, g := range append(graphs(), ours()...) {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			p := &plot{}
			f := g.build(p)
			workflows := 0
			run := flowtest.Run(t, f, flowtest.Options{Prepare: func(env *testsuite.TestWorkflowEnvironment) {
				workflows++
				env.SetOnActivityCompletedListener(func(*activity.Info, converter.EncodedValue, error) { env.SetContinueAsNewSuggested(true) })
			}})
			g.undisturbed(t, run, f)
			begun, _ := p.did(run.Run.Run)
			require.Equal(t, times(1, g.trail), begun)
			require.Greater(t, workflows, 1)
		})
	}
}
