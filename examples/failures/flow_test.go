package failures

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
	"github.com/stepwell-flows/stepwell/workflows"
)

// bundle is a run of a row and what came of it.
type bundle struct {
	*testing.T
	run   *runs.Run
	state *State // of a run that completed
}

func (b *bundle) attempts(task string) []runs.Attempt {
	b.Helper()
	found, err := b.run.Task(b.Context(), task)
	require.NoError(b, err)
	all, err := found.Attempts(b.Context())
	require.NoError(b, err)
	return all
}

// ended requires the outcomes of a task's attempts, and returns them.
func (b *bundle) ended(task string, want ...records.Outcome) []runs.Attempt {
	b.Helper()
	all := b.attempts(task)
	got := make([]records.Outcome, len(all))
	for i, a := range all {
		got[i] = a.Outcome
	}
	require.Equal(b, want, got)
	return all
}

func (b *bundle) failed(a runs.Attempt, class policies.Class, message string) {
	b.Helper()
	require.NotNil(b, a.Failure)
	require.Equal(b, class, a.Failure.Class)
	require.Contains(b, a.Failure.Message, message)
}

func (b *bundle) completed() {
	b.Helper()
	require.Equal(b, records.StatusCompleted, b.run.Status, "%+v", b.run.Failure)
}

func runRow(t *testing.T, f *flow.Flow, o flowtest.Options) *bundle {
	t.Helper()
	b := &bundle{T: t, run: flowtest.Run(t, f, o)}
	if b.run.Status == records.StatusCompleted {
		last, err := b.run.Last(t.Context())
		require.NoError(t, err)
		b.state, err = runs.LoadState[State](t.Context(), last, f)
		require.NoError(t, err)
	}
	return b
}

const (
	failed    = records.Failed
	completed = records.Completed
)

// rowTests are the rows that need no server; tests/failures_test.go runs all of them on one. Jitter always draws the half.
var rowTests = map[string]func(*bundle){
	"transient": func(b *bundle) {
		b.completed()
		all := b.ended("transient", failed, failed, completed)
		b.failed(all[0], policies.Transient, "connection refused")
		b.failed(all[1], policies.Transient, "connection refused")
		require.Equal(b, 250*time.Millisecond, all[0].Delay)
		require.Equal(b, 500*time.Millisecond, all[1].Delay)
		for i := range 2 {
			require.GreaterOrEqual(b, all[i+1].Waited, all[i].Delay)
		}
		require.Equal(b, "fine", b.state.Answer)
	},
	"service": func(b *bundle) {
		b.completed()
		all := b.ended("service", failed, failed, completed)
		b.failed(all[0], policies.Transient, "503 Service Unavailable: too much to do")
		b.failed(all[1], policies.RateLimited, "429 Too Many Requests: come back later")
		require.Equal(b, 2*time.Second, all[1].Failure.RetryAfter)
		require.GreaterOrEqual(b, all[1].Delay, 2*time.Second)
		require.GreaterOrEqual(b, all[2].Waited, 2*time.Second, "not before the service wants to be asked")
	},
	"cooldown": func(b *bundle) {
		b.completed()
		all := b.ended("cooldown", records.Deferred, completed)
		b.failed(all[0], policies.RateLimited, "503 Service Unavailable: maintenance")
		require.False(b, all[0].CountsAsCodeFailure)
		require.Equal(b, "asked for 1m30s by the error", all[0].Reason)
		require.GreaterOrEqual(b, all[1].Waited, 90*time.Second)
	},
	"timeout": func(b *bundle) {
		b.completed()
		all := b.attempts("timeout") // on a busy machine there may be more
		b.failed(all[0], policies.TimedOut, "the attempt took longer than 2s")
		require.Equal(b, completed, all[len(all)-1].Outcome)
	},
	"code": func(b *bundle) {
		b.completed()
		all := b.ended("code", failed, completed)
		b.failed(all[0], policies.Unknown, "no root after 100 steps")
		require.InDelta(b, -1.7692923542, b.state.Root, 1e-9)
	},
	"input": func(b *bundle) {
		b.completed()
		all := b.ended("input", failed)
		b.failed(all[0], policies.Invalid, "422 Unprocessable Entity: there is no city Atlantis")
		require.Equal(b, "class Invalid is not retried", all[0].Reason)
		require.Equal(b, "unknown", b.state.Answer)
		require.Equal(b, policies.Invalid, b.state.Caught.Class)
		require.Equal(b, 1, services.calls(b.run.Run.Run, "/city"))
	},
	"denied": func(b *bundle) {
		require.Equal(b, records.StatusFailed, b.run.Status)
		require.Equal(b, "denied", b.run.Failure.Task)
		all := b.ended("denied", failed)
		b.failed(all[0], policies.Denied, "401 Unauthorized: the token has expired")
		require.Equal(b, 1, services.calls(b.run.Run.Run, "/private"))
	},
	"items": func(b *bundle) {
		b.completed()
		require.Equal(b, 20, b.state.Items)
		require.Equal(b, map[string]int{"Invalid": 2}, b.state.Failed)
		require.Equal(b, 20, services.calls(b.run.Run.Run, "/item"), "what is wrong is not asked for twice")
		for _, task := range []string{"item[7]", "item[15]"} {
			b.failed(b.ended(task, failed)[0], policies.Invalid, "has no price")
		}
	},
	"charge": func(b *bundle) {
		b.completed()
		all := b.ended("charge", failed, completed)
		b.failed(all[0], policies.Transient, "EOF")
		require.Equal(b, 2, services.calls(b.run.Run.Run, "/charge"))
		require.Equal(b, 1, b.state.Charges)
	},
	"budget": func(b *bundle) {
		b.completed()
		require.Equal(b, map[string]int{"OverBudget": 40}, b.state.Failed)
		require.Equal(b, 45, services.calls(b.run.Run.Run, "/down"), "forty first tries and five more")
	},
	"breaker": func(b *bundle) {
		b.completed()
		require.Empty(b, b.state.Failed)
		require.Equal(b, 12, b.state.Items)
		require.Equal(b, 17, services.calls(b.run.Run.Run, "/restarting"), "three until it opened, two probes, and the twelve")
		waited := 0
		step, err := b.run.Step(b.Context(), "look")
		require.NoError(b, err)
		for task, err := range step.Tasks(b.Context()) {
			require.NoError(b, err)
			for _, a := range b.attempts(task.Name()) {
				if a.Outcome == records.Deferred {
					require.False(b, a.CountsAsCodeFailure)
					require.Contains(b, a.Reason, `the breaker of "failures-stock" is open`)
					waited++
				}
			}
		}
		require.Positive(b, waited)
		require.GreaterOrEqual(b, b.run.Duration(), 6*time.Second, "a cooldown, and another one after each failed probe")
	},
}

