package isolate

import (
	"bytes"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
}

// reap waits for the end of the process and kills its group while it is a zombie: nobody else can have its number then.
func (p *Process) reap() (*os.ProcessState, error) {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, p.process.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			break
		}
	}
	p.Signal(syscall.SIGKILL)
	return p.process.Wait()
}

// preferVictim makes the kernel choose this process before the one that started it when there is no memory left.
func preferVictim(pid int) {
	_ = os.WriteFile("/proc/"+strconv.Itoa(pid)+"/oom_score_adj", []byte("500"), 0)
}

// oomKills is how many processes the kernel has killed for want of memory since the machine started.
func oomKills() int64 {
	b, err := os.ReadFile("/proc/vmstat")
	if err != nil {
		return 0
	}
	_, after, ok := bytes.Cut(b, []byte("\noom_kill "))
	if !ok {
		return 0
	}
	line, _, _ := bytes.Cut(after, []byte("\n"))
	n, _ := strconv.ParseInt(string(line), 10, 64)
	return n
}

// maxRSS is not to be had: the kernel counts what the process was before it became the program.
func maxRSS(*os.ProcessState) int64 { return 0 }

// pinned counts the processes on each processor that were told to stay there.
var pinned struct {
	mu sync.Mutex
	by map[int]int
}

// pin lets this thread, and so the process that it starts, run on as many processors as the limit says: on those that the fewest
// other processes were told to stay on.
func pin(limit float64) (cpus []int, restore func()) {
	var all unix.CPUSet
	if limit <= 0 || unix.SchedGetaffinity(0, &all) != nil {
		return nil, func() {}
	}
	n := int(math.Ceil(limit))
	pinned.mu.Lock()
	defer pinned.mu.Unlock()
	if pinned.by == nil {
		pinned.by = map[int]int{}
	}
	var candidates []int
	for cpu := range len(all) * 64 {
		if all.IsSet(cpu) {
			candidates = append(candidates, cpu)
		}
	}
	if n >= len(candidates) {
		return nil, func() {}
	}
	slices.SortStableFunc(candidates, func(a, b int) int { return pinned.by[a] - pinned.by[b] })
	var set unix.CPUSet
	for _, cpu := range candidates[:n] {
		set.Set(cpu)
	}
	if unix.SchedSetaffinity(0, &set) != nil {
		return nil, func() {}
	}
	for _, cpu := range candidates[:n] {
		pinned.by[cpu]++
	}
	return candidates[:n], func() { _ = unix.SchedSetaffinity(0, &all) }
}

func unpin(cpus []int) {
	pinned.mu.Lock()
	defer pinned.mu.Unlock()
	for _, cpu := range cpus {
		pinned.by[cpu]--
	}
}

// self names this process: its space of process ids, its id, and when it started, as ids are used again.
var self = sync.OnceValue(func() string {
	pid := os.Getpid()
	born, _ := birth(pid)
	return pidSpace() + "-" + strconv.Itoa(pid) + "-" + strconv.FormatUint(born, 10)
})

// pidSpace tells containers apart that can see each other's processes, and machines that share a temporary directory: the number of
// the first space is the same on all of them, so the start of the machine is a part of it. There is no "-" in it.
var pidSpace = sync.OnceValue(func() string {
	link, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return "0"
	}
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	id := strings.ReplaceAll(strings.TrimSpace(string(boot)), "-", "")
	return strings.Trim(strings.TrimPrefix(link, "pid:"), "[]") + "." + id
})

// birth is when a process started, in ticks since the machine did.
func birth(pid int) (uint64, bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, false
	}
	fields := statFields(b)
	if len(fields) < 20 || fields[0] == "Z" {
		return 0, false
	}
	n, err := strconv.ParseUint(fields[19], 10, 64)
	return n, err == nil
}

// statFields are those of a stat file from the third, the state, on. The second is a name that may have spaces.
func statFields(b []byte) []string {
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return nil
	}
	return strings.Fields(string(b[i+1:]))
}

// gone says that a marker is of a process of this space that has ended.
func gone(marker string) bool {
	parts := strings.Split(marker, "-")
	if len(parts) < 3 || parts[0] != pidSpace() {
		return false
	}
	pid, err := strconv.Atoi(parts[1])
	if err != nil {
		return false
	}
	born, alive := birth(pid)
	return !alive || strconv.FormatUint(born, 10) != parts[2]
}

// pids lists all processes.
func pids() []int {
	d, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil
	}
	var all []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			all = append(all, pid)
		}
	}
	return all
}

// markerOf reads the marker of a process, "" if it has none or belongs to somebody else. Sure is false while the process becomes
// another program: for that time nobody can read its environment. It is read into the buffer in one go, for the same reason.
func markerOf(pid int, buf *[]byte) (marker string, sure bool) {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return "", true
	}
	defer f.Close()
	n, _ := f.ReadAt(*buf, 0)
	for ; n == len(*buf); n, _ = f.ReadAt(*buf, 0) {
		*buf = make([]byte, 2*n)
	}
	if n == 0 {
		return "", !becoming(pid)
	}
	prefix := []byte(Marker + "=")
	for setting := range bytes.SplitSeq((*buf)[:n], []byte{0}) {
		if v, ok := bytes.CutPrefix(setting, prefix); ok {
			return string(v), true
		}
	}
	return "", true
}

// becoming says that a process whose environment was empty may have one in a moment. A process that has none has a place for it, and
// a zombie or a thread of the kernel has no memory.
func becoming(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	const memory, start, end = 23 - 3, 50 - 3, 51 - 3 // see proc_pid_stat(5)
	fields := statFields(b)
	if len(fields) <= end || fields[memory] == "0" {
		return false
	}
	return fields[end] == "0" || fields[start] != fields[end]
}

// killMarked kills everything that has a marker. What starts new processes meanwhile is met in a later round.
func killMarked(marker string) { killAll(func(m string) bool { return m == marker }) }

func sweepProcesses() { killAll(gone) }

func killAll(match func(marker string) bool) {
	me, buf := os.Getpid(), make([]byte, 32<<10)
	for round := range 50 {
		again := false
		for _, pid := range pids() {
			if pid == me {
				continue
			}
			marker, sure := markerOf(pid, &buf)
			if !sure {
				again = true
			} else if marker != "" && match(marker) {
				again = true
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		if !again {
			return
		}
		time.Sleep(time.Duration(round+1) * time.Millisecond)
	}
}

// executable is this very program, even if its file was replaced since.
func executable() (string, error) { return "/proc/self/exe", nil }

// adopt makes this process the parent of what its children leave behind.
func adopt() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// Peak is the most memory that this process has used so far, counted as a limit counts it.
func Peak() int64 {
	_, high := memoryOf(os.Getpid())
	return high
}

// Childless says, in a [Child], that nothing that it started is left. It must be the last thing that it does.
func Childless() bool {
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		switch {
		case err == syscall.ECHILD:
			return true
		case err == syscall.EINTR || pid > 0:
		default:
			return false
		}
	}
}
