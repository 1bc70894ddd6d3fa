package runs_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	sdk "go.temporal.io/sdk/temporal"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

func TestIDsSortAsTheirTimes(t *testing.T) {
	t.Parallel()
	before := ""
	for ms := range 2000 {
		id := runs.NewID(noon.Add(time.Duration(ms) * time.Millisecond))
		require.True(t, runs.GeneratedID(id), id)
		require.NoError(t, records.CheckRunID(id))
		require.Less(t, before, id)
		before = id
	}
	require.False(t, runs.GeneratedID("nightly-1"))
}

func TestParsePathspec(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text string
		want runs.Pathspec
	}{
		{"Train", runs.Pathspec{Flow: "Train"}},
		{"Train/latest", runs.Pathspec{Flow: "Train", Run: "latest"}},
		{"Train/r1/fit", runs.Pathspec{Flow: "Train", Run: "r1", Task: "fit"}},
		{"Train/r1/fit[3,0]", runs.Pathspec{Flow: "Train", Run: "r1", Task: "fit[3,0]"}},
	} {
		got, err := runs.ParsePathspec(test.text)
		require.NoError(t, err, test.text)
		require.Equal(t, test.want, got)
		require.Equal(t, test.text, got.String())
	}
	for _, text := range []string{
		"", "/", "Train/", "/r1", "Train//fit", "../x", "Train/../..", "Train/..", "Train/r1/..", "Train/r1/fit/x", `Train\r1`,
		"Train/a b", "Train/r1/fit[", "Train/r1/fit[x]", "Train/\x1b[31m", "Train/r1/a\x00b", "\xff/r1",
	} {
		_, err := runs.ParsePathspec(text)
		require.ErrorIs(t, err, runs.ErrPathspec, "%q", text)
	}
}

func FuzzParsePathspec(f *testing.F) {
	f.Add("Train/latest/fit[1]")
	f.Add("../..")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := runs.ParsePathspec(text)
		if err != nil {
			require.ErrorIs(t, err, runs.ErrPathspec)
			return
		}
		require.Equal(t, text, p.String())
	})
}

func TestRunsNewestFirst(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	want := []string{
		"01a2107d-b6a0-7c35-ab61-750e662354cc", // Temporal's id of a run that another workflow started, of 2026
		"nightly-1",
		runs.NewID(noon.Add(2 * time.Hour)),
		"aaa", // chosen, and older than one whose id sorts after it
		runs.NewID(noon.Add(time.Millisecond)),
		runs.NewID(noon),
	}
	l.start(t, want[0], noon, nil) // its id tells its time
	l.start(t, want[1], noon.Add(3*time.Hour), nil)
	l.start(t, want[2], noon.Add(2*time.Hour), nil)
	l.start(t, want[3], noon.Add(time.Hour), nil)
	l.start(t, want[4], noon.Add(time.Millisecond), nil)
	l.start(t, want[5], noon, nil)
	// What is left of a run that could not start is no run.
	require.NoError(t, l.store.PutDoc(t.Context(), "flows/Train/broken/logs/x", nil))

	ids, err := l.reader.IDs(t.Context(), "Train")
	require.NoError(t, err)
	require.Equal(t, want, ids)
	var got []string
	for run, err := range l.reader.Runs(t.Context(), "Train") {
		require.NoError(t, err)
		got = append(got, run.Run.Run)
	}
	require.Equal(t, want, got)

	latest, err := l.reader.Latest(t.Context(), "Train", func(r *runs.Run) bool { return r.Run.Run < "9" && r.Run.Run[0] == '2' })
	require.NoError(t, err)
	require.Equal(t, want[2], latest.Run.Run)
	found, err := l.reader.Find(t.Context(), "Train/latest")
	require.NoError(t, err)
	require.Equal(t, want[0], found.Run.Run)

	flows, err := l.reader.Flows(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"Train"}, flows)
}

