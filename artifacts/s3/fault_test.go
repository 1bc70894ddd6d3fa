package s3_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/artifacts/driver"
	"github.com/stepwell-flows/stepwell/artifacts/s3"
)

var ifAbsent = driver.PutOptions{IfAbsent: true}

// network is the way to the server. Its hook sees each request and may answer in the server's place.
type network struct {
	mu   sync.Mutex
	sent []string // method and what the request is about
	hook hook
}

// hook is called with the number of the request. It returns nil to let the request go to the server.
type hook func(n int, r *http.Request) *reply

// reply is what the network gives back in the server's place.
type reply struct {
	response *http.Response
	err      error
}

// forward lets the server answer.
func forward(r *http.Request) *reply {
	response, err := direct.Do(r)
	return &reply{response, err}
}

var direct = &http.Client{}

func (c *network) Do(r *http.Request) (*http.Response, error) {
	c.mu.Lock()
	c.sent = append(c.sent, r.Method+" "+r.URL.RawQuery)
	n := len(c.sent)
	c.mu.Unlock()
	if c.hook != nil {
		if got := c.hook(n, r); got != nil {
			return got.response, got.err
		}
	}
	return direct.Do(r)
}

// count is the number of requests whose method and query contain all of parts.
func (c *network) count(parts ...string) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sent {
		missing := false
		for _, part := range parts {
			missing = missing || !strings.Contains(s, part)
		}
		if !missing {
			n++
		}
	}
	return n
}

// through returns a store in a new bucket behind a network with that hook.
func through(t *testing.T, hook hook) (*s3.Driver, *network, s3.Options) {
	t.Helper()
	o := options(t, server)
	c := &network{hook: hook}
	o.AWS.HTTPClient = c
	return open(t, o), c, o
}

var errBroken = errors.New("connection reset by peer")

// once runs f the first time that a request matches.
func once(method, query string, f func(r *http.Request) *reply) hook {
	var done atomic.Bool
	return func(_ int, r *http.Request) *reply {
		if r.Method == method && strings.Contains(r.URL.RawQuery, query) && done.CompareAndSwap(false, true) {
			return f(r)
		}
		return nil
	}
}

// loseAnswer lets the server do what it is asked, and loses the answer.
func loseAnswer(r *http.Request) *reply {
	got := forward(r)
	if got.err == nil {
		got.response.Body.Close()
		got = &reply{err: errBroken}
	}
	return got
}

func answer(r *http.Request, status int, code string) *reply {
	body := `<?xml version="1.0" encoding="UTF-8"?><Error><Code>` + code + `</Code><Message>because</Message></Error>`
	if r.Method == http.MethodHead {
		body = ""
	}
	return &reply{response: &http.Response{
		StatusCode: status, Status: http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {"application/xml"}}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}}
}

func stream(b []byte) driver.Body {
	return driver.Stream(int64(len(b)), func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil })
}

func content(t *testing.T, d *s3.Driver, key string) []byte {
	t.Helper()
	r, err := d.Get(t.Context(), key, 0)
	require.NoError(t, err)
	defer r.Close()
	b, err := io.ReadAll(r)
	require.NoError(t, err)
	return b
}

// leftUploads counts the unfinished uploads of the bucket.
func leftUploads(t *testing.T, o s3.Options) int {
	t.Helper()
	out, err := server.Client().ListMultipartUploads(t.Context(), &sdk.ListMultipartUploadsInput{Bucket: &o.Bucket, Prefix: aws.String("k")})
	require.NoError(t, err)
	return len(out.Uploads)
}

func TestLostAnswerIsOwnWrite(t *testing.T) {
	t.Parallel()
	d, c, _ := through(t, once(http.MethodPut, "x-id=PutObject", loseAnswer))
	require.NoError(t, d.Put(t.Context(), "k", driver.Bytes([]byte("mine")), ifAbsent))
	require.Equal(t, 2, c.count("PUT"), "the SDK sent it again")
	require.Equal(t, "mine", string(content(t, d, "k")))
	require.ErrorIs(t, d.Put(t.Context(), "k", driver.Bytes([]byte("mine")), ifAbsent), driver.ErrExists)
}

