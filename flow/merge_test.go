package flow_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/artifacts/mem"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

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
			err: `merge: inputs do not agree on "A" (input 0 and input 1) (set them in the join before Merge, or take them out of flow.Include); ` +
				`no artifact has the name "C" (there are "A", "B", "sea", "List", "Model", "Report")`},
		{name: "a misspelt name does not hide behind its conflict", options: []flow.MergeOption{flow.Exclude("a")}, inputs: []*joined{a("x"), a("y")},
			err: `merge: inputs do not agree on "A" (input 0 and input 1) (set them in the join before Merge, or give them to flow.Exclude); ` +
				`no artifact has the name "a" (there are "A", "B", "sea", "List", "Model", "Report")`},
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
