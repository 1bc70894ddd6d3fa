package predict

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/stepwell-flows/stepwell/policies"
)

// A chunk is a request with several items. Each has its own key and its own answer:
//
//	{"items":[{"key":"…","request_id":"…","request":{…}}, …]}
//	{"items":[{"key":"…","status":200,"response":{…}}, {"key":"…","status":429,"retry_after":"2","problem":{…}}, …]}
type chunkRequest struct {
	Items []chunkItem `json:"items"`
}

type chunkItem struct {
	Key     string          `json:"key"`
	ID      string          `json:"request_id,omitempty"` // the correlation id
	Request json.RawMessage `json:"request"`
}

type chunkResponse struct {
	Items []chunkResult `json:"items"`
}

type chunkResult struct {
	Key        string          `json:"key"`
	Status     int             `json:"status"`
	Replayed   bool            `json:"replayed,omitempty"`
	RetryAfter string          `json:"retry_after,omitempty"`
	Response   json.RawMessage `json:"response,omitempty"`
	Problem    json.RawMessage `json:"problem,omitempty"`
}

func (r chunkResult) err(at string) error {
	if r.Status/100 == 2 {
		return nil
	}
	h := http.Header{}
	if r.RetryAfter != "" {
		h.Set("Retry-After", r.RetryAfter)
	}
	if r.Replayed {
		h.Set(ReplayedHeader, "true")
	}
	if len(r.Problem) > 0 {
		h.Set("Content-Type", problemType)
	}
	return statusError(at, r.Status, h, func() []byte { return r.Problem })
}

// sendChunk sends entries in one request, and tells how each went. For the guard each is a call of its own.
func sendChunk(ctx context.Context, c *Client, group []*entry, n int, newResp func() any) []tried {
	sent := make([]tried, 0, len(group))
	leave, err := c.room(ctx)
	if err != nil {
		for _, e := range group {
			sent = append(sent, e.unsent(err))
		}
		return sent
	}
	defer leave()
	began := time.Now()
	var out chunkRequest
	var under []*entry // way
	var permits []permit
	for _, e := range group {
		if err := e.allow(ctx, c); err != nil {
			sent = append(sent, e.unsent(err))
			continue
		}
		p, err := c.begin(ctx, e.sent > 0)
		if err != nil {
			t := e.unsent(err)
			t.unsent, t.refused, t.began = false, true, began
			sent = append(sent, t)
			continue
		}
		out.Items = append(out.Items, chunkItem{e.key, e.request, e.p.bytes})
		under, permits = append(under, e), append(permits, p)
	}
	if len(under) == 0 {
		return sent
	}
	results := make([]tried, len(under))
	whole := tried{number: n, items: len(under), heading: heading{request: newRequestID()}}
	ended := permit{func(f *policies.Failure, resp any) {
		// The failures of the items, where the response has any.
		chunk, _ := resp.(*chunkResponse)
		answers := map[string]chunkResult{}
		for _, r := range chunk.Items {
			answers[r.Key] = r
		}
		for i, e := range under {
			t := tried{entry: e, number: e.attempts + 1, heading: heading{e.key, e.request}, failure: f, began: began}
			if r, ok := answers[e.key]; ok {
				t.status, t.replayed, t.resp = strconv.Itoa(r.Status), r.Replayed, newResp()
				t.body = r.Response
				if t.err = r.err(c.transport.target()); t.err == nil {
					t.err = safely(func() error { return decodeJSON(r.Response, t.resp) })
				}
				t.failure = policies.Classify(t.err)
			} else if f == nil {
				t.err = policies.WithClass(errors.New("the response says nothing about the item"), policies.Transient)
				t.failure = policies.Classify(t.err)
			}
			told := t.failure
			if t.waits = executing(t.err); t.waits {
				told = &policies.Failure{Class: policies.Cancelled} // it says nothing about the service
			}
			permits[i].end(told, nil)
			results[i] = t
		}
	}}
	started := time.Now()
	p, err := c.transport.encode(out)
	if err != nil {
		whole.err, whole.failure = err, policies.Classify(err)
		ended.end(whole.failure, &chunkResponse{})
	} else {
		run, cancel := context.WithTimeoutCause(ctx, c.o.Timeout, errTimeout)
		s := c.one(run, whole.heading, n, false, p, &chunkResponse{}, ended)
		cancel()
		whole.answer, whole.err, whole.failure = s.answer, s.err, s.failure
	}
	whole.latency = time.Since(started)
	whole.log(ctx, c, following{failure: whole.failure, reason: "its items are sent again as their policy says"})
	for i := range results {
		r := &results[i]
		r.latency = whole.latency
		if r.err == nil && whole.err != nil {
			r.status, r.err, r.failure, r.shared = whole.status, whole.err, whole.failure, len(under)
		}
	}
	return append(sent, results...)
}

