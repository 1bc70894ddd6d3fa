package predict

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"golang.org/x/time/rate"

	"github.com/stepwell-flows/stepwell/guard"
	"github.com/stepwell-flows/stepwell/policies"
)

// Options are the settings of a [Client]. The zero value is ready.
type Options struct {
	// Dependency names the service and says what protects it: breaker, budget for retries, throttle. All clients and steps that
	// name the same one share its state. Defaults to none.
	Dependency policies.Dependency
	// Retry is how a call is tried again. Defaults to three attempts, 200 ms after the first, doubling up to 5 s, with full
	// jitter. A step that fails because a call's attempts are spent may be tried again itself: the attempts multiply.
	Retry policies.Retry
	// Timeout is how long one attempt may take. Defaults to 10 s, or to Patience if that is shorter.
	Timeout time.Duration
	// Patience is how long a call may take from its first attempt on, with all its attempts and waits. How long it waits behind others
	// for Rate and MaxParallel, only its context bounds. A service that asks for a longer wait, or for one
	// longer than [policies.ParkAfter], parks the task: the call returns a deferral. No attempt begins with less than a tenth of
	// Timeout left. It cannot be shorter than Timeout. Defaults to a minute, or to three times Timeout if that is longer.
	Patience time.Duration
	// Rate is how many attempts start in a second, at most. Defaults to no limit.
	Rate float64
	// Burst is how many of them may start at once. Defaults to Rate, rounded up.
	Burst int
	// MaxParallel is how many attempts are under way at a time, at most. Defaults to 16.
	MaxParallel int
	// Hedge sends an attempt a second time when there is no answer after it, with the same key: the first answer wins, the other
	// is cancelled. It counts as a retry against the budget. [Middleware] answers it with 409 while the first is being executed,
	// which the client ignores: then a hedge helps against lost requests and lost responses alone. Chunks of a batch are not sent
	// twice. Defaults to no hedging.
	Hedge time.Duration
	// Random draws jitter from [0,1). Defaults to math/rand/v2.
	Random func() float64
}

func (o Options) withDefaults() Options {
	if o.Retry.MaximumAttempts == 0 {
		o.Retry.MaximumAttempts = 3
	}
	if o.Retry.InitialInterval == 0 {
		o.Retry.InitialInterval = 200 * time.Millisecond
		o.Retry.MaximumInterval = cmp.Or(o.Retry.MaximumInterval, 5*time.Second)
	}
	if o.Timeout == 0 {
		o.Timeout = min(10*time.Second, cmp.Or(o.Patience, time.Minute))
	}
	o.Patience = cmp.Or(o.Patience, max(time.Minute, 3*o.Timeout))
	o.MaxParallel = cmp.Or(o.MaxParallel, 16)
	if o.Burst == 0 {
		o.Burst = max(int(math.Ceil(o.Rate)), 1)
	}
	if o.Random == nil {
		o.Random = rand.Float64
	}
	return o
}

func (o Options) validate(t Transport) error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if t == nil {
		bad("there is no transport (use predict.HTTP or predict.GRPC)")
	} else if c, ok := t.(interface{ check() error }); ok {
		errs = append(errs, c.check())
	}
	spec := policies.NewSpec(&o.Retry, nil, nil)
	if o.Dependency != (policies.Dependency{}) {
		spec.Dependency = &o.Dependency
	}
	errs = append(errs, spec.Validate())
	for _, t := range []struct {
		name string
		d    time.Duration
	}{{"Timeout", o.Timeout}, {"Patience", o.Patience}, {"Hedge", o.Hedge}} {
		if t.d < 0 || t.d > 0 && t.d < time.Millisecond {
			bad("%s is %s (use a millisecond or more, or leave it out)", t.name, t.d)
		}
	}
	if o.Timeout > o.Patience {
		bad("Timeout is %s, of which a Patience of %s would cut an attempt (raise Patience, or leave it out)", o.Timeout, o.Patience)
	}
	if !(o.Rate >= 0) || math.IsInf(o.Rate, 0) {
		bad("Rate is %v (use attempts in a second, or 0 for no limit)", o.Rate)
	}
	if o.MaxParallel < 0 || o.Burst < 0 {
		bad("MaxParallel is %d and Burst is %d (neither can be negative)", o.MaxParallel, o.Burst)
	}
	return errors.Join(errs...)
}

// Client calls one operation of one model server. Make one with [New] and share it: rate and parallelism are limited for each
// client. It is immutable and safe for concurrent use.
type Client struct {
	transport Transport
	o         Options
	spec      policies.Spec
	limiter   *rate.Limiter // nil: no limit
	slots     chan struct{}
}

// New returns a client. Its error lists everything that is wrong with the settings.
func New(t Transport, o Options) (*Client, error) {
	o = o.withDefaults()
	if err := o.validate(t); err != nil {
		return nil, fmt.Errorf("predict client: %w", err)
	}
	c := &Client{transport: t, o: o, spec: policies.NewSpec(&o.Retry, nil, nil), slots: make(chan struct{}, o.MaxParallel)}
	if o.Rate > 0 {
		c.limiter = rate.NewLimiter(rate.Limit(o.Rate), o.Burst)
	}
	return c, nil
}

// name is the service in messages, spans and log lines.
func (c *Client) name() string { return cmp.Or(c.o.Dependency.Name, c.transport.target()) }

