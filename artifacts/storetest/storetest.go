package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts/driver"
)

// NewDriver returns a driver over an empty place. It is called several times, also by tests that run at the same time.
type NewDriver func(t *testing.T) driver.Driver

// Run runs the suite.
func Run(t *testing.T, newDriver NewDriver) {
	t.Helper()
	for _, test := range []struct {
		name string
		run  func(t *testing.T, d driver.Driver)
	}{
		{"PutGet", putGet},
		{"Overwrite", overwrite},
		{"Offset", offset},
		{"Empty", empty},
		{"NotFound", notFound},
		{"Stat", stat},
		{"Delete", del},
		{"IfAbsent", ifAbsent},
		{"IfAbsentRace", ifAbsentRace},
		{"IfAbsentRaceLarge", ifAbsentRaceLarge},
		{"AtomicOverwrite", atomicOverwrite},
		{"Large", large},
		{"FailingBody", failingBody},
		{"Keys", keys},
		{"RefusedKeys", refusedKeys},
		{"Cancelled", cancelled},
		{"CancelledMeanwhile", cancelledMeanwhile},
		{"List", list},
		{"Dirs", dirs},
		{"ManyKeys", manyKeys},
		{"StoreDocs", storeDocs},
		{"StoreBlobs", storeBlobs},
		{"StoreFiles", storeFiles},
		{"StoreCorrupt", storeCorrupt},
		{"StoreCorruptStream", storeCorruptStream},
		{"StoreCheck", storeCheck},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, newDriver(t))
		})
	}
}

var (
	always   = driver.PutOptions{}
	ifNoneIs = driver.PutOptions{IfAbsent: true}
)

func put(t *testing.T, d driver.Driver, key, content string) {
	t.Helper()
	require.NoError(t, d.Put(t.Context(), key, driver.Bytes([]byte(content)), always))
}

func get(t *testing.T, d driver.Driver, key string, offset int64) []byte {
	t.Helper()
	content, err := read(t.Context(), d, key, offset)
	require.NoError(t, err)
	return content
}

func read(ctx context.Context, d driver.Driver, key string, offset int64) ([]byte, error) {
	r, err := d.Get(ctx, key, offset)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// noise is content that does not compress, the same for the same seed.
func noise(seed uint64, size int) []byte {
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{0: byte(seed), 1: byte(seed >> 8)})
	_, _ = r.Read(b) // never fails
	return b
}

// stream is b as a body that can only be read from the front.
func stream(size int64, b []byte) driver.Body {
	return driver.Stream(size, func() (io.ReadCloser, error) {
		return io.NopCloser(struct{ io.Reader }{bytes.NewReader(b)}), nil
	})
}

// requireSame compares without printing megabytes.
func requireSame(t *testing.T, want, got []byte) {
	t.Helper()
	require.Len(t, got, len(want))
	require.True(t, bytes.Equal(want, got), "the content differs")
}

func putGet(t *testing.T, d driver.Driver) {
	content := []byte("content")
	require.NoError(t, d.Put(t.Context(), "a/b/c.json", driver.Bytes(content), always))
	content[0] = 'X'
	require.Equal(t, "content", string(get(t, d, "a/b/c.json", 0)), "the caller's slice is its own again after Put")

	// A small stream, of known and of unknown size.
	require.NoError(t, d.Put(t.Context(), "known", stream(5, []byte("known")), always))
	require.NoError(t, d.Put(t.Context(), "unknown", stream(-1, []byte("unknown")), always))
	require.Equal(t, "known", string(get(t, d, "known", 0)))
	require.Equal(t, "unknown", string(get(t, d, "unknown", 0)))
	require.NotEmpty(t, d.String())
}

func overwrite(t *testing.T, d driver.Driver) {
	put(t, d, "a", "a longer first version")
	put(t, d, "a", "second")
	require.Equal(t, "second", string(get(t, d, "a", 0)))
}

func offset(t *testing.T, d driver.Driver) {
	put(t, d, "a", "0123456789")
	for offset, want := range map[int64]string{0: "0123456789", 1: "123456789", 9: "9", 10: "", 11: ""} {
		require.Equal(t, want, string(get(t, d, "a", offset)), "from offset %d", offset)
	}
}

func empty(t *testing.T, d driver.Driver) {
	for key, body := range map[string]driver.Body{"zero": {}, "bytes": driver.Bytes(nil), "known": stream(0, nil), "unknown": stream(-1, nil)} {
		require.NoError(t, d.Put(t.Context(), key, body, always), key)
		require.Empty(t, get(t, d, key, 0), key)
		info, err := d.Stat(t.Context(), key)
		require.NoError(t, err, key)
		require.Zero(t, info.Size, key)
		require.ErrorIs(t, d.Put(t.Context(), key, driver.Bytes([]byte("x")), ifNoneIs), driver.ErrExists, "an empty object is one")
	}
}

