package stepwell

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

// shapeStage is a Temporal with the workflow of a run that has shapes.
type shapeStage struct {
	client.Client
	*station
	ended   chan struct{}
	running atomic.Pointer[[]string]        // the tasks that run
	answer  atomic.Pointer[[]runs.Progress] // of the query, which nobody answers while it is nil
	asked   atomic.Int64
}

func newShapeStage(t *testing.T, fan flow.Fan) *shapeStage {
	t.Helper()
	store, err := artifacts.Open(t.Context(), t.TempDir(), artifacts.Options{})
	require.NoError(t, err)
	s := &shapeStage{station: &station{t, store.String(), store, gridFlow(fan)}, ended: make(chan struct{})}
	require.NoError(t, s.flow.Check())
	s.start(playedRun, time.Now(), nil)
	return s
}

func (s *shapeStage) run(tasks ...string) { s.running.Store(&tasks) }

func (s *shapeStage) DescribeWorkflowExecution(context.Context, string, string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	d := &workflowservice.DescribeWorkflowExecutionResponse{
		WorkflowExecutionInfo: &workflowpb.WorkflowExecutionInfo{Status: enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING},
	}
	if tasks := s.running.Load(); tasks != nil {
		for _, id := range *tasks {
			step, _, _ := strings.Cut(id, "[")
			d.PendingActivities = append(d.PendingActivities, &workflowpb.PendingActivityInfo{
				ActivityId: id, ActivityType: &commonpb.ActivityType{Name: "TrainFlow." + step}, Attempt: 1,
				State: enumspb.PENDING_ACTIVITY_STATE_STARTED, LastStartedTime: timestamppb.Now(),
			})
		}
	}
	return d, nil
}

func (s *shapeStage) QueryWorkflow(ctx context.Context, _, _, query string, _ ...any) (converter.EncodedValue, error) {
	require.Equal(s, "stepwell.progress", query)
	s.asked.Add(1)
	p := s.answer.Load()
	if p == nil {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return progressAnswer(*p), nil
}

type progressAnswer []runs.Progress

func (progressAnswer) HasValue() bool { return true }
func (a progressAnswer) Get(into any) error {
	b, err := json.Marshal([]runs.Progress(a))
	if err != nil {
		return err
	}
	return json.Unmarshal(b, into)
}

func (s *shapeStage) GetWorkflow(context.Context, string, string) client.WorkflowRun {
	return playedWorkflow{s: &stage{station: s.station, ended: s.ended}}
}

func (s *shapeStage) follow(c *command) <-chan error {
	s.Helper()
	cl := NewClient(s, s.store, ClientOptions{})
	run, err := cl.Runs().Run(s.Context(), "TrainFlow", playedRun)
	require.NoError(s, err)
	done := make(chan error, 1)
	go func() {
		done <- c.follow(s.Context(), &session{store: s.store, client: cl, namespace: "default", ending: &c.ending}, run, watching{own: true})
	}()
	return done
}

// now writes the record of a task that just ended.
func (s *shapeStage) now(step string, x flow.Index, ahead flow.Ahead) records.Ref {
	s.Helper()
	return s.node(playedRun, step, x, time.Now().UTC().Format("15:04:05.000"), ahead)
}

// TestFollowShapes follows a run through a branch, a foreach, a switch and a loop, as a pipe sees it.
func TestFollowShapes(t *testing.T) {
	t.Parallel()
	s := newShapeStage(t, flow.Fan{Tolerate: flow.Count(5)})
	c, out, stderr := newOutputs()
	s.run("load")
	done := s.follow(c)
	wait(t, out, "load started")
	s.now("load", nil, nil)
	s.run("numeric", "text")
	wait(t, out, "numeric started")
	wait(t, out, "text started")
	s.now("text", nil, nil)
	s.run("numeric")
	wait(t, out, "text completed")
	require.NotContains(t, out.String(), "numeric completed")
	s.now("numeric", nil, nil)
	s.now("merge", nil, flow.Ahead{"grid": {Items: &flow.List{Len: 40}}})
	s.answer.Store(&[]runs.Progress{{Foreach: "grid", Items: 40, Completed: 12}, {Foreach: "grid", Index: flow.Index{1}, Completed: 40}})
	s.run("fit[12]", "fit[13]")
	wait(t, out, "grid started: 40 items")
	wait(t, out, "grid: 12 of 40 items done")
	for i := range 40 {
		s.itemRun(playedRun, i, i == 31)
	}
	wait(t, out, "fit[31] failed: item 31 is negative (class Invalid)")
	s.now("best", nil, flow.Ahead{"good": {Case: 1}})
	s.run("report")
	wait(t, out, "report started")
	s.now("report", nil, flow.Ahead{"tune": {Again: true}})
	for i := range 2 {
		s.run(fmt.Sprintf("tune_once[%d]", i))
		wait(t, out, fmt.Sprintf("tune_once[%d] started", i))
		s.now("tune_once", flow.Index{i}, flow.Ahead{"tune": {Again: i == 0}})
	}
	s.run("end")
	wait(t, out, "end started")
	last := s.now("end", nil, nil)
	s.end(playedRun, records.End{Status: records.StatusCompleted, Ended: time.Now(), Last: &last})
	close(s.ended)
	require.NoError(t, result1(t, done))
	require.Empty(t, stderr.String())
	text := out.String()
	for _, line := range []string{
		"merge completed", "grid completed in", "best completed", "tune_once[0] completed", "tune_once[1] completed", "end completed",
		"tolerated  grid: 1 of 40 items failed, see: stepwell why TrainFlow/" + playedRun + "/grid",
	} {
		require.Equal(t, 1, strings.Count(text, line), "%q in %s", line, text)
	}
	require.NotContains(t, text, "ship")
	require.Positive(t, s.asked.Load())
}

// A foreach that was over when it was looked at first started before it ended.
func TestFollowAForeachThatIsOver(t *testing.T) {
	t.Parallel()
	s := newShapeStage(t, flow.Fan{})
	s.upTo(playedRun, 5)
	for i := range 5 {
		s.itemRun(playedRun, i, false)
	}
	s.node(playedRun, "best", nil, "12:00:40.000", flow.Ahead{"good": {Case: 1}})
	s.run("report")
	c, out, _ := newOutputs()
	done := s.follow(c)
	wait(t, out, "report started")
	s.end(playedRun, records.End{Status: records.StatusCancelled, Ended: time.Now()})
	close(s.ended)
	require.Error(t, result1(t, done))
	started, ended := strings.Index(out.String(), "grid started: 5 items"), strings.Index(out.String(), "grid completed in")
	require.GreaterOrEqual(t, started, 0, out.String())
	require.Greater(t, ended, started, out.String())
}

// TestFollowForeachWithoutAnAnswer counts items by their records, and ends with what the run failed with.
func TestFollowForeachWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	s := newShapeStage(t, flow.Fan{})
	s.upTo(playedRun, 1200)
	c, out, _ := newOutputs()
	for i := range 1000 {
		s.itemRun(playedRun, i, false)
	}
	s.run("fit[1000]")
	done := s.follow(c)
	wait(t, out, "grid: 1,000 of 1,200 items done")
	s.itemRun(playedRun, 1001, true)
	f := badItem(1001)
	f.Others = 3
	s.end(playedRun, records.End{Status: records.StatusFailed, Ended: time.Now(), Failure: f})
	close(s.ended)
	require.Equal(t, ExitFailed, exitCode(t.Context(), result1(t, done)))
	require.Contains(t, out.String(), "1,001 of 1,200 items done, 1 failed")
	require.Contains(t, out.String(), `task "fit[1001]": item 1001 is negative (class Invalid), and 3 other tasks failed`)
	require.Equal(t, 1, strings.Count(out.String(), "fit[1001] failed"))
}

