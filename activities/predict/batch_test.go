package predict_test

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/activities/predict"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/guard"
	"github.com/stepwell-flows/stepwell/policies"
)

// notes are checkpoints in memory.
type notes struct {
	mu   sync.Mutex
	docs map[string][]byte
}

func (n *notes) Save(_ context.Context, name string, content []byte) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.docs == nil {
		n.docs = map[string][]byte{}
	}
	n.docs[name] = content
	return nil
}

func (n *notes) Load(_ context.Context, name string) ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.docs[name], nil
}

// inTask is the context of a task's attempt.
func inTask(t testing.TB, n *notes) context.Context {
	t.Helper()
	ctx := guard.NewContext(t.Context(), guard.New(guard.Options{}))
	return flow.NewContext(ctx, flow.Runtime{Info: flow.Info{Flow: "F", Run: "r", Step: "s"}, Checkpoints: n})
}

func questions(n int) []predict.Item[question] {
	items := make([]predict.Item[question], n)
	for i := range items {
		items[i] = predict.Item[question]{Key: fmt.Sprint("k", i), Request: question{i}}
	}
	return items
}

// flaky fails the first request for about every third key, inside and outside of the middleware, and counts what is executed.
type flaky struct {
	mu       sync.Mutex
	executed map[string]int
	asked    map[string]int
	handler  http.Handler
}

func newFlaky() *flaky {
	f := &flaky{executed: map[string]int{}, asked: map[string]int{}}
	inner := predict.Middleware(memory(), predict.ServerOptions{})(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key, _ := predict.ParseKey(r.Header)
		f.mu.Lock()
		f.executed[key]++
		f.mu.Unlock()
		double(w, r)
	}))
	f.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key, _ := predict.ParseKey(r.Header)
		f.mu.Lock()
		f.asked[key]++
		n, sum := f.asked[key], crc32.ChecksumIEEE([]byte(key)) // whatever order the requests come in
		f.mu.Unlock()
		switch {
		case n > 1 || sum%3 != 0:
			inner.ServeHTTP(w, r)
		case sum%2 == 0:
			w.WriteHeader(http.StatusServiceUnavailable)
		default: // executed, and the response is lost
			inner.ServeHTTP(httptest.NewRecorder(), r)
			w.WriteHeader(http.StatusBadGateway)
		}
	})
	return f
}

func TestBatch(t *testing.T) {
	t.Parallel()
	for name, chunk := range map[string]int{"one by one": 1, "in chunks": 7} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFlaky()
			h := f.handler
			if chunk > 1 {
				h = predict.BatchHandler(h, predict.BatchHandlerOptions{})
			}
			c := newClient(t, serve(t, h), predict.Options{Retry: quick(3)})
			items := questions(100)
			items = append(items, items[3], items[5], predict.Item[question]{Key: "k7", Request: question{1000}})
			out, err := predict.Batch[question, reaction](inTask(t, &notes{}), c, items, predict.BatchOptions{Chunk: chunk})
			require.NoError(t, err)
			require.Len(t, out.Results, 103)
			for i, r := range out.Results[:100] {
				require.Nil(t, r.Failure)
				require.Equal(t, 2*i, r.Value.Twice)
				require.Equal(t, items[i].Key, r.Key)
			}
			require.Equal(t, out.Results[3], out.Results[100])
			require.Equal(t, policies.Invalid, out.Results[102].Failure.Class, "one key, two requests")
			for key, n := range f.executed {
				require.Equal(t, 1, n, key)
			}
			r := out.Report
			require.Len(t, f.executed, 100)
			require.Equal(t, 103, r.Items)
			require.Equal(t, 100, r.Unique)
			require.Equal(t, 100, r.Succeeded)
			require.Equal(t, map[policies.Class]int{policies.Invalid: 1}, r.Failed)
			require.Positive(t, r.Retries)
			require.Equal(t, 100+r.Retries, r.Attempts)
			require.Positive(t, r.Replayed, "responses that were lost")
			if chunk > 1 {
				require.Less(t, r.Requests, 60)
			} else {
				require.Equal(t, r.Attempts, r.Requests)
			}
			require.Contains(t, r.String(), "103 items, 100 of them different: 100 succeeded, 1 Invalid; ")
		})
	}
}

// Equal requests without a key are one item.
func TestBatchWithoutKeys(t *testing.T) {
	t.Parallel()
	s := &scripted{}
	items := []predict.Item[question]{{Request: question{1}}, {Request: question{2}}, {Request: question{1}}}
	out, err := predict.Batch[question, reaction](inTask(t, &notes{}), newClient(t, serve(t, s), predict.Options{}), items, predict.BatchOptions{})
	require.NoError(t, err)
	require.Len(t, s.seen(), 2)
	require.Equal(t, []int{2, 4, 2}, []int{out.Results[0].Value.Twice, out.Results[1].Value.Twice, out.Results[2].Value.Twice})
}

