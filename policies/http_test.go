package policies_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/policies"
)

// answered asks a server that answers as h does, at the path /v1/x, with secrets wherever a request can have some.
func answered(t *testing.T, h http.HandlerFunc) *http.Response {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	target, err := url.Parse(server.URL)
	require.NoError(t, err)
	target.User, target.Path, target.RawQuery, target.Fragment = url.UserPassword("secret", "secret"), "/v1/x", "key=secret", "secret"
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target.String(), strings.NewReader("secret"))
	require.NoError(t, err)
	req.Header.Set("Authorization", "secret")
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	require.NoError(t, err)
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// Every status from a real server.
func TestCheckResponse(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		code, err := strconv.Atoi(r.URL.Path[1:])
		if err == nil {
			w.WriteHeader(code)
		}
	}))
	t.Cleanup(server.Close)
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for code := 200; code < 600; code++ {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/"+strconv.Itoa(code)+"?key=secret", nil)
		require.NoError(t, err)
		resp, err := client.Do(req)
		require.NoError(t, err)
		err = policies.CheckResponse(resp)
		resp.Body.Close()
		if code < 300 {
			require.NoError(t, err, code)
			continue
		}
		var as *policies.HTTPError
		require.ErrorAs(t, err, &as)
		require.Equal(t, code, as.StatusCode)
		require.Equal(t, code, as.HTTPStatusCode())
		want, listed := statuses[code]
		if !listed {
			want = []policies.Class{3: policies.Permanent, 4: policies.Invalid, 5: policies.Transient}[code/100]
		}
		f := policies.Classify(err)
		require.Equal(t, want, f.Class, code)
		require.Equal(t, "HTTPError", f.Type)
		require.Equal(t, strings.TrimSpace("GET "+server.URL+"/"+strconv.Itoa(code)+": "+resp.Status), f.Message)
	}
}

func TestHTTPErrorText(t *testing.T) {
	t.Parallel()
	err := policies.CheckResponse(answered(t, func(w http.ResponseWriter, r *http.Request) { //nolint:bodyclose // CheckResponse does
		w.Header().Set("Set-Cookie", "secret")
		w.WriteHeader(http.StatusConflict)
		_, _ = io.WriteString(w, "{\n  \"error\": \"model\x7f is\tbusy\u2028 \xff\"\r\n}")
	}))
	require.NotContains(t, err.Error(), "secret")
	require.Regexp(t, `^POST http://127\.0\.0\.1:\d+/v1/x: 409 Conflict: \{ "error": "model is busy " \}$`, err.Error())

	require.EqualError(t, &policies.HTTPError{StatusCode: 503}, "503 Service Unavailable")
	require.EqualError(t, &policies.HTTPError{Method: "GET", StatusCode: 599, Message: "no"}, "GET: 599: no")
}

// A body is read as far as it is of use, and closed.
func TestHTTPErrorBody(t *testing.T) {
	t.Parallel()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write([]byte("text"))
	require.NoError(t, z.Close())
	for name, test := range map[string]struct {
		body   string
		length int64
		want   string
		read   int
	}{
		"empty":         {"", 0, "", 0},
		"short":         {" no \n", 5, "no", 5},
		"cut":           {strings.Repeat("é", 600) + "z", 1201, strings.Repeat("é", 512), 1201},
		"endless":       {strings.Repeat("x", 1<<20), -1, strings.Repeat("x", 1<<10), 65 << 10},
		"large":         {strings.Repeat("x", 1<<20), 1 << 20, strings.Repeat("x", 1<<10), 1 << 10},
		"not text":      {packed.String(), int64(packed.Len()), "", packed.Len()},
		"only controls": {"\x7f\u200b", 4, "", 4},
	} {
		body := &countingBody{r: strings.NewReader(test.body)}
		err := policies.CheckResponse(&http.Response{StatusCode: http.StatusInternalServerError, Body: body, ContentLength: test.length})
		var as *policies.HTTPError
		require.ErrorAs(t, err, &as, name)
		require.Equal(t, test.want, as.Message, name)
		require.Equal(t, test.read, body.n, name)
		require.True(t, body.closed, name)
	}

	body := &countingBody{r: strings.NewReader("fine")}
	require.NoError(t, policies.CheckResponse(&http.Response{StatusCode: http.StatusNoContent, Body: body}))
	require.Zero(t, body.n)
	require.False(t, body.closed, "the caller reads it")
	require.EqualError(t, policies.CheckResponse(&http.Response{StatusCode: http.StatusInternalServerError}), "500 Internal Server Error", "a response without anything")
}

