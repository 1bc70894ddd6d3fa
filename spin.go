package stepwell

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

// SpinOptions are the choices of a spin. The zero value is ready.
type SpinOptions struct {
	// Params change parameters of the run, as text by name.
	Params map[string]string
	// Persist is a store of its own for what the step makes: its record, artifacts, log and cards, with all that is needed to read them
	// there. Nil: nothing is kept.
	Persist *artifacts.Store
	// Log gets what the step logs. Nil: nobody does.
	Log slog.Handler
	// Redact and Classify are those of the worker, see [WorkerOptions].
	Redact   []*regexp.Regexp
	Classify func(error) policies.Class
	// InProcess runs isolated steps in this process, without limits: for tests.
	InProcess bool
}

// Spun is what became of a task that was run once more.
type Spun struct {
	activities.SpinResult
	// Task is the task of the run, as it was recorded. Nil for one of [SpinExported].
	Task *runs.Task
	// Store has what the step made. Without SpinOptions.Persist it has so until Close.
	Store *artifacts.Store
	// Attempt is the attempt that the step saw.
	Attempt int
	// Step is the step that was run last. It is another one than the task's if that comes later in an item of a batch, whose steps are
	// run from the first on, and one before it failed.
	Step string

	remove func()
}

// Close removes what nobody keeps.
func (s *Spun) Close() {
	if s.remove != nil {
		s.remove()
	}
}

// Output are the artifacts that differ from what the run has, among those that the step set now or then. It is nil if the task of the run
// has no record, or the step failed.
func (s *Spun) Output() []runs.ArtifactDiff {
	if s.Failure != nil || s.Task == nil || s.Task.Record == nil {
		return nil
	}
	var out []runs.ArtifactDiff
	set := slices.Concat(s.Changed, s.Task.Record.Changed)
	slices.Sort(set)
	for _, name := range slices.Compact(set) {
		d := runs.ArtifactDiff{Name: name}
		if e, ok := s.Task.Record.Artifacts[name]; ok {
			d.A = &e
		}
		if e, ok := s.Artifacts[name]; ok {
			d.B = &e
		}
		if d.A == nil || d.B == nil || !d.A.Same(*d.B) {
			out = append(out, d)
		}
	}
	return out
}

// FailedLike says that the step failed with that class and message. Ports of this machine and addresses in memory may differ.
func (s *Spun) FailedLike(class policies.Class, message string) bool {
	return s.Failure != nil && runs.SameFailure(s.Failure, &policies.Failure{Class: class, Message: message})
}

// Spin runs a task of a run once more, in this process and on what it started from, with the code of f: a step that was changed since is
// tried without running the flow. The run is not touched, and no Temporal server is needed. The step sees the attempt that finished the
// task or failed last, and calls that it makes carry the same idempotency key; its retries, its catch function and its dependency's
// breaker play no part.
//
// A task whose input is not there is [runs.ErrNoInput]. That the step fails is no error: [Spun].Failure tells. The caller closes what is
// returned.
func Spin(ctx context.Context, f *flow.Flow, t *runs.Task, o SpinOptions) (*Spun, error) {
	if err := f.Check(); err != nil {
		return nil, &InputError{err}
	}
	in, err := spinInput(ctx, f, t, o.Params)
	if err != nil {
		return nil, err
	}
	s, err := spin(ctx, f, in, t.Run().Store(), o)
	if err != nil {
		return nil, err
	}
	s.Task = t
	return s, nil
}

// spin runs a task on what a store has. The caller closes the result.
func spin(ctx context.Context, f *flow.Flow, in spinTask, base *artifacts.Store, o SpinOptions) (_ *Spun, err error) {
	s := &Spun{Attempt: in.Attempt}
	over := o.Persist
	if over == nil {
		if over, s.remove, err = scratch(ctx, f, in.In.Step); err != nil {
			return nil, err
		}
		defer func() {
			if err != nil {
				s.remove()
			}
		}()
	}
	s.Store = artifacts.Overlay(over, base)
	a := activities.New(s.Store, activities.Options{Log: o.Log, Redact: o.Redact, Classify: o.Classify, InProcess: o.InProcess}, f)
	for depth := len(in.In.Index); ; {
		if s.SpinResult, err = a.Spin(ctx, in.SpinInput); err != nil {
			return nil, err
		}
		if s.Step = in.In.Step; s.Failure != nil || in.To == "" || s.Step == in.To {
			break
		}
		if in, err = in.next(s.SpinResult, depth); err != nil {
			return nil, err
		}
	}
	if o.Persist != nil {
		err = s.keep(ctx, o.Persist, base, in)
	}
	return s, err
}

