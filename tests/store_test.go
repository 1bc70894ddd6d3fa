package tests

import (
	"bytes"
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/artifacts/s3"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/internal/minio"
	"github.com/stepwell-flows/stepwell/records"
)

// s3Server starts a MinIO of the test's own with a bucket, and returns the store's location. The tests of one process
// share its environment, so the SDK's settings go to the programs that the test starts.
func s3Server(t testing.TB) (server *minio.Server, location string) {
	t.Helper()
	server, err := minio.Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(server.Close)
	bucket, err := server.NewBucket(t.Context())
	require.NoError(t, err)
	return server, server.Location(bucket, "team/flows")
}

// The examples on an S3 server, through the command line: run, fail, resume, read back.
func TestExamplesOnS3(t *testing.T) {
	t.Parallel()
	m, location := s3Server(t)
	dir, env := t.TempDir(), append(m.Env(), "STEPWELL_STORE="+location)
	code, stdout, stderr := call(t, "starter", dir, env, "run", "FlightDelayFlow", "--seed", "7")
	require.Equal(t, stepwell.ExitOK, code, "%s%s", stdout, stderr)
	code, onS3, stderr := call(t, "starter", dir, env, "dump", "FlightDelayFlow/latest/evaluate", "AUC")
	require.Equal(t, stepwell.ExitOK, code, stderr)
	onDisk := t.TempDir()
	code, stdout, stderr = call(t, "starter", onDisk, nil, "run", "FlightDelayFlow", "--seed", "7")
	require.Equal(t, stepwell.ExitOK, code, "%s%s", stdout, stderr)
	code, local, stderr := call(t, "starter", onDisk, nil, "dump", "FlightDelayFlow/latest/evaluate", "AUC")
	require.Equal(t, stepwell.ExitOK, code, stderr)
	require.Equal(t, local, onS3, "the same seed gives the same model, wherever the artifacts are")

	b := newBroken(t)
	code, stdout, stderr = call(t, "starter", dir, env, "run", "ChainFlow", "--fail-at", "c", "--fail-while", string(b))
	require.Equal(t, stepwell.ExitFailed, code, "%s%s", stdout, stderr)
	b.mend(t)
	code, stdout, stderr = call(t, "starter", dir, env, "resume", "ChainFlow")
	require.Equal(t, stepwell.ExitOK, code, "%s%s", stdout, stderr)
	require.Contains(t, stdout, "reuse")
	code, stdout, stderr = call(t, "starter", dir, env, "show", "ChainFlow/latest")
	require.Equal(t, stepwell.ExitOK, code, stderr)
	require.Contains(t, stdout, "completed")
	_, err := os.Stat(filepath.Join(dir, ".stepwell", "store"))
	require.ErrorIs(t, err, os.ErrNotExist, "nothing of the store is on disk")
}

// MinIO goes away for half a minute in the middle of a run, and the run finishes.
func TestStoreGoesAway(t *testing.T) {
	t.Parallel()
	m, location := s3Server(t)
	dir, env := t.TempDir(), append(m.Env(), "STEPWELL_STORE="+location)
	j, until := newJournal(t), filepath.Join(t.TempDir(), "go")
	p := start(t, "starter", dir, env, "run", "ChainFlow", "--journal", string(j), "--hold-at", "b", "--hold-until", until)
	eventually(t, "step b is running", func() bool { return len(j.lines()) == 2 })
	m.Kill()
	require.NoError(t, os.WriteFile(until, nil, 0o600)) // the step ends now, and cannot store what it made
	time.Sleep(30 * time.Second)
	require.Len(t, j.lines(), 2, "no other step started")
	require.NoError(t, m.Restart(t.Context()))
	require.Equal(t, stepwell.ExitOK, p.exit(t))

	code, stdout, stderr := call(t, "starter", dir, env, "dump", "ChainFlow/latest/d", "Trail")
	require.Equal(t, stepwell.ExitOK, code, stderr)
	require.Equal(t, "abcd", strings.Join(strings.FieldsFunc(stdout, func(r rune) bool { return r < 'a' || r > 'd' }), ""))
	require.Len(t, j.lines(), 4, "the step that had to wait did not run again")
}

