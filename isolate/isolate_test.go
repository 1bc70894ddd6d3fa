//go:build linux

package isolate

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The test binary is a child, or one of the programs of the tests.
func TestMain(m *testing.M) {
	if c, ok := Parent(); ok {
		os.Exit(echo(c))
	}
	if eat := os.Getenv("TEST_EAT"); eat != "" {
		n, _ := strconv.Atoi(eat)
		os.Exit(eatMemory(n))
	}
	os.Exit(m.Run())
}

// echo answers each message with itself, and says where it runs.
func echo(c *Conn) int {
	for {
		var message string
		if c.Receive(&message) != nil {
			return 1
		}
		switch message {
		case "exit":
			return 4
		case "fork": // as C code may, which knows nothing of close-on-exec
			cmd := exec.Command("setsid", "sleep", "1000")
			cmd.ExtraFiles = []*os.File{c.w}
			if cmd.Start() != nil {
				return 3
			}
			return 7
		}
		if err := c.Send(fmt.Sprintf("%s from %d", message, os.Getpid())); err != nil {
			return 2
		}
	}
}

// eatMemory uses that many MiB, and as much in a process of its own, and stays.
func eatMemory(mib int) int {
	if os.Getenv("TEST_EAT_ALONE") == "" {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "TEST_EAT_ALONE=yes")
		if cmd.Start() != nil {
			return 5
		}
	}
	all := bytes.Repeat([]byte{1}, mib<<20)
	time.Sleep(time.Minute)
	return int(all[0])
}

func sh(t *testing.T, c Command, script string) *Process {
	t.Helper()
	c.Path, c.Args = "/bin/sh", []string{"sh", "-c", script}
	p, err := Start(c)
	require.NoError(t, err)
	return p
}

func lines(o *Output) []string {
	var all []string
	o.Each(func(line string) { all = append(all, line) })
	return all
}

func TestProcess(t *testing.T) {
	t.Parallel()
	in, err := os.Open("process.go")
	require.NoError(t, err)
	defer in.Close()
	dir := t.TempDir()
	p := sh(t, Command{Env: []string{"A=1", "PATH=" + os.Getenv("PATH"), "A=2"}, Dir: dir, Stdin: in}, "echo $A; pwd; head -1; echo no >&2; exit 7")
	e := p.Wait()
	require.Equal(t, 7, e.Code)
	require.Zero(t, e.Signal)
	require.False(t, e.Killed)
	require.Equal(t, []string{"2", dir, "//go:build unix"}, lines(p.Stdout))
	require.Equal(t, []string{"no"}, lines(p.Stderr))
	require.Equal(t, e, p.Wait(), "a second Wait tells the same")
}

func TestSignals(t *testing.T) {
	t.Parallel()
	e := sh(t, Command{}, "kill -TERM $$").Wait()
	require.Equal(t, []any{-1, syscall.SIGTERM, false}, []any{e.Code, e.Signal, e.Killed})
	require.Equal(t, "SIGTERM", SignalName(e.Signal))
	p := sh(t, Command{}, "sleep 1000")
	p.Kill()
	e = p.Wait()
	require.Equal(t, []any{syscall.SIGKILL, true, false}, []any{e.Signal, e.Killed, e.Starved})
}

func TestStartErrors(t *testing.T) {
	t.Parallel()
	_, err := Start(Command{Path: "/no/such/program", Args: []string{"program"}})
	require.EqualError(t, err, `start "/no/such/program": no such file or directory`)
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = Start(Command{Path: "/bin/sh", Args: []string{"sh"}, Dir: "/no/such/dir"})
	require.EqualError(t, err, `start "/bin/sh": working directory: stat /no/such/dir: no such file or directory`)
	text := filepath.Join(t.TempDir(), "text")
	require.NoError(t, os.WriteFile(text, []byte("no program"), 0o755))
	_, err = Start(Command{Path: text, Args: []string{text}})
	require.ErrorIs(t, err, syscall.ENOEXEC)
	start, ok := errors.AsType[*StartError](err)
	require.True(t, ok)
	require.False(t, start.Temporary())
	require.True(t, (&StartError{err: syscall.EAGAIN}).Temporary())
}

func TestFind(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tool"), []byte("#!/bin/sh\n"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "text"), nil, 0o644))
	for _, c := range []struct {
		program, path, dir, want, err string
	}{
		{program: "tool", path: "/nowhere:" + dir, want: filepath.Join(dir, "tool")},
		{program: "./tool", dir: dir, want: filepath.Join(dir, "tool")},
		{program: filepath.Join(dir, "tool"), dir: "/", want: filepath.Join(dir, "tool")},
		{program: "tool", path: "/nowhere", err: `start "tool": executable file not found`},
		{program: "tool", path: ".", dir: dir, err: `start "tool": executable file not found`},
		{program: "./text", dir: dir, err: "permission denied"},
	} {
		got, err := Find(c.program, []string{"PATH=/usr/bin", "PATH=" + c.path}, c.dir)
		if c.err != "" {
			require.ErrorContains(t, err, c.err)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, c.want, got)
	}
}

