package workflows

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"
	"pgregory.net/rapid"

	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/policies"
)

// limitEnv runs the workflow of a limit on a skipped clock, with runs and a server that the test makes up.
type limitEnv struct {
	*testsuite.TestWorkflowEnvironment
	t testing.TB
	// told is what runs were told: "12s run/task".
	told []string
	// dead and reset are what the server says about run ids.
	dead  map[string]bool
	reset map[string]string
	// deaf is how many times runs cannot be told anything.
	deaf   int
	checks int
	// asked is called when a run is told to ask again.
	asked func(activities.Holder)
}

func newLimitEnv(t testing.TB) *limitEnv {
	t.Helper()
	e := &limitEnv{TestWorkflowEnvironment: newEnv(), t: t, dead: map[string]bool{}, reset: map[string]string{}}
	RegisterLimit(e)
	start := e.Now()
	e.RegisterActivityWithOptions(func(_ context.Context, grants []activities.LimitGrant) ([]activities.LimitFate, error) {
		if e.deaf > 0 {
			e.deaf--
			return nil, errors.New("deaf")
		}
		var fates []activities.LimitFate
		for _, g := range grants {
			require.Equal(t, "key", g.Key)
			if f := e.fate(g.Holder); f != nil {
				fates = append(fates, *f)
				continue
			}
			if len(g.Tasks) == 0 {
				e.asked(g.Holder)
			}
			for _, task := range g.Tasks {
				e.told = append(e.told, fmt.Sprintf("%s %s/%s", e.Now().Sub(start).Round(time.Second), g.Run, task))
			}
		}
		return fates, nil
	}, activity.RegisterOptions{Name: activities.GrantLimitType})
	e.RegisterActivityWithOptions(func(_ context.Context, holders []activities.Holder) ([]activities.LimitFate, error) {
		e.checks++
		var fates []activities.LimitFate
		for _, h := range holders {
			if f := e.fate(h); f != nil {
				fates = append(fates, *f)
			}
		}
		return fates, nil
	}, activity.RegisterOptions{Name: activities.CheckLimitType})
	return e
}

func (e *limitEnv) fate(h activities.Holder) *activities.LimitFate {
	if now, ok := e.reset[h.Run]; ok {
		return &activities.LimitFate{Holder: h, Now: now}
	}
	if e.dead[h.Run] {
		return &activities.LimitFate{Holder: h}
	}
	return nil
}

// at does something at a time after the start.
func (e *limitEnv) at(d time.Duration, f func()) { e.RegisterDelayedCallback(f, d) }

// send makes a run say something. A run's workflow has the run's id, and First too unless it was reset.
func (e *limitEnv) send(d time.Duration, m activities.LimitMessage) {
	m.Key = "key"
	if m.First == "" {
		m.First = m.Run
	}
	if m.Workflow == "" {
		m.Workflow = "flow/" + m.First
	}
	e.at(d, func() { e.SignalWorkflow(activities.LimitSignal, m) })
}

func (e *limitEnv) ask(d time.Duration, limit int, run string, tasks ...string) {
	e.send(d, activities.LimitMessage{Max: limit, Holder: activities.Holder{Run: run}, Ask: tasks})
}

// lease is what a run has that asked for a task.
func lease(run, task string) activities.Lease {
	return activities.Lease{Holder: activities.Holder{Workflow: "flow/" + run, Run: run}, First: run, Task: task}
}

func (e *limitEnv) free(d time.Duration, run string, tasks ...string) {
	e.send(d, activities.LimitMessage{Max: 1, Holder: activities.Holder{Run: run}, Free: tasks})
}

// run runs the limit to its end and returns when that was.
func (e *limitEnv) run(in LimitInput) time.Duration {
	e.t.Helper()
	in.Key = "key"
	start := e.Now()
	e.ExecuteWorkflow(activities.LimitType, in)
	require.True(e.t, e.IsWorkflowCompleted())
	return e.Now().Sub(start).Round(time.Second)
}

