package s3

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/stepwell-flows/stepwell/artifacts/driver"
)

const (
	// wholeBytes is the size up to which a body in memory is sent in one request. One request needs no copy of it.
	wholeBytes = 32 << 20
	// conflicts is how often a conditional put is sent again because another write of the key was under way.
	conflicts = 5
	// markerName is the metadata that tells whose write an object is.
	markerName = "stepwell-write"
)

// Put implements driver.Driver.
func (d *Driver) Put(ctx context.Context, key string, body driver.Body, o driver.PutOptions) error {
	if err := begin(ctx, key); err != nil {
		return err
	}
	content, whole, err := inMemory(body)
	if err != nil {
		return fmt.Errorf("put %q: %w", key, err)
	}
	if o.IfAbsent && !whole {
		// Saves sending what the server would refuse; the server decides.
		if _, err := d.Stat(ctx, key); err == nil {
			return fmt.Errorf("put %q: %w", key, driver.ErrExists)
		}
	}
	for conflict := 1; ; conflict++ {
		w := &write{d: d, key: d.prefix + key, ifAbsent: o.IfAbsent, marker: rand.Text()}
		if whole {
			err = w.send(ctx, content)
		} else {
			err = w.upload(ctx, body)
		}
		if err = w.judge(ctx, err); !errors.Is(err, errConflict) || conflict == conflicts {
			break
		}
		if err = pause(ctx, 20*time.Millisecond<<conflict); err != nil {
			break
		}
	}
	if err == nil {
		d.bucketSeen.Store(true)
	}
	return d.fail(ctx, "put", key, err)
}

// inMemory returns the body if it is to be sent in one request.
func inMemory(body driver.Body) (content []byte, whole bool, err error) {
	if content, ok := body.Data(); ok {
		return content, len(content) <= wholeBytes, nil
	}
	if body.Size() < 0 || body.Size() >= partBytes {
		return nil, false, nil
	}
	r, err := body.Open()
	if err != nil {
		return nil, false, err
	}
	defer r.Close()
	content = make([]byte, body.Size())
	n, err := io.ReadFull(r, content)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, false, sizeError(int64(n), body.Size())
	}
	return content, true, err
}

func sizeError(got, want int64) error {
	return fmt.Errorf("the content has %d bytes instead of %d (it must not change while it is stored)", got, want)
}

// write is one try to put an object.
type write struct {
	d        *Driver
	key      string
	ifAbsent bool
	// marker is stored with the object. When an answer was lost, it tells this write from somebody else's.
	marker string
	// requests counts the requests that could have made the object.
	requests int
}

// condition is the value of If-None-Match.
func (w *write) condition() *string {
	if w.ifAbsent {
		return aws.String("*")
	}
	return nil
}

// metadata carries the marker. An unconditional put in one request is simply repeated, and needs none.
func (w *write) metadata(parts bool) map[string]string {
	if w.ifAbsent || parts {
		return map[string]string{markerName: w.marker}
	}
	return nil
}

// counted counts the requests of one call, those that the SDK repeats too.
func (w *write) counted(o *s3.Options) { o.HTTPClient = counter{o.HTTPClient, &w.requests} }

type counter struct {
	s3.HTTPClient
	n *int
}

// Do implements s3.HTTPClient.
func (c counter) Do(r *http.Request) (*http.Response, error) {
	*c.n++
	return c.HTTPClient.Do(r)
}

// send puts the object in one request.
func (w *write) send(ctx context.Context, content []byte) error {
	_, err := w.d.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket:      &w.d.bucket,
		Key:         &w.key,
		Body:        bytes.NewReader(content),
		IfNoneMatch: w.condition(),
		Metadata:    w.metadata(false),
	}, w.counted)
	return err
}

// errConflict says that another write of the key was under way and the put may be sent again.
var errConflict = errors.New("another write of the same key was under way")

// judge turns what the server answered last into what became of the write. After a lost answer the server may refuse the repeated
// request because of the first one: an object with this write's marker is a success.
func (w *write) judge(ctx context.Context, err error) error {
	code := codeOf(err)
	refused := code == "PreconditionFailed"
	conflict := code == "ConditionalRequestConflict"
	gone := code == "NoSuchUpload" // completed or aborted
	if !refused && !conflict && !gone {
		return err
	}
	if refused && w.requests <= 1 {
		return driver.ErrExists
	}
	there, headErr := w.d.head(ctx, w.key)
	switch {
	case headErr == nil && there.Metadata[markerName] == w.marker:
		return nil
	case headErr == nil && w.ifAbsent:
		return driver.ErrExists
	case headErr == nil || codeOf(headErr) == "NotFound":
		// Whatever was in the way is gone.
		return fmt.Errorf("%w: %w", errConflict, err)
	}
	return headErr
}

// pause waits for a random time up to d.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(mathrand.N(d)):
		return nil
	}
}
