package workflows

import (
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/policies"
)

const (
	// maxAsked bounds how many tasks of one workflow wait in a limit's queue; the others wait here. A limit that has many
	// such workflows forgets some of them when it continues as new, see [LimitInput].
	maxAsked = 64
	// askAgain is how long a workflow waits before it asks again: in case that somebody ended the limit, which knew.
	askAgain = time.Hour
)

// limiter is a workflow's side of the limits that its tasks are under. Its zero value is ready. A workflow has one, because
// what it hands out comes by one signal.
type limiter struct {
	keys []*limitKey // in the order of their first use
	// wake is nil until the first use: what was never under a limit has no coroutine for it.
	wake workflow.Channel
	sent *sending // of what is to be sent next, nil when that is nothing that anybody waits for
}

// limitKey is one limit as this workflow sees it. A task moves from local to asked to held.
type limitKey struct {
	key   string
	max   int
	local []*waiter // not asked for, so that a large foreach does not stand before everybody else
	asked []*waiter
	held  map[string]bool
	ask   []string // to be sent
	free  []string
}

// waiter is a task that waits for its turn.
type waiter struct {
	task string
	done bool
	err  error
}

type sending struct {
	done workflow.Future
	set  workflow.Settable
}

// acquire waits until a task may run under a limit, and returns what gives its place back. Both are called by the
// task's coroutine; release returns when the limit was told, and may be called more than once. No limit at all costs nothing.
//
// The request is withdrawn when the context is cancelled and when stop, which may be nil, has an error: acquire returns it. It
// is asked often, like the condition of workflow.Await.
//
// Which tasks of a workflow wait is decided by its history alone. After a reset, a task that was waiting or running is known
// to the limit under the same name, see [activities.Lease].
func (l *limiter) acquire(ctx workflow.Context, limit policies.Limit, task string, stop func() error) (release func(), err error) {
	if limit == (policies.Limit{}) {
		return func() {}, nil
	}
	l.start(ctx)
	k := l.key(limit.Key)
	k.max = limit.Max
	w := &waiter{task: task}
	k.local = append(k.local, w)
	l.pump(k)

	var stopped error
	err = workflow.Await(ctx, func() bool {
		if stop != nil {
			stopped = stop()
		}
		return w.done || stopped != nil
	})
	if stopped != nil {
		err = stopped
	}
	if err != nil {
		l.withdraw(ctx, k, w)
		return nil, err
	}
	if w.err != nil {
		return nil, w.err
	}
	released := false
	return func() {
		if !released {
			released = true
			delete(k.held, task)
			l.free(ctx, k, task)
		}
	}, nil
}

// start starts the coroutine that talks to the limits. It is not cancelled with the task that came first.
func (l *limiter) start(ctx workflow.Context) {
	if l.wake != nil {
		return
	}
	l.wake = workflow.NewNamedBufferedChannel(ctx, "limits", 1)
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	workflow.GoNamed(ctx, "limits", l.talk)
}

func (l *limiter) key(key string) *limitKey {
	for _, k := range l.keys {
		if k.key == key {
			return k
		}
	}
	k := &limitKey{key: key, held: map[string]bool{}}
	l.keys = append(l.keys, k)
	return k
}

// pump asks for as many of the tasks that wait here as could run at once.
func (l *limiter) pump(k *limitKey) {
	for len(k.local) > 0 && len(k.asked) < maxAsked && len(k.asked)+len(k.held) < k.max {
		w := k.local[0]
		k.local = k.local[1:]
		k.asked = append(k.asked, w)
		k.ask = append(k.ask, w.task)
	}
	if len(k.ask) > 0 || len(k.free) > 0 {
		l.wake.SendAsync(true)
	}
}

// free gives a place back, asks for the next task in the same message, and waits until that was sent: the workflow may end
// right after.
func (l *limiter) free(ctx workflow.Context, k *limitKey, task string) {
	k.free = append(k.free, task)
	l.pump(k)
	if l.sent == nil {
		l.sent = &sending{}
		l.sent.done, l.sent.set = workflow.NewFuture(ctx)
	}
	// What the limit was not told, it finds out. A future does not mind that the context is cancelled.
	_ = l.sent.done.Get(ctx, nil)
}

