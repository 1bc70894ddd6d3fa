package artifacts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"time"

	"github.com/stepwell-flows/stepwell/artifacts/driver"
)

// Store keeps blobs, found by the digest of their content, and documents, found by a key. It is safe for concurrent use by any
// number of goroutines and processes. Open or New makes one.
type Store struct {
	driver driver.Driver
	o      Options
	cache  *cache
	// location is what Open was given, in full. It is empty for what only this process can reach.
	location string
}

// Options says how a Store behaves. The zero value is ready for use.
type Options struct {
	// Patience is how long an operation is tried again while the store is unavailable. Defaults to 0: not beyond the driver's own
	// retries, which take a few seconds. The context of the operation ends it earlier.
	Patience time.Duration
	// CacheBytes bounds the memory for recently used blobs. Defaults to 64 MiB; negative means no cache.
	CacheBytes int64
	// Observe is told of every call of the driver, by many goroutines. Defaults to nil: nobody is.
	Observe func(Call)
}

func (o Options) withDefaults() Options {
	if o.CacheBytes == 0 {
		o.CacheBytes = 64 << 20
	}
	return o
}

// Info describes one object of a store.
type Info = driver.Info

// New returns a Store over d.
func New(d driver.Driver, o Options) *Store {
	o = o.withDefaults()
	if o.Observe != nil {
		d = observed{d, o.Observe}
	}
	return &Store{driver: d, o: o, cache: newCache(o.CacheBytes)}
}

// String returns the location, without secrets.
func (s *Store) String() string { return s.driver.String() }

// Location says how another process on this machine opens the store, with Open and the same options. Ok is false for a store in
// memory and for one that was made with New.
func (s *Store) Location() (location string, o Options, ok bool) {
	return s.location, s.o, s.location != ""
}

// CreateDoc stores a new document, atomically. It returns ErrExists if the key has one.
func (s *Store) CreateDoc(ctx context.Context, key string, b []byte) error {
	attempts := 0
	err := s.try(ctx, func() error {
		attempts++
		return s.driver.Put(ctx, key, driver.Bytes(b), driver.PutOptions{IfAbsent: true})
	})
	if attempts > 1 && errors.Is(err, ErrExists) {
		// An earlier try may have stored it although its answer was lost.
		if there, readErr := s.GetDoc(ctx, key); readErr == nil && string(there) == string(b) {
			return nil
		}
	}
	return s.fail("create", err)
}

// PutDoc stores a document, atomically, in place of the one that may be there.
func (s *Store) PutDoc(ctx context.Context, key string, b []byte) error {
	return s.fail("store", s.try(ctx, func() error {
		return s.driver.Put(ctx, key, driver.Bytes(b), driver.PutOptions{})
	}))
}

// GetDoc returns a document, or ErrNotFound.
func (s *Store) GetDoc(ctx context.Context, key string) ([]byte, error) {
	b, err := s.read(ctx, key)
	return b, s.fail("load", err)
}

// GetDocAs returns the document that has that digest. This process may know it already, from KeepDoc or an earlier call; the
// caller must not change it. A document with another content is ErrCorrupt.
func (s *Store) GetDocAs(ctx context.Context, key string, d Digest) ([]byte, error) {
	if b, ok := s.cache.get(d); ok {
		return b, nil
	}
	b, err := s.GetDoc(ctx, key)
	if err != nil {
		return nil, err
	}
	if got := Sum(b); got != d {
		return nil, &CorruptError{Digest: d, Key: key, Store: s.String(), Reason: mismatch(got, d).Error()}
	}
	s.cache.put(d, b, false)
	return b, nil
}

// KeepDoc returns the digest of a document that was just written, and keeps its content for GetDocAs.
func (s *Store) KeepDoc(b []byte) Digest {
	d := Sum(b)
	s.cache.put(d, b, false)
	return d
}

// DeleteDoc removes a document. One that is not there is not an error.
func (s *Store) DeleteDoc(ctx context.Context, key string) error {
	return s.fail("delete", s.try(ctx, func() error { return s.driver.Delete(ctx, key) }))
}

// read returns the stored bytes of one object.
func (s *Store) read(ctx context.Context, key string) (content []byte, err error) {
	err = s.try(ctx, func() error {
		r, err := s.driver.Get(ctx, key, 0)
		if err != nil {
			return err
		}
		defer r.Close()
		content, err = readAll(r)
		return err
	})
	return content, err
}

// readAll is io.ReadAll, sized right at once when the reader can tell its length.
func readAll(r io.Reader) ([]byte, error) {
	n := int64(512)
	if sized, ok := r.(interface{ Size() int64 }); ok && sized.Size() >= 0 {
		n = sized.Size()
	}
	b := make([]byte, 0, n+1)
	for {
		read, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+read]
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return nil, err
		}
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
	}
}

// List yields the objects whose key begins with prefix, in ascending byte order of their keys. After an error it ends.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[Info, error] {
	return patient(s, ctx, func() iter.Seq2[Info, error] { return s.driver.List(ctx, prefix) }, func(i Info) string { return i.Key })
}

// Dirs yields the names directly below prefix that have objects below them, in ascending byte order, without a slash. The prefix
// is empty or ends in a slash. After an error it ends.
func (s *Store) Dirs(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return patient(s, ctx, func() iter.Seq2[string, error] { return s.driver.Dirs(ctx, prefix) }, func(name string) string { return name + "/" })
}

// patient yields what list yields, in the order of key. When the store was unavailable it lists again and goes on behind the last key.
func patient[T any](s *Store, ctx context.Context, list func() iter.Seq2[T, error], key func(T) string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		last, began := "", false
		for again := true; again; {
			again = false
			err := s.try(ctx, func() error {
				for v, err := range list() {
					switch {
					case err != nil && again && errors.Is(err, ErrUnavailable) && s.o.Patience > 0:
						return nil // it went on for a while, so patience begins anew
					case err != nil:
						return err
					case began && key(v) <= last:
						continue
					}
					last, began, again = key(v), true, true
					if !yield(v, nil) {
						again = false
						return nil
					}
				}
				again = false
				return nil
			})
			if err != nil {
				var zero T
				yield(zero, s.fail("list", err))
				return
			}
		}
	}
}

// fail says what the store did not do, and which store.
func (s *Store) fail(op string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s in store %q: %w", op, s.String(), err)
}

// try calls f until it succeeds, fails for another reason than that the store is unavailable, or Patience is spent.
func (s *Store) try(ctx context.Context, f func() error) error {
	err := f()
	if err == nil || s.o.Patience <= 0 || !errors.Is(err, ErrUnavailable) {
		return err
	}
	deadline := time.Now().Add(s.o.Patience)
	for delay := 50 * time.Millisecond; ; delay = min(2*delay, 2*time.Second) {
		left := time.Until(deadline)
		if left <= 0 {
			return fmt.Errorf("%w (tried for %s)", err, s.o.Patience)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", err, ctx.Err())
		case <-time.After(min(left, delay/2+rand.N(delay))):
		}
		if err = f(); err == nil || !errors.Is(err, ErrUnavailable) {
			return err
		}
	}
}
