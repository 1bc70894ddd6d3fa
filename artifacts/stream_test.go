package artifacts

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts/dir"
)

// A file of any size goes to the store and back in little memory, compressed or not.
//
// It is not parallel, because it measures the heap of the process.
func TestLargeFilesStream(t *testing.T) {
	const size = 256 << 20
	for name, fill := range map[string]func(t *testing.T, f *os.File){
		"random": func(t *testing.T, f *os.File) {
			t.Helper()
			_, err := io.Copy(f, io.LimitReader(rand.NewChaCha8([32]byte{1}), size))
			require.NoError(t, err)
		},
		"sparse": func(t *testing.T, f *os.File) {
			t.Helper()
			require.NoError(t, f.Truncate(size))
		},
	} {
		folder := t.TempDir()
		path := filepath.Join(folder, "in")
		f, err := os.Create(path)
		require.NoError(t, err)
		fill(t, f)
		require.NoError(t, f.Close())
		d, err := dir.New(filepath.Join(folder, "store"))
		require.NoError(t, err)
		s := New(d, Options{})

		runtime.GC()
		peak := watchHeap(t)
		digest, n, err := s.PutFile(t.Context(), path)
		require.NoError(t, err)
		require.Equal(t, int64(size), n)
		file := File{store: s, bound: Entry{Digest: digest, Size: n, Codec: fileCodec, Name: "in"}}
		to := filepath.Join(folder, "out")
		require.NoError(t, file.Save(t.Context(), to))
		grown := peak()
		t.Logf("%s: the heap grew by at most %s", name, formatBytes(grown))
		require.Less(t, grown, int64(64<<20), name)
		require.Equal(t, digest, sumFile(t, to))

		info, err := d.Stat(t.Context(), digest.key())
		require.NoError(t, err)
		if name == "sparse" {
			require.Less(t, info.Size, int64(size/100))
		} else {
			require.Equal(t, int64(size), info.Size)
		}
		require.NoError(t, os.RemoveAll(folder))
	}
}

// watchHeap measures until the function it returns is called, which says how much the heap grew at most.
func watchHeap(t *testing.T) func() int64 {
	t.Helper()
	heap := func() int64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapInuse)
	}
	var peak atomic.Int64
	before, stop, done := heap(), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			peak.Store(max(peak.Load(), heap()-before))
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	return func() int64 {
		close(stop)
		<-done
		return peak.Load()
	}
}

func sumFile(t *testing.T, path string) Digest {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	require.NoError(t, err)
	return digestOf(h)
}

// bigContent is content above wholeBytes; zeros at its end make it compress if asked.
func bigContent(compressible bool) []byte {
	content := noise(wholeBytes + 3*sampleBytes)
	if compressible {
		clear(content[len(content)/2:])
	}
	return content
}

func writeFile(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, content, 0o600))
	return path
}

// A file and the same bytes in memory are one blob, whichever way each was stored.
func TestFilesAndBlobsShareContent(t *testing.T) {
	t.Parallel()
	for _, content := range [][]byte{{}, noise(10), bigContent(false), bigContent(true), append(bytes.Clone(zstdMagic), bigContent(false)...)} {
		d := newFaulty()
		s := uncached(d)
		digest, n, err := s.PutFile(t.Context(), writeFile(t, content))
		require.NoError(t, err)
		require.Equal(t, Sum(content), digest)
		require.Equal(t, int64(len(content)), n)
		whole, err := s.GetBlob(t.Context(), digest)
		require.NoError(t, err)
		require.True(t, bytes.Equal(content, whole))
		streamed, err := readBlob(t, s, digest)
		require.NoError(t, err)
		require.True(t, bytes.Equal(content, streamed))
		d.reset()
		_, _, err = s.PutFile(t.Context(), writeFile(t, content))
		require.NoError(t, err)
		require.Empty(t, d.blobs(), "it is there already")
	}
}

// A file that changes while it is sent is not kept under a digest that it does not have.
func TestFileThatChanges(t *testing.T) {
	t.Parallel()
	d := newFaulty()
	s := New(d, Options{})
	path := writeFile(t, bigContent(false))
	d.fail = func(op, _ string, _ int) error {
		if op == "put" {
			require.NoError(t, os.WriteFile(path, bigContent(true), 0o600))
			require.NoError(t, os.Chtimes(path, time.Time{}, time.Unix(1, 0)))
		}
		return nil
	}
	_, _, err := s.PutFile(t.Context(), path)
	require.ErrorContains(t, err, "the file changed while it was stored (finish writing it before the step returns)")
	require.False(t, d.has(t, Sum(bigContent(false)).key()))
}

