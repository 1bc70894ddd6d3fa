package policies_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/stepwell-flows/stepwell/policies"
)

type (
	methodError struct{ code int } // like those of many clients
	fieldError  struct {           // like openai-go's and azcore's
		StatusCode int
		Request    *http.Request
	}
	brokenStatusError struct{ response *http.Response }

	sqlite3No    int // like mattn/go-sqlite3's, which needs cgo
	sqlite3Error struct {
		Code         sqlite3No
		ExtendedCode sqlite3No
	}
)

func (e methodError) Error() string              { return fmt.Sprint("status ", e.code) }
func (e methodError) StatusCode() int            { return e.code }
func (e *fieldError) Error() string              { return fmt.Sprint("status ", e.StatusCode) }
func (e *brokenStatusError) Error() string       { return "no answer" }
func (e *brokenStatusError) HTTPStatusCode() int { return e.response.StatusCode }
func (e sqlite3Error) Error() string             { return fmt.Sprint("sqlite ", e.Code) }

// statuses is the class of every status that is not covered by a range.
var statuses = map[int]policies.Class{
	400: policies.Invalid, 401: policies.Denied, 402: policies.Invalid, 403: policies.Denied, 404: policies.Invalid, 405: policies.Invalid,
	406: policies.Invalid, 407: policies.Denied, 408: policies.Transient, 409: policies.Invalid, 410: policies.Invalid, 413: policies.Invalid,
	415: policies.Invalid, 418: policies.Invalid, 422: policies.Invalid, 425: policies.Transient, 429: policies.RateLimited, 431: policies.Invalid,
	451: policies.Invalid, 499: policies.Unknown,
	500: policies.Transient, 501: policies.Permanent, 502: policies.Transient, 503: policies.Transient, 504: policies.Transient,
	505: policies.Permanent, 506: policies.Permanent, 507: policies.Transient, 508: policies.Permanent, 510: policies.Permanent,
	511: policies.Denied, 520: policies.Transient, 529: policies.Transient,
}

func TestClassifyStatus(t *testing.T) {
	t.Parallel()
	for code := -1; code <= 1000; code++ {
		want, listed := statuses[code]
		switch {
		case listed:
		case code >= 300 && code < 400:
			want = policies.Permanent
		case code >= 400 && code < 500:
			want = policies.Invalid
		case code >= 500 && code < 600:
			want = policies.Transient
		default:
			want = policies.Unknown
		}
		for _, err := range []error{
			&policies.HTTPError{StatusCode: code},
			methodError{code},
			&fieldError{StatusCode: code},
			&smithyhttp.ResponseError{Response: &smithyhttp.Response{Response: &http.Response{StatusCode: code}}, Err: errors.New("boom")},
		} {
			require.Equal(t, want, policies.Classify(fmt.Errorf("load: %w", err)).Class, "%d as %T", code, err)
		}
	}
}

