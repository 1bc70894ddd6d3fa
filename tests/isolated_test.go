package tests

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/examples/isolation"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

// Whatever an isolated step does to its process, the attempt ends as the right class, nothing stays behind, and the worker goes on.
func TestWildSteps(t *testing.T) {
	t.Parallel()
	r := newRig(t, t.TempDir(), wildFlow())
	for _, c := range []struct {
		mode, class, typ, message string
	}{
		{"well", "", "", ""},
		{"exit", "Bug", "ExitError", "exit code 3"},
		{"exit_zero", "Bug", "ExitError", "before its function returned"},
		{"kill", "Bug", "SignalError", "SIGKILL"},
		{"segv", "Bug", "SignalError", "SIGSEGV"},
		{"panic", "Bug", "PanicError", "panic: at once"},
		{"panic_elsewhere", "Bug", "PanicError", "panic: in another goroutine"},
		{"memory", "OutOfMemory", "OutOfMemoryError", "may use 192 MiB"},
		{"children", "", "", ""},
		{"children_exit", "Bug", "ExitError", "exit code 1"},
		{"loud", "", "", ""},
		{"error", "Invalid", "", "no"},
	} {
		t.Run(c.mode, func(t *testing.T) {
			t.Parallel()
			run := r.run(wildFlow(), map[string]string{"mode": c.mode})
			require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
			s := lastState[wild](t, run, wildFlow())
			require.Equal(t, os.Getpid(), s.Worker, "the next step runs in the worker, which lives")
			all := attempts(t, run, "wild")
			last := all[len(all)-1]
			if c.class == "" {
				require.Equal(t, c.mode, s.Done)
				require.Equal(t, records.Completed, last.Outcome)
			} else {
				require.Empty(t, s.Done)
				require.Equal(t, []string{c.class, c.typ}, []string{string(s.Caught.Class), s.Caught.Type}, s.Caught.Message)
				require.Contains(t, s.Caught.Message, c.message)
				require.Equal(t, 1, s.Caught.CodeFailures)
			}
			gone(t, "WILD="+run.Run.Run)
			if c.mode == "kill" {
				return
			}
			require.NotNil(t, last.Usage)
			require.Positive(t, last.Usage.CPU)
			require.Positive(t, last.Usage.PeakMemory)
			if c.mode == "memory" {
				require.Greater(t, last.Usage.PeakMemory, int64(wildMemory))
			}
			if c.mode == "loud" {
				log := r.logOf(run, "wild", len(all)) // one before may have been lost on a busy machine
				require.Less(t, len(log), 2<<20)
				for _, part := range []string{`"msg":"line 0","source":"stdout"`, `"msg":"line 1048575"`, "bytes are left out here", `"msg":"the end","source":"stderr"`} {
					require.Contains(t, log, part)
				}
			}
			if strings.HasPrefix(c.mode, "panic") {
				require.Contains(t, s.Caught.Stack, "goWild")
			}
		})
	}
}

// processes lists those that have a setting in their environment.
func processes(setting string) []int {
	var found []int
	names, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err == nil && slices.ContainsFunc(bytes.Split(b, []byte{0}), func(s []byte) bool { return string(s) == setting }) {
			pid, _ := strconv.Atoi(strings.Split(name, "/")[2])
			found = append(found, pid)
		}
	}
	return found
}

// gone waits until nothing that has a setting in its environment is left: what was killed takes a moment to be gone.
func gone(t testing.TB, setting string) {
	t.Helper()
	eventually(t, "nothing with "+setting+" is left", func() bool { return len(processes(setting)) == 0 })
}

// A function that ignores its context is killed when its attempt is over.
func TestDeafStepIsKilled(t *testing.T) {
	t.Parallel()
	r := newRig(t, t.TempDir(), deafFlow())
	run := r.run(deafFlow(), nil)
	require.Equal(t, records.StatusFailed, run.Status)
	require.Equal(t, policies.TimedOut, run.Failure.Class, run.Failure.Message)
	require.Equal(t, "the attempt took longer than 500ms", run.Failure.Message)
	all := attempts(t, run, "deaf")
	require.Len(t, all, 2)
	for _, a := range all {
		require.Equal(t, policies.TimedOut, a.Failure.Class)
		require.NotNil(t, a.Usage, "the process was waited for")
	}
	gone(t, "TEST_DEAF=yes")
}

