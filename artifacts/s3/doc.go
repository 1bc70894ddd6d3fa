// Package s3 keeps artifacts in a bucket of Amazon S3, or of a server that speaks its protocol, such as MinIO.
//
// # Use
//
// Most programs name the store by its location and never import this package:
//
//	s3://bucket/prefix                                                                  Amazon S3
//	s3://bucket/prefix?region=eu-central-1                                              … in another region than the SDK's settings say
//	s3://bucket/prefix?endpoint=http://127.0.0.1:9000&region=us-east-1&path_style=true  MinIO
//
// The bucket must exist. Credentials are never part of a location: they come from the AWS SDK's own chain (AWS_ACCESS_KEY_ID and
// AWS_SECRET_ACCESS_KEY, AWS_PROFILE and the shared files, web identity, the role of a container or machine), and so does everything
// that the location leaves out. They need s3:GetObject, s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload on the objects and
// s3:ListBucket on the bucket; without the last one S3 answers "access denied" for an object that is not there.
//
// A program that has an aws.Config gives it to New in Options.AWS.
//
// # What it relies on
//
// The server must support conditional writes (If-None-Match: *) on PutObject and CompleteMultipartUpload. Amazon S3 and current
// MinIO do. A server that ignores the condition would let two tasks create the same document; Check notices it.
//
// # Transfers
//
// A body in memory up to 32 MiB, and a stream known to be smaller than one part, is one PutObject. Everything else is uploaded in
// parts of 8 MiB (16 MiB if the size is not known, more if 10,000 parts would not hold it), 4 at a time and at most 4 uploads at a
// time, so that uploads hold at most 4 × 6 parts in memory. S3 accepts objects up to 5 TiB; a stream of unknown size ends at
// 10,000 × 16 MiB = 156 GiB.
//
// A process that is killed leaves the parts of its unfinished upload in the bucket, invisible but paid for. A lifecycle rule with
// AbortIncompleteMultipartUpload removes them; MinIO does so by itself after a day.
//
// # Checksums
//
// Uploads carry CRC-32 checksums, which the server verifies before it answers; the SDK sends them in a header over plain HTTP and in
// a trailer over TLS. They cost a fraction of the digest that every blob gets anyway. A server that does not know trailers wants
// AWS_REQUEST_CHECKSUM_CALCULATION=when_required. Downloads are verified by the digest of the blob.
//
// # Failures
//
// The driver tries a request at most three times within about a second. Beyond that it reports driver.ErrUnavailable for everything
// that may pass (refused and broken connections, timeouts, 5xx, throttling), which artifacts.Options.Patience waits out. Wrong
// settings (missing bucket, wrong region, denied access, unknown or expired credentials) are errors that name their fix.
package s3
