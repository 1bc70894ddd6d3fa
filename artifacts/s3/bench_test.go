package s3_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/artifacts/driver"
	"github.com/stepwell-flows/stepwell/artifacts/s3"
)

func benchmarkDriver(b *testing.B) (*s3.Driver, s3.Options) {
	b.Helper()
	bucket, err := server.NewBucket(b.Context())
	require.NoError(b, err)
	cfg := server.Config()
	o := s3.Options{Bucket: bucket, Endpoint: server.Endpoint, PathStyle: true, AWS: &cfg}
	d, err := s3.New(b.Context(), o)
	require.NoError(b, err)
	return d, o
}

func BenchmarkSmall(b *testing.B) {
	d, _ := benchmarkDriver(b)
	body := driver.Bytes(noise(1 << 10))
	n := 0
	b.Run("put", func(b *testing.B) {
		for b.Loop() {
			n++
			require.NoError(b, d.Put(b.Context(), fmt.Sprintf("k/%d", n), body, driver.PutOptions{}))
		}
	})
	b.Run("create", func(b *testing.B) {
		for b.Loop() {
			n++
			require.NoError(b, d.Put(b.Context(), fmt.Sprintf("k/%d", n), body, ifAbsent))
		}
	})
	b.Run("get", func(b *testing.B) {
		for b.Loop() {
			r, err := d.Get(b.Context(), "k/1", 0)
			require.NoError(b, err)
			_, err = io.Copy(io.Discard, r)
			require.NoError(b, err)
			r.Close()
		}
	})
}

// BenchmarkUpload compares a gigabyte through Store.PutFile, whose first half is the digest, with the driver and with one PutObject
// of the SDK, and reports the most heap that was in use.
func BenchmarkUpload(b *testing.B) {
	const size = 1 << 30
	path := filepath.Join(b.TempDir(), "file")
	f, err := os.Create(path)
	require.NoError(b, err)
	for range size >> 24 {
		_, err := f.Write(noise(1 << 24))
		require.NoError(b, err)
	}
	require.NoError(b, f.Close())
	d, o := benchmarkDriver(b)
	run := func(name string, upload func(ctx context.Context) error) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(size)
			runtime.GC()
			stop, peak := make(chan struct{}), make(chan uint64)
			go func() {
				var most uint64
				for {
					select {
					case <-stop:
						peak <- most
						return
					case <-time.After(10 * time.Millisecond):
						var m runtime.MemStats
						runtime.ReadMemStats(&m)
						most = max(most, m.HeapInuse)
					}
				}
			}()
			for b.Loop() {
				require.NoError(b, upload(b.Context()))
			}
			close(stop)
			b.ReportMetric(float64(<-peak)/(1<<20), "peak-MiB")
			require.NoError(b, d.Delete(b.Context(), "k"))
			for info, err := range d.List(b.Context(), "") {
				require.NoError(b, err)
				require.NoError(b, d.Delete(b.Context(), info.Key))
			}
		})
	}
	run("PutObject", func(ctx context.Context) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		key := "k"
		_, err = server.Client().PutObject(ctx, &sdk.PutObjectInput{Bucket: &o.Bucket, Key: &key, Body: f})
		return err
	})
	run("driver", func(ctx context.Context) error {
		body := driver.Stream(size, func() (io.ReadCloser, error) { return os.Open(path) })
		return d.Put(ctx, "k", body, driver.PutOptions{})
	})
	run("PutFile", func(ctx context.Context) error {
		_, _, err := artifacts.New(d, artifacts.Options{}).PutFile(ctx, path)
		return err
	})
}
