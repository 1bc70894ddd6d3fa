package s3_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/artifacts/driver"
	"github.com/stepwell-flows/stepwell/artifacts/s3"
	"github.com/stepwell-flows/stepwell/internal/minio"
)

const (
	// outage is longer than the driver bridges by itself.
	outage = 2 * time.Second
	// patience is longer than any machine makes of it.
	patience = 5 * time.Minute
)

// ownServer returns a server that the test may stop, and a driver for it.
func ownServer(t *testing.T) (*minio.Server, *s3.Driver) {
	t.Helper()
	s, err := minio.Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s, open(t, options(t, s))
}

// restart starts a killed server again after a while. The channel is closed when it is up.
func restart(t *testing.T, s *minio.Server) <-chan struct{} {
	t.Helper()
	up := make(chan struct{})
	go func() {
		defer close(up)
		time.Sleep(outage)
		if err := s.Restart(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}()
	return up
}

func patient(d driver.Driver) *artifacts.Store {
	return artifacts.New(d, artifacts.Options{Patience: patience, CacheBytes: -1})
}

// breaking is a driver whose next upload loses its server after 12 MiB.
type breaking struct {
	driver.Driver
	lose func()
	done atomic.Bool
}

func (b *breaking) Put(ctx context.Context, key string, body driver.Body, o driver.PutOptions) error {
	return b.Driver.Put(ctx, key, driver.Stream(body.Size(), func() (io.ReadCloser, error) {
		r, err := body.Open()
		if err != nil || !b.done.CompareAndSwap(false, true) {
			return r, err
		}
		return truncated{io.MultiReader(io.LimitReader(r, 12<<20), atEnd(b.lose), r), r}, nil
	}), o)
}

func TestOutageDuringUpload(t *testing.T) {
	t.Parallel()
	s, d := ownServer(t)
	path := filepath.Join(t.TempDir(), "file")
	content := noise(30 << 20)
	require.NoError(t, os.WriteFile(path, content, 0o600))

	_, _, err := artifacts.New(&breaking{Driver: d, lose: s.Kill}, artifacts.Options{}).PutFile(t.Context(), path)
	require.ErrorIs(t, err, driver.ErrUnavailable, "without patience")
	require.NoError(t, s.Restart(t.Context()))
	for info, err := range d.List(t.Context(), "") {
		require.NoError(t, err)
		require.Fail(t, "half an upload is no object", info.Key)
	}

	var up <-chan struct{}
	began := time.Now()
	digest, size, err := patient(&breaking{Driver: d, lose: func() {
		s.Kill()
		up = restart(t, s)
	}}).PutFile(t.Context(), path)
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Since(began), outage)
	require.Equal(t, int64(len(content)), size)
	<-up
	r, err := patient(d).OpenBlob(t.Context(), digest)
	require.NoError(t, err)
	defer r.Close()
	got, err := io.ReadAll(r)
	require.NoError(t, err)
	require.True(t, bytes.Equal(content, got))
}

func TestOutageDuringDownload(t *testing.T) {
	t.Parallel()
	s, d := ownServer(t)
	// More than the buffers of the connection hold.
	content := noise(64 << 20)
	digest, err := patient(d).PutBlob(t.Context(), content)
	require.NoError(t, err)

	impatient, err := artifacts.New(d, artifacts.Options{CacheBytes: -1}).OpenBlob(t.Context(), digest)
	require.NoError(t, err)
	defer impatient.Close()
	r, err := patient(d).OpenBlob(t.Context(), digest)
	require.NoError(t, err)
	defer r.Close()
	got := make([]byte, len(content))
	_, err = io.ReadFull(r, got[:1<<20])
	require.NoError(t, err)
	_, err = io.ReadFull(impatient, make([]byte, 1<<20))
	require.NoError(t, err)

	s.Kill()
	_, err = io.Copy(io.Discard, impatient)
	require.ErrorIs(t, err, driver.ErrUnavailable, "without patience")
	up := restart(t, s)
	_, err = io.ReadFull(r, got[1<<20:])
	require.NoError(t, err)
	require.True(t, bytes.Equal(content, got))
	_, err = r.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "the whole was verified")
	<-up
}

// TestOutageDuringSmallPuts loses the server twice while eight writers create documents and overwrite others.
func TestOutageDuringSmallPuts(t *testing.T) {
	t.Parallel()
	s, d := ownServer(t)
	store := patient(d)
	const writers, least = 8, 20
	var over atomic.Bool
	var counts [writers]int
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for n := 0; n < least || !over.Load(); n++ {
				content := fmt.Appendf(nil, "writer %d document %d", w, n)
				if err := store.CreateDoc(t.Context(), fmt.Sprintf("created/%d/%d", w, n), content); err != nil {
					t.Errorf("create %d of %d: %v", n, w, err)
					return
				}
				if err := store.PutDoc(t.Context(), fmt.Sprintf("put/%d", w), content); err != nil {
					t.Errorf("put %d of %d: %v", n, w, err)
					return
				}
				counts[w]++
			}
		})
	}
	for range 2 {
		time.Sleep(300 * time.Millisecond)
		s.Kill()
		err := artifacts.New(d, artifacts.Options{}).PutDoc(t.Context(), "put/impatient", nil)
		require.ErrorIs(t, err, driver.ErrUnavailable)
		<-restart(t, s)
	}
	over.Store(true)
	all.Wait()
	for w := range writers {
		for n := range counts[w] {
			got, err := store.GetDoc(t.Context(), fmt.Sprintf("created/%d/%d", w, n))
			require.NoError(t, err)
			require.Equal(t, fmt.Sprintf("writer %d document %d", w, n), string(got))
		}
		got, err := store.GetDoc(t.Context(), fmt.Sprintf("put/%d", w))
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("writer %d document %d", w, counts[w]-1), string(got))
	}
}
