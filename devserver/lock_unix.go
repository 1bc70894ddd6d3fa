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
	held, err := flock(f, syscall.LOCK_EX)
	if held {
		return &lock{file: f}, nil
	}
	_ = f.Close()
	return nil, err
}

// isLocked says whether somebody holds the lock at path. For the moment that this takes, tryLock may fail elsewhere.
func isLocked(path string) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	free, err := flock(f, syscall.LOCK_SH)
	return !free && err == nil, err
}

// flock tries to lock f without waiting.
func flock(f *os.File, how int) (bool, error) {
	for {
		err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EWOULDBLOCK):
			return false, nil
		default:
			return false, &os.PathError{Op: "flock", Path: f.Name(), Err: err}
		}
	}
}

func (l *lock) unlock() { _ = l.file.Close() }
