package minio

import (
	"bytes"
	"io"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"
)

func start(t *testing.T) *Server {
	t.Helper()
	s, err := Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

func TestServerKeepsPortAndData(t *testing.T) {
	t.Parallel()
	s := start(t)
	bucket, err := s.NewBucket(t.Context())
	require.NoError(t, err)
	key, endpoint := "a/b", s.Endpoint
	_, err = s.Client().PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader([]byte("kept"))})
	require.NoError(t, err)

	for _, stop := range []func(){s.Kill, s.Stop} {
		stop()
		_, err = s.Client().HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &bucket, Key: &key})
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		require.NoError(t, s.Restart(t.Context()))
		require.NoError(t, s.Restart(t.Context()), "a second start does nothing")
		require.Equal(t, endpoint, s.Endpoint)
		got, err := s.Client().GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: &key})
		require.NoError(t, err)
		content, err := io.ReadAll(got.Body)
		require.NoError(t, err)
		require.Equal(t, "kept", string(content))
	}
	require.Equal(t, "s3://"+bucket+"/x/y?endpoint="+endpoint+"&region=us-east-1&path_style=true", s.Location(bucket, "x/y"))
	require.Contains(t, s.Env(), "AWS_SECRET_ACCESS_KEY="+s.SecretKey)

	s.Close()
	require.NoDirExists(t, s.dir)
}
