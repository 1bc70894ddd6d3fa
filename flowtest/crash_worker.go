package flowtest

import (
	"context"
	"fmt"
	"reflect"
	"runtime"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/artifacts/driver"
	"github.com/stepwell-flows/stepwell/artifacts/mem"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

// workers run a flow's activities over one store, one worker at a time. The one that reaches a crash point is killed there, and
// the next activity starts another one, with nothing in its memory.
type workers struct {
	flow  *flow.Flow
	crash *crash // nil: nobody is killed
	watch *watch
	base  driver.Driver
	over  chan struct{} // closed when the test has seen enough

	mu       sync.Mutex
	now      func() time.Time
	alive    *process
	started  int
	happened bool // the crash did
	lost     bool // with it, the server forgot everything
	held     []*call
	calls    sync.WaitGroup
}

// crash is where a worker is killed, and what comes after.
type crash struct {
	at  event
	way way
}

// way is what happens after a worker was lost.
type way string

const (
	// another worker takes over what the server has given to the one that died.
	another way = "another_worker"
	// resume is what is left when the server is gone, too.
	resume way = "resume"
	// cutOff means that only the server thinks that the worker is dead: it comes back when all is over, and goes on.
	cutOff way = "cut_off"
)

// newWorkers makes workers over a store in memory. The hook changes how the store works.
func newWorkers(f *flow.Flow, c *crash, hook func(driver.Driver) driver.Driver) *workers {
	w := &workers{flow: f, crash: c, over: make(chan struct{})}
	w.watch = newWatch(f, mem.New())
	w.base = w.watch
	if hook != nil {
		w.base = hook(w.base)
	}
	return w
}

// store is what the test itself reads and writes.
func (w *workers) store() *artifacts.Store { return artifacts.New(w.base, artifacts.Options{}) }

// process is a worker.
type process struct {
	functions functions
	mu        sync.RWMutex
	dead      bool
	lost      bool // the server forgot what it gave to the worker; guarded by workers.mu
	died      chan struct{}
	busy      sync.WaitGroup // author's functions under way
}

// functions are registered activities by their names.
type functions map[string]reflect.Value

// RegisterActivityWithOptions implements activities.Registry.
func (f functions) RegisterActivityWithOptions(fn any, o activity.RegisterOptions) {
	f[o.Name] = reflect.ValueOf(fn)
}

// worker is the one that lives.
func (w *workers) worker() *process {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.alive == nil {
		w.started++
		one := &process{functions: functions{}, died: make(chan struct{})}
		store := artifacts.New(mortal{Driver: w.base, worker: one, all: w}, artifacts.Options{})
		activities.New(store, activities.Options{
			Worker: fmt.Sprintf("worker-%d", w.started), Random: half, Now: w.clock, At: w.at, InProcess: true,
		}, w.flow).Register(one.functions)
		w.alive = one
	}
	return w.alive
}

func (w *workers) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now()
}

// call is an activity that a worker runs.
type call struct {
	worker *process
	// cut is closed when the server gives the activity up although its worker lives.
	cut  chan struct{}
	off  bool          // it is; guarded by workers.mu
	back chan struct{} // closed when it may go on
	busy bool          // it runs the author's function; guarded by workers.mu
	// begun is the function that was called last, and kept how many checkpoints it has kept; guarded by workers.mu.
	begun activities.Moment
	kept  int
}

type callKey struct{}

