//go:build unix

package isolate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

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
	ended   atomic.Bool // exit is known
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
		Dir: c.Dir, Env: environment(append(slices.Clip(c.Env), Marker+"="+p.marker)),
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
	p.ended.Store(true) // before what it left behind is looked for, which takes a while
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
