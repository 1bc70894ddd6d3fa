//go:build unix

package isolate

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
)

// Marker is the variable that everything a process starts has in its environment.
const Marker = "STEPWELL_PROCESS"

var started atomic.Int64

// newMarker names a process of this process.
func newMarker() string { return fmt.Sprintf("%s-%d", self(), started.Add(1)) }

// dirPrefix begins the names of temporary directories.
const dirPrefix = "stepwell-step-"

// TempDir makes a directory that [Sweep] removes if this process cannot.
func TempDir() (string, error) { return os.MkdirTemp("", dirPrefix+self()+"-*") }

// Sweep ends what processes have left behind that were started by a process of this machine that is gone, and removes their
// directories. It may take some milliseconds for each thousand processes. Systems other than Linux have no way to find them.
func Sweep() {
	sweepProcesses()
	names, err := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*"))
	if err != nil {
		return
	}
	for _, name := range names {
		if gone(strings.TrimPrefix(filepath.Base(name), dirPrefix)) {
			_ = os.RemoveAll(name)
		}
	}
}
