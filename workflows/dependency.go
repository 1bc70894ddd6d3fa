package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/guard"
)

// dependencyUpdates is how many updates the workflow of a dependency takes before it leaves its history behind. Each is about five
// events; the server ends a workflow at two thousand updates.
const dependencyUpdates = 500

// RegisterDependency registers the workflow that keeps what all workers know of a dependency, for a worker of
// [activities.LimitQueue].
func RegisterDependency(r Registry) {
	r.RegisterWorkflowWithOptions(Dependency, workflow.RegisterOptions{Name: activities.DependencyType})
}

// Dependency keeps what all workers know of a dependency, or of the budget of a run: it takes reports, decides when the breaker
// opens and closes, and lends the place of the probe and retries. It ends when nobody reports any more, and what was reported
// does not count any more.
//
// Every worker of a cluster may have to replay it, so it changes even more rarely than the interpreter.
func Dependency(ctx workflow.Context, in activities.DependencyInput) error {
	d := &dependency{in: in, heard: workflow.Now(ctx)}
	if err := d.handle(ctx); err != nil {
		return err
	}
	for {
		// The condition keeps one timer for many updates: no event is spent on waiting.
		full, err := workflow.AwaitWithTimeout(ctx, d.heard.Add(d.in.Board.Idle()).Sub(workflow.Now(ctx)), func() bool {
			return d.updates >= dependencyUpdates || workflow.GetInfo(ctx).GetContinueAsNewSuggested()
		})
		switch {
		case err != nil:
			return err
		case full:
			return workflow.NewContinueAsNewError(ctx, activities.DependencyType, d.in)
		case workflow.Now(ctx).Sub(d.heard) >= d.in.Board.Idle():
			return nil
		}
	}
}

type dependency struct {
	in      activities.DependencyInput
	heard   time.Time
	updates int
}

func (d *dependency) handle(ctx workflow.Context) error {
	err := workflow.SetQueryHandlerWithOptions(ctx, activities.DependencyQuery, func() (activities.DependencyView, error) {
		return activities.DependencyView{View: d.view(ctx), Board: d.in.Board}, nil
	}, workflow.QueryHandlerOptions{Description: "What all workers know of the dependency: the state of its breaker and the counts within its windows, as of the latest report."})
	if err != nil {
		return err
	}
	err = workflow.SetUpdateHandlerWithOptions(ctx, activities.ReportUpdate, func(ctx workflow.Context, r guard.Report) (guard.Answer, error) {
		a := d.in.Board.Report(workflow.Now(ctx), r)
		d.took(ctx)
		return a, nil
	}, workflow.UpdateHandlerOptions{
		Description: "A worker tells what happened at the dependency and learns what all know together. For workers only.",
		Validator: func(r guard.Report) error {
			if r.Key != d.in.Key {
				return fmt.Errorf("the report is about %q, this is %q", r.Key, d.in.Key)
			}
			return r.Check()
		},
	})
	if err != nil {
		return err
	}
	return workflow.SetUpdateHandlerWithOptions(ctx, activities.ResetUpdate, func(ctx workflow.Context, _ activities.ResetInput) (guard.View, error) {
		d.in.Board.Reset(workflow.Now(ctx))
		d.took(ctx)
		return d.view(ctx), nil
	}, workflow.UpdateHandlerOptions{
		Description: `Close the breaker and forget all counts. Input: {"by": "your name"}. Workers learn it with their next report.`,
		Validator: func(in activities.ResetInput) error {
			if len(in.By) > 200 {
				return fmt.Errorf("by has %d bytes (use up to 200)", len(in.By))
			}
			return nil
		},
	})
}

func (d *dependency) view(ctx workflow.Context) guard.View {
	return d.in.Board.View(workflow.Now(ctx), d.in.Key)
}

func (d *dependency) took(ctx workflow.Context) {
	d.updates++
	d.heard = workflow.Now(ctx)
	workflow.SetCurrentDetails(ctx, d.view(ctx).Markdown())
}
