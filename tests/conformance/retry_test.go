package conformance

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

// trial is the state of the cases of retry, catch and timeout.
type trial struct {
	T, R      int
	Invisible bool
	Here      bool
	Check     bool
	Next      bool
	Items     []int
	Item      int
	Sum       int
	Caught    *policies.Failure
	Failures  []*policies.Failure
}

func pass(context.Context, *trial) error { return nil }

func next(_ context.Context, s *trial) error {
	s.Next = true
	return nil
}

// catching keeps the failure.
func catching() policies.CatchPolicy {
	return policies.Catch(func(_ context.Context, s *trial, f *policies.Failure) error {
		s.Caught = f
		return nil
	})
}

func outcomes(all []runs.Attempt) []records.Outcome {
	out := make([]records.Outcome, len(all))
	for i, a := range all {
		out[i] = a.Outcome
	}
	return out
}

// Metaflow's retry-success.
func TestRetrySuccess(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, w world) {
		f := flow.New("RetrySuccess",
			flow.Step("start", pass),
			flow.Step("a", func(ctx context.Context, s *trial) error {
				n := flow.Current(ctx).Attempt
				flow.Log(ctx).Info("this is an attempt", "number", n)
				if s.Invisible {
					return flow.Fail("what an attempt set is visible to the next one")
				}
				if n < 4 {
					s.Invisible = true
					return fmt.Errorf("attempt %d", n)
				}
				s.T = n
				return nil
			}, fixed(4)),
			flow.Step("end", next),
		)
		run := w.run(t, f, options{})
		require.Equal(t, trial{T: 4, Next: true}, *final[trial](t, run, f))
		all := attempts(t, run, "a")
		require.Equal(t, []records.Outcome{records.Failed, records.Failed, records.Failed, records.Completed}, outcomes(all))
		logs, err := task(t, run, "a").Logs(t.Context())
		require.NoError(t, err)
		require.Len(t, logs, 4)
		for i, log := range logs {
			require.Equal(t, i+1, all[i].Attempt.Attempt)
			require.Equal(t, i+1, log.Attempt)
			require.Equal(t, []string{fmt.Sprintf("number=%d", i+1)}, log.Lines[0].Attrs)
		}
	})
}

// Metaflow's retry-exhausted.
func TestRetryExhausted(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, w world) {
		f := flow.New("RetryExhausted",
			flow.Step("start", pass),
			flow.Step("a", func(context.Context, *trial) error { return errors.New("boom") }, fixed(2)),
			flow.Step("end", next),
		)
		run := failed(t, w.run(t, f, options{}))
		require.Equal(t, "a", run.Failure.Step)
		require.Equal(t, "boom", run.Failure.Message)
		require.Equal(t, 2, run.Failure.CodeFailures)
		require.Equal(t, runs.Failed, task(t, run, "a").State)
		require.Len(t, attempts(t, run, "a"), 2)
		require.Equal(t, runs.NotStarted, task(t, run, "end").State)
	})
}

// fanned is a foreach over Items whose join adds them up.
func fanned(items func(*trial) []int, body func(context.Context, *trial) error, join func(context.Context, *trial, flow.Inputs[trial]) error, options ...flow.Option) flow.Node[trial] {
	if body == nil {
		body = pass
	}
	return flow.Foreach("items", items, func(s *trial, n int) { s.Item = n },
		flow.Step("inner", body),
	).Join("join", join, options...)
}

func (s *trial) items() []int { return s.Items }

func sum(_ context.Context, s *trial, in flow.Inputs[trial]) error {
	for _, input := range in.All() {
		s.Sum += input.Item
	}
	return nil
}

// Metaflow's retry-on-foreach-split.
func TestRetryOnForeachSplit(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w world) {
		f := flow.New("RetryOnForeachSplit",
			flow.Step("split", func(ctx context.Context, s *trial) error {
				s.Items = append(s.Items, 1, 2, 3)
				if flow.Current(ctx).Attempt < 3 {
					return errors.New("not yet")
				}
				return nil
			}, fixed(3)),
			fanned((*trial).items, nil, sum),
			flow.Step("end", next),
		)
		run := w.run(t, f, options{})
		require.Equal(t, trial{Items: []int{1, 2, 3}, Sum: 6, Next: true}, *final[trial](t, run, f))
		require.Len(t, attempts(t, run, "split"), 3)
	})
}

