package minio

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBinaryPathFollowsThePins(t *testing.T) {
	t.Parallel()
	source, other := t.TempDir(), t.TempDir()
	for _, dir := range []string{source, other} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module x\n"), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "go.sum"), nil, 0o600))
	}
	a, err := binaryPath(source)
	require.NoError(t, err)
	b, err := binaryPath(other)
	require.NoError(t, err)
	require.Equal(t, a, b)

	require.NoError(t, os.WriteFile(filepath.Join(other, "go.sum"), []byte("changed"), 0o600))
	b, err = binaryPath(other)
	require.NoError(t, err)
	require.NotEqual(t, a, b)
}

func TestBinaryIsThere(t *testing.T) {
	t.Parallel()
	path, err := Binary(t.Context(), os.Stderr)
	require.NoError(t, err)
	before, err := os.Stat(path)
	require.NoError(t, err)
	again, err := Binary(t.Context(), io.Discard)
	require.NoError(t, err)
	require.Equal(t, path, again)
	after, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, before.ModTime(), after.ModTime(), "it was built again")
}

func TestFailedBuildLeavesNothing(t *testing.T) {
	t.Parallel()
	source, cache := t.TempDir(), t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(source, "go.mod"), []byte("module x\n\ngo 1.26.0\n"), 0o600))
	err := build(t.Context(), source, filepath.Join(cache, "minio"))
	require.ErrorContains(t, err, "build MinIO in")
	require.ErrorContains(t, err, "github.com/minio/minio")
	left, err := os.ReadDir(cache)
	require.NoError(t, err)
	require.Empty(t, left)
}