type countingBody struct {
	r      io.Reader
	n      int
	closed bool
}

func (b *countingBody) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.n += n
	return n, err
}

func (b *countingBody) Close() error { b.closed = true; return nil }

// The connection of a response that was checked can be used again.
func TestCheckResponseKeepsTheConnection(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, strings.Repeat("x", 10<<10), http.StatusServiceUnavailable)
	}))
	t.Cleanup(server.Close)
	for i := range 3 {
		reused := false
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) { reused = c.Reused }})
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
		require.NoError(t, err)
		resp, err := server.Client().Do(req) //nolint:bodyclose // CheckResponse does
		require.NoError(t, err)
		require.Error(t, policies.CheckResponse(resp))
		require.Equal(t, i > 0, reused)
	}
}

func TestCheckResponseRetryAfter(t *testing.T) {
	t.Parallel()
	at := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	for _, test := range []struct {
		status   int
		after    string
		class    policies.Class
		min, max time.Duration
	}{
		{503, "", policies.Transient, 0, 0},
		{503, "30", policies.RateLimited, 30 * time.Second, 30 * time.Second},
		{429, "30", policies.RateLimited, 30 * time.Second, 30 * time.Second},
		{403, "30", policies.RateLimited, 30 * time.Second, 30 * time.Second}, // as GitHub does
		{503, at.Format(http.TimeFormat), policies.RateLimited, 50 * time.Minute, time.Hour},
		{503, "0", policies.Transient, 0, 0},
		{503, "-5", policies.Transient, 0, 0},
		{404, "soon", policies.Invalid, 0, 0},
		{503, at.Add(-2 * time.Hour).Format(http.TimeFormat), policies.Transient, 0, 0},
	} {
		err := policies.CheckResponse(answered(t, func(w http.ResponseWriter, r *http.Request) { //nolint:bodyclose // CheckResponse does
			if test.after != "" {
				w.Header().Set("Retry-After", test.after)
			}
			w.WriteHeader(test.status)
		}))
		f := policies.Classify(err)
		require.Equal(t, test.class, f.Class, "%d, Retry-After %q", test.status, test.after)
		require.GreaterOrEqual(t, f.RetryAfter, test.min, "%q", test.after)
		require.LessOrEqual(t, f.RetryAfter, test.max, "%q", test.after)
	}
}

// A long wait that was asked for parks the task, for no longer than MaximumRetryAfter.
func TestDefersNoLongerThanMaximumRetryAfter(t *testing.T) {
	t.Parallel()
	defers := func(r policies.Retry, asked time.Duration) (policies.Deferral, bool) {
		err := &policies.HTTPError{StatusCode: 503, RetryAfter: asked}
		return policies.NewSpec(&r, nil, nil).Defers(policies.Classify(err), err, nil, 0)
	}
	d, ok := defers(policies.Retry{MaximumAttempts: 3}, 10*time.Minute)
	require.True(t, ok)
	require.Equal(t, policies.Deferral{For: 10 * time.Minute, Reason: "asked for 10m by the error"}, d)
	d, ok = defers(policies.Retry{MaximumAttempts: 3}, 24*time.Hour)
	require.True(t, ok)
	require.Equal(t, policies.Deferral{For: time.Hour, Reason: "asked for 24h by the error, cut to 1h (MaximumRetryAfter)"}, d)
	_, ok = defers(policies.Retry{MaximumAttempts: 3, MaximumRetryAfter: 30 * time.Second}, 24*time.Hour)
	require.False(t, ok, "what is left is short enough to wait for at the server")
	_, ok = defers(policies.Retry{}, 24*time.Hour)
	require.False(t, ok, "there is one attempt only")
	_, ok = policies.NewSpec(&policies.Retry{MaximumAttempts: 3}, nil, nil).Defers(nil, io.EOF, nil, 0)
	require.False(t, ok)
}
