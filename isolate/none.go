//go:build !unix

package isolate

import (
	"errors"
	"os"
	"syscall"
)

// This system has no processes that could be isolated: nothing is ever started.
var errNone = &StartError{Program: "process", err: errors.ErrUnsupported}

// Process is a process that was started.
type Process struct{ Stdout, Stderr *Output }

// Start returns an error.
func Start(Command) (*Process, error) { return nil, errNone }

// PID is 0.
func (*Process) PID() int { return 0 }

// Limit does nothing.
func (*Process) Limit(int64) {}

// Signal does nothing.
func (*Process) Signal(syscall.Signal) {}

// Kill does nothing.
func (*Process) Kill() {}

// Alone does nothing.
func (*Process) Alone() {}

// Wait returns at once.
func (*Process) Wait() Exit { return Exit{} }

// SignalName is the name of a signal.
func SignalName(s syscall.Signal) string { return s.String() }

// TempDir makes a directory.
func TempDir() (string, error) { return os.MkdirTemp("", "stepwell-step-*") }

// Sweep does nothing.
func Sweep() {}

// Conn carries messages.
type Conn struct{}

// Send returns an error.
func (*Conn) Send(any) error { return errNone }

// Receive returns an error.
func (*Conn) Receive(any) error { return errNone }

// Close does nothing.
func (*Conn) Close() {}

// Parent returns false.
func Parent() (*Conn, bool) { return nil, false }

// Peak is not known.
func Peak() int64 { return 0 }

// Childless is not known.
func Childless() bool { return false }

// Child is a copy of this program.
type Child struct {
	*Process
	*Conn
}

// StartChild returns an error.
func StartChild([]string, int64, float64) (*Child, error) { return nil, errNone }

// Hello returns an error.
func (*Child) Hello() error { return errNone }

// Pool keeps no child.
type Pool struct{}

// Take returns an error.
func (*Pool) Take() (*Child, bool, error) { return nil, false, errNone }

// Prepare does nothing.
func (*Pool) Prepare() {}
