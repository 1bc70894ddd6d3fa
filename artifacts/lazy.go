package artifacts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
)

// lazyField is what a schema needs of *Ref[T] and *File.
type lazyField interface {
	// types are the field's own type, which tells it from a struct that embeds one, and the type of its content.
	types() (own, content reflect.Type)
	// bind makes the field a handle of what is stored.
	bind(s *Store, e Entry)
	// pending says that the field was set and not yet stored.
	pending() bool
	// entry is what the field is bound to, or the zero Entry; home is the store that has it.
	entry() Entry
	home() *Store
	// value is what a pending Ref was set to.
	value() reflect.Value
}

// lazyType says whether t is a Ref or the type File.
func lazyType(t reflect.Type) bool {
	if !reflect.PointerTo(t).Implements(lazyFieldType) {
		return false
	}
	own, _ := reflect.New(t).Interface().(lazyField).types()
	return own == t
}

// errEmpty is the reason why an empty Ref or File has no content.
var errEmpty = errors.New("empty (no step has set it)")

// Ref is a state field whose content is loaded only when a step asks for it. The zero Ref is empty. A copy is a handle of the same
// content. Methods that read are safe for concurrent use; Set is not.
type Ref[T any] struct {
	store *Store
	bound Entry
	set   *T
}

// Load returns the content, decoded anew at each call, so that the caller owns it. After Set it returns that value itself.
func (r *Ref[T]) Load(ctx context.Context) (T, error) {
	var v T
	switch {
	case r.set != nil:
		return *r.set, nil
	case r.store == nil:
		return v, fmt.Errorf("load ref of %s: %w", reflect.TypeFor[T](), errEmpty)
	}
	content, err := r.store.Content(ctx, r.bound)
	if err == nil {
		err = Decode(r.bound, content, &v)
	}
	if err != nil {
		return v, fmt.Errorf("load ref of %s: %w", reflect.TypeFor[T](), err)
	}
	return v, nil
}

// Set replaces the content. It is stored when the step has returned nil, as it is then.
func (r *Ref[T]) Set(v T) { r.set = &v }

// IsZero says that the Ref is empty.
func (r *Ref[T]) IsZero() bool { return r.set == nil && r.store == nil }

// Size is the number of encoded bytes, or 0 if the content is not yet stored.
func (r *Ref[T]) Size() int64 { return r.entry().Size }

// Digest identifies the encoded content. It is zero if the content is not yet stored.
func (r *Ref[T]) Digest() Digest { return r.entry().Digest }

func (*Ref[T]) types() (own, content reflect.Type) {
	return reflect.TypeFor[Ref[T]](), reflect.TypeFor[T]()
}

func (r *Ref[T]) bind(s *Store, e Entry) { *r = Ref[T]{store: s, bound: e} }

func (r *Ref[T]) pending() bool { return r.set != nil }

func (r *Ref[T]) value() reflect.Value { return reflect.ValueOf(r.set).Elem() }

func (r *Ref[T]) home() *Store { return r.store }

func (r *Ref[T]) entry() Entry {
	if r.set != nil {
		return Entry{}
	}
	return r.bound
}

// File is a state field that holds a file of any size; its content streams between disk and store. The zero File is empty. A copy
// is a handle of the same content. Methods that read are safe for concurrent use; SetPath is not.
type File struct {
	store *Store
	bound Entry
	path  string
}

const fileCodec = "file"

var (
	fileType      = reflect.TypeFor[File]()
	lazyFieldType = reflect.TypeFor[lazyField]()
)

// SetPath makes the file at path the content. It is stored when the step has returned nil, as it is then, so it must not be removed
// before; a relative path starts at the working directory of now.
func (f *File) SetPath(path string) {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	f.path = path
}

// Open streams the content. The reader verifies it: ErrCorrupt comes in place of io.EOF if it was damaged. The caller closes it.
func (f *File) Open(ctx context.Context) (io.ReadCloser, error) {
	switch {
	case f.path != "":
		return os.Open(f.path)
	case f.store == nil:
		return nil, fmt.Errorf("open file: %w", errEmpty)
	}
	return f.store.OpenBlob(ctx, f.bound.Digest)
}

// Save writes the content to a file at path. The file appears, or is replaced, when all of it is there and verified.
func (f *File) Save(ctx context.Context, path string) error {
	if err := f.save(ctx, path); err != nil {
		return fmt.Errorf("save file to %q: %w", path, err)
	}
	return nil
}

func (f *File) save(ctx context.Context, path string) (err error) {
	r, err := f.Open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	to, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			to.Close()
			os.Remove(to.Name())
		}
	}()
	if _, err := io.CopyBuffer(onlyWriter{to}, contextReader{ctx, r}, make([]byte, copyBytes)); err != nil {
		return err
	}
	if err := to.Chmod(0o644); err != nil {
		return err
	}
	if err := to.Close(); err != nil {
		return err
	}
	return os.Rename(to.Name(), path)
}

// IsZero says that the File is empty.
func (f *File) IsZero() bool { return f.path == "" && f.store == nil }

// Size is the number of bytes, or 0 if the file is empty or not readable.
func (f *File) Size() int64 {
	if f.path == "" {
		return f.bound.Size
	}
	st, err := os.Stat(f.path)
	if err != nil {
		return 0
	}
	return st.Size()
}

// Digest identifies the content. It is zero if the file is not yet stored.
func (f *File) Digest() Digest { return f.entry().Digest }

// Name is the base name of the file that was stored, or will be.
func (f *File) Name() string {
	if f.path != "" {
		return filepath.Base(f.path)
	}
	return f.bound.Name
}

func (*File) types() (own, content reflect.Type) { return fileType, fileType }

func (f *File) bind(s *Store, e Entry) { *f = File{store: s, bound: e} }

func (f *File) pending() bool { return f.path != "" }

func (*File) value() reflect.Value { return reflect.Value{} }

func (f *File) home() *Store { return f.store }

func (f *File) entry() Entry {
	if f.path != "" {
		return Entry{}
	}
	return f.bound
}

// upload stores a pending file, fills in its entry and binds the field to it.
func (f *File) upload(ctx context.Context, s *Store, e *Entry) error {
	d, size, err := s.putFile(ctx, f.path)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w (a file must be there until the step has returned and it is stored)", err)
	}
	if err != nil {
		return err
	}
	*e = Entry{Digest: d, Size: size, Codec: fileCodec, Type: fileType.String(), Name: filepath.Base(f.path)}
	f.bind(s, *e)
	return nil
}