// What has failed for good is a value; what has not is asked for again, alone.
func TestBatchPartialFailures(t *testing.T) {
	t.Parallel()
	var asked sync.Map
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key, _ := predict.ParseKey(r.Header)
		n, _ := asked.LoadOrStore(key, new(atomic.Int32))
		count, _ := n.(*atomic.Int32)
		again := count.Add(1) > 1
		switch key[len(key)-1] {
		case '1':
			w.WriteHeader(http.StatusUnprocessableEntity)
		case '2':
			w.WriteHeader(http.StatusInternalServerError)
		case '3':
			if !again {
				w.Header().Set("Retry-After", "1")
				w.WriteHeader(http.StatusTooManyRequests)
				return
			}
			double(w, r)
		default:
			double(w, r)
		}
	})
	c := newClient(t, serve(t, predict.BatchHandler(h, predict.BatchHandlerOptions{})), predict.Options{Retry: quick(3)})
	started := time.Now()
	out, err := predict.Batch[question, reaction](inTask(t, &notes{}), c, questions(20), predict.BatchOptions{Chunk: 20})
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Since(started), time.Second, "as two of them were told")
	for i, r := range out.Results {
		switch i % 10 {
		case 1:
			require.Equal(t, policies.Invalid, r.Failure.Class)
		case 2:
			require.Equal(t, policies.Transient, r.Failure.Class)
		default:
			require.Nil(t, r.Failure)
		}
	}
	require.Equal(t, map[policies.Class]int{policies.Invalid: 2, policies.Transient: 2}, out.Report.Failed)
	require.Equal(t, 20+2*2+2, out.Report.Attempts)
}

// Another attempt of the task asks only for what has no success yet.
func TestBatchGoesOn(t *testing.T) {
	t.Parallel()
	n := &notes{}
	var broken atomic.Bool
	broken.Store(true)
	var asked atomic.Int32
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		key, _ := predict.ParseKey(r.Header)
		if broken.Load() && key[len(key)-1] == '0' {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		double(w, r)
	}))
	c := newClient(t, url, predict.Options{Retry: quick(1)})
	out, err := predict.Batch[question, reaction](inTask(t, n), c, questions(50), predict.BatchOptions{})
	require.NoError(t, err)
	require.Equal(t, 45, out.Report.Succeeded)
	require.EqualValues(t, 50, asked.Load())
	broken.Store(false)

	items := questions(50)
	items[7].Request.N = 70 // another question than before
	out, err = predict.Batch[question, reaction](inTask(t, n), c, items, predict.BatchOptions{})
	require.NoError(t, err)
	require.EqualValues(t, 50+5+1, asked.Load())
	require.Equal(t, 44, out.Report.Restored)
	require.Equal(t, 50, out.Report.Succeeded)
	require.Equal(t, 140, out.Results[7].Value.Twice)
	require.Equal(t, 98, out.Results[49].Value.Twice)

	out, err = predict.Batch[question, reaction](inTask(t, n), c, items, predict.BatchOptions{})
	require.NoError(t, err)
	require.EqualValues(t, 56, asked.Load())
	require.Equal(t, 50, out.Report.Restored)
}

// A batch whose context ends keeps what it has.
func TestBatchCancelled(t *testing.T) {
	t.Parallel()
	n := &notes{}
	ctx, cancel := context.WithCancelCause(inTask(t, n))
	why := errors.New("the worker stops")
	var asked atomic.Int32
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 30 {
			cancel(why)
		}
		double(w, r)
	}))
	c := newClient(t, url, predict.Options{MaxParallel: 1})
	_, err := predict.Batch[question, reaction](ctx, c, questions(50), predict.BatchOptions{})
	require.ErrorIs(t, err, why)
	out, err := predict.Batch[question, reaction](inTask(t, n), c, questions(50), predict.BatchOptions{})
	require.NoError(t, err)
	require.GreaterOrEqual(t, out.Report.Restored, 29)
	require.LessOrEqual(t, asked.Load(), int32(51))
}

// An item whose service asks for a long wait does not hold the others up; then the task waits, and goes on with it.
func TestBatchDefers(t *testing.T) {
	t.Parallel()
	n := &notes{}
	var busy atomic.Bool
	busy.Store(true)
	var asked atomic.Int32
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if key, _ := predict.ParseKey(r.Header); busy.Load() && key[len(key)-2:] == "k3" {
			w.Header().Set("Retry-After", "100")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		double(w, r)
	}))
	c := newClient(t, url, predict.Options{Dependency: policies.Dependency{Name: "models"}})
	out, err := predict.Batch[question, reaction](inTask(t, n), c, questions(10), predict.BatchOptions{})
	d, ok := policies.DeferralOf(err, policies.Classify(err))
	require.True(t, ok, "%v", err)
	require.Greater(t, d.For, time.Minute)
	require.Equal(t, "models", d.Dependency)
	require.Equal(t, 9, out.Report.Succeeded)
	require.Equal(t, 1, out.Report.Deferred)
	busy.Store(false)
	out, err = predict.Batch[question, reaction](inTask(t, n), c, questions(10), predict.BatchOptions{})
	require.NoError(t, err)
	require.Equal(t, 10, out.Report.Succeeded)
	require.EqualValues(t, 11, asked.Load())
}

