package predict

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/stepwell-flows/stepwell/artifacts"
)

// ServerOptions are the settings of [Middleware] and [Interceptor]. The zero value is ready.
type ServerOptions struct {
	// Lease is how long an execution may take: the handler's context ends then, and a quarter later another request with the
	// same key may execute. Defaults to a minute. It is also how long a key is blocked after its server crashed: calls wait for it
	// and use no attempt; those whose Patience is shorter park their task.
	Lease time.Duration
	// MaxRequest is the largest body of a request in bytes. Defaults to 1 MiB.
	MaxRequest int64
	// MaxResponse is the largest body of a response in bytes. Defaults to 4 MiB. A larger one cannot be kept: if it is final,
	// the caller gets, for this key, status 500 for ever.
	MaxResponse int64
	// Scope says within what a key is unique, from the request's context, such as the caller's account. Defaults to one scope for
	// all. Whoever knows a key of the same scope can read its response: put authentication in front.
	Scope func(context.Context) string
	// Log gets what goes wrong with the store. Defaults to slog.Default.
	Log *slog.Logger
	// Now is the clock. Defaults to time.Now.
	Now func() time.Time
}

func (o ServerOptions) withDefaults() ServerOptions {
	o.Lease = cmp.Or(max(o.Lease, 0), time.Minute)
	o.MaxRequest = cmp.Or(max(o.MaxRequest, 0), 1<<20)
	o.MaxResponse = cmp.Or(max(o.MaxResponse, 0), 4<<20)
	if o.Scope == nil {
		o.Scope = func(context.Context) string { return "" }
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Middleware makes POST and PATCH requests safe to repeat, by the rules of draft-ietf-httpapi-idempotency-key-header-07:
//
//	no key, or not one            400
//	a key that is being executed  409 with Retry-After
//	a key of another request      422
//	a finished key                the stored response, with Idempotent-Replayed: true
//
// A request is another one if its method, path, query or body differ. Errors are application/problem+json (RFC 9457). Requests
// with other methods pass untouched.
//
// Responses are kept in the store, under "idempotency/". They are never deleted here: a rule of the bucket for that prefix may do
// so, later than the last resume of any run whose calls it holds. Final are all but: 5xx, 401, 403, 407, 408, 425, 429, and 4xx with
// a Retry-After. Those give the key back, so that the next request executes. If the store does not answer, nothing is executed,
// and no response is given that is not stored: both are 503.
//
// The handler goes on when its client has gone away, and its context ends after the lease. One that runs longer, or whose server
// crashes, is followed by another execution of the same key. Of all executions of a key exactly one stores its response, and all
// callers get that one. A handler whose effect must not happen twice has to make it conditional itself: on the key (a unique
// index, a call to a service that takes such keys), or on [Claim].Number (refuse lower ones).
//
// The response is held back until the handler is done, so that it can neither be streamed nor hijacked. Middleware is safe for
// concurrent use, by any number of servers on one store.
func Middleware(store *artifacts.Store, o ServerOptions) func(http.Handler) http.Handler {
	o = o.withDefaults()
	k := &keeper{store: store, lease: o.Lease, now: o.Now}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPost && r.Method != http.MethodPatch {
				next.ServeHTTP(w, r)
				return
			}
			server{k, o}.serve(w, r, next)
		})
	}
}

type server struct {
	keeper  *keeper
	options ServerOptions
}

func (s server) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	key, err := ParseKey(r.Header)
	if err != nil {
		problem(w, http.StatusBadRequest, "key", err.Error())
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.options.MaxRequest))
	if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
		problem(w, http.StatusRequestEntityTooLarge, "size", fmt.Sprintf("the request's body is larger than %d bytes", large.Limit))
		return
	}
	if err != nil {
		problem(w, http.StatusBadRequest, "body", "the request's body broke off")
		return
	}
	// The client may go away; what was begun is finished and stored.
	ctx := context.WithoutCancel(r.Context())
	h, done, err := s.keeper.take(ctx, s.options.Scope(ctx), key, fingerprint(r, body))
	switch busy, ok := errors.AsType[*inFlightError](err); {
	case ok:
		w.Header().Set("Retry-After", seconds(busy.wait))
		problem(w, http.StatusConflict, problemInFlight, err.Error())
	case errors.Is(err, errReused):
		problem(w, http.StatusUnprocessableEntity, "reused", err.Error())
	case err != nil:
		s.unavailable(w, "claim", err)
	case done != nil:
		replay(w, *done)
	default:
		s.execute(ctx, w, r, body, h, key, next)
	}
}

func (s server) execute(ctx context.Context, w http.ResponseWriter, r *http.Request, body []byte, h *hold, key string, next http.Handler) {
	claim := h.claim(key)
	run, cancel := context.WithDeadlineCause(context.WithValue(ctx, claimKey{}, claim), claim.Until, errLease)
	defer cancel()
	returned := false
	defer func() {
		if !returned { // a panic, which net/http deals with
			s.release(ctx, h)
		}
	}()
	r = r.WithContext(run)
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	rec := &recorder{header: http.Header{}, limit: s.options.MaxResponse}
	next.ServeHTTP(rec, r)
	returned = true

	out := rec.stored()
	if !final(out) {
		s.release(ctx, h)
		if !rec.large {
			out = rec.live()
		}
		write(w, out)
		return
	}
	first, err := h.commit(ctx, out)
	switch {
	case err != nil:
		s.unavailable(w, "store", err)
	case first != nil: // this execution took too long, and another one was faster
		replay(w, *first)
	case rec.large:
		write(w, out)
	default:
		write(w, rec.live())
	}
}

