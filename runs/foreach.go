package runs

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
)

// Foreach is a foreach of a run with its items counted.
type Foreach struct {
	Name string
	// Items is how many there are, those of all its executions together if it is in another foreach or a loop. 0 while that is
	// not known.
	Items int
	// Completed counts the items that ended well, as far as that is known before the join has run.
	Completed int
	// Failed counts the items that have a task which failed for good and was not caught.
	Failed int
	// Running counts tasks.
	Running int
	State   State
	// Steps are the steps within, in the order of the plan.
	Steps []*Step
	// Join is the step that ends it.
	Join *Step

	run *Run
	at  *place
}

// Run is the run that the foreach is of.
func (f *Foreach) Run() *Run { return f.run }

// Foreach counts the items of a foreach. One that is not in the plan is [ErrNotFound].
func (r *Run) Foreach(ctx context.Context, name string) (*Foreach, error) {
	at := r.graph().shapes[name]
	if at == nil || at.Kind != flow.KindForeach {
		return nil, fmt.Errorf("foreach %q: %w in run %s", name, ErrNotFound, r.Pathspec())
	}
	in := r.reading(ctx)
	f := &Foreach{Name: name, run: r, at: at}
	var err error
	if f.Join, err = in.step(ctx, at.join); err != nil {
		return nil, err
	}
	ends, known := at.ends(), true
	items := map[string]bool{} // that failed
	for _, p := range at.tasks() {
		s, err := in.step(ctx, p)
		if err != nil {
			return nil, err
		}
		f.Running += s.Running + s.Paused
		if s.set != nil {
			s.set.failed(len(at.around)+1, items)
		} else {
			f.Failed += s.Failed
		}
		if slices.Contains(ends, p) {
			known = known && p.depth() == len(at.around)+1
			f.Completed += s.Completed
		}
		if p.Kind == flow.KindStep {
			f.Steps = append(f.Steps, s)
		}
	}
	f.Failed += len(items)
	if f.Items, err = r.total(ctx, at.nodes[0].firsts()[0]); err != nil {
		return nil, err
	}
	if !known {
		f.Completed = 0
		if f.Join.Completed > 0 && f.Join.Task != nil {
			f.Completed = max(f.Items-f.Failed, 0)
		}
	}
	switch {
	case f.Completed == 0 && f.Failed == 0 && f.Running == 0 && f.Join.Begun() == 0:
		f.State, err = r.sum(ctx, at.join, Counts{})
		if slices.ContainsFunc(f.Steps, func(s *Step) bool { return s.State == InBatches }) {
			if f.State = Unfinished; !r.over() {
				f.State = r.openState()
			}
		}
	case r.Status == records.StatusCompleted, f.Join.Completed > 0 && f.Join.Completed >= f.Join.Total:
		f.State = Completed
	case f.Running > 0:
		f.State = Running
	case f.Failed > 0 && r.Status == records.StatusFailed:
		f.State = Failed
	case r.over():
		f.State = Unfinished
	default:
		f.State = r.openState()
	}
	return f, err
}

// openState is the state of what has begun in a run that has not ended.
func (r *Run) openState() State {
	if r.Status == Unknown {
		return Unfinished
	}
	return Running
}

// tasks are the steps in a node, and the splits in it that are decided on their own, in the order of the plan.
func (p *place) tasks() []*place {
	var out []*place
	if p.Kind == flow.KindStep || p.Kind == flow.KindDecide {
		out = append(out, p)
	}
	for _, n := range p.nodes {
		out = append(out, n.tasks()...)
		if n.join != nil {
			out = append(out, n.join.tasks()...)
		}
	}
	return out
}

// First returns the task that failed first, with its failure, like [Step.First]. It is nil when none failed.
func (f *Foreach) First(ctx context.Context) (*Task, error) {
	for _, s := range f.Steps {
		if t, err := s.blamed(ctx); t != nil || err != nil {
			return t, err
		}
	}
	var first *Task
	for _, s := range f.Steps {
		t, err := s.First(ctx)
		if err != nil {
			return nil, err
		}
		if t != nil && (first == nil || t.Failure != nil && (first.Failure == nil || t.Failure.Time.Before(first.Failure.Time))) {
			first = t
		}
	}
	return first, nil
}

// Progress says how far a foreach of a running run is.
type Progress struct {
	Foreach string     `json:"foreach"`
	Index   flow.Index `json:"index,omitempty"`
	Items   int        `json:"items"`
	// Completed and Failed count items.
	Completed int `json:"completed"`
	Failed    int `json:"failed"`
}

// Done is how many items have ended.
func (p Progress) Done() int { return p.Completed + p.Failed }

// progressQuery is what a run's workflow answers with its progress.
const progressQuery = "stepwell.progress"

// Progress asks the run's workflow how far its foreach shapes are, those that are nested in others left out or not as the
// workflow likes. A worker has to answer, so it fails while none does; give ctx a deadline.
func (r *Run) Progress(ctx context.Context) ([]Progress, error) {
	if r.reader.temporal == nil {
		return nil, errors.New("there is no Temporal to ask")
	}
	v, err := r.reader.temporal.QueryWorkflow(ctx, r.WorkflowID, "", progressQuery)
	if err != nil {
		return nil, err
	}
	var out []Progress
	return out, v.Get(&out)
}
