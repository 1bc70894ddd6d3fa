package activities

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/guard"
	"github.com/stepwell-flows/stepwell/isolate"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/telemetry"
)

// copied is what a copy of a worker knows: one task, and whom to tell.
type copied struct {
	conn     *isolate.Conn
	flows    []*flow.Flow
	classify func(error) policies.Class
	cancel   context.CancelCauseFunc
	t        *attempt

	mu      sync.Mutex
	asked   int64
	waiting map[int64]chan guard.Reply // of questions
}

// RunChild does the one task that this process was started for: it loads the state, calls the step's function, stores what it set,
// and tells the worker, who writes the record. It returns the exit code of the process. Flows and classify are the worker's.
func RunChild(conn *isolate.Conn, classify func(error) policies.Class, flows ...*flow.Flow) int {
	var m toChild
	if err := conn.Receive(&m); err != nil || m.Task == nil {
		return 1 // the worker is gone, or has no use for this process any more
	}
	ctx, cancel := context.WithCancelCause(telemetry.WithParent(context.Background(), m.Task.Parent))
	defer cancel(nil)
	if at := m.Task.Deadline; !at.IsZero() {
		var stop context.CancelFunc
		ctx, stop = context.WithDeadlineCause(ctx, at, errTimeout)
		defer stop()
	}
	c := &copied{conn: conn, flows: flows, classify: classify, cancel: cancel, waiting: map[int64]chan guard.Reply{}}
	go c.obey()
	result := c.run(ctx, *m.Task)
	result.Alone, result.Peak = isolate.Childless(), isolate.Peak()
	if err := conn.Send(fromChild{Result: &result}); err != nil {
		return 1
	}
	return 0
}

// obey takes what the worker sends later. When the worker is gone, nobody wants the result.
func (c *copied) obey() {
	for {
		var m toChild
		if c.conn.Receive(&m) != nil {
			os.Exit(1)
		}
		switch {
		case m.Cancel != "":
			c.cancel(errors.New(m.Cancel))
		case m.Reply != nil:
			c.mu.Lock()
			waiting := c.waiting[m.To]
			delete(c.waiting, m.To)
			c.mu.Unlock()
			if waiting != nil {
				waiting <- *m.Reply
			}
		}
	}
}

// ask asks the worker's guard.
func (c *copied) ask(q guard.Question) guard.Reply {
	reply := make(chan guard.Reply, 1)
	c.mu.Lock()
	c.asked++
	n := c.asked
	c.waiting[n] = reply
	c.mu.Unlock()
	if c.conn.Send(fromChild{Question: &q, Number: n}) != nil {
		return guard.Reply{} // the worker is gone, and so is this process in a moment
	}
	return <-reply
}

func (c *copied) run(ctx context.Context, task childTask) (result childResult) {
	defer func() {
		if v := recover(); v != nil {
			f := policies.PanicFailure(v, debug.Stack())
			p := policies.Pack(f, f)
			result = childResult{Error: &p, Panic: true}
		}
	}()
	o, entries, changed := c.try(ctx, task)
	if c.t != nil {
		result.Cards = renderedCards(c.t)
	}
	if o.err == nil {
		result.Entries, result.Changed, result.Ahead = entries, changed, o.ahead
		return result
	}
	f := o.failure
	if result.Panic = f != nil; !result.Panic {
		f = policies.ClassifyWith(o.err, c.rules()...)
	}
	p := policies.Pack(o.err, f)
	result.Error, result.Unavailable = &p, unavailable(o.err)
	c.askRetryIf(o.err, &result)
	return result
}

func (c *copied) rules() []func(error) policies.Class {
	if c.t == nil {
		return []func(error) policies.Class{c.classify}
	}
	return []func(error) policies.Class{c.t.def.Classify, c.classify}
}

// askRetryIf asks the step's rule while the error has its type.
func (c *copied) askRetryIf(err error, result *childResult) {
	if c.t == nil || c.t.def.RetryIf == nil {
		return
	}
	defer func() {
		if v := recover(); v != nil {
			result.RetryIfPanic = fmt.Sprint(v)
		}
	}()
	yes := c.t.def.RetryIf(err)
	result.RetryIf = &yes
}

