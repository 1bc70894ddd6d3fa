//go:build unix

package devserver

import (
	"errors"
	"os"
	"syscall"
)

// lock is the exclusive right to run the server of a directory. The kernel gives it up when the process ends.
type lock struct{ file *os.File }

// tryLock takes the lock at path without waiting. It returns nil and no error when somebody else holds it.
func tryLock(path string) (*lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err == nil {
		return &lock{file: f}, nil
	}
	_ = f.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, nil
	}
	return nil, &os.PathError{Op: "flock", Path: path, Err: err}
}

func (l *lock) unlock() { _ = l.file.Close() }
