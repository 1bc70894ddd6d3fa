package flowtest_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
	"github.com/stepwell-flows/stepwell/workflows"
)

// ways are the ways in which a foreach runs its items.
var ways = map[string]struct {
	fan    flow.Fan
	limits workflows.Limits
}{
	"direct":           {},
	"shards":           {limits: workflows.Limits{Tasks: 1, Shard: 3}},
	"shards of shards": {limits: workflows.Limits{Tasks: 1, Shard: 2, Children: 3}},
	"batches":          {fan: flow.Fan{Batch: 4}},
	"one shard after the other, not waiting for slow items": {limits: workflows.Limits{Tasks: 1, Shard: 3, Shards: 1, Window: 2, Follow: true}},
}

type texts struct {
	N     int `param:"n" default:"10"`
	Item  int
	Text  string
	Total []string
}

// calls counts what was called.
type calls struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *calls) add(ctx context.Context) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[string]int{}
	}
	task := flow.Current(ctx).Task
	c.n[task]++
	return c.n[task]
}

func (c *calls) take() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.n
	c.n = nil
	return n
}

func textsFlow(c *calls, fan flow.Fan, step func(context.Context, *texts) error, join func(context.Context, *texts, flow.Inputs[texts]) error, options ...flow.Option) *flow.Flow {
	return flow.New("TextsFlow",
		flow.Step("start", func(context.Context, *texts) error { return nil }),
		flow.Foreach("items", func(s *texts) []int { return make([]int, s.N) }, func(s *texts, _ int) {},
			flow.Step("write", func(ctx context.Context, s *texts) error {
				s.Item = flow.Current(ctx).Index[0]
				c.add(ctx)
				return step(ctx, s)
			}, options...),
		).With(fan).Join("join", func(ctx context.Context, s *texts, in flow.Inputs[texts]) error {
			c.add(ctx)
			s.Total = nil
			for _, one := range in.All() {
				s.Total = append(s.Total, one.Text)
			}
			return join(ctx, s, in)
		}),
		flow.Step("end", func(context.Context, *texts) error { return nil }),
	)
}

func fine(context.Context, *texts, flow.Inputs[texts]) error { return nil }

// long is too long to be kept within a record.
func long(i int) string { return fmt.Sprintf("%d %s", i, strings.Repeat("x", 3000)) }

func total(t *testing.T, run *runs.Run) []string {
	t.Helper()
	require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
	last, err := run.Last(t.Context())
	require.NoError(t, err)
	got, err := runs.Load[[]string](t.Context(), last, "Total")
	require.NoError(t, err)
	return got
}

// An item whose content is gone is run again by the resume after the one that missed it, and no other item is.
func TestItemWhoseContentIsGone(t *testing.T) {
	t.Parallel()
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var c calls
			var broken atomic.Bool
			broken.Store(true)
			f := textsFlow(&c, way.fan, func(_ context.Context, s *texts) error {
				s.Text = long(s.Item)
				return nil
			}, func(context.Context, *texts, flow.Inputs[texts]) error {
				if broken.Load() {
					return flow.Fail("not yet")
				}
				return nil
			})
			o := flowtest.Options{Limits: &way.limits}
			origin := flowtest.Run(t, f, o)
			require.Equal(t, records.StatusFailed, origin.Status)
			c.take()

			task, err := origin.Task(t.Context(), "write[7]")
			require.NoError(t, err)
			e, err := task.Artifact("Text")
			require.NoError(t, err)
			origin = without(t, origin, e.Digest)
			broken.Store(false)
			missed := flowtest.Resume(t, f, origin, o)
			require.Equal(t, records.StatusFailed, missed.Status)
			require.Equal(t, "InputError", missed.Failure.Type, "%+v", missed.Failure)
			require.Contains(t, missed.Failure.Message, "resume the run")
			c.take()

			resumed := flowtest.Resume(t, f, missed, o)
			var want []string
			for i := range 10 {
				want = append(want, long(i))
			}
			require.Equal(t, want, total(t, resumed))
			require.Equal(t, map[string]int{"write[7]": 1, "join": 1}, c.take())
		})
	}
}