func notFound(t *testing.T, d driver.Driver) {
	put(t, d, "a/b", "x")
	for _, key := range []string{"b", "a", "a/b2", "a/c/d", "a/b/c"} {
		_, err := d.Get(t.Context(), key, 0)
		require.ErrorIs(t, err, driver.ErrNotFound, "get %q", key)
		_, err = d.Stat(t.Context(), key)
		require.ErrorIs(t, err, driver.ErrNotFound, "stat %q", key)
		require.NotErrorIs(t, err, driver.ErrUnavailable)
	}
}

func stat(t *testing.T, d driver.Driver) {
	put(t, d, "a/b", "12345")
	info, err := d.Stat(t.Context(), "a/b")
	require.NoError(t, err)
	require.Equal(t, "a/b", info.Key)
	require.Equal(t, int64(5), info.Size)
	require.WithinDuration(t, time.Now(), info.Modified, time.Hour, "the clock of the store may differ a little")
}

func del(t *testing.T, d driver.Driver) {
	put(t, d, "a/b", "x")
	put(t, d, "a/c", "y")
	require.NoError(t, d.Delete(t.Context(), "a/b"))
	require.NoError(t, d.Delete(t.Context(), "a/b"), "a second time")
	require.NoError(t, d.Delete(t.Context(), "never/was"))
	_, err := d.Stat(t.Context(), "a/b")
	require.ErrorIs(t, err, driver.ErrNotFound)
	require.Equal(t, "y", string(get(t, d, "a/c", 0)))
}

// atomicOverwrite reads an object over and over while it is replaced by others of other lengths.
func atomicOverwrite(t *testing.T, d driver.Driver) {
	versions := [][]byte{bytes.Repeat([]byte("a"), 300<<10), bytes.Repeat([]byte("b"), 170<<10), bytes.Repeat([]byte("c"), 1000)}
	require.NoError(t, d.Put(t.Context(), "k", driver.Bytes(versions[0]), always))
	written := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for reads := 0; ; reads++ {
				select {
				case <-written:
					if reads >= 3 {
						return
					}
				default:
				}
				got, err := read(t.Context(), d, "k", 0)
				if err != nil {
					t.Errorf("read %d: %v", reads, err)
					return
				}
				if len(got) == 0 || !bytes.Equal(got, versions[got[0]-'a']) {
					t.Errorf("read %d: %d bytes that are no version", reads, len(got))
					return
				}
			}
		})
	}
	for i := range 60 {
		if err := d.Put(t.Context(), "k", driver.Bytes(versions[i%len(versions)]), always); err != nil {
			t.Errorf("put %d: %v", i, err)
		}
	}
	close(written)
	readers.Wait()
}

// large puts what a driver may treat differently: more than one part, and exactly one.
func large(t *testing.T, d driver.Driver) {
	content := noise(1, 34<<20+123)
	for name, test := range map[string]struct {
		body driver.Body
		want []byte
	}{
		"memory":       {driver.Bytes(content), content},
		"known":        {stream(20<<20+1, content[:20<<20+1]), content[:20<<20+1]},
		"unknown":      {stream(-1, content[:20<<20+1]), content[:20<<20+1]},
		"exactly 8 M":  {stream(8<<20, content[:8<<20]), content[:8<<20]},
		"exactly 16 M": {stream(-1, content[:16<<20]), content[:16<<20]},
	} {
		require.NoError(t, d.Put(t.Context(), name, test.body, always), name)
		info, err := d.Stat(t.Context(), name)
		require.NoError(t, err, name)
		require.Equal(t, int64(len(test.want)), info.Size, name)
		requireSame(t, test.want, get(t, d, name, 0))
		middle := int64(len(test.want)) / 2
		requireSame(t, test.want[middle:], get(t, d, name, middle))
	}
	// A conditional put of a large body heeds the condition too.
	require.ErrorIs(t, d.Put(t.Context(), "known", stream(20<<20, content[:20<<20]), ifNoneIs), driver.ErrExists)
	requireSame(t, content[:20<<20+1], get(t, d, "known", 0))
	require.NoError(t, d.Put(t.Context(), "new", stream(-1, content[:20<<20]), ifNoneIs))
}