// apart decides about an entry whose request failed as a whole, where another entry may be the reason: one that is too large, too
// slow, or crashes the server. It is sent again with fewer others, and alone in its last attempt. That is also so for failures that
// are not tried again otherwise, as they are not its own.
func (b *batch) apart(t *tried, next following) following {
	e, f := t.entry, t.failure
	left := b.client.spec.MaximumAttempts - e.attempts
	if t.shared < 2 || left < 1 {
		return next
	}
	switch final := f.Class == policies.Invalid || f.Class == policies.Permanent; {
	case final:
		next = following{again: true, failure: f, reason: "another item of its request may be the reason"}
	case !next.again:
		return next
	case f.Class != policies.TimedOut && t.status != "" && t.status != strconv.Itoa(http.StatusInternalServerError):
		return next // such as 503: the service says so of itself
	}
	e.most = int(math.Ceil(math.Pow(float64(t.shared), float64(left-1)/float64(left))))
	return next
}

// BatchHandlerOptions are the settings of [BatchHandler]. The zero value is ready.
type BatchHandlerOptions struct {
	// MaxItems is the most items of a request. Defaults to 1,000.
	MaxItems int
	// MaxRequest is the largest body of a request in bytes. Defaults to 32 MiB.
	MaxRequest int64
	// Parallel is how many items of a request are worked on at a time. Defaults to 8.
	Parallel int
}

// BatchHandler takes requests with several items, as [Batch] sends them, apart, and gives each item to the handler for one, usually
// behind [Middleware]: with its key, and the path of the request. It answers with the responses of all.
func BatchHandler(one http.Handler, o BatchHandlerOptions) http.Handler {
	if o.MaxItems <= 0 {
		o.MaxItems = 1000
	}
	if o.MaxRequest <= 0 {
		o.MaxRequest = 32 << 20
	}
	if o.Parallel <= 0 {
		o.Parallel = 8
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			problem(w, http.StatusMethodNotAllowed, "method", "items are sent by POST")
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, o.MaxRequest))
		if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
			problem(w, http.StatusRequestEntityTooLarge, "size", fmt.Sprintf("the request's body is larger than %d bytes", large.Limit))
			return
		}
		var in chunkRequest
		if err != nil || json.Unmarshal(body, &in) != nil || len(in.Items) == 0 || len(in.Items) > o.MaxItems {
			problem(w, http.StatusBadRequest, "body", fmt.Sprintf("the body is not {\"items\":[{\"key\":…,\"request\":…}]} with 1 to %d items", o.MaxItems))
			return
		}
		out := chunkResponse{Items: make([]chunkResult, len(in.Items))}
		var wg sync.WaitGroup
		slots := make(chan struct{}, o.Parallel)
		for i, item := range in.Items {
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				out.Items[i] = answerItem(one, r, item)
			})
		}
		wg.Wait()
		b, err := json.Marshal(out)
		if err != nil {
			problem(w, http.StatusInternalServerError, "body", "the responses cannot be encoded")
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(b) // the client may be gone
	})
}

func answerItem(one http.Handler, whole *http.Request, item chunkItem) (out chunkResult) {
	defer func() {
		if recover() != nil { // as net/http does for a request
			out = chunkResult{Key: item.Key, Status: http.StatusInternalServerError}
		}
	}()
	r := whole.Clone(whole.Context())
	r.Header.Set(KeyHeader, FormatKey(item.Key))
	if item.ID != "" {
		r.Header.Set(RequestHeader, item.ID)
	}
	r.Header.Del("Content-Length")
	r.Header.Del("Accept-Encoding") // the response is to be a part of another
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(item.Request)), int64(len(item.Request))
	rec := &recorder{header: http.Header{}, limit: maxAnswer}
	one.ServeHTTP(rec, r)
	rec.WriteHeader(http.StatusOK)
	live := rec.live()
	out = chunkResult{
		Key: item.Key, Status: live.Status, Replayed: live.Header.Get(ReplayedHeader) == "true", RetryAfter: live.Header.Get("Retry-After"),
	}
	switch {
	case live.Status/100 == 2 && json.Valid(live.Body):
		out.Response = live.Body
	case live.Status/100 == 2:
		out.Status = http.StatusBadGateway
	case live.Header.Get("Content-Type") == problemType && json.Valid(live.Body):
		out.Problem = live.Body
	}
	return out
}
