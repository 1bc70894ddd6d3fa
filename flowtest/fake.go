package flowtest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/testsuite"

	"github.com/stepwell-flows/stepwell/artifacts"
)

// Fake is a service that steps call over HTTP, for tests: it answers as its script says, and remembers what it was asked and when.
// Make one with [NewFake]. It is safe for concurrent use; its script is to be complete before the first request.
//
//	fake := flowtest.NewFake(t,
//		flowtest.Reply{Status: http.StatusServiceUnavailable, RetryAfter: 2 * time.Minute},
//		flowtest.Reply{Body: `{"probability": 0.7}`})
//	run := flowtest.Run(t, Flow(), flowtest.Options{Params: map[string]string{"server": fake.URL()}, Prepare: fake.Prepare})
//	require.Equal(t, records.StatusCompleted, run.Status)
//	require.Len(t, fake.Requests(), 2)
//	fake.RequireRetryAfter(t)
//
// # Which reply
//
// A request is answered by the first script that fits and has a reply left: that of its key, of each key, of its path, of
// all requests. Replies are used in the order of arrival, each once unless it says how often. When all are used, the handler
// answers, if there is one, else status 200 without a body.
//
// # Which clock
//
// Delays, pauses and hangs take real time. When requests came is told by the clock of the flow once Prepare was given to the options
// of a run, and then skipped waits count in full; without it, by the real clock. A date in Retry-After is of the real clock, because
// that is the one that a step's client reads.
//
// Each request has a connection of its own. On one that was used before, net/http's client would by itself repeat a
// request with an idempotency key when the connection breaks.
type Fake struct {
	server  *httptest.Server
	closing chan struct{}

	mu       sync.Mutex
	now      func() time.Time // the flow's clock; nil: the real one
	header   string
	handler  http.Handler
	all      *replies
	paths    map[string]*replies
	keys     map[string]*replies
	each     []Reply
	eachKeys map[string]*replies
	requests []*Request
}

// Request is one that a [Fake] got. One that was delivered twice is there twice.
type Request struct {
	// Number counts from 1 in the order of arrival.
	Number int
	// Received and Answered are when it came, and when the answer was complete or given up: by the flow's clock or the real one, see
	// [Fake]. Answered is zero as long as there is no answer.
	Received, Answered time.Time
	// Method, Path, Query and Header are those of the request.
	Method, Path, Query string
	Header              http.Header
	// Key is its idempotency key without quotes, "" if it has none.
	Key string
	// Body is what was sent, Digest its digest.
	Body   []byte
	Digest artifacts.Digest
	// Status is the status of the answer, 0 if there was none.
	Status int
	// RetryAfter is the wait that the answer asked for.
	RetryAfter time.Duration
	// Duplicate says that the client sent it once, and the network twice.
	Duplicate bool
	// Answer says for people what became of it: "503, asks for 2s", "reset", "no answer: the client went away after 1s".
	Answer string

	received, answered time.Time // by the real clock
	date               bool      // the wait was given as a date
}

// String is like "request 3 (POST /predict, key \"a\")".
func (r *Request) String() string {
	text := fmt.Sprintf("request %d (%s %s", r.Number, r.Method, r.Path)
	if r.Key != "" {
		text += fmt.Sprintf(", key %q", r.Key)
	}
	if r.Duplicate {
		text += ", delivered again"
	}
	return text + ")"
}

// NewFake starts a service that plays a script for all requests. It ends with the test; requests that hang are then released.
func NewFake(t testing.TB, script ...Reply) *Fake {
	t.Helper()
	f := &Fake{
		closing: make(chan struct{}), header: "Idempotency-Key",
		paths: map[string]*replies{}, keys: map[string]*replies{}, eachKeys: map[string]*replies{},
	}
	f.all = newScript(script)
	f.server = httptest.NewUnstartedServer(http.HandlerFunc(f.serve))
	f.server.Config.SetKeepAlivesEnabled(false)
	f.server.Start()
	t.Cleanup(func() {
		close(f.closing)
		f.server.Close()
	})
	return f
}

// URL is the service's address, without a slash at its end.
func (f *Fake) URL() string { return f.server.URL }

// Path adds a script for requests of one path, such as "/predict".
func (f *Fake) Path(path string, script ...Reply) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.paths[path] = newScript(script)
}

// Key adds a script for requests with one idempotency key.
func (f *Fake) Key(key string, script ...Reply) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys[key] = newScript(script)
}

// EachKey adds a script that each idempotency key plays on its own, from its beginning: the first request of each fails, for example.
// Requests without a key are one more.
func (f *Fake) EachKey(script ...Reply) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.each = script
}

// Handler makes h answer requests for which no script has a reply left, and those of replies without a Status, whose faults then come
// on top: a reset connection after the work was done, a request that is delivered twice.
func (f *Fake) Handler(h http.Handler) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.handler = h
}