func TestLostRequestIsNoOwnWrite(t *testing.T) {
	t.Parallel()
	var other *s3.Driver
	d, c, o := through(t, once(http.MethodPut, "x-id=PutObject", func(r *http.Request) *reply {
		if err := other.Put(r.Context(), "k", driver.Bytes([]byte("equal")), ifAbsent); err != nil {
			return &reply{err: err}
		}
		return &reply{err: errBroken}
	}))
	o.AWS.HTTPClient = direct
	other = open(t, o)
	require.ErrorIs(t, d.Put(t.Context(), "k", driver.Bytes([]byte("equal")), ifAbsent), driver.ErrExists, "the content is equal, the writer is not")
	require.Equal(t, 2, c.count("PUT"))
}

func TestLostAnswerOfUploadInParts(t *testing.T) {
	t.Parallel()
	big := bytes.Repeat([]byte("0123456789abcdef"), 17<<20/16)
	for name, put := range map[string]driver.PutOptions{"conditional": ifAbsent, "unconditional": {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, c, o := through(t, once(http.MethodPost, "uploadId", loseAnswer))
			require.NoError(t, d.Put(t.Context(), "k", stream(big), put))
			require.Equal(t, 2, c.count("POST", "uploadId"))
			require.Equal(t, 3, c.count("PUT", "partNumber"), "parts of 8 MiB, each sent once")
			require.True(t, bytes.Equal(big, content(t, d, "k")))
			require.Zero(t, leftUploads(t, o))
		})
	}
}

func TestConflictIsTriedAgain(t *testing.T) {
	t.Parallel()
	conflict := func(r *http.Request) *reply {
		return answer(r, http.StatusConflict, "ConditionalRequestConflict")
	}
	d, c, _ := through(t, once(http.MethodPut, "x-id=PutObject", conflict))
	require.NoError(t, d.Put(t.Context(), "k", driver.Bytes([]byte("mine")), ifAbsent))
	require.Equal(t, 2, c.count("PUT"))

	// The other write is there by the time this one looks.
	d, _, o := through(t, nil)
	require.NoError(t, d.Put(t.Context(), "k", driver.Bytes([]byte("other")), ifAbsent))
	o.AWS.HTTPClient = &network{hook: once(http.MethodPut, "x-id=PutObject", conflict)}
	require.ErrorIs(t, open(t, o).Put(t.Context(), "k", driver.Bytes([]byte("mine")), ifAbsent), driver.ErrExists)

	// In parts, the whole upload begins anew.
	d, c, o = through(t, once(http.MethodPost, "uploadId", conflict))
	require.NoError(t, d.Put(t.Context(), "k", stream(make([]byte, 9<<20)), ifAbsent))
	require.Equal(t, 2, c.count("POST", "uploads"))
	require.Zero(t, leftUploads(t, o))

	// A conflict that does not end is unavailability.
	d, c, _ = through(t, func(_ int, r *http.Request) *reply {
		if r.Method == http.MethodPut {
			return conflict(r)
		}
		return nil
	})
	err := d.Put(t.Context(), "k", driver.Bytes([]byte("mine")), ifAbsent)
	require.ErrorIs(t, err, driver.ErrUnavailable)
	require.ErrorContains(t, err, "5 times in a row")
	require.Equal(t, 5, c.count("PUT"))
}

