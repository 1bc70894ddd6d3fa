package artifacts

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"

	"github.com/stepwell-flows/stepwell/artifacts/driver"
)

const (
	// wholeBytes is the size up to which a file is read into memory at once.
	wholeBytes = 4 << 20
	// copyBytes is the buffer for streaming.
	copyBytes = 1 << 20
	// Samples of a file decide whether it is worth compressing.
	samples     = 8
	sampleBytes = 64 << 10
)

// PutFile stores the content of the file at path without holding it in memory, and returns its digest and size. The file must not
// change meanwhile.
func (s *Store) PutFile(ctx context.Context, path string) (Digest, int64, error) {
	d, size, err := s.putFile(ctx, path)
	if err != nil {
		return Digest{}, 0, s.fail(fmt.Sprintf("store file %q", path), err)
	}
	return d, size, nil
}

func (s *Store) putFile(ctx context.Context, path string) (Digest, int64, error) {
	before, err := os.Stat(path)
	if err != nil {
		return Digest{}, 0, err
	}
	if !before.Mode().IsRegular() {
		return Digest{}, 0, errors.New("not a regular file (a folder must be packed into one file first)")
	}
	if before.Size() <= wholeBytes {
		content, err := os.ReadFile(path)
		if err != nil {
			return Digest{}, 0, err
		}
		d := Sum(content)
		return d, int64(len(content)), s.putBlob(ctx, d, content)
	}
	d, framed, err := scan(ctx, path, before.Size())
	if err != nil {
		return Digest{}, 0, err
	}
	if there, err := s.hasBlob(ctx, d); there || err != nil {
		return d, before.Size(), err
	}
	body := driver.Stream(before.Size(), func() (io.ReadCloser, error) { return os.Open(path) })
	if framed {
		body = driver.Stream(-1, func() (io.ReadCloser, error) { return openFramed(path) })
	}
	err = s.try(ctx, func() error { return s.driver.Put(ctx, d.key(), body, driver.PutOptions{}) })
	if err != nil {
		return Digest{}, 0, err
	}
	after, err := os.Stat(path)
	if err != nil || after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) {
		err = errors.Join(errors.New("the file changed while it was stored (finish writing it before the step returns)"), err)
		// What was stored may not be what was hashed.
		return Digest{}, 0, errors.Join(err, s.try(ctx, func() error { return s.driver.Delete(ctx, d.key()) }))
	}
	return d, before.Size(), nil
}

// scan hashes the file and says whether its object should be framed.
func scan(ctx context.Context, path string, size int64) (d Digest, framed bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return Digest{}, false, err
	}
	defer f.Close()
	if framed, err = worthFraming(f, size); err != nil {
		return Digest{}, false, err
	}
	h := sha256.New()
	n, err := io.CopyBuffer(onlyWriter{h}, contextReader{ctx, f}, make([]byte, copyBytes))
	if err == nil && n != size {
		err = fmt.Errorf("read %d bytes of %d (finish writing the file before the step returns)", n, size)
	}
	return digestOf(h), framed, err
}

func digestOf(h hash.Hash) Digest {
	d := Digest{algorithm: sha256Algorithm}
	h.Sum(d.sum[:0])
	return d
}

// worthFraming compresses samples from all over the file.
func worthFraming(f io.ReaderAt, size int64) (bool, error) {
	b := make([]byte, sampleBytes)
	var raw, framed int64
	for i := range int64(samples) {
		n, err := f.ReadAt(b, (size-sampleBytes)/(samples-1)*i)
		if err != nil && err != io.EOF {
			return false, err
		}
		if i == 0 && looksFramed(b[:n]) {
			return true, nil
		}
		raw += int64(n)
		framed += int64(len(blockEncoder().EncodeAll(b[:n], nil)))
	}
	return saves(framed, raw), nil
}

// openFramed returns the file as one zstd frame.
func openFramed(path string) (io.ReadCloser, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	r, w := io.Pipe()
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false), zstd.WithEncoderConcurrency(2))
	if err != nil {
		f.Close()
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer f.Close()
		_, err := io.CopyBuffer(onlyWriter{z}, onlyReader{f}, make([]byte, copyBytes))
		if closeErr := z.Close(); err == nil {
			err = closeErr
		}
		w.CloseWithError(err)
	}()
	return &pipe{r, done}, nil
}

type pipe struct {
	*io.PipeReader
	done chan struct{}
}

func (p *pipe) Close() error {
	err := p.PipeReader.Close()
	<-p.done
	return err
}

