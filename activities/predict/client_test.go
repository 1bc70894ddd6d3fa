package predict_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/activities/predict"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

type question struct {
	N int `json:"n"`
}

type reaction struct {
	Twice int `json:"twice"`
}

// double answers as a model server does.
func double(w http.ResponseWriter, r *http.Request) {
	var q question
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"twice":%d}`, 2*q.N)
}

// arrival is a request as the server saw it.
type arrival struct {
	at      time.Time
	key     string
	request string
}

// scripted answers each request as the script says, by its number from 0, and double after its end.
type scripted struct {
	mu       sync.Mutex
	arrivals []arrival
	script   []http.HandlerFunc
	then     http.Handler
}

func (s *scripted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	n := len(s.arrivals)
	key, _ := predict.ParseKey(r.Header)
	s.arrivals = append(s.arrivals, arrival{time.Now(), key, r.Header.Get(predict.RequestHeader)})
	s.mu.Unlock()
	switch {
	case n < len(s.script):
		s.script[n](w, r)
	case s.then != nil:
		s.then.ServeHTTP(w, r)
	default:
		double(w, r)
	}
}

func (s *scripted) seen() []arrival {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]arrival(nil), s.arrivals...)
}

func code(status int, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
	}
}

// cut breaks the connection.
func cut(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }

func newClient(t testing.TB, url string, o predict.Options) *predict.Client {
	t.Helper()
	c, err := predict.New(predict.HTTP(url, predict.HTTPOptions{}), o)
	require.NoError(t, err)
	return c
}

// quick retries without losing time.
func quick(attempts int) policies.Retry {
	return policies.Retry{MaximumAttempts: attempts, InitialInterval: time.Millisecond}
}

func ask(ctx context.Context, c *predict.Client, n int) (int, error) {
	a, err := predict.Call[question, reaction](ctx, c, fmt.Sprint("q", n), question{n})
	return a.Twice, err
}

func TestCall(t *testing.T) {
	t.Parallel()
	s := &scripted{script: []http.HandlerFunc{code(503), cut, code(500), code(429)}}
	got, err := ask(t.Context(), newClient(t, serve(t, s), predict.Options{Retry: quick(5)}), 21)
	require.NoError(t, err)
	require.Equal(t, 42, got)
	seen := s.seen()
	require.Len(t, seen, 5)
	for _, a := range seen {
		require.Equal(t, "q21", a.key, "every attempt has the same key")
		require.Equal(t, seen[0].request, a.request, "and correlation id")
		require.NotEmpty(t, a.request)
	}
}

// What an answer means: its class, and how often it is asked for.
func TestCallClasses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		class  policies.Class
		asked  int
	}{
		"bad request": {code(400), policies.Invalid, 1},
		"denied":      {code(401), policies.Denied, 1},
		"forbidden":   {code(403), policies.Denied, 1},
		"mismatch":    {code(422), policies.Invalid, 1},
		"too many":    {code(429), policies.RateLimited, 3},
		"unavailable": {code(503), policies.Transient, 3},
		"bad gateway": {code(502), policies.Transient, 3},
		"cut":         {cut, policies.Transient, 3},
		"conflict":    {code(409), policies.Invalid, 1},
		"no JSON": {func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "<html>secret</html>")
		}, policies.Permanent, 1},
		"a failure for ever": {code(500, predict.ReplayedHeader, "true"), policies.Permanent, 1},
		"half a body": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, `{"twice":`)
		}, policies.Transient, 3},
		"a problem": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"title":"Bad","detail":"n is missing"}`)
		}, policies.Invalid, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &scripted{then: test.answer}
			_, err := ask(t.Context(), newClient(t, serve(t, s), predict.Options{Retry: quick(3)}), 1)
			require.Error(t, err)
			require.Equal(t, test.class, policies.Classify(err).Class, "%v", err)
			require.Len(t, s.seen(), test.asked)
			require.NotContains(t, err.Error(), "secret", "errors do not quote payloads")
			if name == "a problem" {
				require.ErrorContains(t, err, "n is missing")
			}
		})
	}
}

