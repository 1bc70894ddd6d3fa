package artifacts

import (
	"errors"
	"fmt"

	"github.com/stepwell-flows/stepwell/artifacts/driver"
)

var (
	// ErrNotFound says that the store has no such object.
	ErrNotFound = driver.ErrNotFound
	// ErrExists says that a document is there already.
	ErrExists = driver.ErrExists
	// ErrUnavailable says that the store did not answer as it should: network, refused connection, timeout, 5xx. Trying again later helps.
	ErrUnavailable = driver.ErrUnavailable
	// ErrUnusable says that the store refuses to work until somebody changes a setting: credentials, rights, the bucket.
	ErrUnusable = driver.ErrUnusable
	// ErrCorrupt says that the store returned content that does not have its digest. The error is a *CorruptError.
	ErrCorrupt = errors.New("corrupt")
	// ErrType says that content is well but of a type that the field does not take: the program has changed since it was stored.
	ErrType = errors.New("another type")
	// ErrTooLarge says that a plain field is larger than MaxFieldBytes. The error is a *TooLargeError.
	ErrTooLarge = errors.New("too large")
)

// CorruptError says which object is damaged. It is ErrCorrupt for errors.Is.
type CorruptError struct {
	// Digest is what the content should have had.
	Digest Digest
	// Key is the object that held it; Store is the location of its store. Both are empty for content that lived in a record.
	Key, Store string
	// Quarantine is the key that the object was moved to, so that writing the same content again heals the store. Empty if it
	// was not moved.
	Quarantine string
	// Reason is what the reader found.
	Reason string
}

// Error implements error.
func (e *CorruptError) Error() string {
	if e.Key == "" {
		return fmt.Sprintf("corrupt inline content: %s", e.Reason)
	}
	fix := "restore it from a backup, or run the step that made it again"
	if e.Quarantine != "" {
		fix = fmt.Sprintf("moved to %q; %s", e.Quarantine, fix)
	}
	return fmt.Sprintf("corrupt object %q in store %q: %s (%s)", e.Key, e.Store, e.Reason, fix)
}

// Is makes every CorruptError an ErrCorrupt.
func (*CorruptError) Is(target error) bool { return target == ErrCorrupt }

// typeError is an error of decoding good content. It is ErrType for errors.Is.
type typeError struct{ error }

// Is makes every typeError an ErrType.
func (typeError) Is(target error) bool { return target == ErrType }

// Unwrap is the error of decoding.
func (e typeError) Unwrap() error { return e.error }

// TooLargeError says which artifact is too large for a plain field. It is ErrTooLarge for errors.Is.
type TooLargeError struct {
	// Artifact is the name of the artifact, Type its Go type.
	Artifact, Type string
	// Size is the number of encoded bytes, or what had been encoded when the limit was passed if AtLeast is set.
	Size    int64
	AtLeast bool
	// Limit is MaxFieldBytes.
	Limit int64
}

// Error implements error.
func (e *TooLargeError) Error() string {
	size := formatBytes(e.Size)
	if e.AtLeast {
		size = "more than " + size
	}
	return fmt.Sprintf("artifact %q (%s) has %s encoded, the limit of a plain field is %s "+
		"(make the field an artifacts.File if it is a file, or an artifacts.Ref if only some steps need it)", e.Artifact, e.Type, size, formatBytes(e.Limit))
}

// Is makes every TooLargeError an ErrTooLarge.
func (*TooLargeError) Is(target error) bool { return target == ErrTooLarge }

func formatBytes(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d bytes", n)
}
