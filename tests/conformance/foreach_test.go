package conformance

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/runs"
)

// fan is the state of the cases of foreach and join.
type fan struct {
	P int `param:"p" default:"7"`

	Arr     []int
	N       int
	First   int
	Second  int
	Order   []int
	Stack   []string
	Results []string
	Failed  map[int]string
	Len     int

	Same, Left, Right, Both string
}

func arr(n int) func(*fan) []int {
	return func(*fan) []int {
		all := make([]int, n)
		for i := range all {
			all[i] = i
		}
		return all
	}
}

func bindN(s *fan, n int) { s.N = n }

func idle(context.Context, *fan) error { return nil }

// Metaflow's foreach-order: items that are not in order stay as they are, and their index is the same in both steps.
func TestForeachOrder(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w world) {
		f := flow.New("ForeachOrder",
			flow.Step("start", func(_ context.Context, s *fan) error { s.Arr = rand.Perm(32); return nil }),
			flow.Foreach("arr", func(s *fan) []int { return s.Arr }, bindN,
				flow.Step("first", func(ctx context.Context, s *fan) error { s.First = flow.Current(ctx).Index[0]; return nil }),
				flow.Step("second", func(ctx context.Context, s *fan) error { s.Second = flow.Current(ctx).Index[0]; return nil }),
			).Join("join", func(_ context.Context, s *fan, in flow.Inputs[fan]) error {
				for i, input := range in.All() {
					if input.First != i || input.Second != i || in.At(i).N != input.N {
						return fmt.Errorf("input %d: %+v", i, input)
					}
					s.Order = append(s.Order, input.N)
				}
				s.Len = in.Len()
				return nil
			}),
		)
		s := final[fan](t, w.run(t, f, options{}), f)
		require.Len(t, s.Arr, 32)
		require.Equal(t, s.Arr, s.Order)
		require.Equal(t, 32, s.Len)
		require.Zero(t, s.N, "the join starts from the state at the split, before an item was bound")
	})
}

// Metaflow's nested-foreach: every leaf knows its place on every level, and the 36 leaves come in order.
func TestNestedForeach(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w world) {
		var want, leaves []string
		for i, x := range letters("abc") {
			for j, y := range letters("de") {
				for k, z := range letters("fghijk") {
					want = append(want, fmt.Sprintf("%s%s%s %v", x, y, z, []int{i, j, k}))
					leaves = append(leaves, x+y+z)
				}
			}
		}
		g := nestedForeach()
		require.Equal(t, leaves, g.results)
		var mu sync.Mutex
		var seen []string
		p := &plot{}
		f := flow.New("NestedForeach",
			p.join(flow.Foreach("x", over("abc"), bindX,
				p.join(flow.Foreach("y", over("de"), bindY,
					p.join(flow.Foreach("z", over("fghijk"), bindZ,
						flow.Step("inner", func(ctx context.Context, s *state) error {
							mu.Lock()
							defer mu.Unlock()
							seen = append(seen, fmt.Sprintf("%s%s%s %v", s.X, s.Y, s.Z, []int(flow.Current(ctx).Index)))
							s.Made = s.X + s.Y + s.Z
							return nil
						}),
					), "join_z", made),
				), "join_y", gather),
			), "join_x", gather),
		)
		require.Equal(t, leaves, final[state](t, w.run(t, f, options{}), f).Results)
		slices.Sort(seen)
		require.Equal(t, want, seen)
	})
}

// A foreach over no items runs its join, and nothing else. Metaflow fails the step before it.
func TestEmptyForeach(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w world) {
		for _, f := range []flow.Fan{{}, {Batch: 10}, {MaxParallel: 1}, {Tolerate: flow.Percent(100)}} {
			p := &plot{}
			f := flow.New("EmptyForeach",
				p.step("start", nil),
				p.join(flow.Foreach("none", func(*state) []string { return nil }, bindX, p.step("never", nil)).With(f), "join",
					func(s *state, inputs []*state) { s.Count = 100 + len(inputs) }),
				p.join(flow.Foreach("outer", over("ab"), bindX,
					p.join(flow.Foreach("inner", func(*state) []string { return []string{} }, bindY, p.step("neither", nil)), "row", nil),
				), "rows", nil),
				p.step("end", nil),
			)
			run := w.run(t, f, options{})
			s := final[state](t, run, f)
			require.Equal(t, words("start join row[0] row[1] rows end"), s.Trail)
			require.Equal(t, 100, s.Count)
		}
	})
}

