package predict_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/activities/predict"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/artifacts/mem"
)

func memory() *artifacts.Store { return artifacts.New(mem.New(), artifacts.Options{}) }

// clock is a clock that tests set.
type clock struct{ at atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.at.Store(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano())
	return c
}
func (c *clock) now() time.Time          { return time.Unix(0, c.at.Load()).UTC() }
func (c *clock) advance(d time.Duration) { c.at.Add(int64(d)) }

func serve(t testing.TB, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// reply is a response that was read.
type reply struct {
	status   int
	header   http.Header
	body     string
	problem  string
	replayed bool
}

func post(t testing.TB, url, key, body string) reply {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	require.NoError(t, err)
	if key != "" {
		r.Header.Set(predict.KeyHeader, predict.FormatKey(key))
	}
	return do(t, r)
}

func do(t testing.TB, r *http.Request) reply {
	t.Helper()
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	out := reply{resp.StatusCode, resp.Header, string(b), "", resp.Header.Get(predict.ReplayedHeader) == "true"}
	if resp.Header.Get("Content-Type") == "application/problem+json" {
		var p struct {
			Type   string
			Status int
			Detail string
		}
		require.NoError(t, json.Unmarshal(b, &p))
		require.Equal(t, resp.StatusCode, p.Status)
		require.NotEmpty(t, p.Detail)
		out.problem = strings.TrimPrefix(p.Type, "urn:stepwell:idempotency:")
	}
	return out
}

func guarded(store *artifacts.Store, o predict.ServerOptions, h http.HandlerFunc) http.Handler {
	return predict.Middleware(store, o)(h)
}

func TestMiddlewareReplays(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	url := serve(t, guarded(memory(), predict.ServerOptions{}, func(w http.ResponseWriter, r *http.Request) {
		n := calls.Add(1)
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Model", "7")
		w.Header().Set("Set-Cookie", "a=b")
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, "%d %s", n, b)
	}))
	first := post(t, url, "a", "one")
	require.Equal(t, 201, first.status)
	require.Equal(t, "1 one", first.body)
	require.False(t, first.replayed)
	require.Equal(t, "a=b", first.header.Get("Set-Cookie"))

	again := post(t, url, "a", "one")
	require.Equal(t, 201, again.status)
	require.Equal(t, "1 one", again.body)
	require.True(t, again.replayed)
	require.Equal(t, "7", again.header.Get("X-Model"))
	require.Empty(t, again.header.Get("Set-Cookie"), "a cookie is for one client")

	require.Equal(t, "2 one", post(t, url, "b", "one").body, "another key")
	other := post(t, url, "a", "two")
	require.Equal(t, 422, other.status)
	require.Equal(t, "reused", other.problem)
	require.Equal(t, 422, post(t, url+"/other", "a", "one").status)
	require.Equal(t, 422, post(t, url+"?q=1", "a", "one").status)
	missing := post(t, url, "", "one")
	require.Equal(t, 400, missing.status)
	require.Equal(t, "key", missing.problem)
	require.EqualValues(t, 2, calls.Load())

	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	require.Equal(t, "3 ", do(t, r).body, "a GET needs no key")
}

// The statuses that are kept, and those that give the key back.
func TestMiddlewareKeepsWhatIsFinal(t *testing.T) {
	t.Parallel()
	for status, kept := range map[int]bool{
		200: true, 201: true, 202: true, 204: true, 303: true, 400: true, 404: true, 409: true, 410: true, 422: true,
		401: false, 403: false, 408: false, 425: false, 429: false, 500: false, 501: false, 502: false, 503: false, 504: false,
	} {
		var calls atomic.Int32
		url := serve(t, guarded(memory(), predict.ServerOptions{}, func(w http.ResponseWriter, r *http.Request) {
			calls.Add(1)
			w.WriteHeader(status)
		}))
		client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		for i := range 3 {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, nil)
			require.NoError(t, err)
			r.Header.Set(predict.KeyHeader, "bare-key")
			resp, err := client.Do(r)
			require.NoError(t, err)
			resp.Body.Close()
			require.Equal(t, status, resp.StatusCode)
			require.Equal(t, kept && i > 0, resp.Header.Get(predict.ReplayedHeader) == "true", status)
		}
		require.EqualValues(t, map[bool]int{true: 1, false: 3}[kept], calls.Load(), "status %d", status)
	}
}

func TestMiddlewareRetryAfterIsNotFinal(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	url := serve(t, guarded(memory(), predict.ServerOptions{}, func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusConflict)
		}
	}))
	require.Equal(t, 409, post(t, url, "a", "").status)
	require.Equal(t, 200, post(t, url, "a", "").status)
}

