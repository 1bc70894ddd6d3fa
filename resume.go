package stepwell

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
	"github.com/stepwell-flows/stepwell/workflows"
)

// ResumeOptions are the choices of a resume.
type ResumeOptions struct {
	// Origin is the run to resume. Defaults to the flow's newest run that did not succeed, resumed runs included.
	Origin string
	// Step makes this step, and all that follow it, run again although they are finished.
	Step string
	// Params change parameters of the origin; they need Step, because finished steps have used the old values.
	Params map[string]string
	// Tags are kept with the new run. The origin's tags are not taken over.
	Tags []string
	// RunID names the new run. Defaults to a new id.
	RunID string
	// Token is the token of a plan that was looked at; the resume is refused if its plan has another.
	Token string
}

// ResumePlan says what a resume reuses and what it runs, and why.
type ResumePlan struct {
	Flow   string            `json:"flow"`
	Origin string            `json:"origin"`
	Steps  []ResumeStep      `json:"steps"`
	Params map[string]string `json:"changed_params,omitempty"`
	// Token stands for the whole plan: the origin's records, the flow and the options.
	Token string `json:"token"`

	// Note says what stands in the way of the resume, "" if nothing does.
	Note string `json:"note,omitempty"`

	doc      records.Run
	start    *workflows.Cursor
	unknown  bool   // whether the origin still runs is not known
	workflow string // the origin's workflow id
}

// ResumeStep is one step of a resume's plan.
type ResumeStep struct {
	Step string `json:"step"`
	// Reuse is false for a step that runs.
	Reuse bool   `json:"reuse"`
	Why   string `json:"why"`
	// From is the run whose record is reused, and Digest the record's.
	From   string            `json:"from,omitempty"`
	Digest *artifacts.Digest `json:"digest,omitempty"`
}

// Resume starts a new run that takes over the finished steps of its origin and runs the rest. It returns
// without waiting. The origin is not changed.
func (c *Client) Resume(ctx context.Context, f *flow.Flow, o ResumeOptions) (*runs.Run, *ResumePlan, error) {
	p, err := c.PlanResume(ctx, f, o)
	if err != nil {
		return nil, nil, err
	}
	if o.Token != "" && o.Token != p.Token {
		return nil, p, inputf("the plan has changed since token %q was made (look at the new plan with --plan; its token is %q)", o.Token, p.Token)
	}
	if p.unknown {
		if err := c.mayResume(ctx, p, o.Origin != ""); err != nil {
			return nil, p, err
		}
	}
	run, err := c.start(ctx, p.doc, p.start)
	return run, p, err
}

// mayResume asks Temporal, with more patience than a reader, about an origin of which the store does not know whether it
// still runs: two runs of one lineage at once would do everything twice. A run that the server does not know, perhaps
// because it is another one's, is resumed only by its name.
func (c *Client) mayResume(ctx context.Context, p *ResumePlan, named bool) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	d, err := c.temporal.DescribeWorkflowExecution(ctx, p.workflow, "")
	var gone *serviceerror.NotFound
	switch {
	case err == nil && d.GetWorkflowExecutionInfo().GetStatus() != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING:
		return nil
	case err == nil:
		return inputf("run %s/%s is still running (attach to it, or cancel it first)", p.Flow, p.Origin)
	case !errors.As(err, &gone):
		return fmt.Errorf("ask whether run %s/%s still runs: %w", p.Flow, p.Origin, err)
	case !named:
		return inputf("whether run %s/%s still runs is not known, because the Temporal server that is asked does not know it (resume it by its name if it does not)", p.Flow, p.Origin)
	}
	return nil
}

