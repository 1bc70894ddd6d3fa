package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

func tarball(t *testing.T, name, content string) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	gz := gzip.NewWriter(&b)
	archive := tar.NewWriter(gz)
	require.NoError(t, archive.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}))
	_, err := io.WriteString(archive, content)
	require.NoError(t, err)
	require.NoError(t, archive.Close())
	require.NoError(t, gz.Close())
	return &b
}

func TestCut(t *testing.T) {
	t.Parallel()
	source := `[{"date":"2001/01/01 00:47","delay":-6,"distance":1750,"origin":"DTW","destination":"LAS","time":3}]`
	var first, second bytes.Buffer
	require.NoError(t, cut(tarball(t, member, source), &first))
	require.NoError(t, cut(tarball(t, member, source), &second))
	require.Equal(t, first.Bytes(), second.Bytes())

	gz, err := gzip.NewReader(&first)
	require.NoError(t, err)
	content, err := io.ReadAll(gz)
	require.NoError(t, err)
	require.Equal(t, "date,delay,distance,origin,destination\n2001/01/01 00:47,-6,1750,DTW,LAS\n", string(content))
}

func TestCutRefuses(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, cut(tarball(t, "package/README.md", "hello"), io.Discard), "flights-20k.json")
	require.ErrorContains(t, cut(tarball(t, member, "{"), io.Discard), "flights-20k.json")
	require.Error(t, cut(bytes.NewBufferString("no tarball"), io.Discard))
}
