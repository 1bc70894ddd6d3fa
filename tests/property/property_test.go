package property

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"
	"pgregory.net/rapid"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
	"github.com/stepwell-flows/stepwell/workflows"
)

const flowName = "RandomFlow"

// probe is what the functions of a flow do besides their work: they count their calls, and fail where they are told to.
type probe struct {
	mu     sync.Mutex
	crash  string            // a task, or the name of a shape whose function panics
	calls  map[string]int    // of the functions of tasks, not of their catch functions
	trails map[string]uint64 // that each task ended with
}

// called is the function of a step or a join.
func (p *probe) called(ctx context.Context, n *tree, s *state, work func(task string)) error {
	i := flow.Current(ctx)
	doomed := s.doomed(n, i.Task)
	work(i.Task)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls[i.Task]++
	switch {
	case p.crash == i.Task:
		return flow.Fail("crash")
	case doomed:
		return flow.Fail("doomed")
	case n.caught, n.flaky && i.Attempt == 1:
		return errors.New("no luck")
	}
	p.trails[i.Task] = s.Trail
	return nil
}

func (p *probe) caught(ctx context.Context, s *state, work func(task string)) error {
	task := flow.Current(ctx).Task
	work(task)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.crash == task {
		return flow.Fail("crash")
	}
	p.trails[task] = s.Trail
	return nil
}

// asked is the function of a shape.
func (p *probe) asked(shape string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.crash == shape {
		panic("crash")
	}
}

// subject is a random flow, and what it should come to.
type subject struct {
	testing.TB // for flowtest, with what matters taken from rapid
	t          *rapid.T
	tree       *tree
	probe      *probe
	flow       *flow.Flow
	store      *artifacts.Store
	want       *state
	plain      *evaluator
	nodes      map[string]*tree
	random     *rand.Rand
}

func newSubject(outer testing.TB, t *rapid.T) *subject {
	outer.Helper()
	s := &subject{TB: outer, t: t, probe: &probe{calls: map[string]int{}, trails: map[string]uint64{}}, want: &state{}, nodes: map[string]*tree{}}
	s.tree = drawTree(t)
	s.tree.walk(func(n *tree) {
		s.nodes[n.name] = n
		for _, kid := range n.kids {
			kid.walk(func(kid *tree) {
				kid.batched = kid.batched || n.fan.Batch > 0
				kid.tolerant = kid.tolerant || n.fan.Tolerate != flow.Tolerance{}
			})
		}
	})
	s.flow = flow.New(flowName, s.tree.nodes(s.probe)...)
	require.NoError(t, s.flow.Check())
	t.Log(s.tree)
	s.plain = &evaluator{trails: map[string]uint64{}, maybe: map[string]bool{}}
	require.True(t, s.plain.run(s.tree, s.want, nil))
	store, err := artifacts.Open(t.Context(), "mem:", artifacts.Options{})
	require.NoError(t, err)
	s.store = store
	s.random = rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
	return s
}

func (s *subject) Helper()                           { s.t.Helper() }
func (s *subject) Context() context.Context          { return s.t.Context() }
func (s *subject) Logf(format string, args ...any)   { s.t.Logf(format, args...) }
func (s *subject) Errorf(format string, args ...any) { s.t.Errorf(format, args...) }
func (s *subject) Fatalf(format string, args ...any) { s.t.Fatalf(format, args...) }
func (s *subject) Fatal(args ...any)                 { s.t.Fatal(args...) }
func (s *subject) FailNow()                          { s.t.FailNow() }

// options draws what must make no difference: how the work is spread over workflows, and when they leave their history behind.
func (s *subject) options() flowtest.Options {
	percent := rapid.SampledFrom([]int{0, 0, 10, 100}).Draw(s.t, "continue as new")
	limits := rapid.SampledFrom([]*workflows.Limits{
		nil, {Tasks: 2, Shard: 3}, {Tasks: 1, Shard: 1, Children: 2, Window: 1},
	}).Draw(s.t, "limits")
	parallel := rapid.SampledFrom([]int{0, 0, 1, 3}).Draw(s.t, "max parallel of the run")
	executions := 0
	return flowtest.Options{Store: s.store, Limits: limits, MaxParallel: parallel, Prepare: func(env *testsuite.TestWorkflowEnvironment) {
		executions++
		require.LessOrEqual(s.t, executions, 5*len(s.plain.tasks)+20, "it continues as new again and again")
		env.SetOnActivityCompletedListener(func(info *activity.Info, _ converter.EncodedValue, _ error) {
			// Not after the run's own bookkeeping: what it looked up is looked up again, which is no progress.
			if !strings.HasPrefix(info.ActivityType.Name, "stepwell.") && s.random.IntN(100) < percent {
				env.SetContinueAsNewSuggested(true)
			}
		})
	}}
}