// While a request is executed, another one with its key gets 409 at once; once it is over, the stored response.
func TestMiddlewareInFlight(t *testing.T) {
	t.Parallel()
	begun, goOn := make(chan struct{}), make(chan struct{})
	var calls atomic.Int32
	clock := newClock()
	url := serve(t, guarded(memory(), predict.ServerOptions{Now: clock.now}, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		close(begun)
		<-goOn
		_, _ = io.WriteString(w, "done")
	}))
	first := make(chan reply)
	go func() { first <- post(t, url, "a", "x") }() //nolint:testifylint // it is waited for
	<-begun
	busy := post(t, url, "a", "x")
	require.Equal(t, 409, busy.status)
	require.Equal(t, "in-flight", busy.problem)
	require.Equal(t, "1", busy.header.Get("Retry-After"))
	require.Equal(t, 422, post(t, url, "a", "y").status)
	clock.advance(8 * time.Second)
	require.Equal(t, "8", post(t, url, "a", "x").header.Get("Retry-After"), "the longer it takes, the less often it is asked")
	close(goOn)
	require.Equal(t, "done", (<-first).body)
	require.True(t, post(t, url, "a", "x").replayed)
	require.EqualValues(t, 1, calls.Load())
}

// A client that goes away does not stop what it began.
func TestMiddlewareOutlivesClients(t *testing.T) {
	t.Parallel()
	begun, ended := make(chan struct{}), make(chan error, 1)
	var gone atomic.Bool
	url := serve(t, guarded(memory(), predict.ServerOptions{}, func(w http.ResponseWriter, r *http.Request) {
		close(begun)
		for !gone.Load() {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(20 * time.Millisecond)
		ended <- r.Context().Err()
		_, _ = io.WriteString(w, "done")
	}))
	ctx, leave := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, nil)
	require.NoError(t, err)
	r.Header.Set(predict.KeyHeader, `"a"`)
	go func() {
		<-begun
		leave()
	}()
	_, err = http.DefaultClient.Do(r) //nolint:bodyclose // there is none
	require.ErrorIs(t, err, context.Canceled)
	gone.Store(true)
	require.NoError(t, <-ended)
	require.Eventually(t, func() bool { return post(t, url, "a", "").replayed }, time.Minute, time.Millisecond)
}

// Of many racing requests with one key one executes.
func TestMiddlewareRace(t *testing.T) {
	t.Parallel()
	store := memory()
	var calls atomic.Int32
	handler := func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "%d", calls.Add(1)) }
	one, two := serve(t, guarded(store, predict.ServerOptions{}, handler)), serve(t, guarded(store, predict.ServerOptions{}, handler))
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			url := one
			if i%2 == 0 {
				url = two
			}
			got := post(t, url, "same", "x")
			if got.status == 200 {
				require.Equal(t, "1", got.body)
			} else {
				require.Equal(t, 409, got.status)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, calls.Load())
	require.Equal(t, "1", post(t, one, "same", "x").body)
}

// A server that crashed in the middle of an execution blocks its key for the lease and a quarter, and no longer.
func TestMiddlewareTakesOverFromCrashed(t *testing.T) {
	t.Parallel()
	store, clock := memory(), newClock()
	o := predict.ServerOptions{Lease: time.Minute, Now: clock.now}
	hang, never := make(chan predict.Claim, 1), make(chan struct{})
	t.Cleanup(func() { close(never) })
	crashed := httptest.NewServer(guarded(store, o, func(w http.ResponseWriter, r *http.Request) {
		c, _ := predict.ClaimOf(r.Context())
		hang <- c
		<-never // as good as a crash: nothing is heard of it any more
		panic(http.ErrAbortHandler)
	}))
	ctx, leave := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, crashed.URL, nil)
	require.NoError(t, err)
	r.Header.Set(predict.KeyHeader, `"a"`)
	go func() {
		if resp, err := http.DefaultClient.Do(r); err == nil {
			resp.Body.Close()
		}
	}()
	claim := <-hang
	require.Equal(t, predict.Claim{Key: "a", Number: 1, Until: clock.now().Add(time.Minute)}, claim)
	leave()

	var claims []predict.Claim
	url := serve(t, guarded(store, o, func(w http.ResponseWriter, r *http.Request) {
		c, _ := predict.ClaimOf(r.Context())
		claims = append(claims, c)
		_, _ = io.WriteString(w, "second")
	}))
	for range 5 {
		require.Equal(t, 409, post(t, url, "a", "").status)
		clock.advance(75 * time.Second / 5)
	}
	require.Equal(t, 422, post(t, url, "a", "other").status, "the key belongs to its first request, still")
	got := post(t, url, "a", "")
	require.Equal(t, "second", got.body)
	require.False(t, got.replayed)
	require.Len(t, claims, 1)
	require.Equal(t, 2, claims[0].Number)
	require.True(t, post(t, url, "a", "").replayed)
}

