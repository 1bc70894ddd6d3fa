// Package minio runs a real MinIO server for tests and benchmarks.
//
// MinIO is a separate program, never linked (it is AGPL): Binary builds it from the module tools/minio, once, into the user's cache
// directory, and Start runs it on a free port of 127.0.0.1 with random credentials and its data in a temporary directory:
//
//	server, err := minio.Start(ctx)
//	…
//	defer server.Close()
//	bucket, err := server.NewBucket(ctx)
//	…
//	cmd.Env = append(os.Environ(), server.Env()...)
//	cmd.Args = append(cmd.Args, "--store", server.Location(bucket, "prefix"))
//
// Kill and Restart make an outage: the server comes back on the same port with the same data.
package minio
