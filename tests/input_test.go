package tests

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/devserver"
	"github.com/stepwell-flows/stepwell/examples"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/runs"
	"github.com/stepwell-flows/stepwell/tests/testserver"
)

// command runs the starter in this process, with its state in dir and no settings of the machine.
func command(t testing.TB, flows []*flow.Flow, dir string, env map[string]string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	app := stepwell.App{Flows: flows, Dev: devserver.Start}
	code = app.Run(t.Context(), append(args, "--state-dir", filepath.Join(dir, "state")), stepwell.IO{
		Out: &out, Err: &errs,
		Env: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
	})
	return code, out.String(), errs.String()
}

// Bad input is told at once, with the fix, before anything starts: there is not even a state directory.
func TestBadInput(t *testing.T) {
	t.Parallel()
	type state struct {
		Alpha float64           `param:"alpha" required:"true"`
		Count int               `param:"count" default:"3"`
		Extra map[string]string `param:"extra"`
		Out   string
	}
	step := func(context.Context, *state) error { return nil }
	good := []*flow.Flow{flow.New("GoodFlow", flow.Step("a", step), flow.Step("b", step))}
	for name, test := range map[string]struct {
		flows []*flow.Flow
		args  []string
		env   map[string]string
		want  []string
	}{
		"no verb's name":        {args: []string{"rnu"}, want: []string{`"rnu" is not a command`, "--help"}},
		"unknown flow":          {args: []string{"run", "NoFlow"}, want: []string{`flow "NoFlow" is not known`, "GoodFlow"}},
		"no flow":               {args: []string{"run"}, want: []string{"run needs a flow", "GoodFlow"}},
		"unknown parameter":     {args: []string{"run", "GoodFlow", "--alpha=1", "--beta=2"}, want: []string{"--beta"}},
		"missing and ill-typed": {args: []string{"run", "GoodFlow", "--count=many", "--extra={"}, want: []string{`parameter "alpha" is required`, "STEPWELL_RUN_ALPHA", `"many" is not a decimal integer`, "JSON"}},
		"ill-typed environment": {args: []string{"run", "GoodFlow"}, env: map[string]string{"STEPWELL_RUN_ALPHA": "high"}, want: []string{"STEPWELL_RUN_ALPHA", `"high" is not a number`}},
		"run id that is a path": {args: []string{"run", "GoodFlow", "--alpha=1", "--run-id", "../../etc/passwd"}, want: []string{`run id "../../etc/passwd" is not allowed`}},
		"empty tag":             {args: []string{"run", "GoodFlow", "--alpha=1", "--tag", ""}, want: []string{"tag"}},
		"log level":             {args: []string{"run", "GoodFlow", "--alpha=1", "--log-level", "loud"}, want: []string{`--log-level "loud"`}},
		"too many words":        {args: []string{"run", "GoodFlow", "--alpha=1", "again"}, want: []string{`"again"`}},
		"resume of nothing":     {args: []string{"resume", "GoodFlow"}, want: []string{`flow "GoodFlow" has no run that did not succeed`}},
		"resume of a path":      {args: []string{"resume", "GoodFlow/.."}, want: []string{`"GoodFlow/.."`, "it is a path"}},
		"illegal names": {
			flows: []*flow.Flow{flow.New("Bad/Flow", flow.Step("a/b", step), flow.Step("..", step), flow.Step("twice", step), flow.Step("twice", step))},
			args:  []string{"check"},
			want:  []string{`flow name "Bad/Flow"`, `step name "a/b"`, `step name ".."`, `two steps are named "twice"`},
		},
		"unsupported fields": {
			flows: []*flow.Flow{flow.New("FieldFlow", flow.Step("a", func(context.Context, *struct {
				Fn   func()
				Ch   chan int
				Any  any
				Fine int
			}) error {
				return nil
			}))},
			args: []string{"run", "FieldFlow"},
			want: []string{"Fn", "func()", "Ch", "chan int", "Any"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			flows := test.flows
			if flows == nil {
				flows = good
			}
			code, stdout, stderr := command(t, flows, dir, test.env, test.args...)
			require.Equal(t, stepwell.ExitInput, code, "%s%s", stdout, stderr)
			for _, want := range test.want {
				require.Contains(t, stdout+stderr, want)
			}
			entries, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Empty(t, entries, "something was written")
		})
	}
}

