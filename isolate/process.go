//go:build unix

package isolate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Command says what to run.
type Command struct {
	// Path is the program, see [Find].
	Path string
	// Args are its arguments, the name of the program first.
	Args []string
	// Env is the environment. Of several settings of a name the last one counts. Nil means this process's.
	Env []string
	// Dir is the working directory. Defaults to that of this process.
	Dir string
	// Stdin is the standard input. Nil means that there is none.
	Stdin *os.File
	// Files are further open files, from descriptor 3 on.
	Files []*os.File
	// Memory is the most that the process and what it starts may use, in bytes. Zero means no limit.
	Memory int64
	// CPU is how many processors it may use, rounded up to whole ones (Linux). Zero means no limit.
	CPU float64
	// Keep is how much of the standard output, and as much of the standard error, is kept, in bytes. Defaults to 1 MiB.
	Keep int
}

// Process is a process that was started. Its methods are safe for concurrent use.
type Process struct {
	// Stdout and Stderr are what it prints.
	Stdout, Stderr *Output

	process *os.Process
	marker  string
	pipes   [2]*os.File // the reading ends of the outputs
	readers sync.WaitGroup
	watch   *watch
	cpus    []int
	// ooms is how many processes the system had killed for want of memory when this one began.
	ooms int64

	alone   atomic.Bool
	killing atomic.Bool
	waiting sync.Once
	exit    Exit
}

// Usage is what a process and those that it started have used.
type Usage struct {
	// PeakMemory is the most memory that was seen in use at a time, in bytes.
	PeakMemory int64
	// CPU is the time of processors, of the process and of those that it waited for.
	CPU time.Duration
}

// Exit is how a process ended.
type Exit struct {
	// Code is the exit code, -1 if a signal ended the process.
	Code int
	// Signal is what ended it, zero if it ended by itself.
	Signal syscall.Signal
	// Killed says that it was [Process.Kill].
	Killed bool
	// Memory is how much it used when it was killed for that, in bytes. Zero means that it was not.
	Memory int64
	// Starved says that the system killed it because the machine, or the container, had no memory left.
	Starved bool
	Usage   Usage
}

// starter is the thread that starts processes. The kernel takes the end of the thread that started a process, not of the whole
// process, for the death of its parent. So it must never end: https://go.dev/issue/27505.
var starter = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

// StartError says that a program could not be started. It is of no use to try again: see [StartError.Temporary].
type StartError struct {
	Program string
	err     error
}

// Error tells which program.
func (e *StartError) Error() string { return fmt.Sprintf("start %q: %v", e.Program, e.err) }

// Unwrap is the system's error.
func (e *StartError) Unwrap() error { return e.err }

// Temporary says that the machine had too many processes or too little memory.
func (e *StartError) Temporary() bool {
	for _, target := range []error{syscall.EAGAIN, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE, syscall.ETXTBSY, syscall.EINTR} {
		if errors.Is(e.err, target) {
			return true
		}
	}
	return false
}

// Start starts a process. Its error is a [*StartError]. The caller has to Wait.
func Start(c Command) (*Process, error) {
	failed := func(err error) (*Process, error) {
		if pe, ok := errors.AsType[*fs.PathError](err); ok && pe.Path == c.Path {
			err = pe.Err
		}
		return nil, &StartError{Program: c.Path, err: err}
	}
	if c.Dir != "" {
		switch st, err := os.Stat(c.Dir); {
		case err != nil:
			return failed(fmt.Errorf("working directory: %w", err))
		case !st.IsDir():
			return failed(fmt.Errorf("working directory %q: %w", c.Dir, syscall.ENOTDIR))
		}
	}
	if c.Env == nil {
		c.Env = os.Environ()
	}
	if c.Keep == 0 {
		c.Keep = 1 << 20
	}
	p := &Process{marker: newMarker(), ooms: oomKills()}
	var given []*os.File // closed here once the process has them
	defer func() {
		for _, f := range given {
			f.Close()
		}
	}()
	files := []*os.File{c.Stdin, nil, nil}
	if c.Stdin == nil {
		null, err := os.Open(os.DevNull)
		if err != nil {
			return failed(err)
		}
		files[0], given = null, append(given, null)
	}
	for i := range p.pipes {
		r, w, err := os.Pipe()
		if err != nil {
			p.closePipes()
			return failed(err)
		}
		p.pipes[i], files[i+1], given = r, w, append(given, w)
	}
	attr := &os.ProcAttr{
		Dir: c.Dir, Env: environment(append(c.Env[:len(c.Env):len(c.Env)], Marker+"="+p.marker)),
		Files: append(files, c.Files...), Sys: attributes(),
	}
	started := make(chan error)
	starter() <- func() {
		var restore func()
		p.cpus, restore = pin(c.CPU)
		var err error
		p.process, err = os.StartProcess(c.Path, c.Args, attr)
		restore()
		started <- err
	}
	if err := <-started; err != nil {
		unpin(p.cpus)
		p.closePipes()
		return failed(err)
	}
	preferVictim(p.process.Pid)
	p.Stdout, p.Stderr = newOutput(c.Keep), newOutput(c.Keep)
	p.readers.Go(func() { p.Stdout.read(p.pipes[0]) })
	p.readers.Go(func() { p.Stderr.read(p.pipes[1]) })
	p.watch = startWatch(p, c.Memory)
	return p, nil
}

