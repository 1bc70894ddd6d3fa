package tests

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

// What a resume completed is not resumed again, unless the run is named.
func TestResumeIsNotRepeated(t *testing.T) {
	t.Parallel()
	r := newRig(t, t.TempDir(), chainFlow())
	origin, _ := failAt(t, r, "c")
	run, _ := r.resume(chainFlow(), stepwell.ResumeOptions{})
	require.Equal(t, records.StatusCompleted, run.Status)
	_, err := r.client.PlanResume(t.Context(), chainFlow(), stepwell.ResumeOptions{})
	require.ErrorIs(t, err, stepwell.ErrInput)
	require.ErrorContains(t, err, "that no resume completed")
	_, err = r.client.PlanResume(t.Context(), chainFlow(), stepwell.ResumeOptions{Origin: origin.Run.Run})
	require.NoError(t, err)
}

// A run that is alive on a server is not resumed beside it by a program that asks another server.
func TestResumeOfARunElsewhere(t *testing.T) {
	t.Parallel()
	store := t.TempDir()
	r := newRig(t, store, chainFlow())
	j, until := newJournal(t), filepath.Join(t.TempDir(), "never")
	run, err := r.client.Start(t.Context(), chainFlow(), stepwell.StartOptions{Params: map[string]string{
		"journal": string(j), "hold_at": "c", "hold_until": until}})
	require.NoError(t, err)
	eventually(t, "step c is running", func() bool { return j.count(run.Run.Run+":c:") == 1 })
	time.Sleep(time.Until(run.Started.Add(11 * time.Second))) // a run that is only starting is left alone in any case

	env := []string{"STEPWELL_STORE=" + store}
	code, stdout, stderr := call(t, "starter", t.TempDir(), env, "resume", "ChainFlow")
	require.Equal(t, stepwell.ExitInput, code, "%s%s", stdout, stderr)
	require.Contains(t, stderr, "whether run")
	require.Len(t, j.lines(), 3)
	require.NoError(t, r.client.Cancel(t.Context(), run.Flow, run.Run.Run))
	require.Equal(t, records.StatusCancelled, r.wait(run).Status)
}

// While a deployment is under way, a worker without a new step hands it back, and says so.
func TestWorkerWithoutTheStep(t *testing.T) {
	t.Parallel()
	grown := flow.New("ChainFlow", chainStep("a", nil), chainStep("added", nil))
	r := newRig(t, t.TempDir(), flow.New("ChainFlow", chainStep("a", nil)))
	run, err := r.client.Start(t.Context(), grown, stepwell.StartOptions{})
	require.NoError(t, err)
	eventually(t, "the old worker has handed the step back", func() bool {
		task, err := run.Task(t.Context(), "added")
		require.NoError(t, err)
		all, err := task.Attempts(t.Context())
		require.NoError(t, err)
		return len(all) > 0
	})
	r.restart(grown)
	done := r.wait(run)
	require.Equal(t, records.StatusCompleted, done.Status, "%+v", done.Failure)
	all := attempts(t, done, "added")
	require.Equal(t, []records.Outcome{records.Lost, records.Completed}, outcomes(all))
	require.Equal(t, policies.Lost, all[0].Failure.Class)
	require.Contains(t, all[0].Failure.Message, `does not have activity "ChainFlow.added"`)
}
