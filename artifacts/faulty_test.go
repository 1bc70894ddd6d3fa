package artifacts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts/driver"
	"github.com/stepwell-flows/stepwell/artifacts/mem"
)

// faulty is a store in memory that counts its operations, fails as a test says and can be damaged.
type faulty struct {
	*mem.Driver

	mu    sync.Mutex
	calls map[string]int
	wrote []string // keys, in order
	// fail, if set, decides whether an operation fails: nil lets it through.
	fail func(op, key string, call int) error
	// cut, if set, says after how many bytes a reader of key from offset on fails, and how; a nil error means never.
	cut func(key string, offset int64) (int64, error)
	// lost makes the answer of a put that was done this error.
	lost func(key string, call int) error
}

func newFaulty() *faulty { return &faulty{Driver: mem.New(), calls: map[string]int{}} }

func (d *faulty) count(op, key string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls[op]++
	if d.fail == nil {
		return nil
	}
	return d.fail(op, key, d.calls[op])
}

// reset forgets what was counted.
func (d *faulty) reset() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls, d.wrote = map[string]int{}, nil
}

func (d *faulty) called(op string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls[op]
}

// blobs returns the keys of the blobs written since the reset.
func (d *faulty) blobs() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(d.wrote), func(key string) bool { return !strings.HasPrefix(key, "blobs/") })
}

func (d *faulty) Put(ctx context.Context, key string, body driver.Body, o driver.PutOptions) error {
	if err := d.count("put", key); err != nil {
		return err
	}
	err := d.Driver.Put(ctx, key, body, o)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		d.wrote = append(d.wrote, key)
		if d.lost != nil {
			err = d.lost(key, d.calls["put"])
		}
	}
	return err
}

func (d *faulty) Get(ctx context.Context, key string, offset int64) (io.ReadCloser, error) {
	if err := d.count("get", key); err != nil {
		return nil, err
	}
	r, err := d.Driver.Get(ctx, key, offset)
	if err != nil || d.cut == nil {
		return r, err
	}
	n, cut := d.cut(key, offset)
	if cut == nil {
		return r, nil
	}
	return io.NopCloser(io.MultiReader(io.LimitReader(r, n), failing{cut})), nil
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func (d *faulty) Stat(ctx context.Context, key string) (driver.Info, error) {
	if err := d.count("stat", key); err != nil {
		return driver.Info{}, err
	}
	return d.Driver.Stat(ctx, key)
}

func (d *faulty) Delete(ctx context.Context, key string) error {
	if err := d.count("delete", key); err != nil {
		return err
	}
	return d.Driver.Delete(ctx, key)
}

// List fails for the reason of fail, asked before every object.
func (d *faulty) List(ctx context.Context, prefix string) iter.Seq2[driver.Info, error] {
	return failingSeq(d.Driver.List(ctx, prefix), func(i driver.Info) error { return d.count("list", i.Key) })
}

func (d *faulty) Dirs(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return failingSeq(d.Driver.Dirs(ctx, prefix), func(name string) error { return d.count("dirs", name) })
}

func failingSeq[T any](seq iter.Seq2[T, error], check func(T) error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for v, err := range seq {
			if err == nil {
				err = check(v)
			}
			if err != nil {
				var zero T
				yield(zero, err)
				return
			}
			if !yield(v, nil) {
				return
			}
		}
	}
}

// object returns what is stored under key, and set replaces it, both without being counted.
func (d *faulty) object(t testing.TB, key string) []byte {
	t.Helper()
	r, err := d.Driver.Get(t.Context(), key, 0)
	require.NoError(t, err)
	b, err := io.ReadAll(r)
	require.NoError(t, err)
	return b
}

func (d *faulty) set(t testing.TB, key string, content []byte) {
	t.Helper()
	require.NoError(t, d.Driver.Put(t.Context(), key, driver.Bytes(content), driver.PutOptions{}))
}

func (d *faulty) has(t testing.TB, key string) bool {
	t.Helper()
	_, err := d.Driver.Stat(t.Context(), key)
	if !errors.Is(err, ErrNotFound) {
		require.NoError(t, err)
	}
	return err == nil
}

var errDown = fmt.Errorf("put off: %w", ErrUnavailable)

// noise is content that does not compress: n bytes, always the same ones.
func noise(n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		sum := Sum(fmt.Append(nil, i)).sum
		b.Write(sum[:])
	}
	return b.Bytes()[:n]
}