// TestRunsReadsWhatIsTaken damages an older run: whoever takes the newest does not notice.
func TestRunsReadsWhatIsTaken(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	oldest, old, newest := runs.NewID(noon), runs.NewID(noon.Add(time.Hour)), runs.NewID(noon.Add(2*time.Hour))
	l.start(t, oldest, noon, nil)
	l.start(t, newest, noon, nil)
	require.NoError(t, l.store.PutDoc(t.Context(), records.RunKey("Train", old), []byte("{")))

	latest, err := l.reader.Latest(t.Context(), "Train", func(*runs.Run) bool { return true })
	require.NoError(t, err)
	require.Equal(t, newest, latest.Run.Run)

	var got []string
	var failed []error
	for run, err := range l.reader.Runs(t.Context(), "Train") {
		if err != nil {
			failed = append(failed, err)
			continue
		}
		got = append(got, run.Run.Run)
	}
	require.Equal(t, []string{newest, oldest}, got)
	require.Len(t, failed, 1)
	require.ErrorIs(t, failed[0], artifacts.ErrCorrupt)
}

func TestNotFound(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start(t, "r1", noon, nil)
	ctx := t.Context()
	run := l.run(t, "r1")

	_, err := l.reader.Run(ctx, "Train", "r2")
	require.ErrorIs(t, err, runs.ErrNotFound)
	require.ErrorContains(t, err, `run "r2" of flow "Train"`)
	_, err = l.reader.Find(ctx, "Nope/latest")
	require.ErrorIs(t, err, runs.ErrNotFound)
	_, err = l.reader.Latest(ctx, "Train", func(*runs.Run) bool { return false })
	require.ErrorIs(t, err, runs.ErrNotFound)
	_, err = run.Step(ctx, "nope")
	require.ErrorIs(t, err, runs.ErrNotFound)
	require.ErrorContains(t, err, "load, fit, report")
	_, err = run.Task(ctx, "fit[3]")
	require.ErrorIs(t, err, runs.ErrNotFound)
	_, err = run.Last(ctx)
	require.ErrorIs(t, err, runs.ErrNotFound)

	task, err := run.Task(ctx, "fit")
	require.NoError(t, err)
	_, err = task.Artifact("Rows")
	require.ErrorIs(t, err, runs.ErrNotFound)
	require.ErrorContains(t, err, "not started")
	_, err = runs.LoadState[state](ctx, task, train)
	require.ErrorIs(t, err, runs.ErrNotFound)
	_, err = task.Card(ctx, "default")
	require.ErrorIs(t, err, runs.ErrNotFound)

	for _, bad := range []string{"Train", "Train/r1/fit", "Train/../..", "../x"} {
		_, err = l.reader.Find(ctx, bad)
		require.ErrorIs(t, err, runs.ErrPathspec, bad)
	}
	_, err = l.reader.Run(ctx, "..", "..")
	require.ErrorIs(t, err, runs.ErrPathspec)
	_, err = l.reader.IDs(ctx, "..")
	require.ErrorIs(t, err, runs.ErrPathspec)
	_, err = run.Task(ctx, "fit[x")
	require.ErrorIs(t, err, runs.ErrPathspec)
	_, err = task.Card(ctx, "../../x")
	require.ErrorIs(t, err, runs.ErrPathspec)
}

// temporal is a Temporal that knows one workflow. Other calls than describe panic.
type temporal struct {
	client.Client
	describe func(ctx context.Context, id string) (*workflowservice.DescribeWorkflowExecutionResponse, error)
	calls    atomic.Int64
	query    string
}

func (f *temporal) DescribeWorkflowExecution(ctx context.Context, id, _ string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	f.calls.Add(1)
	return f.describe(ctx, id)
}

// closed is how the workflow ended, as far as Temporal knows.
type closed struct{ client.WorkflowRun }