// try does in this process what attempt.try does in the worker's.
func (c *copied) try(ctx context.Context, task childTask) (o outcome, entries map[string]artifacts.Entry, changed []string) {
	failed := func(err error) (outcome, map[string]artifacts.Entry, []string) { return outcome{err: err}, nil, nil }
	i := slices.IndexFunc(c.flows, func(f *flow.Flow) bool { return f.Name() == task.In.Flow })
	if i < 0 || c.flows[i].StepDef(task.In.Step) == nil {
		return failed(policies.WithClass(fmt.Errorf(
			"step %s.%s is not in the program that its process runs (give the flow to stepwell.App, or to the call of Child)", task.In.Flow, task.In.Step), policies.Permanent))
	}
	f := c.flows[i]
	if task.Memory > 0 && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(softLimit(task.Memory))
	}
	if err := os.Chdir(task.Dir); err != nil {
		return failed(policies.WithClass(fmt.Errorf("working directory of the step: %w", err), policies.Permanent))
	}
	store, err := artifacts.Open(ctx, task.Store, artifacts.Options{Patience: task.Patience, CacheBytes: task.Cache})
	if err != nil {
		return failed(err)
	}
	a := New(store, Options{Worker: task.Worker, Classify: c.classify, Guard: guard.New(guard.Options{Ask: c.ask})}, f)
	t := &attempt{Activities: a, flow: f, def: f.StepDef(task.In.Step), in: task.In, run: task.Run, number: task.Number, worker: task.Worker}
	t.tell = func(secret string) { _ = c.conn.Send(fromChild{Secret: secret}) }
	c.t = t
	if task.Previous != nil {
		t.ledger = []records.Attempt{{Failure: task.Previous}}
	}

	state, prev, _, err := t.load(ctx)
	if err != nil {
		return failed(err)
	}
	var join *joinSource
	if t.in.Join != nil {
		if join, err = t.joinSource(ctx, state, prev); err != nil {
			return failed(err)
		}
	}
	snapshot, err := f.Schema().Snapshot(state)
	if err != nil {
		return failed(err)
	}
	if err := c.conn.Send(fromChild{Begun: true}); err != nil {
		return failed(err)
	}
	paced := &pace{first: liveFirst, every: liveEvery, do: c.sendCards}
	defer paced.stop()
	t.cardsChanged = paced.mark
	log := slog.New(slog.NewJSONHandler(lineSender{c.conn}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	o = <-t.goCall(t.equip(ctx, log, c.progress()), state, join)
	if o.err != nil {
		return o, nil, nil
	}
	by := t.in.Run + "/" + flow.TaskName(t.in.Step, t.in.Index)
	entries, changed, err = f.Schema().Save(context.WithoutCancel(ctx), store, state, prev, snapshot, by)
	switch {
	case errors.Is(err, artifacts.ErrUnavailable):
		return failed(err)
	case err != nil:
		return failed(policies.WithClass(err, policies.Permanent))
	}
	return o, entries, changed
}

// progress returns what tells the worker how far the step is, ten times a second at most.
func (c *copied) progress() func(done, total int64) {
	var mu sync.Mutex
	var next time.Time
	return func(done, total int64) {
		mu.Lock()
		defer mu.Unlock()
		if now := time.Now(); done == total || !now.Before(next) {
			next = now.Add(100 * time.Millisecond)
			_ = c.conn.Send(fromChild{Progress: &[2]int64{done, total}})
		}
	}
}

// sendCards tells the worker what the cards show by now.
func (c *copied) sendCards() time.Duration {
	began := time.Now()
	cards := renderedCards(c.t)
	took := time.Since(began)
	_ = c.conn.Send(fromChild{Cards: cards})
	return took
}

// lineSender sends each line of a log.
type lineSender struct{ conn *isolate.Conn }

// Write implements io.Writer.
func (s lineSender) Write(line []byte) (int, error) {
	return len(line), s.conn.Send(fromChild{Log: slices.Clone(line)})
}

var _ io.Writer = lineSender{}

// renderedCards renders what the step appended to its cards. Whatever goes wrong, the card says so.
func renderedCards(t *attempt) map[string][]template.HTML {
	all := map[string][]template.HTML{}
	for _, card := range t.def.Cards {
		for _, component := range t.live.components(card.Name) {
			all[card.Name] = append(all[card.Name], renderedCard(component))
		}
	}
	return all
}

func renderedCard(component flow.Component) (html template.HTML) {
	defer func() {
		if v := recover(); v != nil {
			html = template.HTML(template.HTMLEscapeString(fmt.Sprintf("a component of type %T could not be shown: %v", component, v))) //nolint:gosec // escaped
		}
	}()
	return template.HTML(strings.ToValidUTF8(string(component.CardHTML()), "\uFFFD")) //nolint:gosec // flow.Component's contract
}
