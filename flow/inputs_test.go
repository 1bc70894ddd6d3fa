package flow_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

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

func joinOK(context.Context, *state, flow.Inputs[state]) error { return nil }

func TestMerge(t *testing.T) {
	t.Parallel()
	split := joined{Seed: 1, A: "a", B: "b", C: 1}
	with := func(change func(*joined)) *joined {
		s := split
		change(&s)
		return &s
	}
	a := func(v string) *joined { return with(func(s *joined) { s.A = v }) }
	for _, test := range []struct {
		name    string
		own     func(*joined)
		options []flow.MergeOption
		inputs  []*joined
		want    func(*joined)
		err     string
	}{
		{name: "no inputs", want: func(*joined) {}},
		{name: "nothing changed", inputs: []*joined{&split, &split}, want: func(*joined) {}},
		{name: "changed in one", inputs: []*joined{&split, a("new"), with(func(s *joined) { s.List = []int{1} })},
			want: func(s *joined) { s.A, s.List = "new", []int{1} }},
		{name: "changed alike", inputs: []*joined{a("new"), &split, a("new")}, want: func(s *joined) { s.A = "new" }},
		{name: "changed to the zero value", inputs: []*joined{a(""), &split}, want: func(s *joined) { s.A = "" }},
		{name: "conflicts", inputs: []*joined{with(func(s *joined) { s.A, s.B, s.C = "x", "new", 2 }), &split, with(func(s *joined) { s.A, s.C = "y", 3 })},
			err: `merge: inputs do not agree on "A" (input 0 and input 2), "sea" (input 0 and input 2) (set them in the join before Merge, or give them to flow.Exclude)`},
		{name: "the zero value conflicts", inputs: []*joined{a(""), a("x")}, err: `merge: inputs do not agree on "A" (input 0 and input 1) (set them in the join before Merge, or give them to flow.Exclude)`},
		{name: "a conflict that the join has solved", inputs: []*joined{a("x"), a("y")}, own: func(s *joined) { s.A = "mine" }, want: func(s *joined) { s.A = "mine" }},
		{name: "the join has set it as one input did", inputs: []*joined{a("x"), a("y")}, own: func(s *joined) { s.A = "x" }, want: func(s *joined) { s.A = "x" }},
		{name: "what the join has set stays", inputs: []*joined{a("x"), &split}, own: func(s *joined) { s.A = "mine" }, want: func(s *joined) { s.A = "mine" }},
		{name: "failed items take no part", inputs: []*joined{nil, a("x"), nil}, want: func(s *joined) { s.A = "x" }},
		{name: "parameters take no part", inputs: []*joined{with(func(s *joined) { s.Seed = 2 }), with(func(s *joined) { s.Seed = 3 })}, want: func(*joined) {}},
		{name: "a parameter by name", options: []flow.MergeOption{flow.Include("seed")}, inputs: []*joined{with(func(s *joined) { s.Seed = 2 })}, want: func(*joined) {}},

		{name: "include", options: []flow.MergeOption{flow.Include("A"), flow.Include("sea")},
			inputs: []*joined{with(func(s *joined) { s.A, s.B, s.C = "x", "y", 9 })}, want: func(s *joined) { s.A, s.C = "x", 9 }},
		{name: "include nothing", options: []flow.MergeOption{flow.Include()}, inputs: []*joined{a("x")}, want: func(*joined) {}},
		{name: "include what is no conflict", options: []flow.MergeOption{flow.Include("B")},
			inputs: []*joined{with(func(s *joined) { s.A, s.B = "x", "y" }), a("z")}, want: func(s *joined) { s.B = "y" }},
		{name: "include a conflict", options: []flow.MergeOption{flow.Include("A")}, inputs: []*joined{a("x"), a("y")},
			err: `merge: inputs do not agree on "A" (input 0 and input 1) (set them in the join before Merge, or take them out of flow.Include)`},
		{name: "exclude", options: []flow.MergeOption{flow.Exclude("A", "List"), flow.Exclude("sea")},
			inputs: []*joined{with(func(s *joined) { s.A, s.B, s.C = "x", "y", 9 }), a("z")}, want: func(s *joined) { s.B = "y" }},
		{name: "the zero option", options: []flow.MergeOption{{}}, inputs: []*joined{a("x")}, want: func(s *joined) { s.A = "x" }},
		{name: "both", options: []flow.MergeOption{flow.Include("A"), flow.Exclude("B")}, inputs: []*joined{a("x")},
			err: "merge: Include and Exclude exclude each other (use one of them)"},
		{name: "unknown names", options: []flow.MergeOption{flow.Include("A", "C", "seed", "b", "C")}, inputs: []*joined{a("x")},
			err: `merge: no artifact has the name "C", "b" (there are "A", "B", "sea", "List", "Model", "Report")`},
		{name: "an unknown name left out", options: []flow.MergeOption{flow.Exclude("hidden")}, inputs: []*joined{a("x")},
			err: `merge: no artifact has the name "hidden" (there are "A", "B", "sea", "List", "Model", "Report")`},
		{name: "conflicts come first", options: []flow.MergeOption{flow.Include("A", "C")}, inputs: []*joined{a("x"), a("y")},
			err: `merge: inputs do not agree on "A" (input 0 and input 1) (set them in the join before Merge, or take them out of flow.Include)`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, want := split, split
			if test.own != nil {
				test.own(&s)
			}
			before := s
			err := flow.NewInputs(&split, test.inputs...).Merge(&s, test.options...)
			if test.err != "" {
				require.EqualError(t, err, test.err)
				require.Equal(t, policies.Permanent, policies.Classify(err).Class, "another attempt would find the same")
				require.Equal(t, before, s, "nothing is set")
				return
			}
			require.NoError(t, err)
			test.want(&want)
			require.Equal(t, want, s)
		})
	}
}

