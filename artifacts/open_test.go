package artifacts_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/internal/minio"
)

// hermetic hides the AWS settings of this machine.
func hermetic(t *testing.T) {
	t.Helper()
	none := filepath.Join(t.TempDir(), "none")
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SESSION_TOKEN": "", "AWS_REGION": "", "AWS_DEFAULT_REGION": "",
		"AWS_PROFILE": "", "AWS_CONFIG_FILE": none, "AWS_SHARED_CREDENTIALS_FILE": none, "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_ENDPOINT_URL": "", "AWS_ENDPOINT_URL_S3": "",
	} {
		t.Setenv(name, value)
	}
}

// Not parallel: it changes the environment and the working directory.
func TestOpen(t *testing.T) {
	hermetic(t)
	t.Chdir(t.TempDir())
	here, err := os.Getwd()
	require.NoError(t, err)
	for location, want := range map[string]string{
		"store":                          filepath.Join(here, "store"),
		"./store":                        filepath.Join(here, "store"),
		"../x":                           filepath.Join(filepath.Dir(here), "x"),
		"/abs/store":                     "/abs/store",
		"/abs/with:colon":                "/abs/with:colon",
		"./s3:x":                         filepath.Join(here, "s3:x"),
		"file:///abs/store":              "/abs/store",
		"file:///abs/with%20space":       "/abs/with space",
		"file://localhost/abs/store":     "/abs/store",
		"FILE:///abs":                    "/abs",
		"mem:":                           "mem:",
		"s3://bucket?region=r":           "s3://bucket?region=r",
		"s3://bucket/?region=r":          "s3://bucket?region=r",
		"s3://bucket/a/b/?region=r":      "s3://bucket/a/b?region=r",
		"S3://bucket/a%20b?region=r":     "s3://bucket/a%20b?region=r",
		"s3://my.bucket-1/p?region=r":    "s3://my.bucket-1/p?region=r",
		"s3://b-1?path_style=1&region=r": "s3://b-1?region=r&path_style=true",
		"s3://b-1?region=r&path_style=false&endpoint=https%3A%2F%2Fhost": "s3://b-1?endpoint=https://host&region=r",
		"s3://b-1/p?endpoint=http://h:9000&region=r&path_style=true":     "s3://b-1/p?endpoint=http://h:9000&region=r&path_style=true",
		"s3://b-1/p?endpoint=http://h:9000":                              "s3://b-1/p?endpoint=http://h:9000",
	} {
		s, err := artifacts.Open(t.Context(), location, artifacts.Options{})
		require.NoError(t, err, location)
		require.Equal(t, want, s.String(), location)
		again, err := artifacts.Open(t.Context(), s.String(), artifacts.Options{})
		require.NoError(t, err, "its own name is a location")
		require.Equal(t, want, again.String())
	}

	for location, says := range map[string]string{
		"":                                           `store "": empty directory`,
		"mem:name":                                   `memory has no name (write "mem:")`,
		"file://host/abs":                            "not a file URL (write file:///absolute/path)",
		"file:relative":                              "not a file URL",
		"file:///abs?x=1":                            "not a file URL",
		"gs://bucket":                                `unknown scheme "gs" (use a directory, file:///path, mem: or s3://bucket/prefix)`,
		"http://host/bucket":                         `unknown scheme "http"`,
		"s3:bucket":                                  "not a location (write s3://bucket/prefix",
		"s3://bucket:9000/x":                         "a server's address as ?endpoint=http://host:port",
		"s3://bucket/x#y":                            "not a location",
		"s3://bucket/%zz":                            "not a location",
		"s3://":                                      "no bucket (write s3://bucket/prefix)",
		"s3:///prefix":                               "no bucket",
		"s3://Bucket?region=r":                       `bucket "Bucket" is not a name for a bucket`,
		"s3://b_b?region=r":                          "is not a name for a bucket",
		"s3://bucket/a//b?region=r":                  "has an empty segment",
		"s3://bucket/../b?region=r":                  `has the segment ".."`,
		"s3://bucket":                                "no region (add ?region=… to the location, or set AWS_REGION)",
		"s3://bucket?path-style=true":                `unknown query "path-style" (use endpoint, region, path_style; everything else is the AWS SDK's settings)`,
		"s3://bucket?region=a&region=b":              `query "region" is given 2 times`,
		"s3://bucket?path_style=yes":                 `query path_style="yes" is neither true nor false`,
		"s3://bucket?region=r;x":                     "malformed query",
		"s3://bucket?endpoint=host:9000":             `endpoint "host:9000" is not the URL of a server`,
		"s3://key:hunter2@bucket/x":                  "holds credentials (leave them out; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)",
		"s3://bucket?secret_key=hunter2":             `unknown query "secret_key"`,
		"s3://key:hunter2@bucket/%zz":                "not a location",
		"s3://bucket?endpoint=http://u:hunter2@host": "the endpoint holds credentials",
	} {
		_, err := artifacts.Open(t.Context(), location, artifacts.Options{})
		require.ErrorContains(t, err, says, location)
		require.NotContains(t, err.Error(), "hunter2")
	}
	_, err = artifacts.Open(t.Context(), "s3://bucket?path_style=x&zone=1", artifacts.Options{})
	require.ErrorContains(t, err, "path_style")
	require.ErrorContains(t, err, "zone", "all mistakes at once")
	entries, err := os.ReadDir(here)
	require.NoError(t, err)
	require.Empty(t, entries, "opening creates nothing")
}

// Not parallel: it changes the environment.
func TestOpenS3TakesTheSettingsOfTheSDK(t *testing.T) {
	hermetic(t)
	server, err := minio.Start(t.Context())
	require.NoError(t, err)
	defer server.Close()
	bucket, err := server.NewBucket(t.Context())
	require.NoError(t, err)
	location := server.Location(bucket, "below/here")

	s, err := artifacts.Open(t.Context(), location, artifacts.Options{})
	require.NoError(t, err)
	require.ErrorContains(t, s.Check(t.Context()), "no AWS credentials found (set AWS_ACCESS_KEY_ID")

	// The environment.
	t.Setenv("AWS_ACCESS_KEY_ID", server.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", server.SecretKey)
	s, err = artifacts.Open(t.Context(), location, artifacts.Options{})
	require.NoError(t, err)
	require.Equal(t, location, s.String())
	require.NoError(t, s.Check(t.Context()))
	require.NoError(t, s.CreateDoc(t.Context(), "doc", []byte("1")))

	// A profile in a shared file, with the endpoint in it too. The store is the same one.
	profile := filepath.Join(t.TempDir(), "config")
	require.NoError(t, os.WriteFile(profile, []byte("[profile minio]\nregion = us-east-1\nendpoint_url = "+server.Endpoint+
		"\naws_access_key_id = "+server.AccessKey+"\naws_secret_access_key = "+server.SecretKey+"\n"), 0o600))
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	t.Setenv("AWS_CONFIG_FILE", profile)
	t.Setenv("AWS_PROFILE", "minio")
	s, err = artifacts.Open(t.Context(), "s3://"+bucket+"/below/here?path_style=true", artifacts.Options{})
	require.NoError(t, err)
	got, err := s.GetDoc(t.Context(), "doc")
	require.NoError(t, err)
	require.Equal(t, "1", string(got))
	require.NotContains(t, s.String(), server.SecretKey)
}
