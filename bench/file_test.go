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

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/internal/minio"
)

const (
	fileBytes  = 1 << 30
	fileRounds = 3
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
	contents := 0
	// round sends the file to a bucket of its own, and fetches it again.
	round := func(put, get string) (sent, fetched transferred) {
		contents++
		require.NoError(b, stamp(path, contents)) // what is there already would not be sent again
		bucket, err := server.NewBucket(b.Context())
		require.NoError(b, err)
		where := []string{"-store", server.Location(bucket, ""), "-endpoint", server.Endpoint, "-bucket", bucket}
		sent = transfer(b, program, server, append(where, "-path", path, put)...)
		fetched = transfer(b, program, server, append(where, "-path", copied, "-entries", string(sent.Entries), get)...)
		require.NoError(b, same(path, copied))
		require.NoError(b, os.Remove(copied))
		require.NoError(b, empty(b.Context(), server.Client(), bucket))
		return sent, fetched
	}
	alternate(fileRounds,
		func() {
			sent, fetched := round("put-file", "save-file")
			up.ours, down.ours = append(up.ours, sent), append(down.ours, fetched)
		},
		func() {
			sent, fetched := round("put-object", "get-object")
			up.theirs, down.theirs = append(up.theirs, sent), append(down.theirs, fetched)
		})

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
