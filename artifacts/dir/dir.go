// Package dir keeps artifacts in a directory: one file per object, named as its key.
//
// A write goes to a temporary file, without a name where the system can do that, which then gets the object's name. So a reader never
// sees a part of an object, and killing the process leaves the store whole. Writes are not flushed to the disk: after a power failure
// a recent object may be missing or damaged, which the store notices by its digest.
package dir

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"

	"github.com/stepwell-flows/stepwell/artifacts/driver"
)

// tmp is the folder for files that are being written. driver.CheckKey keeps keys out of it.
const tmp = ".tmp"

// Driver is a driver.Driver over a directory. It is safe for concurrent use, by several processes too. Make one with New.
type Driver struct {
	root string
	// named says that temporary files need names here.
	named atomic.Bool
}

// New returns a driver that keeps its objects under root, which is created when the first object is written.
func New(root string) (*Driver, error) {
	if root == "" {
		return nil, errors.New("empty directory (name the folder that keeps the artifacts)")
	}
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("directory %q: %w", root, err)
	}
	return &Driver{root: abs}, nil
}

// String returns the absolute path.
func (d *Driver) String() string { return d.root }

func (d *Driver) path(key string) string { return filepath.Join(d.root, filepath.FromSlash(key)) }

// Put implements driver.Driver.
func (d *Driver) Put(ctx context.Context, key string, body driver.Body, o driver.PutOptions) error {
	if err := begin(ctx, key); err != nil {
		return err
	}
	path := d.path(key)
	if o.IfAbsent {
		if size := body.Size(); size < 0 || size > lookFirst {
			if _, err := os.Lstat(path); err == nil {
				return wrap("put", key, fs.ErrExist)
			}
		}
		err := d.putUnnamed(ctx, path, body)
		if !errors.Is(err, errNamed) {
			return wrapPut(key, err)
		}
	}
	written, err := d.write(ctx, body)
	if err != nil {
		return wrapPut(key, err)
	}
	return wrapPut(key, d.publish(written, path, o.IfAbsent))
}

// lookFirst is from how many bytes on it is worth looking for an object before it is written. That it is there is for link to decide.
const lookFirst = 64 << 10

// errNamed says that an object was not written because its temporary file needs a name.
var errNamed = errors.New("needs a name")

// putUnnamed creates an object by way of a file without a name, of which nothing is left when the process is killed. There are two
// directory entries less to write than with a name.
func (d *Driver) putUnnamed(ctx context.Context, path string, body driver.Body) error {
	if d.named.Load() {
		return errNamed
	}
	f, err := createUnnamed(d.root)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(d.root, 0o777); err != nil {
			return err
		}
		f, err = createUnnamed(d.root)
	}
	switch {
	case err == nil:
	case passing(err):
		return err
	default:
		d.named.Store(true)
		return errNamed
	}
	defer f.Close()
	if err := fill(ctx, f, body); err != nil {
		return err
	}
	err = nameFile(f, path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			return err
		}
		err = nameFile(f, path)
	}
	if err == nil {
		if err = f.Close(); err != nil { // some file systems write only now
			os.Remove(path)
		}
		return err
	}
	if errors.Is(err, fs.ErrExist) || passing(err) {
		return err
	}
	d.named.Store(errors.Is(err, fs.ErrNotExist)) // there is no /proc
	return errNamed                               // what else is wrong shows with a name, too
}

// fill copies body into a file.
func fill(ctx context.Context, f *os.File, body driver.Body) error {
	if b, ok := body.Data(); ok {
		_, err := f.Write(b)
		return err
	}
	r, err := body.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(f, reader{ctx, r})
	return err
}

// write copies body into a new temporary file and returns its path.
func (d *Driver) write(ctx context.Context, body driver.Body) (path string, err error) {
	f, err := d.create()
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Join(d.root, tmp), 0o777); err != nil {
			return "", err
		}
		f, err = d.create()
	}
	if err != nil {
		return "", err
	}
	defer func() {
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	return f.Name(), fill(ctx, f, body)
}

func (d *Driver) create() (*os.File, error) {
	name := filepath.Join(d.root, tmp, strconv.Itoa(os.Getpid())+"-"+rand.Text())
	return os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
}

