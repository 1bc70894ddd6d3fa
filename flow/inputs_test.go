package flow_test

import (
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/artifacts/mem"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

// joined is the state of most tests of joins.
type joined struct {
	Seed   int `param:"seed"`
	A, B   string
	C      int `flow:"sea"`
	List   []int
	Model  artifacts.Ref[string]
	Report artifacts.File
	hidden int
}

// callJoin calls a join as a worker does.
func callJoin[S any](t *testing.T, src flow.Source, state *S, fn func(context.Context, *S, flow.Inputs[S]) error) error {
	t.Helper()
	step := func(context.Context, *S) error { return nil }
	f := flow.New("F", flow.Branch("split", flow.Step("a", step), flow.Step("b", step)).Join("join", fn))
	require.NoError(t, f.Check())
	steps := f.Steps()
	return steps[len(steps)-1].Join(t.Context(), state, src)
}

// stored makes the inputs of a join in a store, with the failures that its driver has.
func stored[S any](t *testing.T, store *artifacts.Store, split *S, states ...*S) flow.Source {
	t.Helper()
	schema, err := artifacts.SchemaOf(reflect.TypeFor[S]())
	require.NoError(t, err)
	save := func(s *S, prev map[string]artifacts.Entry) map[string]artifacts.Entry {
		entries, _, err := schema.Save(context.WithoutCancel(t.Context()), store, s, prev, artifacts.Snapshot{}, "t")
		require.NoError(t, err)
		return entries
	}
	src := flow.Source{Schema: schema, Store: store, Split: save(split, nil), Len: len(states), Failed: new(error)}
	var inputs []flow.Input
	for i, s := range states {
		in := flow.Input{Index: i, Failure: &policies.Failure{Message: fmt.Sprintf("failed %d", i)}}
		if s != nil {
			in = flow.Input{Index: i, Artifacts: save(s, src.Split)}
		}
		inputs = append(inputs, in)
	}
	src.At = func(_ context.Context, i int) (flow.Input, error) { return inputs[i], nil }
	src.All = func(context.Context) iter.Seq2[flow.Input, error] {
		return func(yield func(flow.Input, error) bool) {
			for _, in := range inputs {
				if !yield(in, nil) {
					return
				}
			}
		}
	}
	return src
}

func TestInputs(t *testing.T) {
	t.Parallel()
	in := flow.NewInputs(&joined{Seed: 1, A: "split"}, &joined{Seed: 1, A: "zero", hidden: 7}, nil, &joined{Seed: 1, A: "two", List: []int{2}}, nil)
	require.Equal(t, 4, in.Len())
	var at []int
	for i, s := range in.All() {
		at = append(at, i)
		require.Equal(t, 1, s.Seed)
		require.Zero(t, s.hidden, "unexported fields do not leave a process")
		s.List = append(s.List, 9) // the state is the join's
	}
	require.Equal(t, []int{0, 2}, at, "failed items are passed over")
	require.Equal(t, "zero", in.At(0).A)
	require.Nil(t, in.At(1))
	require.Equal(t, []int{2}, in.At(2).List, "each state is read anew")

	at = nil
	for i, f := range in.Failures() {
		at = append(at, i)
		require.Equal(t, fmt.Sprintf("item %d failed", i), f.Message)
	}
	require.Equal(t, []int{1, 3}, at)
	for range in.All() {
		break
	}
	for range in.Failures() {
		break
	}
	require.PanicsWithValue(t, "flow: input 4 of a join that has 4", func() { in.At(4) })
	require.PanicsWithValue(t, "flow: input -1 of a join that has 4", func() { in.At(-1) })
	require.PanicsWithValue(t, `flow: no arm has "fit": the inputs are not those of a branch (use At or All)`, func() { in.Branch("fit") })
}

func TestInputsZeroValue(t *testing.T) {
	t.Parallel()
	var in flow.Inputs[joined]
	require.Zero(t, in.Len())
	require.Empty(t, maps.Collect(in.All()))
	require.Empty(t, maps.Collect(in.Failures()))
	require.NoError(t, in.Merge(&joined{}))
	require.Panics(t, func() { in.At(0) })
	require.Panics(t, func() { in.Branch("a") })
	require.Empty(t, maps.Collect(flow.NewInputs[joined](nil).All()))
}

func TestInputsBranch(t *testing.T) {
	t.Parallel()
	in := flow.NewBranches(nil, []string{"numeric", "text"}, &joined{A: "n"}, &joined{A: "t"})
	require.Equal(t, "n", in.Branch("numeric").A)
	require.Equal(t, "t", in.Branch("text").A)
	require.PanicsWithValue(t, `flow: no arm of the branch has "txet" (it has "numeric", "text")`, func() { in.Branch("txet") })
	require.Panics(t, func() { flow.NewBranches(nil, []string{"a"}, &joined{}, &joined{}) })
	require.Panics(t, func() { flow.NewBranches(nil, []string{"a", "a"}, &joined{}, &joined{}) })
	require.PanicsWithValue(t, "flow.NewInputs: field struct { F func() }.F (func()): a func means nothing outside this process "+
		"(leave the field out with `flow:\"-\"`, or unexport it)", func() { flow.NewInputs(&struct{ F func() }{}) })
}

// An arm is found by any step or shape in it, at any depth.
func TestArms(t *testing.T) {
	t.Parallel()
	step := func(name string) flow.Node[state] { return flow.Step(name, ok) }
	f := flow.New("F", step("a"), flow.Branch("outer",
		flow.Seq(step("b"), flow.Foreach("each", func(*state) []int { return nil }, func(*state, int) {},
			flow.Switch("pick", func(*state) int { return 0 }, flow.Case(1, step("c"))).Else(step("d")),
		).Join("e", joinOK)),
		flow.Branch("inner", step("f"), step("g")).Join("h", joinOK),
		flow.Seq(flow.Loop("again", func(*state) bool { return false }, step("i")), step("j")),
	).Join("k", joinOK))
	require.NoError(t, f.Check())
	require.Equal(t, map[string]int{
		"b": 0, "each": 0, "pick": 0, "c": 0, "d": 0, "e": 0, "inner": 1, "f": 1, "g": 1, "h": 1, "again": 2, "i": 2, "j": 2,
	}, f.Arms("outer"))
	require.Equal(t, map[string]int{"f": 0, "g": 1}, f.Arms("inner"))
	require.Empty(t, f.Arms("each"))
}

// An input that cannot be read ends the join, whatever the join makes of it.
func TestInputsReadError(t *testing.T) {
	t.Parallel()
	broken := func(t *testing.T) flow.Source {
		t.Helper()
		src := stored(t, artifacts.New(mem.New(), artifacts.Options{}), &joined{}, &joined{A: "0"}, &joined{A: "1"}, &joined{A: "2"})
		at, all := src.At, src.All
		src.At = func(ctx context.Context, i int) (flow.Input, error) {
			if i == 1 {
				return flow.Input{}, errDown
			}
			return at(ctx, i)
		}
		src.All = func(ctx context.Context) iter.Seq2[flow.Input, error] {
			return func(yield func(flow.Input, error) bool) {
				for in, err := range all(ctx) {
					if in.Index == 1 {
						yield(flow.Input{}, errDown)
						return
					}
					if !yield(in, err) {
						return
					}
				}
			}
		}
		return src
	}
	for name, test := range map[string]struct {
		join func(context.Context, *joined, flow.Inputs[joined]) error
		want string
	}{
		"all": {func(_ context.Context, _ *joined, in flow.Inputs[joined]) error {
			require.Len(t, maps.Collect(in.All()), 1)
			require.Empty(t, maps.Collect(in.All()), "once is enough")
			require.Empty(t, maps.Collect(in.Failures()))
			require.Equal(t, &joined{}, in.At(0))
			return nil
		}, "down"},
		"at": {func(_ context.Context, _ *joined, in flow.Inputs[joined]) error {
			require.Equal(t, "0", in.At(0).A)
			require.Equal(t, &joined{}, in.At(1), "a join need not look for nil")
			require.Equal(t, &joined{}, in.At(2), "nothing is read any more")
			return nil
		}, "down"},
		"failures": {func(_ context.Context, _ *joined, in flow.Inputs[joined]) error {
			require.Empty(t, maps.Collect(in.Failures()))
			return nil
		}, "down"},
		"merge": {func(_ context.Context, s *joined, in flow.Inputs[joined]) error {
			err := in.Merge(s)
			require.ErrorIs(t, err, errDown)
			require.Equal(t, &joined{}, s)
			require.ErrorIs(t, in.Merge(s), errDown)
			return nil
		}, "down"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src := broken(t)
			require.NoError(t, callJoin(t, src, &joined{}, test.join))
			require.EqualError(t, *src.Failed, test.want)
			require.ErrorIs(t, *src.Failed, errDown)
		})
	}
}