// completed checks a run that has come to its end.
func (s *subject) completed(run *runs.Run) {
	s.Helper()
	require.Equal(s.t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	for _, task := range s.plain.tasks {
		trail, ended := s.probe.trails[task]
		require.True(s.t, ended || s.plain.maybe[task], "task %s did not run", task)
		if ended {
			require.Equal(s.t, s.plain.trails[task], trail, "what task %s came to", task)
		}
		delete(s.probe.trails, task)
	}
	require.Empty(s.t, s.probe.trails, "tasks that are not the flow's")
	last, err := run.Last(s.t.Context())
	require.NoError(s.t, err)
	got, err := runs.LoadState[state](s.t.Context(), last, s.flow)
	require.NoError(s.t, err)
	if len(got.Turns) == 0 && len(s.want.Turns) == 0 {
		got.Turns = s.want.Turns
	}
	require.Equal(s.t, s.want, got)
}

// finished lists the tasks of a run of which nothing may run again.
func (s *subject) finished(run *runs.Run) map[string]bool {
	s.Helper()
	ctx, done := s.t.Context(), map[string]bool{}
	type index struct {
		step string
		x    flow.Index
	}
	var all []index
	for _, task := range s.plain.tasks {
		step, x, err := flow.ParseTaskName(task)
		require.NoError(s.t, err)
		all = append(all, index{step, x})
		_, _, err = records.FindTask(ctx, s.store, flowName, run.Run.Run, step, x)
		if err == nil {
			done[task] = true
			continue
		}
		require.ErrorIs(s.t, err, artifacts.ErrNotFound)
	}
	for _, n := range s.nodes {
		if n.fan.Batch == 0 {
			continue
		}
		within := map[string]bool{}
		for _, kid := range n.kids {
			kid.walk(func(n *tree) { within[n.name] = true })
		}
		indexes, err := records.BatchIndexes(ctx, s.store, flowName, run.Run.Run, n.name)
		require.NoError(s.t, err)
		for _, x := range indexes {
			firsts, err := records.Batches(ctx, s.store, flowName, run.Run.Run, n.name, x)
			require.NoError(s.t, err)
			for _, first := range firsts {
				_, batch, err := records.FindBatch(ctx, s.store, flowName, run.Run.Run, n.name, x, first)
				require.NoError(s.t, err)
				for _, item := range batch.Items {
					for i, task := range all {
						if within[task.step] && len(task.x) > len(x) && task.x[:len(x)].Equal(x) && task.x[len(x)] == item.Index &&
							(item.Outcome == records.Completed || item.Outcome == records.Caught) {
							done[s.plain.tasks[i]] = true
						}
					}
				}
			}
		}
	}
	return done
}

// A random flow ends with the state that its steps, called one after the other, make, and each of its tasks runs once.
func TestShapes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := newSubject(t, rt)
		s.completed(flowtest.Run(s, s.flow, s.options()))
		for task, calls := range s.probe.calls {
			step, _, err := flow.ParseTaskName(task)
			require.NoError(rt, err)
			switch {
			case s.nodes[step].batched: // an item that fails begins anew
			case s.nodes[step].flaky && !s.plain.maybe[task]:
				require.Equal(rt, 2, calls, "calls of %s", task)
			case !s.nodes[step].flaky:
				require.Equal(rt, 1, calls, "calls of %s", task)
			}
		}
	})
}

// However often a random flow fails, wherever it does, and is resumed, it ends with the same state as undisturbed, and the
// function of a task that has a record is never called again.
func TestCrashes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := newSubject(t, rt)
		var points []string
		for _, task := range s.plain.tasks {
			if step, _, _ := flow.ParseTaskName(task); !s.nodes[step].tolerant {
				points = append(points, task)
			}
		}
		for name, n := range s.nodes {
			if name != "" && n.kind != flow.KindStep && n.kind != flow.KindBranch && !n.tolerant {
				points = append(points, name)
			}
		}
		slices.Sort(points)
		if len(points) == 0 {
			return
		}
		var run *runs.Run
		done := map[string]bool{}
		for n := rapid.IntRange(1, 4).Draw(rt, "crashes"); ; n-- {
			s.probe.crash = ""
			if n > 0 {
				s.probe.crash = rapid.SampledFrom(points).Draw(rt, "crash")
			}
			before := maps.Clone(s.probe.calls)
			if run == nil {
				run = flowtest.Run(s, s.flow, s.options())
			} else {
				run = flowtest.Resume(s, s.flow, run, s.options())
			}
			for task := range done {
				require.Equal(rt, before[task], s.probe.calls[task], "calls of %s, which was finished before", task)
			}
			if run.Status == records.StatusCompleted {
				break
			}
			require.NotEmpty(rt, s.probe.crash, "run %s failed without a crash: %+v", run.Run.Run, run.Failure)
			require.Contains(rt, run.Failure.Message, "crash", "%+v", run.Failure)
			maps.Copy(done, s.finished(run))
		}
		s.completed(run)
	})
}