func TestRetriesAreBounded(t *testing.T) {
	t.Parallel()
	for name, failure := range map[string]func(r *http.Request) *reply{
		"SlowDown": func(r *http.Request) *reply { return answer(r, 503, "SlowDown") },
		"500":      func(r *http.Request) *reply { return answer(r, 500, "InternalError") },
		"429":      func(r *http.Request) *reply { return answer(r, 429, "TooManyRequests") },
		"broken":   func(*http.Request) *reply { return &reply{err: errBroken} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			failures := 2
			d, c, _ := through(t, func(n int, r *http.Request) *reply {
				if n <= failures {
					return failure(r)
				}
				return nil
			})
			require.NoError(t, d.Put(t.Context(), "k", driver.Bytes([]byte("x")), driver.PutOptions{}), "two failures are bridged")
			require.Equal(t, 3, c.count("PUT"))

			failures = 1 << 30
			for _, op := range operations {
				before := len(c.sent)
				err := op.run(t.Context(), d)
				require.ErrorIs(t, err, driver.ErrUnavailable, op.name)
				require.Equal(t, 3, len(c.sent)-before, op.name)
			}
		})
	}
}

// operations are all that a driver does.
var operations = []struct {
	name string
	run  func(ctx context.Context, d driver.Driver) error
}{
	{"put", func(ctx context.Context, d driver.Driver) error {
		return d.Put(ctx, "k", driver.Bytes([]byte("x")), driver.PutOptions{})
	}},
	{"create", func(ctx context.Context, d driver.Driver) error {
		return d.Put(ctx, "k2", driver.Bytes([]byte("x")), ifAbsent)
	}},
	{"get", func(ctx context.Context, d driver.Driver) error {
		_, err := d.Get(ctx, "k", 0)
		return err
	}},
	{"stat", func(ctx context.Context, d driver.Driver) error {
		_, err := d.Stat(ctx, "k")
		return err
	}},
	{"list", func(ctx context.Context, d driver.Driver) error {
		for _, err := range d.List(ctx, "") {
			return err
		}
		return nil
	}},
	{"dirs", func(ctx context.Context, d driver.Driver) error {
		for _, err := range d.Dirs(ctx, "") {
			return err
		}
		return nil
	}},
	{"delete", func(ctx context.Context, d driver.Driver) error { return d.Delete(ctx, "k") }},
}

// TestAnswers checks what becomes of answers that MinIO does not give.
func TestAnswers(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		status int
		code   string
		says   string
	}{
		{403, "AccessDenied", "s3:ListBucket"},
		{403, "InvalidAccessKeyId", "correct AWS_ACCESS_KEY_ID"},
		{403, "SignatureDoesNotMatch", "correct AWS_SECRET_ACCESS_KEY"},
		{400, "ExpiredToken", "renew AWS_SESSION_TOKEN"},
		{403, "RequestTimeTooSkewed", "set this machine's clock"},
		{301, "PermanentRedirect", `another region than "us-east-1" (add ?region=…`},
		{400, "AuthorizationHeaderMalformed", "add ?region="},
		{400, "EntityTooLarge", "EntityTooLarge: because (HTTP status 400)"},
		{404, "NoSuchBucket", "does not exist at " + server.Endpoint},
	} {
		t.Run(test.code, func(t *testing.T) {
			t.Parallel()
			d, c, _ := through(t, func(_ int, r *http.Request) *reply { return answer(r, test.status, test.code) })
			for _, op := range operations {
				if op.name == "stat" {
					continue // HEAD has no body that could tell
				}
				before := len(c.sent)
				err := op.run(t.Context(), d)
				require.ErrorContains(t, err, test.says, op.name)
				for _, kind := range []error{driver.ErrUnavailable, driver.ErrNotFound, driver.ErrExists} {
					require.NotErrorIs(t, err, kind, op.name)
				}
				require.Equal(t, 1, len(c.sent)-before, "%s is not worth a second try", op.name)
			}
		})
	}
	// HEAD: the status has to do.
	d, _, _ := through(t, func(_ int, r *http.Request) *reply { return answer(r, 403, "") })
	_, err := d.Stat(t.Context(), "k")
	require.ErrorContains(t, err, "access to bucket")

	d, _, _ = through(t, func(_ int, r *http.Request) *reply {
		got := answer(r, 301, "")
		got.response.Header.Set("X-Amz-Bucket-Region", "eu-central-1")
		return got
	})
	_, err = d.Stat(t.Context(), "k")
	require.ErrorContains(t, err, "add ?region=eu-central-1")
}