func (p *Process) closePipes() {
	for _, f := range p.pipes {
		if f != nil {
			f.Close()
		}
	}
}

// PID is the process's number.
func (p *Process) PID() int { return p.process.Pid }

// Limit sets another limit of memory, in bytes. Zero means none.
func (p *Process) Limit(memory int64) { p.watch.setLimit(memory) }

// Signal sends a signal to the process and its group.
func (p *Process) Signal(s syscall.Signal) { _ = syscall.Kill(-p.process.Pid, s) }

// Kill kills the process and what it started. Wait says when they are gone.
func (p *Process) Kill() {
	p.killing.Store(true)
	p.Signal(syscall.SIGKILL)
	_ = p.process.Kill()
}

// Alone says that the process has told that nothing it started is left: there is no need to look for that.
func (p *Process) Alone() { p.alone.Store(true) }

// Wait waits for the end of the process, ends what it left behind, and reads the rest of what was printed.
func (p *Process) Wait() Exit {
	p.waiting.Do(p.wait)
	return p.exit
}

// drain is how long Wait reads on when everything that was found is dead: something may have the pipe that cannot be found.
const drain = 2 * time.Second

func (p *Process) wait() {
	state, err := p.reap()
	peak, over := p.watch.stop()
	if !p.alone.Load() {
		killMarked(p.marker)
	}
	unpin(p.cpus)
	read := make(chan struct{})
	go func() { p.readers.Wait(); close(read) }()
	select {
	case <-read:
	case <-time.After(drain):
	}
	p.closePipes()
	<-read

	p.exit = Exit{Code: -1, Killed: p.killing.Load(), Memory: over, Usage: Usage{PeakMemory: peak}}
	if err != nil {
		return
	}
	p.exit.Usage.CPU = state.UserTime() + state.SystemTime()
	if p.exit.Usage.PeakMemory == 0 {
		p.exit.Usage.PeakMemory = maxRSS(state)
	}
	p.exit.Code = state.ExitCode()
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		p.exit.Signal = status.Signal()
	}
	p.exit.Starved = p.exit.Signal == syscall.SIGKILL && !p.exit.Killed && over == 0 && oomKills() > p.ooms
}

// SignalName is the name of a signal, like "SIGSEGV".
func SignalName(s syscall.Signal) string {
	if name := unix.SignalName(s); name != "" {
		return name
	}
	return s.String()
}

// environment keeps the last setting of each name.
func environment(settings []string) []string {
	at := map[string]int{}
	var env []string
	for _, s := range settings {
		name, _, _ := strings.Cut(s, "=")
		if i, ok := at[name]; ok {
			env[i] = s
			continue
		}
		at[name] = len(env)
		env = append(env, s)
	}
	return env
}

// Find finds a program as a shell does: a name without a slash in the directories of PATH, anything else from dir. Env is as in
// [Command].
func Find(program string, env []string, dir string) (string, error) {
	if strings.Contains(program, "/") {
		if !filepath.IsAbs(program) {
			program = filepath.Join(dir, program)
			if dir == "" {
				abs, err := filepath.Abs(program)
				if err != nil {
					return "", &StartError{Program: program, err: err}
				}
				program = abs
			}
		}
		found, err := exec.LookPath(program)
		return found, notFound(program, err)
	}
	path := os.Getenv("PATH")
	for _, s := range env {
		if v, ok := strings.CutPrefix(s, "PATH="); ok {
			path = v
		}
	}
	for _, d := range filepath.SplitList(path) {
		if !filepath.IsAbs(d) { // what is in the working directory has to be called by its path
			continue
		}
		if found, err := exec.LookPath(filepath.Join(d, program)); err == nil {
			return found, nil
		}
	}
	return "", &StartError{Program: program, err: exec.ErrNotFound}
}

func notFound(program string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*exec.Error](err); ok {
		err = e.Err
	}
	return &StartError{Program: program, err: err}
}