func TestCallRefused(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	_, err = ask(t.Context(), newClient(t, "http://"+address, predict.Options{Retry: quick(2)}), 1)
	require.Equal(t, policies.Transient, policies.Classify(err).Class, "%v", err)
	require.ErrorContains(t, err, "attempt 2")
}

// An attempt that takes too long is given up, and asked for again with the same key.
func TestCallTimeout(t *testing.T) {
	t.Parallel()
	hang := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then the server notices that the client is gone
		<-r.Context().Done()
	}
	s := &scripted{script: []http.HandlerFunc{hang}}
	got, err := ask(t.Context(), newClient(t, serve(t, s), predict.Options{Retry: quick(100), Timeout: 200 * time.Millisecond}), 2)
	require.NoError(t, err)
	require.Equal(t, 4, got)

	s = &scripted{then: http.HandlerFunc(hang)}
	_, err = ask(t.Context(), newClient(t, serve(t, s), predict.Options{Retry: quick(2), Timeout: 20 * time.Millisecond}), 2)
	require.Equal(t, policies.TimedOut, policies.Classify(err).Class, "%v", err)
	require.ErrorContains(t, err, "attempt 2")
}

// The caller's end is not a failure of the service: nothing is asked again.
func TestCallCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	s := &scripted{then: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		cancel(why)
		<-r.Context().Done()
	})}
	_, err := ask(ctx, newClient(t, serve(t, s), predict.Options{Retry: quick(5)}), 1)
	require.ErrorIs(t, err, why)
	require.Len(t, s.seen(), 1)
}

// A wait that the server asks for is waited out, never cut short, by the server's own clock.
func TestCallObeysRetryAfter(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]func() string{
		"seconds": func() string { return "1" },
		"date":    func() string { return time.Now().Add(2 * time.Second).UTC().Format(http.TimeFormat) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked time.Time
			s := &scripted{script: []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
				v := value()
				if until, err := http.ParseTime(v); err == nil {
					asked = until
				} else {
					asked = time.Now().Add(time.Second)
				}
				w.Header().Set("Retry-After", v)
				w.WriteHeader(http.StatusTooManyRequests)
			}}}
			_, err := ask(t.Context(), newClient(t, serve(t, s), predict.Options{}), 1)
			require.NoError(t, err)
			require.Len(t, s.seen(), 2)
			require.False(t, s.seen()[1].at.Before(asked), "%v is before %v", s.seen()[1].at, asked)
		})
	}
}

// A wait that does not fit into the call parks the task.
func TestCallDefers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		after string
		o     predict.Options
	}{
		"over a minute":      {"90", predict.Options{Patience: time.Hour}},
		"over the patience":  {"20", predict.Options{Patience: 10 * time.Second}},
		"on the last try":    {"90", predict.Options{Retry: quick(1), Patience: time.Hour}},
		"for a named server": {"90", predict.Options{Dependency: policies.Dependency{Name: "models"}, Patience: time.Hour}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &scripted{then: code(503, "Retry-After", test.after)}
			_, err := ask(t.Context(), newClient(t, serve(t, s), test.o), 1)
			d, ok := policies.DeferralOf(err, policies.Classify(err))
			require.True(t, ok, "%v", err)
			asked, err := time.ParseDuration(test.after + "s")
			require.NoError(t, err)
			require.GreaterOrEqual(t, d.For, asked)
			require.Len(t, s.seen(), 1)
			if name != "on the last try" {
				require.Equal(t, test.o.Dependency.Name, d.Dependency)
			}
		})
	}
}