// What keeps a bucket from being used is told in one line, before anything starts.
func TestUnusableBucket(t *testing.T) {
	t.Parallel()
	m, location := s3Server(t)
	known := append(none(), "AWS_ACCESS_KEY_ID="+m.AccessKey, "AWS_SECRET_ACCESS_KEY=wrong-secret")
	_, query, _ := strings.Cut(location, "?")
	for name, test := range map[string]struct {
		store string
		env   []string
		want  string
	}{
		"no credentials":       {location, none(), "credentials"},
		"wrong secret":         {location, known, "secret"},
		"unknown access key":   {location, append(none(), "AWS_ACCESS_KEY_ID=nobody", "AWS_SECRET_ACCESS_KEY=wrong-secret"), "access key"},
		"missing bucket":       {"s3://nosuchbucket/x?" + query, m.Env(), "nosuchbucket"},
		"unreachable endpoint": {"s3://bucket/x?endpoint=http://127.0.0.1:1&region=us-east-1&path_style=true", m.Env(), "127.0.0.1:1"},
		"unknown query":        {"s3://bucket?colour=red", m.Env(), "colour"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			code, stdout, stderr := call(t, "starter", dir, test.env, "run", "FlightDelayFlow", "--store", test.store)
			require.Equal(t, stepwell.ExitUnavailable, code, "%s%s", stdout, stderr)
			require.NotContains(t, strings.TrimSpace(stderr), "\n", "one line")
			require.Contains(t, stderr, test.want)
			require.NotContains(t, stderr, "wrong-secret")
			require.NotContains(t, stderr, m.SecretKey)
			_, err := os.Stat(filepath.Join(dir, ".stepwell"))
			require.ErrorIs(t, err, os.ErrNotExist, "something was started")
		})
	}
}

// none are no credentials at all: the SDK must not look for those of a machine in the cloud either.
func none() []string { return []string{"AWS_EC2_METADATA_DISABLED=true"} }

type files struct {
	In, Out artifacts.File
	Values  artifacts.Ref[[]float64]
	Sum     float64
}

// Files and references of some size go through S3 and come back as they were.
func TestFilesOnS3(t *testing.T) {
	t.Parallel()
	m, _ := s3Server(t)
	dir := t.TempDir()
	content := make([]byte, 40<<20)
	_, err := rand.Read(content)
	require.NoError(t, err)
	f := flow.New("FilesFlow",
		flow.Step("make", func(_ context.Context, s *files) error {
			path := filepath.Join(dir, "made.bin")
			s.In.SetPath(path)
			s.Values.Set([]float64{1, 2, 3.5})
			return os.WriteFile(path, content, 0o600)
		}),
		flow.Step("copy", func(ctx context.Context, s *files) error {
			path := filepath.Join(dir, "copied.bin")
			if err := s.In.Save(ctx, path); err != nil {
				return err
			}
			s.Out.SetPath(path)
			values, err := s.Values.Load(ctx)
			for _, v := range values {
				s.Sum += v
			}
			return err
		}),
	)
	bucket, err := m.NewBucket(t.Context())
	require.NoError(t, err)
	config := m.Config()
	r := newRigOver(t, func() (*artifacts.Store, error) {
		d, err := s3.New(t.Context(), s3.Options{Bucket: bucket, Endpoint: m.Endpoint, PathStyle: true, AWS: &config})
		return artifacts.New(d, artifacts.Options{Patience: time.Minute}), err
	}, f)
	run := r.run(f, nil)
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	s := lastState[files](t, run, f)
	require.InDelta(t, 6.5, s.Sum, 0)
	require.Equal(t, artifacts.Sum(content), s.Out.Digest())
	require.Equal(t, s.In.Digest(), s.Out.Digest(), "the same content is one blob")
	back := filepath.Join(dir, "back.bin")
	require.NoError(t, s.Out.Save(t.Context(), back))
	got, err := os.ReadFile(back)
	require.NoError(t, err)
	require.True(t, bytes.Equal(content, got))
}