func (closed) Get(context.Context, any) error {
	return sdk.NewNonRetryableApplicationError("the worker has another store", "Permanent", nil)
}

func (f *temporal) GetWorkflow(context.Context, string, string) client.WorkflowRun { return closed{} }

func (l lab) with(f *temporal) *runs.Reader { return runs.New(l.store, f) }

func described(status enumspb.WorkflowExecutionStatus, pending ...*workflowpb.PendingActivityInfo) *temporal {
	return &temporal{describe: func(context.Context, string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
		return &workflowservice.DescribeWorkflowExecutionResponse{
			WorkflowExecutionInfo: &workflowpb.WorkflowExecutionInfo{Status: status, CloseTime: timestamppb.New(noon.Add(time.Hour))},
			PendingActivities:     pending,
		}, nil
	}}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start(t, "open", noon, nil)
	l.start(t, "young", time.Now(), nil)
	l.start(t, "done", noon, nil)
	l.end(t, "done", records.End{Status: records.StatusCompleted, Ended: noon.Add(time.Minute)})
	gone := &temporal{describe: func(context.Context, string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
		return nil, serviceerror.NewNotFound("no such workflow")
	}}
	for _, test := range []struct {
		name, run string
		reader    *runs.Reader
		status    records.Status
		ended     time.Time
		message   string
	}{
		{name: "no Temporal", run: "open", reader: l.reader, status: runs.Unknown},
		{name: "ended", run: "done", reader: l.reader, status: records.StatusCompleted, ended: noon.Add(time.Minute)},
		{name: "running", run: "open", reader: l.with(described(enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING)), status: records.StatusRunning},
		{name: "cancelled", run: "open", reader: l.with(described(enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED)), status: records.StatusCancelled, ended: noon.Add(time.Hour)},
		{name: "terminated", run: "open", reader: l.with(described(enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED)), status: records.StatusFailed, ended: noon.Add(time.Hour), message: "the workflow was terminated in Temporal"},
		{name: "timed out", run: "open", reader: l.with(described(enumspb.WORKFLOW_EXECUTION_STATUS_TIMED_OUT)), status: records.StatusFailed, ended: noon.Add(time.Hour), message: "the workflow timed out in Temporal"},
		{name: "failed before its end was written", run: "open", reader: l.with(described(enumspb.WORKFLOW_EXECUTION_STATUS_FAILED)), status: records.StatusFailed, ended: noon.Add(time.Hour), message: "the worker has another store"},
		{name: "forgotten", run: "open", reader: l.with(gone), status: records.StatusFailed, message: "Temporal does not know the run: it was never started, or its history was deleted"},
		{name: "about to start", run: "young", reader: l.with(gone), status: runs.Unknown},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			run, err := test.reader.Run(t.Context(), "Train", test.run)
			require.NoError(t, err)
			require.Equal(t, test.status, run.Status)
			require.True(t, test.ended.Equal(run.Ended), run.Ended)
			if test.message == "" {
				require.Nil(t, run.Failure)
			} else {
				require.Equal(t, test.message, run.Failure.Message)
			}
		})
	}
}

// TestEndBetweenTheReads writes end.json while Temporal is asked.
func TestEndBetweenTheReads(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start(t, "r1", noon, nil)
	f := described(enumspb.WORKFLOW_EXECUTION_STATUS_FAILED)
	answer := f.describe
	f.describe = func(ctx context.Context, id string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
		l.end(t, "r1", records.End{Status: records.StatusFailed, Ended: noon.Add(time.Minute), Failure: &policies.Failure{Class: policies.Bug, Message: "boom"}})
		return answer(ctx, id)
	}
	run, err := l.with(f).Run(t.Context(), "Train", "r1")
	require.NoError(t, err)
	require.Equal(t, "boom", run.Failure.Message)
}

