package policies_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/stepwell-flows/stepwell/policies"
)

// fetch is the error of a request that fails.
func fetch(t *testing.T, c *http.Client, url string) error {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	resp, err := c.Do(req)
	if err == nil {
		resp.Body.Close()
	}
	require.Error(t, err)
	return err
}

// quietServer does not log what goes wrong with its connections, which is what is tested.
func quietServer(t *testing.T, h http.Handler, start func(*httptest.Server)) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	start(s)
	t.Cleanup(s.Close)
	return s
}

// The errors of real handshakes that fail.
func TestClassifyTLS(t *testing.T) {
	t.Parallel()
	server := quietServer(t, http.NotFoundHandler(), (*httptest.Server).StartTLS)
	trusted := x509.NewCertPool()
	trusted.AddCert(server.Certificate())
	with := func(c *tls.Config) *http.Client {
		return &http.Client{Transport: &http.Transport{TLSClientConfig: c, DisableKeepAlives: true}}
	}
	newer := quietServer(t, http.NotFoundHandler(), func(s *httptest.Server) {
		s.TLS = &tls.Config{MinVersion: tls.VersionTLS13}
		s.StartTLS()
	})
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)

	for _, test := range []struct {
		name string
		err  error
		want policies.Class
		text string
	}{
		{"not trusted", fetch(t, with(nil), server.URL), policies.Permanent, "unknown authority"},
		{"another name", fetch(t, with(&tls.Config{RootCAs: trusted, ServerName: "stepwell.test"}), server.URL), policies.Permanent, "stepwell.test"},
		{"expired", fetch(t, with(&tls.Config{RootCAs: trusted, Time: func() time.Time { return server.Certificate().NotAfter.Add(time.Hour) }}), server.URL),
			policies.Permanent, "expired"},
		{"no version in common", fetch(t, with(&tls.Config{RootCAs: trusted, MaxVersion: tls.VersionTLS12}), newer.URL), policies.Permanent, "protocol version"},
		{"no TLS at all", fetch(t, with(nil), strings.Replace(plain.URL, "http:", "https:", 1)), policies.Permanent, "HTTP response to HTTPS client"},
		{"cut in the middle", fetch(t, with(nil), "https://"+hangsUp(t)), policies.Transient, ""},
		{"cut before the answer", fetch(t, with(nil), "http://"+hangsUp(t)), policies.Transient, ""},
	} {
		require.Equal(t, test.want, policies.Classify(test.err).Class, "%s: %v", test.name, test.err)
		require.ErrorContains(t, test.err, test.text)
	}
}

// hangsUp is the address of a server that reads a little and closes the connection.
func hangsUp(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 64<<10))
			_ = c.Close()
		}
	}()
	return l.Addr().String()
}

func TestClassifyDial(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	dial := func(ctx context.Context, address string) error {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err == nil {
			_ = c.Close()
		}
		require.Error(t, err)
		return err
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	late, stop := context.WithTimeout(t.Context(), 0)
	defer stop()
	_, hasty := (&net.Dialer{Timeout: 1}).DialContext(t.Context(), "tcp", address)
	for _, test := range []struct {
		name string
		err  error
		want policies.Class
	}{
		{"refused", dial(t.Context(), address), policies.Transient},
		{"no such host", dial(t.Context(), "stepwell.invalid:80"), policies.Transient}, // or no name server, which is Transient as well
		{"no port", dial(t.Context(), "127.0.0.1"), policies.Permanent},
		{"the caller gave up", dial(cancelled, address), policies.Unknown},
		{"too late", dial(late, address), policies.TimedOut},
		{"too late for the dialer", hasty, policies.TimedOut}, // the same error
		{"too late for a lookup", &net.DNSError{Err: "i/o timeout", IsTimeout: true, UnwrapErr: context.DeadlineExceeded}, policies.TimedOut},
	} {
		require.Equal(t, test.want, policies.Classify(test.err).Class, "%s: %v", test.name, test.err)
	}
	var dns *net.DNSError
	require.ErrorAs(t, dial(t.Context(), "stepwell.invalid:80"), &dns)
}

// What the AWS SDK makes of the answers of a server that speaks S3.
func TestClassifyS3(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		status int
		code   string
		want   policies.Class
	}{
		{503, "SlowDown", policies.RateLimited},
		{503, "ServiceUnavailable", policies.Transient},
		{500, "InternalError", policies.Transient},
		{400, "RequestTimeout", policies.Transient},
		{409, "OperationAborted", policies.Transient},
		{403, "AccessDenied", policies.Denied},
		{400, "ExpiredToken", policies.Denied},
		{403, "InvalidAccessKeyId", policies.Denied},
		{403, "SignatureDoesNotMatch", policies.Denied},
		{404, "NoSuchBucket", policies.Invalid},
		{404, "NoSuchKey", policies.Invalid},
		{412, "PreconditionFailed", policies.Invalid},
		{501, "NotImplemented", policies.Permanent},
		{502, "", policies.Transient}, // a proxy
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(test.status)
			if test.code != "" {
				_, _ = w.Write([]byte("<Error><Code>" + test.code + "</Code><Message>no</Message></Error>"))
			}
		}))
		t.Cleanup(server.Close)
		c := s3.New(s3.Options{
			BaseEndpoint: aws.String(server.URL), Region: "us-east-1", UsePathStyle: true, Retryer: aws.NopRetryer{},
			Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""),
		})
		_, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("b"), Key: aws.String("k")})
		require.Error(t, err)
		require.Equal(t, test.want, policies.Classify(err).Class, "%v", err)
	}
	c := s3.New(s3.Options{
		BaseEndpoint: aws.String("http://" + hangsUp(t)), Region: "us-east-1", UsePathStyle: true, Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""),
	})
	_, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("b"), Key: aws.String("k")})
	require.Error(t, err)
	require.Equal(t, policies.Transient, policies.Classify(err).Class, "%v", err)
}