// A store that cannot be used is told in one line before the server starts.
func TestUnusableStore(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for name, test := range map[string]struct {
		store string
		env   map[string]string
		want  []string
	}{
		"below a file":   {store: filepath.Join(file, "store"), want: []string{"not writable", file}},
		"unknown scheme": {store: "ftp://host/dir", want: []string{`unknown scheme "ftp"`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			code, stdout, stderr := command(t, examples.Flows(), dir, test.env, "run", "FlightDelayFlow", "--store", test.store)
			require.Equal(t, stepwell.ExitUnavailable, code, "%s%s", stdout, stderr)
			require.NotContains(t, strings.TrimSpace(stderr), "\n", "one line")
			for _, want := range test.want {
				require.Contains(t, stderr, want)
			}
			entries, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Empty(t, entries, "something was started")
		})
	}
}

// The examples run through the command line as the README says, twice at once in one directory.
func TestExamplesOnEmbeddedServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := start(t, "starter", dir, nil, "run", "FlightDelayFlow")
	second := start(t, "starter", dir, nil, "run", "FailureHandlingFlow", "--simulate_code_bug")
	require.Equal(t, stepwell.ExitOK, first.exit(t))
	require.Equal(t, stepwell.ExitOK, second.exit(t))
	require.Contains(t, first.out.String(), "http://127.0.0.1:", "the Web UI's address")
	require.Contains(t, first.out.String(), ".stepwell")
	for _, step := range []string{"load", "validate", "features", "fit", "evaluate", "report"} {
		require.Contains(t, first.out.String(), step)
	}

	code, stdout, stderr := call(t, "starter", dir, nil, "card", "FlightDelayFlow/latest/report", "--output", "card.html")
	require.Equal(t, stepwell.ExitOK, code, "%s%s", stdout, stderr)
	card, err := os.ReadFile(filepath.Join(dir, "card.html"))
	require.NoError(t, err)
	require.Contains(t, string(card), "<svg")
	code, stdout, stderr = call(t, "starter", dir, nil, "why", "FailureHandlingFlow/latest")
	require.Equal(t, stepwell.ExitOK, code, "%s%s", stdout, stderr)
	require.Contains(t, stdout, "index out of range")
	code, stdout, _ = call(t, "starter", dir, nil, "show", "FailureHandlingFlow/latest", "--json")
	require.Equal(t, stepwell.ExitOK, code)
	require.Contains(t, stdout, `"caught"`)
}

// A run whose task queue nobody polls is told at once, instead of waiting in silence.
func TestNobodyPolls(t *testing.T) {
	t.Parallel()
	s := testserver.Get(t)
	env := []string{"TEMPORAL_ADDRESS=" + s.Address, "TEMPORAL_NAMESPACE=" + s.Namespace}
	code, stdout, stderr := call(t, "starter", t.TempDir(), env, "run", "FlightDelayFlow", "--task-queue", "nobody", "--detach")
	require.Equal(t, stepwell.ExitOK, code, "%s%s", stdout, stderr)
	require.Contains(t, stderr, `no worker polls task queue "nobody"`)
	require.Contains(t, stderr, "worker --task-queue nobody")

	code, _, stderr = call(t, "starter", t.TempDir(), []string{"TEMPORAL_ADDRESS=127.0.0.1:1"}, "run", "FlightDelayFlow")
	require.Equal(t, stepwell.ExitUnavailable, code)
	require.Contains(t, stderr, "127.0.0.1:1")
	code, _, stderr = call(t, "worker", t.TempDir(), nil)
	require.Equal(t, stepwell.ExitInput, code)
	require.Contains(t, stderr, "TEMPORAL_ADDRESS")
}

// A run of another store has the workflow's id on the same server.
func TestRunIDOfAnotherStore(t *testing.T) {
	t.Parallel()
	r := newRig(t, t.TempDir(), chainFlow())
	run, err := r.client.Start(t.Context(), chainFlow(), stepwell.StartOptions{})
	require.NoError(t, err)
	other := newRig(t, t.TempDir(), chainFlow())
	_, err = other.client.Start(t.Context(), chainFlow(), stepwell.StartOptions{RunID: run.Run.Run})
	require.ErrorIs(t, err, stepwell.ErrInput)
	require.EqualError(t, err, `run "`+run.Run.Run+`" of flow "ChainFlow" exists on the Temporal server, with another store or without its record (choose another --run-id)`)
	_, err = other.client.Runs().Run(t.Context(), "ChainFlow", run.Run.Run)
	require.ErrorIs(t, err, runs.ErrNotFound, "nothing is left of it")
}
