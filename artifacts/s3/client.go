package s3

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"
)

const (
	// attempts is how often one request is sent. It bridges a broken connection; Store.Patience bridges an outage.
	attempts = 3
	// firstDelay is the longest pause before the second attempt. It doubles for each further one.
	firstDelay = 200 * time.Millisecond

	// A transfer may take any time, but not stand still.
	dialTime   = 3 * time.Second
	tlsTime    = 5 * time.Second
	answerTime = 30 * time.Second // from the end of a request to the header of its answer
	stallTime  = 30 * time.Second // without a byte sent or received

	// idleConnections is how many connections are kept for the next request. A worker runs about a hundred steps at once.
	idleConnections = 128
)

// newClient returns the SDK's client.
func newClient(ctx context.Context, o Options) (*s3.Client, error) {
	cfg, err := loadConfig(ctx, o)
	if err != nil {
		return nil, err
	}
	if o.Region != "" {
		cfg.Region = o.Region
	}
	if cfg.Region == "" {
		if o.Endpoint == "" && cfg.BaseEndpoint == nil {
			return nil, errors.New("no region (add ?region=… to the location, or set AWS_REGION)")
		}
		cfg.Region = "us-east-1" // what a server that has no regions calls itself
	}
	return s3.NewFromConfig(cfg, func(so *s3.Options) {
		if o.Endpoint != "" {
			so.BaseEndpoint = &o.Endpoint
		}
		so.UsePathStyle = o.PathStyle
		so.Retryer = newRetryer()
		so.APIOptions = append(so.APIOptions, addTrace)
		// The SDK's chain says so too; an aws.Config made by hand says nothing.
		if so.RequestChecksumCalculation == aws.RequestChecksumCalculationUnset {
			so.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenSupported
		}
		if so.ResponseChecksumValidation == aws.ResponseChecksumValidationUnset {
			so.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenSupported
		}
		so.DisableLogOutputChecksumValidationSkipped = true // objects uploaded in parts have no checksum of their whole
		if so.Credentials != nil && !aws.IsCredentialsProvider(so.Credentials, (*aws.AnonymousCredentials)(nil)) {
			so.Credentials = &credentials{chain: so.Credentials}
		}
	}), nil
}

func loadConfig(ctx context.Context, o Options) (aws.Config, error) {
	if o.AWS != nil {
		cfg := o.AWS.Copy()
		if cfg.HTTPClient == nil {
			cfg.HTTPClient = freeze(newHTTPClient())
		}
		return cfg, nil
	}
	cfg, err := config.LoadDefaultConfig(ctx,
		config.WithHTTPClient(newHTTPClient()),
		config.WithLogger(logging.Nop{})) // what matters is in the errors
	if err != nil {
		return aws.Config{}, fmt.Errorf("load the AWS settings: %w (correct the AWS_… variables or ~/.aws/config)", err)
	}
	cfg.HTTPClient = freeze(cfg.HTTPClient)
	return cfg, nil
}

// newRetryer replaces the SDK's, which waits up to 20 seconds and counts the failures of all requests against a common budget: in an
// outage it would refuse to try where Store.Patience wants it to.
func newRetryer() aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = attempts
		o.RateLimiter = ratelimit.None
		o.Backoff = retry.BackoffDelayerFunc(func(attempt int, _ error) (time.Duration, error) {
			return rand.N(firstDelay << (attempt - 1)), nil
		})
	})
}

func newHTTPClient() *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().
		WithDialerOptions(func(d *net.Dialer) { d.Timeout = dialTime }).
		WithTransportOptions(func(t *http.Transport) {
			t.TLSHandshakeTimeout = tlsTime
			t.ResponseHeaderTimeout = answerTime
			t.MaxIdleConns = 2 * idleConnections
			t.MaxIdleConnsPerHost = idleConnections
			t.WriteBufferSize = 64 << 10
			t.ReadBufferSize = 64 << 10
			dial := t.DialContext
			t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := dial(ctx, network, address)
				if err != nil {
					return nil, err
				}
				return stallConn{conn}, nil
			}
		})
}

// freeze keeps the SDK from replacing the timeouts.
func freeze(c aws.HTTPClient) aws.HTTPClient {
	if b, ok := c.(*awshttp.BuildableClient); ok {
		return b.Freeze()
	}
	return c
}

// stallConn fails a write that makes no progress. Without it, a server that vanished holds an upload for as long as the kernel
// repeats its packets, a quarter of an hour. Reads are watched by the reader of the answer: a connection that is being written to
// reads nothing for as long.
type stallConn struct{ net.Conn }

// Write implements net.Conn. One call may bring a whole part, so it is written in pieces.
func (c stallConn) Write(p []byte) (written int, err error) {
	const piece = 256 << 10
	for {
		if err := c.SetWriteDeadline(time.Now().Add(stallTime)); err != nil {
			return written, err
		}
		n, err := c.Conn.Write(p[written:min(len(p), written+piece)])
		written += n
		if err != nil || written == len(p) {
			return written, err
		}
	}
}

// credentials tells errors of the SDK's chain apart from all others.
type credentials struct {
	chain aws.CredentialsProvider
	seen  atomic.Bool
}

// Retrieve implements aws.CredentialsProvider.
func (c *credentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	found, err := c.chain.Retrieve(ctx)
	if err != nil {
		return aws.Credentials{}, &credentialsError{err: err, passing: c.seen.Load()}
	}
	c.seen.Store(true)
	return found, nil
}

// credentialsError says that the SDK's chain found no credentials. It is passing if the chain has found some before: then the
// service that hands them out is out of order, and not the settings wrong.
type credentialsError struct {
	err     error
	passing bool
}

// Error implements error.
func (e *credentialsError) Error() string { return "no AWS credentials: " + e.err.Error() }

// Unwrap gives the SDK's error.
func (e *credentialsError) Unwrap() error { return e.err }