var errLease = errors.New("the lease of the idempotency key is over")

func (s server) release(ctx context.Context, h *hold) {
	if err := h.release(ctx); err != nil {
		s.options.Log.Error("an idempotency key stays taken until its lease is over", "error", err)
	}
}

func (s server) unavailable(w http.ResponseWriter, what string, err error) {
	s.options.Log.Error("the store of idempotency keys does not work", "op", what, "error", err)
	w.Header().Set("Retry-After", "1")
	problem(w, http.StatusServiceUnavailable, "store", "the store of responses does not answer")
}

// fingerprint tells requests apart.
func fingerprint(r *http.Request, body []byte) string {
	h := sha256.New()
	for _, part := range []string{r.Method, r.URL.EscapedPath(), r.URL.RawQuery} {
		fmt.Fprintf(h, "%d\x00%s", len(part), part)
	}
	h.Write(body)
	return hex.EncodeToString(h.Sum(nil))
}

// final says whether a response is the operation's, for ever.
func final(r stored) bool {
	switch r.Status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired, // says something about the caller
		http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	if r.Status >= 500 {
		return r.Header.Get(ReplayedHeader) != "" // see recorder.stored
	}
	return r.Status < 400 || r.Header.Get("Retry-After") == ""
}

// recorder holds a response back.
type recorder struct {
	header http.Header
	sent   http.Header // as they were when the status was written
	status int
	body   bytes.Buffer
	limit  int64
	large  bool
}

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 && status >= 200 {
		r.status, r.sent = status, r.header.Clone()
	}
}

func (r *recorder) Write(b []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	if r.large = r.large || int64(r.body.Len()+len(b)) > r.limit; r.large {
		return 0, errLarge
	}
	return r.body.Write(b)
}

var errLarge = errors.New("the response is too large to be kept (raise MaxResponse)")

// unkept are headers that belong to one exchange or one client.
var unkept = []string{"Connection", "Content-Length", "Date", "Keep-Alive", "Set-Cookie", "Trailer", "Transfer-Encoding", "Upgrade", RequestHeader}

// live is the response for the client whose request was executed.
func (r *recorder) live() stored {
	return stored{Status: r.status, Header: r.sent, Body: r.body.Bytes()}
}

// stored is the response as it is kept.
func (r *recorder) stored() stored {
	r.WriteHeader(http.StatusOK)
	out := stored{Status: r.status, Header: r.sent.Clone(), Body: r.body.Bytes()}
	for _, name := range unkept {
		out.Header.Del(name)
	}
	out.Header.Del(ReplayedHeader)
	if r.large && !final(out) { // the key is given back; what was held back of the body is not all of it
		out.Body = problemBody(out.Status, "size", errLarge.Error())
		out.Header.Set("Content-Type", problemType)
		out.Header.Del("Content-Encoding")
	} else if r.large {
		// It was executed, and must not be again: this is its response. The header tells the client that asking again does not help.
		out.Status, out.Body = http.StatusInternalServerError, problemBody(http.StatusInternalServerError, "size", errLarge.Error())
		out.Header = http.Header{"Content-Type": {problemType}, ReplayedHeader: {"true"}}
	}
	return out
}

func replay(w http.ResponseWriter, r stored) {
	r.Header = r.Header.Clone()
	if r.Header == nil {
		r.Header = http.Header{}
	}
	r.Header.Set(ReplayedHeader, "true")
	write(w, r)
}

func write(w http.ResponseWriter, r stored) {
	maps.Copy(w.Header(), r.Header)
	if r.Status != http.StatusNoContent && r.Status != http.StatusNotModified {
		w.Header().Set("Content-Length", strconv.Itoa(len(r.Body)))
	}
	w.WriteHeader(r.Status)
	_, _ = w.Write(r.Body) // the client may be gone
}

// seconds rounds up, so that nobody comes early.
func seconds(d time.Duration) string { return strconv.Itoa(int(math.Ceil(max(d, 0).Seconds()))) }

const (
	problemType = "application/problem+json"
	problemURN  = "urn:stepwell:idempotency:"

	problemInFlight = "in-flight"
)

func problem(w http.ResponseWriter, status int, kind, detail string) {
	w.Header().Set("Content-Type", problemType)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(problemBody(status, kind, detail)) //nolint:gosec // JSON, and it says so
}

// problemBody is an error of RFC 9457.
func problemBody(status int, kind, detail string) []byte {
	b, err := json.Marshal(struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{problemURN + kind, http.StatusText(status), status, detail})
	if err != nil {
		panic(err) // strings and a number
	}
	return b
}
