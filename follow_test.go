package stepwell

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

// stage is a Temporal with one workflow, which the test plays: it writes the records and says what is pending.
type stage struct {
	client.Client
	*station
	ended chan struct{}

	mu      sync.Mutex
	pending *workflowpb.PendingActivityInfo
}

const playedRun = "20260102-120000-00fffff"

func newStage(t *testing.T) *stage {
	t.Helper()
	store, err := artifacts.Open(t.Context(), t.TempDir(), artifacts.Options{})
	require.NoError(t, err)
	s := &stage{station: &station{t, store.String(), store, trainFlow()}, ended: make(chan struct{})}
	require.NoError(t, s.flow.Check())
	s.start(playedRun, time.Now(), nil)
	return s
}

func (s *stage) DescribeWorkflowExecution(context.Context, string, string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := &workflowservice.DescribeWorkflowExecutionResponse{
		WorkflowExecutionInfo: &workflowpb.WorkflowExecutionInfo{Status: enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING},
	}
	if s.pending != nil {
		d.PendingActivities = append(d.PendingActivities, s.pending)
	}
	return d, nil
}

// pend says what is pending, nothing without an id.
func (s *stage) pend(id string, attempt int32, running bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id == "" {
		s.pending = nil
		return
	}
	s.pending = &workflowpb.PendingActivityInfo{
		ActivityId: id, ActivityType: &commonpb.ActivityType{Name: "TrainFlow." + id}, Attempt: attempt, State: enumspb.PENDING_ACTIVITY_STATE_SCHEDULED,
		ScheduledTime: timestamppb.New(time.Now().Add(time.Minute)),
	}
	if running {
		s.pending.State, s.pending.LastStartedTime = enumspb.PENDING_ACTIVITY_STATE_STARTED, timestamppb.Now()
	}
}

func (s *stage) GetWorkflow(context.Context, string, string) client.WorkflowRun {
	return playedWorkflow{s: s}
}

// playedWorkflow waits until the play is over.
type playedWorkflow struct {
	client.WorkflowRun
	s *stage
}

func (w playedWorkflow) Get(ctx context.Context, _ any) error {
	select {
	case <-w.s.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// output is a writer that can be read while it is written.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// follow follows the played run in the background.
func (s *stage) follow(ctx context.Context, c *command, own bool) <-chan error {
	s.Helper()
	cl := NewClient(s, s.store, ClientOptions{})
	run, err := cl.Runs().Run(ctx, "TrainFlow", playedRun)
	require.NoError(s, err)
	done := make(chan error, 1)
	go func() {
		done <- c.follow(ctx, &session{store: s.store, client: cl, namespace: "default", webUI: "http://127.0.0.1:8233", ending: &c.ending}, run, watching{own: own, tail: !own})
	}()
	return done
}

func wait(t *testing.T, out *output, text string) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(out.String(), text) }, time.Minute, 5*time.Millisecond, "%q does not come: %s", text, out)
}

func newOutputs() (c *command, out, stderr *output) {
	out, stderr = &output{}, &output{}
	c = newCommand(App{}, IO{Out: out, Err: stderr, Env: func(string) (string, bool) { return "", false }})
	c.set.stateDir = defaultStateDir
	return c, out, stderr
}

func result1(t *testing.T, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(time.Minute):
		t.Fatal("follow does not return")
		return nil
	}
}

