package dir

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts/driver"
)

// What is written without a name leaves no folder for temporary files either, and has the rights of any new file.
func TestUnnamed(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	f, err := createUnnamed(root)
	if err != nil {
		t.Skip("files need names here: ", err)
	}
	require.NoError(t, f.Close())
	d, err := New(root)
	require.NoError(t, err)
	require.NoError(t, d.Put(t.Context(), "a/b/k", driver.Bytes([]byte("x")), driver.PutOptions{IfAbsent: true}))
	require.ErrorIs(t, d.Put(t.Context(), "a/b/k", driver.Bytes([]byte("y")), driver.PutOptions{IfAbsent: true}), driver.ErrExists)
	require.NoDirExists(t, filepath.Join(root, tmp))
	require.NoError(t, os.WriteFile(filepath.Join(root, "other"), []byte("x"), 0o666))
	got, err := os.Stat(filepath.Join(root, "a", "b", "k"))
	require.NoError(t, err)
	want, err := os.Stat(filepath.Join(root, "other"))
	require.NoError(t, err)
	require.Equal(t, want.Mode(), got.Mode())
	require.Equal(t, want.Size(), got.Size())
}
