package tests

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
	"github.com/stepwell-flows/stepwell/tests/testserver"
)

// The starter, with everything in its process, is killed in the middle of a step; attach carries on.
func TestKilledStarter(t *testing.T) {
	t.Parallel()
	dir, j := t.TempDir(), newJournal(t)
	until := filepath.Join(t.TempDir(), "go")
	p := start(t, "starter", dir, nil, "run", "ChainFlow", "--journal", string(j), "--hold-at", "c", "--hold-until", until)
	eventually(t, "step c is running", func() bool { return len(j.lines()) == 3 })
	p.kill()
	p.exit(t)
	require.NoError(t, os.WriteFile(until, nil, 0o600))

	code, stdout, stderr := call(t, "starter", dir, nil, "attach", "ChainFlow/latest")
	require.Equal(t, stepwell.ExitOK, code, "%s%s", stdout, stderr)
	run := readRun(t, filepath.Join(dir, ".stepwell", "store"), "ChainFlow")
	require.Equal(t, records.StatusCompleted, run.Status)
	require.Equal(t, []string{"a", "b", "c", "d"}, lastState[chain](t, run, chainFlow()).Trail)
	steps := make([]string, 0, 5)
	for _, line := range j.lines() {
		parts := strings.Split(line, ":")
		steps = append(steps, parts[1]+parts[2])
	}
	require.Equal(t, []string{"a1", "b1", "c1", "c2", "d1"}, steps, "steps and their attempts")
	require.Equal(t, []records.Outcome{records.Lost, records.Completed}, outcomes(attempts(t, run, "c")),
		"the step has one attempt only, and a lost one does not use it up")
}

// readRun reads the only run of a flow from a store that other processes wrote.
func readRun(t testing.TB, location, flowName string) *runs.Run {
	t.Helper()
	store, err := artifacts.Open(t.Context(), location, artifacts.Options{})
	require.NoError(t, err)
	run, err := runs.New(store, nil).Find(t.Context(), flowName+"/latest")
	require.NoError(t, err)
	return run
}

// workers are worker processes on the shared server.
type workers struct {
	t     testing.TB
	queue string
	store string
	env   []string
	byPID map[int]*program
}

func newWorkers(t testing.TB, n int) *workers {
	t.Helper()
	s := testserver.Get(t)
	w := &workers{
		t: t, queue: t.Name(), store: t.TempDir(), byPID: map[int]*program{},
		env: []string{"TEMPORAL_ADDRESS=" + s.Address, "TEMPORAL_NAMESPACE=" + s.Namespace},
	}
	for range n {
		w.add()
	}
	return w
}

func (w *workers) add(more ...string) *program {
	w.t.Helper()
	p := start(w.t, "worker", w.t.TempDir(), w.env, append([]string{"--task-queue", w.queue, "--store", w.store}, more...)...)
	eventually(w.t, "the worker polls", func() bool { return strings.Contains(p.out.String(), "polls task queue") })
	w.byPID[p.Process.Pid] = p
	return p
}

// kill kills the worker that wrote a line of the journal, which ends with its process id.
func (w *workers) kill(line string) {
	w.t.Helper()
	pid, err := strconv.Atoi(line[strings.LastIndex(line, ":")+1:])
	require.NoError(w.t, err)
	p, ok := w.byPID[pid]
	require.True(w.t, ok, "process %d is no worker of this test", pid)
	p.kill()
	p.exit(w.t)
	delete(w.byPID, pid)
}

// start starts a run through the command line and returns it.
func (w *workers) start(args ...string) (flowName, id string) {
	w.t.Helper()
	args = append(append([]string{"run"}, args...), "--detach", "--task-queue", w.queue, "--store", w.store)
	code, stdout, stderr := call(w.t, "starter", w.t.TempDir(), w.env, args...)
	require.Equal(w.t, stepwell.ExitOK, code, "%s%s", stdout, stderr)
	flowName, id, ok := strings.Cut(strings.TrimSpace(stdout), "/")
	require.True(w.t, ok, "%q names no run", stdout)
	return flowName, id
}