// What is known about errors, one by one. The text of docs/failures.md says the same in general.
func TestClassifyKnown(t *testing.T) {
	t.Parallel()
	aws := func(code string) error {
		return &smithy.OperationError{ServiceID: "S3", OperationName: "PutObject", Err: &smithy.GenericAPIError{Code: code, Message: "no"}}
	}
	answered := func(httpStatus int, code string) error {
		return &smithyhttp.ResponseError{
			Response: &smithyhttp.Response{Response: &http.Response{StatusCode: httpStatus}},
			Err:      &smithy.GenericAPIError{Code: code, Message: "no"},
		}
	}
	pg := func(code string) error { return &pgconn.PgError{Code: code, Message: "no"} }
	my := func(n uint16, state string) error {
		e := &mysql.MySQLError{Number: n, Message: "no"}
		copy(e.SQLState[:], state)
		return e
	}
	lite := func(code int) error { return sqlite3Error{sqlite3No(code & 0xff), sqlite3No(code)} }
	dial := func(err error) error {
		return &url.Error{Op: "Get", URL: "http://x", Err: &net.OpError{Op: "dial", Net: "tcp", Err: err}}
	}
	alert := func(n uint8) error { return &net.OpError{Op: "remote error", Err: tls.AlertError(n)} }

	for class, errs := range map[policies.Class][]error{
		policies.Transient: {
			status.Error(codes.Unavailable, "no"), status.Error(codes.Internal, "no"), status.Error(codes.Aborted, "no"),
			aws("RequestTimeout"), aws("RequestTimeoutException"), aws("InternalError"), aws("InternalFailure"), aws("ServiceUnavailable"), aws("OperationAborted"),
			answered(400, "RequestTimeout"), answered(409, "ConditionalRequestConflict"), answered(500, "Whatever"),
			pg("08000"), pg("08006"), pg("08P01"), pg("40001"), pg("40P01"), pg("53000"), pg("53100"), pg("53200"), pg("53300"), pg("57P01"), pg("57P02"), pg("57P03"), pg("57P05"),
			pg("55P03"), pg("55006"), pg("25006"), pg("58030"),
			&pq.Error{Code: pqerror.Code("40001")},
			my(1205, "HY000"), my(1213, "40001"), my(1040, "08004"), my(1203, "42000"), my(1053, "08S01"), my(1158, "08S01"), my(1290, "HY000"), my(1836, "HY000"),
			my(2003, ""), my(2006, ""), my(2013, ""), my(3572, "HY000"), my(9999, "40001"),
			lite(5), lite(5 | 2<<8), lite(6), lite(7), lite(10), lite(13), lite(15), lite(17),
			driver.ErrBadConn,
			alert(20), alert(50), alert(80), alert(90),
			&net.DNSError{Err: "i/o timeout", IsTimeout: true}, &net.DNSError{Err: "server misbehaving", IsTemporary: true},
			&net.DNSError{Err: "no such host", IsNotFound: true}, dial(&net.DNSError{Err: "no such host", IsNotFound: true}),
			dial(syscall.ECONNREFUSED), dial(syscall.EHOSTUNREACH), syscall.ENETUNREACH, syscall.ETIMEDOUT, syscall.ECONNRESET, io.ErrUnexpectedEOF,
			&url.Error{Op: "Get", URL: "http://x", Err: io.EOF},
			&fs.PathError{Op: "write", Path: "p", Err: syscall.ENOSPC}, syscall.EMFILE, syscall.ENOMEM, syscall.EAGAIN, syscall.ESTALE,
		},
		policies.RateLimited: {
			status.Error(codes.ResourceExhausted, "no"),
			aws("Throttling"), aws("ThrottlingException"), aws("SlowDown"), aws("TooManyRequestsException"), aws("RequestLimitExceeded"), aws("ProvisionedThroughputExceededException"),
			aws("SlowDownWrite"), answered(400, "ThrottlingException"), answered(503, "SlowDown"),
			my(1226, "42000"),
		},
		policies.TimedOut: {
			context.DeadlineExceeded, dial(context.DeadlineExceeded), status.Error(codes.DeadlineExceeded, "no"), status.FromContextError(context.DeadlineExceeded).Err(),
			pg("57014"), pg("25P04"), my(3024, "HY000"), my(1969, "70100"),
		},
		policies.Invalid: {
			status.Error(codes.InvalidArgument, "no"), status.Error(codes.NotFound, "no"), status.Error(codes.AlreadyExists, "no"),
			status.Error(codes.FailedPrecondition, "no"), status.Error(codes.OutOfRange, "no"),
			aws("NoSuchBucket"), aws("NoSuchKey"), aws("ValidationException"), answered(404, "NoSuchBucket"), answered(412, "PreconditionFailed"), answered(400, "Whatever"),
			pg("22003"), pg("22P02"), pg("23502"), pg("23505"), pg("21000"), pg("54000"), pg("40002"), &pq.Error{Code: pqerror.Code("23505")},
			my(1062, "23000"), my(1048, "23000"), my(1264, "22003"), my(1406, "22001"), my(1452, "23000"), my(3819, "HY000"), my(1153, "08S01"), my(9999, "22000"),
			lite(19), lite(19 | 8<<8), lite(18), lite(20), lite(25),
			&url.Error{Op: "parse", URL: ":", Err: errors.New("missing protocol scheme")},
		},
		policies.Denied: {
			status.Error(codes.PermissionDenied, "no"), status.Error(codes.Unauthenticated, "no"),
			aws("AccessDenied"), aws("AccessDeniedException"), aws("ExpiredToken"), aws("ExpiredTokenException"), aws("InvalidToken"), aws("InvalidAccessKeyId"),
			aws("SignatureDoesNotMatch"), aws("UnrecognizedClientException"), aws("RequestTimeTooSkewed"), answered(400, "ExpiredToken"), answered(403, "Forbidden"),
			pg("28000"), pg("28P01"), pg("42501"), my(1045, "28000"), my(1044, "42000"), my(1142, "42000"), my(1227, "42000"),
			lite(3), lite(8), lite(23),
			alert(42), alert(45), alert(46), alert(48), alert(49), alert(116),
			fs.ErrPermission, &fs.PathError{Op: "open", Path: "p", Err: syscall.EACCES}, &fs.PathError{Op: "open", Path: "p", Err: syscall.EPERM},
		},
		policies.Permanent: {
			status.Error(codes.Unimplemented, "no"), status.Error(codes.DataLoss, "no"),
			aws("NotImplemented"), answered(301, "PermanentRedirect"), answered(304, "NotModified"), answered(501, "Whatever"),
			pg("42601"), pg("42P01"), pg("0A000"), pg("3D000"), pg("3F000"), pg("57P04"), pg("XX001"), pg("XX002"), pg("F0000"),
			my(1064, "42000"), my(1146, "42S02"), my(1049, "42000"), my(1054, "42S22"), my(9999, "42000"),
			lite(11), lite(21), lite(26),
			&tls.CertificateVerificationError{Err: errors.New("no")}, x509.UnknownAuthorityError{}, x509.HostnameError{Certificate: &x509.Certificate{}, Host: "x"},
			x509.CertificateInvalidError{Cert: &x509.Certificate{}, Reason: x509.Expired}, x509.SystemRootsError{}, x509.UnhandledCriticalExtension{},
			tls.RecordHeaderError{Msg: "no"}, http.ErrSchemeMismatch, alert(40), alert(70), alert(71), alert(112), alert(120),
			&net.AddrError{Err: "missing port in address", Addr: "x"}, dial(&net.AddrError{Err: "missing port in address", Addr: "x"}), dial(net.UnknownNetworkError("x")),
			&exec.Error{Name: "x", Err: exec.ErrNotFound}, exec.ErrDot, &fs.PathError{Op: "fork/exec", Path: "p", Err: syscall.ENOEXEC},
		},
		policies.Unknown: {
			context.Canceled, dial(context.Canceled), status.Error(codes.Canceled, "no"), status.Error(codes.Unknown, "no"),
			aws("Whatever"), &smithy.GenericAPIError{}, &smithy.CanceledError{Err: context.Canceled},
			pg("P0001"), pg("XX000"), pg(""), pg("?"), my(1105, "HY000"), my(0, ""), lite(1), lite(9), lite(0),
			&exec.ExitError{}, fs.ErrNotExist, &fs.PathError{Op: "open", Path: "p", Err: syscall.ENOENT}, io.EOF, net.ErrClosed, sql.ErrNoRows, &fieldError{},
			&brokenStatusError{},
		},
	} {
		for i, err := range errs {
			got := policies.Classify(fmt.Errorf("load: %w", err))
			require.Equal(t, class, got.Class, "%d: %T %q", i, err, text(err))
			require.Equal(t, fmt.Errorf("load: %w", err).Error(), got.Message)
		}
	}
}

