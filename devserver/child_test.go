package devserver_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	tlog "go.temporal.io/sdk/log"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/devserver"
)

// childVariable makes this test binary a program that uses a development server: its value is a childOptions.
const childVariable = "STEPWELL_DEVSERVER_TEST"

func TestMain(m *testing.M) {
	if o, ok := os.LookupEnv(childVariable); ok {
		if err := childMain(o, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

type childOptions struct {
	Dir      string
	Existing bool
	Work     bool // run a worker
	Step     bool // run one step, for the time that it takes
	Wait     bool // start only when a line arrives on standard input
}

// childTimes are measured from the start of the program's main function.
type childTimes struct {
	Serving, Step, Stop time.Duration
}

type childReport struct {
	Address, WebUI, Namespace string
	Shared                    bool
	Took                      childTimes
}

// childMain starts a server, tells where on out, and serves until in ends.
func childMain(options string, in io.Reader, out io.Writer) error {
	began := time.Now()
	var o childOptions
	if err := json.Unmarshal([]byte(options), &o); err != nil {
		return err
	}
	input := bufio.NewReader(in)
	if o.Wait {
		if _, err := input.ReadString('\n'); err != nil {
			return err
		}
	}
	ctx := context.Background()
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	s, err := devserver.Start(ctx, stepwell.DevOptions{Dir: o.Dir, Existing: o.Existing, Logger: logger})
	if err != nil {
		return err
	}
	report := childReport{Address: s.Address, WebUI: s.WebUI, Namespace: s.Namespace, Shared: s.Shared}
	report.Took.Serving = time.Since(began)
	stopWork := func() {}
	if o.Work {
		c, err := client.DialContext(ctx, client.Options{
			HostPort: s.Address, Namespace: s.Namespace, Logger: tlog.NewStructuredLogger(slog.New(slog.DiscardHandler)),
		})
		if err != nil {
			return err
		}
		w := newWorker(c)
		if err := w.Start(); err != nil {
			return err
		}
		stopWork = func() { w.Stop(); c.Close() }
		if o.Step {
			r, err := c.ExecuteWorkflow(ctx, once(), steps, filepath.Join(o.Dir, "steps"), 1)
			if err != nil {
				return err
			}
			if err := r.Get(ctx, nil); err != nil {
				return err
			}
			report.Took.Step = time.Since(began)
		}
	}
	encoder := json.NewEncoder(out)
	if err := encoder.Encode(report); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, input); err != nil {
		return err
	}
	stopWork()
	began = time.Now()
	s.Stop()
	report.Took.Stop = time.Since(began)
	return encoder.Encode(report)
}

// process is a child that was started.
type process struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *json.Decoder
	server *stepwell.DevServer // without Stop
	took   childTimes
}

// launch starts a child that may still have to be told to go.
func launch(t testing.TB, o childOptions) *process {
	t.Helper()
	b, err := json.Marshal(o)
	require.NoError(t, err)
	self, err := os.Executable()
	require.NoError(t, err)
	p := &process{cmd: exec.Command(self)}
	p.cmd.Env = append(os.Environ(), childVariable+"="+string(b))
	p.cmd.Stderr = t.Output()
	p.in, err = p.cmd.StdinPipe()
	require.NoError(t, err)
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	p.out = json.NewDecoder(out)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
	})
	return p
}

// spawn starts a child and waits until it serves.
func spawn(t testing.TB, o childOptions) *process {
	t.Helper()
	p := launch(t, o)
	p.read(t)
	return p
}

func (p *process) read(t testing.TB) {
	t.Helper()
	var r childReport
	require.NoError(t, p.out.Decode(&r))
	p.server = &stepwell.DevServer{Address: r.Address, WebUI: r.WebUI, Namespace: r.Namespace, Shared: r.Shared}
	p.took = r.Took
}

// kill is kill -9.
func (p *process) kill(t testing.TB) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Kill())
	_ = p.cmd.Wait()
}

// end lets the child stop in order.
func (p *process) end(t testing.TB) {
	t.Helper()
	require.NoError(t, p.in.Close())
	p.read(t)
	require.NoError(t, p.cmd.Wait())
}

func answers(address string) bool {
	conn, err := net.Dial("tcp", address)
	if err == nil {
		_ = conn.Close()
	}
	return err == nil
}

func count(t testing.TB, c client.Client, query string) int64 {
	t.Helper()
	r, err := c.CountWorkflow(t.Context(), &workflowservice.CountWorkflowExecutionsRequest{Query: query})
	require.NoError(t, err)
	return r.GetCount()
}