// What decides about a shape is part of the attempt of the step before it: a panic there is tried again.
func TestRetryOnSelector(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, w world) {
		n := 0 // only one task at a time touches it
		f := flow.New("RetryOnSelector",
			flow.Step("split", func(_ context.Context, s *trial) error { s.Items = append(s.Items, 1, 2, 3); return nil }, fixed(3)),
			fanned(func(s *trial) []int {
				if n++; n < 3 {
					panic("not yet")
				}
				return s.Items
			}, nil, sum),
		)
		run := w.run(t, f, options{})
		require.Equal(t, trial{Items: []int{1, 2, 3}, Sum: 6}, *final[trial](t, run, f))
		all := attempts(t, run, "split")
		require.Len(t, all, 3)
		require.Equal(t, policies.Bug, all[0].Failure.Class)
		require.Contains(t, all[0].Failure.Message, "not yet")
	})
}

// Metaflow's retry-on-join: the inputs are the same on each attempt.
func TestRetryOnJoin(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w world) {
		var seen [][]int
		f := flow.New("RetryOnJoin",
			flow.Step("split", func(_ context.Context, s *trial) error { s.Items = []int{3, 1, 2}; return nil }),
			fanned((*trial).items, nil, func(ctx context.Context, s *trial, in flow.Inputs[trial]) error {
				var inputs []int
				for _, input := range in.All() {
					inputs = append(inputs, input.Item)
					input.Item = 0 // an input is the join's own: the next attempt does not see this
				}
				seen = append(seen, inputs)
				s.Sum += len(inputs)
				if flow.Current(ctx).Attempt < 3 {
					return errors.New("not yet")
				}
				return nil
			}, fixed(3)),
			flow.Step("end", next),
		)
		run := w.run(t, f, options{})
		require.Equal(t, trial{Items: []int{3, 1, 2}, Sum: 3, Next: true}, *final[trial](t, run, f))
		require.Equal(t, [][]int{{3, 1, 2}, {3, 1, 2}, {3, 1, 2}}, seen)
		require.Len(t, attempts(t, run, "join"), 3)
	})
}

// Metaflow's retry(0): a step without a policy has one attempt, whatever others have.
func TestRetryZero(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, w world) {
		f := flow.New("RetryZero",
			flow.Step("start", func(ctx context.Context, _ *trial) error {
				if flow.Current(ctx).Attempt < 4 {
					return errors.New("not yet")
				}
				return nil
			}, fixed(4)),
			flow.Step("once", func(context.Context, *trial) error { return errors.New("not idempotent") }),
		)
		run := failed(t, w.run(t, f, options{}))
		require.Equal(t, "once", run.Failure.Step)
		require.Len(t, attempts(t, run, "start"), 4)
		require.Len(t, attempts(t, run, "once"), 1)
	})
}

// A retried item keeps a budget of its own: the others' failures do not use it up.
func TestItemKeepsItsOwnBudget(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w world) {
		f := flow.New("ItemBudget",
			flow.Step("split", func(_ context.Context, s *trial) error { s.Items = []int{0, 1, 2, 3, 4, 5, 6, 7}; return nil }),
			flow.Foreach("items", (*trial).items, func(s *trial, n int) { s.Item = n },
				flow.Step("inner", func(ctx context.Context, s *trial) error {
					if n := flow.Current(ctx).Attempt; n <= s.Item%4 {
						return fmt.Errorf("failure %d", n)
					}
					s.R = flow.Current(ctx).Attempt
					return nil
				}, fixed(4)),
			).Join("join", func(_ context.Context, s *trial, in flow.Inputs[trial]) error {
				s.Items = nil
				for _, input := range in.All() {
					s.Items = append(s.Items, input.R)
				}
				return nil
			}),
		)
		run := w.run(t, f, options{})
		require.Equal(t, []int{1, 2, 3, 4, 1, 2, 3, 4}, final[trial](t, run, f).Items)
		for i := range 8 {
			all := attempts(t, run, fmt.Sprintf("inner[%d]", i))
			require.Len(t, all, i%4+1)
			for n, a := range all[:len(all)-1] {
				require.Equal(t, n+1, a.Failure.CodeFailures)
			}
		}
	})
}

