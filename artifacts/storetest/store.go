package storetest

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/artifacts/driver"
)

// uncached is a store that asks the driver each time.
func uncached(d driver.Driver) *artifacts.Store {
	return artifacts.New(d, artifacts.Options{CacheBytes: -1})
}

func storeDocs(t *testing.T, d driver.Driver) {
	s := uncached(d)
	ctx := t.Context()
	_, err := s.GetDoc(ctx, "flows/F/r/run.json")
	require.ErrorIs(t, err, artifacts.ErrNotFound)
	require.NoError(t, s.CreateDoc(ctx, "flows/F/r/run.json", []byte("1")))
	require.ErrorIs(t, s.CreateDoc(ctx, "flows/F/r/run.json", []byte("2")), artifacts.ErrExists)
	content, err := s.GetDoc(ctx, "flows/F/r/run.json")
	require.NoError(t, err)
	require.Equal(t, "1", string(content))
	require.NoError(t, s.PutDoc(ctx, "flows/F/r/run.json", []byte("3")))
	content, err = s.GetDoc(ctx, "flows/F/r/run.json")
	require.NoError(t, err)
	require.Equal(t, "3", string(content))
	require.NoError(t, s.DeleteDoc(ctx, "flows/F/r/run.json"))
	require.NoError(t, s.DeleteDoc(ctx, "flows/F/r/run.json"))
	_, err = s.GetDoc(ctx, "flows/F/r/run.json")
	require.ErrorIs(t, err, artifacts.ErrNotFound)
}

func storeBlobs(t *testing.T, d driver.Driver) {
	s := uncached(d)
	ctx := t.Context()
	for name, content := range map[string][]byte{
		"empty": nil, "small": []byte("small"), "compressible": bytes.Repeat([]byte("compressible "), 10000), "noise": noise(2, 100<<10),
	} {
		digest, err := s.PutBlob(ctx, content)
		require.NoError(t, err, name)
		again, err := s.PutBlob(ctx, content)
		require.NoError(t, err, name)
		require.Equal(t, digest, again, name)
		got, err := s.GetBlob(ctx, digest)
		require.NoError(t, err, name)
		requireSame(t, content, got)
		require.NoError(t, s.VerifyBlob(ctx, digest, int64(len(content))), name)
		requireSame(t, content, streamed(t, s, digest))
	}
	infos, err := listed(ctx, d, "blobs/")
	require.NoError(t, err)
	require.Len(t, infos, 4, "one object for each content")
	_, err = s.GetBlob(ctx, artifacts.Sum([]byte("never stored")))
	require.ErrorIs(t, err, artifacts.ErrNotFound)
}

func streamed(t *testing.T, s *artifacts.Store, digest artifacts.Digest) []byte {
	t.Helper()
	r, err := s.OpenBlob(t.Context(), digest)
	require.NoError(t, err)
	defer r.Close()
	content, err := io.ReadAll(r)
	require.NoError(t, err)
	return content
}

func storeFiles(t *testing.T, d driver.Driver) {
	s := uncached(d)
	for name, content := range map[string][]byte{
		"small": []byte("small"),
		"noise": noise(3, 18<<20),
		// Compresses to about a half, so that its object is more than one part of unknown size.
		"text": bytes.ReplaceAll(noise(4, 18<<20), []byte{0}, bytes.Repeat([]byte("zero"), 64)),
	} {
		path := filepath.Join(t.TempDir(), "file")
		require.NoError(t, os.WriteFile(path, content, 0o600))
		digest, size, err := s.PutFile(t.Context(), path)
		require.NoError(t, err, name)
		require.Equal(t, int64(len(content)), size, name)
		require.Equal(t, artifacts.Sum(content), digest, name)
		requireSame(t, content, streamed(t, s, digest))
	}
}

// damage flips one bit in the middle of the only blob.
func damage(t *testing.T, d driver.Driver) (key string) {
	t.Helper()
	infos, err := listed(t.Context(), d, "blobs/")
	require.NoError(t, err)
	require.Len(t, infos, 1)
	object := get(t, d, infos[0].Key, 0)
	object[len(object)/2] ^= 1
	require.NoError(t, d.Put(t.Context(), infos[0].Key, driver.Bytes(object), always))
	return infos[0].Key
}

func storeCorrupt(t *testing.T, d driver.Driver) {
	s := uncached(d)
	content := noise(5, 20<<10)
	digest, err := s.PutBlob(t.Context(), content)
	require.NoError(t, err)
	key := damage(t, d)
	require.ErrorIs(t, s.VerifyBlob(t.Context(), digest, int64(len(content))), artifacts.ErrCorrupt)
	requireHealed(t, s, d, key, digest, content)

	damage(t, d)
	_, err = s.GetBlob(t.Context(), digest)
	requireCorrupt(t, err, s, key)
	requireHealed(t, s, d, key, digest, content)
}

func storeCorruptStream(t *testing.T, d driver.Driver) {
	s := uncached(d)
	content := noise(6, 9<<20)
	digest, err := s.PutBlob(t.Context(), content)
	require.NoError(t, err)
	key := damage(t, d)
	r, err := s.OpenBlob(t.Context(), digest)
	require.NoError(t, err)
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	requireCorrupt(t, err, s, key)
	requireHealed(t, s, d, key, digest, content)
}

// requireCorrupt checks that the error names the object and its store.
func requireCorrupt(t *testing.T, err error, s *artifacts.Store, key string) {
	t.Helper()
	require.ErrorIs(t, err, artifacts.ErrCorrupt)
	var corrupt *artifacts.CorruptError
	require.ErrorAs(t, err, &corrupt)
	require.Equal(t, key, corrupt.Key)
	require.Equal(t, s.String(), corrupt.Store)
	require.NotEmpty(t, corrupt.Quarantine)
}

// requireHealed checks that the damaged object was moved away, so that storing the content again works.
func requireHealed(t *testing.T, s *artifacts.Store, d driver.Driver, key string, digest artifacts.Digest, content []byte) {
	t.Helper()
	_, err := d.Stat(t.Context(), key)
	require.ErrorIs(t, err, driver.ErrNotFound)
	infos, err := listed(t.Context(), d, "corrupt/")
	require.NoError(t, err)
	require.NotEmpty(t, infos)
	require.True(t, strings.HasSuffix(infos[0].Key, key))

	again, err := s.PutBlob(t.Context(), content)
	require.NoError(t, err)
	require.Equal(t, digest, again)
	got, err := s.GetBlob(t.Context(), digest)
	require.NoError(t, err)
	requireSame(t, content, got)
}

func storeCheck(t *testing.T, d driver.Driver) {
	require.NoError(t, uncached(d).Check(t.Context()))
	infos, err := listed(t.Context(), d, "")
	require.NoError(t, err)
	require.Empty(t, infos, "a check leaves nothing behind")
}
