package workflows

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/guard"
	"github.com/stepwell-flows/stepwell/policies"
)

// dependencyEnv runs the workflow of a dependency on a skipped clock.
type dependencyEnv struct {
	*testsuite.TestWorkflowEnvironment
	t       testing.TB
	start   time.Time
	answers []string
	seq     map[string]int

	settings policies.Dependency
}

func newDependencyEnv(t testing.TB) *dependencyEnv {
	t.Helper()
	e := &dependencyEnv{TestWorkflowEnvironment: newEnv(), t: t, seq: map[string]int{}, settings: modelSettings}
	e.start = e.Now()
	RegisterDependency(e)
	return e
}

var modelSettings = policies.Dependency{
	Name: "model", Breaker: policies.Breaker{Failures: 3}, Budget: policies.Budget{Percent: 50, Minimum: 2},
}.WithDefaults()

func (e *dependencyEnv) at(d time.Duration, f func()) { e.RegisterDelayedCallback(f, d) }

// report makes a worker report at a time. What it is told is noted.
func (e *dependencyEnv) report(at time.Duration, worker string, r guard.Report) {
	e.at(at, func() {
		e.seq[worker]++
		r.Key, r.Worker, r.Settings = "dependency/model", worker, e.settings
		if r.Seq == 0 {
			r.Seq = e.seq[worker]
		}
		e.UpdateWorkflow(activities.ReportUpdate, "", &testsuite.TestUpdateCallback{
			OnAccept: func() {},
			OnReject: func(err error) { e.note(worker, "refused") },
			OnComplete: func(v any, err error) {
				require.NoError(e.t, err)
				a := v.(guard.Answer)
				text := fmt.Sprintf("%d/%d", a.Breaker.Failures, a.Breaker.Calls)
				if a.Open {
					text = fmt.Sprintf("open for %s", a.For)
				}
				if a.Probe {
					text += ", probes"
				}
				if r.WantRetries > 0 {
					text += fmt.Sprintf(", %d retries and %d left", a.Retries, a.Left)
				}
				e.note(worker, text)
			},
		}, r)
	})
}

func (e *dependencyEnv) note(worker, text string) {
	e.answers = append(e.answers, fmt.Sprintf("%s %s: %s", e.Now().Sub(e.start).Round(time.Second), worker, text))
}

func (e *dependencyEnv) view() activities.DependencyView {
	e.t.Helper()
	value, err := e.QueryWorkflow(activities.DependencyQuery)
	require.NoError(e.t, err)
	var v activities.DependencyView
	require.NoError(e.t, value.Get(&v))
	return v
}

func TestDependencyDecidesForAll(t *testing.T) {
	t.Parallel()
	e := newDependencyEnv(t)
	failed := guard.Counts{Calls: 1, Failures: 1}
	e.report(1*second, "a", guard.Report{Counts: failed})
	e.report(2*second, "b", guard.Report{Counts: failed})
	e.report(3*second, "b", guard.Report{Seq: 1, Counts: failed}) // came already
	e.report(4*second, "a", guard.Report{Counts: failed})
	e.at(4500*time.Millisecond, func() {
		v := e.view()
		require.Equal(t, guard.Opened, v.State)
		require.Equal(t, guard.Counts{Calls: 3, Failures: 3}, v.Why)
		require.Len(t, v.Workers, 2)
		require.Contains(t, v.Markdown(), "after 3 of 3 calls failed")
		require.Equal(t, guard.HalfOpen, v.Board.View(e.Now().Add(time.Minute), v.Key).State)
	})
	e.report(6*second, "b", guard.Report{WantProbe: true})
	e.report(9*second, "b", guard.Report{WantProbe: true})
	e.report(10*second, "a", guard.Report{WantProbe: true})
	e.report(11*second, "b", guard.Report{Probed: &guard.Probed{Ago: 2 * second, Blame: policies.Failed}})
	e.report(16*second, "a", guard.Report{WantProbe: true}) // and is killed
	e.report(25*second, "b", guard.Report{WantProbe: true})
	e.report(26*second, "b", guard.Report{WantProbe: true})
	e.report(27*second, "b", guard.Report{Probed: &guard.Probed{Ago: 1 * second, Blame: policies.Answered}, Counts: guard.Counts{Calls: 1}})
	e.report(28*second, "c", guard.Report{Counts: guard.Counts{Calls: -1}})
	e.ExecuteWorkflow(activities.DependencyType, activities.DependencyInput{Key: "dependency/model"})
	require.NoError(t, e.GetWorkflowError())
	require.Equal(t, []string{
		"1s a: 1/1", "2s b: 2/2", "3s b: 2/2", "4s a: open for 5s",
		"6s b: open for 3s", "9s b: open for 0s, probes", "10s a: open for 0s", "11s b: open for 5s",
		"16s a: open for 0s, probes", "25s b: open for 0s", "26s b: open for 0s, probes", "27s b: 0/1", "28s c: refused",
	}, e.answers)
	require.Equal(t, 10*time.Minute+27*second, e.Now().Sub(e.start).Round(second), "ten minutes after the last report")
}