// Items may be of any type that a field may have, and hundreds of them take the way of shards.
func TestManyItems(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w world) {
		const n = 260
		p := &plot{}
		f := flow.New("ManyItems",
			flow.Foreach("items", func(*state) []item {
				all := make([]item, n)
				for i := range all {
					all[i] = item{"k", float64(i) / 2}
				}
				return all
			}, bindItem,
				p.step("work", func(s *state) { s.Made = fmt.Sprint(s.Item.Number * 2) }),
			).Join("join", func(_ context.Context, s *state, in flow.Inputs[state]) error {
				for i, input := range in.All() {
					if input.Made != fmt.Sprint(i) {
						return fmt.Errorf("input %d made %q", i, input.Made)
					}
					s.Count++
				}
				return nil
			}),
		)
		p.failing(func(i flow.Info) bool { return i.Task == "work[130]" })
		origin := failed(t, w.run(t, f, options{}))
		require.Equal(t, "work[130]", origin.Failure.Task)
		_, ended := p.did(origin.Run.Run)
		p.disturbing(nil)
		run := w.resume(t, f, origin, options{})
		require.Equal(t, n, final[state](t, run, f).Count)
		again, _ := p.did(run.Run.Run)
		require.Len(t, again, n-len(ended))
		for task := range again {
			require.Zero(t, ended[task], task)
		}
	})
}

// Metaflow's join-inherits-nothing, differs: the join starts from the state at the split, and takes from the arms what it merges.
func TestJoinStartsFromSplit(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, w world) {
		f := flow.New("JoinStarts",
			flow.Step("start", func(_ context.Context, s *fan) error { s.Same, s.Both = "from the split", "from the split"; return nil }),
			flow.Branch("arms",
				flow.Step("a", func(_ context.Context, s *fan) error { s.Left, s.Both = "from a", "from a"; return nil }),
				flow.Step("b", func(_ context.Context, s *fan) error { s.Right, s.Both = "from b", "from b"; return nil }),
			).Join("join", func(_ context.Context, s *fan, in flow.Inputs[fan]) error {
				s.Results = []string{s.Same, s.Left, s.Right, s.Both, in.Branch("a").Both, in.Branch("b").Both, fmt.Sprint(s.P)}
				return nil
			}),
			flow.Step("end", idle),
		)
		s := final[fan](t, w.run(t, f, options{}), f)
		require.Equal(t, []string{"from the split", "", "", "from the split", "from a", "from b", "7"}, s.Results)
		require.Empty(t, s.Left, "not merged")
		require.Equal(t, "from the split", s.Both)
	})
}

// merging runs a flow of two arms whose join merges.
func merging(t *testing.T, w world, join func(s *fan, in flow.Inputs[fan]) error) (*runs.Run, *flow.Flow) {
	t.Helper()
	f := flow.New("Merging",
		flow.Step("start", func(_ context.Context, s *fan) error { s.Same = "as it was"; return nil }),
		flow.Branch("arms",
			flow.Step("a", func(_ context.Context, s *fan) error {
				s.Left, s.Both, s.N, s.First, s.Order = "a", "agreed", 1, 1, []int{1}
				return nil
			}),
			flow.Step("b", func(_ context.Context, s *fan) error {
				s.Right, s.Both, s.N, s.First, s.Order = "b", "agreed", 2, 2, []int{1}
				return nil
			}),
		).Join("join", func(_ context.Context, s *fan, in flow.Inputs[fan]) error { return join(s, in) }, fixed(3)),
	)
	return w.run(t, f, options{}), f
}