const second = time.Second

func TestLimitHandsOutPlacesInOrder(t *testing.T) {
	t.Parallel()
	e := newLimitEnv(t)
	e.ask(1*second, 2, "a", "1", "2", "3")
	e.ask(2*second, 2, "b", "1")
	e.ask(3*second, 2, "c", "1")
	e.free(4*second, "a", "2")
	e.free(5*second, "b", "1") // it waits no more
	e.free(6*second, "a", "1", "3")
	e.free(7*second, "a", "1", "unknown")
	e.ask(8*second, 2, "d", "1")
	e.free(9*second, "c", "1")
	e.free(10*second, "d", "1")
	end := e.run(LimitInput{})
	require.NoError(t, e.GetWorkflowError())
	require.Equal(t, []string{"1s a/1", "1s a/2", "4s a/3", "6s c/1", "8s d/1"}, e.told)
	require.Zero(t, e.checks, "nobody held anything for a minute")
	require.Equal(t, 6*time.Minute, end, "the first minute after five that were quiet")
}

func TestLimitFollowsTheLatestMax(t *testing.T) {
	t.Parallel()
	e := newLimitEnv(t)
	e.ask(1*second, 1, "a", "1", "2", "3")
	e.ask(2*second, 3, "b", "1") // raises it: two more of a
	e.ask(3*second, 1, "c", "1") // lowers it: nobody is stopped
	e.free(4*second, "a", "1")
	e.free(5*second, "a", "2")
	e.free(6*second, "a", "3")
	e.free(7*second, "b", "1")
	e.free(8*second, "c", "1")
	e.run(LimitInput{})
	require.NoError(t, e.GetWorkflowError())
	require.Equal(t, []string{"1s a/1", "2s a/2", "2s a/3", "6s b/1", "7s c/1"}, e.told)
}

// A message that comes twice, or again because the answer was lost, changes nothing.
func TestLimitTakesMessagesTwice(t *testing.T) {
	t.Parallel()
	e := newLimitEnv(t)
	e.ask(1*second, 1, "a", "1")
	e.ask(2*second, 1, "b", "1")
	e.ask(3*second, 1, "c", "1")
	e.ask(4*second, 1, "b", "1") // keeps its place
	e.ask(5*second, 1, "a", "1") // is told again
	e.free(6*second, "a", "1")
	e.free(6*second, "a", "1")
	e.free(7*second, "b", "1")
	e.free(8*second, "c", "1")
	e.run(LimitInput{})
	require.NoError(t, e.GetWorkflowError())
	require.Equal(t, []string{"1s a/1", "5s a/1", "6s b/1", "7s c/1"}, e.told)
}

// A run that ended without giving back what it held, and one that ended while it waited, are found out.
func TestLimitChecksThatHoldersAreAlive(t *testing.T) {
	t.Parallel()
	e := newLimitEnv(t)
	e.ask(1*second, 1, "a", "1")
	e.ask(2*second, 1, "b", "1")
	e.ask(3*second, 1, "c", "1")
	e.at(70*second, func() { e.dead["a"], e.dead["b"] = true, true })
	e.free(130*second, "c", "1")
	e.run(LimitInput{})
	require.NoError(t, e.GetWorkflowError())
	require.Equal(t, []string{"1s a/1", "2m0s c/1"}, e.told)
	require.Equal(t, 2, e.checks)
}

// A run that is found to have ended when its turn comes does not keep the next one waiting.
func TestLimitPassesOverTheDead(t *testing.T) {
	t.Parallel()
	e := newLimitEnv(t)
	e.ask(1*second, 1, "a", "1")
	e.ask(2*second, 1, "b", "1", "2")
	e.ask(3*second, 1, "c", "1")
	e.dead["b"] = true
	e.free(4*second, "a", "1")
	e.free(5*second, "c", "1")
	e.run(LimitInput{})
	require.NoError(t, e.GetWorkflowError())
	require.Equal(t, []string{"1s a/1", "4s c/1"}, e.told)
}

