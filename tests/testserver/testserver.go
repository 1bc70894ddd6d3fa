// Package testserver gives the tests of a package one embedded Temporal server.
//
// The server is a process of its own, the test binary as "starter dev": the race detector is for Stepwell, and the Temporal
// server has races of its own, and is ten times as slow under the detector. STEPWELL_TEST_SERVER therefore may name another test binary
// for it, one that was built without; see the Makefile. A package calls [Main] from its TestMain, and [Get] where it needs the
// server.
package testserver

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"

	"github.com/stepwell-flows/stepwell"
)

// Program makes the test binary be the program under test: its value is "starter" or "worker".
const Program = "STEPWELL_TEST_PROGRAM"

// serverBinary names the test binary that runs the server, of any package that calls [Main].
const serverBinary = "STEPWELL_TEST_SERVER"

// tethered makes a program end with the process that holds the other end of its standard input.
const tethered = "STEPWELL_TEST_TETHERED"

// Main runs the tests of a package, or is the program that one of them started. The app needs its Dev.
func Main(m *testing.M, app stepwell.App) {
	app.Child()
	switch os.Getenv(Program) {
	case "starter":
		tether()
		app.Main()
	case "worker":
		app.Dev = nil
		app.Worker()
	}
	dir, err := os.MkdirTemp("", "stepwell-tests-")
	if err != nil {
		panic(err)
	}
	shared.dir = dir
	code := m.Run()
	shared.stop()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

func tether() {
	if os.Getenv(tethered) == "" {
		return
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
}

var shared Server

// Server is the embedded server of all tests of a package that do not stop theirs.
type Server struct {
	Address, Namespace string

	once sync.Once
	dir  string
	cmd  *exec.Cmd
	err  error
}

// Get returns the server. The first call starts it.
func Get(t testing.TB) *Server {
	t.Helper()
	shared.once.Do(func() { shared.err = shared.start() })
	require.NoError(t, shared.err)
	return &shared
}

func (s *Server) start() error {
	program := os.Getenv(serverBinary)
	if program == "" {
		var err error
		if program, err = os.Executable(); err != nil {
			return err
		}
	}
	s.cmd = exec.Command(program, "dev", "--state-dir", s.dir, "--task-queue", "shared")
	s.cmd.Env = []string{Program + "=starter", tethered + "=1", "PATH=" + os.Getenv("PATH"), "HOME=" + s.dir}
	if _, err := s.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.Namespace = "default"
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if address, ok := strings.CutPrefix(lines.Text(), "Temporal server "); ok {
			s.Address = address
		}
		if strings.Contains(lines.Text(), "polls task queue") {
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return nil
		}
	}
	return errors.New("the shared server did not start")
}

func (s *Server) stop() {
	if s.cmd != nil && s.cmd.Process != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	}
}

// Dial connects to the server until the test ends.
func (s *Server) Dial(t testing.TB) client.Client {
	t.Helper()
	c, err := client.DialContext(t.Context(), client.Options{
		HostPort: s.Address, Namespace: s.Namespace, Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler)),
		ConnectionOptions: client.ConnectionOptions{GetSystemInfoTimeout: time.Minute}, // a busy machine takes more than the default 5 s
	})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}
