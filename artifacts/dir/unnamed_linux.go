package dir

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// createUnnamed makes a file on the file system of a directory that is gone once it is closed, unless it gets a name before. Not every
// file system can: see O_TMPFILE in open(2).
func createUnnamed(dir string) (*os.File, error) {
	return os.OpenFile(dir, unix.O_TMPFILE|os.O_WRONLY, 0o666)
}

// nameFile gives it a name, which must be free.
func nameFile(f *os.File, path string) error {
	// Without /proc, a process would need the right to read everything.
	return unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(int(f.Fd())), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
}
