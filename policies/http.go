package policies

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"
)

// HTTPError is an answer of an HTTP server that is no success. [CheckResponse] makes one. It holds no headers, and of the URL
// neither query nor user, because those tend to hold secrets and errors are stored and shown.
type HTTPError struct {
	// Method and URL say what was asked for.
	Method, URL string
	// StatusCode is the status, which gives the class.
	StatusCode int
	// Status is the status line's text, such as "503 Service Unavailable".
	Status string
	// RetryAfter is the wait that the server asked for, zero if it asked for none.
	RetryAfter time.Duration
	// Message is the beginning of the body, at most 1 KiB, if it is text.
	Message string
}

// Error names the request, the status and what the server said.
func (e *HTTPError) Error() string {
	var b strings.Builder
	if e.Method != "" || e.URL != "" {
		fmt.Fprintf(&b, "%s: ", strings.TrimSpace(e.Method+" "+e.URL))
	}
	if e.Status != "" {
		b.WriteString(e.Status)
	} else {
		b.WriteString(strings.TrimSpace(fmt.Sprintf("%d %s", e.StatusCode, http.StatusText(e.StatusCode))))
	}
	if e.Message != "" {
		b.WriteString(": " + e.Message)
	}
	return b.String()
}

// HTTPStatusCode is the status.
func (e *HTTPError) HTTPStatusCode() int { return e.StatusCode }

const (
	maxBody  = 1 << 10  // of a body that becomes a message
	maxDrain = 64 << 10 // of a body that is read to its end, so that the connection can be used again
	maxURL   = 512
)

// CheckResponse returns nil for a response with a status from 200 to 299 and leaves its body alone. For any other it reads
// at most 65 KiB of the body, closes it and returns an *HTTPError, which asks for the wait that a valid Retry-After of the server says.
//
//	resp, err := http.DefaultClient.Do(req)
//	if err != nil {
//		return err
//	}
//	if err := policies.CheckResponse(resp); err != nil {
//		return err
//	}
//	defer resp.Body.Close()
//
// A Retry-After makes any status RateLimited, so tried again: some servers send one with 403, and it says that coming back helps.
//
// A 5xx is tried again although the server may have done its work before it failed. Send an idempotency key (flow.IdempotencyKey),
// or make sure that doing it twice does no harm; else mark the error with Permanent.
func CheckResponse(resp *http.Response) error {
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return nil
	}
	e := &HTTPError{StatusCode: resp.StatusCode, Status: printable(cut(resp.Status, 100))}
	if r := resp.Request; r != nil {
		e.Method = r.Method
		if r.URL != nil {
			e.URL = cut(place(r.URL), maxURL)
		}
	}
	e.RetryAfter, _ = ParseRetryAfter(resp.Header.Get("Retry-After"), time.Now())
	if resp.Body != nil {
		defer resp.Body.Close()
		body, _ := io.ReadAll(io.LimitReader(resp.Body, maxBody)) // what there is
		e.Message = bodyText(body)
		if resp.ContentLength <= maxDrain {
			_, _ = io.CopyN(io.Discard, resp.Body, maxDrain)
		}
	}
	return e
}

// place is a URL without user, query and fragment.
func place(u *url.URL) string {
	bare := *u
	bare.User, bare.RawQuery, bare.ForceQuery, bare.Fragment, bare.RawFragment = nil, "", false, "", ""
	return bare.String()
}

// bodyText makes a body fit for an error's text. One that is not text, compressed for example, is left out.
func bodyText(b []byte) string {
	for _, c := range b {
		if c < ' ' && c != '\t' && c != '\n' && c != '\r' && c != '\f' {
			return ""
		}
	}
	return printable(string(b))
}

// printable replaces what cannot be printed by spaces, and runs of white space by one.
func printable(s string) string {
	return strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, ""), func(r rune) bool {
		return unicode.IsSpace(r) || !unicode.IsPrint(r)
	}), " ")
}