// Full jitter: calls that fail together do not come back together.
func TestCallSpreads(t *testing.T) {
	t.Parallel()
	const calls, window, buckets = 400, time.Second, 4
	var mu sync.Mutex
	failed, waits := map[string]time.Time{}, map[string]time.Duration{}
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now := time.Now()
		key, _ := predict.ParseKey(r.Header)
		mu.Lock()
		defer mu.Unlock()
		if at, ok := failed[key]; ok {
			waits[key] = now.Sub(at)
			_, _ = io.WriteString(w, "{}")
			return
		}
		failed[key] = now
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	var lines strings.Builder
	ctx := flow.NewContext(t.Context(), flow.Runtime{
		Info: flow.Info{Flow: "F", Run: "r", Step: "s"}, Log: slog.New(slog.NewJSONHandler(&lines, nil)),
	})
	c := newClient(t, url, predict.Options{
		MaxParallel: calls, Timeout: time.Minute, Retry: policies.Retry{MaximumAttempts: 2, InitialInterval: window},
	})
	var wg sync.WaitGroup
	for i := range calls {
		wg.Go(func() {
			_, err := ask(ctx, c, i)
			require.NoError(t, err)
		})
	}
	wg.Wait()
	require.Len(t, waits, calls)
	// What was drawn: the waits are longer, by the time that requests take.
	var counts [buckets]int
	for text := range strings.Lines(lines.String()) {
		var line struct {
			Key   string
			Delay *time.Duration
		}
		require.NoError(t, json.Unmarshal([]byte(text), &line))
		if line.Delay != nil {
			require.GreaterOrEqual(t, waits[line.Key], *line.Delay)
			counts[min(int(buckets**line.Delay/window), buckets-1)]++
		}
	}
	for i, n := range counts { // standard deviation 8.7
		require.InDelta(t, calls/buckets, n, 50, "bucket %d of %v", i, counts)
	}
}

// No more than MaxParallel requests are under way, and no more than Rate begin in a second.
func TestCallLimits(t *testing.T) {
	t.Parallel()
	var now, most atomic.Int32
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		time.Sleep(5 * time.Millisecond)
		double(w, r)
	}))
	c := newClient(t, url, predict.Options{MaxParallel: 3, Rate: 100, Burst: 1})
	started := time.Now()
	var wg sync.WaitGroup
	for i := range 31 {
		wg.Go(func() {
			_, err := ask(t.Context(), c, i)
			require.NoError(t, err)
		})
	}
	wg.Wait()
	require.LessOrEqual(t, most.Load(), int32(3))
	require.GreaterOrEqual(t, time.Since(started), 290*time.Millisecond)
}

// An attempt without an answer is sent a second time with the same key; the first answer wins.
func TestCallHedges(t *testing.T) {
	t.Parallel()
	cancelled := make(chan struct{})
	s := &scripted{script: []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		close(cancelled)
	}}}
	got, err := ask(t.Context(), newClient(t, serve(t, s), predict.Options{Hedge: 20 * time.Millisecond}), 3)
	require.NoError(t, err)
	require.Equal(t, 6, got)
	require.Len(t, s.seen(), 2)
	require.Equal(t, s.seen()[0].key, s.seen()[1].key)
	<-cancelled // or the test never ends
}

// Behind the middleware a hedge finds its own first request at work. That is no answer.
func TestHedgeWaitsForTheFirst(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	refused := make(chan struct{})
	h := predict.Middleware(memory(), predict.ServerOptions{})(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		<-refused
		time.Sleep(10 * time.Millisecond)
		double(w, r)
	}))
	var n atomic.Int32
	var once sync.Once
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		h.ServeHTTP(w, r)
		once.Do(func() { close(refused) }) // the other one waits for it
	}))
	got, err := ask(t.Context(), newClient(t, url, predict.Options{Hedge: 20 * time.Millisecond, Retry: quick(1)}), 3)
	require.NoError(t, err)
	require.Equal(t, 6, got)
	require.EqualValues(t, 1, calls.Load())
	require.EqualValues(t, 2, n.Load())
}