// A workflow that was reset has another run id. What it holds and waits for stays its own, under the old name, whether it asks
// again or not.
func TestLimitKnowsAWorkflowThatWasReset(t *testing.T) {
	t.Parallel()
	for _, asks := range []bool{false, true} {
		t.Run(fmt.Sprintf("asks again %v", asks), func(t *testing.T) {
			t.Parallel()
			e := newLimitEnv(t)
			e.ask(1*second, 1, "a", "1", "2")
			e.ask(2*second, 1, "b", "1")
			e.at(10*second, func() {
				if asks { // the server need not know where it went
					e.dead["a"] = true
				} else {
					e.reset["a"] = "a2"
				}
			})
			again := activities.LimitMessage{Max: 1, First: "a", Holder: activities.Holder{Run: "a2"}}
			want := []string{"1s a/1", "1m0s a2/1", "1m20s a2/2", "1m30s b/1"}
			if asks {
				asked := again
				asked.Ask = []string{"1", "2"}
				e.send(20*second, asked)
				want[1] = "20s a2/1"
			}
			again.Free = []string{"1"}
			e.send(80*second, again)
			again.Free = []string{"2"}
			e.send(90*second, again)
			e.free(100*second, "b", "1")
			e.run(LimitInput{})
			require.NoError(t, e.GetWorkflowError())
			require.Equal(t, want, e.told)
		})
	}
}

// What could not be told is told with the next message, or at the next look.
func TestLimitTellsAgain(t *testing.T) {
	t.Parallel()
	e := newLimitEnv(t)
	e.deaf = 5
	e.ask(1*second, 1, "a", "1")
	e.free(90*second, "a", "1")
	e.run(LimitInput{})
	require.NoError(t, e.GetWorkflowError())
	require.Equal(t, []string{"1m0s a/1"}, e.told)

	e = newLimitEnv(t)
	e.deaf = 5
	e.ask(1*second, 1, "a", "1")
	e.free(10*second, "a", "1") // it gave up
	e.ask(20*second, 1, "b", "1")
	e.free(30*second, "b", "1")
	e.run(LimitInput{})
	require.NoError(t, e.GetWorkflowError())
	require.Equal(t, []string{"20s b/1"}, e.told)
}

// The run that a workflow continues as has tasks of the same names, and so has a later run with the workflow's id.
func TestLimitTellsRunsOfOneWorkflowApart(t *testing.T) {
	t.Parallel()
	e := newLimitEnv(t)
	for i, run := range []string{"old", "new"} {
		m := activities.LimitMessage{Max: 2, Holder: activities.Holder{Workflow: "w", Run: run}, Ask: []string{"1"}}
		e.send(time.Duration(i+1)*second, m)
		m.Ask, m.Free = nil, m.Ask
		e.send(time.Duration(i+5)*second, m)
	}
	e.ask(3*second, 2, "next", "1")
	e.free(10*second, "next", "1")
	e.run(LimitInput{})
	require.NoError(t, e.GetWorkflowError())
	require.Equal(t, []string{"1s old/1", "2s new/1", "5s next/1"}, e.told)
}

func TestLimitContinuesAsNewWithItsState(t *testing.T) {
	t.Parallel()
	e := newLimitEnv(t)
	e.ask(1*second, 2, "a", "1", "2", "3")
	e.at(2*second, func() { e.SetContinueAsNewSuggested(true) })
	e.ask(2*second, 2, "b", "1")
	e.run(LimitInput{LimitInput: activities.LimitInput{Check: 2 * time.Minute, Idle: time.Hour}})
	in := e.continued()
	require.Equal(t, LimitInput{LimitInput: activities.LimitInput{
		Key: "key", Check: 2 * time.Minute, Idle: time.Hour, Max: 2,
		Held:    []activities.Lease{lease("a", "1"), lease("a", "2")},
		Waiting: []activities.Lease{lease("a", "3"), lease("b", "1")},
	}}, in)

	e = newLimitEnv(t)
	e.free(1*second, "a", "1")
	e.free(2*second, "a", "2")
	e.at(200*second, func() { e.dead["a"], e.dead["b"] = true, true })
	end := e.run(in)
	require.NoError(t, e.GetWorkflowError())
	require.Equal(t, []string{"1s a/3", "2s b/1"}, e.told)
	require.Equal(t, 2, e.checks)
	require.Equal(t, time.Hour+4*time.Minute, end)
}