// Failed items are looked at without the others, if the worker can.
func TestInputsFailuresAlone(t *testing.T) {
	t.Parallel()
	src := stored(t, artifacts.New(mem.New(), artifacts.Options{}), &joined{}, nil, &joined{}, nil)
	all := src.All
	src.All = nil
	src.Failures = func(ctx context.Context) iter.Seq2[flow.Input, error] {
		return func(yield func(flow.Input, error) bool) {
			for in := range all(ctx) { //nolint:errcheck // it reads from memory
				if in.Index == 2 {
					yield(flow.Input{}, errDown)
					return
				}
				if in.Failure != nil && !yield(in, nil) {
					return
				}
			}
		}
	}
	require.NoError(t, callJoin(t, src, &joined{}, func(_ context.Context, _ *joined, in flow.Inputs[joined]) error {
		for i := range in.Failures() {
			require.Zero(t, i)
			break
		}
		require.Len(t, maps.Collect(in.Failures()), 1)
		return nil
	}))
	require.EqualError(t, *src.Failed, "down")
}

// slow is a driver whose blobs take a while, and that counts.
type slow struct {
	*mem.Driver
	delay             time.Duration
	gone              sync.Map
	gets, now, atOnce atomic.Int64
}

func (d *slow) Get(ctx context.Context, key string, offset int64) (io.ReadCloser, error) {
	d.gets.Add(1)
	n := d.now.Add(1)
	defer d.now.Add(-1)
	for {
		most := d.atOnce.Load()
		if n <= most || d.atOnce.CompareAndSwap(most, n) {
			break
		}
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(d.delay):
	}
	if _, gone := d.gone.Load(key); gone {
		return nil, errDown
	}
	return d.Driver.Get(ctx, key, offset)
}