// Call asks for one prediction. Operation tells the calls of one task apart, and is all of the idempotency key outside of a run;
// see [Key]. All attempts, those of other workers and of resumed runs included, send the same key and the same request.
//
// Errors know their class, see policies.Classify. One that is marked with a deferral, because the service asked for a long wait
// or is out of reach, is to be returned by the step: the task then waits in its workflow and uses no attempt.
func Call[Req, Resp any](ctx context.Context, c *Client, operation string, req Req) (Resp, error) {
	var resp Resp
	key, err := Key(ctx, operation)
	if err != nil {
		return resp, err
	}
	p, err := c.transport.encode(req)
	if err != nil {
		return resp, policies.WithClass(fmt.Errorf("encode the request: %w", err), policies.Invalid)
	}
	t := c.call(ctx, key, p, func() any { return new(Resp) })
	if t.err != nil {
		return resp, t.err
	}
	if v, ok := t.resp.(*Resp); ok {
		resp = *v
	}
	return resp, nil
}

// call makes attempts until one is decisive.
func (c *Client) call(ctx context.Context, key string, p payload, newResp func() any) tried {
	ctx, span := c.startCall(ctx, key)
	id := newRequestID()
	var first time.Time // the wait for room, behind other calls, takes no patience
	left := func() time.Duration {
		if first.IsZero() {
			return c.o.Patience
		}
		return c.o.Patience - time.Since(first)
	}
	for n, sent := 1, false; ; {
		t := c.attempt(ctx, heading{key, id}, n, sent, left(), p, newResp)
		if first.IsZero() {
			first = t.began
		}
		next := c.allow(ctx, &t, c.next(ctx, &t, n, left()))
		t.log(ctx, c, next)
		if !next.again {
			endSpan(span, t.err, next.failure)
			return t
		}
		if !t.refused && !t.waits {
			n++
		}
		sent = sent || !t.refused
		if err := sleep(ctx, next.delay); err != nil {
			t.err = fmt.Errorf("%w (waiting for attempt %d: %w)", err, n, t.err)
			endSpan(span, t.err, next.failure)
			return t
		}
	}
}

// following is what comes after an attempt.
type following struct {
	again   bool
	delay   time.Duration
	reason  string
	failure *policies.Failure
}

// brief is the longest wait for a guard that is waited out in place, as that of a throttle is. Longer ones park the task.
const brief = 3 * time.Second

// next decides what follows attempt n, of which left is the call's patience. Where nothing does, it makes t's error the call's.
func (c *Client) next(ctx context.Context, t *tried, n int, left time.Duration) following {
	if t.err == nil {
		return following{}
	}
	f := t.failure
	if err := ctx.Err(); err != nil { // the caller has stopped; it knows why
		t.err = fmt.Errorf("%s: attempt %d: %w", c.name(), n, cmp.Or(context.Cause(ctx), err))
		return following{failure: f, reason: "the caller stopped"}
	}
	if t.refused {
		d, ok := policies.DeferralOf(t.err, f)
		if ok && d.For <= min(brief, left) {
			return following{again: true, delay: d.For, failure: f, reason: d.Reason}
		}
		t.err = fmt.Errorf("%s: %w", c.name(), t.err)
		return following{failure: f, reason: d.Reason}
	}
	t.err = fmt.Errorf("%s: attempt %d: %w", c.name(), n, t.err)
	if t.waits {
		const reason = "an earlier request with its key is being executed"
		wait := max(f.RetryAfter, time.Second)
		if wait <= policies.ParkAfter && left-wait >= c.o.Timeout/10 {
			return following{again: true, delay: wait, failure: f, reason: reason}
		}
		t.err = policies.WithDeferral(t.err, policies.Deferral{For: wait, Dependency: c.o.Dependency.Name, Reason: reason})
		t.deferred = true
		return following{failure: f, delay: wait, reason: "parked: " + reason}
	}
	d := c.spec.Decide(f, t.err, c.o.Retry.RetryIf, n, c.o.Random)
	if asked := f.RetryAfter; asked > 0 && d.Retry && (asked > policies.ParkAfter || d.Delay > left) {
		t.err = policies.WithDeferral(t.err, policies.Deferral{
			For: d.Delay, Dependency: c.o.Dependency.Name, Reason: fmt.Sprintf("%s asked for a wait of %s", c.name(), asked),
		})
		t.deferred = true
		return following{failure: f, delay: d.Delay, reason: "parked: " + d.Reason}
	}
	if !d.Retry {
		return following{failure: f, reason: d.Reason}
	}
	if left-d.Delay < c.o.Timeout/10 { // the next attempt would have no time
		return following{failure: f, reason: fmt.Sprintf("the call's patience of %s is over", c.o.Patience)}
	}
	return following{again: true, delay: d.Delay, failure: f, reason: d.Reason}
}

// allow asks the budget whether a failed call may be sent again. Where it may not, it makes t's error say so.
func (c *Client) allow(ctx context.Context, t *tried, next following) following {
	if !c.guarded() || !next.again || t.refused || t.waits {
		return next
	}
	err := c.guard(ctx).AllowRetry()
	if err == nil {
		return next
	}
	t.err = fmt.Errorf("%w: %w", err, t.err)
	t.failure = policies.Classify(t.err)
	return following{failure: t.failure, reason: err.Error()}
}

func (c *Client) guarded() bool { return c.o.Dependency.Name != "" }

func (c *Client) guard(ctx context.Context) *guard.Dependency {
	return guard.From(ctx).Dependency(c.o.Dependency)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
