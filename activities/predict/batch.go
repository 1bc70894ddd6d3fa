package predict

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

// Item is one of the many things that [Batch] asks for.
type Item[Req any] struct {
	// Key tells the items of a task apart; items with the same key are one. "" stands for the request itself: equal requests are
	// one item.
	Key     string
	Request Req
}

// Result is what became of an item: a value or a failure.
type Result[Resp any] struct {
	Key     string
	Value   Resp
	Failure *policies.Failure
}

// Outcome is what became of a batch.
type Outcome[Resp any] struct {
	// Results are in the order of the items. Items with the same key share theirs.
	Results []Result[Resp]
	Report  Report
}

// Report counts what a batch did.
type Report struct {
	// Items is how many there were, Unique how many of them with different keys. The numbers below count the latter.
	Items, Unique int
	// Restored is how many had their result from an earlier attempt of the task; they are among Succeeded.
	Restored  int
	Succeeded int
	// Failed counts the others by class, and with them the items whose key an item before them has for another request.
	Failed map[policies.Class]int
	// Deferred is how many were not finished, because the service asked for a long wait or was out of reach.
	Deferred int
	// Attempts is how often an item was sent in this attempt of the task, Retries how often not for the first time.
	Attempts, Retries int
	// Requests is how many requests carried them.
	Requests int
	// Replayed is how many answers the server had stored before.
	Replayed int
	Took     time.Duration
}

// String is the report in one line.
func (r Report) String() string {
	s := fmt.Sprintf("%d items: %d succeeded", r.Items, r.Succeeded)
	if r.Unique != r.Items {
		s = fmt.Sprintf("%d items, %d of them different: %d succeeded", r.Items, r.Unique, r.Succeeded)
	}
	for _, c := range sorted(r.Failed) {
		s += fmt.Sprintf(", %d %s", r.Failed[c], c)
	}
	if r.Deferred > 0 {
		s += fmt.Sprintf(", %d deferred", r.Deferred)
	}
	return s + fmt.Sprintf("; %d attempts (%d retries) in %d requests, %d replayed, %d restored, took %s",
		r.Attempts, r.Retries, r.Requests, r.Replayed, r.Restored, r.Took.Round(time.Millisecond))
}

// BatchOptions are the settings of a [Batch]. The zero value is ready.
type BatchOptions struct {
	// Name tells the batches of one task apart: the results so far are kept under it. It is a part of a checkpoint's name (see
	// flow.SaveCheckpoint). Defaults to "predict". Batches with the same name share the results of equal items, unless they ask
	// another URL or method; models that are told apart otherwise, by a header for example, need names. It is no part of the
	// idempotency keys: where models share the store of a [Middleware], give their items different keys.
	Name string
	// Chunk is how many items travel in one request. Above 1 the client's URL must be that of a [BatchHandler]. A request that fails
	// as a whole, where one of its items may be the reason, is sent again as smaller ones; an item's last attempt is alone, so that
	// Retry.MaximumAttempts should be 3 or more. Defaults to 1, which any server understands.
	Chunk int
}

// Batch asks for many items within one step: at most Options.MaxParallel requests at a time, each item tried again on its own by
// the client's policy, items with the same key sent once. A failed item is a value among the results, never the batch's error.
//
// The results so far are kept as checkpoints about twice a second and at the end, so that the task's next attempt, on whatever
// worker and in a resumed run too, only asks for the items that had no success.
//
// The error says why the batch stopped before its end: the context's, or one marked with a deferral, because the service asked for
// a long wait or is out of reach. Return it from the step: the task waits in its workflow and goes on with what is missing.
func Batch[Req, Resp any](ctx context.Context, c *Client, items []Item[Req], o BatchOptions) (Outcome[Resp], error) {
	started := time.Now()
	b := &batch{client: c, newResp: func() any { return new(Resp) }, byKey: map[string]*entry{}}
	b.results = make(chan []tried, cap(c.slots)) // what is under way can end though nobody takes it any more
	b.report.Items, b.report.Failed = len(items), map[policies.Class]int{}
	b.target = digestOf([]byte(c.transport.identity()))
	b.saved = checkpoint{name: cmp.Or(o.Name, "predict")}
	if err := b.chunks(o.Chunk); err != nil {
		return Outcome[Resp]{}, err
	}
	at := make([]*entry, len(items))
	for i, item := range items {
		e, err := b.add(ctx, item.Key, item.Request)
		if err != nil {
			return Outcome[Resp]{}, fmt.Errorf("item %d: %w", i, err)
		}
		at[i] = e
	}
	b.report.Unique = len(b.entries)
	err := b.run(ctx)
	out := Outcome[Resp]{Results: make([]Result[Resp], len(items))}
	for i, e := range at {
		r := Result[Resp]{Key: items[i].Key, Failure: e.failure}
		if v, ok := e.resp.(*Resp); ok && e.failure == nil {
			r.Value = *v
		}
		out.Results[i] = r
	}
	b.report.Took = time.Since(started)
	out.Report = b.report
	flow.Log(ctx).Info("batch of predictions", "service", c.name(), "report", b.report.String())
	return out, err
}