// All conflicts of a merge are told at once, and nothing is set. Those that the join decides itself are none.
func TestMergeConflicts(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, w world) {
		run, _ := merging(t, w, func(s *fan, in flow.Inputs[fan]) error {
			err := in.Merge(s)
			if err != nil && s.Left+s.Right+s.Both != "" {
				return errors.New("something was set")
			}
			return err
		})
		require.Equal(t, "join", failed(t, run).Failure.Step)
		require.Contains(t, run.Failure.Message, `"First"`)
		require.Contains(t, run.Failure.Message, `"N"`)
		require.NotContains(t, run.Failure.Message, `"Both"`)
		require.NotContains(t, run.Failure.Message, `"Order"`)
		require.Len(t, attempts(t, run, "join"), 1, "the same inputs would conflict again")

		run, f := merging(t, w, func(s *fan, in flow.Inputs[fan]) error {
			s.N, s.First = 10, 20
			return in.Merge(s)
		})
		s := final[fan](t, run, f)
		require.Equal(t, fan{P: 7, Same: "as it was", Left: "a", Right: "b", Both: "agreed", N: 10, First: 20, Order: []int{1}}, *s)
	})
}

// Include and Exclude narrow a merge, and exclude each other.
func TestIncludeExclude(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, w world) {
		run, f := merging(t, w, func(s *fan, in flow.Inputs[fan]) error { return in.Merge(s, flow.Exclude("N", "First", "Left")) })
		require.Equal(t, fan{P: 7, Same: "as it was", Right: "b", Both: "agreed", Order: []int{1}}, *final[fan](t, run, f))

		run, f = merging(t, w, func(s *fan, in flow.Inputs[fan]) error { return in.Merge(s, flow.Include("Left", "Both")) })
		require.Equal(t, fan{P: 7, Same: "as it was", Left: "a", Both: "agreed"}, *final[fan](t, run, f))

		for _, options := range [][]flow.MergeOption{
			{flow.Include("Left"), flow.Exclude("N")},
			{flow.Include("Nosuch")},
			{flow.Exclude("N", "First", "Nosuch")},
		} {
			run, _ = merging(t, w, func(s *fan, in flow.Inputs[fan]) error { return in.Merge(s, options...) })
			require.Equal(t, "join", failed(t, run).Failure.Step)
		}
		require.Contains(t, run.Failure.Message, `"Nosuch"`)
	})
}

// failures makes some items of a foreach fail, and lets others wait until the workflow knows.
type failures struct {
	mu    sync.Mutex
	known map[string]chan struct{}
	calls map[string]int
}

// handled gives a channel that is closed when the workflow has acted on the failure of a task.
func (f *failures) handled(task string) chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.known == nil {
		f.known = map[string]chan struct{}{}
	}
	if f.known[task] == nil {
		f.known[task] = make(chan struct{})
	}
	return f.known[task]
}