func text(err error) string {
	defer func() { _ = recover() }()
	return err.Error()
}

// A service's word about the call counts more than what carried the call, however they are wrapped, and among joined errors one
// that stays counts most.
func TestClassifyOrder(t *testing.T) {
	t.Parallel()
	answer := func(code int) error { return &policies.HTTPError{StatusCode: code} }
	for _, test := range []struct {
		name string
		err  error
		want policies.Class
	}{
		{"a status around a broken connection", errors.Join(fmt.Errorf("%w: %w", answer(404), io.ErrUnexpectedEOF)), policies.Invalid},
		{"a permanent status beside a transient one", errors.Join(answer(503), answer(404)), policies.Invalid},
		{"a timeout beside a broken connection", errors.Join(syscall.ECONNRESET, context.DeadlineExceeded), policies.TimedOut},
		{"else the first", errors.Join(answer(429), answer(503)), policies.RateLimited},
		{"what is known beside what is not", errors.Join(errors.New("boom"), context.Canceled, answer(503)), policies.Transient},
		{"joined in a wrapper that is known itself", dialError{errors.Join(answer(404))}, policies.Invalid},
		{"a mark", policies.WithClass(answer(404), policies.Transient), policies.Transient},
		{"a wait", policies.WithRetryAfter(answer(404), time.Second), policies.RateLimited},
		{"a wait on a marked one", policies.WithRetryAfter(policies.WithClass(answer(503), policies.Permanent), time.Second), policies.Permanent},
	} {
		require.Equal(t, test.want, policies.Classify(test.err).Class, test.name)
	}
}

