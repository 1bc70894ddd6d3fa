package s3_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/artifacts/driver"
	"github.com/stepwell-flows/stepwell/artifacts/s3"
)

// noCredentials is what the SDK's chain says on a machine without any.
type noCredentials struct{}

func (noCredentials) Retrieve(context.Context) (aws.Credentials, error) {
	return aws.Credentials{}, errors.New("no EC2 IMDS role found, operation error ec2imds: GetMetadata")
}

// hanging is a chain that waits for a service which does not answer.
type hanging struct{}

func (hanging) Retrieve(ctx context.Context) (aws.Credentials, error) {
	<-ctx.Done()
	return aws.Credentials{}, ctx.Err()
}

func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return "http://" + l.Addr().String()
}

// silentPort accepts connections and says nothing.
func silentPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return "http://" + l.Addr().String()
}

func TestCheckNamesTheFix(t *testing.T) {
	t.Parallel()
	withKeys := func(access, secret string) func(t *testing.T, o *s3.Options) {
		return func(_ *testing.T, o *s3.Options) {
			o.AWS.Credentials = credentials.NewStaticCredentialsProvider(access, secret, "")
		}
	}
	for _, test := range []struct {
		name  string
		with  func(t *testing.T, o *s3.Options)
		says  string // after the location
		fix   string
		waits bool // unavailable: waiting may help
	}{
		{
			name: "missing bucket", with: func(_ *testing.T, o *s3.Options) { o.Bucket = "not-there" },
			says: `bucket "not-there" does not exist at ` + server.Endpoint, fix: "(create it, or correct the location)",
		},
		{
			name: "unknown key", with: withKeys("nobody", "secret-of-nobody"),
			says: "the access key is not known at " + server.Endpoint, fix: "(correct AWS_ACCESS_KEY_ID, or the profile)",
		},
		{
			name: "wrong secret", with: withKeys(server.AccessKey, "not-the-secret"),
			says: "the secret key does not belong to the access key", fix: "(correct AWS_SECRET_ACCESS_KEY, or the profile)",
		},
		{
			name: "no credentials", with: func(_ *testing.T, o *s3.Options) { o.AWS.Credentials = noCredentials{} },
			says: "no AWS credentials found", fix: "(set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give this machine a role)",
		},
		{
			name: "hanging credentials", with: func(_ *testing.T, o *s3.Options) { o.AWS.Credentials = hanging{} },
			says: "no AWS credentials found", fix: "AWS_PROFILE",
		},
		{
			name: "refused connection", with: func(t *testing.T, o *s3.Options) {
				t.Helper()
				o.Endpoint = closedPort(t)
			},
			says: "connection refused", fix: "", waits: true,
		},
		{
			name: "no answer", with: func(t *testing.T, o *s3.Options) {
				t.Helper()
				o.Endpoint = silentPort(t)
			},
			says: "no answer from http://127.0.0.1:", fix: "(check the endpoint, and that this machine may reach it)", waits: true,
		},
		{
			name: "bucket in the host name", with: func(_ *testing.T, o *s3.Options) { o.Endpoint, o.PathStyle = "http://minio.invalid:9000", false },
			says: "no such host", fix: "(add path_style=true to the location", waits: true,
		},
		{
			name: "TLS to a plain server", with: func(_ *testing.T, o *s3.Options) { o.Endpoint = strings.Replace(server.Endpoint, "http:", "https:", 1) },
			says: "does not speak TLS", fix: "(write http:// in the endpoint)",
		},
		{
			name: "unknown authority", with: func(t *testing.T, o *s3.Options) {
				t.Helper()
				fake := httptest.NewUnstartedServer(http.NotFoundHandler())
				fake.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
				fake.StartTLS()
				t.Cleanup(fake.Close)
				o.Endpoint = fake.URL
			},
			says: "certificate signed by unknown authority", fix: "(set AWS_CA_BUNDLE",
		},
		{
			name: "read only", with: func(t *testing.T, o *s3.Options) {
				t.Helper()
				policy := fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":["*"]},`+
					`"Action":["s3:GetObject","s3:ListBucket"],"Resource":["arn:aws:s3:::%[1]s","arn:aws:s3:::%[1]s/*"]}]}`, o.Bucket)
				_, err := server.Client().PutBucketPolicy(t.Context(), &sdk.PutBucketPolicyInput{Bucket: &o.Bucket, Policy: &policy})
				require.NoError(t, err)
				o.AWS.Credentials = aws.AnonymousCredentials{}
			},
			says: "access to bucket", fix: "(the credentials need s3:GetObject, s3:PutObject and s3:DeleteObject",
		},
		{
			name: "conditions ignored", with: func(_ *testing.T, o *s3.Options) {
				o.AWS.HTTPClient = &network{hook: func(_ int, r *http.Request) *reply {
					got := forward(r)
					if got.err == nil && got.response.StatusCode == http.StatusPreconditionFailed {
						got.response.StatusCode, got.response.Body = http.StatusOK, http.NoBody
					}
					return got
				}}
			},
			says: "ignores If-None-Match", fix: "(use a server that supports conditional writes)",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			o := options(t, server)
			test.with(t, &o)
			d := open(t, o)
			// A store that is patient does not wait in Check.
			err := artifacts.New(d, artifacts.Options{Patience: time.Hour}).Check(t.Context())
			require.ErrorContains(t, err, `store "`+d.String()+`": `)
			require.ErrorContains(t, err, test.says)
			require.ErrorContains(t, err, test.fix)
			require.NotContains(t, err.Error(), "\n")
			for _, secret := range []string{server.SecretKey, "secret-of-nobody", "not-the-secret"} {
				require.NotContains(t, err.Error(), secret)
			}
			if test.waits {
				require.ErrorIs(t, err, driver.ErrUnavailable)
			} else {
				require.NotErrorIs(t, err, driver.ErrUnavailable)
			}
			require.NotErrorIs(t, err, driver.ErrNotFound)
		})
	}
}

func TestCheckOfCancelledContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, open(t, options(t, server)).Check(ctx), context.Canceled)
}

// lapsing hands out credentials once, and then is out of order.
type lapsing struct {
	aws.CredentialsProvider
	used bool
}

func (l *lapsing) Retrieve(ctx context.Context) (aws.Credentials, error) {
	if l.used {
		return aws.Credentials{}, errors.New("token service does not answer")
	}
	l.used = true
	c, err := l.CredentialsProvider.Retrieve(ctx)
	c.CanExpire, c.Expires = true, time.Now()
	return c, err
}

func TestCredentialsThatLapse(t *testing.T) {
	t.Parallel()
	o := options(t, server)
	o.AWS.Credentials = &lapsing{CredentialsProvider: o.AWS.Credentials}
	d := open(t, o)
	require.NoError(t, d.Put(t.Context(), "k", driver.Bytes(nil), driver.PutOptions{}))
	err := d.Put(t.Context(), "k", driver.Bytes(nil), driver.PutOptions{})
	require.ErrorIs(t, err, driver.ErrUnavailable, "they were there before, so they may come back")
	require.ErrorContains(t, err, "token service does not answer")

	o.AWS.Credentials = noCredentials{}
	err = open(t, o).Put(t.Context(), "k", driver.Bytes(nil), driver.PutOptions{})
	require.ErrorContains(t, err, "no AWS credentials found")
	require.NotErrorIs(t, err, driver.ErrUnavailable)
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		o    s3.Options
		says string
	}{
		{s3.Options{}, "no bucket (write s3://bucket/prefix)"},
		{s3.Options{Bucket: "ab"}, `bucket "ab" is not a name`},
		{s3.Options{Bucket: "Upper"}, `bucket "Upper" is not a name`},
		{s3.Options{Bucket: "under_score"}, "is not a name"},
		{s3.Options{Bucket: "-dash"}, "is not a name"},
		{s3.Options{Bucket: "two..dots"}, "is not a name"},
		{s3.Options{Bucket: "127.0.0.1"}, "is not a name"},
		{s3.Options{Bucket: strings.Repeat("b", 64)}, "is not a name"},
		{s3.Options{Bucket: "bucket", Prefix: "a/../b"}, `prefix: key "a/../b" has the segment ".."`},
		{s3.Options{Bucket: "bucket", Prefix: strings.Repeat("p", 124)}, "too long (at most 123)"},
		{s3.Options{Bucket: "bucket", Endpoint: "127.0.0.1:9000"}, "is not the URL of a server (write http://host:port"},
		{s3.Options{Bucket: "bucket", Endpoint: "ftp://host"}, "is not the URL of a server"},
		{s3.Options{Bucket: "bucket", Endpoint: "http://host/path"}, "is not the URL of a server"},
		{s3.Options{Bucket: "bucket", Endpoint: "http://user:hunter2@host"}, "holds credentials (leave them out"},
		{s3.Options{Bucket: "bucket", AWS: &aws.Config{}}, "no region (add ?region="},
	} {
		_, err := s3.New(t.Context(), test.o)
		require.ErrorContains(t, err, test.says)
		require.NotContains(t, err.Error(), "hunter2")
	}
	_, err := s3.New(t.Context(), s3.Options{Bucket: "B", Prefix: "..", Endpoint: "x"})
	require.ErrorContains(t, err, "bucket")
	require.ErrorContains(t, err, "prefix")
	require.ErrorContains(t, err, "endpoint", "all mistakes at once")
}