// publish gives the temporary file its name, which must be free if absent is set, and removes the temporary file if it could not.
func (d *Driver) publish(written, path string, absent bool) error {
	move := os.Rename
	if absent {
		move = os.Link
	}
	err := move(written, path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(path), 0o777); err == nil {
			err = move(written, path)
		}
	}
	if absent || err != nil {
		os.Remove(written)
	}
	return err
}

// Get implements driver.Driver.
func (d *Driver) Get(ctx context.Context, key string, offset int64) (io.ReadCloser, error) {
	if err := begin(ctx, key); err != nil {
		return nil, err
	}
	f, err := os.Open(d.path(key))
	if err != nil {
		return nil, wrap("get", key, err)
	}
	o := object{File: f}
	if err := o.seek(offset); err != nil {
		f.Close()
		return nil, wrap("get", key, err)
	}
	return o, nil
}

// object is an open file that tells how many bytes it has from the offset on.
type object struct {
	*os.File
	size int64
}

func (o *object) seek(offset int64) error {
	st, err := o.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fs.ErrNotExist
	}
	if o.size = st.Size(); offset <= 0 {
		return nil
	}
	o.size = max(o.size-offset, 0)
	_, err = o.Seek(offset, io.SeekStart)
	return err
}

// Size is the number of bytes from the offset on.
func (o object) Size() int64 { return o.size }

// Stat implements driver.Driver.
func (d *Driver) Stat(ctx context.Context, key string) (driver.Info, error) {
	if err := begin(ctx, key); err != nil {
		return driver.Info{}, err
	}
	st, err := os.Stat(d.path(key))
	if err == nil && !st.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		return driver.Info{}, wrap("stat", key, err)
	}
	return driver.Info{Key: key, Size: st.Size(), Modified: st.ModTime()}, nil
}

// Delete implements driver.Driver. Folders that become empty stay.
func (d *Driver) Delete(ctx context.Context, key string) error {
	if err := begin(ctx, key); err != nil {
		return err
	}
	if err := os.Remove(d.path(key)); err != nil && !absent(err) {
		return wrap("delete", key, err)
	}
	return nil
}

// Check implements driver.Checker: it writes, reads and deletes an object.
func (d *Driver) Check(ctx context.Context) error {
	key := "check/" + rand.Text() // another process may check at the same time
	body := driver.Bytes([]byte("stepwell"))
	if err := d.Put(ctx, key, body, driver.PutOptions{IfAbsent: true}); err != nil { // which needs hard links
		return fmt.Errorf("store directory %q is not writable: %w (create it, or give this user the right to write there)", d.root, root(err))
	}
	if _, err := d.Stat(ctx, key); err != nil {
		return fmt.Errorf("store directory %q is not readable: %w (give this user the right to read there)", d.root, root(err))
	}
	if err := d.Delete(ctx, key); err != nil {
		return fmt.Errorf("store directory %q does not let files be deleted: %w (give this user the right to)", d.root, root(err))
	}
	return nil
}

// root is the system's own error, without the paths and operations around it.
func root(err error) error {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno
	}
	return err
}

func begin(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return driver.CheckKey(key)
}

// absent says that no file can be there. A key below another object (ENOTDIR) has none either.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

func wrapPut(key string, err error) error {
	if err == nil {
		return nil
	}
	return wrap("put", key, err)
}

func wrap(op, key string, err error) error {
	switch {
	case absent(err) && op != "put":
		err = driver.ErrNotFound
	case errors.Is(err, fs.ErrExist) && op == "put":
		err = driver.ErrExists
	case passing(err):
		err = fmt.Errorf("%w: %w", driver.ErrUnavailable, root(err))
	}
	return fmt.Errorf("%s %q: %w", op, key, err)
}

// passing says that the same operation may succeed later: a full or busy disk, too many open files, a network file system
// that is away.
func passing(err error) bool {
	return slices.ContainsFunc([]syscall.Errno{
		syscall.ENOSPC, syscall.EDQUOT, syscall.EIO, syscall.ESTALE, syscall.EMFILE, syscall.ENFILE, syscall.ETIMEDOUT, syscall.EAGAIN, syscall.EBUSY,
	}, func(e syscall.Errno) bool { return errors.Is(err, e) })
}

// reader stops a long copy when its context ends.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
