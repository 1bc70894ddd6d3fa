package stepwell

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"golang.org/x/sync/errgroup"

	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/guard"
	"github.com/stepwell-flows/stepwell/runs"
)

// Dependency is what all workers know of a service that steps call, or of the budget of a run.
type Dependency struct {
	guard.View
	// WorkflowID is the workflow that keeps it.
	WorkflowID string `json:"workflow_id"`
	// Err is why the state is not known: no worker answers, for example. There is nothing but the key then.
	Err error `json:"-"`
}

// Name is the dependency's name, or the run as "Flow/run".
func (d Dependency) Name() string {
	_, name, _ := strings.Cut(d.Key, "/")
	return name
}

// dependencyPatience is how long to wait for what a workflow answers: a worker may have to read its history first, after one that kept
// it was killed or replaced.
const dependencyPatience = 20 * time.Second

// Dependencies lists the dependencies that were called lately, in the order of their names, and with runs the budgets of runs,
// too. It asks Temporal's visibility, which knows a new one after a second or so, and each workflow for its state.
func (c *Client) Dependencies(ctx context.Context, runs bool) ([]Dependency, error) {
	var all []Dependency
	request := &workflowservice.ListWorkflowExecutionsRequest{
		PageSize: 500, Query: fmt.Sprintf("WorkflowType = '%s' AND ExecutionStatus = 'Running'", activities.DependencyType),
	}
	for {
		page, err := c.temporal.ListWorkflow(ctx, request)
		if err != nil {
			return nil, fmt.Errorf("list dependencies: %w", err)
		}
		for _, e := range page.GetExecutions() {
			id := e.GetExecution().GetWorkflowId()
			if !runs && !strings.HasPrefix(id, activities.DependencyPrefix) {
				continue
			}
			all = append(all, Dependency{View: guard.View{Key: activities.DependencyKey(id)}, WorkflowID: id})
		}
		if request.NextPageToken = page.GetNextPageToken(); len(request.NextPageToken) == 0 {
			break
		}
	}
	slices.SortFunc(all, func(a, b Dependency) int { return cmp.Compare(a.Key, b.Key) })
	all = slices.CompactFunc(all, func(a, b Dependency) bool { return a.Key == b.Key })
	ctx, cancel := context.WithTimeout(ctx, dependencyPatience) // for all together
	defer cancel()
	var g errgroup.Group
	g.SetLimit(8)
	for i := range all {
		g.Go(func() error {
			all[i].View, all[i].Err = c.dependencyView(ctx, all[i].Key)
			return nil
		})
	}
	return all, g.Wait()
}

// Dependency reads one dependency by its name, or the budget of a run by "Flow/run". The error is [runs.ErrNotFound] if it was not
// called lately.
func (c *Client) Dependency(ctx context.Context, name string) (Dependency, error) {
	key := dependencyKey(name)
	d := Dependency{WorkflowID: activities.DependencyID(key)}
	ctx, cancel := context.WithTimeout(ctx, dependencyPatience)
	defer cancel()
	var err error
	d.View, err = c.dependencyView(ctx, key)
	return d, err
}

func dependencyKey(name string) string {
	if flow, run, ok := strings.Cut(name, "/"); ok {
		return guard.RunKey(flow, run)
	}
	return guard.DependencyKey(name)
}

func (c *Client) dependencyView(ctx context.Context, key string) (guard.View, error) {
	id := activities.DependencyID(key)
	none := guard.View{Key: key}
	d, err := c.temporal.DescribeWorkflowExecution(ctx, id, "")
	if err == nil && d.GetWorkflowExecutionInfo().GetCloseTime() != nil {
		err = serviceerror.NewNotFound("it has ended")
	}
	if err != nil {
		return none, dependencyError(key, err)
	}
	value, err := c.temporal.QueryWorkflow(ctx, id, "", activities.DependencyQuery)
	if err != nil {
		return none, dependencyError(key, err)
	}
	var v activities.DependencyView
	if err := value.Get(&v); err != nil {
		return none, fmt.Errorf("read dependency %q: %w", key, err)
	}
	return v.Board.View(time.Now(), key), nil
}

// ResetDependency closes the breaker of a dependency and forgets all counts. Workers learn it with their next report. The error
// is [runs.ErrNotFound] if it was not called lately: there is nothing to reset.
func (c *Client) ResetDependency(ctx context.Context, name string) (Dependency, error) {
	ctx, cancel := context.WithTimeout(ctx, dependencyPatience)
	defer cancel()
	key := dependencyKey(name)
	d := Dependency{View: guard.View{Key: key}, WorkflowID: activities.DependencyID(key)}
	h, err := c.temporal.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: d.WorkflowID, UpdateName: activities.ResetUpdate, WaitForStage: client.WorkflowUpdateStageCompleted,
		Args: []any{activities.ResetInput{By: c.options.User}},
	})
	if err == nil {
		err = h.Get(ctx, &d.View)
	}
	if err != nil {
		return d, dependencyError(key, err)
	}
	return d, nil
}

// dependencyError says what there is to do about an error of a dependency's workflow.
func dependencyError(key string, err error) error {
	var (
		gone  *serviceerror.NotFound
		timed *serviceerror.DeadlineExceeded
	)
	_, name, _ := strings.Cut(key, "/")
	switch {
	case errors.As(err, &gone):
		return fmt.Errorf("dependency %q was not called within the last ten minutes: %w", name, runs.ErrNotFound)
	case errors.As(err, &timed), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("dependency %q: no worker answered within %s (start one): %w", name, dependencyPatience, err)
	}
	return fmt.Errorf("dependency %q: %w", name, err)
}