// scratch is a store for what nobody keeps: in memory, or for a step in a process of its own in a directory.
func scratch(ctx context.Context, f *flow.Flow, step string) (_ *artifacts.Store, remove func(), _ error) {
	def := f.StepDef(step)
	if def == nil || def.Isolated == nil || def.Command != nil {
		s, err := artifacts.Open(ctx, "mem:", artifacts.Options{})
		return s, func() {}, err
	}
	dir, err := os.MkdirTemp("", "stepwell-spin-")
	if err != nil {
		return nil, nil, err
	}
	s, err := artifacts.Open(ctx, dir, artifacts.Options{})
	return s, func() { _ = os.RemoveAll(dir) }, err
}

// keep adds to a store of its own what is missing there to read the task back: the document of the run and what other tasks made.
func (s *Spun) keep(ctx context.Context, own, base *artifacts.Store, in spinTask) error {
	err := records.CreateRun(ctx, own, in.Run)
	if err != nil && !errors.Is(err, artifacts.ErrExists) {
		return err
	}
	for name, e := range s.Artifacts {
		if e.Inline != nil || e.Size == 0 && e.Name == "" {
			continue
		}
		if err := own.CopyBlob(ctx, base, e.Digest); err != nil {
			return fmt.Errorf("artifact %q: %w", name, err)
		}
	}
	return nil
}

// spinTask is what is run once more.
type spinTask struct {
	activities.SpinInput
	// To is the step that is meant if it comes later in an item of a batch: a batch keeps no state between the steps of an item, so that
	// those before it are run, too.
	To string
}

// next is the next task of the item, whose index has depth numbers at least.
func (s spinTask) next(done activities.SpinResult, depth int) (spinTask, error) {
	in := s.In
	for step, x := range runs.Next(s.Run.Plan, in.Step, in.Index, done.Ahead) {
		if len(x) < depth {
			break // the item has ended
		}
		s.In = activities.StepInput{Flow: in.Flow, Run: in.Run, Step: step, Index: x, From: &done.Ref, Rung: in.Rung}
		return s, nil
	}
	return s, inputf("the item did not come to step %q this time (spin its first step to see where it went)", s.To)
}

// spinInput is what a task of a run is run with once more.
func spinInput(ctx context.Context, f *flow.Flow, t *runs.Task, given map[string]string) (spinTask, error) {
	var out spinTask
	if first, err := t.ItemFirst(ctx); first != nil || err != nil {
		if err == nil {
			if out, err = spinInput(ctx, f, first, given); err == nil {
				out.To = t.Step
				err = out.setAttempt(ctx, t)
			}
		}
		return out, err
	}
	plan := f.Plan()
	if n, ok := plan.Task(t.Step); !ok || n.Policy == nil {
		return out, inputf("flow %q of this program has no step %q (it has %s)", f.Name(), t.Step, strings.Join(plan.Steps(), ", "))
	}
	in, err := t.Input(ctx)
	if errors.Is(err, runs.ErrNoInput) {
		return out, &InputError{err}
	}
	if err != nil {
		return out, err
	}
	if out.Run, err = records.LoadRun(ctx, t.Run().Store(), t.Run().Flow, in.Run); err != nil {
		return out, err
	}
	if out.Run.Params, err = laterParams(f, out.Run.Params, given); err != nil {
		return out, &InputError{err}
	}
	out.Run.Plan = plan
	out.In = activities.StepInput{Flow: f.Name(), Run: in.Run, Step: t.Step, Index: t.Index, From: in.From, Bind: in.Item}
	if j := in.Join; j != nil {
		out.In.Join = &activities.JoinInput{Len: j.Len, Parts: j.Parts, Branch: j.Branch, Shape: j.Shape, Shard: j.Shard}
	}
	err = out.setAttempt(ctx, t)
	return out, err
}

// setAttempt sets which attempt the step sees: the one that finished the task or failed last.
func (s *spinTask) setAttempt(ctx context.Context, t *runs.Task) error {
	attempts, err := t.Attempts(ctx)
	if err != nil {
		return err
	}
	s.Attempt = 1
	for i, a := range slices.Backward(attempts) {
		if a.Outcome != records.Failed && a.Outcome != records.Completed && a.Outcome != records.Caught {
			continue // a lost one tells nothing of the step
		}
		s.Attempt, s.In.Rung = a.Attempt.Attempt, a.Rung
		if i > 0 {
			s.Previous = attempts[i-1].Failure
		}
		break
	}
	return nil
}

// laterParams are the parameters of a run with some changed, as the flow of this program wants them. One that the flow has no more is
// left out.
func laterParams(f *flow.Flow, were, given map[string]string) (map[string]string, error) {
	params := map[string]string{}
	for _, p := range f.Params() {
		if text, ok := were[p.Name]; ok {
			params[p.Name] = text
		}
	}
	for name, text := range given {
		if under := strings.ReplaceAll(name, "-", "_"); slices.ContainsFunc(f.Params(), func(p flow.Param) bool { return p.Name == under }) {
			name = under
		}
		params[name] = text
	}
	return f.ResolveParams(maps.Clone(params), nil)
}
