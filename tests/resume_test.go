package tests

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

// broken is a file that makes a step of ChainFlow fail until it is mended.
type broken string

func newBroken(t testing.TB) broken {
	t.Helper()
	b := broken(filepath.Join(t.TempDir(), "broken"))
	require.NoError(t, os.WriteFile(string(b), nil, 0o600))
	return b
}

func (b broken) mend(t testing.TB) {
	t.Helper()
	require.NoError(t, os.Remove(string(b)))
}

// failAt runs ChainFlow until it fails at a step, and mends what made it fail.
func failAt(t testing.TB, r *rig, step string) (*runs.Run, journal) {
	t.Helper()
	j, b := newJournal(t), newBroken(t)
	run := r.run(chainFlow(), map[string]string{"journal": string(j), "fail_at": step, "fail_while": string(b)})
	require.Equal(t, records.StatusFailed, run.Status)
	require.Equal(t, step, run.Failure.Step)
	b.mend(t)
	return run, j
}

func TestResumeRunsOnlyWhatIsLeft(t *testing.T) {
	t.Parallel()
	r := newRig(t, t.TempDir(), chainFlow())
	origin, j := failAt(t, r, "c")

	run, plan := r.resume(chainFlow(), stepwell.ResumeOptions{Tags: []string{"second-try"}})
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	require.Equal(t, []string{"ChainFlow.c", "ChainFlow.d"}, r.scheduled(run), "activities in the new run's history")
	require.Equal(t, []string{"a", "b", "c", "d"}, lastState[chain](t, run, chainFlow()).Trail)
	require.Equal(t, origin.Run.Run, run.Origin)
	require.Equal(t, origin.Run.Run, run.Root)
	require.Equal(t, []string{"second-try"}, run.Tags)
	for _, step := range []string{"a", "b"} {
		require.Equal(t, digests(t, origin, step), digests(t, run, step))
		task, err := run.Task(t.Context(), step)
		require.NoError(t, err)
		require.True(t, task.Reused())
		require.Equal(t, origin.Run.Run, task.Owner)
		require.Equal(t, 1, j.count(origin.Run.Run+":"+step+":"))
		require.Zero(t, j.count(run.Run.Run+":"+step+":"))
	}
	require.Equal(t, []string{"reuse a", "reuse b", "run c", "run d"}, planLines(plan))
	require.Contains(t, plan.Steps[2].Why, "c was told to fail")
	require.Equal(t, `follows "c"`, plan.Steps[3].Why)

	// The key of a call that the step makes is the same in both runs, so the call is not made twice.
	require.Equal(t, idempotencyKey(j, origin, "c"), idempotencyKey(j, run, "c"))
	require.NotEqual(t, idempotencyKey(j, run, "c"), idempotencyKey(j, run, "d"))
}

func idempotencyKey(j journal, run *runs.Run, step string) string {
	for _, line := range j.lines() {
		if parts := strings.Split(line, ":"); parts[0] == run.Run.Run && parts[1] == step {
			return parts[3]
		}
	}
	return "no line of " + run.Run.Run + " " + step
}

func planLines(p *stepwell.ResumePlan) []string {
	var lines []string
	for _, s := range p.Steps {
		what := "run "
		if s.Reuse {
			what = "reuse "
		}
		lines = append(lines, what+s.Step)
	}
	return lines
}

func TestResumeOfAResume(t *testing.T) {
	t.Parallel()
	r := newRig(t, t.TempDir(), chainFlow())
	j, b := newJournal(t), newBroken(t)
	params := map[string]string{"journal": string(j), "fail_at": "d", "fail_while": string(b)}
	first := r.run(chainFlow(), params)
	second, _ := r.resume(chainFlow(), stepwell.ResumeOptions{})
	require.Equal(t, records.StatusFailed, second.Status)
	b.mend(t)

	// Without a name, the newest run that did not succeed is the origin, a resumed run as well.
	third, plan := r.resume(chainFlow(), stepwell.ResumeOptions{})
	require.Equal(t, records.StatusCompleted, third.Status)
	require.Equal(t, second.Run.Run, plan.Origin)
	require.Equal(t, first.Run.Run, third.Root)
	require.Equal(t, []string{"ChainFlow.d"}, r.scheduled(third))
	require.Equal(t, []string{"a", "b", "c", "d"}, lastState[chain](t, third, chainFlow()).Trail)
	require.Equal(t, idempotencyKey(j, first, "d"), idempotencyKey(j, third, "d"))
	require.Equal(t, 1, j.count(first.Run.Run+":a:"))
	require.Len(t, j.lines(), 6)

	_, err := r.client.PlanResume(t.Context(), chainFlow(), stepwell.ResumeOptions{Origin: third.Run.Run})
	require.NoError(t, err, "a run that succeeded can be named; there is nothing left to run")
	again, _ := r.resume(chainFlow(), stepwell.ResumeOptions{Origin: third.Run.Run})
	require.Equal(t, records.StatusCompleted, again.Status)
	require.Empty(t, r.scheduled(again))
	require.Equal(t, []string{"a", "b", "c", "d"}, lastState[chain](t, again, chainFlow()).Trail)
}

