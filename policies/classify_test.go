package policies_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/policies"
)

type timeoutError struct{ is bool }

func (timeoutError) Error() string   { return "slow" }
func (e timeoutError) Timeout() bool { return e.is }

type emptyError struct{}

func (*emptyError) Error() string { return "" }

type valueError struct{ code int }

func (e valueError) Error() string { return fmt.Sprint("code ", e.code) }

type listError[T any] struct{}

func (listError[T]) Error() string { return "list" }

func TestClassify(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	wrap := func(err error) error { return fmt.Errorf("load: %w", err) }
	mark := policies.WithClass
	after := policies.WithRetryAfter
	type want = policies.Failure

	for _, test := range []struct {
		name string
		err  error
		want policies.Failure
	}{
		// Text and type.
		{"errors.New has no type", boom, want{Class: policies.Unknown, Message: "boom"}},
		{"nor has what wraps it", wrap(boom), want{Class: policies.Unknown, Message: "load: boom"}},
		{"pointer type", &policyError{"no"}, want{Class: policies.Unknown, Type: "policyError", Message: "no"}},
		{"value type", valueError{7}, want{Class: policies.Unknown, Type: "valueError", Message: "code 7"}},
		{"pointer to a value type", &valueError{7}, want{Class: policies.Unknown, Type: "valueError", Message: "code 7"}},
		{"generic type", listError[int]{}, want{Class: policies.Unknown, Type: "listError[int]", Message: "list"}},
		{"wrappers do not count", mark(after(wrap(errors.Join(wrap(valueError{1}), boom)), time.Second), policies.Bug),
			want{Class: policies.Bug, Type: "valueError", Message: "load: load: code 1\nboom", RetryAfter: time.Second}},
		{"the outermost type counts", &url.Error{Op: "Get", URL: "u", Err: &policyError{"no"}}, want{Class: policies.Unknown, Type: "Error", Message: `Get "u": no`}},
		{"no text", &emptyError{}, want{Class: policies.Unknown, Type: "emptyError", Message: "an error of type *policies_test.emptyError without a text"}},
		{"bytes that are no text", errors.New("a\xff\xfeb"), want{Class: policies.Unknown, Message: "a\uFFFDb"}},

		// Marks.
		{"marked", mark(boom, policies.Invalid), want{Class: policies.Invalid, Message: "boom"}},
		{"marked, wrapped", wrap(wrap(mark(boom, policies.Denied))), want{Class: policies.Denied, Message: "load: load: boom"}},
		{"the outer mark counts", mark(wrap(mark(boom, policies.Permanent)), policies.Transient), want{Class: policies.Transient, Message: "load: boom"}},
		{"a mark beats what the error is", mark(context.DeadlineExceeded, policies.Permanent), want{Class: policies.Permanent, Type: "deadlineExceededError", Message: "context deadline exceeded"}},
		{"not a class", mark(mark(boom, policies.Permanent), "Weird"), want{Class: policies.Unknown, Message: "boom"}},
		{"no class", mark(boom, ""), want{Class: policies.Unknown, Message: "boom"}},
		{"joined, the second is marked", errors.Join(boom, mark(boom, policies.Transient)), want{Class: policies.Transient, Message: "boom\nboom"}},
		{"joined, final wins", errors.Join(mark(boom, policies.Transient), wrap(mark(boom, policies.Permanent)), mark(boom, policies.Bug)), want{Class: policies.Permanent, Message: "boom\nload: boom\nboom"}},
		{"joined, else the first", errors.Join(mark(boom, policies.Bug), mark(boom, policies.Transient)), want{Class: policies.Bug, Message: "boom\nboom"}},
		{"several %w", fmt.Errorf("%w and %w", boom, mark(boom, policies.Invalid)), want{Class: policies.Invalid, Message: "boom and boom"}},
		{"a mark around a join", mark(errors.Join(mark(boom, policies.Permanent)), policies.Transient), want{Class: policies.Transient, Message: "boom"}},

		// Waits.
		{"asked to wait", after(boom, time.Minute), want{Class: policies.RateLimited, Message: "boom", RetryAfter: time.Minute}},
		{"asked to wait, wrapped", wrap(after(boom, time.Minute)), want{Class: policies.RateLimited, Message: "load: boom", RetryAfter: time.Minute}},
		{"asked to wait, with a class", after(mark(boom, policies.Transient), time.Minute), want{Class: policies.Transient, Message: "boom", RetryAfter: time.Minute}},
		{"the longest wait", errors.Join(after(boom, time.Minute), after(after(boom, time.Hour), time.Second)), want{Class: policies.RateLimited, Message: "boom\nboom", RetryAfter: time.Hour}},
		{"asked for nothing", after(boom, 0), want{Class: policies.Unknown, Message: "boom"}},
		{"asked for less", after(boom, -time.Hour), want{Class: policies.Unknown, Message: "boom"}},

		// Failures.
		{"failure", &policies.Failure{Class: policies.Lost, Message: "gone", Type: "X", Step: "a", Attempt: 3},
			want{Class: policies.Lost, Message: "gone", Type: "X", Step: "a", Attempt: 3}},
		{"failure, wrapped", wrap(&policies.Failure{Class: policies.Bug, Message: "gone", Stack: "s"}), want{Class: policies.Bug, Message: "load: gone", Stack: "s"}},
		{"failure, marked", mark(&policies.Failure{Class: policies.Bug, Message: "gone"}, policies.Permanent), want{Class: policies.Permanent, Message: "gone"}},
		{"failure of no class", &policies.Failure{Message: "gone"}, want{Class: policies.Unknown, Message: "gone"}},
		{"failure that asks to wait", &policies.Failure{Message: "gone", RetryAfter: time.Second}, want{Class: policies.RateLimited, Message: "gone", RetryAfter: time.Second}},

		// Contexts.
		{"deadline", wrap(context.DeadlineExceeded), want{Class: policies.TimedOut, Type: "deadlineExceededError", Message: "load: context deadline exceeded"}},
		{"cancelled by somebody", wrap(context.Canceled), want{Class: policies.Unknown, Message: "load: context canceled"}},
		{"deadline beats transient", errors.Join(syscall.ECONNRESET, context.DeadlineExceeded), want{Class: policies.TimedOut, Type: "Errno", Message: "connection reset by peer\ncontext deadline exceeded"}},

		// The network.
		{"refused", wrap(syscall.ECONNREFUSED), want{Class: policies.Transient, Type: "Errno", Message: "load: connection refused"}},
		{"reset", &os.SyscallError{Syscall: "read", Err: syscall.ECONNRESET}, want{Class: policies.Transient, Type: "SyscallError", Message: "read: connection reset by peer"}},
		{"aborted", syscall.ECONNABORTED, want{Class: policies.Transient, Type: "Errno", Message: "software caused connection abort"}},
		{"broken pipe", syscall.EPIPE, want{Class: policies.Transient, Type: "Errno", Message: "broken pipe"}},
		{"cut short", wrap(io.ErrUnexpectedEOF), want{Class: policies.Transient, Message: "load: unexpected EOF"}},
		{"end of file", io.EOF, want{Class: policies.Unknown, Message: "EOF"}},
		{"dial", &url.Error{Op: "Get", URL: "u", Err: &net.OpError{Op: "dial", Net: "tcp", Err: boom}}, want{Class: policies.Transient, Type: "Error", Message: `Get "u": dial tcp: boom`}},
		{"slow name server", &net.DNSError{Err: "i/o timeout", Name: "x", IsTimeout: true}, want{Class: policies.Transient, Type: "DNSError", Message: "lookup x: i/o timeout"}},
		{"unknown host", &net.DNSError{Err: "no such host", Name: "x", IsNotFound: true}, want{Class: policies.Transient, Type: "DNSError", Message: "lookup x: no such host"}},
		{"deadline of a connection", os.ErrDeadlineExceeded, want{Class: policies.Transient, Type: "DeadlineExceededError", Message: "i/o timeout"}},
		{"an error that says it is a timeout", wrap(timeoutError{true}), want{Class: policies.Transient, Type: "timeoutError", Message: "load: slow"}},
		{"one that says it is none", wrap(timeoutError{false}), want{Class: policies.Unknown, Type: "timeoutError", Message: "load: slow"}},
		{"no such file", fs.ErrNotExist, want{Class: policies.Unknown, Message: "file does not exist"}},
		{"file that is a timeout's cousin", &fs.PathError{Op: "open", Path: "p", Err: syscall.ENOENT}, want{Class: policies.Unknown, Type: "PathError", Message: "open p: no such file or directory"}},

		// Errors that break when they are read.
		{"nil pointer", (*brokenError)(nil), want{Class: policies.Bug, Type: "brokenError",
			Message: "an error of type *policies_test.brokenError panicked when it was read: runtime error: invalid memory address or nil pointer dereference (is it a nil pointer?)"}},
		{"nil failure", (*policies.Failure)(nil), want{Class: policies.Bug, Type: "Failure",
			Message: "an error of type *policies.Failure panicked when it was read: runtime error: invalid memory address or nil pointer dereference (is it a nil pointer?)"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := policies.Classify(test.err)
			require.Equal(t, test.want, *got)
			require.LessOrEqual(t, len(got.Message), 2<<10)
		})
	}
	require.Nil(t, policies.Classify(nil))
}

