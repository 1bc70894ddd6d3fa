package s3

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/stepwell-flows/stepwell/artifacts/driver"
)

// maxObjectKeyBytes is S3's limit for a whole key.
const maxObjectKeyBytes = 1024

// maxPrefixBytes leaves room for the longest key and the slash before it.
const maxPrefixBytes = maxObjectKeyBytes - driver.MaxKeyBytes - 1

// Options say where the bucket is.
type Options struct {
	// Bucket is the name of the bucket, which must exist. It is required.
	Bucket string
	// Prefix is a folder in the bucket that holds all objects. Leading and trailing slashes do not matter. Defaults to none.
	Prefix string
	// Endpoint is the URL of a server other than Amazon's, for example http://127.0.0.1:9000. Defaults to what the SDK's settings
	// say, and otherwise Amazon's.
	Endpoint string
	// Region of the bucket. Defaults to what the SDK's settings say, and with an Endpoint to us-east-1.
	Region string
	// PathStyle puts the bucket into the path of a URL instead of its host name. MinIO wants it. Defaults to false.
	PathStyle bool
	// AWS is the SDK's configuration. Defaults to the SDK's own chain: environment, shared files, roles.
	AWS *aws.Config
}

// Driver is a driver.Driver over a bucket. It is safe for concurrent use, by several processes too. Make one with New.
type Driver struct {
	client   *s3.Client
	bucket   string
	prefix   string // empty, or ends in a slash
	location string
	endpoint string // for messages

	uploads chan struct{} // holds one element for each upload in parts that is under way
	// bucketSeen says that an answer of the server proved that the bucket exists.
	bucketSeen atomic.Bool
}

// New returns a driver for a bucket. It does not talk to the server; see Check.
func New(ctx context.Context, o Options) (*Driver, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	client, err := newClient(ctx, o)
	if err != nil {
		return nil, err
	}
	d := &Driver{
		client:   client,
		bucket:   o.Bucket,
		prefix:   strings.Trim(o.Prefix, "/"),
		location: o.location(),
		endpoint: "Amazon S3 in region " + client.Options().Region,
		uploads:  make(chan struct{}, maxUploads),
	}
	if endpoint := client.Options().BaseEndpoint; endpoint != nil {
		d.endpoint = *endpoint
	}
	if d.prefix != "" {
		d.prefix += "/"
	}
	return d, nil
}

func (o Options) validate() error {
	var errs []error
	if err := checkBucket(o.Bucket); err != nil {
		errs = append(errs, err)
	}
	if prefix := strings.Trim(o.Prefix, "/"); prefix != "" {
		if err := driver.CheckKey(prefix); err != nil {
			errs = append(errs, fmt.Errorf("prefix: %w", err))
		} else if len(prefix) > maxPrefixBytes {
			errs = append(errs, fmt.Errorf("prefix %.40q… of %d bytes is too long (at most %d)", prefix, len(prefix), maxPrefixBytes))
		}
	}
	if err := checkEndpoint(o.Endpoint); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// checkBucket applies S3's rules for names.
func checkBucket(name string) error {
	const rule = "3 to 63 lower-case letters, digits, dots and hyphens, a letter or digit at both ends"
	if name == "" {
		return errors.New("no bucket (write s3://bucket/prefix)")
	}
	legal := func(r rune) bool { return r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' || r == '-' }
	_, notAddress := netip.ParseAddr(name)
	switch {
	case len(name) < 3 || len(name) > 63,
		strings.ContainsFunc(name, func(r rune) bool { return !legal(r) }),
		strings.Trim(name, ".-") != name,
		strings.Contains(name, ".."),
		notAddress == nil:
		return fmt.Errorf("bucket %q is not a name for a bucket (%s)", name, rule)
	}
	return nil
}

func checkEndpoint(endpoint string) error {
	if endpoint == "" {
		return nil
	}
	u, err := url.Parse(endpoint)
	switch {
	case err == nil && u.User != nil:
		// Not quoted: it holds a password.
		return errors.New("the endpoint holds credentials (leave them out; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)")
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "", strings.Trim(u.Path, "/") != "", u.RawQuery != "", u.Fragment != "":
		return fmt.Errorf("endpoint %q is not the URL of a server (write http://host:port or https://host)", endpoint)
	}
	return nil
}

// location is the canonical form of what artifacts.Open was given.
func (o Options) location() string {
	var query []string
	add := func(name, value string) {
		if value != "" {
			query = append(query, name+"="+value)
		}
	}
	add("endpoint", o.Endpoint)
	add("region", o.Region)
	if o.PathStyle {
		add("path_style", "true")
	}
	u := url.URL{Scheme: "s3", Host: o.Bucket, Path: strings.Trim(o.Prefix, "/"), RawQuery: strings.Join(query, "&")}
	return u.String()
}

// String returns the location.
func (d *Driver) String() string { return d.location }

// key is the key in the bucket.
func (d *Driver) key(key string) *string { return aws.String(d.prefix + key) }

func begin(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return driver.CheckKey(key)
}