func TestMergeNamesArms(t *testing.T) {
	t.Parallel()
	in := flow.NewBranches(nil, []string{"numeric", "text", "image"}, &joined{A: "x"}, &joined{B: "b"}, &joined{A: "y", B: "c"})
	require.EqualError(t, in.Merge(&joined{}),
		`merge: inputs do not agree on "A" ("numeric" and "image"), "B" ("text" and "image") (set them in the join before Merge, or give them to flow.Exclude)`)
}

// Refs and files are taken over as handles, and may be emptied.
func TestMergeLazy(t *testing.T) {
	t.Parallel()
	file := func(name, content string) (f artifacts.File) {
		path := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		f.SetPath(path)
		return f
	}
	ref := func(v string) (r artifacts.Ref[string]) {
		r.Set(v)
		return r
	}
	text := func(f artifacts.File) string {
		r, err := f.Open(t.Context())
		require.NoError(t, err)
		defer r.Close()
		b, err := io.ReadAll(r)
		require.NoError(t, err)
		return string(b)
	}
	store := artifacts.New(mem.New(), artifacts.Options{})
	split := &joined{Model: ref("old"), Report: file("r.txt", "old")}
	merge := func(s *joined, inputs ...*joined) error {
		src := stored(t, store, split, inputs...)
		require.NoError(t, src.Schema.Load(t.Context(), store, src.Split, s))
		return callJoin(t, src, s, func(_ context.Context, s *joined, in flow.Inputs[joined]) error { return in.Merge(s) })
	}

	var s joined
	require.NoError(t, merge(&s, &joined{Model: ref("new"), Report: file("r.txt", "old")}, &joined{Model: ref("old"), Report: file("r.txt", "new")}))
	model, err := s.Model.Load(t.Context())
	require.NoError(t, err)
	require.Equal(t, "new", model)
	require.Equal(t, "new", text(s.Report))

	s = joined{}
	require.NoError(t, merge(&s, &joined{}, &joined{Model: ref("old")}), "one emptied both, one the file alone")
	require.True(t, s.Model.IsZero())
	require.True(t, s.Report.IsZero())

	require.ErrorContains(t, merge(&joined{}, &joined{Report: file("r.txt", "old")}, &joined{Model: ref("new"), Report: file("r.txt", "old")}),
		`do not agree on "Model" (input 0 and input 1)`, "emptying is a change like any other")
	require.ErrorContains(t, merge(&joined{}, &joined{Model: ref("old"), Report: file("a.txt", "new")}, &joined{Model: ref("old"), Report: file("b.txt", "new")}),
		`do not agree on "Report" (input 0 and input 1)`, "the name of a file is part of it")

	// What the join has done itself stays, before anything of it is stored.
	src := stored(t, store, split, &joined{Model: ref("x"), Report: file("r.txt", "x")})
	s = joined{}
	require.NoError(t, src.Schema.Load(t.Context(), store, src.Split, &s))
	require.NoError(t, callJoin(t, src, &s, func(_ context.Context, s *joined, in flow.Inputs[joined]) error {
		s.Model, s.Report = artifacts.Ref[string]{}, file("mine.txt", "mine")
		return in.Merge(s)
	}))
	require.True(t, s.Model.IsZero())
	require.Equal(t, "mine", text(s.Report))

	// The states given to NewInputs stay as they are.
	mine := &joined{Report: file("r.txt", "mine")}
	in := flow.NewInputs(nil, mine)
	require.NoError(t, os.WriteFile(filepath.Join(t.TempDir(), "other"), nil, 0o600))
	require.Zero(t, mine.Report.Digest(), "not stored")
	require.Equal(t, "mine", text(in.At(0).Report))
}

