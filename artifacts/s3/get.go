package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/stepwell-flows/stepwell/artifacts/driver"
)

// Get implements driver.Driver.
func (d *Driver) Get(ctx context.Context, key string, offset int64) (io.ReadCloser, error) {
	if err := begin(ctx, key); err != nil {
		return nil, err
	}
	in := &s3.GetObjectInput{Bucket: &d.bucket, Key: d.key(key)}
	if offset > 0 {
		in.Range = aws.String(fmt.Sprintf("bytes=%d-", offset))
	}
	requestCtx, cancel := context.WithCancelCause(ctx)
	out, err := d.client.GetObject(requestCtx, in)
	if codeOf(err) == "InvalidRange" { // nothing lies beyond offset
		cancel(nil)
		return io.NopCloser(strings.NewReader("")), nil
	}
	if err != nil {
		cancel(nil)
		return nil, d.fail(ctx, "get", key, err)
	}
	d.bucketSeen.Store(true)
	return newReader(ctx, cancel, key, out), nil
}

// reader reads an object. It fails when the server sends nothing for stallTime.
type reader struct {
	ctx    context.Context // the caller's
	cancel context.CancelCauseFunc
	stall  *time.Timer
	key    string
	size   int64
	body   io.ReadCloser
}

func newReader(ctx context.Context, cancel context.CancelCauseFunc, key string, out *s3.GetObjectOutput) *reader {
	r := &reader{ctx: ctx, cancel: cancel, key: key, size: aws.ToInt64(out.ContentLength), body: out.Body}
	r.stall = time.AfterFunc(stallTime, func() { cancel(errStalled) })
	r.stall.Stop()
	return r
}

var errStalled = fmt.Errorf("the server sent nothing for %s", stallTime)

// Size is the number of bytes from the offset to the end.
func (r *reader) Size() int64 { return r.size }

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	r.stall.Reset(stallTime)
	n, err := r.body.Read(p)
	stalled := !r.stall.Stop()
	switch {
	case err == nil, err == io.EOF:
		return n, err
	case r.ctx.Err() != nil:
		return n, fmt.Errorf("get %q: %w", r.key, r.ctx.Err())
	case stalled:
		err = errStalled
	}
	return n, fmt.Errorf("get %q: %w: %w", r.key, driver.ErrUnavailable, err)
}

// Close implements io.Closer.
func (r *reader) Close() error {
	r.stall.Stop()
	r.cancel(nil)
	return r.body.Close()
}

// Stat implements driver.Driver.
func (d *Driver) Stat(ctx context.Context, key string) (driver.Info, error) {
	if err := begin(ctx, key); err != nil {
		return driver.Info{}, err
	}
	out, err := d.head(ctx, d.prefix+key)
	if err != nil {
		return driver.Info{}, d.fail(ctx, "stat", key, err)
	}
	return driver.Info{Key: key, Size: aws.ToInt64(out.ContentLength), Modified: aws.ToTime(out.LastModified)}, nil
}

// head asks for an object by its key in the bucket. The answer to HEAD has no body, so it is the same for a missing object and a
// missing bucket; the first time, the bucket is asked for too.
func (d *Driver) head(ctx context.Context, key string) (*s3.HeadObjectOutput, error) {
	out, err := d.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &d.bucket, Key: &key})
	if err == nil {
		d.bucketSeen.Store(true)
		return out, nil
	}
	if codeOf(err) == "NotFound" && !d.bucketSeen.Load() {
		_, bucketErr := d.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &d.bucket})
		switch {
		case codeOf(bucketErr) == "NotFound":
			return nil, errNoBucket
		case bucketErr == nil:
			d.bucketSeen.Store(true)
		}
	}
	return nil, err
}

var errNoBucket = errors.New("no such bucket")

// Delete implements driver.Driver.
func (d *Driver) Delete(ctx context.Context, key string) error {
	if err := begin(ctx, key); err != nil {
		return err
	}
	_, err := d.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &d.bucket, Key: d.key(key)})
	err = d.fail(ctx, "delete", key, err)
	if errors.Is(err, driver.ErrNotFound) {
		return nil
	}
	return err
}

// List implements driver.Driver. It holds one page of 1,000 objects in memory.
func (d *Driver) List(ctx context.Context, prefix string) iter.Seq2[driver.Info, error] {
	return func(yield func(driver.Info, error) bool) {
		for page, err := range d.pages(ctx, prefix, nil) {
			if err != nil {
				yield(driver.Info{}, err)
				return
			}
			for _, o := range page.Contents {
				key := strings.TrimPrefix(aws.ToString(o.Key), d.prefix)
				if driver.CheckKey(key) != nil {
					continue // not ours: the empty object by which a console marks a folder, for example
				}
				if !yield(driver.Info{Key: key, Size: aws.ToInt64(o.Size), Modified: aws.ToTime(o.LastModified)}, nil) {
					return
				}
			}
		}
	}
}

// Dirs implements driver.Driver.
func (d *Driver) Dirs(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for page, err := range d.pages(ctx, prefix, aws.String("/")) {
			if err != nil {
				yield("", err)
				return
			}
			for _, p := range page.CommonPrefixes {
				name := strings.TrimSuffix(strings.TrimPrefix(aws.ToString(p.Prefix), d.prefix+prefix), "/")
				if driver.CheckKey(name) != nil {
					continue
				}
				if !yield(name, nil) {
					return
				}
			}
		}
	}
}

// pages yields the pages of a listing, and ends with the first error.
func (d *Driver) pages(ctx context.Context, prefix string, delimiter *string) iter.Seq2[*s3.ListObjectsV2Output, error] {
	return func(yield func(*s3.ListObjectsV2Output, error) bool) {
		if err := driver.CheckPrefix(prefix); err != nil {
			yield(nil, fmt.Errorf("list %q: %w", prefix, err))
			return
		}
		pages := s3.NewListObjectsV2Paginator(d.client, &s3.ListObjectsV2Input{Bucket: &d.bucket, Prefix: d.key(prefix), Delimiter: delimiter})
		for pages.HasMorePages() {
			if err := ctx.Err(); err != nil {
				yield(nil, fmt.Errorf("list %q: %w", prefix, err))
				return
			}
			page, err := pages.NextPage(ctx)
			if err != nil {
				yield(nil, d.fail(ctx, "list", prefix, err))
				return
			}
			d.bucketSeen.Store(true)
			if !yield(page, nil) {
				return
			}
		}
	}
}