// withdraw ends the waiting of a task that is not to run.
func (l *limiter) withdraw(ctx workflow.Context, k *limitKey, w *waiter) {
	mine := func(o *waiter) bool { return o == w }
	if i := slices.IndexFunc(k.local, mine); i >= 0 {
		k.local = slices.Delete(k.local, i, i+1)
		return
	}
	if w.done && w.err != nil {
		return
	}
	delete(k.held, w.task) // its turn may just have come
	k.asked = slices.DeleteFunc(k.asked, mine)
	if i := slices.Index(k.ask, w.task); i >= 0 { // not sent yet
		k.ask = slices.Delete(k.ask, i, i+1)
		l.pump(k)
		return
	}
	l.free(ctx, k, w.task)
}

// talk sends what is to be sent, and takes what was granted.
func (l *limiter) talk(ctx workflow.Context) {
	grants := workflow.GetSignalChannelWithOptions(ctx, activities.GrantSignal, workflow.SignalChannelOptions{
		Description: "a place of a limit was granted; the workflow that keeps the limit sends it",
	})
	var again workflow.Future
	for {
		l.send(ctx)
		sel := workflow.NewSelector(ctx)
		sel.AddReceive(l.wake, func(c workflow.ReceiveChannel, _ bool) { c.Receive(ctx, nil) })
		sel.AddReceive(grants, func(c workflow.ReceiveChannel, _ bool) {
			var g activities.Grant
			c.Receive(ctx, &g)
			l.granted(g)
		})
		if again == nil && l.asking() {
			again = workflow.NewTimer(ctx, askAgain) // not stopped when the turn comes: that would be an event for each task
		}
		if again != nil {
			sel.AddFuture(again, func(workflow.Future) {
				again = nil
				for _, k := range l.keys {
					k.repeat()
				}
			})
		}
		sel.Select(ctx)
	}
}

func (l *limiter) asking() bool {
	return slices.ContainsFunc(l.keys, func(k *limitKey) bool { return len(k.asked) > 0 })
}

// repeat asks again for all that was asked for.
func (k *limitKey) repeat() {
	k.ask = nil
	for _, w := range k.asked {
		k.ask = append(k.ask, w.task)
	}
}

// send sends messages until there are none, all in one local activity: those of tasks that begin and end together cost as
// much as one.
func (l *limiter) send(ctx workflow.Context) {
	first := workflow.GetInfo(ctx).OriginalRunID
	for {
		var messages []activities.LimitMessage
		for _, k := range l.keys {
			if len(k.ask) > 0 || len(k.free) > 0 {
				messages = append(messages, activities.LimitMessage{Key: k.key, Max: k.max, First: first, Ask: k.ask, Free: k.free})
				k.ask, k.free = nil, nil
			}
		}
		if len(messages) == 0 {
			return
		}
		sent := l.sent
		l.sent = nil
		var is activities.LimitSent
		err := workflow.ExecuteLocalActivity(workflow.WithLocalActivityOptions(ctx, localCall(0)), activities.SendLimitType, messages).Get(ctx, &is)
		if sent != nil {
			sent.set.Set(nil, nil)
		}
		if err == nil && !is.Alone {
			continue
		}
		// Nobody will answer: they are refused, or there is nobody else who could run.
		for _, m := range messages {
			for _, task := range m.Ask {
				l.settle(l.key(m.Key), task, err)
			}
		}
	}
}

// granted starts the tasks whose turn came. A grant that nobody waits for is given back: it crossed with a withdrawal, or is
// from before a reset. A grant of nothing says that the limit has forgotten some that wait, see [LimitInput].
func (l *limiter) granted(g activities.Grant) {
	k := l.key(g.Key)
	if len(g.Tasks) == 0 {
		k.repeat()
	}
	for _, task := range g.Tasks {
		if !k.held[task] && !l.settle(k, task, nil) {
			k.free = append(k.free, task)
		}
	}
	l.pump(k)
}

// settle ends a task's waiting. It reports whether the task was waiting.
func (l *limiter) settle(k *limitKey, task string, err error) bool {
	for _, list := range []*[]*waiter{&k.asked, &k.local} {
		i := slices.IndexFunc(*list, func(w *waiter) bool { return w.task == task })
		if i < 0 {
			continue
		}
		w := (*list)[i]
		*list = slices.Delete(*list, i, i+1)
		if err == nil {
			k.held[task] = true
		}
		w.done, w.err = true, err
		l.pump(k)
		return true
	}
	return false
}