// Metaflow's catch-exception. What the failed attempts set is gone; Metaflow keeps what the last one set.
func TestCatchException(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, w world) {
		f := flow.New("CatchException",
			flow.Step("start", pass),
			flow.Step("a", func(ctx context.Context, s *trial) error {
				s.R = flow.Current(ctx).Attempt
				return &plotError{"a"}
			}, fixed(3), catching()),
			flow.Step("end", next),
		)
		run := w.run(t, f, options{})
		s := final[trial](t, run, f)
		require.True(t, s.Next)
		require.Zero(t, s.R)
		require.Equal(t, "a fails by the plot", s.Caught.Message)
		require.Equal(t, "plotError", s.Caught.Type)
		require.Equal(t, 3, s.Caught.Attempt)
		require.Equal(t, 3, s.Caught.CodeFailures)
		require.Equal(t, []records.Outcome{records.Failed, records.Failed, records.Failed}, outcomes(attempts(t, run, "a")), "no extra one")
		require.Equal(t, runs.Caught, task(t, run, "a").State)
	})
}

// Metaflow's catch-none.
func TestCatchNone(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, w world) {
		f := flow.New("CatchNone", flow.Step("start", next, catching()), flow.Step("end", pass))
		run := w.run(t, f, options{})
		require.Equal(t, trial{Next: true}, *final[trial](t, run, f))
		require.Equal(t, runs.Completed, task(t, run, "start").State)
	})
}

// Metaflow's catch-at-end: the run is a success. Metaflow's then is finished, but not successful.
func TestCatchAtEnd(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, w world) {
		f := flow.New("CatchAtEnd",
			flow.Step("start", pass),
			flow.Step("end", func(_ context.Context, s *trial) error {
				s.Here = true
				return errors.New("catch me")
			}, policies.Catch(func(_ context.Context, s *trial, f *policies.Failure) error {
				s.Here, s.Caught = !s.Here, f
				return nil
			})),
		)
		run := w.run(t, f, options{})
		s := final[trial](t, run, f)
		require.True(t, s.Here, "set by the catch function, which did not see the attempt's")
		require.Equal(t, "catch me", s.Caught.Message)
		require.Nil(t, run.Failure)
		require.Equal(t, runs.Caught, task(t, run, "end").State)
	})
}

// Metaflow's catch-forbidden: it is allowed here. The catch function says how the flow goes on.
func TestCatchOnSplits(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, w world) {
		fails := func(_ context.Context, s *trial) error {
			s.Items, s.T = []int{100, 200}, 1
			return errors.New("no list")
		}
		f := flow.New("CatchOnSplits",
			flow.Step("foreach_split", fails, policies.Catch(func(_ context.Context, s *trial, _ *policies.Failure) error {
				s.Items = append(s.Items, 1, 2)
				return nil
			})),
			fanned((*trial).items, nil, sum),
			flow.Step("switch_split", fails, policies.Catch(func(_ context.Context, s *trial, _ *policies.Failure) error {
				s.T = 2
				return nil
			})),
			flow.Switch("t", func(s *trial) int { return s.T },
				flow.Case(1, flow.Step("wrong", pass)),
				flow.Case(2, flow.Step("right", next)),
			).OrFail(),
		)
		run := w.run(t, f, options{})
		s := final[trial](t, run, f)
		require.Equal(t, trial{Items: []int{1, 2}, Sum: 3, T: 2, Next: true}, *s)
		require.Equal(t, runs.Skipped, task(t, run, "wrong").State)
	})
}

// A caught item is a success: the join sees what its catch function set, and nothing counts as failed.
func TestCaughtItemIsASuccess(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w world) {
		f := flow.New("CaughtItem",
			flow.Step("split", func(_ context.Context, s *trial) error { s.Items = []int{0, 1, 2, 3}; return nil }),
			flow.Foreach("items", (*trial).items, func(s *trial, n int) { s.Item = n },
				flow.Step("inner", func(_ context.Context, s *trial) error {
					s.R = s.Item * 10
					if s.Item%2 == 1 {
						return fmt.Errorf("item %d", s.Item)
					}
					return nil
				}, fixed(2), catching()),
				flow.Step("second", func(_ context.Context, s *trial) error { s.R++; return nil }),
			).Join("join", func(_ context.Context, s *trial, in flow.Inputs[trial]) error {
				s.Items = nil
				for _, input := range in.All() {
					s.Items = append(s.Items, input.R)
					s.Failures = append(s.Failures, input.Caught)
				}
				for range in.Failures() {
					s.Sum++
				}
				return nil
			}),
		)
		run := w.run(t, f, options{})
		s := final[trial](t, run, f)
		require.Equal(t, []int{1, 1, 21, 1}, s.Items)
		require.Zero(t, s.Sum)
		require.Nil(t, s.Failures[0])
		require.Equal(t, "item 1", s.Failures[1].Message)
		require.Nil(t, s.Failures[2])
		require.Equal(t, "inner[3]", s.Failures[3].Task)
		require.Equal(t, runs.Caught, task(t, run, "inner[3]").State)
	})
}

