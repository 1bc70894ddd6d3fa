// Package driver is the small interface between artifacts.Store and the place that keeps its objects. Authors of flows never need it;
// implement it to keep artifacts somewhere new, and run package storetest on the result.
//
// The interface is not stable before version 1.
package driver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"
	"unicode/utf8"
)

var (
	// ErrNotFound says that no object has the key.
	ErrNotFound = errors.New("not found")
	// ErrExists says that a conditional put found an object under its key.
	ErrExists = errors.New("already exists")
	// ErrUnavailable says that the store did not answer as it should (network, refused connection, timeout, 5xx): the same
	// operation may succeed later.
	ErrUnavailable = errors.New("store unavailable")
	// ErrUnusable says that the store refused, and will again until somebody changes a setting: credentials, rights, the bucket.
	// Its text is not part of messages.
	ErrUnusable = errors.New("store unusable")
)

// Driver keeps objects under keys. Implementations MUST be safe for concurrent use, MUST refuse keys that CheckKey refuses, and
// MUST return errors for which errors.Is finds ErrNotFound, ErrExists or ErrUnavailable where their comments say so.
type Driver interface {
	// Put stores body under key, atomically: a reader sees the old object, the new one or none, never a part, and neither does it
	// after the process is killed. With o.IfAbsent it MUST leave an existing object alone and return ErrExists; of several
	// concurrent conditional puts exactly one succeeds. A conditional put that a driver tried again by itself MUST NOT return
	// ErrExists for its own write.
	Put(ctx context.Context, key string, body Body, o PutOptions) error
	// Get returns the object's content from offset on, or ErrNotFound. The caller closes it. Errors of its Read MUST tell
	// ErrUnavailable, so that a reader can go on from where it stopped.
	Get(ctx context.Context, key string, offset int64) (io.ReadCloser, error)
	// Stat describes the object, or returns ErrNotFound.
	Stat(ctx context.Context, key string) (Info, error)
	// List yields the objects whose key begins with prefix, in ascending byte order of their keys. Each pair is either an Info and
	// a nil error, or a zero Info and the error that ended the listing.
	List(ctx context.Context, prefix string) iter.Seq2[Info, error]
	// Dirs yields the distinct names between prefix and the next slash of the keys that begin with prefix and have such a slash,
	// in ascending byte order of the keys, without the slash. The prefix is empty or ends in a slash.
	Dirs(ctx context.Context, prefix string) iter.Seq2[string, error]
	// Delete removes the object. An object that is not there is not an error.
	Delete(ctx context.Context, key string) error
	// String is the location for people, without secrets.
	String() string
}

// Checker is implemented by drivers that can say why they do not work better than their ordinary errors do.
type Checker interface {
	// Check returns nil if objects can be written, read and deleted, and otherwise one line with the fix. It answers within about
	// five seconds.
	Check(ctx context.Context) error
}

// PutOptions qualify a put. The zero value overwrites.
type PutOptions struct {
	// IfAbsent makes the put fail with ErrExists when the key has an object.
	IfAbsent bool
}

// Info describes one object.
type Info struct {
	Key string
	// Size is the number of bytes as stored.
	Size int64
	// Modified is when the object was written, by the clock of the store.
	Modified time.Time
}

// Body is content to be stored. It can be read several times, so that a failed put can be tried again. The zero Body is empty.
type Body struct {
	data []byte
	size int64
	open func() (io.ReadCloser, error)
}

// Bytes is a Body in memory. The slice must not change while the Body is used.
func Bytes(b []byte) Body { return Body{data: b, size: int64(len(b))} }

// Stream is a Body that open yields anew each time, of size bytes, or -1 if that is not known.
// A reader that is also an io.ReaderAt may be read in parallel.
func Stream(size int64, open func() (io.ReadCloser, error)) Body { return Body{size: size, open: open} }

// Size is the number of bytes, or -1 if it is not known.
func (b Body) Size() int64 { return b.size }

// Data returns the content if it is in memory.
func (b Body) Data() ([]byte, bool) { return b.data, b.open == nil }

// Open returns a reader from the start of the content. The caller closes it.
func (b Body) Open() (io.ReadCloser, error) {
	if b.open == nil {
		return io.NopCloser(bytes.NewReader(b.data)), nil
	}
	return b.open()
}

// Limits of keys. They fit S3 and common file systems.
const (
	MaxKeyBytes     = 900
	MaxSegmentBytes = 240
)

// CheckKey refuses keys that some store could not keep or that could leave the store's root: empty ones, absolute ones, those with
// an empty segment, "." or "..", a segment that begins with ".tmp", a backslash, a control character, invalid UTF-8, or too many bytes.
func CheckKey(key string) error { return check(key, "key") }

// CheckPrefix is CheckKey for the prefix of a listing, which may be empty and may end in a slash or in the middle of a name.
func CheckPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	return check(strings.TrimSuffix(prefix, "/"), "prefix")
}

func check(key, what string) error {
	if key == "" {
		return fmt.Errorf("empty %s (a %s is slash-separated names)", what, what)
	}
	if len(key) > MaxKeyBytes {
		return fmt.Errorf("%s %.40q… of %d bytes is too long (at most %d)", what, key, len(key), MaxKeyBytes)
	}
	if !utf8.ValidString(key) {
		return fmt.Errorf("%s %q is not valid UTF-8", what, key)
	}
	for _, r := range key {
		if r < 0x20 || r == 0x7f || r == '\\' {
			return fmt.Errorf("%s %q contains %q (leave out control characters and backslashes)", what, key, r)
		}
	}
	for segment := range strings.SplitSeq(key, "/") {
		switch {
		case segment == "":
			return fmt.Errorf("%s %q has an empty segment (no leading, trailing or double slash)", what, key)
		case segment == "." || segment == "..":
			return fmt.Errorf("%s %q has the segment %q (a key cannot leave its store)", what, key, segment)
		case strings.HasPrefix(segment, ".tmp"):
			return fmt.Errorf("%s %q has the segment %q (names beginning with .tmp are the store's own)", what, key, segment)
		case len(segment) > MaxSegmentBytes:
			return fmt.Errorf("%s %.40q… has a segment of %d bytes (at most %d)", what, key, len(segment), MaxSegmentBytes)
		}
	}
	return nil
}