// entry is an item without its type.
type entry struct {
	key      string // the idempotency key
	request  string // the correlation id
	digest   string // of the request
	p        payload
	sent     int       // how often
	attempts int       // those of them that count
	first    time.Time // when there was room to send it for the first time
	ready    time.Time // when it may be sent
	finished bool
	last     error
	allowed  bool // by the budget, to be sent again
	most     int  // how many may be in its next request, 0 for a chunk
	resp     any
	failure  *policies.Failure
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// add takes an item, or finds the one with the same key.
func (b *batch) add(ctx context.Context, key string, req any) (*entry, error) {
	p, err := b.client.transport.encode(req)
	if err != nil {
		return nil, policies.WithClass(fmt.Errorf("encode the request: %w", err), policies.Invalid)
	}
	digest := digestOf(p.bytes)
	full, err := Key(ctx, cmp.Or(key, digest))
	if err != nil {
		return nil, err
	}
	if e := b.byKey[full]; e != nil {
		if e.digest == digest {
			return e, nil
		}
		// Neither of the two can be told to be the right one; the first was there first.
		f := policies.Classify(policies.WithClass(fmt.Errorf("key %q has two different requests (give each its own)", key), policies.Invalid))
		b.report.Failed[f.Class]++
		return &entry{failure: f, finished: true}, nil
	}
	e := &entry{key: full, request: newRequestID(), digest: digest, p: p}
	b.byKey[full] = e
	b.entries = append(b.entries, e)
	return e, nil
}

// batch is the coordinator of one call of Batch: its fields belong to one goroutine.
type batch struct {
	client  *Client
	chunk   int
	newResp func() any
	entries []*entry
	byKey   map[string]*entry
	report  Report
	target  string // a digest
	saved   checkpoint

	fresh   []*entry // never sent, in order
	again   waiting  // to be sent again
	running int
	results chan []tried
	parked  bool // nothing is sent any more in this attempt
	wait    policies.Deferral
	until   time.Time // when the last deferred item may be sent
	cause   error     // of the deferral
	done    int
}

func (b *batch) chunks(n int) error {
	b.chunk = max(n, 1)
	if b.chunk == 1 {
		return nil
	}
	if _, ok := b.client.transport.(*httpTransport); !ok {
		return policies.WithClass(errors.New("chunks travel over HTTP only (leave Chunk out)"), policies.Permanent)
	}
	return nil
}

// run sends the entries until each is finished or deferred, or the context ends.
func (b *batch) run(ctx context.Context) error {
	if err := b.restore(ctx); err != nil {
		return err
	}
	for _, e := range b.entries {
		if !e.finished {
			b.fresh = append(b.fresh, e)
		}
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	ended := ctx.Done()
	for {
		next := b.dispatch(ctx)
		if b.running == 0 && (next < 0 || b.parked || ctx.Err() != nil) {
			break
		}
		var tick <-chan time.Time
		if next > 0 && ctx.Err() == nil && !b.parked {
			timer.Reset(next)
			tick = timer.C
		}
		select {
		case sent := <-b.results:
			b.running--
			b.settle(ctx, sent)
		case <-tick:
		case <-ended:
			ended = nil // what is under way ends soon
		}
		flow.Progress(ctx, int64(b.done), int64(len(b.entries)))
		if b.saved.due() {
			if err := b.saved.save(ctx); err != nil {
				flow.Log(ctx).Warn("the results so far could not be kept", "error", err)
			}
		}
	}
	return b.end(ctx)
}

// dispatch sends what may be sent now. It returns how long to wait until more may be, -1 if there is nothing left.
func (b *batch) dispatch(ctx context.Context) time.Duration {
	for {
		now := time.Now()
		free := b.running < cap(b.client.slots) && !b.parked && ctx.Err() == nil
		switch due := b.again.due(now.Add(-b.linger())); {
		case len(b.fresh) == 0 && b.again.Len() == 0:
			return -1
		case !free:
			return 0
		case due:
			var group []*entry
			for most := b.chunk; len(group) < most && b.again.due(now); {
				if few := b.again.all[0].most; few > 0 {
					if most = min(most, few); len(group) >= most {
						break
					}
				}
				group = append(group, b.again.pop())
			}
			b.send(ctx, group)
		case len(b.fresh) > 0:
			n := min(b.chunk, len(b.fresh))
			b.send(ctx, b.fresh[:n:n])
			b.fresh = b.fresh[n:]
		default:
			return b.again.all[0].ready.Add(b.linger()).Sub(now)
		}
	}
}

// linger is how long an entry that may be sent again waits for others, to share a request.
func (b *batch) linger() time.Duration {
	if b.chunk == 1 {
		return 0
	}
	return 50 * time.Millisecond
}

// send sends some entries in one request.
func (b *batch) send(ctx context.Context, group []*entry) {
	n := 1
	for _, e := range group {
		n = max(n, e.attempts+1)
	}
	b.running++
	go func() {
		if b.chunk > 1 {
			b.results <- sendChunk(ctx, b.client, group, n, b.newResp)
			return
		}
		e := group[0]
		if err := e.allow(ctx, b.client); err != nil {
			b.results <- []tried{e.unsent(err)}
			return
		}
		t := b.client.attempt(ctx, heading{e.key, e.request}, n, e.sent > 0, b.client.o.Timeout, e.p, b.newResp)
		t.entry = e
		b.results <- []tried{t}
	}()
}

// allow asks the budget whether an entry may be sent again.
func (e *entry) allow(ctx context.Context, c *Client) error {
	if !c.guarded() || e.attempts == 0 || e.allowed {
		return nil
	}
	if err := c.guard(ctx).AllowRetry(); err != nil {
		return fmt.Errorf("%w: %w", err, e.last)
	}
	e.allowed = true // until it is sent: a guard may refuse that
	return nil
}

// left is what is left of an entry's patience.
func (e *entry) left(patience time.Duration) time.Duration {
	if e.first.IsZero() {
		return patience
	}
	return patience - time.Since(e.first)
}

// unsent is how an attempt went that was not made.
func (e *entry) unsent(err error) tried {
	return tried{
		entry: e, number: e.attempts + 1, heading: heading{e.key, e.request}, err: err, failure: policies.Classify(err), unsent: true,
	}
}

// settle decides what follows for each entry of a request.
func (b *batch) settle(ctx context.Context, sent []tried) {
	if slices.ContainsFunc(sent, func(t tried) bool { return !t.refused && !t.unsent }) {
		b.report.Requests++
	}
	for i := range sent {
		t := &sent[i]
		e := t.entry
		if e.first.IsZero() {
			e.first = t.began
		}
		if !t.refused && !t.unsent {
			e.sent++
			b.report.Attempts++
			if e.sent > 1 {
				b.report.Retries++
			}
			if e.allowed = t.waits; !t.waits {
				e.attempts++
			}
		}
		next := b.client.next(ctx, t, max(e.attempts, 1), e.left(b.client.o.Patience))
		if ctx.Err() == nil {
			next = b.apart(t, next)
		}
		if b.chunk == 1 || t.err != nil {
			t.log(ctx, b.client, next)
		}
		if t.replayed {
			b.report.Replayed++
		}
		switch d, deferred := policies.DeferralOf(t.err, nil); { // only what was marked: next knows what is tried again at all
		case t.err == nil:
			b.finish(e, t.resp, nil)
			b.report.Succeeded++
			b.keep(ctx, e, t.answer)
		case ctx.Err() != nil: // the caller has stopped; the entry has no end
		case next.again:
			e.ready, e.last = time.Now().Add(next.delay), t.err
			b.again.push(e)
		case deferred:
			b.parked = b.parked || t.refused
			if until := time.Now().Add(d.For); until.After(b.until) {
				b.until, b.wait, b.cause = until, d, t.err
			}
		default:
			b.finish(e, nil, t.failure)
			b.report.Failed[t.failure.Class]++
		}
	}
}

func (b *batch) finish(e *entry, resp any, f *policies.Failure) {
	e.resp, e.failure, e.finished = resp, f, true
	b.done++
}

// end keeps what is not kept yet, and says why entries are not finished.
func (b *batch) end(ctx context.Context) error {
	keeping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	kept := b.saved.save(keeping)
	b.report.Deferred = len(b.entries) - b.done
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("batch: %d of %d items have no end yet: %w", b.report.Deferred, len(b.entries), context.Cause(ctx))
	case b.report.Deferred > 0:
		d := b.wait
		for _, e := range b.again.all { // of a batch that was parked: nobody comes earlier than he was told
			if e.ready.After(b.until) {
				b.until = e.ready
			}
		}
		d.For = max(time.Until(b.until), time.Millisecond)
		return policies.WithDeferral(fmt.Errorf("batch: %d of %d items wait: %w", b.report.Deferred, len(b.entries), b.cause), d)
	case kept != nil:
		flow.Log(ctx).Warn("the results could not be kept", "error", kept)
	}
	return nil
}