// Content that is gone fails no item that may fail: the run ends, and the resume after it makes the content again. Else items that were
// all right would be left out in silence.
func TestGoneContentIsNotTolerated(t *testing.T) {
	t.Parallel()
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pages := func(*texts) (all []string) { // too long for one blob
				for i := range 10 {
					all = append(all, strings.Repeat(strconv.Itoa(i), 60_000))
				}
				return all
			}
			page := func(fan flow.Fan, failure error) *flow.Flow {
				return flow.New("PagesFlow",
					flow.Step("start", func(context.Context, *texts) error { return nil }),
					flow.Foreach("pages", pages, func(s *texts, page string) { s.Text = page },
						flow.Step("read", func(context.Context, *texts) error { return failure }),
					).With(fan).Join("join", fine))
			}
			fan := way.fan
			f := page(fan, flow.Fail("not yet"))
			fan.Tolerate = flow.Percent(100)
			tolerant := page(fan, nil)
			o := flowtest.Options{Limits: &way.limits}
			origin := flowtest.Run(t, f, o)
			require.Equal(t, records.StatusFailed, origin.Status)

			start, err := origin.Task(t.Context(), "start")
			require.NoError(t, err)
			list, err := origin.Store().GetBlob(t.Context(), start.Record.Ahead["pages"].Items.Digest)
			require.NoError(t, err)
			items, err := artifacts.ParseDigest(strings.Fields(strings.Split(string(list), "\n")[1])[1])
			require.NoError(t, err)
			missed := flowtest.Resume(t, tolerant, without(t, origin, items), o)
			require.Equal(t, records.StatusFailed, missed.Status)
			require.Equal(t, "InputError", missed.Failure.Type, "%+v", missed.Failure)
			require.Regexp(t, `^read\[\d\]$`, missed.Failure.Task)

			run := flowtest.Resume(t, tolerant, missed, o)
			require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
			step, err := run.Step(t.Context(), "read")
			require.NoError(t, err)
			require.Equal(t, 10, step.Completed)
		})
	}
}

// without is a run in a store that has lost some content.
func without(t *testing.T, run *runs.Run, content artifacts.Digest) *runs.Run {
	t.Helper()
	gone := ""
	for info, err := range run.Store().List(t.Context(), "blobs/") {
		require.NoError(t, err)
		if strings.Contains(info.Key, strings.TrimPrefix(content.String(), "sha256:")) {
			gone = info.Key
		}
	}
	require.NotEmpty(t, gone)
	require.NoError(t, run.Store().DeleteDoc(t.Context(), gone))
	fresh, err := artifacts.Open(t.Context(), "mem:", artifacts.Options{})
	require.NoError(t, err)
	copyStore(t, run.Store(), fresh) // this process still has the content in its cache
	run, err = runs.New(fresh, nil).Run(t.Context(), run.Flow, run.Run.Run)
	require.NoError(t, err)
	return run
}

func copyStore(t *testing.T, from, to *artifacts.Store) {
	t.Helper()
	for info, err := range from.List(t.Context(), "") {
		require.NoError(t, err)
		b, err := from.GetDoc(t.Context(), info.Key)
		require.NoError(t, err)
		require.NoError(t, to.PutDoc(t.Context(), info.Key, b))
	}
}