// TestFollowForeachLive looks at the bar on a screen.
func TestFollowForeachLive(t *testing.T) {
	t.Parallel()
	s := newShapeStage(t, flow.Fan{Batch: 1000})
	s.upTo(playedRun, 100_000)
	s.answer.Store(&[]runs.Progress{{Foreach: "grid", Items: 100_000, Completed: 49_998, Failed: 2}})
	c, out, _ := newOutputs()
	for _, st := range []*stream{&c.term.out, &c.term.err} {
		st.screen, st.size = true, func() (int, int) { return 120, 24 }
	}
	done := s.follow(c)
	wait(t, out, "━━━━━━━━━━────────── 50,000 of 100,000 items done, 2 failed")
	s.end(playedRun, records.End{Status: records.StatusCancelled, Ended: time.Now()})
	close(s.ended)
	require.Error(t, result1(t, done))
	lines := strings.Split(screen(t, out.String()), "\n")
	grid := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, "grid") })
	require.Contains(t, lines[grid], "■ grid")
	require.Contains(t, lines[grid], "cancelled  50,000 of 100,000 items done, 2 failed")
	require.Contains(t, lines[grid+1], "○ best")
}

// TestManyLines does not show all that a million items log.
func TestManyLines(t *testing.T) {
	t.Parallel()
	s := newShapeStage(t, flow.Fan{})
	c, out, _ := newOutputs()
	for i := range manyLines + 1234 {
		c.lines.add(logEntry{time: time.Now(), level: "INFO", task: fmt.Sprintf("fit[%d]", i), message: "said"})
	}
	done := s.follow(c)
	wait(t, out, "1,234 more lines are kept, see: stepwell logs TrainFlow/"+playedRun)
	require.Equal(t, manyLines, strings.Count(out.String(), ": said"))
	s.end(playedRun, records.End{Status: records.StatusCompleted, Ended: time.Now()})
	close(s.ended)
	require.NoError(t, result1(t, done))
}