// What was classified is a copy: the worker fills in where and when, and the author's error stays as it is.
func TestClassifyCopies(t *testing.T) {
	t.Parallel()
	own := &policies.Failure{Class: policies.Bug, Message: "gone"}
	got := policies.Classify(own)
	require.NotSame(t, own, got)
	got.Step = "changed"
	require.Empty(t, own.Step)
}

func TestClassifyLongMessage(t *testing.T) {
	t.Parallel()
	f := policies.Classify(errors.New(strings.Repeat("é", 5000)))
	require.LessOrEqual(t, len(f.Message), 2<<10)
	require.Greater(t, len(f.Message), 2<<10-4, "as much as there is room for is kept")
	require.True(t, strings.HasSuffix(f.Message, "é… (cut)"), "cut on a rune and marked: %q", f.Message[len(f.Message)-20:])
}

// The errors that net/http really returns, from real connections.
func TestClassifyHTTP(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/break" {
			panic(http.ErrAbortHandler)
		}
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(func() { close(hang); server.Close() })
	get := func(ctx context.Context, c *http.Client, target string) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
		require.NoError(t, err)
		resp, err := c.Do(req)
		if err == nil {
			resp.Body.Close()
		}
		require.Error(t, err)
		return err
	}

	require.Equal(t, policies.TimedOut, policies.Classify(get(t.Context(), &http.Client{Timeout: 20 * time.Millisecond}, server.URL)).Class)

	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.Equal(t, policies.TimedOut, policies.Classify(get(short, server.Client(), server.URL)).Class)

	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	require.Equal(t, policies.Transient, policies.Classify(get(t.Context(), server.Client(), closed.URL)).Class)
}

func TestMarksKeepTheError(t *testing.T) {
	t.Parallel()
	cause := &policyError{"no"}
	for _, err := range []error{policies.WithClass(cause, policies.Permanent), policies.WithRetryAfter(cause, time.Second)} {
		require.Equal(t, "no", err.Error())
		require.ErrorIs(t, err, cause)
		var as *policyError
		require.ErrorAs(t, err, &as)
	}
	require.NoError(t, policies.WithClass(nil, policies.Permanent))
	require.NoError(t, policies.WithRetryAfter(nil, time.Second))
}
