package activities

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"golang.org/x/sync/errgroup"

	"github.com/stepwell-flows/stepwell/policies"
)

// The names of limits in Temporal. A limit is kept by a workflow of the type LimitType, one for each key, which every worker
// takes from the queue LimitQueue: it must not depend on the workers of the run that happened to need it first.
const (
	LimitType   = "stepwell.limit"
	LimitQueue  = "stepwell.limits"
	LimitSignal = "stepwell.limit" // to a limit, a LimitMessage
	GrantSignal = "stepwell.grant" // to a run, a Grant

	SendLimitType  = "stepwell.limit.send"
	GrantLimitType = "stepwell.limit.grant"
	CheckLimitType = "stepwell.limit.check"
)

// LimitID is the id of the workflow that keeps the limit of a key.
func LimitID(key string) string { return "stepwell/limit/" + key }

// LimitInput starts the workflow that keeps a limit. Key is enough.
type LimitInput struct {
	Key string `json:"key"`
	// Check is how often it looks whether the holders are alive, and Idle how long it waits for another request when there
	// is nobody left. They default to a minute and to five.
	Check time.Duration `json:"check,omitempty"`
	Idle  time.Duration `json:"idle,omitempty"`
	// The state, when it continues as new. Held and Waiting are in the order of their coming.
	Max     int     `json:"max,omitempty"`
	Held    []Lease `json:"held,omitempty"`
	Waiting []Lease `json:"waiting,omitempty"`
}

// Lease is a task's place among those that run, or in the queue.
type Lease struct {
	Holder
	// First is the run id that the workflow had before it was reset: with Workflow and Task, it identifies the lease.
	First string `json:"first"`
	Task  string `json:"task"`
}

// Same reports whether both are the same lease.
func (l Lease) Same(m Lease) bool {
	return l.Workflow == m.Workflow && l.First == m.First && l.Task == m.Task
}

// Holder is the workflow execution that runs a task: that of a run, or of a shard.
type Holder struct {
	Workflow string `json:"workflow"`
	Run      string `json:"run"`
}

// LimitMessage is what a run tells a limit: tasks that want to run, and tasks that ended or do not want to any more.
type LimitMessage struct {
	Key  string   `json:"key"`
	Max  int      `json:"max"`
	Free []string `json:"free,omitempty"` // comes before Ask
	Ask  []string `json:"ask,omitempty"`
	// First is the Lease's. Holder is filled in when the message is sent.
	First string `json:"first"`
	Holder
}

// LimitSent says what became of messages.
type LimitSent struct {
	// Alone says that there is no server, and therefore no other run: this is a test environment.
	Alone bool `json:"alone,omitempty"`
}

// LimitGrant tells a run that tasks may start.
type LimitGrant struct {
	Holder
	Grant
}

// Grant is the signal of a LimitGrant.
type Grant struct {
	Key   string   `json:"key"`
	Tasks []string `json:"tasks"`
}

// LimitFate is what became of a holder.
type LimitFate struct {
	Holder
	// Now is the run id that it has since it was reset, empty if it ended.
	Now string `json:"now,omitempty"`
}

// RegisterLimit registers the activities of [LimitType], for a worker of [LimitQueue].
func RegisterLimit(r Registry) {
	r.RegisterActivityWithOptions(grantLimit, activity.RegisterOptions{Name: GrantLimitType})
	r.RegisterActivityWithOptions(checkLimit, activity.RegisterOptions{Name: CheckLimitType})
}

// sendLimit takes a run's messages to limits. It starts a limit that does not run, in one transaction with the message:
// whether the limit is about to end makes no difference.
func sendLimit(ctx context.Context, messages []LimitMessage) (LimitSent, error) {
	c := activity.GetClient(ctx)
	if v := reflect.ValueOf(c); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() { // in a test environment, a nil pointer
		return LimitSent{Alone: true}, nil
	}
	e := activity.GetInfo(ctx).WorkflowExecution
	for _, m := range messages {
		m.Holder = Holder{e.ID, e.RunID}
		if err := sendOne(ctx, c, m); err != nil {
			return LimitSent{}, limitError(fmt.Errorf("limit %q: %w", m.Key, err))
		}
	}
	return LimitSent{}, nil
}

