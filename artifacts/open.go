package artifacts

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/stepwell-flows/stepwell/artifacts/dir"
	"github.com/stepwell-flows/stepwell/artifacts/mem"
	"github.com/stepwell-flows/stepwell/artifacts/s3"
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
// Package s3 says more.
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
	case "overlay":
		return openOverlay(ctx, location, o)
	case "s3":
		at, err := parseS3(location)
		if err != nil {
			return nil, err
		}
		d, err := s3.New(ctx, at)
		if err != nil {
			return nil, fmt.Errorf("store s3://%s: %w", at.Bucket, err)
		}
		s := New(d, o)
		s.location = d.String()
		return s, nil
	}
	return nil, fmt.Errorf("store %q: unknown scheme %q (use a directory, file:///path, mem: or s3://bucket/prefix)", location, scheme)
}

func openDir(path string, o Options) (*Store, error) {
	d, err := dir.New(path)
	if err != nil {
		return nil, fmt.Errorf("store %q: %w", path, err)
	}
	s := New(d, o)
	s.location = d.String()
	return s, nil
}

// parseS3 reads an s3 location. Its errors do not quote the location: somebody may have put a secret into it.
func parseS3(location string) (s3.Options, error) {
	u, err := url.Parse(location)
	if err != nil || u.Opaque != "" || u.Fragment != "" || u.Port() != "" {
		return s3.Options{}, errors.New("store s3: not a location (write s3://bucket/prefix, and a server's address as ?endpoint=http://host:port)")
	}
	if u.User != nil {
		return s3.Options{}, errors.New("store s3: the location holds credentials (leave them out; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)")
	}
	o := s3.Options{Bucket: u.Hostname(), Prefix: u.Path}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return s3.Options{}, fmt.Errorf("store s3://%s: malformed query (separate its parts with &)", o.Bucket)
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(query)) {
		value := query[name][0]
		switch {
		case len(query[name]) > 1:
			errs = append(errs, fmt.Errorf("query %q is given %d times", name, len(query[name])))
		case name == "endpoint":
			o.Endpoint = value
		case name == "region":
			o.Region = value
		case name == "path_style":
			if o.PathStyle, err = strconv.ParseBool(value); err != nil {
				errs = append(errs, fmt.Errorf("query path_style=%q is neither true nor false", value))
			}
		default:
			errs = append(errs, fmt.Errorf("unknown query %q (use endpoint, region, path_style; everything else is the AWS SDK's settings)", name))
		}
	}
	if len(errs) > 0 {
		return s3.Options{}, fmt.Errorf("store s3://%s: %w", o.Bucket, errors.Join(errs...))
	}
	return o, nil
}
