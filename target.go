package stepwell

import (
	"context"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/runs"
)

// target is what a pathspec names: a run, and in it at most one of a task, a step with many tasks, or a foreach.
type target struct {
	reader  *runs.Reader
	run     *runs.Run
	task    *runs.Task
	step    *runs.Step
	foreach *runs.Foreach
}

// open reads what the pathspec names.
func (c *command) open(ctx context.Context, spec string) (_ target, done func(), _ error) {
	p, err := runOrTaskSpec(spec)
	if err != nil {
		return target{}, nil, err
	}
	reader, done, err := c.reader(ctx)
	if err != nil {
		return target{}, nil, err
	}
	t := target{reader: reader}
	t.run, err = reader.Find(ctx, p.Flow+"/"+p.Run)
	if err == nil && p.Task != "" {
		err = t.find(ctx, p.Task)
	}
	if err != nil {
		done()
		return target{}, nil, err
	}
	return t, done, nil
}

// find looks for a task, step or foreach of the run.
func (t *target) find(ctx context.Context, name string) (err error) {
	step, x, err := flow.ParseTaskName(name)
	if err != nil || x != nil {
		t.task, err = t.run.Task(ctx, name)
		return err
	}
	// A foreach that is decided by a task of its own has that task's name: the foreach is what is meant.
	if _, ok := t.run.Plan.Step(step); !ok {
		if shape, ok := t.run.Plan.Shape(step); ok && shape.Kind == flow.KindForeach {
			t.foreach, err = t.run.Foreach(ctx, step)
			return err
		}
	}
	s, err := t.run.Step(ctx, step)
	if err != nil {
		return err
	}
	if t.task = s.Task; t.task == nil {
		t.step = s
	}
	return nil
}

// openTask reads the one task that the pathspec names.
func (c *command) openTask(ctx context.Context, spec string) (_ target, done func(), _ error) {
	t, done, err := c.open(ctx, spec)
	if err != nil || t.task != nil {
		return t, done, err
	}
	p, err := runs.ParsePathspec(spec)
	if err == nil {
		t.task, err = t.run.Task(ctx, p.Task) // the step of a split that is decided on its own, or an error that says how tasks are named
	}
	if err != nil {
		done()
		return target{}, nil, err
	}
	return t, done, nil
}
