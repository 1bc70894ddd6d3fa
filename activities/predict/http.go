package predict

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.opentelemetry.io/otel/propagation"

	"github.com/stepwell-flows/stepwell/policies"
)

// HTTPOptions are the settings of [HTTP]. The zero value is ready.
type HTTPOptions struct {
	// Header is added to each request, such as Authorization.
	Header http.Header
	// Client sends the requests; its Timeout should be zero. Defaults to one that keeps 100 connections to the server.
	Client *http.Client
}

// maxAnswer is the largest body of a response in bytes.
const maxAnswer = 64 << 20

type httpTransport struct {
	url    *url.URL
	bad    error
	header http.Header
	client *http.Client
}

// HTTP calls a server that takes JSON by POST at a URL and answers with JSON.
func HTTP(location string, o HTTPOptions) Transport {
	t := &httpTransport{header: o.Header.Clone(), client: o.Client}
	t.url, t.bad = url.Parse(location)
	if t.bad == nil && (t.url.Host == "" || t.url.Scheme != "http" && t.url.Scheme != "https") {
		t.bad = errors.New("not the URL of an HTTP server (write http://host:port/path)")
	}
	if t.client == nil {
		own := &http.Transport{}
		if d, ok := http.DefaultTransport.(*http.Transport); ok {
			own = d.Clone()
		}
		own.MaxIdleConns, own.MaxIdleConnsPerHost = 100, 100
		t.client = &http.Client{Transport: own}
	}
	return t
}

func (t *httpTransport) target() string {
	if t.bad != nil {
		return ""
	}
	return t.place()
}

// place is the URL without what may be secret.
func (t *httpTransport) place() string {
	bare := *t.url
	bare.User, bare.RawQuery, bare.Fragment = nil, "", ""
	return bare.String()
}

// identity is the URL without what says who asks.
func (t *httpTransport) identity() string {
	bare := *t.url
	bare.User, bare.Fragment = nil, ""
	return bare.String()
}

func (t *httpTransport) check() error {
	if t.bad == nil {
		return nil
	}
	if e, ok := errors.AsType[*url.Error](t.bad); ok { // it quotes the URL, which may hold a password
		return fmt.Errorf("URL: %w", e.Err)
	}
	return fmt.Errorf("URL: %w", t.bad)
}

func (t *httpTransport) encode(req any) (payload, error) {
	b, err := json.Marshal(req)
	return payload{bytes: b}, err
}

// keep takes what was received: what a response type reads, it may not write.
func (t *httpTransport) keep(a answer, _ any) ([]byte, error) { return a.body, nil }
func (t *httpTransport) restore(b []byte, resp any) error     { return json.Unmarshal(b, resp) }

func (t *httpTransport) send(ctx context.Context, p payload, h heading, resp any) (answer, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url.String(), bytes.NewReader(p.bytes))
	if err != nil {
		return answer{}, err
	}
	if h.key != "" {
		// Without it net/http cannot send the body again. For a request with a key it would, on one idle connection after the other:
		// attempts that no policy has decided on and nobody counts.
		r.GetBody = nil
	}
	for name, values := range t.header {
		r.Header[http.CanonicalHeaderKey(name)] = values
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, "+problemType)
	r.Header.Set(RequestHeader, h.request)
	if h.key != "" {
		r.Header.Set(KeyHeader, FormatKey(h.key))
	}
	propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(r.Header))

	response, err := t.client.Do(r)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			e.URL = t.place()
		}
		return answer{}, err
	}
	defer response.Body.Close()
	a := answer{status: strconv.Itoa(response.StatusCode), replayed: response.Header.Get(ReplayedHeader) == "true"}
	if response.StatusCode/100 != 2 {
		err := statusError(t.place(), response.StatusCode, response.Header, func() []byte {
			b, _ := io.ReadAll(io.LimitReader(response.Body, 8<<10)) // what there is
			return b
		})
		_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10)) // so that the connection can be used again
		return a, err
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return a, fmt.Errorf("read the response: %w", err)
	case len(body) > maxAnswer:
		return a, policies.WithClass(fmt.Errorf("the response is larger than %d bytes", maxAnswer), policies.Permanent)
	}
	a.body = body
	return a, decodeJSON(body, resp)
}

// decodeJSON reads a response. The error does not quote it.
func decodeJSON(b []byte, resp any) error {
	if err := json.Unmarshal(b, resp); err != nil {
		return policies.WithClass(fmt.Errorf("the response is not a %T (JSON of %d bytes; is it the right URL?)", resp, len(b)), policies.Permanent)
	}
	return nil
}

// statusError is the error of a response that is no success. Of the body it takes what a problem says: others may repeat what was
// asked.
func statusError(at string, status int, h http.Header, body func() []byte) error {
	e := &policies.HTTPError{Method: http.MethodPost, URL: at, StatusCode: status}
	e.RetryAfter, _ = policies.ParseRetryAfter(h.Get("Retry-After"), time.Now())
	inFlight := false
	if kind, _, err := mime.ParseMediaType(h.Get("Content-Type")); err == nil && kind == problemType {
		var p struct {
			Type   string `json:"type"`
			Title  string `json:"title"`
			Detail string `json:"detail"`
		}
		if json.Unmarshal(body(), &p) == nil {
			e.Message = clip(cmp.Or(p.Detail, p.Title))
			inFlight = status == http.StatusConflict && p.Type == problemURN+problemInFlight
		}
	}
	if inFlight {
		return &executingError{e}
	}
	if h.Get(ReplayedHeader) == "true" && status >= 500 { // it is the same for ever
		return policies.WithClass(e, policies.Permanent)
	}
	return e
}

// clip cuts a text that others wrote.
func clip(s string) string {
	const limit = 200
	s = strings.ToValidUTF8(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s), "")
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}
