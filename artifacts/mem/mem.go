// Package mem keeps artifacts in this process's memory, for tests and for runs that nobody needs to see again.
package mem

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stepwell-flows/stepwell/artifacts/driver"
)

// Driver is a driver.Driver over a map. It is safe for concurrent use. Make one with New.
type Driver struct {
	mu      sync.RWMutex
	objects map[string]object
}

type object struct {
	content  []byte
	modified time.Time
}

// New returns an empty store.
func New() *Driver { return &Driver{objects: map[string]object{}} }

// String returns "mem:".
func (*Driver) String() string { return "mem:" }

// Put implements driver.Driver.
func (d *Driver) Put(ctx context.Context, key string, body driver.Body, o driver.PutOptions) error {
	if err := begin(ctx, key); err != nil {
		return err
	}
	content, err := read(body)
	if err == nil {
		err = ctx.Err() // reading may have taken long
	}
	if err != nil {
		return fmt.Errorf("put %q: %w", key, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.objects[key]; ok && o.IfAbsent {
		return fmt.Errorf("put %q: %w", key, driver.ErrExists)
	}
	d.objects[key] = object{content: content, modified: time.Now()}
	return nil
}

func read(body driver.Body) ([]byte, error) {
	if b, ok := body.Data(); ok {
		return bytes.Clone(b), nil
	}
	r, err := body.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// Get implements driver.Driver.
func (d *Driver) Get(ctx context.Context, key string, offset int64) (io.ReadCloser, error) {
	if err := begin(ctx, key); err != nil {
		return nil, err
	}
	d.mu.RLock()
	o, ok := d.objects[key]
	d.mu.RUnlock()
	if !ok {
		return nil, fmt.Errorf("get %q: %w", key, driver.ErrNotFound)
	}
	return reader{bytes.NewReader(o.content[min(max(offset, 0), int64(len(o.content))):])}, nil
}

// reader tells its Size, which io.NopCloser would hide.
type reader struct{ *bytes.Reader }

func (reader) Close() error { return nil }

// Stat implements driver.Driver.
func (d *Driver) Stat(ctx context.Context, key string) (driver.Info, error) {
	if err := begin(ctx, key); err != nil {
		return driver.Info{}, err
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	o, ok := d.objects[key]
	if !ok {
		return driver.Info{}, fmt.Errorf("stat %q: %w", key, driver.ErrNotFound)
	}
	return o.info(key), nil
}

func (o object) info(key string) driver.Info {
	return driver.Info{Key: key, Size: int64(len(o.content)), Modified: o.modified}
}

// List implements driver.Driver. It yields the objects that were there when it began.
func (d *Driver) List(ctx context.Context, prefix string) iter.Seq2[driver.Info, error] {
	return func(yield func(driver.Info, error) bool) {
		found, err := d.snapshot(prefix)
		for _, info := range found {
			if err = ctx.Err(); err != nil {
				break
			}
			if !yield(info, nil) {
				return
			}
		}
		if err != nil {
			yield(driver.Info{}, fmt.Errorf("list %q: %w", prefix, err))
		}
	}
}

func (d *Driver) snapshot(prefix string) ([]driver.Info, error) {
	if err := driver.CheckPrefix(prefix); err != nil {
		return nil, err
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	var found []driver.Info
	for key, o := range d.objects {
		if strings.HasPrefix(key, prefix) {
			found = append(found, o.info(key))
		}
	}
	slices.SortFunc(found, func(a, b driver.Info) int { return strings.Compare(a.Key, b.Key) })
	return found, nil
}

// Dirs implements driver.Driver.
func (d *Driver) Dirs(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		last := ""
		for info, err := range d.List(ctx, prefix) {
			if err != nil {
				yield("", err)
				return
			}
			name, _, ok := strings.Cut(info.Key[len(prefix):], "/")
			if !ok || name == last {
				continue
			}
			last = name
			if !yield(name, nil) {
				return
			}
		}
	}
}

// Delete implements driver.Driver.
func (d *Driver) Delete(ctx context.Context, key string) error {
	if err := begin(ctx, key); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.objects, key)
	return nil
}

func begin(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return driver.CheckKey(key)
}
