package minio

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// module is where the version of MinIO is pinned, below the root of the repository.
const module = "tools/minio"

// Binary returns the path of the MinIO program. If it is not in the user's cache directory yet, Binary builds it, which takes some
// minutes, and tells progress so. It is safe for several processes at once: one builds, the others wait for it.
func Binary(ctx context.Context, progress io.Writer) (string, error) {
	source, err := findModule()
	if err != nil {
		return "", err
	}
	path, err := binaryPath(source)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return "", fmt.Errorf("build MinIO: %w", err)
	}
	unlock, err := lock(ctx, path+".lock")
	if err != nil {
		return "", fmt.Errorf("build MinIO: wait for another process that builds it: %w", err)
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	_, _ = fmt.Fprintf(progress, "building MinIO for the tests, once, into %s\n", path)
	if err := build(ctx, source, path); err != nil {
		return "", err
	}
	return path, nil
}

// findModule returns the directory of the pinning module, from anywhere in the repository.
func findModule() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find %s: %w", module, err)
	}
	for folder := start; ; folder = filepath.Dir(folder) {
		source := filepath.Join(folder, filepath.FromSlash(module))
		if _, err := os.Stat(filepath.Join(source, "go.mod")); err == nil {
			return source, nil
		}
		if folder == filepath.Dir(folder) {
			return "", fmt.Errorf("%s is not above %q (run this inside the repository)", module, start)
		}
	}
}

// binaryPath is named by everything that decides what is built, so that a changed pin is another file.
func binaryPath(source string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache directory: %w (set HOME or XDG_CACHE_HOME)", err)
	}
	pins := sha256.New()
	for _, name := range []string{"go.mod", "go.sum"} {
		content, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			return "", fmt.Errorf("read the pins of MinIO: %w", err)
		}
		pins.Write(content)
	}
	name := fmt.Sprintf("minio-%x-%s-%s-%s", pins.Sum(nil)[:6], runtime.Version(), runtime.GOOS, runtime.GOARCH)
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return filepath.Join(cache, "stepwell", name), nil
}

// build compiles MinIO and then gives it its name, so that a build that was killed leaves nothing that looks finished.
func build(ctx context.Context, source, path string) error {
	written := fmt.Sprintf("%s.%d.tmp", path, os.Getpid())
	defer os.Remove(written)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", written, "github.com/minio/minio")
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build MinIO in %q: %w\n%s", source, errors.Join(err, ctx.Err()), tail(output.Bytes()))
	}
	if err := os.Rename(written, path); err != nil {
		return fmt.Errorf("build MinIO: %w", err)
	}
	return nil
}

// tail is the end of a log.
func tail(log []byte) []byte { return log[max(0, len(log)-2000):] }