func TestMissingBucket(t *testing.T) {
	t.Parallel()
	o := options(t, server)
	o.Bucket = "no-such-bucket"
	d := open(t, o)
	for _, op := range operations {
		err := op.run(t.Context(), d)
		require.ErrorContains(t, err, `bucket "no-such-bucket" does not exist at `+server.Endpoint, op.name)
		require.NotErrorIs(t, err, driver.ErrNotFound, op.name)
		require.NotErrorIs(t, err, driver.ErrUnavailable, op.name)
	}
	err := d.Put(t.Context(), "k", stream(make([]byte, 9<<20)), driver.PutOptions{})
	require.ErrorContains(t, err, "does not exist")

	// A server that does not say the code in a header is asked for the bucket, once.
	hidden := func(_ int, r *http.Request) *reply {
		if r.Method != http.MethodHead {
			return nil
		}
		got := forward(r)
		if got.err == nil {
			got.response.Header.Del("X-Minio-Error-Code")
		}
		return got
	}
	c := &network{hook: hidden}
	o.AWS.HTTPClient = c
	_, err = open(t, o).Stat(t.Context(), "k")
	require.ErrorContains(t, err, "does not exist")
	require.NotErrorIs(t, err, driver.ErrNotFound)
	require.Equal(t, 2, c.count("HEAD"))

	d, c, _ = through(t, hidden)
	for range 3 {
		_, err = d.Stat(t.Context(), "k")
		require.ErrorIs(t, err, driver.ErrNotFound)
	}
	require.Equal(t, 4, c.count("HEAD"), "the bucket is there: it is asked for once")
}

func TestSmallPutIsOneRequest(t *testing.T) {
	t.Parallel()
	d, c, _ := through(t, nil)
	for i, put := range []func() error{
		func() error { return d.Put(t.Context(), "a", driver.Bytes([]byte("x")), driver.PutOptions{}) },
		func() error { return d.Put(t.Context(), "b", driver.Bytes([]byte("x")), ifAbsent) },
		func() error { return d.Put(t.Context(), "c", stream(make([]byte, 1<<20)), ifAbsent) },
		func() error { return d.Put(t.Context(), "d", driver.Bytes(make([]byte, 20<<20)), ifAbsent) },
	} {
		require.NoError(t, put())
		require.Len(t, c.sent, i+1)
	}
	err := d.Put(t.Context(), "a", driver.Bytes([]byte("y")), ifAbsent)
	require.ErrorIs(t, err, driver.ErrExists)
	require.Len(t, c.sent, 5, "a refused put is one request too")
}

// truncated ends in the middle.
type truncated struct {
	io.Reader
	io.Closer
}