// withoutTimes leaves out what differs from run to run: times of day, and how long it took.
func withoutTimes(s *stage, text string) string {
	var lines []string
	for line := range strings.SplitSeq(strings.ReplaceAll(text, s.dir, "STORE"), "\n") {
		if len(line) > 12 && line[2] == ':' && line[5] == ':' {
			line = line[13:]
		}
		if before, after, ok := strings.Cut(line, " in "); ok && (strings.Contains(before, "completed") || strings.Contains(before, "failed") || strings.Contains(before, "caught")) {
			if i := strings.IndexAny(after, ",:"); i >= 0 && !strings.Contains(before, "attempt") {
				line = before + after[i:]
			} else if !strings.Contains(before, "attempt") {
				line = before
			}
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// TestFollowPlain follows a run that retries, is caught and fails, as a pipe sees it.
func TestFollowPlain(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	c, out, stderr := newOutputs()
	s.pend("load", 1, true)
	done := s.follow(t.Context(), c, false)
	wait(t, out, "load started")

	busy := &policies.Failure{Class: policies.RateLimited, Message: "429 \x1b[31mtoo many", Attempt: 1}
	s.log(playedRun, "load", 1, false, `{"time":"2026-01-02T12:00:00Z","level":"INFO","msg":"asking"}`,
		`{"time":"2026-01-02T12:00:00Z","level":"ERROR","msg":"attempt failed","class":"RateLimited","error":"429","next":"x"}`)
	s.attempt(playedRun, "load", records.Attempt{Attempt: 1, Outcome: records.Failed, Started: time.Now(), Ended: time.Now(), Failure: busy,
		CountsAsCodeFailure: true, Delay: 1500 * time.Millisecond, Reason: "exponential 2s, full jitter drew 1.5s"})
	s.pend("load", 2, false)
	wait(t, out, "next attempt in 1.5s")
	wait(t, out, "load: asking")
	s.log(playedRun, "load", 2, false, `{"time":"2026-01-02T12:00:02Z","level":"INFO","msg":"answered"}`)
	now := time.Now()
	s.task(playedRun, "load", trainState{Rows: 3}, now, now, func(r *records.Task) { r.Attempt = 2 })
	s.task(playedRun, "train", trainState{Rows: 3}, now, now, nil)
	bug := &policies.Failure{Class: policies.Bug, Message: "panic: boom", Step: "evaluate", Task: "evaluate", Attempt: 1}
	s.attempt(playedRun, "evaluate", records.Attempt{Attempt: 1, Outcome: records.Failed, Started: now, Ended: now, Failure: bug, CountsAsCodeFailure: true, Reason: "attempts spent (1 of 1)"})
	s.task(playedRun, "evaluate", trainState{Rows: 3, Problem: bug}, now, now, func(r *records.Task) { r.Outcome, r.Failure = records.Caught, bug })
	s.pend("report", 1, true)
	wait(t, out, "report started")
	bad := &policies.Failure{Class: policies.Permanent, Message: "not good enough", Flow: "TrainFlow", Run: playedRun, Step: "report", Task: "report", Attempt: 1}
	s.attempt(playedRun, "report", records.Attempt{Attempt: 1, Outcome: records.Failed, Started: now, Ended: now, Failure: bad, CountsAsCodeFailure: true, Reason: "class Permanent is not retried"})
	s.doc(records.CardKey("TrainFlow", playedRun, "report", nil, "default"), "<p>")
	s.end(playedRun, records.End{Status: records.StatusFailed, Ended: time.Now(), Failure: bad})
	close(s.ended)

	err := result1(t, done)
	require.Equal(t, ExitFailed, exitCode(t.Context(), err))
	require.ErrorIs(t, err, errQuiet)
	require.Empty(t, stderr.String())
	text := withoutTimes(s, out.String())
	require.NotContains(t, text, "\x1b")
	// Events of one moment may come in one look or in two; each comes once.
	want := strings.Split(strings.TrimSpace(`
run TrainFlow/20260102-120000-00fffff
http://127.0.0.1:8233/namespaces/default/workflows/TrainFlow%2F20260102-120000-00fffff
load started
INFO  load: asking
load attempt 1 of 4 failed: 429 too many (class RateLimited); next attempt in 1.5s (exponential 2s, full jitter drew 1.5s)
INFO  load (attempt 2): answered
load completed, attempt 2 of 4
train started
train completed
evaluate started
evaluate caught: panic: boom (class Bug)
report started
report failed: not good enough (class Permanent)
TrainFlow/20260102-120000-00fffff failed
  failed       step "report": not good enough (class Permanent)
  why          stepwell why TrainFlow/20260102-120000-00fffff
  resume with  stepwell resume TrainFlow/20260102-120000-00fffff
  artifacts    STORE
  card         STORE/flows/TrainFlow/20260102-120000-00fffff/cards/report/_/default.html
`), "\n")
	got := strings.Split(strings.TrimSpace(text), "\n")
	require.ElementsMatch(t, want, got)
	require.Less(t, slices.Index(got, want[2]), slices.Index(got, want[6]), "in the order of events")
	require.Equal(t, want[13:], got[13:])
}

// TestFollowReturnsAtOnce ends the run right after a look: the next one would be due later.
func TestFollowReturnsAtOnce(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	c, out, _ := newOutputs()
	s.pend("load", 1, true)
	done := s.follow(t.Context(), c, false)
	wait(t, out, "load started")
	now := time.Now()
	for _, step := range []string{"load", "train", "evaluate", "report"} {
		s.task(playedRun, step, trainState{}, now, now, nil)
	}
	s.end(playedRun, records.End{Status: records.StatusCompleted, Ended: now})
	close(s.ended)
	require.NoError(t, result1(t, done))
	for _, step := range []string{"load", "train", "evaluate", "report"} {
		require.Equal(t, 1, strings.Count(out.String(), step+" completed"), out)
	}
}

func TestFollowJSON(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	c, out, stderr := newOutputs()
	c.set.json = true
	done := s.follow(t.Context(), c, true)
	slog.New(c.followedLog()).With("run", "TrainFlow/"+playedRun, "task", "load", "attempt", 1).Info("said by the step")
	wait(t, stderr, "load: said by the step")
	now := time.Now()
	s.task(playedRun, "load", trainState{}, now, now, nil)
	s.end(playedRun, records.End{Status: records.StatusCancelled, Ended: now})
	close(s.ended)
	require.Equal(t, ExitCancelled, exitCode(t.Context(), result1(t, done)))

	var doc runDocument
	require.NoError(t, json.Unmarshal([]byte(out.String()), &doc), out)
	require.Equal(t, records.StatusCancelled, doc.Status)
	require.Len(t, doc.Tasks, 4)
	require.Equal(t, runs.Completed, doc.Tasks[0].State)
	require.Contains(t, stderr.String(), "load completed")
}

func TestFollowInterrupted(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		own  bool
		want string
	}{
		{false, "the run goes on; follow it with: stepwell attach TrainFlow/" + playedRun},
		{true, "interrupted; what is finished is kept, carry on with: stepwell attach TrainFlow/" + playedRun},
	} {
		s := newStage(t)
		ctx, cancel := context.WithCancel(t.Context())
		c, out, _ := newOutputs()
		s.pend("load", 1, true)
		done := s.follow(ctx, c, test.own)
		wait(t, out, "load started")
		cancel()
		require.Equal(t, ExitInterrupted, exitCode(ctx, result1(t, done)))
		require.Contains(t, out.String(), test.want)
	}
}

// TestFollowLive looks at what is on the screen while a run goes on, and after it.
func TestFollowLive(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	c, out, _ := newOutputs()
	for _, st := range []*stream{&c.term.out, &c.term.err} {
		st.screen, st.size = true, func() (int, int) { return 200, 20 }
	}
	s.pend("load", 1, true)
	done := s.follow(t.Context(), c, true)
	wait(t, out, "● load")
	slog.New(c.followedLog()).With("task", "load", "attempt", 1).Info("said by the step")
	wait(t, out, "said by the step")
	busy := &policies.Failure{Class: policies.RateLimited, Message: "429", Attempt: 1}
	s.attempt(playedRun, "load", records.Attempt{Attempt: 1, Outcome: records.Failed, Started: time.Now(), Ended: time.Now(), Failure: busy,
		CountsAsCodeFailure: true, Delay: time.Minute, Reason: "asked for 1m by the error"})
	s.pend("load", 2, false)
	wait(t, out, "↻ load")
	wait(t, out, "next attempt in 1m (asked for")
	now := time.Now()
	s.task(playedRun, "load", trainState{}, now, now, func(r *records.Task) { r.Attempt = 2 })
	s.end(playedRun, records.End{Status: records.StatusCancelled, Ended: now})
	close(s.ended)
	require.Error(t, result1(t, done))
	lines := strings.Split(screen(t, out.String()), "\n")
	require.Contains(t, lines[2], "load: said by the step")
	require.Contains(t, lines[3], "load attempt 1 of 4 failed: 429")
	require.Contains(t, lines[4], "✓ load")
	require.Contains(t, lines[5], "○ train")
	require.Contains(t, lines[8], "cancelled")
}

func TestRoutineLinesAreNotShownTwice(t *testing.T) {
	t.Parallel()
	var q lineQueue
	l := slog.New(&lineHandler{emit: q.add})
	l.Error("attempt failed", "class", "Bug", "error", "boom", "next", "attempts spent")
	l.Error("attempt failed") // an author's own
	lines := q.take()
	require.Len(t, lines, 1)
	require.Empty(t, lines[0].attrs)
	require.Empty(t, q.take())
}

func TestBlockRows(t *testing.T) {
	t.Parallel()
	now := at("12:00:10.000")
	retry := policies.Spec{MaximumAttempts: 4}
	f := &policies.Failure{Class: policies.Transient, Message: "503\x1b[2J"}
	running := func(p runs.Pending) watched {
		return watched{name: "fit", spec: retry, state: runs.Running, started: at("12:00:00.000"), pending: &p}
	}
	for _, test := range []struct {
		step watched
		want string
	}{
		{watched{name: "fit", state: runs.NotStarted}, "○ fit  "},
		{watched{name: "fit", state: runs.Completed, reused: "r0"}, "✓ fit  reused from r0"},
		{watched{name: "fit", spec: retry, state: runs.Completed, attempt: 3, started: at("12:00:00.000"), ended: at("12:00:02.500")}, "✓ fit  2.5s, attempt 3 of 4"},
		{watched{name: "fit", spec: retry, state: runs.Completed, attempt: 6, started: now, ended: now}, "✓ fit  0s, attempt 6"},
		{watched{name: "fit", state: runs.Caught, failure: f, started: now, ended: now}, "! fit  0s caught: 503 (class Transient)"},
		{watched{name: "fit", state: runs.Failed, failure: f, started: now, ended: now}, "✗ fit  0s failed: 503 (class Transient)"},
		{watched{name: "fit", state: runs.Cancelled, started: now, ended: now}, "■ fit  0s cancelled"},
		{running(runs.Pending{Attempt: 1}), "● fit  10s waits for a worker"},
		{running(runs.Pending{Attempt: 1, Running: true}), "● fit  10s, attempt 1 of 4"},
		{running(runs.Pending{Attempt: 1, Running: true, Done: 5, Total: 10}), "● fit  10s, attempt 1 of 4  ━━━━━━━━━━────────── 5/10"},
		{running(runs.Pending{Attempt: 1, Running: true, Done: 50, Total: 10}), "● fit  10s, attempt 1 of 4  ━━━━━━━━━━━━━━━━━━━━ 50/10"},
		{running(runs.Pending{Attempt: 1, Running: true, Done: 5}), "● fit  10s, attempt 1 of 4  5 done"},
		{running(runs.Pending{Attempt: 2, Running: true, Failure: f}), "● fit  10s, attempt 2 of 4  before: 503 (class Transient)"},
		{running(runs.Pending{Attempt: 2, Next: at("12:00:22.000"), Failure: f}), "↻ fit  10s, attempt 2 of 4, next attempt in 12s: 503 (class Transient)"},
		{running(runs.Pending{Attempt: 2, Next: at("12:00:09.000"), Failure: f}), "↻ fit  10s, attempt 2 of 4, next attempt now: 503 (class Transient)"},
		{running(runs.Pending{Attempt: 1, Running: true, Catch: true, Failure: f}), "● fit  10s catching: 503 (class Transient)"},
	} {
		lines := block([]watched{test.step}, now, style{}, 200, 24)
		require.Equal(t, []string{test.want}, lines)
	}
}

// TestBlockFitsTheScreen has more steps than lines, and lines longer than the screen is wide.
func TestBlockFitsTheScreen(t *testing.T) {
	t.Parallel()
	for n := range 40 {
		var steps []watched
		for i := range 40 {
			w := watched{name: strings.Repeat("long_name_", 6), state: runs.NotStarted}
			if i < n {
				w.state, w.started, w.ended = runs.Failed, at("12:00:00.000"), at("12:00:01.000")
				w.failure = &policies.Failure{Message: strings.Repeat("日本", 100)}
			}
			steps = append(steps, w)
		}
		for _, height := range []int{5, 12, 24} {
			lines := block(steps, at("12:00:10.000"), style{colour: true}, 60, height)
			require.Less(t, len(lines), height)
			for _, line := range lines {
				require.Equal(t, clip(line, 59), line)
			}
		}
	}
	require.NotEmpty(t, block([]watched{{name: "x"}}, time.Now(), style{}, 1, 1))
}

func TestExitCodeOfErrors(t *testing.T) {
	t.Parallel()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	require.Equal(t, ExitInterrupted, exitCode(cancelled, context.Canceled))
	require.Equal(t, ExitInput, exitCode(cancelled, inputf("x")), "what was refused was refused, however it ended")
	require.Equal(t, ExitFailed, exitCode(t.Context(), errors.New("odd")))
	require.Equal(t, ExitOK, exitCode(cancelled, nil))
	require.NoError(t, exitOf(records.StatusCompleted))
	for status, code := range map[records.Status]int{records.StatusFailed: ExitFailed, records.StatusCancelled: ExitCancelled} {
		require.Equal(t, code, exitCode(t.Context(), exitOf(status)))
	}
}
