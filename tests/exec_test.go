package tests

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

// fitted is the state of flows with a program: one artifact of each form goes in and comes out.
type fitted struct {
	Alpha float64 `param:"alpha" default:"0.5"`

	Points  []float64
	Raw     []byte
	Text    string
	Lazy    artifacts.Ref[map[string]int]
	File    artifacts.File
	Fit     map[string]float64
	OutRaw  []byte
	OutText string
	OutLazy artifacts.Ref[[]string]
	OutFile artifacts.File
}

// commandFlow has a step that prepares a state and one with a command.
func commandFlow(t testing.TB, command func(*fitted) flow.Command, options ...flow.Option) *flow.Flow {
	t.Helper()
	f := flow.New("CommandFlow",
		flow.Step("prepare", func(_ context.Context, s *fitted) error {
			s.Points, s.Raw, s.Text = []float64{1, 2, 3}, []byte{0, 1, 255}, "a\ntext"
			s.Lazy.Set(map[string]int{"one": 1})
			path := filepath.Join(t.TempDir(), "file.csv")
			s.File.SetPath(path)
			return os.WriteFile(path, []byte("x,y\n"), 0o600)
		}),
		flow.Exec("fit", command, options...),
	)
	require.NoError(t, f.Check())
	return f
}

func python(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("there is no python3")
	}
	return path
}

const fitScript = `
import json, os, sys
read = lambda name: json.load(open(os.path.join(os.environ["STEPWELL_IN"], name)))
raw = lambda name: open(os.path.join(os.environ["STEPWELL_IN"], name), "rb").read()
out = lambda name: open(os.path.join(os.environ["STEPWELL_OUT"], name), "wb")
assert raw("Raw") == bytes([0, 1, 255]) and raw("Text") == b"a\ntext" and raw("File") == b"x,y\n"
assert read("Lazy.json") == {"one": 1}
assert sys.stdin.read() == "to read", "stdin"
out("Fit.json").write(json.dumps({"mean": sum(read("Points.json")) / 3, "alpha": read("alpha.json")}).encode())
out("OutRaw").write(bytes([7]))
out("OutText").write(("ü" + os.environ["STEPWELL_IN"]).encode())
out("OutLazy.json").write(b'["a", "b"]')
out("OutFile").write(b"z" * 100000)
print("fitted", os.environ["STEPWELL_TASK"], os.environ["EXTRA"], flush=True)
print("to stderr", file=sys.stderr)
`