// continued is the input that a limit continued as new with.
func (e *limitEnv) continued() LimitInput {
	e.t.Helper()
	var in LimitInput
	next(e.t, e.TestWorkflowEnvironment, &in)
	return in
}

// While a limit tries in vain to tell a holder, messages come. Neither they nor what it has to tell is lost when it continues as new.
func TestLimitContinuesAsNewWithWhatItCouldNotTell(t *testing.T) {
	t.Parallel()
	e := newLimitEnv(t)
	e.deaf = 100
	e.ask(1*second, 2, "a", "1")
	e.at(1*second, func() { e.SetContinueAsNewSuggested(true) })
	e.ask(1200*time.Millisecond, 2, "b", "1", "2")
	e.free(1400*time.Millisecond, "b", "1")
	e.ask(1500*time.Millisecond, 2, "a", "1") // once more
	e.run(LimitInput{})
	in := e.continued()
	require.Equal(t, []int{0, 1}, in.Untold)
	require.Equal(t, []activities.Lease{lease("a", "1"), lease("b", "2")}, in.Held)
	require.Empty(t, in.Waiting)
	require.Empty(t, e.told)

	e = newLimitEnv(t)
	e.free(1*second, "a", "1")
	e.free(2*second, "b", "2")
	e.run(in)
	require.NoError(t, e.GetWorkflowError())
	require.Equal(t, []string{"0s a/1", "0s b/2"}, e.told)
}

// The queue of a limit that continues as new fits into its input, however many wait. Each holder keeps the first of its own, and is told
// to ask again when those are through.
func TestLimitForgetsWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	var tasks []string
	for i := range maxAsked {
		tasks = append(tasks, fmt.Sprintf("step[%d]", i))
	}
	const runs = 120
	s := &semaphore{in: activities.LimitInput{Key: "key"}}
	id := func(i int) string { return fmt.Sprintf("%08d-1111-2222-3333-444455556666", i) }
	for i := range runs {
		s.receive(activities.LimitMessage{Max: 100, Holder: activities.Holder{Workflow: "flow/" + id(i), Run: id(i)}, First: id(i), Ask: tasks})
	}
	s.untold = nil
	in := s.handOn()
	require.Less(t, limitBytes(t, in), 1<<20)
	require.Equal(t, s.in.Held, in.Held)
	waiting := map[string]int{}
	for _, l := range in.Waiting {
		waiting[l.Run]++
	}
	require.Len(t, waiting, runs-1, "the first has places for all")
	for i := range runs {
		require.LessOrEqual(t, waiting[id(i)], maxAsked/2)
	}
	require.Len(t, in.Forgotten, runs-2, "of the second few wait")

	e := newLimitEnv(t)
	var again []string
	e.asked = func(h activities.Holder) { again = append(again, h.Run) }
	e.send(1*second, activities.LimitMessage{Holder: activities.Holder{Workflow: "flow/" + id(0), Run: id(0)}, First: id(0), Free: tasks})
	e.at(2*second, func() {
		require.Len(t, e.told, maxAsked)
		require.Equal(t, []string{id(2)}, again, "none of its own is left in the queue")
		e.CancelWorkflow()
	})
	e.run(in)

	s = &semaphore{in: in.LimitInput, forgotten: in.Forgotten}
	require.Equal(t, in, s.handOn(), "it fits")
	for i := range 6000 {
		l := activities.Lease{Holder: activities.Holder{Workflow: "flow/new", Run: strconv.Itoa(i)}, First: id(i), Task: "step"}
		s.in.Waiting = append(s.in.Waiting, l)
	}
	in = s.handOn()
	require.Less(t, limitBytes(t, in), 1<<20, "too many holders to know one task of each")
	require.Equal(t, s.in.Held, in.Held)
	require.Equal(t, s.in.Waiting[0], in.Waiting[0])
}