// Each item of a batch has attempts, delays and a catch of its own.
func TestRetriesWithinABatch(t *testing.T) {
	t.Parallel()
	var c calls
	busy := errors.New("busy")
	f := textsFlow(&c, flow.Fan{Batch: 4, Tolerate: flow.Count(1)}, func(ctx context.Context, s *texts) error {
		s.Text = fmt.Sprintf("%d at attempt %d", s.Item, flow.Current(ctx).Attempt)
		switch {
		case s.Item == 2 && flow.Current(ctx).Attempt < 3, s.Item == 5:
			return busy
		case s.Item == 6:
			panic("boom")
		}
		return nil
	}, func(_ context.Context, s *texts, in flow.Inputs[texts]) error {
		for i, f := range in.Failures() {
			s.Total = append(s.Total, fmt.Sprintf("%d failed: %s, attempt %d", i, f.Message, f.Attempt))
		}
		return nil
	}, policies.Retry{MaximumAttempts: 3, InitialInterval: time.Hour}, policies.Catch(func(_ context.Context, s *texts, f *policies.Failure) error {
		if f.Class == policies.Bug {
			s.Text = "caught " + f.Message
			return nil
		}
		return f
	}))
	at := time.Now()
	run := flowtest.Run(t, f, flowtest.Options{})
	got := total(t, run)
	require.Less(t, time.Since(at), time.Minute, "hours are skipped")
	require.Equal(t, []string{
		"0 at attempt 1", "1 at attempt 1", "2 at attempt 3", "3 at attempt 1", "4 at attempt 1", "caught panic: boom", "7 at attempt 1", "8 at attempt 1", "9 at attempt 1",
		"5 failed: the catch function failed: busy; it was called for: busy, attempt 3",
	}, got)
	n := c.take()
	require.Equal(t, 3, n["write[2]"])
	require.Equal(t, 3, n["write[5]"])
	require.Equal(t, 1, n["write[1]"], "what is finished is not run again with the others")
}

// No more than that many tasks run at the same time, however the foreach is cut.
func TestMaxParallel(t *testing.T) {
	t.Parallel()
	for name, way := range ways {
		for _, of := range []string{"run", "foreach"} {
			t.Run(name+" of a "+of, func(t *testing.T) {
				t.Parallel()
				var c calls
				var now, most atomic.Int64
				fan, o := way.fan, flowtest.Options{Limits: &way.limits, Params: map[string]string{"n": "30"}}
				if of == "run" {
					o.MaxParallel = 2
				} else {
					fan.MaxParallel = 2
				}
				f := textsFlow(&c, fan, func(context.Context, *texts) error {
					n := now.Add(1)
					defer now.Add(-1)
					for {
						m := most.Load()
						if n <= m || most.CompareAndSwap(m, n) {
							break
						}
					}
					time.Sleep(2 * time.Millisecond)
					return nil
				}, fine)
				require.Len(t, total(t, flowtest.Run(t, f, o)), 30)
				require.LessOrEqual(t, most.Load(), int64(2))
			})
		}
	}
}

// After a failure that is not tolerated nothing new starts; FinishAll lets the items of its foreach go on.
func TestOnFailure(t *testing.T) {
	t.Parallel()
	for name, way := range ways {
		for _, on := range []flow.OnFailure{flow.StopOnFirst, flow.FinishAll} {
			t.Run(name+" "+string(on), func(t *testing.T) {
				t.Parallel()
				var c calls
				fan := way.fan
				fan.OnFailure, fan.MaxParallel = on, 1
				f := textsFlow(&c, fan, func(_ context.Context, s *texts) error {
					if s.Item%4 == 1 {
						return flow.Fail("odd")
					}
					return nil
				}, fine)
				run := flowtest.Run(t, f, flowtest.Options{Limits: &way.limits})
				require.Equal(t, records.StatusFailed, run.Status)
				require.Equal(t, "write[1]", run.Failure.Task)
				started := c.take()
				require.Zero(t, started["join"])
				if on == flow.FinishAll {
					require.Len(t, started, 10)
					require.Equal(t, 2, run.Failure.Others)
					return
				}
				require.Equal(t, []string{"write[0]", "write[1]"}, slices.Sorted(maps.Keys(started)))
				require.Zero(t, run.Failure.Others)
			})
		}
	}
}

