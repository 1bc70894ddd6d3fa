//go:build linux

package isolate

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What is told to everything in a unit or a terminal does not end a child: its parent decides when.
func TestChildOutlivesSignalsForAll(t *testing.T) {
	t.Parallel()
	c, err := StartChild(nil, 0, 0)
	require.NoError(t, err)
	defer c.discard()
	require.NoError(t, c.Hello())
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		c.Signal(s)
		require.NoError(t, c.Send("hello"))
		var answer string
		require.NoError(t, c.Receive(&answer), "after %s", s)
	}
}

// The connection with a child that has ended is over, though something that it left behind has it, too.
func TestChildLeavesItsConnection(t *testing.T) {
	t.Parallel()
	c, err := StartChild(nil, 0, 0)
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.Hello())
	require.NoError(t, c.Send("fork"))
	ended := make(chan error, 1)
	go func() {
		var answer string
		ended <- c.Receive(&answer)
	}()
	select {
	case err := <-ended:
		require.ErrorIs(t, err, io.EOF)
	case <-time.After(30 * time.Second):
		c.Kill()
		t.Fatal("the survivor keeps the connection")
	}
	require.Equal(t, 7, c.Wait().Code)
}

// While a process becomes another program its environment cannot be read. What does so all the time is found nonetheless.
func TestWaitEndsWhatBecomesAnotherProgram(t *testing.T) {
	t.Parallel()
	for range 20 {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "script"), []byte("echo >there; exec sh ./script"), 0o644))
		p := sh(t, Command{Dir: dir}, `setsid sh ./script >/dev/null & echo $!; while ! test -s there; do sleep 0.01; done`)
		require.Zero(t, p.Wait().Code)
		pid, err := strconv.Atoi(strings.Join(lines(p.Stdout), ""))
		require.NoError(t, err)
		t.Cleanup(func() {
			if t.Failed() {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		})
		require.Eventually(t, func() bool { _, alive := birth(pid); return !alive }, time.Minute, time.Millisecond)
	}
}

// A program is found from a working directory that is relative to this process's, and so can be started there.
func TestFindFromARelativeDirectory(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp(".", "testdata-") //nolint:usetesting // it has to be below the working directory
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tool"), []byte("#!/bin/sh\nexit 3\n"), 0o755))
	path, err := Find("./tool", nil, dir)
	require.NoError(t, err)
	p, err := Start(Command{Path: path, Args: []string{"./tool"}, Dir: dir})
	require.NoError(t, err)
	require.Equal(t, 3, p.Wait().Code)
}

// The first space of process ids has the same number on all machines.
func TestSweepLeavesOtherMachinesAlone(t *testing.T) {
	t.Parallel()
	number, err := os.Readlink("/proc/self/ns/pid")
	require.NoError(t, err)
	number = strings.Trim(strings.TrimPrefix(number, "pid:"), "[]")
	require.NotEqual(t, number, pidSpace())
	require.False(t, gone(fmt.Sprintf("%s-%d-1-7", number, 1<<30)))
	require.True(t, gone(fmt.Sprintf("%s-%d-1-7", pidSpace(), 1<<30)))
}