// onServer are the rows that flowtest cannot show: they take processes.
var onServer = []string{"lost", "memory", "crash"}

func TestRows(t *testing.T) {
	t.Parallel()
	f := FlowWith(false)
	for kind, test := range rowTests {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			test(runRow(t, f, flowtest.Options{Params: map[string]string{"kind": kind}}))
		})
	}
	t.Run("a long cooldown that is short", func(t *testing.T) {
		t.Parallel()
		b := runRow(t, f, flowtest.Options{Params: map[string]string{"kind": "cooldown", "cooldown": "30s"}})
		b.completed()
		all := b.ended("cooldown", failed, completed)
		require.GreaterOrEqual(t, all[1].Waited, 30*time.Second, "it waits at Temporal's retry policy")
	})
	t.Run("no such row", func(t *testing.T) {
		t.Parallel()
		b := runRow(t, f, flowtest.Options{Params: map[string]string{"kind": "weather"}})
		require.Equal(t, records.StatusFailed, b.run.Status)
		require.Contains(t, b.run.Failure.Message, `value "weather" is none of its cases`)
	})
}

// A step with a bug waits for a person, who has three choices.
func TestBugPauses(t *testing.T) {
	t.Parallel()
	for verb, update := range map[string]string{"retry": workflows.RetryUpdate, "skip": workflows.SkipUpdate, "fail": workflows.FailUpdate} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			b := runRow(t, FlowWith(false), flowtest.Options{
				Params: map[string]string{"kind": "bug"},
				Prepare: func(env *testsuite.TestWorkflowEnvironment) {
					say := func(at time.Duration, update string) {
						env.RegisterDelayedCallback(func() {
							env.UpdateWorkflow(update, at.String(), &testsuite.TestUpdateCallback{
								OnAccept: func() {}, OnReject: func(err error) { t.Error(err) }, OnComplete: func(any, error) {},
							}, "bug")
						}, at)
					}
					say(time.Hour, update)
					if verb == "retry" { // the code is the same, so it fails again
						say(2*time.Hour, workflows.SkipUpdate)
					}
				},
			})
			all := b.attempts("bug")
			tries := map[string]int{"retry": 4, "skip": 2, "fail": 2}[verb]
			require.Len(t, all, tries)
			for i, a := range all {
				b.failed(a, policies.Bug, "index out of range [3] with length 3")
				require.NotEmpty(t, a.Failure.Stack)
				require.Equal(t, i%2 == 1, a.Paused)
			}
			if verb == "fail" {
				require.Equal(t, records.StatusFailed, b.run.Status)
				return
			}
			b.completed()
			require.Empty(t, b.state.Answer, "as it was before the step")
		})
	}
	require.NoError(t, FlowWith(true).Check())
	b := runRow(t, FlowWith(true), flowtest.Options{Params: map[string]string{"kind": "bug"}})
	b.completed()
	b.ended("bug", completed)
	require.Equal(t, "21.5", b.state.Answer)
}

// kinds are the cases of the switch.
func kinds(t *testing.T) []string {
	t.Helper()
	for _, n := range Flow().Plan().Root.Nodes {
		if n.Kind == flow.KindSwitch {
			return n.Cases
		}
	}
	t.Fatal("the flow has no switch")
	return nil
}

// Each row of the table in the document is a case of the switch and has a test and a section, and the other way round.
func TestTableIsWhole(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../docs/failures.md")
	require.NoError(t, err)
	_, section, ok := strings.Cut(string(b), "\n## What fails, and what happens\n")
	require.True(t, ok)
	section, _, ok = strings.Cut(section, "\n## ")
	require.True(t, ok)

	var rows, sections []string
	for _, m := range regexp.MustCompile("(?m)^\\|.*\\| `--kind ([a-z]+)` \\|$").FindAllStringSubmatch(section, -1) {
		rows = append(rows, m[1])
	}
	for _, m := range regexp.MustCompile(`(?m)^### ([a-z]+)\n`).FindAllStringSubmatch(section, -1) {
		sections = append(sections, m[1])
	}
	require.Equal(t, kinds(t), rows, "rows of the table")
	require.Equal(t, kinds(t), sections, "sections below it")
	tested := append(slices.Sorted(maps.Keys(rowTests)), append(onServer, "bug")...)
	require.ElementsMatch(t, kinds(t), tested)
}