// PlanResume works out what [Client.Resume] would do. It starts and writes nothing.
func (c *Client) PlanResume(ctx context.Context, f *flow.Flow, o ResumeOptions) (*ResumePlan, error) {
	if err := f.Check(); err != nil {
		return nil, &InputError{err}
	}
	plan := f.Plan()
	var errs []error
	if o.Step != "" {
		if _, ok := plan.Step(o.Step); !ok {
			errs = append(errs, fmt.Errorf("flow %q has no step %q (it has %s)", f.Name(), o.Step, strings.Join(plan.Steps(), ", ")))
		}
	}
	if len(o.Params) > 0 && o.Step == "" {
		errs = append(errs, errors.New("parameters can only change together with a step to run again from (add --step), because finished steps have used the old ones"))
	}
	if o.Origin != "" {
		errs = append(errs, records.CheckRunID(o.Origin))
	}
	if o.RunID != "" {
		errs = append(errs, records.CheckRunID(o.RunID))
	}
	if err := errors.Join(append(errs, checkTags(o.Tags))...); err != nil {
		return nil, &InputError{err}
	}
	origin, err := c.origin(ctx, f.Name(), o.Origin)
	if err != nil {
		return nil, err
	}

	given := maps.Clone(origin.Run.Params)
	if given == nil {
		given = map[string]string{}
	}
	known := map[string]bool{}
	for _, p := range f.Params() {
		known[p.Name] = true
	}
	for name := range given { // a parameter that the flow has no more is not the caller's mistake
		if !known[name] {
			delete(given, name)
		}
	}
	for name, text := range o.Params {
		if under := strings.ReplaceAll(name, "-", "_"); known[under] {
			name = under
		}
		given[name] = text
	}
	params, err := f.ResolveParams(given, nil)
	if err != nil {
		return nil, &InputError{err}
	}

	p := &ResumePlan{Flow: f.Name(), Origin: origin.Run.Run, Params: o.Params, unknown: origin.Status == runs.Unknown, workflow: origin.WorkflowID}
	if p.unknown {
		p.Note = fmt.Sprintf("run %s has not ended as far as the store knows: if its process ended, attach carries it on, and resume takes it only after cancel", origin.Pathspec())
	}
	p.doc = records.Run{
		Flow: f.Name(), Run: o.RunID, Plan: plan, Params: params, Tags: o.Tags,
		Origin: origin.Run.Run, Root: origin.Root, Reused: map[string]string{},
	}
	if err := c.reuse(ctx, p, plan, origin, o.Step); err != nil {
		return nil, err
	}
	p.Token = token(p, o)
	return p, nil
}

func (c *Client) origin(ctx context.Context, flowName, id string) (*runs.Run, error) {
	var origin *runs.Run
	var err error
	if id != "" {
		origin, err = c.reader.Run(ctx, flowName, id)
	} else {
		// Newest first, so a resume comes before its origin: what a resume completed is not to be done again.
		done := map[string]string{}
		origin, err = c.reader.Latest(ctx, flowName, func(r *runs.Run) bool {
			by := done[r.Run.Run]
			if r.Status == records.StatusCompleted {
				by = r.Run.Run
			}
			if by != "" && r.Origin != "" {
				done[r.Origin] = by
			}
			return by == ""
		})
		if errors.Is(err, runs.ErrNotFound) {
			return nil, inputf("flow %q has no run that did not succeed, or that no resume completed, in %s (name one to resume it all the same)", flowName, c.store)
		}
	}
	if errors.Is(err, runs.ErrNotFound) {
		return nil, &InputError{err}
	}
	if err != nil {
		return nil, err
	}
	if origin.Status == records.StatusRunning {
		return nil, inputf("run %s is still running (attach to it, or cancel it first)", origin.Pathspec())
	}
	return origin, nil
}