// A reader goes on where the store broke off, as often as it takes, and gives up when nothing more comes for as long as its patience.
func TestReadsResume(t *testing.T) {
	t.Parallel()
	for _, compressible := range []bool{false, true} {
		content := bigContent(compressible)
		d := newFaulty()
		s := New(d, Options{Patience: time.Minute, CacheBytes: -1})
		digest, _, err := s.PutFile(t.Context(), writeFile(t, content))
		require.NoError(t, err)
		size := int64(len(d.object(t, digest.key())))
		var offsets []int64
		d.cut = func(_ string, offset int64) (int64, error) {
			offsets = append(offsets, offset)
			if offset+500_000 > size {
				return 0, nil
			}
			return 500_000, errDown
		}
		got, err := readBlob(t, s, digest)
		require.NoError(t, err)
		require.True(t, bytes.Equal(content, got))
		require.Greater(t, len(offsets), 3)
		for i, offset := range offsets {
			require.Equal(t, int64(i)*500_000, offset, "no byte is read twice")
		}
	}
}

func TestReadsGiveUp(t *testing.T) {
	t.Parallel()
	content := bigContent(false)
	d := newFaulty()
	digest, _, err := New(d, Options{}).PutFile(t.Context(), writeFile(t, content))
	require.NoError(t, err)
	d.cut = func(_ string, offset int64) (int64, error) { return max(0, 1_000_000-offset), errDown }
	for _, patience := range []time.Duration{0, 200 * time.Millisecond} {
		s := New(d, Options{Patience: patience, CacheBytes: -1})
		began := time.Now()
		r, err := s.OpenBlob(t.Context(), digest)
		require.NoError(t, err)
		got, err := io.ReadAll(r)
		require.ErrorIs(t, err, ErrUnavailable)
		require.NotErrorIs(t, err, ErrCorrupt)
		require.ErrorContains(t, err, "load blob in store \"mem:\"")
		require.GreaterOrEqual(t, time.Since(began), patience)
		require.Equal(t, content[:1_000_000], got)
		_, again := r.Read(make([]byte, 1))
		require.Equal(t, err, again)
		require.NoError(t, r.Close())
		require.True(t, d.has(t, digest.key()), "an unavailable store damages nothing")
	}

	// The context ends a read at once, however patient the store is.
	ctx, cancel := context.WithCancel(t.Context())
	r, err := New(d, Options{Patience: time.Hour}).OpenBlob(ctx, digest)
	require.NoError(t, err)
	time.AfterFunc(50*time.Millisecond, cancel)
	_, err = io.ReadAll(r)
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, r.Close())

	// Any other error ends it too.
	broken := errors.New("disk on fire")
	d.cut = func(string, int64) (int64, error) { return 10, broken }
	_, err = readBlob(t, New(d, Options{Patience: time.Hour}), digest)
	require.ErrorIs(t, err, broken)
}

// A stream that its reader leaves early leaves nothing running.
func TestStreamsCloseEarly(t *testing.T) {
	t.Parallel()
	d := newFaulty()
	s := New(d, Options{})
	digest, _, err := s.PutFile(t.Context(), writeFile(t, bigContent(true)))
	require.NoError(t, err)
	r, err := s.OpenBlob(t.Context(), digest)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	r, err = s.OpenBlob(t.Context(), digest)
	require.NoError(t, err)
	_, err = io.ReadFull(r, make([]byte, 10))
	require.NoError(t, err)
	require.NoError(t, r.Close())

	framed, err := openFramed(writeFile(t, bigContent(true)))
	require.NoError(t, err)
	_, err = framed.Read(make([]byte, 10))
	require.NoError(t, err)
	require.NoError(t, framed.Close()) // waits for the compressing goroutine
	_, err = s.OpenBlob(t.Context(), Digest{})
	require.ErrorContains(t, err, "zero digest")
	_, err = s.OpenBlob(t.Context(), Sum([]byte("nothing")))
	require.ErrorIs(t, err, ErrNotFound)
}
