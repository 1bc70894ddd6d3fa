package s3_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/artifacts/driver"
	"github.com/stepwell-flows/stepwell/artifacts/s3"
	"github.com/stepwell-flows/stepwell/artifacts/storetest"
	"github.com/stepwell-flows/stepwell/internal/minio"
)

// server is shared by the tests that leave it running. Each has a bucket of its own.
var server *minio.Server

func TestMain(m *testing.M) {
	var err error
	server, err = minio.Start(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	server.Close()
	os.Exit(code)
}

// options are those of a store in a new bucket of s.
func options(t *testing.T, s *minio.Server) s3.Options {
	t.Helper()
	bucket, err := s.NewBucket(t.Context())
	require.NoError(t, err)
	cfg := s.Config()
	return s3.Options{Bucket: bucket, Endpoint: s.Endpoint, PathStyle: true, AWS: &cfg}
}

func open(t *testing.T, o s3.Options) *s3.Driver {
	t.Helper()
	d, err := s3.New(t.Context(), o)
	require.NoError(t, err)
	return d
}

func TestConformance(t *testing.T) {
	t.Parallel()
	o := options(t, server)
	var stores atomic.Int64
	storetest.Run(t, func(t *testing.T) driver.Driver {
		t.Helper()
		o := o
		o.Prefix = fmt.Sprintf("/team a/%d/", stores.Add(1))
		return open(t, o)
	})
}

// TestWholeBucket is for what a prefix could hide.
func TestWholeBucket(t *testing.T) {
	t.Parallel()
	d := open(t, options(t, server))
	require.NoError(t, artifacts.New(d, artifacts.Options{}).Check(t.Context()))
	for _, key := range []string{"a/b", "a/c", "d/e/f"} {
		require.NoError(t, d.Put(t.Context(), key, driver.Bytes([]byte(key)), driver.PutOptions{IfAbsent: true}))
	}
	var found []string
	for info, err := range d.List(t.Context(), "") {
		require.NoError(t, err)
		found = append(found, info.Key)
	}
	require.Equal(t, []string{"a/b", "a/c", "d/e/f"}, found)
	found = nil
	for name, err := range d.Dirs(t.Context(), "") {
		require.NoError(t, err)
		found = append(found, name)
	}
	require.Equal(t, []string{"a", "d"}, found)
}

// noise is content that does not compress, the same each time.
func noise(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(b) // never fails
	return b
}
