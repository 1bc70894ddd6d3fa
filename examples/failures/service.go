package failures

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

// nobody is an address at which nothing listens.
const nobody = "http://127.0.0.1:1"

// client makes a connection for each call: a broken one is then always seen by the step, and not repeated by the client.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

func get(ctx context.Context, path string) (string, error) {
	return call(ctx, http.MethodGet, path, http.Header{})
}

func post(ctx context.Context, path string, h http.Header) (string, error) {
	return call(ctx, http.MethodPost, path, h)
}

// call is a call to a service as any step would make it. The services behave differently with each call of a run, so they are told
// which run it is.
func call(ctx context.Context, method, path string, h http.Header) (string, error) {
	run := flow.Current(ctx).Run
	address, err := services.address(run, path)
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, method, address+path, nil)
	if err != nil {
		return "", err
	}
	req.Header = h
	req.Header.Set("Run", run)
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	if err := policies.CheckResponse(resp); err != nil {
		return "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return string(answer), err
}

// services are all the services that the rows call, at one address.
var services provider

type provider struct {
	start sync.Once
	url   string
	err   error

	mu    sync.Mutex
	count map[string]int // calls, by run and path
	keys  sync.Map       // idempotency keys that were charged
}

// address is where the service of a path is reached. The weather service is up at the third call of a run.
func (p *provider) address(run, path string) (string, error) {
	if path == "/weather" && p.next(run, "dial") <= 2 {
		return nobody, nil
	}
	p.start.Do(func() {
		var l net.Listener
		if l, p.err = new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0"); p.err != nil {
			return
		}
		p.url = "http://" + l.Addr().String()
		s := &http.Server{Handler: p, ReadHeaderTimeout: time.Minute}
		go func() { _ = s.Serve(l) }() // as long as the process
	})
	return p.url, p.err
}

// next counts a call of a run.
func (p *provider) next(run, path string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count == nil {
		p.count = map[string]int{}
	}
	p.count[run+path]++
	return p.count[run+path]
}

// calls is how many calls of a run reached a path.
func (p *provider) calls(run, path string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count[run+path]
}

// ServeHTTP is what the services do.
func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	run := r.Header.Get("Run")
	n := p.next(run, r.URL.Path)
	refuse := func(status int, why string) { http.Error(w, why, status) }
	switch r.URL.Path {
	case "/overloaded":
		switch n {
		case 1:
			refuse(http.StatusServiceUnavailable, "too much to do")
			return
		case 2:
			w.Header().Set("Retry-After", "2")
			refuse(http.StatusTooManyRequests, "come back later")
			return
		}
	case "/maintenance":
		if n == 1 {
			w.Header().Set("Retry-After", r.URL.Query().Get("seconds"))
			refuse(http.StatusServiceUnavailable, "maintenance")
			return
		}
	case "/hangs":
		if n == 1 {
			<-r.Context().Done()
			return
		}
	case "/city":
		refuse(http.StatusUnprocessableEntity, "there is no city "+r.URL.Query().Get("name"))
		return
	case "/private":
		refuse(http.StatusUnauthorized, "the token has expired")
		return
	case "/item":
		if i, _ := strconv.Atoi(r.URL.Query().Get("number")); i%8 == 7 {
			refuse(http.StatusUnprocessableEntity, fmt.Sprintf("item %d has no price", i))
			return
		}
	case "/down":
		refuse(http.StatusServiceUnavailable, "out of order")
		return
	case "/restarting":
		if n <= 5 {
			refuse(http.StatusServiceUnavailable, "restarting")
			return
		}
	case "/charge":
		key := r.Header.Get("Idempotency-Key")
		if _, done := p.keys.LoadOrStore(key, true); !done || key == "" {
			p.next(run, "charged")
		}
		if n == 1 {
			panic(http.ErrAbortHandler) // the connection breaks before the answer
		}
	case "/charges":
		fmt.Fprint(w, p.calls(run, "charged"))
		return
	}
	fmt.Fprint(w, "fine")
}
