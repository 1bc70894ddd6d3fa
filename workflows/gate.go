package workflows

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/stepwell-flows/stepwell/flow"
)

// gate holds the tasks of a step back while what they need is away. It is open until a task was deferred. Then it is closed until
// the time that the task was told; the first task goes as a probe. When a probe gets through, the gate opens little by
// little: as many tasks may run as have got through since, and one more, so that what came back is not overrun.
//
// Its zero value is open. All of it follows from the history.
type gate struct {
	key     string
	closed  bool
	until   time.Time
	due     bool // the time has come
	timer   bool // somebody waits for it
	probing bool
	// room is how many tasks may run while the gate opens, 0 when it is wide open.
	room, running int
	// queue holds the tasks that wait, in the order of their coming. A task that asked in vain comes last: a probe is a real
	// attempt, and no task should have to spend all of its own.
	queue []*ticket
}

// ticket is a place in a gate's queue. It is not empty, because pointers to empty values may be the same.
type ticket struct{ _ byte }

// wide is how many tasks get through one after the other before the gate is wide open.
const wide = 64

// gate is the one that holds a step's tasks back. Steps that name the same dependency share one.
func (r *run) gate(n *flow.PlanNode) *gate {
	key := "step/" + n.Name
	if n.Policy.Dependency != nil {
		key = "dependency/" + n.Policy.Dependency.Name
	}
	for _, g := range r.gates {
		if g.key == key {
			return g
		}
	}
	g := &gate{key: key}
	r.gates = append(r.gates, g)
	return g
}

// Gate is a gate that holds tasks back, as a workflow that continues as new hands it on.
type Gate struct {
	Key string `json:"key"`
	// Until is when the first task may go, as a probe. Zero when one got through already.
	Until time.Time `json:"until,omitzero"`
	// Room is then how many tasks may run at once.
	Room int `json:"room,omitempty"`
}

// handOn is what the next workflow needs to know of the gates.
func (r *run) handOn() []Gate {
	var out []Gate
	for _, g := range r.gates {
		switch {
		case g.closed:
			out = append(out, Gate{Key: g.key, Until: g.until})
		case g.room > 0:
			out = append(out, Gate{Key: g.key, Room: g.room})
		}
	}
	return out
}

// takeOver sets the gates as the workflow before this one left them.
func (r *run) takeOver(ctx workflow.Context, gates []Gate) {
	for _, left := range gates {
		g := &gate{key: left.Key, room: left.Room}
		if !left.Until.IsZero() {
			g.close(ctx, left.Until.Sub(workflow.Now(ctx)))
		}
		r.gates = append(r.gates, g)
	}
}

// open says that nobody has to wait.
func (g *gate) open() bool { return !g.closed && g.room == 0 }

// errLate says that a task had no time left to wait.
var errLate = errors.New("late")

// pass waits until a task may go through. The function that it returns must be called with how that ended: whether the task was
// let through by what it needs. No wait costs nothing. It is errLate if the deadline, which may be zero, comes first.
func (g *gate) pass(ctx workflow.Context, deadline time.Time, stop func() error) (ended func(through bool), _ error) {
	if g.open() {
		return func(bool) {}, nil
	}
	mine := &ticket{}
	g.queue = append(g.queue, mine)
	var stopped error
	free := func() bool {
		stopped = stop()
		return stopped != nil || g.free(mine)
	}
	var err error
	if deadline.IsZero() {
		err = workflow.Await(ctx, free)
	} else if ok, waitErr := workflow.AwaitWithTimeout(ctx, deadline.Sub(workflow.Now(ctx)), free); waitErr != nil || !ok {
		err = cmp.Or(waitErr, errLate)
	}
	g.queue = slices.DeleteFunc(g.queue, func(t *ticket) bool { return t == mine })
	if stopped != nil {
		return nil, stopped
	}
	if err != nil {
		return nil, err
	}
	probe := g.closed
	g.probing = g.probing || probe
	g.running++
	return func(through bool) {
		g.running--
		if probe {
			g.probing = false
		}
		switch {
		case !through:
		case probe:
			g.closed, g.room = false, 2
		case g.room > 0 && !g.closed:
			if g.room++; g.room > wide {
				g.room = 0
			}
		}
	}, nil
}

func (g *gate) free(t *ticket) bool {
	if g.closed {
		return g.due && !g.probing && g.queue[0] == t
	}
	return g.room == 0 || g.running < g.room
}

// close closes the gate for a time.
func (g *gate) close(ctx workflow.Context, wait time.Duration) {
	until := workflow.Now(ctx).Add(wait)
	g.closed, g.room = true, 0
	if until.After(g.until) {
		g.until = until
	}
	g.due = false
	if g.timer {
		return
	}
	g.timer = true
	workflow.Go(ctx, func(ctx workflow.Context) {
		for {
			left := g.until.Sub(workflow.Now(ctx))
			if left <= 0 || workflow.Sleep(ctx, left) != nil {
				break
			}
		}
		g.due, g.timer = true, false
	})
}
