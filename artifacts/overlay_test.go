package artifacts

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts/driver"
	"github.com/stepwell-flows/stepwell/artifacts/mem"
)

// NewOverlayDriver is the driver of an overlay, for the conformance suite.
func NewOverlayDriver() driver.Driver { return &overlay{mem.New(), mem.New(), false} }

func TestOverlayLeavesTheBaseAlone(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	base, over := New(mem.New(), Options{}), New(mem.New(), Options{})
	require.NoError(t, base.PutDoc(ctx, "docs/a", []byte("a")))
	require.NoError(t, base.PutDoc(ctx, "docs/c", []byte("c")))
	d, err := base.PutBlob(ctx, bytes.Repeat([]byte("blob"), 10_000))
	require.NoError(t, err)

	s := Overlay(over, base)
	require.NoError(t, s.CreateDoc(ctx, "docs/a", []byte("new")), "what base has can be stood in for")
	require.ErrorIs(t, s.CreateDoc(ctx, "docs/a", []byte("newer")), ErrExists)
	require.NoError(t, s.PutDoc(ctx, "docs/b", []byte("b")))
	var keys []string
	for info, err := range s.List(ctx, "docs/") {
		require.NoError(t, err)
		keys = append(keys, info.Key)
	}
	require.Equal(t, []string{"docs/a", "docs/b", "docs/c"}, keys)
	for key, want := range map[string]string{"docs/a": "new", "docs/b": "b", "docs/c": "c"} {
		got, err := s.GetDoc(ctx, key)
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
	content, err := s.GetBlob(ctx, d)
	require.NoError(t, err)
	require.Len(t, content, 40_000)
	require.NoError(t, s.DeleteDoc(ctx, "docs/a"))
	got, err := s.GetDoc(ctx, "docs/a")
	require.NoError(t, err)
	require.Equal(t, "a", string(got))
	_, err = base.GetDoc(ctx, "docs/b")
	require.ErrorIs(t, err, ErrNotFound)
	require.NoError(t, over.CopyBlob(ctx, base, d))
	_, err = over.GetBlob(ctx, d)
	require.NoError(t, err)
}

func TestCopyingKeepsWhatWasRead(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	base, over := New(mem.New(), Options{}), New(mem.New(), Options{})
	d, err := base.PutBlob(ctx, []byte("read"))
	require.NoError(t, err)
	unread, err := base.PutBlob(ctx, []byte("unread"))
	require.NoError(t, err)

	s := Copying(over, base)
	_, err = s.GetBlob(ctx, d)
	require.NoError(t, err)
	_, err = s.GetDoc(ctx, "nowhere")
	require.ErrorIs(t, err, ErrNotFound)
	got, err := over.GetBlob(ctx, d)
	require.NoError(t, err)
	require.Equal(t, "read", string(got))
	_, err = over.GetBlob(ctx, unread)
	require.ErrorIs(t, err, ErrNotFound)
}

func TestOverlayCanBeOpenedElsewhere(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	base, err := Open(ctx, t.TempDir()+"/a&b", Options{})
	require.NoError(t, err)
	over, err := Open(ctx, t.TempDir(), Options{})
	require.NoError(t, err)
	require.NoError(t, base.PutDoc(ctx, "a", []byte("a")))
	location, o, ok := Overlay(over, base).Location()
	require.True(t, ok)
	s, err := Open(ctx, location, o)
	require.NoError(t, err)
	require.NoError(t, s.PutDoc(ctx, "b", []byte("b")))
	got, err := s.GetDoc(ctx, "a")
	require.NoError(t, err)
	require.Equal(t, "a", string(got))
	_, err = over.GetDoc(ctx, "b")
	require.NoError(t, err)

	_, _, ok = Overlay(New(mem.New(), Options{}), base).Location()
	require.False(t, ok, "memory is nobody else's")
	_, err = Open(ctx, "overlay:?over=x", Options{})
	require.ErrorContains(t, err, "two stores")
}
