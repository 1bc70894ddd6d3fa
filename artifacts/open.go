package artifacts

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/stepwell-flows/stepwell/artifacts/dir"
	"github.com/stepwell-flows/stepwell/artifacts/mem"
)

// Open returns the store at location:
//
//	./dir, /abs/dir      a directory, relative to the working directory
//	file:///abs/dir      the same, as a URL
//	mem:                 this process's memory, new with each Open
//	s3://bucket/prefix   a bucket of S3 or of a server that speaks its protocol
//
// An s3 location takes the queries endpoint (a URL), region, and path_style=true (the bucket in the path instead of the host name,
// as MinIO wants it). Everything else, the credentials above all, comes from the AWS SDK's own chain: environment, shared files, roles.
//
// Open does not talk to the store; see Store.Check.
func Open(ctx context.Context, location string, o Options) (*Store, error) {
	scheme, rest, ok := strings.Cut(location, ":")
	if !ok || strings.ContainsAny(scheme, "/.") {
		scheme = ""
	}
	switch strings.ToLower(scheme) {
	case "":
		return openDir(location, o)
	case "mem":
		if rest != "" {
			return nil, fmt.Errorf("store %q: memory has no name (write %q)", location, "mem:")
		}
		return New(mem.New(), o), nil
	case "file":
		u, err := url.Parse(location)
		if err != nil || (u.Host != "" && u.Host != "localhost") || !strings.HasPrefix(u.Path, "/") || u.RawQuery != "" {
			return nil, fmt.Errorf("store %q: not a file URL (write file:///absolute/path)", location)
		}
		return openDir(u.Path, o)
	}
	return nil, fmt.Errorf("store %q: unknown scheme %q (use a directory, file:///path, mem: or s3://bucket/prefix)", location, scheme)
}

func openDir(path string, o Options) (*Store, error) {
	d, err := dir.New(path)
	if err != nil {
		return nil, fmt.Errorf("store %q: %w", path, err)
	}
	return New(d, o), nil
}
