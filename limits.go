package stepwell

import (
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/guard"
	"github.com/stepwell-flows/stepwell/workflows"
)

// limitWorker is a worker that also takes its share of the limits of the whole cluster. They have a queue of their own, since
// the queue of the run that happened to need one first may lose all its workers.
type limitWorker struct {
	worker.Worker
	limits worker.Worker
	guard  *guard.Registry
}

func withLimits(w worker.Worker, c client.Client, identity string, g *guard.Registry) worker.Worker {
	return limitWorker{w, limitsOnly(c, identity), g}
}

// limitsOnly is a worker for the limits and dependencies of the whole cluster, and for nothing else.
func limitsOnly(c client.Client, identity string) worker.Worker {
	w := worker.New(c, activities.LimitQueue, worker.Options{
		Identity: identity,
		// Two are the least that the SDK takes: one for workflows that are in the cache, one for the others.
		MaxConcurrentWorkflowTaskPollers: 2,
		MaxConcurrentActivityTaskPollers: 1,
		// What a killed worker kept in its cache stalls everybody's calls that long. The default, 5s, is longer than people and calls
		// wait; the histories are short, so that another worker reads one again in no time.
		StickyScheduleToStartTimeout: time.Second,
		DisableRegistrationAliasing:  true,
	})
	workflows.RegisterLimit(w)
	workflows.RegisterDependency(w)
	activities.RegisterLimit(w)
	return w
}

// Start starts both, or neither.
func (w limitWorker) Start() error {
	if err := w.limits.Start(); err != nil {
		return err
	}
	if err := w.Worker.Start(); err != nil {
		w.limits.Stop()
		return err
	}
	return nil
}

// Run runs both until it is interrupted or the worker of the steps fails.
func (w limitWorker) Run(interrupt <-chan any) error {
	if err := w.limits.Start(); err != nil {
		return err
	}
	defer w.guard.Close()
	defer w.limits.Stop()
	return w.Worker.Run(interrupt)
}

// Stop stops both. The limits go last: steps that end want to give their places back.
func (w limitWorker) Stop() {
	w.Worker.Stop()
	w.limits.Stop()
	w.guard.Close()
}
