package isolate

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
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
			// The kernel would look for what is relative from dir, where it has gone by then.
			abs, err := filepath.Abs(filepath.Join(dir, program))
			if err != nil {
				return "", &StartError{Program: program, err: err}
			}
			program = abs
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