// When a breaker opens, the batch stops, and the task waits.
func TestBatchParksOnAnOpenBreaker(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) <= 20 {
			double(w, r)
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	n := &notes{}
	ctx := inTask(t, n)
	c := newClient(t, url, predict.Options{MaxParallel: 4, Retry: quick(3), Dependency: policies.Dependency{
		Name: "models", Breaker: policies.Breaker{Failures: 5, Percent: 10, Cooldown: time.Minute},
	}})
	out, err := predict.Batch[question, reaction](ctx, c, questions(500), predict.BatchOptions{})
	d, ok := policies.DeferralOf(err, policies.Classify(err))
	require.True(t, ok, "%v", err)
	require.Greater(t, d.For, 50*time.Second)
	require.Equal(t, "models", d.Dependency)
	require.Equal(t, 20, out.Report.Succeeded)
	require.Less(t, asked.Load(), int32(20+5+4+1), "no more than were under way")

	_, err = ask(ctx, c, 1)
	_, ok = policies.DeferralOf(err, policies.Classify(err))
	require.True(t, ok, "a call knows it, too: %v", err)
}

// All calls together make no more retries than the budget allows; what is over it has a class of its own.
func TestBudget(t *testing.T) {
	t.Parallel()
	for name, chunk := range map[string]int{"one by one": 1, "in chunks": 10} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int32
			var h http.Handler = code(503)
			if chunk > 1 {
				h = predict.BatchHandler(h, predict.BatchHandlerOptions{})
			}
			url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				h.ServeHTTP(w, r)
			}))
			c := newClient(t, url, predict.Options{Retry: quick(4), Dependency: policies.Dependency{
				Name: "models", Budget: policies.Budget{Percent: 20, Minimum: 10},
			}})
			items := questions(200 * chunk)
			out, err := predict.Batch[question, reaction](inTask(t, &notes{}), c, items, predict.BatchOptions{Chunk: chunk})
			require.NoError(t, err)
			require.LessOrEqual(t, out.Report.Retries, len(items)/5)
			require.GreaterOrEqual(t, out.Report.Retries, 10)
			require.Equal(t, len(items)+out.Report.Retries, out.Report.Attempts)
			require.EqualValues(t, out.Report.Requests, asked.Load())
			require.Equal(t, len(items), out.Report.Failed[policies.OverBudget]+out.Report.Failed[policies.Transient])
			require.Greater(t, out.Report.Failed[policies.OverBudget], 100*chunk)
		})
	}
}

// What fails in an outage longer than the budget's window is tried again after it: the breaker holds it, not the budget.
func TestBatchOutlivesAnOutage(t *testing.T) {
	t.Parallel()
	const window = 200 * time.Millisecond
	var asked atomic.Int32
	var back atomic.Pointer[time.Time]
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 5 {
			at := time.Now().Add(5 * window)
			back.Store(&at)
		}
		if at := back.Load(); at != nil && time.Now().Before(*at) {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		double(w, r)
	}))
	c := newClient(t, url, predict.Options{MaxParallel: 4, Retry: quick(100), Dependency: policies.Dependency{
		Name: "models", Breaker: policies.Breaker{Failures: 3, Percent: 10, Cooldown: 50 * time.Millisecond},
		Budget: policies.Budget{Percent: 1, Minimum: 3, Window: window},
	}})
	out, err := predict.Batch[question, reaction](inTask(t, &notes{}), c, questions(100), predict.BatchOptions{})
	require.NoError(t, err)
	require.Equal(t, 100, out.Report.Succeeded, "%+v", out.Report)
	require.Greater(t, out.Report.Retries, 3, "more than the budget has")
}

func TestBatchHandlerRefuses(t *testing.T) {
	t.Parallel()
	url := serve(t, predict.BatchHandler(http.HandlerFunc(double), predict.BatchHandlerOptions{MaxItems: 2, MaxRequest: 100}))
	for body, status := range map[string]int{
		"":                          400,
		"[]":                        400,
		`{"items":[]}`:              400,
		`{"items":[{},{},{}]}`:      400,
		fmt.Sprintf("%101s", " "):   413,
		`{"items":[{"key":"a"}]}`:   200,
		`{"items":[{"request":1}]}`: 200, // that it has no key is for the middleware to tell
	} {
		require.Equal(t, status, post(t, url, "", body).status, body)
	}
}

func TestBatchOverGRPCHasNoChunks(t *testing.T) {
	t.Parallel()
	c, err := predict.New(predict.GRPC(noConn{}, "/a/b"), predict.Options{})
	require.NoError(t, err)
	_, err = predict.Batch[question, reaction](t.Context(), c, questions(1), predict.BatchOptions{Chunk: 2})
	require.ErrorContains(t, err, "HTTP only")
}