// Isolated steps do all that steps do.
func TestTameSteps(t *testing.T) {
	t.Parallel()
	r := newRig(t, t.TempDir(), tameFlow())
	run := r.run(tameFlow(), nil)
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	s := lastState[tame](t, run, tameFlow())
	require.Equal(t, 1+4+9, s.Sum)
	require.InDelta(t, 7, s.Large[7], 0)
	require.Equal(t, "yes", s.Env)
	require.Len(t, s.PIDs, 5)
	slices.Sort(s.PIDs)
	require.Len(t, slices.Compact(s.PIDs), 5, "each task has a process of its own")
	require.NotContains(t, s.PIDs, os.Getpid())
	require.NoDirExists(t, s.Dir)
	file, err := s.File.Open(t.Context())
	require.NoError(t, err)
	defer file.Close()
	content, err := io.ReadAll(file)
	require.NoError(t, err)
	require.Equal(t, "a report", string(content))

	all := attempts(t, run, "begin")
	require.Equal(t, []records.Outcome{records.Failed, records.Completed}, outcomes(all), "RetryIf was asked with the error itself")
	require.Equal(t, "tameError", all[0].Failure.Type)
	require.Equal(t, policies.Unknown, all[0].Failure.Class)

	require.Equal(t, s.Key, flow.IdempotencyKey(flow.NewContext(t.Context(), flow.Runtime{Info: flow.Info{
		Flow: run.Flow, Run: run.Run.Run, Root: run.Run.Run, Step: "begin"}})))
	require.Contains(t, r.logOf(run, "begin", 2), `"level":"WARN","msg":"begun","of":"begin","items":[1,2,3],"size":3,"text":"a b"`)
	card, err := r.store.GetDoc(t.Context(), records.CardKey(run.Flow, run.Run.Run, "begin", nil, "default"))
	require.NoError(t, err)
	require.Contains(t, string(card), "a heading of the <em>child</em>")
}

// logOf reads the log of an attempt as it was stored.
func (r *rig) logOf(run *runs.Run, step string, attempt int) string {
	r.t.Helper()
	b, err := r.store.GetDoc(r.t.Context(), records.LogKey(run.Flow, run.Run.Run, step, nil, attempt, false))
	require.NoError(r.t, err)
	return string(b)
}

// What cannot be started is told at once and not tried again.
func TestUnstartableStep(t *testing.T) {
	t.Parallel()
	r := newRig(t, t.TempDir(), unstartableFlow())
	run := r.run(unstartableFlow(), nil)
	require.Equal(t, policies.Permanent, run.Failure.Class)
	require.Contains(t, run.Failure.Message, `working directory "/nowhere/at/all" is not there`)
	require.Len(t, attempts(t, run, "never"), 1)
}

// A process that ends before it can call the step's function is tried again three times in all, whatever the policy allows.
func TestCrashLoop(t *testing.T) {
	t.Parallel()
	r := newRig(t, t.TempDir(), loopingFlow())
	run := r.run(loopingFlow(), nil)
	require.Equal(t, policies.Permanent, run.Failure.Class, run.Failure.Message)
	require.Equal(t, "CrashLoopError", run.Failure.Type)
	require.Contains(t, run.Failure.Message, "3 times in a row the process of the step ended before it could call the step's function")
	require.Contains(t, run.Failure.Message, "exit code 9")
	require.Len(t, attempts(t, run, "never"), 3)
}

