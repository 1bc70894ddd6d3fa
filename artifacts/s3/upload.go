package s3

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/stepwell-flows/stepwell/artifacts/driver"
)

// The memory of uploads in parts is bounded by maxUploads × (partsAtOnce + 2) parts: those that are being sent, one that is being
// read, and the first, which is read before the others.
const (
	// partBytes is the size of a part. An object of more than 10,000 parts of this size gets larger ones.
	partBytes = 8 << 20
	// streamPartBytes is the size of a part of a stream whose size is not known, so that 10,000 of them hold 156 GiB.
	streamPartBytes = 16 << 20
	// partsAtOnce is how many parts of one upload are sent at the same time.
	partsAtOnce = 4
	// maxUploads is how many uploads in parts go on at the same time.
	maxUploads = 4
	// abortTime bounds the removal of the parts of a failed upload.
	abortTime = 5 * time.Second
)

// upload puts the object in parts, or in one request if it turns out to be small.
func (w *write) upload(ctx context.Context, body driver.Body) error {
	select {
	case w.d.uploads <- struct{}{}:
		defer func() { <-w.d.uploads }()
	case <-ctx.Done():
		return ctx.Err()
	}
	in, err := openSource(ctx, body)
	if err != nil {
		return err
	}
	defer in.r.Close()
	client := &uploader{Client: w.d.client, w: w}
	size := &in.size
	if in.size < 0 {
		size = nil
	}
	_, err = transfermanager.New(client).UploadObject(ctx, &transfermanager.UploadObjectInput{
		Bucket:        &w.d.bucket,
		Key:           &w.key,
		Body:          in,
		ContentLength: size,
		IfNoneMatch:   w.condition(),
		Metadata:      w.metadata(true),
	}, func(o *transfermanager.Options) {
		o.PartSizeBytes = partBytes
		if size == nil {
			o.PartSizeBytes = streamPartBytes
		}
		o.MultipartUploadThreshold = o.PartSizeBytes
		o.Concurrency = partsAtOnce
		o.FailTimeout = abortTime
		// The manager does not ask the client, which has what the SDK's settings say.
		o.RequestChecksumCalculation = w.d.client.Options().RequestChecksumCalculation
	})
	switch {
	case in.err != nil:
		return in.err // the source's, not the store's
	case client.err != nil:
		return client.err
	}
	return err
}

// uploader is the SDK's client with an eye on the two requests that make an object.
type uploader struct {
	*s3.Client
	w *write
	// err is how the completion failed.
	err error
}

// PutObject counts the requests.
func (u *uploader) PutObject(ctx context.Context, in *s3.PutObjectInput, o ...func(*s3.Options)) (*s3.PutObjectOutput, error) {
	return u.Client.PutObject(ctx, in, append(o, u.w.counted)...)
}

// CompleteMultipartUpload counts the requests and keeps the error to itself: the transfer manager would print it with package log,
// although that another writer was faster is nothing to tell a user.
func (u *uploader) CompleteMultipartUpload(ctx context.Context, in *s3.CompleteMultipartUploadInput, o ...func(*s3.Options)) (*s3.CompleteMultipartUploadOutput, error) {
	out, err := u.Client.CompleteMultipartUpload(ctx, in, append(o, u.w.counted)...)
	if err == nil {
		return out, nil
	}
	u.err = err
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTime)
	defer cancel()
	// If this fails too, the parts stay until the bucket's lifecycle rule removes them.
	_, _ = u.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: in.Bucket, Key: in.Key, UploadId: in.UploadId})
	return &s3.CompleteMultipartUploadOutput{}, nil
}

// source is the content that is being uploaded. It keeps its own errors apart from the store's, and ends with the context.
type source struct {
	ctx  context.Context
	r    io.ReadCloser
	size int64 // -1 if it is not known
	read int64
	err  error
}

func openSource(ctx context.Context, body driver.Body) (*source, error) {
	if content, ok := body.Data(); ok {
		return &source{ctx: ctx, r: io.NopCloser(bytes.NewReader(content)), size: body.Size()}, nil
	}
	r, err := body.Open()
	if err != nil {
		return nil, &sourceError{err}
	}
	return &source{ctx: ctx, r: r, size: body.Size()}, nil
}

// Read implements io.Reader. A stream of another size than was announced is an error, not a different object.
func (s *source) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := s.r.Read(p)
	s.read += int64(n)
	if s.size >= 0 && (s.read > s.size || errors.Is(err, io.EOF) && s.read != s.size) {
		err = sizeError(s.read, s.size)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = &sourceError{err}
	}
	return n, err
}

// sourceError says that the content could not be read, which says nothing about the store.
type sourceError struct{ err error }

// Error implements error.
func (e *sourceError) Error() string { return e.err.Error() }

// Unwrap gives the reader's error.
func (e *sourceError) Unwrap() error { return e.err }