// attach waits for a run through the command line.
func (w *workers) attach(flowName, id string) *runs.Run {
	w.t.Helper()
	code, stdout, stderr := call(w.t, "starter", w.t.TempDir(), w.env, "attach", flowName+"/"+id, "--store", w.store)
	require.Equal(w.t, stepwell.ExitOK, code, "%s%s", stdout, stderr)
	return readRun(w.t, w.store, flowName)
}

// One of two workers is killed in the middle of a step; the other takes over.
func TestKilledWorker(t *testing.T) {
	t.Parallel()
	w, j := newWorkers(t, 2), newJournal(t)
	until := filepath.Join(t.TempDir(), "go")
	flowName, id := w.start("HeldFlow", "--journal", string(j), "--until", until)
	eventually(t, "the step is running", func() bool { return j.count("held:1:") == 1 })
	w.kill(j.lines()[1])
	require.NoError(t, os.WriteFile(until, nil, 0o600))
	run := w.attach(flowName, id)
	require.Equal(t, records.StatusCompleted, run.Status)
	require.Equal(t, held{Journal: string(j), Until: until, Before: "kept to the end"}, *lastState[held](t, run, heldFlow()))
	all := attempts(t, run, "held")
	require.Equal(t, []records.Outcome{records.Lost, records.Completed}, outcomes(all))
	require.False(t, all[0].CountsAsCodeFailure)
	require.Equal(t, policies.Lost, all[0].Failure.Class)
	require.NotEqual(t, all[0].Worker, all[1].Worker)
	require.Len(t, j.lines(), 3, "the finished step before it did not run again")
}

// A step whose workers are killed until the budget of lost attempts is spent reaches its catch like any other failure.
func TestKilledWorkersAreCaught(t *testing.T) {
	t.Parallel()
	w, j := newWorkers(t, 3), newJournal(t)
	flowName, id := w.start("HeldFlow", "--journal", string(j), "--until", filepath.Join(t.TempDir(), "never"))
	for n := 1; n <= 2; n++ {
		eventually(t, "the step is running", func() bool { return len(j.lines()) == 1+n })
		w.kill(j.lines()[n])
	}
	run := w.attach(flowName, id)
	require.Equal(t, records.StatusCompleted, run.Status)
	s := lastState[held](t, run, heldFlow())
	require.Empty(t, s.Dirty, "what a lost attempt wrote is nowhere to be seen")
	require.Equal(t, "kept to the end", s.Before)
	require.NotNil(t, s.Caught)
	require.Equal(t, policies.Lost, s.Caught.Class)
	require.Equal(t, "held", s.Caught.Step)
	require.Equal(t, 2, s.Caught.Attempt)
	require.Equal(t, 0, s.Caught.CodeFailures)
	require.Equal(t, 2, s.Caught.LostAttempts)
	require.Equal(t, []records.Outcome{records.Lost, records.Lost}, outcomes(attempts(t, run, "held")))
	require.Equal(t, 1, j.count("catch:2"))
}