// Nothing that a process starts outlives it, in whatever session and however it hides its parent.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	p := sh(t, Command{Env: append(os.Environ(), "TEST_LEFT=yes")}, "sleep 1000 & setsid sleep 1000 & setsid sh -c 'setsid sleep 1000 & sleep 1000 &' & sleep 0.1; echo up")
	require.Equal(t, 0, p.Wait().Code)
	require.Equal(t, []string{"up"}, lines(p.Stdout))
	for _, pid := range pids() {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		require.NotContains(t, string(b), "TEST_LEFT=yes")
	}
}

// The memory of all processes together counts, and what they share counts once.
func TestMemory(t *testing.T) {
	t.Parallel()
	p, err := Start(Command{Path: os.Args[0], Args: os.Args[:1], Env: append(os.Environ(), "TEST_EAT=150"), Memory: 256 << 20})
	require.NoError(t, err)
	e := p.Wait()
	require.Greater(t, e.Memory, int64(256<<20), "two of 150 MiB are too much")
	require.GreaterOrEqual(t, e.Usage.PeakMemory, e.Memory)

	p, err = Start(Command{Path: os.Args[0], Args: os.Args[:1], Env: append(os.Environ(), "TEST_EAT=150"), Memory: 800 << 20})
	require.NoError(t, err)
	time.AfterFunc(1500*time.Millisecond, p.Kill)
	e = p.Wait()
	require.Zero(t, e.Memory)
	require.Positive(t, e.Usage.PeakMemory)
}

// A process with a limit of processors stays on as many.
func TestCPU(t *testing.T) {
	t.Parallel()
	p := sh(t, Command{CPU: 0.5}, "grep Cpus_allowed_list /proc/self/status")
	require.Equal(t, 0, p.Wait().Code)
	allowed := strings.TrimSpace(strings.TrimPrefix(lines(p.Stdout)[0], "Cpus_allowed_list:"))
	_, err := strconv.Atoi(allowed)
	require.NoError(t, err, "%q is one processor", allowed)
	p = sh(t, Command{}, "grep Cpus_allowed_list /proc/self/status")
	p.Wait()
	own, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	require.Contains(t, string(own), lines(p.Stdout)[0], "the next one is not bound")
}

func TestSweepKnowsWhoIsGone(t *testing.T) {
	t.Parallel()
	require.False(t, gone(newMarker()))
	require.True(t, gone(fmt.Sprintf("%s-%d-1-7", pidSpace(), os.Getpid())), "another process had the number")
	require.False(t, gone(fmt.Sprintf("1-%d-1-7", os.Getpid())), "nobody knows what is in another container")
	require.False(t, gone("nonsense"))
	dead := exec.Command("true")
	require.NoError(t, dead.Run())
	stale := filepath.Join(os.TempDir(), fmt.Sprintf("%s%s-%d-1-%d", dirPrefix, pidSpace(), dead.Process.Pid, os.Getpid())) //nolint:usetesting // where Sweep looks
	require.NoError(t, os.Mkdir(stale, 0o700))
	mine, err := TempDir()
	require.NoError(t, err)
	defer os.RemoveAll(mine)
	Sweep()
	require.NoDirExists(t, stale)
	require.DirExists(t, mine)
}

func TestChild(t *testing.T) {
	t.Parallel()
	c, err := StartChild([]string{"TEST_CHILD=yes"}, 0, 0)
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.Hello())
	require.NoError(t, c.Send("hello"))
	var answer string
	require.NoError(t, c.Receive(&answer))
	require.Equal(t, fmt.Sprintf("hello from %d", c.PID()), answer)
	require.NoError(t, c.Send("exit"))
	require.ErrorIs(t, c.Receive(&answer), io.EOF)
	require.Equal(t, 4, c.Wait().Code)
}

// The pool gives each child away once, and none that has died.
func TestPool(t *testing.T) {
	t.Parallel()
	var pool Pool
	var mu sync.Mutex
	var seen []int
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			c, ready, err := pool.Take()
			if err != nil {
				return
			}
			if ready || c.Hello() == nil {
				mu.Lock()
				seen = append(seen, c.PID())
				mu.Unlock()
			}
			c.discard()
		})
	}
	wg.Wait()
	slices.Sort(seen)
	require.Len(t, slices.Compact(seen), 8)

	spare := func() *Child {
		for {
			pool.mu.Lock()
			c := pool.spare
			pool.mu.Unlock()
			if c != nil {
				return c
			}
			pool.Prepare()
			time.Sleep(time.Millisecond)
		}
	}
	dead := spare()
	dead.Kill()
	dead.Wait()
	c, _, err := pool.Take()
	require.NoError(t, err)
	require.NotEqual(t, dead.PID(), c.PID())
	c.discard()
	spare().discard()
}