// A Python script gets artifacts and sets others.
func TestCommand(t *testing.T) {
	t.Parallel()
	python(t)
	f := commandFlow(t, func(s *fitted) flow.Command {
		return flow.Command{
			Args: []string{"python3", "-c", fitScript}, Env: []string{"EXTRA=more"}, Stdin: []byte("to read"),
			In: []string{"alpha", "Points", "Raw", "Text", "Lazy", "File"}, Out: []string{"Fit", "OutRaw", "OutText", "OutLazy", "OutFile"},
		}
	}, flow.Isolated{Memory: 1 << 30})
	r := newRig(t, t.TempDir(), f)
	run := r.run(f, map[string]string{"alpha": "0.25"})
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	s := lastState[fitted](t, run, f)
	require.Equal(t, map[string]float64{"mean": 2, "alpha": 0.25}, s.Fit)
	require.Equal(t, []byte{7}, s.OutRaw)
	in, ok := strings.CutPrefix(s.OutText, "ü")
	require.True(t, ok, s.OutText)
	require.NoDirExists(t, filepath.Dir(in), "the directories of the command")
	lazy, err := s.OutLazy.Load(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b"}, lazy)
	require.EqualValues(t, 100000, s.OutFile.Size())
	require.Positive(t, attempts(t, run, "fit")[0].Usage.PeakMemory)
	log := r.logOf(run, "fit", 1)
	require.Contains(t, log, `"msg":"fitted fit more","source":"stdout"`)
	require.Contains(t, log, `"msg":"to stderr","source":"stderr"`)
}

func TestFailedCommands(t *testing.T) {
	t.Parallel()
	sh := func(script string) flow.Command { return flow.Command{Args: []string{"sh", "-c", script}} }
	for _, c := range []struct {
		name    string
		command flow.Command
		class   policies.Class
		typ     string
		message string
		stack   string
	}{
		{"exit code", sh("echo oops >&2; exit 5"), policies.Unknown, "ExitError", "sh -c ended with exit code 5: oops", "oops"},
		{"try again", sh("exit 75"), policies.Transient, "ExitError", "exit code 75", ""},
		{"bad input", sh("exit 65"), policies.Invalid, "ExitError", "exit code 65", ""},
		{"denied", sh("exit 77"), policies.Denied, "ExitError", "exit code 77", ""},
		{"own code", flow.Command{Args: []string{"sh", "-c", "exit 5"}, ExitCodes: map[int]policies.Class{5: policies.Permanent}}, policies.Permanent, "ExitError", "exit code 5", ""},
		{"signal", sh("kill -SEGV $$"), policies.Bug, "SignalError", "SIGSEGV", ""},
		{"missing output", flow.Command{Args: []string{"true"}, Out: []string{"Fit", "OutText"}}, policies.Unknown, "OutputError", `did not write artifact "Fit" (write the file $STEPWELL_OUT/Fit.json`, ""},
		{"bad output", flow.Command{Args: []string{"sh", "-c", "echo '{' > $STEPWELL_OUT/Fit.json"}, Out: []string{"Fit"}}, policies.Unknown, "OutputError", `wrote artifact "Fit" (map[string]float64)`, ""},
		{"no program", flow.Command{Args: []string{"no-such-program"}}, policies.Permanent, "StartError", `start "no-such-program": executable file not found`, ""},
		{"no directory", flow.Command{Args: []string{"true"}, Dir: "/nowhere"}, policies.Permanent, "StartError", "working directory", ""},
		{"traceback", flow.Command{Args: []string{"python3", "-c", "def f():\n    raise ValueError('bad alpha')\nf()"}}, policies.Unknown, "ExitError", "python3 -c ended with exit code 1: ValueError: bad alpha", "Traceback (most recent call last):"},
		{"memory", flow.Command{Args: []string{"python3", "-c", "x = []\nwhile True: x.append(b'x' * (4 << 20))"}}, policies.OutOfMemory, "OutOfMemoryError", "may use 128 MiB", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.command.Args[0] == "python3" {
				python(t)
			}
			f := commandFlow(t, func(*fitted) flow.Command { return c.command }, flow.Isolated{Memory: 128 << 20})
			run := flowtest.Run(t, f, flowtest.Options{})
			require.Equal(t, records.StatusFailed, run.Status)
			require.Equal(t, c.class, run.Failure.Class, run.Failure.Message)
			require.Equal(t, c.typ, run.Failure.Type)
			require.Contains(t, run.Failure.Message, c.message)
			require.Contains(t, run.Failure.Stack, c.stack)
		})
	}
}

// Mistakes in names are told before anything starts.
func TestCommandCheck(t *testing.T) {
	t.Parallel()
	f := flow.New("CommandFlow", flow.Exec("fit", func(*fitted) flow.Command {
		return flow.Command{Args: []string{"true"}, In: []string{"Points", "point"}, Out: []string{"alpha", "Fit", "Fit"}, Env: []string{"X"}, ExitCodes: map[int]policies.Class{0: policies.Invalid, 3: policies.Lost}}
	}))
	err := f.Check()
	for _, part := range []string{
		`In has "point", which is no artifact of tests.fitted`, `Out has parameter "alpha"`, `Out has "Fit" twice`, `setting 1 has no name`,
		"ExitCodes has 0", `ExitCodes gives 3 the class "Lost"`,
	} {
		require.ErrorContains(t, err, part)
	}
	late := commandFlow(t, func(s *fitted) flow.Command {
		return flow.Command{Args: []string{"touch", s.Text}, In: []string{strings.Fields(s.Text)[0]}} // panics with a zero state
	})
	run := flowtest.Run(t, late, flowtest.Options{})
	require.Equal(t, policies.Permanent, run.Failure.Class)
	require.Contains(t, run.Failure.Message, `In has "a", which is no artifact`)
}

// A program that does not stop when it is asked to is killed, with all that it has started.
func TestStubbornCommand(t *testing.T) {
	t.Parallel()
	f := commandFlow(t, func(*fitted) flow.Command {
		return flow.Command{Args: []string{"sh", "-c", "trap '' TERM; setsid sleep 1000 & while true; do sleep 1; done"}, Env: []string{"STUBBORN=yes"}}
	}, policies.Timeout{Attempt: 300 * time.Millisecond})
	r := newRig(t, t.TempDir(), f)
	run := r.run(f, nil)
	require.Equal(t, policies.TimedOut, run.Failure.Class, run.Failure.Message)
	gone(t, "STUBBORN=yes")
}