func sendOne(ctx context.Context, c client.Client, m LimitMessage) error {
	id := LimitID(m.Key)
	if len(m.Ask) == 0 {
		err := c.SignalWorkflow(ctx, id, "", LimitSignal, m)
		if _, gone := errors.AsType[*serviceerror.NotFound](err); gone {
			return nil // nobody holds anything
		}
		return err
	}
	_, err := c.SignalWithStartWorkflow(ctx, id, LimitSignal, m, client.StartWorkflowOptions{
		TaskQueue: LimitQueue, StaticSummary: policies.Limit{Key: m.Key, Max: m.Max}.String(),
	}, LimitType, LimitInput{Key: m.Key})
	return err
}

// limitError makes an error that does not pass final: the task that asked fails, and says why.
func limitError(err error) error {
	var (
		invalid *serviceerror.InvalidArgument
		denied  *serviceerror.PermissionDenied
	)
	if errors.As(err, &invalid) || errors.As(err, &denied) {
		return temporal.NewNonRetryableApplicationError(err.Error(), string(policies.Permanent), nil)
	}
	return err
}

// limitCalls is how many calls to the server a limit makes at once.
const limitCalls = 16

// grantLimit tells runs that tasks of theirs may start. It returns what became of those that are not there any more.
func grantLimit(ctx context.Context, grants []LimitGrant) ([]LimitFate, error) {
	c := activity.GetClient(ctx)
	return fates(ctx, len(grants), func(ctx context.Context, i int) (*LimitFate, error) {
		g := grants[i]
		err := c.SignalWorkflow(ctx, g.Workflow, g.Run, GrantSignal, g.Grant)
		if _, full := errors.AsType[*serviceerror.InvalidArgument](err); full {
			return &LimitFate{Holder: g.Holder}, nil // it takes no more signals, and would never give anything back
		}
		if _, gone := errors.AsType[*serviceerror.NotFound](err); !gone {
			return nil, err
		}
		return fate(ctx, c, g.Holder)
	})
}

// checkLimit looks whether holders are alive. It returns what became of those that are not.
func checkLimit(ctx context.Context, holders []Holder) ([]LimitFate, error) {
	c := activity.GetClient(ctx)
	return fates(ctx, len(holders), func(ctx context.Context, i int) (*LimitFate, error) {
		activity.RecordHeartbeat(ctx)
		return fate(ctx, c, holders[i])
	})
}

func fates(ctx context.Context, n int, one func(context.Context, int) (*LimitFate, error)) ([]LimitFate, error) {
	var (
		mu  sync.Mutex
		all []LimitFate
	)
	var g errgroup.Group // one holder that cannot be reached does not keep the others waiting
	g.SetLimit(limitCalls)
	for i := range n {
		g.Go(func() error {
			f, err := one(ctx, i)
			if f != nil {
				mu.Lock()
				defer mu.Unlock()
				all = append(all, *f)
			}
			return err
		})
	}
	err := g.Wait()
	slices.SortFunc(all, func(a, b LimitFate) int {
		return slices.Compare([]string{a.Workflow, a.Run}, []string{b.Workflow, b.Run})
	})
	return all, err
}

// fate is nil for a holder that runs. A workflow that was reset goes on under another run id.
func fate(ctx context.Context, c client.Client, h Holder) (*LimitFate, error) {
	for run := h.Run; ; {
		d, err := c.DescribeWorkflowExecution(ctx, h.Workflow, run)
		if _, gone := errors.AsType[*serviceerror.NotFound](err); gone {
			return &LimitFate{Holder: h}, nil
		}
		if err != nil {
			return nil, err
		}
		switch next := d.GetWorkflowExtendedInfo().GetResetRunId(); {
		case d.GetWorkflowExecutionInfo().GetCloseTime() == nil && run == h.Run:
			return nil, nil
		case d.GetWorkflowExecutionInfo().GetCloseTime() == nil:
			return &LimitFate{Holder: h, Now: run}, nil
		case next == "":
			return &LimitFate{Holder: h}, nil
		default:
			run = next
		}
	}
}
