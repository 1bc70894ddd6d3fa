package stepwell

import (
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"runtime"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/guard"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/telemetry"
	"github.com/stepwell-flows/stepwell/workflows"
)

// WorkerOptions are how a worker works. The zero value is ready.
type WorkerOptions struct {
	// TaskQueue is what the worker polls. Defaults to [DefaultTaskQueue].
	TaskQueue string
	// MaxConcurrent is how many steps run at once. Defaults to four times the number of processors,
	// at least 16: right for steps that wait for services. Set it to the number of processors for steps that compute.
	MaxConcurrent int
	// Embedded says that the server is the embedded one, near and seldom with other workers: one poll for steps is open at a time, and
	// the slots that no poll holds are for steps that workflows in this process hand over directly, which costs half as much. Defaults
	// to a server that may be far away, and as many polls as the SDK finds fit.
	Embedded bool
	// Drain is how long running steps may go on after Stop. Defaults to 25 s; then they are
	// cancelled and run elsewhere, without using up an attempt.
	Drain time.Duration
	// Log gets what steps log. Nil: the lines are only kept in the store.
	Log slog.Handler
	// Redact says what else to hide in logs and in the texts of failures: what a pattern matches. Passwords, tokens and keys that are
	// known to be such are hidden anyway, and flow.Redact hides a single value. Nil: nothing else.
	Redact []*regexp.Regexp
	// Classify gives errors of all steps a class, or "" if it has no opinion. It is asked after a step's own
	// policies.Classifier and before the built-in rules. Nil: those alone.
	Classify func(error) policies.Class
	// Meter makes the metrics of the worker, see docs/telemetry.md. Nil: there are none.
	Meter metric.Meter
}

// NewWorker returns a Temporal worker for flows; the caller starts and stops it. Flows that do not
// pass their Check are refused.
func NewWorker(c client.Client, store *artifacts.Store, o WorkerOptions, flows ...*flow.Flow) (worker.Worker, error) {
	if err := checkFlows(flows); err != nil {
		return nil, err
	}
	if o.TaskQueue == "" {
		o.TaskQueue = DefaultTaskQueue
	}
	if o.MaxConcurrent == 0 {
		o.MaxConcurrent = DefaultSlots()
	}
	if o.Drain == 0 {
		o.Drain = 25 * time.Second
	}
	identity := workerIdentity()
	g := guard.New(guard.Options{Sharer: activities.NewSharer(c), Worker: identity})
	var m *telemetry.Metrics
	if o.Meter != nil {
		var err error
		if m, err = telemetry.NewMetrics(o.Meter); err == nil {
			err = m.Watch(o.MaxConcurrent, g.Breakers)
		}
		if err != nil {
			return nil, fmt.Errorf("make the metrics of the worker: %w", err)
		}
	}
	eager, polls := 100, worker.PollerBehaviorAutoscalingOptions{}
	if o.Embedded {
		polls.InitialNumberOfPollers, polls.MaximumNumberOfPollers = 1, 1
	}
	w := worker.New(c, o.TaskQueue, worker.Options{
		Identity:                           identity,
		MaxConcurrentActivityExecutionSize: o.MaxConcurrent,
		// A step in the process that schedules it need not go through the server's queue first. The default is 3.
		MaxEagerActivityReservationsPerWorkflowTask: &eager,
		WorkflowTaskPollerBehavior:                  worker.NewPollerBehaviorAutoscaling(worker.PollerBehaviorAutoscalingOptions{}),
		ActivityTaskPollerBehavior:                  worker.NewPollerBehaviorAutoscaling(polls),
		// The answer to a heartbeat brings a cancel, so it should not be long in coming. It is also how long the SDK tries
		// to send one before it gives the attempt up: a server that restarts must not cost every running step.
		MaxHeartbeatThrottleInterval: 10 * time.Second,
		WorkerStopTimeout:            o.Drain + 5*time.Second,
		DisableRegistrationAliasing:  true,
	})
	for _, f := range flows {
		workflows.Register(w, f.Name())
	}
	a := activities.New(store, activities.Options{
		Worker: identity, Drain: o.Drain, Log: o.Log, Classify: o.Classify, Redact: o.Redact,
		Guard: g, Metrics: m,
	}, flows...)
	a.Register(w)
	a.Prepare()
	w.RegisterDynamicActivity(a.Unknown, activity.DynamicRegisterOptions{})
	return withLimits(w, c, identity, g), nil
}

// DefaultSlots is how many steps a worker runs at the same time unless its options say otherwise.
func DefaultSlots() int { return max(16, 4*runtime.NumCPU()) }

// workerIdentity tells the workers of a cluster apart.
func workerIdentity() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%d@%s", os.Getpid(), host)
}