// KeyHeader names the header that holds the idempotency key. Defaults to Idempotency-Key.
func (f *Fake) KeyHeader(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.header = name
}

// Prepare makes times those of the flow's clock. It is for [Options].Prepare.
func (f *Fake) Prepare(env *testsuite.TestWorkflowEnvironment) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = env.Now
}

// Requests are the requests so far, in the order of arrival.
func (f *Fake) Requests() []Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make([]Request, len(f.requests))
	for i, r := range f.requests {
		all[i] = *r
	}
	return all
}

// ByKey are the requests so far by idempotency key, "" for those without one, each in the order of arrival.
func (f *Fake) ByKey() map[string][]Request {
	by := map[string][]Request{}
	for _, r := range f.Requests() {
		by[r.Key] = append(by[r.Key], r)
	}
	return by
}

// Delays are the times from an answer to the next request with the same key, in the order of those requests. What was delivered twice
// counts as one.
func (f *Fake) Delays(key string) []time.Duration {
	var delays []time.Duration
	var last *Request
	for _, r := range f.ByKey()[key] {
		if r.Duplicate {
			continue
		}
		if last != nil && !last.Answered.IsZero() {
			delays = append(delays, last.until(r))
		}
		last = &r
	}
	return delays
}

// until is the time from an answer to a later request. When the flow's time is skipped it stands still while steps run, so that
// the longer one of both clocks is meant.
func (r *Request) until(next Request) time.Duration {
	return max(next.Received.Sub(r.Answered), next.received.Sub(r.answered))
}

// RequireRetryAfter fails the test if a request came earlier than an answer before it asked for. Requests with the same key belong
// together; those without one if they have the same method, path and content.
func (f *Fake) RequireRetryAfter(t testing.TB) {
	t.Helper()
	type id struct {
		key, method, path string
		digest            artifacts.Digest
	}
	asked := map[id]Request{}
	var early []string
	for _, r := range f.Requests() {
		of := id{key: r.Key}
		if r.Key == "" {
			of = id{"", r.Method, r.Path, r.Digest}
		}
		if before, ok := asked[of]; ok && !r.Duplicate && !before.Answered.IsZero() {
			waited := before.until(r)
			if before.date { // the client counts from when it reads it, and that takes real time
				waited = max(waited, r.Received.Sub(before.Answered)+r.received.Sub(before.answered))
			}
			if waited < before.RetryAfter {
				early = append(early, fmt.Sprintf("%s came %s after the answer to request %d, which was: %s", &r, waited.Round(time.Millisecond), before.Number, before.Answer))
			}
		}
		if r.RetryAfter > 0 {
			asked[of] = r
		} else {
			delete(asked, of)
		}
	}
	if len(early) > 0 {
		t.Fatalf("%d of %d requests came too early:\n%s", len(early), len(f.Requests()), strings.Join(early, "\n"))
	}
}

// replies is a sequence of replies of which some are used.
type replies struct {
	left []Reply
	used int // of the first one
}

func newScript(all []Reply) *replies { return &replies{left: slices.Clone(all)} }

// next takes the next reply, if there is one.
func (s *replies) next() (Reply, bool) {
	if s == nil || len(s.left) == 0 {
		return Reply{}, false
	}
	r := s.left[0]
	if s.used++; r.Times >= 0 && s.used >= max(r.Times, 1) {
		s.left, s.used = s.left[1:], 0
	}
	return r, true
}

// record notes a request. Unless it is a duplicate, it takes the next reply of the script that it belongs to.
func (f *Fake) record(in *http.Request, body []byte, duplicate bool) (r *Request, reply Reply) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r = &Request{
		Number: len(f.requests) + 1, Method: in.Method, Path: in.URL.Path, Query: in.URL.RawQuery, Header: in.Header.Clone(),
		Key: strings.Trim(in.Header.Get(f.header), `"`), Body: body, Digest: artifacts.Sum(body), Duplicate: duplicate, Answer: "none yet",
	}
	r.Received, r.received = f.clock()
	f.requests = append(f.requests, r)
	if duplicate {
		return r, reply
	}
	if f.each != nil && f.eachKeys[r.Key] == nil {
		f.eachKeys[r.Key] = newScript(f.each)
	}
	for _, s := range []*replies{f.keys[r.Key], f.eachKeys[r.Key], f.paths[r.Path], f.all} {
		if reply, ok := s.next(); ok {
			return r, reply
		}
	}
	return r, Reply{}
}

// answered notes what became of a request.
func (f *Fake) answered(r *Request, note func(now time.Time)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r.Answered, r.answered = f.clock()
	note(r.answered)
}

// clock tells the time twice: by the flow's clock, if there is one, and by the real one.
func (f *Fake) clock() (flow, wall time.Time) {
	wall = time.Now()
	if f.now != nil {
		return f.now(), wall
	}
	return wall, wall
}