// reuse decides for each step. The steps of a sequence build on each other, so what can be reused is
// always its beginning.
func (c *Client) reuse(ctx context.Context, p *ResumePlan, plan flow.Plan, origin *runs.Run, from string) error {
	names := plan.Steps()
	if err := c.checkGone(ctx, names, origin, from); err != nil {
		return err
	}
	type finished struct {
		ref records.Ref
		rec records.Task
	}
	var chain []finished
	stop, why := "", ""
	for i, name := range names {
		if name == from {
			stop, why = name, "asked for with --step"
			break
		}
		if _, ok := origin.Plan.Step(name); !ok {
			stop, why = name, "new in the flow"
			break
		}
		ref, rec, err := records.FindTask(ctx, c.store, p.Flow, origin.Owner(name), name, nil)
		switch {
		case errors.Is(err, artifacts.ErrNotFound):
			stop, why = name, unfinished(origin, name)
		case errors.Is(err, artifacts.ErrCorrupt):
			stop, why = name, "its record is damaged"
		case err != nil:
			return err
		case i > 0 && (len(rec.Parents) == 0 || rec.Parents[0].Step != names[i-1]), i == 0 && len(rec.Parents) > 0:
			stop, why = name, "it comes after another step now"
		case i > 0 && rec.Parents[0].Digest != chain[i-1].ref.Digest:
			stop, why = chain[i-1].rec.Step, "its record is damaged"
			chain = chain[:i-1]
		}
		if stop != "" {
			break
		}
		chain = append(chain, finished{ref, rec})
	}
	// What is reused is only as good as the data behind its last record.
	for len(chain) > 0 {
		bad, reason, err := c.damaged(ctx, chain[len(chain)-1].rec)
		if err != nil {
			return err
		}
		if bad == "" {
			break
		}
		cut := max(slices.IndexFunc(chain, func(f finished) bool { return f.rec.Step == bad }), 0)
		stop, why = chain[cut].rec.Step, reason
		chain = chain[:cut]
	}
	for _, f := range chain {
		p.Steps = append(p.Steps, ResumeStep{Step: f.rec.Step, Reuse: true, Why: string(f.rec.Outcome), From: f.ref.Run, Digest: &f.ref.Digest})
		p.doc.Reused[f.rec.Step] = f.ref.Run
	}
	for _, name := range names[len(chain):] {
		s := ResumeStep{Step: name, Why: why}
		if name != stop {
			s.Why = fmt.Sprintf("follows %q", stop)
		}
		p.Steps = append(p.Steps, s)
	}
	p.start = &workflows.Cursor{Next: len(chain)}
	if len(chain) > 0 {
		p.start.Last = &chain[len(chain)-1].ref
	}
	return nil
}

// checkGone refuses to drop the work of a finished step in silence because it was renamed or removed.
func (c *Client) checkGone(ctx context.Context, names []string, origin *runs.Run, from string) error {
	var errs []error
	for _, name := range origin.Plan.Steps() {
		if from != "" && name == from {
			break // this one and what follows would run again anyway
		}
		if slices.Contains(names, name) {
			continue
		}
		_, _, err := records.FindTask(ctx, c.store, origin.Flow, origin.Owner(name), name, nil)
		if errors.Is(err, artifacts.ErrNotFound) {
			continue
		}
		if err != nil && !errors.Is(err, artifacts.ErrCorrupt) {
			return err
		}
		errs = append(errs, fmt.Errorf("step %q finished in run %s but is not in the flow any more (give it its name back, or add --step to run again from a step before it)", name, origin.Pathspec()))
	}
	if len(errs) > 0 {
		return &InputError{errors.Join(errs...)}
	}
	return nil
}

func unfinished(origin *runs.Run, name string) string {
	if f := origin.Failure; f != nil && f.Step == name {
		return "failed: " + shorten(f.Message, 200)
	}
	return "did not finish"
}

// damaged looks for an artifact of rec whose content is gone or wrong, and names the step that made it.
func (c *Client) damaged(ctx context.Context, rec records.Task) (step, why string, _ error) {
	for _, name := range slices.Sorted(maps.Keys(rec.Artifacts)) {
		e := rec.Artifacts[name]
		var err error
		switch inline := len(e.Inline) > 0 || e.Size == 0; {
		case !inline:
			err = c.store.VerifyBlob(ctx, e.Digest, e.Size)
		case artifacts.Sum(e.Inline) != e.Digest:
			err = artifacts.ErrCorrupt
		}
		switch {
		case errors.Is(err, artifacts.ErrNotFound):
			why = fmt.Sprintf("the content of artifact %q is gone", name)
		case errors.Is(err, artifacts.ErrCorrupt):
			why = fmt.Sprintf("the content of artifact %q is damaged", name)
		case err != nil:
			return "", "", err
		default:
			continue
		}
		// By is "run/step[index]".
		_, task, _ := strings.Cut(e.By, "/")
		step, _, _ = strings.Cut(task, "[")
		return step, why, nil
	}
	return "", "", nil
}

// token stands for everything that the plan rests on.
func token(p *ResumePlan, o ResumeOptions) string {
	b, err := json.Marshal([]any{p.Flow, p.Origin, p.Steps, p.doc.Plan, p.doc.Params, o.Step})
	if err != nil {
		panic(err) // plain data
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:6])
}
