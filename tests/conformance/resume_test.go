package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/cards"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

// told is the state of the cases of resume.
type told struct {
	IntParam int `param:"int_param" default:"123"`

	Data   string
	Origin string
}

// say sets the data to "start", or to "foo" in a resumed run, and fails in the first run if it is told to.
func say(fails bool) func(context.Context, *told) error {
	return func(ctx context.Context, s *told) error {
		s.Origin = flow.Current(ctx).Origin
		if s.Origin != "" {
			s.Data = "foo"
			return nil
		}
		s.Data = "start"
		if fails {
			return errors.New("not in the first run")
		}
		return nil
	}
}

func toldFlow(name, fails string) *flow.Flow {
	var nodes []flow.Node[told]
	for _, step := range words("start a end") {
		nodes = append(nodes, flow.Step(step, say(step == fails)))
	}
	return flow.New(name, nodes...)
}

// Metaflow's resume-start.
func TestResumeStart(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, w world) {
		f := toldFlow("ResumeStart", "start")
		origin := failed(t, w.run(t, f, options{params: map[string]string{"int_param": "456"}}))
		run := w.resume(t, f, origin, options{})
		require.Equal(t, told{IntParam: 456, Data: "foo", Origin: origin.Run.Run}, *final[told](t, run, f))
		require.Equal(t, origin.Run.Run, run.Origin)
		require.False(t, task(t, run, "start").Reused())
		require.Equal(t, origin.Params, run.Params)
	})
}

// Metaflow's resume-end.
func TestResumeEnd(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, w world) {
		f := toldFlow("ResumeEnd", "end")
		origin := failed(t, w.run(t, f, options{}))
		run := w.resume(t, f, origin, options{})
		require.Equal(t, "foo", final[told](t, run, f).Data)
		for _, step := range words("start a") {
			k := task(t, run, step)
			require.True(t, k.Reused())
			require.Equal(t, origin.Run.Run, k.Owner)
			require.Equal(t, record(t, origin, step), *k.Record)
			data, err := runs.Load[string](t.Context(), k, "Data")
			require.NoError(t, err)
			require.Equal(t, "start", data)
		}
		require.False(t, task(t, run, "end").Reused())
	})
}

// resumeNested fails the tasks that match, in the first run of the nested foreach, and resumes it.
func resumeNested(t *testing.T, match func(i flow.Info) bool) {
	t.Helper()
	t.Parallel()
	everywhere(t, func(t *testing.T, w world) {
		g, p := nestedForeach(), &plot{}
		f := g.build(p)
		p.failing(func(i flow.Info) bool { return i.Origin == "" && match(i) })
		origin := failed(t, w.run(t, f, options{}))
		_, ended := p.did(origin.Run.Run)
		run := w.resume(t, f, origin, options{})
		g.undisturbed(t, run, f)
		again, _ := p.did(run.Run.Run)
		require.Equal(t, times(1, slices.DeleteFunc(slices.Clone(g.trail), func(task string) bool { return ended[task] > 0 })), again)
	})
}

// Metaflow's resume-foreach-inner: all of the 36 fail.
func TestResumeForeachInner(t *testing.T) {
	resumeNested(t, func(i flow.Info) bool { return i.Step == "foreach_inner" })
}

// As resume-foreach-inner, but one item out of 36 fails: the others run once in all.
func TestResumeOneItem(t *testing.T) {
	resumeNested(t, func(i flow.Info) bool { return i.Task == "foreach_inner[1,1,3]" })
}

// Metaflow's resume-foreach-join.
func TestResumeForeachJoin(t *testing.T) {
	resumeNested(t, func(i flow.Info) bool { return strings.HasPrefix(i.Step, "foreach_join") })
}

// Metaflow's resume-foreach-split.
func TestResumeForeachSplit(t *testing.T) {
	resumeNested(t, func(i flow.Info) bool { return strings.HasPrefix(i.Step, "foreach_split") })
}

// Metaflow's resume-loop: turns 0 to 4 are reused, 5 to 9 run.
func TestResumeLoop(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, w world) {
		g, p := recursiveSwitch(), &plot{}
		f := g.build(p)
		p.failing(func(i flow.Info) bool { return i.Origin == "" && i.Task == "loop_step[5]" })
		origin := failed(t, w.run(t, f, options{}))
		require.Equal(t, "loop_step[5]", origin.Failure.Task)
		run := w.resume(t, f, origin, options{})
		g.undisturbed(t, run, f)
		require.Equal(t, 10, final[state](t, run, f).Count)
		again, _ := p.did(run.Run.Run)
		require.Equal(t, times(1, trail(each(10, "loop_step")[5:], words("exit_loop end"))), again)
		require.True(t, task(t, run, "loop_step[4]").Reused())
		require.False(t, task(t, run, "loop_step[5]").Reused())
	})
}

