package artifacts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"strings"

	"github.com/stepwell-flows/stepwell/artifacts/driver"
)

// Overlay returns a store that reads from over and, what is not there, from base, and that writes to over alone: base is never
// touched. A conditional write looks at over alone, so what base has can be stood in for; deleting something from over shows what base
// has.
//
// Another process can open it too, see [Store.Location], if it can open both.
func Overlay(over, base *Store) *Store {
	return overlaid(over, base, false)
}

// Copying is an [Overlay] that also copies to over whatever is read from base, as it is stored there: afterwards over alone has all that
// was read.
func Copying(over, base *Store) *Store { return overlaid(over, base, true) }

func overlaid(over, base *Store, copies bool) *Store {
	s := New(&overlay{over.driver, base.driver, copies}, base.o)
	if over.location != "" && base.location != "" && !copies {
		s.location = overlayScheme + "?" + url.Values{"over": {over.location}, "base": {base.location}}.Encode()
	}
	return s
}

// overlayScheme begins the location of an overlay, which is for Stepwell's own processes.
const overlayScheme = "overlay:"

// openOverlay opens both stores of an overlay.
func openOverlay(ctx context.Context, location string, o Options) (*Store, error) {
	query, err := url.ParseQuery(strings.TrimPrefix(location[len(overlayScheme):], "?"))
	if err != nil || query.Get("over") == "" || query.Get("base") == "" {
		return nil, errors.New("store overlay: it does not name two stores")
	}
	over, err := Open(ctx, query.Get("over"), o)
	if err != nil {
		return nil, err
	}
	base, err := Open(ctx, query.Get("base"), o)
	if err != nil {
		return nil, err
	}
	return Overlay(over, base), nil
}

// CopyBlob copies the blob d from another store, as it is stored there, unless this store has it already. Who reads it verifies it.
func (s *Store) CopyBlob(ctx context.Context, from *Store, d Digest) error {
	if err := s.adopt(ctx, from, d); err != nil {
		return s.fail(fmt.Sprintf("copy blob %s from store %q", d, from), err)
	}
	return nil
}

// overlay is the driver of an overlay.
type overlay struct {
	over, base driver.Driver
	copies     bool
}

// String names both.
func (d *overlay) String() string { return d.over.String() + " over " + d.base.String() }

// Put implements driver.Driver.
func (d *overlay) Put(ctx context.Context, key string, body driver.Body, o driver.PutOptions) error {
	return d.over.Put(ctx, key, body, o)
}

// Get implements driver.Driver.
func (d *overlay) Get(ctx context.Context, key string, offset int64) (io.ReadCloser, error) {
	r, err := d.over.Get(ctx, key, offset)
	if !errors.Is(err, driver.ErrNotFound) {
		return r, err
	}
	if !d.copies {
		return d.base.Get(ctx, key, offset)
	}
	body := driver.Stream(-1, func() (io.ReadCloser, error) { return d.base.Get(ctx, key, 0) })
	if _, err := d.base.Stat(ctx, key); err != nil { // before anything of it is written
		return nil, err
	}
	if err := d.over.Put(ctx, key, body, driver.PutOptions{}); err != nil {
		return nil, err
	}
	return d.over.Get(ctx, key, offset)
}

// Stat implements driver.Driver.
func (d *overlay) Stat(ctx context.Context, key string) (driver.Info, error) {
	info, err := d.over.Stat(ctx, key)
	if errors.Is(err, driver.ErrNotFound) {
		return d.base.Stat(ctx, key)
	}
	return info, err
}

// List implements driver.Driver.
func (d *overlay) List(ctx context.Context, prefix string) iter.Seq2[driver.Info, error] {
	return merged(d.over.List(ctx, prefix), d.base.List(ctx, prefix), func(i driver.Info) string { return i.Key })
}

// Dirs implements driver.Driver.
func (d *overlay) Dirs(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return merged(d.over.Dirs(ctx, prefix), d.base.Dirs(ctx, prefix), func(name string) string { return name + "/" })
}

// Delete implements driver.Driver.
func (d *overlay) Delete(ctx context.Context, key string) error { return d.over.Delete(ctx, key) }

// merged yields what two listings have, in the order of their keys. Where both have a key, that of over counts.
func merged[T any](over, base iter.Seq2[T, error], key func(T) string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		next, stop := iter.Pull2(base)
		defer stop()
		below, err, more := next()
		for v, overErr := range over {
			for overErr == nil && more && err == nil && key(below) < key(v) {
				if !yield(below, nil) {
					return
				}
				below, err, more = next()
			}
			if overErr == nil && more && err != nil {
				break
			}
			if overErr == nil && more && key(below) == key(v) {
				below, err, more = next()
			}
			if !yield(v, overErr) || overErr != nil {
				return
			}
		}
		for ; more; below, err, more = next() {
			if !yield(below, err) || err != nil {
				return
			}
		}
	}
}
