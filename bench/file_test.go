package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/internal/minio"
)

const (
	fileBytes  = 1 << 30
	fileRounds = 5
	fileRatio  = 0.7
	fileMemory = 200 // MiB
)

// BenchmarkFile compares an artifacts.File with one plain request of the AWS SDK, up and down, on a real MinIO.
func BenchmarkFile(b *testing.B) {
	server, err := minio.Start(b.Context())
	require.NoError(b, err)
	b.Cleanup(server.Close)
	dir := b.TempDir()
	program := build(b, dir, "bench/transfer")
	path, copied := filepath.Join(dir, "content"), filepath.Join(dir, "copy")
	require.NoError(b, writeNoise(path, fileBytes))

	var up, down struct{ ours, theirs []transferred }
	for i := range fileRounds {
		require.NoError(b, stamp(path, i)) // what is there already would not be sent again
		bucket, err := server.NewBucket(b.Context())
		require.NoError(b, err)
		do := func(what, file, key, entries string) transferred {
			return transfer(b, program, server, "-store", server.Location(bucket, ""), "-endpoint", server.Endpoint,
				"-bucket", bucket, "-key", key, "-path", file, "-entries", entries, what)
		}
		inTurn(i,
			func() { up.ours = append(up.ours, do("put-file", path, "", "null")) },
			func() { up.theirs = append(up.theirs, do("put-object", path, plainKey, "null")) })

		// Both fetch the File's object, so that it lies on the server's disk in the same way. Once before, so that
		// neither waits for what the server has still to write.
		key := fileKey(b, server.Client(), bucket)
		fetch := func(what string) transferred {
			fetched := do(what, copied, key, string(up.ours[i].Entries))
			require.NoError(b, same(path, copied))
			require.NoError(b, os.Remove(copied))
			return fetched
		}
		fetch("get-object")
		inTurn(i,
			func() { down.ours = append(down.ours, fetch("save-file")) },
			func() { down.theirs = append(down.theirs, fetch("get-object")) })
		require.NoError(b, empty(b.Context(), server.Client(), bucket))
	}

	for _, way := range []struct {
		name, plain, metric string
		ours, theirs        []transferred
	}{
		{"upload", "PutObject", "up", up.ours, up.theirs},
		{"download", "GetObject", "down", down.ours, down.theirs},
	} {
		ours, theirs := speed(way.ours), speed(way.theirs)
		ratio := ours / theirs
		memory, theirMemory := peak(way.ours), peak(way.theirs)
		b.ReportMetric(ours, "MiB/s-"+way.metric)
		b.ReportMetric(ratio, "ratio-"+way.metric)
		b.ReportMetric(memory, "peak-MiB-"+way.metric)
		report(b, "File %s %.0f MiB/s, %s %.0f MiB/s, ratio %.2f (goal at least %.1f: %s); peak memory %.0f MiB, %s %.0f MiB (goal under %d MiB: %s)",
			way.name, ours, way.plain, theirs, ratio, fileRatio, verdict(ratio >= fileRatio),
			memory, way.plain, theirMemory, fileMemory, verdict(memory < fileMemory))
	}
}

// speed is the median in MiB/s.
func speed(all []transferred) float64 {
	var speeds []float64
	for _, t := range all {
		speeds = append(speeds, fileBytes/float64(1<<20)/t.Took.Seconds())
	}
	return median(speeds)
}

// peak is the largest memory of all rounds, in MiB.
func peak(all []transferred) float64 {
	var most float64
	for _, t := range all {
		most = max(most, float64(t.Peak)/(1<<20))
	}
	return most
}

// writeNoise writes a file that does not compress.
func writeNoise(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, rand.NewChaCha8([32]byte{1}), size)
	return errors.Join(err, f.Close())
}

// stamp makes the content another one.
func stamp(path string, n int) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%8d", n)
	return errors.Join(err, f.Close())
}

// same compares two files.
func same(a, b string) error {
	x, err := os.Open(a)
	if err != nil {
		return err
	}
	defer x.Close()
	y, err := os.Open(b)
	if err != nil {
		return err
	}
	defer y.Close()
	one, other := make([]byte, 1<<20), make([]byte, 1<<20)
	for {
		n, errX := io.ReadFull(x, one)
		m, errY := io.ReadFull(y, other)
		switch {
		case !bytes.Equal(one[:n], other[:m]):
			return fmt.Errorf("%q and %q differ", a, b)
		case errX == nil && errY == nil:
		case errX == io.EOF || errX == io.ErrUnexpectedEOF:
			return nil
		default:
			return errors.Join(errX, errY)
		}
	}
}

// plainKey is where the plain upload goes.
const plainKey = "plain"

// fileKey finds the object of the only File in a bucket.
func fileKey(b *testing.B, c *s3.Client, bucket string) string {
	b.Helper()
	page, err := c.ListObjectsV2(b.Context(), &s3.ListObjectsV2Input{Bucket: &bucket, Prefix: aws.String("blobs/")})
	require.NoError(b, err)
	require.Len(b, page.Contents, 1)
	require.EqualValues(b, fileBytes, *page.Contents[0].Size, "stored as it is")
	return *page.Contents[0].Key
}

// empty removes all objects of a bucket, which are few.
func empty(ctx context.Context, c *s3.Client, bucket string) error {
	page, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &bucket})
	if err != nil {
		return err
	}
	var all []types.ObjectIdentifier
	for _, o := range page.Contents {
		all = append(all, types.ObjectIdentifier{Key: o.Key})
	}
	_, err = c.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: &bucket, Delete: &types.Delete{Objects: all}})
	return err
}

// transferred is what the program tells.
type transferred struct {
	Took    time.Duration
	Peak    int64 // bytes of memory, 0 where the system does not tell
	Entries json.RawMessage
}

// transfer runs the program of that name.
func transfer(b *testing.B, program string, server *minio.Server, args ...string) (done transferred) {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), program, args...)
	cmd.Env = append(os.Environ(), server.Env()...)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	require.NoError(b, cmd.Run(), "%s", &problems)
	require.NoError(b, json.Unmarshal(out.Bytes(), &done), "%s", &out)
	return done
}