// onlyWriter and onlyReader hide the faster ways that would go around the buffer of io.CopyBuffer.
type (
	onlyWriter struct{ io.Writer }
	onlyReader struct{ io.Reader }
)

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// OpenBlob streams the content with digest d. The reader verifies it: only io.EOF says that all of it was read and right; ErrCorrupt
// comes in its place otherwise. The caller closes it.
func (s *Store) OpenBlob(ctx context.Context, d Digest) (io.ReadCloser, error) {
	if d.IsZero() {
		return nil, s.fail("load blob", errors.New("zero digest (the artifact was never stored)"))
	}
	r := &resuming{s: s, ctx: ctx, key: d.key()}
	if err := s.try(ctx, r.open); err != nil {
		return nil, s.fail("load blob", err)
	}
	return &verifying{s: s, ctx: ctx, d: d, raw: r, hash: sha256.New()}, nil
}

// resuming reads one object, and goes on where it stopped when the store was unavailable in between. Its patience begins anew with
// every byte that came.
type resuming struct {
	s      *Store
	ctx    context.Context
	key    string
	offset int64
	r      io.ReadCloser // nil after the store was unavailable
	err    error         // of the last Read, unless the next one may go on
}

func (r *resuming) open() error {
	body, err := r.s.driver.Get(r.ctx, r.key, r.offset)
	if err == nil {
		r.r = body // not otherwise: a nil of another type is not nil
	}
	return err
}

func (r *resuming) Read(p []byte) (n int, err error) {
	if r.err != nil {
		return 0, r.err
	}
	err = r.s.try(r.ctx, func() error {
		if r.r == nil {
			if err := r.open(); err != nil {
				return err
			}
		}
		n, err = r.r.Read(p)
		r.offset += int64(n)
		if !errors.Is(err, ErrUnavailable) || r.s.o.Patience <= 0 {
			return err
		}
		r.r.Close()
		r.r = nil
		if n > 0 {
			return nil
		}
		return err
	})
	r.err = err
	return n, err
}

func (r *resuming) Close() error {
	if r.r == nil {
		return nil
	}
	return r.r.Close()
}

// verifying decodes an object and compares the digest of the content when it ends.
type verifying struct {
	s    *Store
	ctx  context.Context
	d    Digest
	raw  *resuming
	body io.ReadCloser // nil until the first Read
	hash hash.Hash
	err  error
}

func (v *verifying) Read(p []byte) (n int, err error) {
	if v.err != nil {
		return 0, v.err
	}
	if v.body == nil {
		if v.body, err = unpackReader(v.raw); err != nil {
			v.body, v.err = nil, v.end(err)
			return 0, v.err
		}
	}
	n, err = v.body.Read(p)
	v.hash.Write(p[:n])
	if err != nil {
		v.err = v.end(err)
	}
	return n, v.err
}

// end turns the error that ended the content into the one for the reader.
func (v *verifying) end(err error) error {
	if v.raw.err != nil && v.raw.err != io.EOF {
		return v.s.fail("load blob", v.raw.err)
	}
	reason := damaged(err)
	if err == io.EOF {
		got := digestOf(v.hash)
		if got == v.d {
			return io.EOF
		}
		reason = mismatch(got, v.d)
	}
	return v.s.fail("load blob", v.s.confirm(v.ctx, v.d, reason))
}

func (v *verifying) Close() error {
	if v.body != nil {
		v.body.Close()
	}
	return v.raw.Close()
}

// confirm reads a blob that a stream found damaged once more, moves it away if it is, and returns the *CorruptError.
func (s *Store) confirm(ctx context.Context, d Digest, reason error) error {
	corrupt := &CorruptError{Digest: d, Key: d.key(), Store: s.String(), Reason: reason.Error()}
	before, err := s.stat(ctx, d)
	if err != nil {
		return corrupt
	}
	raw := &resuming{s: s, ctx: ctx, key: d.key()}
	if s.try(ctx, raw.open) != nil {
		return corrupt
	}
	defer func() { _ = raw.Close() }()
	h := sha256.New()
	body, err := unpackReader(raw)
	if err == nil {
		_, err = io.CopyBuffer(onlyWriter{h}, body, make([]byte, copyBytes))
		body.Close()
	}
	switch {
	case raw.err != nil && raw.err != io.EOF:
		return corrupt
	case err == nil && digestOf(h) == d:
		corrupt.Reason += "; a second read found it undamaged, so the content was damaged on its way: read it again"
		return corrupt
	}
	return s.quarantine(ctx, d, before, reason)
}