// Those that hold places are never left out. As many as there may be, with the longest names, fit into what the server takes.
func TestLimitKeepsAllThatHoldPlaces(t *testing.T) {
	t.Parallel()
	const most = 2000
	require.NoError(t, policies.NewSpec(nil, nil, nil).Limited(policies.Limit{Key: "k", Max: most}).Validate())
	require.Error(t, policies.NewSpec(nil, nil, nil).Limited(policies.Limit{Key: "k", Max: most + 1}).Validate())
	s := &semaphore{in: activities.LimitInput{Key: strings.Repeat("k", 128)}}
	long := strings.Repeat("w", 250)
	for i := range 3 * most {
		id := fmt.Sprintf("%08d-1111-2222-3333-444455556666", i)
		h := activities.Holder{Workflow: fmt.Sprintf("%s%05d", long, i), Run: id}
		s.receive(activities.LimitMessage{Max: most, Holder: h, First: id, Ask: []string{strings.Repeat("s", 128) + "[1000000,1000000,1000000,1000000]"}})
	}
	in := s.handOn()
	require.Equal(t, s.in.Held, in.Held)
	require.Len(t, in.Held, most)
	require.Len(t, in.Untold, most)
	require.Less(t, limitBytes(t, in), 2<<20)
}

func limitBytes(t *testing.T, in LimitInput) int {
	t.Helper()
	p, err := converter.GetDefaultDataConverter().ToPayloads(in)
	require.NoError(t, err)
	return len(p.GetPayloads()[0].GetData())
}

// Whatever the messages are and whoever dies: never more than Max hold, nobody holds or waits twice, those who wait hold places
// only when there are none free, and they come in the order in which they asked.
func TestSemaphoreInvariants(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 4).Draw(t, "Max")
		s := &semaphore{in: activities.LimitInput{Key: "key"}}
		names := rapid.SampledFrom([]string{"1", "2", "3", "4"})
		var queue []activities.Lease // the model: who asked and did not go, in order
		t.Repeat(map[string]func(*rapid.T){
			"message": func(t *rapid.T) {
				run := names.Draw(t, "run")
				m := activities.LimitMessage{Key: "key", Max: limit, First: run, Holder: activities.Holder{Workflow: run, Run: run}}
				m.Ask, m.Free = rapid.SliceOf(names).Draw(t, "ask"), rapid.SliceOf(names).Draw(t, "free")
				s.receive(m)
				for _, task := range m.Free {
					queue = slices.DeleteFunc(queue, func(l activities.Lease) bool { return l.Run == run && l.Task == task })
				}
				for _, task := range m.Ask {
					l := activities.Lease{Holder: m.Holder, First: run, Task: task}
					if !slices.Contains(queue, l) {
						queue = append(queue, l)
					}
				}
			},
			"death": func(t *rapid.T) {
				run := names.Draw(t, "run")
				s.bury([]activities.LimitFate{{Holder: activities.Holder{Workflow: run, Run: run}}})
				queue = slices.DeleteFunc(queue, func(l activities.Lease) bool { return l.Run == run })
			},
			"": func(t *rapid.T) {
				held := min(limit, len(queue))
				require.ElementsMatch(t, queue[:held], s.in.Held)
				require.Len(t, s.in.Waiting, len(queue)-held)
				if len(s.in.Waiting) > 0 {
					require.Equal(t, queue[held:], s.in.Waiting)
				}
			},
		})
	})
}
