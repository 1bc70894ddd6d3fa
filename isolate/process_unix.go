//go:build unix && !linux

package isolate

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// reap waits for the end of the process and kills its group.
func (p *Process) reap() (*os.ProcessState, error) {
	state, err := p.process.Wait()
	p.Signal(syscall.SIGKILL)
	return state, err
}

func preferVictim(int) {}

func oomKills() int64 { return 0 }

// maxRSS is the most memory that the process itself had, programs and files included.
func maxRSS(state *os.ProcessState) int64 {
	usage, ok := state.SysUsage().(*syscall.Rusage)
	switch {
	case !ok:
		return 0
	case runtime.GOOS == "darwin":
		return int64(usage.Maxrss)
	default:
		return int64(usage.Maxrss) << 10
	}
}

func pin(float64) (cpus []int, restore func()) { return nil, func() {} }

func unpin([]int) {}

func self() string { return fmt.Sprintf("0-%d-0", os.Getpid()) }

// gone says that a marker is of a process that has ended. One that has got its number since counts as it.
func gone(marker string) bool {
	parts := strings.Split(marker, "-")
	if len(parts) < 3 {
		return false
	}
	pid, err := strconv.Atoi(parts[1])
	return err == nil && syscall.Kill(pid, 0) == syscall.ESRCH
}

func killMarked(string) {}

func sweepProcesses() {}

func executable() (string, error) { return os.Executable() }

func adopt() {}

// Peak cannot be told on this system before the process has ended.
func Peak() int64 { return 0 }

// Childless cannot be told on this system.
func Childless() bool { return false }