func (f *failures) wait(ctx context.Context, task string) error {
	select {
	case <-f.handled(task):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *failures) options() options {
	return options{handled: func(task string) { close(f.handled(task)) }}
}

func (f *failures) called(task string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.calls == nil {
		f.calls = map[string]int{}
	}
	f.calls[task]++
}

// fanning is a foreach over n items of two steps, whose join keeps what it sees.
func (f *failures) flow(name string, n int, how flow.Fan, first func(ctx context.Context, n int) error) *flow.Flow {
	step := func(do func(ctx context.Context, n int) error) func(context.Context, *fan) error {
		return func(ctx context.Context, s *fan) error {
			f.called(flow.Current(ctx).Task)
			return do(ctx, s.N)
		}
	}
	return flow.New(name,
		flow.Step("start", idle),
		flow.Foreach("items", arr(n), bindN,
			flow.Step("first", step(first)),
			flow.Step("second", step(func(context.Context, int) error { return nil })),
		).With(how).Join("join", func(ctx context.Context, s *fan, in flow.Inputs[fan]) error {
			f.called(flow.Current(ctx).Task)
			s.Len, s.Failed = in.Len(), map[int]string{}
			for _, input := range in.All() {
				s.Order = append(s.Order, input.N)
			}
			for i, failure := range in.Failures() {
				s.Failed[i] = failure.Message
				if in.At(i) != nil {
					return fmt.Errorf("item %d has failed and has a state", i)
				}
			}
			return nil
		}),
		flow.Step("end", step(func(context.Context, int) error { return nil })),
	)
}

// failItems fails the items that are given.
func failItems(items ...int) func(context.Context, int) error {
	return func(_ context.Context, n int) error {
		if slices.Contains(items, n) {
			return fmt.Errorf("item %d fails", n)
		}
		return nil
	}
}

// After the first failure nothing new starts, in the whole run; what runs may finish.
func TestStopOnFirst(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, w world) {
		var f failures
		g := f.flow("StopOnFirst", 20, flow.Fan{MaxParallel: 2}, func(ctx context.Context, n int) error {
			if n == 0 {
				return errors.New("the first")
			}
			return f.wait(ctx, "first[0]")
		})
		run := failed(t, w.run(t, g, f.options()))
		require.Equal(t, "first[0]", run.Failure.Task)
		require.Zero(t, run.Failure.Others)
		require.Equal(t, times(1, words("first[0] first[1]")), f.calls, "neither the second step of item 1 nor item 2 was begun")
		require.Equal(t, runs.Completed, task(t, run, "first[1]").State)
	})
}

// The run fails with the first failure, not with that of the first item, and counts those that came after it.
func TestFirstFailureIsNamed(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, w world) {
		var f failures
		g := f.flow("FirstFailure", 3, flow.Fan{}, func(ctx context.Context, n int) error {
			if n < 2 {
				if err := f.wait(ctx, "first[2]"); err != nil {
					return err
				}
			}
			return fmt.Errorf("item %d fails", n)
		})
		run := failed(t, w.run(t, g, f.options()))
		require.Equal(t, "first[2]", run.Failure.Task)
		require.Equal(t, "item 2 fails", run.Failure.Message)
		require.Equal(t, 2, run.Failure.Others)
		require.Equal(t, times(1, words("first[0] first[1] first[2]")), f.calls)
	})
}

// All tasks that failed are counted, however deep they are.
func TestOtherFailuresAreCounted(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w world) {
		all := flow.Fan{OnFailure: flow.FinishAll}
		p := &plot{}
		f := flow.New("OtherFailures",
			p.join(flow.Foreach("x", over("ab"), bindX,
				p.join(flow.Branch("arms",
					p.join(flow.Foreach("y", over("cde"), bindY, p.step("inner", nil)).With(all), "join_y", nil),
					p.step("arm", nil),
				), "join_arms", nil),
			).With(all), "join_x", nil),
		)
		p.failing(func(i flow.Info) bool { return i.Step == "inner" })
		run := failed(t, w.run(t, f, options{}))
		require.Equal(t, "inner", run.Failure.Step)
		require.Equal(t, 5, run.Failure.Others)
	})
}

// With FinishAll, every item runs to its end before the foreach fails.
func TestFinishAll(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w world) {
		for _, how := range []flow.Fan{{OnFailure: flow.FinishAll}, {OnFailure: flow.FinishAll, MaxParallel: 1}} {
			var f failures
			g := f.flow("FinishAll", 8, how, failItems(0, 3, 5))
			run := failed(t, w.run(t, g, options{}))
			require.Equal(t, 2, run.Failure.Others)
			require.Contains(t, []string{"first[0]", "first[3]", "first[5]"}, run.Failure.Task)
			if how.MaxParallel == 1 {
				require.Equal(t, "first[0]", run.Failure.Task)
			}
			require.Equal(t, times(1, append(each(8, "first"), words("second[1] second[2] second[4] second[6] second[7]")...)), f.calls)

			clear(f.calls)
			repaired := f.flow("FinishAll", 8, how, failItems())
			run = w.resume(t, repaired, run, options{})
			require.Equal(t, []int{0, 1, 2, 3, 4, 5, 6, 7}, final[fan](t, run, repaired).Order)
			require.Equal(t, times(1, words("first[0] second[0] first[3] second[3] first[5] second[5] join end")), f.calls)
		}
	})
}