// What a batch got done before its run was cancelled is not done again.
func TestResumeOfABatchThatWasCut(t *testing.T) {
	t.Parallel()
	var c calls
	var up atomic.Bool
	f := textsFlow(&c, flow.Fan{Batch: 10}, func(_ context.Context, s *texts) error {
		if s.Item == 6 && !up.Load() {
			return errors.New("down")
		}
		s.Text = fmt.Sprint(s.Item)
		return nil
	}, fine, policies.Retry{MaximumAttempts: 1000, InitialInterval: time.Hour, Jitter: policies.NoJitter})
	origin := flowtest.Run(t, f, flowtest.Options{Prepare: func(env *testsuite.TestWorkflowEnvironment) {
		env.RegisterDelayedCallback(env.CancelWorkflow, 90*time.Minute)
	}})
	require.Equal(t, records.StatusCancelled, origin.Status)
	require.Greater(t, c.take()["write[6]"], 1)
	up.Store(true)
	require.Equal(t, []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}, total(t, flowtest.Resume(t, f, origin, flowtest.Options{})))
	require.Equal(t, map[string]int{"write[6]": 1, "join": 1}, c.take())
}

// A shard that fails is heard of at once, while tasks of it still run, however deep it is.
func TestNestedShardsStop(t *testing.T) {
	t.Parallel()
	type grid struct{ Row, Col int }
	var started atomic.Int64
	var once sync.Once
	failed := make(chan struct{})
	rows := func(*grid) []int { return make([]int, 12) }
	f := flow.New("NestedFlow", flow.Foreach("rows", rows, func(s *grid, _ int) {},
		flow.Foreach("cols", rows, func(s *grid, _ int) {},
			flow.Step("cell", func(ctx context.Context, _ *grid) error {
				started.Add(1)
				if x := flow.Current(ctx).Index; x[0] == 0 && x[1] == 0 {
					return flow.Fail("broken")
				}
				<-failed
				time.Sleep(time.Second) // for all shards to hear of it
				return nil
			})).Join("row", func(context.Context, *grid, flow.Inputs[grid]) error { return nil }),
	).Join("all", func(context.Context, *grid, flow.Inputs[grid]) error { return nil }))
	run := flowtest.Run(t, f, flowtest.Options{
		Limits: &workflows.Limits{Tasks: 1, Shard: 12, Window: 3, Shards: 2},
		Prepare: func(env *testsuite.TestWorkflowEnvironment) {
			env.SetOnActivityCompletedListener(func(_ *activityInfo, _ converterValue, err error) {
				if err != nil {
					once.Do(func() { close(failed) })
				}
			})
		},
	})
	require.Equal(t, records.StatusFailed, run.Status)
	require.Equal(t, "cell[0,0]", run.Failure.Task)
	require.LessOrEqual(t, started.Load(), int64(2*2*3), "at most two shards, of two rows, of three cells each, were under way")
}

// With one shard at a time, an item that takes long does not keep the shards after its own from starting: item 1 waits for the
// last one.
func TestShardsFollowBeforeTheOneBeforeHasEnded(t *testing.T) {
	t.Parallel()
	for name, fan := range map[string]flow.Fan{"items": {}, "batches": {Batch: 2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var under, most atomic.Int64
			last := make(chan struct{})
			f := flow.New("FollowFlow", flow.Foreach("numbers",
				func(*texts) []int {
					all := make([]int, 40)
					for i := range all {
						all[i] = i
					}
					return all
				}, func(s *texts, n int) { s.Item = n },
				flow.Step("number", func(ctx context.Context, s *texts) error {
					n := under.Add(1)
					defer under.Add(-1)
					for was := most.Load(); n > was && !most.CompareAndSwap(was, n); was = most.Load() {
					}
					switch s.Item {
					case 1:
						select {
						case <-last:
						case <-ctx.Done():
							return ctx.Err()
						}
					case 39:
						close(last)
					}
					s.Text = strconv.Itoa(s.Item)
					return nil
				}),
			).With(fan).Join("join", func(_ context.Context, s *texts, in flow.Inputs[texts]) error {
				for _, one := range in.All() {
					s.Total = append(s.Total, one.Text)
				}
				return nil
			}))
			run := flowtest.Run(t, f, flowtest.Options{Limits: &workflows.Limits{Tasks: 1, Shard: 4, Shards: 1, Window: 2, Follow: true}})
			require.Len(t, total(t, run), 40)
			require.LessOrEqual(t, most.Load(), int64(4), "item 1, at most one more of a shard that is followed, and two")
		})
	}
}