func TestBrokenDownloadGoesOn(t *testing.T) {
	t.Parallel()
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<20/16)
	var from []string
	d, _, _ := through(t, func(n int, r *http.Request) *reply {
		if r.Method != http.MethodGet || !strings.Contains(r.URL.RawQuery, "GetObject") {
			return nil
		}
		from = append(from, r.Header.Get("Range"))
		got := forward(r)
		if got.err == nil && len(from) < 4 {
			body := got.response.Body
			got.response.Body = truncated{io.MultiReader(io.LimitReader(body, 200<<10), failing{io.ErrUnexpectedEOF}), body}
		}
		return got
	})
	s := artifacts.New(d, artifacts.Options{Patience: 1 << 40, CacheBytes: -1})
	digest, err := s.PutBlob(t.Context(), noise(1<<20))
	require.NoError(t, err)
	r, err := s.OpenBlob(t.Context(), digest)
	require.NoError(t, err)
	got, err := io.ReadAll(r)
	require.NoError(t, err)
	require.True(t, bytes.Equal(noise(1<<20), got))
	require.Equal(t, []string{"", "bytes=204800-", "bytes=409600-", "bytes=614400-"}, from)

	// The driver alone tells the reader.
	from = nil
	require.NoError(t, d.Put(t.Context(), "k", driver.Bytes(big), driver.PutOptions{}))
	body, err := d.Get(t.Context(), "k", 0)
	require.NoError(t, err)
	got, err = io.ReadAll(body)
	require.ErrorIs(t, err, driver.ErrUnavailable)
	require.Len(t, got, 200<<10)
	require.NoError(t, body.Close())
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestFailedUploadsLeaveNothing(t *testing.T) {
	t.Parallel()
	d, _, o := through(t, nil)
	big := make([]byte, 20<<20)
	short := driver.Stream(21<<20, stream(big).Open)
	require.ErrorContains(t, d.Put(t.Context(), "k", short, driver.PutOptions{}), "the content has 20971520 bytes instead of 22020096")
	long := driver.Stream(19<<20, stream(big).Open)
	require.ErrorContains(t, d.Put(t.Context(), "k", long, driver.PutOptions{}), "instead of 19922944")
	require.ErrorContains(t, d.Put(t.Context(), "k", driver.Stream(10, stream([]byte("9 bytes..")).Open), driver.PutOptions{}), "9 bytes instead of 10")

	broken := driver.Stream(-1, func() (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(bytes.NewReader(big), failing{errBroken})), nil
	})
	err := d.Put(t.Context(), "k", broken, driver.PutOptions{})
	require.ErrorIs(t, err, errBroken)
	require.NotErrorIs(t, err, driver.ErrUnavailable)

	// Somebody else is faster by the time the parts are there.
	slow := driver.Stream(int64(len(big)), func() (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(bytes.NewReader(big), atEnd(func() {
			_ = d.Put(t.Context(), "k", driver.Bytes([]byte("faster")), ifAbsent)
		}))), nil
	})
	require.ErrorIs(t, d.Put(t.Context(), "k", slow, ifAbsent), driver.ErrExists)
	require.Equal(t, "faster", string(content(t, d, "k")))
	require.Zero(t, leftUploads(t, o))
}

// atEnd is an empty reader that is called when it is read.
type atEnd func()

func (h atEnd) Read([]byte) (int, error) {
	h()
	return 0, io.EOF
}

// TestDamageOnTheWayIsNoticed flips a bit of what is sent: once in a whole object, and once in a part.
func TestDamageOnTheWayIsNoticed(t *testing.T) {
	t.Parallel()
	damage := func(r *http.Request) *reply {
		body, err := io.ReadAll(r.Body)
		if err == nil && r.Header.Get("X-Amz-Checksum-Crc32") == "" {
			err = errors.New("no checksum")
		}
		if err != nil {
			return &reply{err: err}
		}
		body[len(body)/2] ^= 1
		r.Body = io.NopCloser(bytes.NewReader(body))
		return forward(r)
	}
	for name, test := range map[string]struct {
		query string
		body  driver.Body
	}{
		"whole": {"x-id=PutObject", driver.Bytes(noise(5000))},
		"part":  {"partNumber=2", stream(noise(20 << 20))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, _, o := through(t, once(http.MethodPut, test.query, damage))
			require.ErrorIs(t, d.Put(t.Context(), "k", test.body, ifAbsent), driver.ErrUnavailable, "sending it again may help")
			_, err := d.Stat(t.Context(), "k")
			require.ErrorIs(t, err, driver.ErrNotFound)
			require.Zero(t, leftUploads(t, o))
			require.NoError(t, d.Put(t.Context(), "k", test.body, ifAbsent), "and does")
			require.True(t, bytes.Equal(noise(int(test.body.Size())), content(t, d, "k")))
		})
	}
}