func TestDependencyLendsRetries(t *testing.T) {
	t.Parallel()
	e := newDependencyEnv(t)
	e.report(1*second, "a", guard.Report{WantRetries: 5})
	e.report(2*second, "b", guard.Report{WantRetries: 5})
	e.report(3*second, "b", guard.Report{Counts: guard.Counts{Firsts: 10}, WantRetries: 2})
	e.report(4*second, "a", guard.Report{WantRetries: 10})
	e.report(70*second, "a", guard.Report{WantRetries: 1})
	e.at(71*second, func() {
		e.UpdateWorkflow(activities.ResetUpdate, "", &testsuite.TestUpdateCallback{
			OnAccept: func() {}, OnReject: func(err error) { t.Error(err) },
			OnComplete: func(v any, err error) { require.Equal(t, 2, v.(guard.View).Left) },
		}, activities.ResetInput{By: "me"})
	})
	e.ExecuteWorkflow(activities.DependencyType, activities.DependencyInput{Key: "dependency/model"})
	require.NoError(t, e.GetWorkflowError())
	require.Equal(t, []string{
		"1s a: 0/0, 2 retries and 0 left", "2s b: 0/0, 0 retries and 0 left", "3s b: 0/0, 2 retries and 1 left", "4s a: 0/0, 1 retries and 0 left",
		"1m10s a: 0/0, 1 retries and 1 left",
	}, e.answers)
}

func TestDependencyLeavesItsHistoryBehind(t *testing.T) {
	t.Parallel()
	e := newDependencyEnv(t)
	for i := range dependencyUpdates {
		e.report(time.Duration(i+1)*100*time.Millisecond, "a", guard.Report{Counts: guard.Counts{Calls: 1, Failures: 1}})
	}
	e.ExecuteWorkflow(activities.DependencyType, activities.DependencyInput{Key: "dependency/model"})
	var again *workflow.ContinueAsNewError
	require.ErrorAs(t, e.GetWorkflowError(), &again)
	require.Equal(t, fmt.Sprint(dependencyUpdates), fmt.Sprint(e.seq["a"]))
}

// What is known counts for an hour here: nobody may be told before that the breaker is closed.
func TestDependencyOutlivesItsCooldown(t *testing.T) {
	t.Parallel()
	e := newDependencyEnv(t)
	e.settings.Breaker.Cooldown = time.Hour
	failed := guard.Counts{Calls: 1, Failures: 1}
	for i := range 3 {
		e.report(time.Duration(i+1)*second, "a", guard.Report{Counts: failed})
	}
	e.report(30*time.Minute, "b", guard.Report{Counts: guard.Counts{Held: 1}})
	e.report(time.Hour+4*second, "b", guard.Report{WantProbe: true})
	e.ExecuteWorkflow(activities.DependencyType, activities.DependencyInput{Key: "dependency/model"})
	require.NoError(t, e.GetWorkflowError())
	require.Equal(t, []string{
		"1s a: 1/1", "2s a: 2/2", "3s a: open for 1h0m0s", "30m0s b: open for 30m3s", "1h0m4s b: open for 0s, probes",
	}, e.answers)
	require.Equal(t, 3*time.Hour+4*second, e.Now().Sub(e.start).Round(second), "until the probe has ended for sure")
}
