package activities_test

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"io"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"

	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/artifacts/driver"
	"github.com/stepwell-flows/stepwell/artifacts/mem"
	"github.com/stepwell-flows/stepwell/cards"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

type state struct {
	Text string
	Seen []string
}

// faulty is a store in memory whose puts fail as fail says; after says that the object was written all the same.
type faulty struct {
	*mem.Driver
	mu   sync.Mutex
	fail func(key string) (failed, after bool)
	puts []string
}

func (d *faulty) Put(ctx context.Context, key string, body driver.Body, o driver.PutOptions) error {
	d.mu.Lock()
	d.puts = append(d.puts, key)
	failed, after := false, false
	if d.fail != nil {
		failed, after = d.fail(key)
	}
	d.mu.Unlock()
	if failed && !after {
		return fmt.Errorf("put %q: %w", key, driver.ErrUnavailable)
	}
	err := d.Driver.Put(ctx, key, body, o)
	if failed && err == nil {
		err = fmt.Errorf("put %q: %w", key, driver.ErrUnavailable)
	}
	return err
}

func attempts(t *testing.T, run *runs.Run, step string) []runs.Attempt {
	t.Helper()
	task, err := run.Task(t.Context(), step)
	require.NoError(t, err)
	all, err := task.Attempts(t.Context())
	require.NoError(t, err)
	return all
}

// The record was written, but nobody heard of it: the next attempt finds it, and the author's code does not run again.
func TestAdoptsWhatAnEarlierAttemptFinished(t *testing.T) {
	t.Parallel()
	var calls, failures atomic.Int32
	f := flow.New("AdoptFlow", flow.Step("a", func(_ context.Context, s *state) error {
		s.Text = fmt.Sprint("call ", calls.Add(1))
		return nil
	}))
	d := &faulty{Driver: mem.New(), fail: func(key string) (bool, bool) {
		return strings.HasSuffix(key, "/tasks/a.json") && failures.Add(1) == 1, true
	}}
	run := flowtest.Run(t, f, flowtest.Options{Store: artifacts.New(d, artifacts.Options{})})
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	require.EqualValues(t, 1, calls.Load())
	require.Len(t, attempts(t, run, "a"), 1)
	task, err := run.Task(t.Context(), "a")
	require.NoError(t, err)
	text, err := runs.Load[string](t.Context(), task, "Text")
	require.NoError(t, err)
	require.Equal(t, "call 1", text)
}

// A store that is away is not the code's fault: the attempts it costs are lost ones.
func TestStoreAwayDoesNotUseUpAttempts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		failures int32
		status   records.Status
	}{{5, records.StatusCompleted}, {6, records.StatusFailed}} {
		var calls, failures atomic.Int32
		f := flow.New("AwayFlow", flow.Step("a", func(context.Context, *state) error { calls.Add(1); return nil }))
		d := &faulty{Driver: mem.New(), fail: func(key string) (bool, bool) {
			return strings.HasSuffix(key, "/tasks/a.json") && failures.Add(1) <= test.failures, false
		}}
		run := flowtest.Run(t, f, flowtest.Options{Store: artifacts.New(d, artifacts.Options{})})
		require.Equal(t, test.status, run.Status, "%+v", run.Failure)
		require.EqualValues(t, 6, calls.Load(), "one attempt and five lost ones")
		all := attempts(t, run, "a")
		require.Len(t, all, 6)
		require.Equal(t, records.Lost, all[0].Outcome)
		if test.status == records.StatusFailed {
			require.Equal(t, policies.Lost, run.Failure.Class)
			require.Equal(t, 6, run.Failure.LostAttempts)
			require.Zero(t, run.Failure.CodeFailures)
		}
	}
}

// Nothing of a failed attempt is written but its ledger entry and its log.
func TestFailedAttemptWritesNothing(t *testing.T) {
	t.Parallel()
	d := &faulty{Driver: mem.New()}
	f := flow.New("NothingFlow", flow.Step("a", func(ctx context.Context, s *state) error {
		s.Text = strings.Repeat("large enough for a blob ", 1000)
		flow.Log(ctx).Info("about to fail")
		return errors.New("boom")
	}, cards.Default()))
	run := flowtest.Run(t, f, flowtest.Options{Store: artifacts.New(d, artifacts.Options{})})
	require.Equal(t, records.StatusFailed, run.Status)
	prefix := "flows/NothingFlow/" + run.Run.Run + "/"
	require.Equal(t, []string{
		prefix + "run.json", prefix + "logs/a/_/00001.log", prefix + "attempts/a/_/00001.json", prefix + "cards/a/_/default.html", prefix + "end.json",
	}, d.puts)
	task, err := run.Task(t.Context(), "a")
	require.NoError(t, err)
	logs, err := task.Logs(t.Context())
	require.NoError(t, err)
	require.Equal(t, "about to fail", logs[0].Lines[0].Message)
	require.Equal(t, "attempt failed", logs[0].Lines[1].Message)
}