// failingBody makes sure that content which cannot be read leaves the object as it was, and that its error is not blamed on the store.
func failingBody(t *testing.T, d driver.Driver) {
	put(t, d, "old", "old")
	broken := errors.New("disk on fire")
	for _, size := range []int64{100, 9 << 20, -1} {
		for _, after := range []int64{0, 50, 8<<20 + 10} {
			body := driver.Stream(size, func() (io.ReadCloser, error) {
				return io.NopCloser(io.MultiReader(io.LimitReader(zeros{}, after), failing{broken})), nil
			})
			if size == 100 && after > size {
				continue
			}
			for _, key := range []string{"old", "new"} {
				err := d.Put(t.Context(), key, body, always)
				require.ErrorIs(t, err, broken, "size %d, broken after %d", size, after)
				require.NotErrorIs(t, err, driver.ErrUnavailable)
			}
		}
	}
	err := d.Put(t.Context(), "new", driver.Stream(-1, func() (io.ReadCloser, error) { return nil, broken }), always)
	require.ErrorIs(t, err, broken, "a body that cannot be opened")
	require.Equal(t, "old", string(get(t, d, "old", 0)))
	_, err = d.Stat(t.Context(), "new")
	require.ErrorIs(t, err, driver.ErrNotFound)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func cancelled(t *testing.T, d driver.Driver) {
	put(t, d, "a/b", "x")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, d.Put(ctx, "a/c", driver.Bytes(nil), always), context.Canceled)
	_, err := d.Get(ctx, "a/b", 0)
	require.ErrorIs(t, err, context.Canceled)
	_, err = d.Stat(ctx, "a/b")
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, d.Delete(ctx, "a/b"), context.Canceled)
	_, err = listed(ctx, d, "a/")
	require.ErrorIs(t, err, context.Canceled)
	_, err = dirNames(ctx, d, "")
	require.ErrorIs(t, err, context.Canceled)

	infos, err := listed(t.Context(), d, "")
	require.NoError(t, err)
	require.Len(t, infos, 1, "what was cancelled changed nothing")
}

// cancelledMeanwhile cancels a put in the middle of its body.
func cancelledMeanwhile(t *testing.T, d driver.Driver) {
	for _, size := range []int64{64 << 20, -1} {
		ctx, cancel := context.WithCancel(t.Context())
		body := driver.Stream(size, func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(io.LimitReader(zeros{}, 20<<20), hook{cancel}, io.LimitReader(zeros{}, 44<<20))), nil
		})
		err := d.Put(ctx, "k", body, always)
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, driver.ErrUnavailable)
		_, err = d.Stat(t.Context(), "k")
		require.ErrorIs(t, err, driver.ErrNotFound)
	}
}

// hook is an empty reader that calls f.
type hook struct{ f func() }

func (h hook) Read([]byte) (int, error) {
	h.f()
	return 0, io.EOF
}

func keys(t *testing.T, d driver.Driver) {
	all := []string{
		"a b/c d", "plus+plus", "per%cent", "per%20cent", "per%2Fcent", "ümlaut/日本語/😀", "q?x=1&y=2#z", "semi;colon:at@",
		"quote'\"<>", "star*[1]{2}", "~tilde^`|", ".hidden/..x/x..", "UPPER/lower", "upper/LOWER",
		"trailing /dot.", strings.Repeat("s", driver.MaxSegmentBytes),
		strings.Repeat(strings.Repeat("p", 99)+"/", 8) + strings.Repeat("k", 100),
	}
	for _, key := range all {
		require.NoError(t, d.Put(t.Context(), key, driver.Bytes([]byte(key)), ifNoneIs), key)
	}
	infos, err := listed(t.Context(), d, "")
	require.NoError(t, err)
	require.ElementsMatch(t, all, keysOf(infos))
	for _, key := range all {
		require.Equal(t, key, string(get(t, d, key, 0)))
		info, err := d.Stat(t.Context(), key)
		require.NoError(t, err, key)
		require.Equal(t, key, info.Key)
		infos, err := listed(t.Context(), d, key)
		require.NoError(t, err, key)
		require.Equal(t, []string{key}, keysOf(infos))
		require.NoError(t, d.Delete(t.Context(), key), key)
	}
	infos, err = listed(t.Context(), d, "")
	require.NoError(t, err)
	require.Empty(t, infos)
}

func refusedKeys(t *testing.T, d driver.Driver) {
	for _, key := range []string{
		"", "/", "/etc/passwd", "a//b", "a/", ".", "..", "../up", "a/../b", "a/./b", "a\x00b", "a\nb", "a\x7f", `a\b`, "a\xff", ".tmp/x", "a/.tmp1",
		strings.Repeat("s", driver.MaxSegmentBytes+1), strings.Repeat("s/", driver.MaxKeyBytes/2) + "s",
	} {
		require.Error(t, d.Put(t.Context(), key, driver.Bytes(nil), always), "put %q", key)
		_, err := d.Get(t.Context(), key, 0)
		require.Error(t, err, "get %q", key)
		require.NotErrorIs(t, err, driver.ErrNotFound, "get %q", key)
		_, err = d.Stat(t.Context(), key)
		require.Error(t, err, "stat %q", key)
		require.NotErrorIs(t, err, driver.ErrNotFound, "stat %q", key)
		require.Error(t, d.Delete(t.Context(), key), "delete %q", key)
	}
	for _, prefix := range []string{"/", "/a", "a//", "../", "a/../", "a\n"} {
		_, err := listed(t.Context(), d, prefix)
		require.Error(t, err, "list %q", prefix)
		_, err = dirNames(t.Context(), d, prefix)
		require.Error(t, err, "dirs %q", prefix)
	}
	infos, err := listed(t.Context(), d, "")
	require.NoError(t, err)
	require.Empty(t, infos, fmt.Sprint(infos))
}