func callOf(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

// register registers the activities with an environment.
func (w *workers) register(env *testsuite.TestWorkflowEnvironment) {
	w.mu.Lock()
	w.now = env.Now
	w.mu.Unlock()
	for name, fn := range w.worker().functions {
		run := func(args []reflect.Value) []reflect.Value { return w.run(name, fn.Type(), args) }
		env.RegisterActivityWithOptions(reflect.MakeFunc(fn.Type(), run).Interface(), activity.RegisterOptions{Name: name})
	}
}

var errGone = temporal.NewNonRetryableApplicationError("the server forgot the run", string(policies.Lost), nil)

// run runs an activity on the worker that lives, and answers the server for it if that worker dies.
func (w *workers) run(name string, fn reflect.Type, args []reflect.Value) []reflect.Value {
	w.mu.Lock()
	lost := w.lost
	w.mu.Unlock()
	if lost {
		return failed(fn, errGone)
	}
	if len(args) > 1 {
		if in, ok := reflect.TypeAssert[activities.StepInput](args[1]); ok {
			w.watch.joins(in)
		}
	}
	c := &call{worker: w.worker(), cut: make(chan struct{}), back: make(chan struct{})}
	parent := args[0].Interface().(context.Context)
	// What the server does with an activity that it has given up no longer touches it.
	ctx, cancel := context.WithCancelCause(context.WithValue(context.WithoutCancel(parent), callKey{}, c))
	stop := context.AfterFunc(parent, func() {
		if !w.dropped(c) {
			cancel(context.Cause(parent))
		}
	})
	result := make(chan []reflect.Value, 1)
	w.calls.Go(func() {
		defer cancel(nil)
		defer w.idle(c)
		result <- c.worker.functions[name].Call(append([]reflect.Value{reflect.ValueOf(ctx)}, args[1:]...))
	})
	var out []reflect.Value
	select {
	case out = <-result:
	case <-c.worker.died:
	case <-c.cut:
	}
	if !w.dropped(c) {
		stop()
		return out
	}
	go func() { // whoever waits for something that cannot be has to end with the test
		<-w.over
		cancel(errKilled)
	}()
	if c.worker.isDead() {
		w.settle(c.worker)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.worker.lost {
		return failed(fn, errGone)
	}
	return failed(fn, temporal.NewHeartbeatTimeoutError())
}

// failed are the results of an activity that ends with an error.
func failed(fn reflect.Type, err error) []reflect.Value {
	var out []reflect.Value
	for i := range fn.NumOut() - 1 {
		out = append(out, reflect.Zero(fn.Out(i)))
	}
	return append(out, reflect.ValueOf(&err).Elem())
}

// dropped says that nobody waits for a call any more.
func (w *workers) dropped(c *call) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return c.off || c.worker.isDead()
}

func (o *process) isDead() bool {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.dead
}

// settle waits until no function of the author's runs on a dead worker. A goroutine cannot be killed; what it does until it
// returns counts as done just before.
func (w *workers) settle(o *process) {
	const patience = 5 * time.Second // for a function that waits for what will not be
	quiet := make(chan struct{})
	go func() {
		o.busy.Wait()
		close(quiet)
	}()
	select {
	case <-quiet:
	case <-time.After(patience):
	}
}

// work says that a call runs the author's function, unless its worker is dead.
func (w *workers) work(c *call) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.worker.isDead() {
		return false
	}
	if !c.busy {
		c.busy = true
		c.worker.busy.Add(1)
	}
	return true
}

// idle says that a call does not run the author's function, or that the function stands still.
func (w *workers) idle(c *call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.busy {
		c.busy = false
		c.worker.busy.Done()
	}
}

// at is called at each moment of each attempt.
func (w *workers) at(ctx context.Context, m activities.Moment) {
	c := callOf(ctx)
	if m.Point == activities.PointBegin {
		w.mu.Lock()
		c.begun, c.kept = m, 0
		w.mu.Unlock()
	} else {
		w.idle(c)
	}
	w.pass(ctx, c, m, eventOf(m))
	if m.Point == activities.PointBegin && !w.work(c) {
		w.halt(m.Point)
	}
}

// checkpoint is called when the author's function has kept a checkpoint.
func (w *workers) checkpoint(ctx context.Context, c *call) {
	w.mu.Lock()
	c.kept++
	m := c.begun
	m.Point = pointCheckpoint
	e := eventOf(m)
	e.nth = c.kept
	w.mu.Unlock()
	w.pass(ctx, c, m, e)
}

// pass lets a call go on from a moment, unless its worker is dead or dies now.
func (w *workers) pass(ctx context.Context, c *call, m activities.Moment, e event) {
	if c.worker.isDead() {
		w.halt(m.Point)
		return
	}
	w.mu.Lock()
	hit := w.crash != nil && !w.happened && w.crash.at == e
	w.happened = w.happened || hit
	off := c.off
	w.mu.Unlock()
	if !off {
		w.watch.moment(ctx, m, e)
	}
	switch {
	case hit && w.crash.way == cutOff:
		w.mu.Lock()
		c.off = true
		w.held = append(w.held, c)
		close(c.cut)
		w.mu.Unlock()
		<-c.back
	case hit:
		w.kill(c.worker)
	}
	if c.worker.isDead() {
		w.idle(c)
		w.halt(m.Point)
	}
}

// kill ends a worker: from now on nothing that it does has an effect.
func (w *workers) kill(o *process) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.dead = true
	close(o.died)
	w.alive = nil
	o.lost = w.crash.way == resume
	w.lost = o.lost
}

// halt is what becomes of a goroutine of a dead worker: it stands still until the test is over.
func (w *workers) halt(p activities.Point) {
	<-w.over
	if p == activities.PointBegin {
		runtime.Goexit() // the function must not run after all
	}
}

// comeBack lets those go on that were cut off, to their end.
func (w *workers) comeBack() {
	w.mu.Lock()
	held := w.held
	w.held = nil
	w.mu.Unlock()
	for _, c := range held {
		close(c.back)
	}
	if len(held) > 0 {
		w.wait()
	}
}

// forgot says whether the server forgot everything, and makes it work again.
func (w *workers) forgot() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	lost := w.lost
	w.lost = false
	return lost
}

// close ends all that is left of dead workers.
func (w *workers) close() {
	w.comeBack()
	close(w.over)
	w.wait()
}

// wait waits for all activities to return, for a while.
func (w *workers) wait() {
	done := make(chan struct{})
	go func() {
		w.calls.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
	}
}
