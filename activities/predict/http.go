package predict

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"time"

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
	return t.url.Redacted()
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

func (t *httpTransport) keep(resp any) ([]byte, error)    { return json.Marshal(resp) }
func (t *httpTransport) restore(b []byte, resp any) error { return json.Unmarshal(b, resp) }

func (t *httpTransport) send(ctx context.Context, p payload, h heading, resp any) (answer, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url.String(), bytes.NewReader(p.bytes))
	if err != nil {
		return answer{}, err
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
		if e, ok := errors.AsType[*url.Error](err); ok { // the URL is known, and may be long
			err = e.Err
		}
		return answer{}, err
	}
	defer response.Body.Close()
	a := answer{status: strconv.Itoa(response.StatusCode), replayed: response.Header.Get(ReplayedHeader) == "true"}
	if response.StatusCode/100 != 2 {
		err := statusError(response.StatusCode, response.Header, func() []byte {
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
	return a, decodeJSON(body, resp)
}

// decodeJSON reads a response. The error does not quote it.
func decodeJSON(b []byte, resp any) error {
	if err := json.Unmarshal(b, resp); err != nil {
		return policies.WithClass(fmt.Errorf("the response is not a %T (JSON of %d bytes; is it the right URL?)", resp, len(b)), policies.Permanent)
	}
	return nil
}

// statusError is the error of a response that is no success.
func statusError(status int, h http.Header, body func() []byte) error {
	detail := ""
	if kind, _, err := mime.ParseMediaType(h.Get("Content-Type")); err == nil && kind == problemType {
		var p struct{ Title, Detail string }
		if json.Unmarshal(body(), &p) == nil {
			detail = p.Detail
			if detail == "" {
				detail = p.Title
			}
		}
	}
	var err error = &HTTPError{Status: status, Detail: clip(detail)}
	switch after := parseRetryAfter(h.Get("Retry-After"), time.Now()); {
	case h.Get(ReplayedHeader) == "true" && status >= 500: // it is the same for ever
		err = policies.WithClass(err, policies.Permanent)
	case after > 0 && status == http.StatusConflict: // the operation is being executed, see Middleware
		err = policies.WithRetryAfter(policies.WithClass(err, policies.RateLimited), after)
	case after > 0:
		err = policies.WithRetryAfter(err, after)
	}
	return err
}

// HTTPError is a response that is no success.
type HTTPError struct {
	// Status is the status code.
	Status int
	// Detail is what an application/problem+json body says, at most 200 bytes.
	Detail string
}

// Error names the status.
func (e *HTTPError) Error() string {
	s := fmt.Sprintf("status %d %s", e.Status, http.StatusText(e.Status))
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

// StatusCode lets policies.Classify know the status.
func (e *HTTPError) StatusCode() int { return e.Status }

func clip(s string) string {
	const limit = 200
	if len(s) > limit {
		return s[:limit] + "…"
	}
	return s
}