// An execution that outlives its lease and is overtaken does not get to store its response, nor to show it.
func TestMiddlewareOneResponse(t *testing.T) {
	t.Parallel()
	store, clock := memory(), newClock()
	o := predict.ServerOptions{Lease: time.Minute, Now: clock.now}
	begun, goOn := make(chan struct{}, 1), make(chan struct{})
	slow := serve(t, guarded(store, o, func(w http.ResponseWriter, r *http.Request) {
		begun <- struct{}{}
		<-goOn
		_, _ = io.WriteString(w, "slow")
	}))
	fast := serve(t, guarded(store, o, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "fast") }))
	late := make(chan reply)
	go func() { late <- post(t, slow, "a", "") }() //nolint:testifylint // it is waited for
	<-begun
	clock.advance(76 * time.Second)
	require.Equal(t, "fast", post(t, fast, "a", "").body)
	close(goOn)
	got := <-late
	require.Equal(t, "fast", got.body)
	require.True(t, got.replayed)
}

// The handler's context ends with its lease.
func TestMiddlewareLeaseEndsHandler(t *testing.T) {
	t.Parallel()
	store := memory()
	ended := make(chan error, 1)
	url := serve(t, guarded(store, predict.ServerOptions{Lease: 50 * time.Millisecond}, func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		ended <- context.Cause(r.Context())
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	require.Equal(t, 503, post(t, url, "a", "").status)
	require.ErrorContains(t, <-ended, "lease")
}

func TestMiddlewarePanicGivesTheKeyBack(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	url := serve(t, guarded(memory(), predict.ServerOptions{}, func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, "ok")
	}))
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, nil)
	require.NoError(t, err)
	r.Header.Set(predict.KeyHeader, `"a"`)
	_, err = http.DefaultClient.Do(r) //nolint:bodyclose // there is none
	require.ErrorIs(t, err, io.EOF)
	require.Equal(t, "ok", post(t, url, "a", "").body)
}

func TestMiddlewareBounds(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	url := serve(t, guarded(memory(), predict.ServerOptions{MaxRequest: 10, MaxResponse: 20}, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		b, _ := io.ReadAll(r.Body)
		for range len(b) {
			_, _ = io.WriteString(w, "1234")
		}
	}))
	large := post(t, url, "a", strings.Repeat("x", 11))
	require.Equal(t, 413, large.status)
	require.Equal(t, "size", large.problem)
	require.Equal(t, 200, post(t, url, "b", strings.Repeat("x", 5)).status)
	for range 2 {
		got := post(t, url, "c", strings.Repeat("x", 6))
		require.Equal(t, 500, got.status)
		require.Equal(t, "size", got.problem)
		require.True(t, got.replayed, "a client need not ask again")
	}
	require.EqualValues(t, 2, calls.Load())
}

// Scopes keep the keys of different callers apart.
func TestMiddlewareScope(t *testing.T) {
	t.Parallel()
	type account struct{}
	var calls atomic.Int32
	h := guarded(memory(), predict.ServerOptions{Scope: func(ctx context.Context) string {
		name, _ := ctx.Value(account{}).(string)
		return name
	}}, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, calls.Add(1)) })
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), account{}, r.Header.Get("Account"))))
	}))
	ask := func(name string) string {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, nil)
		require.NoError(t, err)
		r.Header.Set(predict.KeyHeader, `"a"`)
		r.Header.Set("Account", name)
		return do(t, r).body
	}
	require.Equal(t, []string{"1", "2", "1", "2"}, []string{ask("x"), ask("y"), ask("x"), ask("y")})
}

// A refusal with a body that is too large to be kept is no end of its key.
func TestMiddlewareLargeRefusalIsNotFinal(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	url := serve(t, guarded(memory(), predict.ServerOptions{MaxResponse: 10}, func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, "more than ten bytes")
			return
		}
		_, _ = io.WriteString(w, "done")
	}))
	first := post(t, url, "a", "x")
	require.Equal(t, 503, first.status)
	require.Equal(t, "size", first.problem)
	require.Equal(t, "7", first.header.Get("Retry-After"))
	require.Equal(t, "done", post(t, url, "a", "x").body)
}
