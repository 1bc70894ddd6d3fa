package flowtest

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"time"

	"github.com/stepwell-flows/stepwell/policies"
)

// Reply is how a [Fake] answers a request. The zero value is what its handler answers, or status 200 without a body.
type Reply struct {
	// Status is the answer's status. Zero means the handler's if there is one and Body is empty, else 200.
	Status int
	// Body is the answer's content, Header are its headers.
	Body   string
	Header http.Header
	// RetryAfter asks the client to wait for so long: the header Retry-After, in whole seconds, rounded up. Zero means none.
	RetryAfter time.Duration
	// Date makes Retry-After a date, in whole seconds, rounded up.
	Date bool
	// Delay is how long the answer takes, in real time, after the handler is done. Zero means no time.
	Delay time.Duration
	// Chunks sends the body in so many parts, with a Pause before each but the first, in real time. Zero means in one.
	Chunks int
	Pause  time.Duration
	// Twice delivers the request a second time after it was handled, as networks do: the handler is called with the same content again, and
	// the client gets the first answer.
	Twice bool
	// Fault spoils the answer. The zero value does not.
	Fault Fault
	// Times is how many requests in a row this is the reply to. Zero means one, a negative number all that follow.
	Times int
}

// Fault is what goes wrong with an answer.
type Fault uint8

// What goes wrong with answers.
const (
	// NoFault is an answer that arrives.
	NoFault Fault = iota
	// FaultReset resets the connection in the middle of the answer. The handler has done its work.
	FaultReset
	// FaultClose closes the connection without an answer. The handler is not called.
	FaultClose
	// FaultHang neither answers nor closes until the client goes away. The handler is not called.
	FaultHang
)

// maxRequest is the largest content of a request.
const maxRequest = 64 << 20

// answer is what is sent.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (f *Fake) serve(w http.ResponseWriter, in *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, in.Body, maxRequest))
	if err != nil {
		http.Error(w, "flowtest: read the request: "+err.Error(), http.StatusBadRequest)
		return
	}
	r, reply := f.record(in, body, false)
	switch reply.Fault {
	case FaultHang:
		f.wait(r, in, 0)
		panic(http.ErrAbortHandler)
	case FaultClose:
		f.answered(r, func(time.Time) { r.Answer = "closed without an answer" })
		panic(http.ErrAbortHandler)
	case NoFault, FaultReset:
	}
	a := f.answer(reply, in, body)
	if reply.Twice {
		again, _ := f.record(in, body, true)
		b := f.answer(reply, in, body)
		f.answered(again, func(now time.Time) { again.told(b, now) })
	}
	if reply.Delay > 0 && !f.wait(r, in, reply.Delay) {
		panic(http.ErrAbortHandler)
	}
	if reply.Fault == FaultReset {
		f.reset(r, w, a)
		return
	}
	f.send(r, reply, a, w, in)
}

// answer calls the handler, or says what the reply says.
func (f *Fake) answer(reply Reply, in *http.Request, body []byte) answer {
	f.mu.Lock()
	h := f.handler
	f.mu.Unlock()
	a := answer{reply.Status, http.Header{}, []byte(reply.Body)}
	if a.status == 0 {
		a.status = http.StatusOK
	}
	if reply.Status == 0 && reply.Body == "" && h != nil {
		w, again := httptest.NewRecorder(), in.Clone(in.Context())
		again.Body = io.NopCloser(bytes.NewReader(body))
		h.ServeHTTP(w, again)
		a = answer{w.Code, w.Header().Clone(), w.Body.Bytes()}
	}
	maps.Copy(a.header, reply.Header.Clone())
	if d := reply.RetryAfter; d > 0 {
		value := strconv.Itoa(int((d + time.Second - 1) / time.Second))
		if reply.Date {
			value = time.Now().Add(d + time.Second - 1).UTC().Truncate(time.Second).Format(http.TimeFormat)
		}
		a.header.Set("Retry-After", value)
	}
	return a
}

// told notes an answer.
func (r *Request) told(a answer, now time.Time) {
	r.Status, r.Answer = a.status, strconv.Itoa(a.status)
	if value := a.header.Get("Retry-After"); value != "" {
		r.RetryAfter, _ = policies.ParseRetryAfter(value, now)
		r.date = strings.Contains(value, ":")
		r.Answer += fmt.Sprintf(", Retry-After: %s", value)
	}
}

// wait waits for a time, 0 for ever, and says whether the client is still there.
func (f *Fake) wait(r *Request, in *http.Request, d time.Duration) bool {
	var over <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		over = timer.C
	}
	why := "the test ended"
	select {
	case <-over:
		return true
	case <-in.Context().Done():
		why = "the client went away"
	case <-f.closing:
	}
	f.answered(r, func(now time.Time) {
		r.Answer = fmt.Sprintf("no answer: %s after %s", why, now.Sub(r.received).Round(time.Millisecond))
	})
	return false
}

// send sends an answer. It is noted before the last part, so that no later request can come before that.
func (f *Fake) send(r *Request, reply Reply, a answer, w http.ResponseWriter, in *http.Request) {
	maps.Copy(w.Header(), a.header)
	chunks := min(max(reply.Chunks, 1), max(len(a.body), 1))
	for i := range chunks {
		if i > 0 && reply.Pause > 0 && !f.wait(r, in, reply.Pause) {
			panic(http.ErrAbortHandler)
		}
		if i == chunks-1 {
			f.answered(r, func(now time.Time) { r.told(a, now) })
		}
		if i == 0 {
			w.WriteHeader(a.status)
		}
		_, _ = w.Write(a.body[i*len(a.body)/chunks : (i+1)*len(a.body)/chunks]) // a client that is gone is noted when it comes again
		if chunks > 1 {
			_ = http.NewResponseController(w).Flush()
		}
	}
}

// reset sends half of an answer and resets the connection.
func (f *Fake) reset(r *Request, w http.ResponseWriter, a answer) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer conn.Close() //nolint:errcheck // it is broken on purpose
	f.answered(r, func(time.Time) { r.Answer = fmt.Sprintf("reset in the middle of a %d", a.status) })
	var out bytes.Buffer
	fmt.Fprintf(&out, "HTTP/1.1 %d %s\r\nContent-Length: %d\r\n", a.status, http.StatusText(a.status), len(a.body)+1)
	_ = a.header.Write(&out) // a buffer takes all
	out.WriteString("\r\n")
	out.Write(a.body[:len(a.body)/2])
	_, _ = conn.Write(out.Bytes())
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
}