func TestResumeFromAStep(t *testing.T) {
	t.Parallel()
	r := newRig(t, t.TempDir(), chainFlow())
	origin := r.run(chainFlow(), map[string]string{"factor": "2"})
	require.Equal(t, 2222, lastState[chain](t, origin, chainFlow()).Number)

	run, plan := r.resume(chainFlow(), stepwell.ResumeOptions{Origin: origin.Run.Run, Step: "c"})
	require.Equal(t, []string{"reuse a", "reuse b", "run c", "run d"}, planLines(plan))
	require.Equal(t, []string{"ChainFlow.c", "ChainFlow.d"}, r.scheduled(run))
	require.Equal(t, 2222, lastState[chain](t, run, chainFlow()).Number)

	run, plan = r.resume(chainFlow(), stepwell.ResumeOptions{Origin: origin.Run.Run, Step: "d", Params: map[string]string{"factor": "3"}})
	require.Equal(t, map[string]string{"factor": "3"}, plan.Params)
	require.Equal(t, 2223, lastState[chain](t, run, chainFlow()).Number, "what was reused was computed with the old value")
	require.Equal(t, "3", run.Params["factor"])
	require.Equal(t, "2", origin.Params["factor"])
}

func TestResumeRefuses(t *testing.T) {
	t.Parallel()
	r := newRig(t, t.TempDir(), chainFlow())
	_, err := r.client.PlanResume(t.Context(), chainFlow(), stepwell.ResumeOptions{})
	require.ErrorIs(t, err, stepwell.ErrInput)
	require.ErrorContains(t, err, `flow "ChainFlow" has no run that did not succeed`)
	origin, _ := failAt(t, r, "c")

	for name, test := range map[string]struct {
		o    stepwell.ResumeOptions
		want []string
	}{
		"unknown run":             {stepwell.ResumeOptions{Origin: "nosuch"}, []string{`run "nosuch"`}},
		"run id that is a path":   {stepwell.ResumeOptions{Origin: "../../etc"}, []string{`run id "../../etc" is not allowed`}},
		"unknown step":            {stepwell.ResumeOptions{Step: "nosuch"}, []string{`no step "nosuch"`, "a, b, c, d"}},
		"params without a step":   {stepwell.ResumeOptions{Params: map[string]string{"factor": "2"}}, []string{"--step"}},
		"unknown param":           {stepwell.ResumeOptions{Step: "a", Params: map[string]string{"nosuch": "2"}}, []string{`no parameter "nosuch"`}},
		"ill-typed param":         {stepwell.ResumeOptions{Step: "a", Params: map[string]string{"factor": "two"}}, []string{`"two"`}},
		"a task for a step":       {stepwell.ResumeOptions{Step: "b[3]"}, []string{`"b[3]" is a task (write --step b to run all tasks`}},
		"everything at once":      {stepwell.ResumeOptions{Step: "x", Origin: "a/b", RunID: "c/d", Tags: []string{""}}, []string{`"x"`, `"a/b"`, `"c/d"`, "tag"}},
		"a plan that has changed": {stepwell.ResumeOptions{Token: "000000000000"}, []string{"changed since token"}},
	} {
		_, _, err := r.client.Resume(t.Context(), chainFlow(), test.o)
		require.ErrorIs(t, err, stepwell.ErrInput, name)
		for _, want := range test.want {
			require.ErrorContains(t, err, want, name)
		}
	}
	ids := 0
	for _, err := range r.client.Runs().Runs(t.Context(), "ChainFlow") {
		require.NoError(t, err)
		ids++
	}
	require.Equal(t, 1, ids, "a refused resume starts and writes nothing")

	plan, err := r.client.PlanResume(t.Context(), chainFlow(), stepwell.ResumeOptions{Origin: origin.Run.Run})
	require.NoError(t, err)
	run, _ := r.resume(chainFlow(), stepwell.ResumeOptions{Origin: origin.Run.Run, Token: plan.Token})
	require.Equal(t, records.StatusCompleted, run.Status)
}