// TestTemporalAway asks a Temporal that does not answer once, not once for each run.
func TestTemporalAway(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for _, id := range []string{"r1", "r2", "r3"} {
		l.start(t, id, noon, nil)
	}
	away := &temporal{describe: func(context.Context, string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
		return nil, serviceerror.NewUnavailable("connection refused")
	}}
	n := 0
	var last *runs.Run
	for run, err := range l.with(away).Runs(t.Context(), "Train") {
		require.NoError(t, err)
		require.Equal(t, runs.Unknown, run.Status)
		n++
		last = run
	}
	require.Equal(t, 3, n)
	require.EqualValues(t, 1, away.calls.Load())
	require.NoError(t, last.Refresh(t.Context())) // who asks for one run is not put off
	require.EqualValues(t, 2, away.calls.Load())
}

func TestInterruptedRead(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start(t, "r1", noon, nil)
	ctx, cancel := context.WithCancel(t.Context())
	f := &temporal{describe: func(ctx context.Context, _ string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
		cancel()
		return nil, ctx.Err()
	}}
	_, err := l.with(f).Run(ctx, "Train", "r1")
	require.ErrorIs(t, err, context.Canceled)
}

func TestPending(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start(t, "r1", noon, nil)
	l.task(t, "r1", "load", &state{}, nil)
	beat, err := converter.GetDefaultDataConverter().ToPayloads(map[string]any{"attempt": 2, "done": 7, "total": 9})
	require.NoError(t, err)
	failed := &failurepb.Failure{Message: "503", FailureInfo: &failurepb.Failure_ApplicationFailureInfo{
		ApplicationFailureInfo: &failurepb.ApplicationFailureInfo{Type: "Transient"}}}
	activity := func(change func(*workflowpb.PendingActivityInfo)) *workflowpb.PendingActivityInfo {
		a := &workflowpb.PendingActivityInfo{
			ActivityId: "fit", ActivityType: &commonpb.ActivityType{Name: "Train.fit"}, Attempt: 2, LastFailure: failed,
			ScheduledTime: timestamppb.New(noon.Add(time.Minute)), State: enumspb.PENDING_ACTIVITY_STATE_SCHEDULED,
		}
		change(a)
		return a
	}
	for _, test := range []struct {
		name   string
		change func(*workflowpb.PendingActivityInfo)
		want   runs.Pending
	}{
		{"waits for its next attempt", func(*workflowpb.PendingActivityInfo) {}, runs.Pending{Attempt: 2, Next: noon.Add(time.Minute)}},
		{"runs, with progress", func(a *workflowpb.PendingActivityInfo) {
			a.State, a.HeartbeatDetails, a.LastStartedTime = enumspb.PENDING_ACTIVITY_STATE_STARTED, beat, timestamppb.New(noon)
		}, runs.Pending{Attempt: 2, Running: true, Started: noon, Done: 7, Total: 9}},
		{"catches", func(a *workflowpb.PendingActivityInfo) {
			a.ActivityId, a.ActivityType.Name, a.Attempt = "fit.catch", "Train.fit.catch", 1
		}, runs.Pending{Attempt: 1, Catch: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			run, err := l.with(described(enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING, activity(test.change))).Run(t.Context(), "Train", "r1")
			require.NoError(t, err)
			task, err := run.Task(t.Context(), "fit")
			require.NoError(t, err)
			require.Equal(t, runs.Running, task.State)
			require.Equal(t, "503", task.Pending.Failure.Message)
			require.Equal(t, policies.Transient, task.Pending.Failure.Class)
			got := *task.Pending
			got.Failure = nil
			require.Equal(t, test.want, got)
		})
	}
}

func TestCorruptEndIsNone(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start(t, "r1", noon, nil)
	require.NoError(t, l.store.PutDoc(t.Context(), records.EndKey("Train", "r1"), []byte("not JSON")))
	run, err := l.reader.Run(t.Context(), "Train", "r1")
	require.NoError(t, err)
	require.Equal(t, runs.Unknown, run.Status)
}