// A run that goes on with a newer program: the split's record lacks a field that has come since.
func TestMergeFieldNewerThanTheSplit(t *testing.T) {
	t.Parallel()
	store := artifacts.New(mem.New(), artifacts.Options{})
	src := stored(t, store, &joined{}, &joined{}, &joined{B: "set"}, &joined{})
	delete(src.Split, "B")
	old, err := src.At(t.Context(), 2)
	require.NoError(t, err)
	delete(old.Artifacts, "B") // the worker of this input did not know the field either
	var s joined
	require.NoError(t, callJoin(t, src, &s, func(_ context.Context, s *joined, in flow.Inputs[joined]) error { return in.Merge(s) }))
	require.Equal(t, "set", s.B)
}

// Merge does what its documentation says, whatever the inputs are.
func TestMergeProperty(t *testing.T) {
	t.Parallel()
	type S struct{ A, B, C int }
	fields := []string{"A", "B", "C"}
	rapid.Check(t, func(t *rapid.T) {
		draw := rapid.Custom(func(t *rapid.T) S {
			small := rapid.IntRange(0, 2)
			return S{small.Draw(t, "A"), small.Draw(t, "B"), small.Draw(t, "C")}
		})
		split, own := draw.Draw(t, "split"), draw.Draw(t, "own")
		states := rapid.SliceOfN(rapid.Ptr(draw, true), 0, 5).Draw(t, "states")
		left := rapid.SliceOfDistinct(rapid.SampledFrom(fields), rapid.ID).Draw(t, "excluded")

		want, conflict := own, false
		for _, name := range fields {
			get := func(s *S) reflect.Value { return reflect.ValueOf(s).Elem().FieldByName(name) }
			seen := map[int64]bool{}
			for _, s := range states {
				if s != nil && get(s).Int() != get(&split).Int() {
					seen[get(s).Int()] = true
				}
			}
			if slices.Contains(left, name) || get(&own).Int() != get(&split).Int() {
				continue
			}
			conflict = conflict || len(seen) > 1
			for v := range seen {
				get(&want).SetInt(v)
			}
		}
		got := own
		err := flow.NewInputs(&split, states...).Merge(&got, flow.Exclude(left...))
		if conflict {
			require.ErrorContains(t, err, "do not agree")
			require.Equal(t, own, got)
			return
		}
		require.NoError(t, err)
		require.Equal(t, want, got)
	})
}

// Not parallel: allocations are counted.
func TestMergeMemory(t *testing.T) {
	store := artifacts.New(mem.New(), artifacts.Options{})
	allocations := func(n int) float64 {
		src := stored(t, store, &joined{}, &joined{A: "x"})
		src.Len = n
		one, err := src.At(t.Context(), 0)
		require.NoError(t, err)
		src.All = func(context.Context) iter.Seq2[flow.Input, error] {
			return func(yield func(flow.Input, error) bool) {
				for i := range n {
					if one.Index = i; !yield(one, nil) {
						return
					}
				}
			}
		}
		var s joined
		return testing.AllocsPerRun(5, func() {
			s = joined{}
			require.NoError(t, callJoin(t, src, &s, func(_ context.Context, s *joined, in flow.Inputs[joined]) error { return in.Merge(s) }))
		})
	}
	require.InDelta(t, allocations(1), allocations(100_000), 100, "no memory for an input")
}

var errDown = errors.New("down")

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
