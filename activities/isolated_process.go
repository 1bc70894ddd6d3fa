package activities

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"syscall"
	"time"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/guard"
	"github.com/stepwell-flows/stepwell/isolate"
	"github.com/stepwell-flows/stepwell/policies"
)

// crashLoop is how many times in a row an isolated step may end before its function is called.
const crashLoop = 3

// What does not get to its main function, and what does not die, is given up after a while.
const (
	helloPatience = time.Minute
	killPatience  = 10 * time.Second
)

// child is a copy at work for an attempt.
type child struct {
	*isolate.Child
	t        *attempt
	desk     *guard.Desk
	messages chan fromChild
	hello    chan struct{} // closed when it got to its main function
	quit     chan struct{}

	begun bool
}

// environment is what an isolated process finds besides the environment of the worker.
func environment(limits *flow.Isolated) []string {
	if limits == nil {
		return nil
	}
	var env []string
	if limits.CPU > 0 {
		env = append(env, fmt.Sprintf("GOMAXPROCS=%d", int(math.Ceil(limits.CPU))))
	}
	if limits.Memory > 0 {
		env = append(env, fmt.Sprintf("GOMEMLIMIT=%d", softLimit(limits.Memory)))
	}
	return append(env, limits.Env...)
}

// softLimit is where Go's collector does what it can.
func softLimit(memory int64) int64 { return memory - memory/10 }

// startChild starts a copy, or takes the one that is ready. Settings of the environment have to be there from its start.
func (t *attempt) startChild() (c *child, ready bool, err error) {
	var one *isolate.Child
	if l := t.isolated; len(l.Env) > 0 || l.CPU > 0 {
		one, err = isolate.StartChild(environment(l), l.Memory, l.CPU)
	} else if one, ready, err = t.pool.Take(); err == nil {
		one.Limit(l.Memory)
	}
	if err != nil {
		return nil, false, startFailure(err)
	}
	c = &child{Child: one, t: t, desk: guard.NewDesk(t.options.Guard.Within(t.guards[0])), messages: make(chan fromChild), hello: make(chan struct{}), quit: make(chan struct{})}
	return c, ready, nil
}

// startFailure is the failure of a program that could not be started. That stays so, unless the machine was too busy.
func startFailure(err error) *policies.Failure {
	f := policies.Classify(err)
	f.Type, f.Class = StartErrorType, policies.Permanent
	if e, ok := errors.AsType[*isolate.StartError](err); ok && e.Temporary() {
		f.Class = policies.Transient
	}
	return f
}

// receive hands on what the process sends, until it has ended.
func (c *child) receive(ready bool) {
	defer close(c.messages)
	if !ready && c.Hello() != nil {
		return
	}
	close(c.hello)
	for {
		var m fromChild
		if c.Receive(&m) != nil {
			return
		}
		select {
		case c.messages <- m:
		case <-c.quit:
			return
		}
	}
}

// listen does what the process asks for, until it has a result, which is returned, or is gone.
func (c *child) listen(ctx context.Context) *childResult {
	hello, over := c.hello, ctx.Done()
	late := time.NewTimer(helloPatience)
	defer late.Stop()
	for {
		select {
		case <-hello:
			hello = nil
			late.Stop()
		case <-late.C: // of the hello, or of the grace
			c.Kill()
		case <-over:
			over, hello = nil, nil
			go func() { _ = c.Send(toChild{Cancel: context.Cause(ctx).Error()}) }()
			late.Reset(grace)
		case m, ok := <-c.messages:
			if !ok {
				return nil
			}
			if m.Result != nil {
				return m.Result
			}
			c.handle(m)
		}
	}
}

func (c *child) handle(m fromChild) {
	switch {
	case m.Begun:
		c.begun = true
	case m.Progress != nil:
		c.t.progress(m.Progress[0], m.Progress[1])
	case m.Cards != nil:
		c.t.live.take(m.Cards)
		c.t.live.content.Refresh()
	case m.Secret != "":
		c.t.redact(m.Secret)
	case m.Log != nil:
		c.t.relog(m.Log)
	case m.Question != nil:
		go func() { // it may take a while
			reply := c.desk.Answer(*m.Question)
			_ = c.Send(toChild{Reply: &reply, To: m.Number})
		}()
	}
}

// wait waits for the end of a process that has no more to say.
func (c *child) wait(ctx context.Context) isolate.Exit {
	exit := make(chan isolate.Exit, 1)
	go func() { exit <- c.Wait() }()
	select {
	case e := <-exit:
		return e
	case <-ctx.Done():
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case e := <-exit:
		return e
	case <-timer.C:
		c.Kill()
		return <-exit
	}
}

// stoppedWith says that a process was told to end along with its worker, as systemd tells all of a unit. That says nothing about the
// step. The worker may hear of it a moment later.
func stoppedWith(worker <-chan struct{}, e isolate.Exit) bool {
	stops := []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP}
	if !slices.ContainsFunc(stops, func(s syscall.Signal) bool { return e.Signal == s || e.Code == 128+int(s) }) {
		return false
	}
	select {
	case <-worker:
		return true
	case <-time.After(time.Second):
		return false
	}
}

// errStopped is the failure of such a process.
func errStopped() error { return &policies.Failure{Class: policies.Lost, Message: errDrained.Error()} }

// ended says what it means that a process ended without a result.
func (c *child) ended(ctx context.Context, e isolate.Exit) error {
	f := exitFailure("the process of the step", e, c.t.isolated.Memory, c.Stderr.Tail(crashBytes), func(int) policies.Class { return policies.Bug })
	if f.Class == policies.OutOfMemory {
		return f
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if stoppedWith(stopping(ctx), e) {
		return errStopped()
	}
	if c.begun {
		if e.Signal == 0 && e.Code == 0 {
			f.Message = "the process of the step ended with exit code 0 before its function returned (return from the function, do not call os.Exit)"
		}
		return f
	}
	select {
	case <-c.hello:
	default:
		f.Type, f.Class = StartErrorType, policies.Permanent
		if e.Killed || e.Signal == syscall.SIGKILL { // it was too slow, on a busy machine, or somebody has killed it: the program may be fine
			f.Class = policies.Transient
		}
		f.Message = "the process of the step did not get to its main function: " + f.Message
		return f
	}
	f.Type = StartErrorType
	f.Message = "the process of the step ended before it could call the step's function: " + f.Message
	n := 1
	for _, a := range slices.Backward(c.t.ledger) {
		if a.Attempt <= c.t.in.Forgiven || a.Failure == nil || a.Failure.Type != StartErrorType {
			break
		}
		n++
	}
	if n >= crashLoop {
		f.Type, f.Class = CrashLoopErrorType, policies.Permanent
		f.Message = fmt.Sprintf("%d times in a row %s", n, f.Message)
	}
	return f
}
