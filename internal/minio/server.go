package minio

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Region is the region of every server.
const Region = "us-east-1"

// startTime bounds how long a server may take to answer.
const startTime = time.Minute

// Server is a MinIO server of this process's own. It is safe for concurrent use. Start makes one; it ends with Close, or with this
// process.
type Server struct {
	// Endpoint is its URL.
	Endpoint string
	// AccessKey and SecretKey are its administrator's.
	AccessKey, SecretKey string

	binary string
	dir    string // holds the data, the log and an empty home
	port   int

	mu      sync.Mutex
	process *process // nil while the server is down
}

// Start starts a server, with an empty store, and waits until it answers. It builds MinIO if need be.
func Start(ctx context.Context) (*Server, error) {
	binary, err := Binary(ctx, os.Stderr)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "stepwell-minio-")
	if err != nil {
		return nil, fmt.Errorf("start MinIO: %w", err)
	}
	s := &Server{binary: binary, dir: dir, AccessKey: "tester-" + rand.Text()[:8], SecretKey: rand.Text()}
	// Somebody else may take the port between its choice and its use.
	for range 5 {
		if s.port, err = freePort(ctx); err != nil {
			break
		}
		s.Endpoint = fmt.Sprintf("http://127.0.0.1:%d", s.port)
		if err = s.Restart(ctx); err == nil || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func freePort(ctx context.Context) (int, error) {
	var c net.ListenConfig
	l, err := c.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a port for MinIO: %w", err)
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// Restart starts the server on its old port with its old data, and waits until it answers. It does nothing while the server runs.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		return nil
	}
	logPath := filepath.Join(s.dir, "minio.log")
	p, err := startProcess(logPath, s.serverEnv(), s.binary, "server", "--quiet",
		"--address", fmt.Sprintf("127.0.0.1:%d", s.port),
		"--certs-dir", filepath.Join(s.dir, "certs"),
		filepath.Join(s.dir, "data"))
	if err != nil {
		return fmt.Errorf("start MinIO: %w", err)
	}
	if err := s.await(ctx, p); err != nil {
		p.end(syscall.SIGKILL)
		output, _ := os.ReadFile(logPath)
		return fmt.Errorf("start MinIO at %s: %w\n%s", s.Endpoint, err, tail(output))
	}
	s.process = p
	return nil
}

// serverEnv is the whole environment of the server: it must not find this machine's settings, nor call home.
func (s *Server) serverEnv() []string {
	return []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + s.dir,
		"TMPDIR=" + os.TempDir(),
		"MINIO_ROOT_USER=" + s.AccessKey,
		"MINIO_ROOT_PASSWORD=" + s.SecretKey,
		"MINIO_UPDATE=off",
		"MINIO_CALLHOME_ENABLE=off",
		"MINIO_BROWSER=off",
		"MINIO_SCANNER_SPEED=slowest",
	}
}

// await returns when the server answers an authenticated request, which no other program on its port could.
func (s *Server) await(ctx context.Context, p *process) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTime, fmt.Errorf("it does not answer after %s", startTime))
	defer cancel()
	client := s.Client()
	for {
		_, err := client.ListBuckets(ctx, &s3.ListBucketsInput{}, func(o *s3.Options) { o.RetryMaxAttempts = 1 })
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return errors.New("it ended")
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Kill ends the server at once, as a crash would. Its data stays.
func (s *Server) Kill() { s.stop(syscall.SIGKILL) }

// Stop lets the server end in order. Its data stays.
func (s *Server) Stop() { s.stop(syscall.SIGTERM) }

func (s *Server) stop(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		s.process.end(sig)
		s.process = nil
	}
}

// Close ends the server and removes its data.
func (s *Server) Close() {
	s.Kill()
	os.RemoveAll(s.dir)
}

// Config is the AWS SDK's configuration for the server, with its administrator's credentials.
func (s *Server) Config() aws.Config {
	return aws.Config{
		Region:      Region,
		Credentials: credentials.NewStaticCredentialsProvider(s.AccessKey, s.SecretKey, ""),
	}
}

// Client is a plain client of the AWS SDK.
func (s *Server) Client() *s3.Client {
	return s3.NewFromConfig(s.Config(), func(o *s3.Options) {
		o.BaseEndpoint = &s.Endpoint
		o.UsePathStyle = true
	})
}

// NewBucket creates a bucket with a name of its own.
func (s *Server) NewBucket(ctx context.Context) (string, error) {
	name := "bucket-" + strings.ToLower(rand.Text()[:12])
	return name, s.CreateBucket(ctx, name)
}

// CreateBucket creates a bucket.
func (s *Server) CreateBucket(ctx context.Context, name string) error {
	if _, err := s.Client().CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &name}); err != nil {
		return fmt.Errorf("create bucket %q: %w", name, err)
	}
	return nil
}

// Location is the store in bucket below prefix, which may be empty, as artifacts.Open takes it.
func (s *Server) Location(bucket, prefix string) string {
	return (&url.URL{
		Scheme:   "s3",
		Host:     bucket,
		Path:     "/" + prefix,
		RawQuery: "endpoint=" + s.Endpoint + "&region=" + Region + "&path_style=true",
	}).String()
}

// Env gives a process the credentials of the server's administrator, and nothing else of the AWS settings of this machine.
// Append it to os.Environ().
func (s *Server) Env() []string {
	none := filepath.Join(s.dir, "no-such-file")
	return []string{
		"AWS_ACCESS_KEY_ID=" + s.AccessKey,
		"AWS_SECRET_ACCESS_KEY=" + s.SecretKey,
		"AWS_SESSION_TOKEN=",
		"AWS_REGION=" + Region,
		"AWS_PROFILE=",
		"AWS_CONFIG_FILE=" + none,
		"AWS_SHARED_CREDENTIALS_FILE=" + none,
		"AWS_EC2_METADATA_DISABLED=true",
	}
}