// Ten times, the worker that runs a step of a flow of fifty is killed and another started. Where starting one takes long, the flow
// may end before that.
func TestTenKills(t *testing.T) {
	t.Parallel()
	w, j := newWorkers(t, 2), newJournal(t)
	flowName, id := w.start("FiftyFlow", "--journal", string(j), "--pause", "500ms")
	ended := func() bool { return j.count("end:s49:") > 0 }
	kills, killed := 0, "start:"
	for ; kills < 10; kills++ {
		var line string
		eventually(t, "a step after "+killed+" is running", func() bool {
			lines := j.lines()
			if len(lines) == 0 {
				return false
			}
			line = lines[len(lines)-1]
			return ended() || strings.HasPrefix(line, "start:") && line[:len("start:s00")] > killed
		})
		if ended() {
			break
		}
		time.Sleep(time.Duration(kills*74%400) * time.Millisecond) // at another moment of the step each time
		w.kill(line)
		for _, line := range j.lines() { // it may have begun the next step meanwhile
			if strings.HasPrefix(line, "start:") {
				killed = max(killed, line[:len("start:s00")])
			}
		}
		w.add()
	}
	run := w.attach(flowName, id)
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	s := lastState[fifty](t, run, fiftyFlow())
	require.Equal(t, 49*50/2, s.Sum)
	require.Len(t, s.Trail, 50)
	for n, step := range s.Trail {
		require.Equal(t, n, step)
	}
	steps, err := run.Steps(t.Context())
	require.NoError(t, err)
	lost := 0
	for _, step := range steps {
		all, err := step.Task.Attempts(t.Context())
		require.NoError(t, err)
		require.Equal(t, records.Completed, all[len(all)-1].Outcome)
		// A worker may be killed after it took an attempt, and before the step has written a line.
		begun := j.count("start:" + step.Name + ":")
		require.Positive(t, begun, step.Name)
		require.LessOrEqual(t, begun, len(all), "attempts of %s", step.Name)
		lost += len(all) - 1
	}
	require.GreaterOrEqual(t, kills, 5)
	require.LessOrEqual(t, lost, kills)
	require.Positive(t, lost)
}

// A worker that is told to stop lets its step finish.
func TestDrainedWorker(t *testing.T) {
	t.Parallel()
	w, j := newWorkers(t, 0), newJournal(t)
	p := w.add("--drain", "2m") // longer than another worker takes to start
	until := filepath.Join(t.TempDir(), "go")
	flowName, id := w.start("ChainFlow", "--journal", string(j), "--hold-at", "b", "--hold-until", until)
	eventually(t, "the step is running", func() bool { return len(j.lines()) == 2 })
	require.NoError(t, p.Process.Signal(os.Interrupt))
	eventually(t, "the worker stops", func() bool { return strings.Contains(p.out.String(), "stopping") })
	w.add() // for the steps after it
	require.NoError(t, os.WriteFile(until, nil, 0o600))
	require.Equal(t, 0, p.exit(t))
	run := w.attach(flowName, id)
	require.Equal(t, []records.Outcome{records.Completed}, outcomes(attempts(t, run, "b")))
}

// A run that was started and left, on an embedded server that ended with its starter, is carried on by attach, or
// cancelled by cancel.
func TestDetachedOnEmbeddedServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	code, stdout, stderr := call(t, "starter", dir, nil, "run", "ChainFlow", "--detach")
	require.Equal(t, stepwell.ExitOK, code, "%s%s", stdout, stderr)
	require.Contains(t, stderr, "no worker polls")
	code, stdout, stderr = call(t, "starter", dir, nil, "attach", strings.TrimSpace(stdout))
	require.Equal(t, stepwell.ExitOK, code, "%s%s", stdout, stderr)
	require.Equal(t, records.StatusCompleted, readRun(t, filepath.Join(dir, ".stepwell", "store"), "ChainFlow").Status)

	code, stdout, stderr = call(t, "starter", dir, nil, "run", "ChainFlow", "--detach")
	require.Equal(t, stepwell.ExitOK, code, "%s%s", stdout, stderr)
	code, stdout, stderr = call(t, "starter", dir, nil, "cancel", "ChainFlow/latest")
	require.Equal(t, stepwell.ExitOK, code, "%s%s", stdout, stderr)
	run := readRun(t, filepath.Join(dir, ".stepwell", "store"), "ChainFlow")
	require.Equal(t, records.StatusCancelled, run.Status, "cancel runs no step that it is to prevent")
	code, _, stderr = call(t, "starter", dir, nil, "cancel", "ChainFlow/latest")
	require.Equal(t, stepwell.ExitInput, code)
	require.Contains(t, stderr, "already")
}