func TestClassifySQLite(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "db")
	open := func(options string) *sql.DB {
		db, err := sql.Open("sqlite", "file:"+file+options)
		require.NoError(t, err)
		t.Cleanup(func() { _ = db.Close() })
		return db
	}
	one, two, reader := open("?_txlock=immediate"), open("?_txlock=immediate"), open("?mode=ro")
	_, err := one.ExecContext(t.Context(), "CREATE TABLE t (n INTEGER PRIMARY KEY, m TEXT NOT NULL)")
	require.NoError(t, err)
	_, err = one.ExecContext(t.Context(), "INSERT INTO t VALUES (1, 'a')")
	require.NoError(t, err)
	fail := func(db *sql.DB, statement string) error {
		_, err := db.ExecContext(t.Context(), statement)
		require.Error(t, err)
		return err
	}

	require.Equal(t, policies.Invalid, policies.Classify(fail(one, "INSERT INTO t VALUES (1, 'b')")).Class)
	require.Equal(t, policies.Invalid, policies.Classify(fail(one, "INSERT INTO t VALUES (2, NULL)")).Class)
	require.Equal(t, policies.Unknown, policies.Classify(fail(one, "SELECT * FROM nowhere")).Class)
	require.Equal(t, policies.Denied, policies.Classify(fail(reader, "INSERT INTO t VALUES (3, 'c')")).Class)

	tx, err := one.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = two.BeginTx(t.Context(), nil)
	require.Error(t, err)
	require.Equal(t, policies.Transient, policies.Classify(err).Class, "%v", err)
	require.NoError(t, tx.Rollback())

	require.NoError(t, os.WriteFile(file+"2", bytes.Repeat([]byte("no database "), 1000), 0o600))
	file += "2"
	require.Equal(t, policies.Permanent, policies.Classify(fail(open(""), "SELECT * FROM t")).Class)
}

func TestClassifyPrograms(t *testing.T) {
	t.Parallel()
	run := func(name string, args ...string) error {
		err := exec.CommandContext(t.Context(), name, args...).Run()
		require.Error(t, err)
		return err
	}
	file := filepath.Join(t.TempDir(), "program")
	require.NoError(t, os.WriteFile(file, []byte("\x01\x02 no program"), 0o600))
	require.Equal(t, policies.Denied, policies.Classify(run(file)).Class, "not executable")
	require.NoError(t, os.Chmod(file, 0o700))
	require.Equal(t, policies.Permanent, policies.Classify(run(file)).Class, "not a program")
	require.Equal(t, policies.Permanent, policies.Classify(run("stepwell-no-such-program")).Class)
	err := run("sh", "-c", "exit 3")
	require.Equal(t, policies.Unknown, policies.Classify(err).Class)
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
}