// A small step costs one write, its record, and an unchanged artifact costs none.
func TestWritesOfSmallSteps(t *testing.T) {
	t.Parallel()
	d := &faulty{Driver: mem.New()}
	f := flow.New("SmallFlow",
		flow.Step("a", func(_ context.Context, s *state) error { s.Text = strings.Repeat("x", 10_000); return nil }),
		flow.Step("b", func(_ context.Context, s *state) error { s.Seen = append(s.Seen, "b"); return nil }),
	)
	run := flowtest.Run(t, f, flowtest.Options{Store: artifacts.New(d, artifacts.Options{})})
	require.Equal(t, records.StatusCompleted, run.Status)
	prefix := "flows/SmallFlow/" + run.Run.Run + "/"
	require.Equal(t, prefix+"run.json", d.puts[0])
	require.Contains(t, d.puts[1], "blobs/sha256/")
	require.Equal(t, []string{prefix + "tasks/a.json", prefix + "tasks/b.json", prefix + "end.json"}, d.puts[2:])
}

func TestLogIsBounded(t *testing.T) {
	t.Parallel()
	f := flow.New("TalkFlow", flow.Step("a", func(ctx context.Context, _ *state) error {
		for i := range 30_000 {
			flow.Log(ctx).Info("a line that says something", "number", i)
		}
		return nil
	}))
	run := flowtest.Run(t, f, flowtest.Options{})
	task, err := run.Task(t.Context(), "a")
	require.NoError(t, err)
	logs, err := task.Logs(t.Context())
	require.NoError(t, err)
	last := logs[0].Lines[len(logs[0].Lines)-1]
	require.Equal(t, "the log is cut here", last.Message)
	require.Less(t, len(logs[0].Lines), 20_000)
}

type panics struct{}

func (panics) CardHTML() template.HTML { panic("in a component") }

// A card that fails never touches the task.
func TestBrokenCards(t *testing.T) {
	t.Parallel()
	f := flow.New("CardFlow", flow.Step("a", func(ctx context.Context, _ *state) error {
		flow.Card(ctx).Append(panics{})
		return nil
	}, cards.Default(),
		flow.CardSpec{Name: "fails", Render: func(io.Writer, *flow.CardData) error { return errors.New("no") }},
		flow.CardSpec{Name: "panics", Render: func(io.Writer, *flow.CardData) error { panic("no") }},
	))
	run := flowtest.Run(t, f, flowtest.Options{})
	require.Equal(t, records.StatusCompleted, run.Status)
	task, err := run.Task(t.Context(), "a")
	require.NoError(t, err)
	names, err := task.Cards(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"default", "fails", "panics"}, names)
	for _, name := range names[1:] {
		page, err := task.Card(t.Context(), name)
		require.NoError(t, err)
		require.Contains(t, string(page), "The card "+name+" of a could not be made")
	}
	logs, err := task.Logs(t.Context())
	require.NoError(t, err)
	require.Len(t, logs[0].Lines, 2)
	for _, line := range logs[0].Lines {
		require.Equal(t, "card was not written", line.Message)
	}
}

// While a step runs, its card can be read; when it ended, the card says so; and names that the step has not do no harm.
func TestLiveCards(t *testing.T) {
	t.Parallel()
	store, err := artifacts.Open(t.Context(), "mem:", artifacts.Options{})
	require.NoError(t, err)
	var during, other string
	f := flow.New("LiveFlow", flow.Step("a", func(ctx context.Context, _ *state) error {
		bar := &cards.ProgressBar{Label: "rounds", Total: 4}
		flow.Card(ctx).Append(bar)
		flow.CardNamed(ctx, "more").Append(cards.ValueBox{Label: "beside", Value: 1})
		flow.CardNamed(ctx, "gone").Append(cards.ValueBox{Label: "nowhere", Value: 1})
		flow.CardNamed(ctx, "gone").Refresh()
		bar.Set(3)
		flow.Progress(ctx, 7, 9)
		info := flow.Current(ctx)
		for deadline := time.Now().Add(30 * time.Second); (during == "" || other == "") && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			for name, page := range map[string]*string{"default": &during, "more": &other} {
				if b, err := store.GetDoc(ctx, records.CardKey(info.Flow, info.Run, info.Step, info.Index, name)); err == nil {
					*page = string(b)
				}
			}
		}
		return errors.New("once more")
	}, cards.Default(), cards.New("more"), policies.Retry{MaximumAttempts: 1},
		policies.Catch(func(ctx context.Context, _ *state, _ *policies.Failure) error {
			flow.Card(ctx).Append(cards.ValueBox{Label: "caught", Value: 2})
			return nil
		})))
	run := flowtest.Run(t, f, flowtest.Options{Store: store})
	require.Equal(t, records.StatusCompleted, run.Status)
	require.Contains(t, during, "The task is running.")
	require.Contains(t, during, "3 of 4")
	require.Contains(t, during, "7 of 9")
	require.NotContains(t, during, "beside")
	require.Contains(t, other, "beside")

	task, err := run.Task(t.Context(), "a")
	require.NoError(t, err)
	page, err := task.Card(t.Context(), "default")
	require.NoError(t, err)
	require.NotContains(t, string(page), "The task is running.")
	require.Contains(t, string(page), "<dt>caught</dt><dd>2</dd>")
	logs, err := task.Logs(t.Context())
	require.NoError(t, err)
	var lines []string
	for _, line := range logs[0].Lines {
		lines = append(lines, line.Message)
	}
	require.Contains(t, strings.Join(lines, "\n"), "the step has no card of that name")
}

