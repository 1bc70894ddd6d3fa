package predict

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

// tried is how an attempt went.
type tried struct {
	answer
	resp     any // a pointer to the response type; its content is of use when err is nil
	err      error
	failure  *policies.Failure // of err
	number   int
	heading  heading
	began    time.Time // when there was room
	latency  time.Duration
	refused  bool // by the guard: nothing was sent
	unsent   bool // for want of budget
	hedged   bool // it was sent twice
	deferred bool
	waits    bool   // for an execution of its key, which is no attempt
	entry    *entry // of a batch
	items    int    // of a chunk
	shared   int    // how many items had a request together that failed as a whole
}

func newRequestID() string { return rand.Text() }

// attempt sends a request once, or twice if it is hedged, when there is room for it. Retry says that it was sent before.
func (c *Client) attempt(ctx context.Context, h heading, n int, retry bool, left time.Duration, p payload, newResp func() any) tried {
	t := tried{number: n, heading: h}
	fail := func(err error) tried {
		t.err, t.failure = err, policies.Classify(err)
		return t
	}
	leave, err := c.room(ctx)
	if err != nil {
		return fail(err)
	}
	defer leave()
	t.began = time.Now()
	permit, err := c.begin(ctx, retry)
	if err != nil {
		t.refused = true
		return fail(err)
	}
	started := time.Now()
	limit, cause := c.o.Timeout, errTimeout
	if left < limit {
		limit, cause = max(left, time.Millisecond), errPatience
	}
	run, cancel := context.WithTimeoutCause(ctx, limit, cause)
	defer cancel()
	s := c.sent(run, h, n, p, newResp, permit)
	t.answer, t.resp, t.err, t.failure, t.hedged = s.answer, s.resp, s.err, s.failure, s.hedged
	t.latency, t.waits = time.Since(started), executing(s.err)
	return t
}

// room waits until another request may be under way.
func (c *Client) room(ctx context.Context) (leave func(), err error) {
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	leave = func() { <-c.slots }
	if c.limiter != nil {
		if err := c.pace(ctx); err != nil {
			leave()
			return nil, err
		}
	}
	return leave, nil
}

// pace waits until the rate allows another attempt. Unlike the limiter's Wait it does not give up before the context ends.
func (c *Client) pace(ctx context.Context) error {
	r := c.limiter.Reserve()
	if err := sleep(ctx, r.Delay()); err != nil {
		r.Cancel()
		return err
	}
	return nil
}

// permit is a call that the guard let through. It is told how the call ended, and what the response is.
type permit struct {
	end func(f *policies.Failure, resp any)
}

func (c *Client) begin(ctx context.Context, retry bool) (permit, error) {
	if !c.guarded() {
		return permit{func(*policies.Failure, any) {}}, nil
	}
	call, err := c.guard(ctx).Begin(retry)
	return permit{func(f *policies.Failure, _ any) { call.End(f) }}, err
}

// sending is how one request went.
type sending struct {
	answer
	resp    any
	err     error
	failure *policies.Failure
	hedged  bool
}

// The ends of an attempt that a client sets itself. The service is to blame only if it had all of Options.Timeout.
var (
	errTimeout  = fmt.Errorf("no answer within Options.Timeout: %w", context.DeadlineExceeded)
	errPatience = fmt.Errorf("no answer within what was left of Options.Patience: %w", context.DeadlineExceeded)
)

// one sends one request and tells the guard.
func (c *Client) one(ctx context.Context, h heading, n int, hedge bool, p payload, resp any, permit permit) sending {
	ctx, span := c.startAttempt(ctx, h, n, hedge)
	s := sending{resp: resp}
	s.err = safely(func() (err error) {
		s.answer, err = c.transport.send(ctx, p, h, resp)
		return err
	})
	s.failure = policies.Classify(s.err)
	told := s.failure
	if cause := context.Cause(ctx); s.err != nil && cause != nil && !errors.Is(cause, errTimeout) {
		told = &policies.Failure{Class: policies.Cancelled, Message: "nobody waits for the answer any more"} // it says nothing about the service
	}
	if executing(s.err) {
		told = &policies.Failure{Class: policies.Cancelled, Message: "the key is being executed"} // nor does this
	}
	permit.end(told, resp)
	endAttempt(span, s)
	return s
}