func TestFanRows(t *testing.T) {
	t.Parallel()
	now := at("12:01:00.000")
	fan := func(state runs.State, f fanCount) watched {
		w := watched{name: "grid", state: state, began: true, started: at("12:00:00.000"), fan: &f}
		if state != runs.Running {
			w.ended = now
		}
		return w
	}
	for _, test := range []struct {
		step watched
		want string
	}{
		{watched{name: "grid", fan: &fanCount{}}, "○ grid  "},
		{watched{name: "grid", fan: &fanCount{}, state: runs.Skipped}, "– grid  skipped"},
		{fan(runs.Running, fanCount{items: 1200}), "● grid  1m  ──────────────────── 0 of 1,200 items done"},
		{fan(runs.Running, fanCount{items: 1200, completed: 600, since: at("12:00:30.000"), from: 300}), "● grid  1m  ━━━━━━━━━━────────── 600 of 1,200 items done, 10/s, about 1m left"},
		{fan(runs.Running, fanCount{items: 1, completed: 1}), "● grid  1m  ━━━━━━━━━━━━━━━━━━━━ 1 of 1 item done"},
		{fan(runs.Completed, fanCount{items: 1200, completed: 1198, failed: 2}), "! grid  1m  1,200 of 1,200 items done, 2 failed"},
		{fan(runs.Failed, fanCount{items: 1200, completed: 7, failed: 1}), "✗ grid  1m  8 of 1,200 items done, 1 failed"},
		{watched{name: "tune_once", index: flow.Index{3}, state: runs.Completed, began: true, started: now, ended: now}, "✓ tune_once[3]  0s"},
	} {
		require.Equal(t, []string{test.want}, block([]watched{test.step}, now, style{}, 200, 24))
	}
}

// TestBlockKeepsWhatIsUnderWay has arms that run beside many that have ended.
func TestBlockKeepsWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	var steps []watched
	for i := range 40 {
		w := watched{name: fmt.Sprintf("s%02d", i), state: runs.Completed, began: true, ended: at("12:00:01.000")}
		switch {
		case i == 2 || i == 35:
			w.state, w.ended = runs.Running, time.Time{}
		case i == 7:
			w.state, w.failure = runs.Failed, &policies.Failure{Message: "boom"}
		case i > 35:
			w = watched{name: w.name, state: runs.NotStarted}
		}
		steps = append(steps, w)
	}
	text := strings.Join(block(steps, at("12:00:10.000"), style{}, 80, 12), "\n")
	for _, want := range []string{"● s02", "✗ s07", "● s35", "○ s36", "steps before"} {
		require.Contains(t, text, want)
	}
	require.Less(t, strings.Count(text, "\n"), 11)
}

func TestFanCountIsDue(t *testing.T) {
	t.Parallel()
	now := at("12:00:00.000")
	base := fanCount{items: 1000, completed: 300, told: 250, toldAt: now}
	for after, want := range map[time.Duration]bool{time.Second: false, 14 * time.Second: false, 15 * time.Second: true} {
		require.Equal(t, want, base.due(now.Add(after)), after)
	}
	base.completed = 350
	require.False(t, base.due(now.Add(900*time.Millisecond)))
	require.True(t, base.due(now.Add(time.Second)))
	base.completed = 250
	require.False(t, base.due(now.Add(time.Hour)), "nothing happened")
}

// TestFollowAFailedArm tells at once that one arm failed, though the other goes on.
func TestFollowAFailedArm(t *testing.T) {
	t.Parallel()
	s := newShapeStage(t, flow.Fan{})
	s.now("load", nil, nil)
	c, out, _ := newOutputs()
	s.run("numeric", "text")
	done := s.follow(c)
	wait(t, out, "text started")
	f := &policies.Failure{Class: policies.Bug, Message: "boom", Step: "text", Task: "text", Attempt: 1, Time: time.Now()}
	s.attempt(playedRun, "text", records.Attempt{Attempt: 1, Outcome: records.Failed, Started: time.Now(), Ended: time.Now(), Failure: f, CountsAsCodeFailure: true})
	s.run("numeric")
	wait(t, out, "text failed")
	s.now("numeric", nil, nil)
	s.run()
	wait(t, out, "numeric completed")
	s.end(playedRun, records.End{Status: records.StatusFailed, Ended: time.Now(), Failure: f})
	close(s.ended)
	require.Equal(t, ExitFailed, exitCode(t.Context(), result1(t, done)))
	require.Equal(t, 1, strings.Count(out.String(), "text failed"), out)
	require.Contains(t, out.String(), ": boom (class Bug)")
	require.NotContains(t, out.String(), "merge")
}