// What a step returns to the workflow stays small, however much it set.
func TestResultsAreSmall(t *testing.T) {
	t.Parallel()
	type wide struct {
		A01, A02, A03, A04, A05, A06, A07, A08, A09, A10 string
		B01, B02, B03, B04, B05, B06, B07, B08, B09, B10 string
		C01, C02, C03, C04, C05, C06, C07, C08, C09, C10 []float64
	}
	f := flow.New("WideFlow", flow.Step("a", func(_ context.Context, s *wide) error {
		v := reflect.ValueOf(s).Elem()
		for _, f := range v.Fields() {
			if f.Kind() == reflect.String {
				f.SetString(strings.Repeat("wide ", 300))
			} else {
				f.Set(reflect.ValueOf(make([]float64, 1000)))
			}
		}
		return nil
	}))
	size := 0
	var result activities.StepResult
	run := flowtest.Run(t, f, flowtest.Options{Prepare: func(env *testsuite.TestWorkflowEnvironment) {
		env.SetOnActivityCompletedListener(func(info *activity.Info, v converter.EncodedValue, _ error) {
			if info.ActivityType.Name != "WideFlow.a" || v == nil || v.Get(&result) != nil {
				return
			}
			p, err := converter.GetDefaultDataConverter().ToPayload(result)
			if err == nil {
				size = len(p.GetData())
			}
		})
	}})
	require.Equal(t, records.StatusCompleted, run.Status)
	require.NotZero(t, size)
	require.Less(t, size, 2<<10)
	require.Equal(t, 30, len(result.Set)+result.Unshown)
	require.NotEmpty(t, result.Set)
}

// The step sees its deadline and what its run is.
func TestContextOfAStep(t *testing.T) {
	t.Parallel()
	var info flow.Info
	var deadline time.Time
	var key string
	f := flow.New("ContextFlow", flow.Step("a", func(ctx context.Context, _ *state) error {
		info = flow.Current(ctx)
		deadline, _ = ctx.Deadline()
		key = flow.IdempotencyKey(ctx)
		flow.Progress(ctx, 1, 2)
		return nil
	}, policies.Timeout{Attempt: time.Minute}))
	before := time.Now()
	run := flowtest.Run(t, f, flowtest.Options{Tags: []string{"x"}})
	require.Equal(t, flow.Info{
		Flow: "ContextFlow", Run: run.Run.Run, Step: "a", Task: "a", Attempt: 1, Root: run.Run.Run, Tags: []string{"x"},
	}, info)
	require.WithinRange(t, deadline, before.Add(time.Minute), time.Now().Add(time.Minute))
	require.Len(t, key, 32)
}

// A step and a catch may return a failure that they were given; what it says of another attempt does not count for theirs.
func TestReturnedFailures(t *testing.T) {
	t.Parallel()
	for _, class := range []policies.Class{policies.Lost, policies.Cancelled} {
		var steps, catches atomic.Int32
		f := flow.New("ReturnFlow", flow.Step("a", func(context.Context, *state) error {
			steps.Add(1)
			return fmt.Errorf("as before: %w", &policies.Failure{Class: class, Message: "of another attempt"})
		}, policies.Retry{MaximumAttempts: 2, InitialInterval: time.Second},
			policies.Catch(func(_ context.Context, _ *state, f *policies.Failure) error {
				catches.Add(1)
				f.Class = class
				return f
			})))
		run := flowtest.Run(t, f, flowtest.Options{})
		require.Equal(t, records.StatusFailed, run.Status)
		require.EqualValues(t, 2, steps.Load())
		require.EqualValues(t, 1, catches.Load())
		require.Equal(t, policies.Unknown, run.Failure.Class)
		require.Equal(t, 2, run.Failure.CodeFailures)
	}
}

type nilError struct{ err error }

func (e *nilError) Error() string { return "unreadable" }
func (e *nilError) Unwrap() error { return e.err }

func TestErrorThatPanics(t *testing.T) {
	t.Parallel()
	f := flow.New("NilFlow", flow.Step("a", func(context.Context, *state) error {
		var e *nilError
		return e
	}, policies.Retry{MaximumAttempts: 2, InitialInterval: time.Second}))
	run := flowtest.Run(t, f, flowtest.Options{})
	require.Equal(t, records.StatusFailed, run.Status)
	require.Equal(t, policies.Bug, run.Failure.Class)
	require.Equal(t, 2, run.Failure.CodeFailures)
}