// safely makes a panic an error: what decodes an answer may be the author's, and runs on goroutines where a panic would end the
// process with all of its tasks.
func safely(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = policies.PanicFailure(v, debug.Stack())
		}
	}()
	return f()
}

// sent sends a request, and once more if there is no answer for a while: the first that is decisive counts.
func (c *Client) sent(ctx context.Context, h heading, n int, p payload, newResp func() any, first permit) sending {
	if c.o.Hedge <= 0 {
		return c.one(ctx, h, n, false, p, newResp(), first)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // the slower one
	type result struct {
		sending
		hedge  bool
		unsent bool // the hedge was not allowed
	}
	results := make(chan result, 2)
	send := func(hedge bool, permit permit) {
		results <- result{c.one(ctx, h, n, hedge, p, newResp(), permit), hedge, false}
	}
	go send(false, first)
	timer := time.NewTimer(c.o.Hedge)
	defer timer.Stop()
	var primary *sending
	var hedged atomic.Bool
	for running := 1; ; {
		select {
		case <-timer.C:
			running++
			go func() { // the guard may take a while, which an answer must not wait for
				permit, ok := c.mayHedge(ctx)
				if !ok {
					results <- result{unsent: true}
					return
				}
				defer func() { <-c.slots }()
				hedged.Store(true)
				send(true, permit)
			}()
		case r := <-results:
			running--
			if r.unsent {
				if primary != nil { // it has failed
					return *primary
				}
				continue
			}
			r.hedged = hedged.Load()
			if !r.hedge {
				primary = &r.sending
			}
			again := r.err != nil && c.spec.Decide(r.failure, r.err, c.o.Retry.RetryIf, 0, nil).Retry
			if again && running > 0 {
				continue // the other may do better
			}
			if again && primary != nil {
				primary.hedged = hedged.Load()
				return *primary
			}
			return r.sending
		}
	}
}

// mayHedge takes a slot for a second request if there is one, and the guard's leave.
func (c *Client) mayHedge(ctx context.Context) (permit, bool) {
	if c.limiter != nil && !c.limiter.Allow() {
		return permit{}, false
	}
	select {
	case c.slots <- struct{}{}:
	default:
		return permit{}, false
	}
	if c.guarded() && c.guard(ctx).AllowRetry() != nil {
		<-c.slots
		return permit{}, false
	}
	p, err := c.begin(ctx, true)
	if err != nil {
		<-c.slots
		return permit{}, false
	}
	return p, true
}

// log writes the attempt's line. It tells nothing of what was asked and answered.
func (t tried) log(ctx context.Context, c *Client, next following) {
	level := slog.LevelInfo
	attrs := []slog.Attr{
		slog.String("service", c.name()), slog.Int("call_attempt", t.number), slog.Duration("latency", t.latency),
		slog.String("request_id", t.heading.request),
	}
	if t.heading.key != "" {
		attrs = append(attrs, slog.String("key", t.heading.key))
	}
	if t.items > 0 {
		attrs = append(attrs, slog.Int("items", t.items))
	}
	if t.status != "" {
		attrs = append(attrs, slog.String("status", t.status))
	}
	if t.replayed {
		attrs = append(attrs, slog.Bool("replayed", true))
	}
	if t.hedged {
		attrs = append(attrs, slog.Bool("hedged", true))
	}
	if f := next.failure; f != nil {
		level = slog.LevelWarn
		attrs = append(attrs, slog.String("class", string(f.Class)), slog.String("reason", next.reason), slog.String("error", f.Message))
		if next.again || t.deferred {
			attrs = append(attrs, slog.Duration("delay", next.delay))
		}
	}
	flow.Log(ctx).LogAttrs(ctx, level, "prediction attempt", attrs...)
}
