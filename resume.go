package stepwell

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
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
	// MaxParallel bounds the tasks that run at the same time. 0 means no limit.
	MaxParallel int
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
	start    *records.Cursor
	unknown  bool   // whether the origin still runs is not known
	workflow string // the origin's workflow id
}

// Start is the document of the run that the resume would start, as far as it is known before, and the place where it begins.
// It is for programs that start workflows themselves, as package flowtest does.
func (p *ResumePlan) Start() (records.Run, *records.Cursor) { return p.doc, p.start }

// ResumeStep is one step of a resume's plan.
type ResumeStep struct {
	Step string `json:"step"`
	// Reuse is false for a step that runs.
	Reuse bool   `json:"reuse"`
	Why   string `json:"why"`
	// From is the run whose record is reused, and Digest the record's. Of many tasks they are left out.
	From   string            `json:"from,omitempty"`
	Digest *artifacts.Digest `json:"digest,omitempty"`
	// Tasks is how many finished tasks of a step within a foreach or loop are reused, Of how many tasks or items there are, if that is
	// known. A step that is reused in part has Reuse false.
	Tasks int `json:"tasks,omitempty"`
	Of    int `json:"of,omitempty"`
}

// agreed refuses a plan that is not the one with the token, if there is one.
func (p *ResumePlan) agreed(token string) error {
	if token != "" && token != p.Token {
		return inputf("the plan has changed since token %q was made (look at the new plan with --plan; its token is %q)", token, p.Token)
	}
	return nil
}

// Resume starts a new run that takes over the finished steps of its origin and runs the rest. It returns
// without waiting. The origin is not changed. The new run is of the origin's project and branch; in place of another user's own
// branch it has this one's.
func (c *Client) Resume(ctx context.Context, f *flow.Flow, o ResumeOptions) (*runs.Run, *ResumePlan, error) {
	p, err := c.planResume(ctx, f, o, o.Token != "")
	if err != nil {
		return nil, nil, err
	}
	if err := p.agreed(o.Token); err != nil {
		return nil, p, err
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
	return c.planResume(ctx, f, o, true)
}

// noStep says that a flow has no step of that name. Of a task's name, it is the step that can run again: all of its tasks do.
func noStep(flowName string, plan flow.Plan, name string) error {
	step, x, err := flow.ParseTaskName(name)
	if _, ok := plan.Step(step); ok && err == nil && len(x) > 0 {
		return fmt.Errorf("%q is a task (write --step %s to run all tasks of the step again)", name, step)
	}
	return fmt.Errorf("flow %q has no step %q (it has %s)", flowName, name, strings.Join(plan.Steps(), ", "))
}

// planResume counts tasks only if somebody asks: a run may have a million.
func (c *Client) planResume(ctx context.Context, f *flow.Flow, o ResumeOptions, count bool) (*ResumePlan, error) {
	if err := f.Check(); err != nil {
		return nil, &InputError{err}
	}
	plan := f.Plan()
	var errs []error
	if o.Step != "" {
		if _, ok := plan.Step(o.Step); !ok {
			errs = append(errs, noStep(f.Name(), plan, o.Step))
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
	if err := errors.Join(append(errs, checkTags(o.Tags), checkParallel(o.MaxParallel))...); err != nil {
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
		Flow: f.Name(), Run: o.RunID, Plan: plan, Params: params, Tags: o.Tags, MaxParallel: o.MaxParallel,
		Origin: origin.Run.Run, Root: origin.Root, Reused: map[string]string{}, Project: origin.Project, Branch: origin.Branch,
	}
	if err := c.reuse(ctx, p, plan, origin, o.Step, count); err != nil {
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

// token stands for everything that the plan rests on.
func token(p *ResumePlan, o ResumeOptions) string {
	b, err := json.Marshal([]any{p.Flow, p.Origin, p.Steps, p.doc.Plan, p.doc.Params, o.Step})
	if err != nil {
		panic(err) // plain data
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:6])
}