// Blobs of the next inputs are on their way while a join looks at one; the order stays, and what all inputs share is read once.
func TestInputsReadAhead(t *testing.T) {
	t.Parallel()
	d := &slow{Driver: mem.New(), delay: 3 * time.Millisecond}
	store := artifacts.New(d, artifacts.Options{CacheBytes: -1})
	shared := strings.Repeat("shared", 1000)
	var states []*joined
	for i := range 100 {
		s := &joined{A: shared, C: i}
		if i%3 != 0 {
			s.B = fmt.Sprintf("%d%s", i, strings.Repeat("x", 5000))
		}
		states = append(states, s)
	}
	src := stored(t, store, &joined{A: shared}, states...)
	require.Zero(t, d.gets.Load())
	require.NoError(t, callJoin(t, src, &joined{}, func(_ context.Context, _ *joined, in flow.Inputs[joined]) error {
		next := 0
		for i, s := range in.All() {
			require.Equal(t, next, i)
			require.Equal(t, states[i], s)
			next++
		}
		require.Equal(t, 100, next)
		return nil
	}))
	require.EqualValues(t, 66+1, d.gets.Load(), "one for each blob of an input, one for the shared one")
	require.Greater(t, d.atOnce.Load(), int64(4))
	require.LessOrEqual(t, d.atOnce.Load(), int64(32))
	require.NoError(t, *src.Failed)

	// A join that has seen enough, or panics, leaves nothing behind.
	require.NoError(t, callJoin(t, src, &joined{}, func(_ context.Context, _ *joined, in flow.Inputs[joined]) error {
		for range in.All() {
			break
		}
		require.Zero(t, d.now.Load())
		require.PanicsWithValue(t, "enough", func() {
			for i := range in.All() {
				if i == 10 {
					panic("enough")
				}
			}
		})
		require.Zero(t, d.now.Load())
		return nil
	}))
	require.NoError(t, *src.Failed, "what was stopped on purpose is no error")

	// After an error, states that are on their way are of no use.
	broken := src
	broken.Failed = new(error)
	broken.All = func(context.Context) iter.Seq2[flow.Input, error] {
		return func(yield func(flow.Input, error) bool) {
			in, _ := src.At(t.Context(), 1)
			if yield(in, nil) {
				yield(flow.Input{}, errDown)
			}
		}
	}
	require.NoError(t, callJoin(t, broken, &joined{}, func(_ context.Context, _ *joined, in flow.Inputs[joined]) error {
		require.Empty(t, maps.Collect(in.All()))
		return nil
	}))
	require.ErrorIs(t, *broken.Failed, errDown)

	// A blob that is gone fails the attempt, and the states before it come first.
	in, err := src.At(t.Context(), 50)
	require.NoError(t, err)
	digest := strings.TrimPrefix(in.Artifacts["B"].Digest.String(), "sha256:")
	d.gone.Store("blobs/sha256/"+digest[:2]+"/"+digest, true)
	require.NoError(t, callJoin(t, src, &joined{}, func(_ context.Context, _ *joined, in flow.Inputs[joined]) error {
		require.Len(t, maps.Collect(in.All()), 50)
		return nil
	}))
	require.ErrorIs(t, *src.Failed, errDown)
	require.ErrorContains(t, *src.Failed, `read input 50 of the join: load artifact "B" (string)`)
}

// Several goroutines of a join may read at the same time.
func TestInputsConcurrent(t *testing.T) {
	t.Parallel()
	var states []*joined
	for i := range 50 {
		states = append(states, &joined{A: strings.Repeat("shared", 1000), C: i})
	}
	in := flow.NewInputs(&joined{A: strings.Repeat("shared", 1000)}, states...)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			sum := 0
			for i, s := range in.All() {
				sum += s.C + in.At(i).C
			}
			if sum != 50*49 {
				t.Errorf("sum is %d", sum)
			}
		})
	}
	group.Wait()
}

func BenchmarkInputsAll(b *testing.B) {
	states := make([]*joined, 1000)
	for i := range states {
		states[i] = &joined{A: "shared", B: fmt.Sprint(i), C: i, List: []int{i}}
	}
	in := flow.NewInputs(&joined{A: "shared"}, states...)
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for range in.All() {
			n++
		}
		require.Equal(b, 1000, n)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/input")
}