// The graph changed since the origin ran.
func TestResumeOfAChangedGraph(t *testing.T) {
	t.Parallel()
	r := newRig(t, t.TempDir(), chainFlow())
	origin, _ := failAt(t, r, "c")
	plan := func(f *flow.Flow, o stepwell.ResumeOptions) ([]string, error) {
		o.Origin = origin.Run.Run
		p, err := r.client.PlanResume(t.Context(), f, o)
		if err != nil {
			return nil, err
		}
		return planLines(p), nil
	}

	lines, err := plan(flow.New("ChainFlow", chainStep("a", nil), chainStep("b", nil), chainStep("new", nil), chainStep("c", nil), chainStep("last", nil)), stepwell.ResumeOptions{})
	require.NoError(t, err, "what comes after the finished steps may change")
	require.Equal(t, []string{"reuse a", "reuse b", "run new", "run c", "run last"}, lines)

	lines, err = plan(flow.New("ChainFlow", chainStep("a", nil), chainStep("between", nil), chainStep("b", nil), chainStep("c", nil)), stepwell.ResumeOptions{})
	require.NoError(t, err)
	require.Equal(t, []string{"reuse a", "run between", "run b", "run c"}, lines, "what follows a new step starts from another state")

	_, err = plan(flow.New("ChainFlow", chainStep("a", nil), chainStep("b2", nil), chainStep("c", nil)), stepwell.ResumeOptions{})
	require.ErrorIs(t, err, stepwell.ErrInput)
	require.ErrorContains(t, err, `step "b" finished in run`)
	require.ErrorContains(t, err, "give it its name back")
	lines, err = plan(flow.New("ChainFlow", chainStep("a", nil), chainStep("b2", nil), chainStep("c", nil)), stepwell.ResumeOptions{Step: "b2"})
	require.ErrorContains(t, err, `step "b" finished`)
	require.Empty(t, lines)
	lines, err = plan(flow.New("ChainFlow", chainStep("a2", nil), chainStep("b", nil), chainStep("c", nil)), stepwell.ResumeOptions{Step: "a2"})
	require.NoError(t, err, "everything is asked for again")
	require.Equal(t, []string{"run a2", "run b", "run c"}, lines)

	lines, err = plan(flow.New("ChainFlow", chainStep("b", nil), chainStep("a", nil), chainStep("c", nil)), stepwell.ResumeOptions{})
	require.NoError(t, err)
	require.Equal(t, []string{"run b", "run a", "run c"}, lines, "the order changed")
}

// What was damaged since is computed again.
func TestResumeAfterDamage(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(t *testing.T, blob string){
		"flipped bit": func(t *testing.T, blob string) {
			b, err := os.ReadFile(blob)
			require.NoError(t, err)
			b[len(b)/2] ^= 1
			require.NoError(t, os.WriteFile(blob, b, 0o600))
		},
		"gone": func(t *testing.T, blob string) { require.NoError(t, os.Remove(blob)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			r := newRig(t, dir, chainFlow())
			j, until := newJournal(t), filepath.Join(t.TempDir(), "go")
			run, err := r.client.Start(t.Context(), chainFlow(), stepwell.StartOptions{Params: map[string]string{
				"journal": string(j), "hold_at": "c", "hold_until": until}})
			require.NoError(t, err)
			eventually(t, "step c is running", func() bool { return j.count(run.Run.Run+":c:") == 1 })
			entry := largeEntry(t, run)
			sum := strings.TrimPrefix(entry.Digest.String(), "sha256:")
			damage(t, filepath.Join(dir, "blobs", "sha256", sum[:2], sum))

			// This worker has the blob in its cache: the next run is of a worker that has not.
			r.restart(chainFlow())
			require.NoError(t, os.WriteFile(until, nil, 0o600))
			failed := r.wait(run)
			require.Equal(t, records.StatusFailed, failed.Status)
			require.Equal(t, "c", failed.Failure.Step)
			require.Contains(t, failed.Failure.Message, sum, "the blob is named")
			require.Contains(t, failed.Failure.Message, "resume the run")
			resumed, plan := r.resume(chainFlow(), stepwell.ResumeOptions{Origin: run.Run.Run})
			require.Equal(t, records.StatusCompleted, resumed.Status, "%+v", resumed.Failure)
			require.Equal(t, []string{"reuse a", "run b", "run c", "run d"}, planLines(plan))
			require.Contains(t, plan.Steps[1].Why, `the content of artifact "Large" is`)
			require.Equal(t, entry.Digest, digests(t, resumed, "d")["Large"])
			content, err := r.store.Content(t.Context(), largeEntry(t, resumed))
			require.NoError(t, err)
			require.Len(t, content, 8*4096)
		})
	}
}

func largeEntry(t *testing.T, run *runs.Run) artifacts.Entry {
	t.Helper()
	task, err := run.Task(t.Context(), "b")
	require.NoError(t, err)
	e, err := task.Artifact("Large")
	require.NoError(t, err)
	return e
}

// A caught task is finished: it is reused and not tried again.
func TestResumeKeepsWhatWasCaught(t *testing.T) {
	t.Parallel()
	type state struct {
		Caught *policies.Failure
		Done   bool
	}
	ready := false
	f := flow.New("CaughtFlow",
		flow.Step("risky", func(context.Context, *state) error { return errors.New("no luck") },
			policies.Catch(func(_ context.Context, s *state, f *policies.Failure) error { s.Caught = f; return nil })),
		flow.Step("then", func(_ context.Context, s *state) error {
			if !ready {
				return errors.New("not ready")
			}
			s.Done = true
			return nil
		}))
	r := newRig(t, t.TempDir(), f)
	origin := r.run(f, nil)
	require.Equal(t, records.StatusFailed, origin.Status)
	require.Equal(t, "then", origin.Failure.Step)
	ready = true
	run, plan := r.resume(f, stepwell.ResumeOptions{})
	require.Equal(t, "caught", plan.Steps[0].Why)
	require.Equal(t, []string{"CaughtFlow.then"}, r.scheduled(run))
	s := lastState[state](t, run, f)
	require.True(t, s.Done)
	require.Equal(t, "no luck", s.Caught.Message)
}