// Metaflow's resume-of-resume, with the origin named.
func TestResumeOfResume(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w world) {
		g, p := nestedForeach(), &plot{}
		f := g.build(p)
		p.failing(func(i flow.Info) bool { return i.Task == "foreach_inner[0,0,5]" || i.Task == "foreach_inner[2,1,0]" })
		first := failed(t, w.run(t, f, options{}))
		p.failing(func(i flow.Info) bool { return i.Task == "foreach_join_y[0]" })
		second := failed(t, w.resume(t, f, first, options{}))
		p.disturbing(nil)
		third := w.resume(t, f, second, options{})
		g.undisturbed(t, third, f)
		require.Equal(t, second.Run.Run, third.Origin)
		require.Equal(t, first.Run.Run, third.Root)

		calls := map[string]int{}
		for _, run := range []*runs.Run{first, second, third} {
			_, ended := p.did(run.Run.Run)
			for task, n := range ended {
				calls[task] += n
			}
		}
		require.Equal(t, times(1, g.trail), calls, "over all three runs, every task ended well once")
	})
}

// On the command line: the default origin, parameters, a resume of what succeeded, and what is refused.
func TestResumeOnTheCommandLine(t *testing.T) {
	t.Parallel()
	d := newDeployment(t)
	env := map[string]string{"STEPWELL_RUN_INT_PARAM": "789"}
	id := func(name string) string { return name + "-" + d.queue } // a run's id is its own on the whole server
	var broken atomic.Bool
	broken.Store(true)
	var ran atomic.Int32
	f := flow.New("ResumeCLI",
		flow.Step("start", func(_ context.Context, s *told) error { ran.Add(1); s.Data = "start"; return nil }),
		flow.Step("a", func(_ context.Context, s *told) error {
			ran.Add(1)
			if broken.Load() {
				return errors.New("broken")
			}
			s.Data = fmt.Sprint(s.IntParam)
			return nil
		}),
	)
	start := func(args ...string) (int, string) {
		t.Helper()
		return d.cli(t, f, env, append(args, "--task-queue", d.queue+"-0")...)
	}
	succeeds := func(args ...string) string {
		t.Helper()
		code, out := d.cli(t, f, env, args...)
		require.Equal(t, stepwell.ExitOK, code, out)
		return out
	}
	refused := func(want string, args ...string) {
		t.Helper()
		code, out := d.cli(t, f, env, args...)
		require.Equal(t, stepwell.ExitInput, code, out)
		require.Contains(t, out, want)
	}

	refused(`flow "ResumeCLI" has no run that did not succeed`, "resume", "ResumeCLI")
	code, out := start("run", "ResumeCLI", "--int_param", "456", "--run-id", id("first"))
	require.Equal(t, stepwell.ExitFailed, code, out)
	code, out = start("resume", "ResumeCLI", "--run-id", id("second"))
	require.Equal(t, stepwell.ExitFailed, code, out)
	require.Contains(t, out, "resume ResumeCLI/"+id("first"))

	refused("parameters can only change together with a step", "resume", "ResumeCLI", "--param", "int_param=5")
	refused(`run "nosuch"`, "resume", "ResumeCLI/nosuch")
	refused(`flow "ResumeCLI" has no step "nosuch" (it has start, a)`, "resume", "ResumeCLI", "--step", "nosuch")
	require.EqualValues(t, 3, ran.Load(), "a refused resume runs nothing")

	// A plan is Metaflow's --clone-only as far as it says what would be reused: it runs nothing, and starts nothing.
	out = succeeds("resume", "ResumeCLI", "--plan")
	require.Contains(t, out, "resume ResumeCLI/"+id("second"), "the default is the newest run that failed, a resumed one too; Metaflow's is the last that was no resume")
	require.EqualValues(t, 3, ran.Load())

	broken.Store(false)
	succeeds("resume", "ResumeCLI", "--run-id", id("third"), "--task-queue", d.queue+"-0")
	require.EqualValues(t, 4, ran.Load())
	require.Equal(t, "456", strings.TrimSpace(succeeds("dump", "ResumeCLI/"+id("third")+"/a", "Data")), "the environment does not change the parameters of a resume")

	refused("has no run that did not succeed, or that no resume completed", "resume", "ResumeCLI")
	succeeds("resume", "ResumeCLI/"+id("third"), "--run-id", id("fourth"), "--task-queue", d.queue+"-0")
	require.EqualValues(t, 4, ran.Load(), "a resume of a success runs nothing")
	require.Contains(t, succeeds("show", "ResumeCLI/"+id("fourth")), "completed")

	succeeds("resume", "ResumeCLI/"+id("third"), "--step", "a", "--param", "int_param=5", "--run-id", id("fifth"), "--task-queue", d.queue+"-0")
	require.Equal(t, "5", strings.TrimSpace(succeeds("dump", "ResumeCLI/"+id("fifth")+"/a", "Data")))
}