// Tolerated failures let the join run, and it sees them. One more than that does not.
func TestTolerate(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]flow.Fan{
		"count":           {Tolerate: flow.Count(2)},
		"percent":         {Tolerate: flow.Percent(20)},
		"percent, rounds": {Tolerate: flow.Percent(29)},
		"one by one":      {Tolerate: flow.Count(2), MaxParallel: 1},
		"finish all":      {Tolerate: flow.Count(2), OnFailure: flow.FinishAll},
		"batches":         {Tolerate: flow.Count(2), Batch: 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			everywhere(t, func(t *testing.T, w world) {
				var f failures
				g := f.flow("Tolerated", 10, how, failItems(0, 7))
				run := w.run(t, g, options{})
				s := final[fan](t, run, g)
				require.Equal(t, map[int]string{0: "item 0 fails", 7: "item 7 fails"}, s.Failed)
				require.Equal(t, []int{1, 2, 3, 4, 5, 6, 8, 9}, s.Order)
				require.Equal(t, 10, s.Len)
				require.Nil(t, run.Failure)
				require.Equal(t, 1, f.calls["end"])

				var over failures
				g = over.flow("TooMany", 10, how, failItems(0, 5, 7))
				run = failed(t, w.run(t, g, options{}))
				require.Contains(t, []string{"first[0]", "first[5]", "first[7]"}, run.Failure.Task)
				require.Equal(t, 2, run.Failure.Others)
				require.Zero(t, over.calls["join"])
				if how.OnFailure == flow.FinishAll {
					require.Equal(t, 1, over.calls["second[9]"])
				}
			})
		})
	}
}

// A resume of a run in which failures were tolerated does not run the tolerated items again: the join has dealt with them.
func TestResumeKeepsTolerated(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w world) {
		build := func(broken bool, f *failures) *flow.Flow {
			return flow.New("ResumeTolerated",
				flow.Foreach("items", arr(4), bindN,
					flow.Step("inner", func(ctx context.Context, s *fan) error {
						f.called(flow.Current(ctx).Task)
						return failItems(2)(ctx, s.N)
					}),
				).With(flow.Fan{Tolerate: flow.Count(1)}).Join("join", func(_ context.Context, s *fan, in flow.Inputs[fan]) error {
					s.Failed = map[int]string{}
					for i, failure := range in.Failures() {
						s.Failed[i] = failure.Message
					}
					return nil
				}),
				flow.Step("end", func(context.Context, *fan) error {
					if broken {
						return errors.New("broken")
					}
					return nil
				}),
			)
		}
		var f failures
		origin := failed(t, w.run(t, build(true, &f), options{}))
		clear(f.calls)
		repaired := build(false, &f)
		run := w.resume(t, repaired, origin, options{})
		require.Equal(t, map[int]string{2: "item 2 fails"}, final[fan](t, run, repaired).Failed)
		require.Empty(t, f.calls)
	})
}

// The arms of a branch run at the same time, each from the state at the split.
func TestArmsRunTogether(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, w world) {
		met := make(chan struct{})
		f := flow.New("Together",
			flow.Branch("arms",
				flow.Step("a", func(ctx context.Context, _ *fan) error {
					select {
					case <-met:
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				}),
				flow.Step("b", func(context.Context, *fan) error { close(met); return nil }),
			).Join("join", func(_ context.Context, s *fan, in flow.Inputs[fan]) error { s.Len = in.Len(); return nil }),
		)
		require.Equal(t, 2, final[fan](t, w.run(t, f, options{}), f).Len)
	})
}
