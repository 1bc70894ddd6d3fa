package artifacts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/stepwell-flows/stepwell/artifacts/driver"
)

const (
	// statBytes is the size from which asking whether a blob is there is cheaper than sending it again.
	statBytes = 16 << 10
	// maxVerifyBytes is the size up to which VerifyBlob reads the content.
	maxVerifyBytes = 8 << 20
)

// PutBlob stores content and returns its digest. Content that is there already is not written again.
func (s *Store) PutBlob(ctx context.Context, content []byte) (Digest, error) {
	d := Sum(content)
	if err := s.keep(ctx, d, content); err != nil {
		return Digest{}, s.fail("store blob", err)
	}
	return d, nil
}

func (s *Store) putBlob(ctx context.Context, d Digest, content []byte) error {
	if len(content) >= statBytes {
		if there, err := s.hasBlob(ctx, d); there || err != nil {
			return err
		}
	}
	object := driver.Bytes(pack(content))
	err := s.try(ctx, func() error {
		return s.driver.Put(ctx, d.key(), object, driver.PutOptions{IfAbsent: true})
	})
	if errors.Is(err, ErrExists) {
		return nil
	}
	return err
}

// keep stores the content with digest d, and holds it in the cache for the next task.
func (s *Store) keep(ctx context.Context, d Digest, content []byte) error {
	if err := s.putBlob(ctx, d, content); err != nil {
		return err
	}
	s.cache.put(d, content, true)
	return nil
}

// adopt copies the blob d from another store, as it is stored there, unless this store has it. Whoever reads it verifies it.
func (s *Store) adopt(ctx context.Context, from *Store, d Digest) error {
	if there, err := s.hasBlob(ctx, d); there || err != nil {
		return err
	}
	object := driver.Stream(-1, func() (io.ReadCloser, error) { return from.driver.Get(ctx, d.key(), 0) })
	return s.try(ctx, func() error { return s.driver.Put(ctx, d.key(), object, driver.PutOptions{}) })
}

func (s *Store) hasBlob(ctx context.Context, d Digest) (bool, error) {
	err := s.try(ctx, func() error {
		_, err := s.driver.Stat(ctx, d.key())
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// GetBlob returns the content with digest d, verified. The slice may be shared with other callers: it must not be changed.
// It returns ErrNotFound if the store does not have it and ErrCorrupt if what it has is damaged.
func (s *Store) GetBlob(ctx context.Context, d Digest) ([]byte, error) {
	return s.loadBlob(ctx, d, maxDecodedBytes)
}

// loadBlob is GetBlob for content of at most limit bytes.
func (s *Store) loadBlob(ctx context.Context, d Digest, limit int64) ([]byte, error) {
	if content, ok := s.cache.get(d); ok {
		return content, nil
	}
	content, err := s.getBlob(ctx, d, limit)
	if err != nil {
		return nil, s.fail("load blob", err)
	}
	s.cache.put(d, content, false)
	return content, nil
}

func (s *Store) getBlob(ctx context.Context, d Digest, limit int64) ([]byte, error) {
	if d.IsZero() {
		return nil, errors.New("zero digest (the artifact was never stored)")
	}
	object, err := s.read(ctx, d.key())
	if err != nil {
		return nil, err
	}
	content, reason := open(object, d, limit)
	if reason == nil {
		return content, nil
	}
	// The damage may have happened on the way: read again before believing it.
	before, err := s.stat(ctx, d)
	if err != nil {
		return nil, err
	}
	if object, err = s.read(ctx, d.key()); err != nil {
		return nil, err
	}
	if content, reason = open(object, d, limit); reason == nil {
		return content, nil
	}
	if errors.Is(reason, errLonger) { // it may be undamaged all the same, and the limit wrong
		return nil, s.confirm(ctx, d, reason)
	}
	return nil, s.quarantine(ctx, d, before, reason)
}

// open returns the content of an object, or the reason why it is not what d says.
func open(object []byte, d Digest, limit int64) ([]byte, error) {
	content, err := unpack(object, limit)
	if err != nil {
		return nil, err
	}
	if got := Sum(content); got != d {
		return nil, mismatch(got, d)
	}
	return content, nil
}

func mismatch(got, want Digest) error {
	return fmt.Errorf("its content has digest %s, not %s", got, want)
}

func (s *Store) stat(ctx context.Context, d Digest) (info Info, err error) {
	err = s.try(ctx, func() error {
		info, err = s.driver.Stat(ctx, d.key())
		return err
	})
	return info, err
}

// quarantine moves the damaged object of d, which was as before describes it when it was read, out of the way, so that writing the
// content again heals the store. It returns the *CorruptError.
func (s *Store) quarantine(ctx context.Context, d Digest, before Info, reason error) error {
	s.cache.drop(d)
	corrupt := &CorruptError{Digest: d, Key: d.key(), Store: s.String(), Reason: reason.Error()}
	to := "corrupt/" + d.key()
	err := s.try(ctx, func() error {
		return s.driver.Put(ctx, to, driver.Stream(before.Size, func() (io.ReadCloser, error) {
			return s.driver.Get(ctx, d.key(), 0)
		}), driver.PutOptions{})
	})
	if err != nil {
		return errors.Join(corrupt, fmt.Errorf("move the damaged object to %q: %w", to, err))
	}
	if now, err := s.stat(ctx, d); err != nil || now.Size != before.Size || !now.Modified.Equal(before.Modified) {
		return corrupt // another process has dealt with it
	}
	if err := s.try(ctx, func() error { return s.driver.Delete(ctx, d.key()) }); err != nil {
		return errors.Join(corrupt, fmt.Errorf("remove the damaged object: %w", err))
	}
	corrupt.Quarantine = to
	return corrupt
}

// VerifyBlob returns nil if the blob is there and, up to 8 MiB of content, undamaged. Of a larger one it checks the presence only.
// Size is the size of the content, from its Entry, or negative if it is not known: then the content is always read.
func (s *Store) VerifyBlob(ctx context.Context, d Digest, size int64) error {
	if size > maxVerifyBytes {
		_, err := s.stat(ctx, d)
		return s.fail("verify blob", err)
	}
	// Not by the cache: the question is whether the store has it.
	limit := int64(maxVerifyBytes)
	if size < 0 {
		limit = maxDecodedBytes
	}
	content, err := s.getBlob(ctx, d, limit)
	if err == nil && size >= 0 && int64(len(content)) != size {
		err = fmt.Errorf("blob %s has %d bytes, its entry says %d", d, len(content), size)
	}
	return s.fail("verify blob", err)
}

// Content returns the encoded content of an artifact, from the entry itself or from its blob, verified. The slice must not be changed.
func (s *Store) Content(ctx context.Context, e Entry) ([]byte, error) {
	if e.remote() {
		return s.loadBlob(ctx, e.Digest, e.Size)
	}
	if got := Sum(e.Inline); got != e.Digest {
		return nil, &CorruptError{Digest: e.Digest, Reason: mismatch(got, e.Digest).Error()}
	}
	return bytes.Clone(e.Inline), nil
}