// Each attempt leaves a line with what happened, and nothing of what was asked.
func TestCallLogs(t *testing.T) {
	t.Parallel()
	var lines strings.Builder
	ctx := flow.NewContext(t.Context(), flow.Runtime{
		Info: flow.Info{Flow: "F", Run: "r", Step: "s"}, Log: slog.New(slog.NewJSONHandler(&lines, nil)),
	})
	s := &scripted{script: []http.HandlerFunc{code(503)}}
	type secret struct{ Password string }
	_, err := predict.Call[secret, reaction](ctx, newClient(t, serve(t, s), predict.Options{
		Retry: quick(2), Dependency: policies.Dependency{Name: "models"},
	}), "op", secret{"hunter2"})
	require.NoError(t, err)
	require.NotContains(t, lines.String(), "hunter2")
	all := strings.Split(strings.TrimSpace(lines.String()), "\n")
	require.Len(t, all, 2)
	var first, second map[string]any
	require.NoError(t, json.Unmarshal([]byte(all[0]), &first))
	require.NoError(t, json.Unmarshal([]byte(all[1]), &second))
	require.Equal(t, "503", first["status"])
	require.Equal(t, "Transient", first["class"])
	require.Equal(t, "models", first["service"])
	require.EqualValues(t, 1, first["call_attempt"])
	require.Contains(t, first, "delay")
	require.Contains(t, first["reason"], "full jitter")
	require.Equal(t, "200", second["status"])
	require.Positive(t, second["latency"])
	require.Equal(t, s.seen()[1].key, second["key"])
	require.Equal(t, s.seen()[1].request, second["request_id"])
	key, err := predict.Key(ctx, "op")
	require.NoError(t, err)
	require.Equal(t, key, second["key"])
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	_, err := predict.New(nil, predict.Options{})
	require.ErrorContains(t, err, "no transport")
	_, err = predict.New(predict.HTTP("ftp://user:secret@host", predict.HTTPOptions{}), predict.Options{
		Timeout: 5, Rate: -1, MaxParallel: -1, Retry: policies.Retry{MaximumAttempts: -1}, Dependency: policies.Dependency{Name: "a b"},
	})
	for _, part := range []string{"not the URL", "Timeout is 5ns", "Rate is -1", "MaxParallel is -1", "MaximumAttempts is -1", `Name "a b"`} {
		require.ErrorContains(t, err, part)
	}
	require.NotContains(t, err.Error(), "secret")
	_, err = predict.New(predict.HTTP("http://user:secret@host:port", predict.HTTPOptions{}), predict.Options{})
	require.Error(t, err)
	require.NotContains(t, err.Error(), "secret")
}

func TestCallOutsideOfARunNeedsAKey(t *testing.T) {
	t.Parallel()
	_, err := predict.Call[question, reaction](t.Context(), newClient(t, "http://127.0.0.1:1", predict.Options{}), "", question{})
	require.ErrorContains(t, err, "no idempotency key")
}

// Timeout and Patience fit together, whichever of them is given.
func TestPatienceFitsTimeout(t *testing.T) {
	t.Parallel()
	for _, o := range []predict.Options{{Timeout: 5 * time.Minute}, {Patience: time.Second}, {Patience: time.Second, Timeout: time.Second}} {
		_, err := predict.New(predict.HTTP("http://127.0.0.1:1", predict.HTTPOptions{}), o)
		require.NoError(t, err, "%+v", o)
	}
	_, err := predict.New(predict.HTTP("http://127.0.0.1:1", predict.HTTPOptions{}), predict.Options{Timeout: time.Minute, Patience: time.Second})
	require.ErrorContains(t, err, "raise Patience")
}

// The wait behind other calls does not use up a call's patience: what fails then is tried again.
func TestWaitForRoomTakesNoPatience(t *testing.T) {
	t.Parallel()
	goOn, begun := make(chan struct{}), make(chan struct{})
	c := newClient(t, serve(t, &scripted{script: []http.HandlerFunc{
		func(w http.ResponseWriter, r *http.Request) { close(begun); <-goOn; double(w, r) }, code(503),
	}}), predict.Options{MaxParallel: 1, Timeout: 6 * time.Second, Patience: 6 * time.Second, Retry: quick(2)})
	go func() { _, _ = ask(t.Context(), c, 1) }()
	<-begun
	time.AfterFunc(5700*time.Millisecond, func() { close(goOn) })
	got, err := ask(t.Context(), c, 2)
	require.NoError(t, err)
	require.Equal(t, 4, got)
}

// A hedge that may not be sent leaves the first request as it was: its failure is the attempt's.
func TestHedgeThatIsNotAllowed(t *testing.T) {
	t.Parallel()
	s := &scripted{script: []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(200 * time.Millisecond)
		w.WriteHeader(http.StatusServiceUnavailable)
	}}}
	c := newClient(t, serve(t, s), predict.Options{Hedge: 10 * time.Millisecond, MaxParallel: 1, Retry: quick(2)})
	got, err := ask(t.Context(), c, 3)
	require.NoError(t, err)
	require.Equal(t, 6, got)
	require.Len(t, s.seen(), 2, "there is no room for a hedge")
}