// Metaflow's resume-params: a new value is taken together with the step from which it counts; Metaflow takes none.
func TestResumeParams(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, w world) {
		f := toldFlow("ResumeParams", "end")
		origin := failed(t, w.run(t, f, options{params: map[string]string{"int_param": "456"}}))
		require.Equal(t, 456, final[told](t, w.resume(t, f, origin, options{}), f).IntParam)
		run := w.resume(t, f, origin, options{step: "a", params: map[string]string{"int_param": "7"}})
		require.Equal(t, 7, final[told](t, run, f).IntParam)
		require.Equal(t, "456", origin.Params["int_param"])
	})
}

// Metaflow's resume-success-noop.
func TestResumeSuccessNoop(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w world) {
		for _, g := range []graph{linear(), everythingNested(), batches()} {
			p := &plot{}
			f := g.build(p)
			origin := w.run(t, f, options{})
			run := w.resume(t, f, origin, options{})
			g.undisturbed(t, run, f)
			again, _ := p.did(run.Run.Run)
			require.Empty(t, again, g.name)
		}
	})
}

// What comes after the finished tasks may have changed: a step that is new in the items runs in all of them, and the steps before it
// do not, unless the items are in batches.
func TestResumeWithNewStep(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w world) {
		for _, how := range []flow.Fan{{}, {Batch: 2}} {
			p := &plot{}
			build := func(body ...flow.Node[state]) *flow.Flow {
				return flow.New("NewStep",
					p.step("start", nil),
					p.join(flow.Foreach("items", over("abcde"), bindX, body...).With(how), "join", made),
				)
			}
			p.failing(func(i flow.Info) bool { return i.Step == "join" })
			origin := failed(t, w.run(t, build(p.step("old", nil)), options{}))
			_, ended := p.did(origin.Run.Run)
			p.disturbing(nil)
			f := build(p.step("old", nil), p.step("new", func(s *state) { s.Made = s.X + "!" }))
			run := w.resume(t, f, origin, options{})
			g := graph{trail: trail(words("start"), each(5, "old", "new"), words("join")), results: words("a! b! c! d! e!")}
			g.undisturbed(t, run, f)
			again, _ := p.did(run.Run.Run)
			require.Equal(t, times(1, g.left(t, f, ended)), again)
		}
	})
}

// The items of a resumed run are those of its origin, even if the function that lists them would say otherwise by now.
func TestResumeKeepsTheItems(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w world) {
		var asked atomic.Int32
		p := &plot{}
		f := flow.New("KeepsItems",
			p.join(flow.Foreach("items", func(*state) []string {
				if asked.Add(1) > 1 {
					return words("other items and more of them")
				}
				return words("a b c d e")
			}, bindX, p.step("inner", func(s *state) { s.Made = s.X + "!" })), "join", made),
		)
		p.failing(func(i flow.Info) bool { return i.Task == "inner[3]" })
		origin := failed(t, w.run(t, f, options{}))
		p.disturbing(nil)
		run := w.resume(t, f, origin, options{})
		require.Equal(t, words("a! b! c! d! e!"), final[state](t, run, f).Results)
		require.EqualValues(t, 1, asked.Load())
		run = w.resume(t, f, run, options{step: "inner"})
		require.Equal(t, words("a! b! c! d! e!"), final[state](t, run, f).Results)
		require.EqualValues(t, 1, asked.Load(), "the step before the foreach did not run again")
	})
}

// Metaflow's resume-tags-cards: tags are not taken over; logs and cards of a reused task are those of its origin.
func TestResumeTagsAndCards(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, w world) {
		f := flow.New("ResumeCards",
			flow.Step("start", func(ctx context.Context, _ *told) error {
				flow.Log(ctx).Info("said in the first run")
				flow.Card(ctx).Append(cards.Markdown("shown in the first run"))
				return nil
			}, cards.Default()),
			flow.Step("end", say(true)),
		)
		origin := failed(t, w.run(t, f, options{tags: []string{"first"}}))
		run := completed(t, w.resume(t, f, origin, options{tags: []string{"second"}}))
		require.Equal(t, []string{"second"}, run.Tags)
		k := task(t, run, "start")
		require.True(t, k.Reused())
		logs, err := k.Logs(t.Context())
		require.NoError(t, err)
		require.Equal(t, "said in the first run", logs[0].Lines[0].Message)
		names, err := k.Cards(t.Context())
		require.NoError(t, err)
		require.Len(t, names, 1)
		page, err := k.Card(t.Context(), names[0])
		require.NoError(t, err)
		require.Contains(t, string(page), "shown in the first run")
		require.NotEqual(t, records.StatusCompleted, origin.Status, "the origin stays as it was")
	})
}