// Metaflow's timeout-caught, in a step and in the body of a foreach.
func TestTimeoutCaught(t *testing.T) {
	t.Parallel()
	const limit = 100 * time.Millisecond
	slow := func(ctx context.Context, s *trial) error {
		s.Check = true
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Minute):
			return nil
		}
	}
	check := func(t *testing.T, f *policies.Failure) {
		t.Helper()
		require.NotNil(t, f)
		require.Equal(t, policies.TimedOut, f.Class)
		require.Equal(t, "the attempt took longer than 100ms", f.Message)
	}
	both(t, func(t *testing.T, w world) {
		f := flow.New("TimeoutCaught",
			flow.Step("start", func(_ context.Context, s *trial) error { s.Items = []int{1, 2, 3}; return nil }),
			flow.Step("slow", slow, policies.Timeout{Attempt: limit}, catching()),
			flow.Foreach("items", (*trial).items, func(s *trial, n int) { s.Item = n },
				flow.Step("inner", slow, policies.Timeout{Attempt: limit}, catching()),
			).Join("join", func(_ context.Context, s *trial, in flow.Inputs[trial]) error {
				for _, input := range in.All() {
					s.Failures = append(s.Failures, input.Caught)
				}
				return nil
			}),
			flow.Step("end", next),
		)
		began := time.Now()
		run := w.run(t, f, options{})
		s := final[trial](t, run, f)
		require.Less(t, time.Since(began), 50*time.Second, "nothing waited for the minute that the steps take")
		require.True(t, s.Next)
		require.False(t, s.Check, "set by an attempt that failed; Metaflow keeps it")
		check(t, s.Caught)
		require.Len(t, s.Failures, 3)
		for i, f := range s.Failures {
			check(t, f)
			require.Equal(t, fmt.Sprintf("inner[%d]", i), f.Task)
		}
	})
}

// Metaflow's timeout-zero.
func TestTimeoutZero(t *testing.T) {
	t.Parallel()
	err := flow.New("TimeoutZero", flow.Step("a", pass, policies.Timeout{})).Check()
	require.ErrorContains(t, err, `step "a"`)
	require.ErrorContains(t, err, "Timeout")
}

// somethingError is an error of a type of its own.
type somethingError struct{ what string }

func (e *somethingError) Error() string { return "Something has gone " + e.what }

// Metaflow's exception-visible.
func TestExceptionVisible(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, w world) {
		f := flow.New("ExceptionVisible",
			flow.Step("start", pass),
			flow.Step("end", func(context.Context, *trial) error { return fmt.Errorf("end: %w", &somethingError{"wrong"}) }),
		)
		run := failed(t, w.run(t, f, options{}))
		require.Equal(t, "somethingError", run.Failure.Type)
		require.Equal(t, "end: Something has gone wrong", run.Failure.Message)
		require.Equal(t, run.Failure.Message, attempts(t, run, "end")[0].Failure.Message)
	})
}

// Metaflow's crash-logs, as far as a step shares its process with the worker: a nil pointer is a panic, and what the step logged
// before is kept.
func TestPanicKeepsLogs(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, w world) {
		f := flow.New("PanicKeepsLogs",
			flow.Step("start", pass),
			flow.Step("end", func(ctx context.Context, s *trial) error {
				flow.Log(ctx).Info("Crash and burn!")
				s.Sum = s.Caught.Attempt
				return nil
			}),
		)
		run := failed(t, w.run(t, f, options{}))
		require.Equal(t, policies.Bug, run.Failure.Class)
		require.Contains(t, run.Failure.Message, "nil pointer dereference")
		require.Contains(t, run.Failure.Stack, "TestPanicKeepsLogs")
		logs, err := task(t, run, "end").Logs(t.Context())
		require.NoError(t, err)
		require.Equal(t, "Crash and burn!", logs[0].Lines[0].Message)
		require.Contains(t, string(logs[0].Raw), "nil pointer dereference", "the log tells the end, too")
	})
}