// A worker that is killed takes the processes of its steps with it. What those have started is killed when a worker comes back.
func TestKilledWorkerOfIsolatedStep(t *testing.T) {
	t.Parallel()
	w, j := newWorkers(t, 1), newJournal(t)
	flowName, id := w.start("WildFlow", "--mode", "hold", "--journal", string(j))
	eventually(t, "the step is running", func() bool { return j.count("held:") == 1 })
	w.kill(j.lines()[0])
	pid, err := strconv.Atoi(strings.Split(j.lines()[0], ":")[1])
	require.NoError(t, err)
	eventually(t, "the step's process is gone", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
	w.add()
	gone(t, "WILD="+id)
	run := w.attach(flowName, id)
	require.Equal(t, records.StatusCompleted, run.Status)
	require.Equal(t, []records.Outcome{records.Lost, records.Completed}, outcomes(attempts(t, run, "wild")))
}

// What guards a service knows what all processes of the worker's steps have met.
func TestIsolatedStepsAreGuardedTogether(t *testing.T) {
	t.Parallel()
	r := newRig(t, t.TempDir(), cautiousFlow())
	run := r.run(cautiousFlow(), nil)
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	require.Equal(t, 2, lastState[cautious](t, run, cautiousFlow()).Calls)
	all := attempts(t, run, "call")
	require.Equal(t, []records.Outcome{records.Failed, records.Deferred, records.Completed}, outcomes(all), "the second process found the breaker open")
	require.Equal(t, "RefusedError", all[1].Failure.Type)
}

// The processes of steps open the store of an S3 server themselves, as the worker was told.
func TestIsolatedStepsOnS3(t *testing.T) {
	t.Parallel()
	m, location := s3Server(t)
	dir, env := t.TempDir(), append(m.Env(), "STEPWELL_STORE="+location)
	code, stdout, stderr := call(t, "starter", dir, env, "run", "TameFlow", "--times", "2")
	require.Equal(t, stepwell.ExitOK, code, "%s%s", stdout, stderr)
	code, stdout, stderr = call(t, "starter", dir, env, "dump", "TameFlow/latest/total", "Sum")
	require.Equal(t, stepwell.ExitOK, code, stderr)
	require.Equal(t, "5", strings.TrimSpace(stdout))
	require.NoDirExists(t, filepath.Join(dir, ".stepwell", "store"))
}

// A worker that is told to stop does not wait for a function that ignores that. The attempt is lost, and another worker takes over.
func TestDrainedIsolatedStep(t *testing.T) {
	t.Parallel()
	j := newJournal(t)
	r := newRig(t, t.TempDir(), wildFlow())
	run, err := r.client.Start(t.Context(), wildFlow(), stepwell.StartOptions{Params: map[string]string{"mode": "hold", "journal": string(j)}})
	require.NoError(t, err)
	eventually(t, "the step is running", func() bool { return j.count("held:") == 1 })
	r.restart(wildFlow())
	gone(t, "WILD="+run.Run.Run)
	run = r.wait(run)
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	all := attempts(t, run, "wild")
	require.Equal(t, []records.Outcome{records.Lost, records.Completed}, outcomes(all))
	require.Equal(t, "the worker was told to stop", all[0].Failure.Message)
}

// A cancel ends the process of a step that does not listen.
func TestCancelledIsolatedStep(t *testing.T) {
	t.Parallel()
	j := newJournal(t)
	r := newRig(t, t.TempDir(), wildFlow())
	run, err := r.client.Start(t.Context(), wildFlow(), stepwell.StartOptions{Params: map[string]string{"mode": "hold", "journal": string(j)}})
	require.NoError(t, err)
	eventually(t, "the step is running", func() bool { return j.count("held:") == 1 })
	require.NoError(t, r.client.Cancel(t.Context(), run.Flow, run.Run.Run))
	run = r.wait(run)
	require.Equal(t, records.StatusCancelled, run.Status)
	require.Equal(t, []records.Outcome{records.Cancelled}, outcomes(attempts(t, run, "wild")))
	gone(t, "WILD="+run.Run.Run)
}

// A store that no other process can open keeps the steps in the worker's process, and the log says so.
func TestIsolatedStepsOverMemory(t *testing.T) {
	t.Parallel()
	store, err := artifacts.Open(t.Context(), "mem:", artifacts.Options{})
	require.NoError(t, err)
	r := newRigOver(t, func() (*artifacts.Store, error) { return store, nil }, wildFlow())
	run := r.run(wildFlow(), map[string]string{"mode": "well"})
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	require.Contains(t, r.logOf(run, "wild", 1), "the step runs in the worker's process, because no other can open its store")
}

// A step that ran out of its memory gets that of the next rung.
func TestIsolatedStepClimbs(t *testing.T) {
	t.Parallel()
	python(t)
	f := isolation.Flow()
	r := newRig(t, t.TempDir(), f)
	run := r.run(f, map[string]string{"allocate_mb": "300"})
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	all := attempts(t, run, "simulate")
	require.Equal(t, []records.Outcome{records.Failed, records.Completed}, outcomes(all))
	require.Equal(t, policies.OutOfMemory, all[0].Failure.Class)
	require.False(t, all[0].CountsAsCodeFailure)
	require.Greater(t, all[1].Usage.PeakMemory, int64(300<<20), "what the process said of itself at its end")
}