type dialError struct{ err error }

func (e dialError) Error() string { return "dial" }
func (e dialError) Unwrap() error { return e.err }

func TestClassifyRetryInfo(t *testing.T) {
	t.Parallel()
	s, err := status.New(codes.Unavailable, "no").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(7 * time.Second)})
	require.NoError(t, err)
	f := policies.Classify(fmt.Errorf("load: %w", s.Err()))
	require.Equal(t, 7*time.Second, f.RetryAfter)
	require.Equal(t, policies.RateLimited, f.Class)

	s, err = status.New(codes.Unavailable, "no").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(-time.Second)})
	require.NoError(t, err)
	f = policies.Classify(s.Err())
	require.Zero(t, f.RetryAfter)
	require.Equal(t, policies.Transient, f.Class)
}

func TestClassifyWith(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	say := func(c policies.Class) func(error) policies.Class { return func(error) policies.Class { return c } }
	for _, test := range []struct {
		name  string
		err   error
		rules []func(error) policies.Class
		want  policies.Class
	}{
		{"a rule", boom, []func(error) policies.Class{say(policies.Denied)}, policies.Denied},
		{"the first that has an opinion", boom, []func(error) policies.Class{nil, say(""), say(policies.Invalid), say(policies.Denied)}, policies.Invalid},
		{"none has", boom, []func(error) policies.Class{nil, say("")}, policies.Unknown},
		{"before what is built in", &policies.HTTPError{StatusCode: 404}, []func(error) policies.Class{say(policies.Transient)}, policies.Transient},
		{"none, so what is built in", &policies.HTTPError{StatusCode: 404}, []func(error) policies.Class{say("")}, policies.Invalid},
		{"before a wait", policies.WithRetryAfter(boom, time.Second), []func(error) policies.Class{say(policies.Denied)}, policies.Denied},
		{"after a mark", policies.WithClass(boom, policies.Invalid), []func(error) policies.Class{say(policies.Transient)}, policies.Invalid},
		{"after a failure", &policies.Failure{Class: policies.Bug, Message: "no"}, []func(error) policies.Class{say(policies.Transient)}, policies.Bug},
		{"a panic is no opinion", boom, []func(error) policies.Class{func(error) policies.Class { panic("oh") }, say(policies.Denied)}, policies.Denied},
		{"not a class", boom, []func(error) policies.Class{say("Weird"), say(policies.Denied)}, policies.Unknown},
		{"not a rule's to give", boom, []func(error) policies.Class{say(policies.Lost)}, policies.Unknown},
		{"nor this", boom, []func(error) policies.Class{say(policies.Cancelled)}, policies.Unknown},
	} {
		require.Equal(t, test.want, policies.ClassifyWith(test.err, test.rules...).Class, test.name)
	}
	require.Nil(t, policies.ClassifyWith(nil, say(policies.Denied)))

	var asked error
	err := fmt.Errorf("load: %w", boom)
	f := policies.ClassifyWith(err, func(err error) policies.Class { asked = err; return "" })
	require.Equal(t, policies.Unknown, f.Class)
	require.Equal(t, err, asked, "a rule sees the whole error")
}
