package flow

import (
	"context"
	"fmt"
	"iter"
	"reflect"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/artifacts/mem"
	"github.com/stepwell-flows/stepwell/policies"
)

// NewInputs makes the inputs of a foreach's join, for its unit test, from the state at the split (nil for the zero state) and those
// that the items ended with (nil for an item that failed and was tolerated). The join gets copies, made as a run makes them: without
// unexported fields. NewInputs panics if a state cannot be stored.
func NewInputs[S any](split *S, states ...*S) Inputs[S] {
	return newTestInputs(split, nil, states)
}

// NewBranches is [NewInputs] for the join of a branch. The names are those that the join gives to [Inputs.Branch], one for each of
// the states.
func NewBranches[S any](split *S, names []string, states ...*S) Inputs[S] {
	if len(names) != len(states) {
		panic(fmt.Sprintf("flow.NewBranches: %d names for %d states", len(names), len(states)))
	}
	arms := map[string]int{}
	for i, name := range names {
		if _, dup := arms[name]; dup {
			panic(fmt.Sprintf("flow.NewBranches: two arms are named %q", name))
		}
		arms[name] = i
	}
	return newTestInputs(split, arms, states)
}

func newTestInputs[S any](split *S, arms map[string]int, states []*S) Inputs[S] {
	ctx := context.Background()
	schema, err := artifacts.SchemaOf(reflect.TypeFor[S]())
	if err != nil {
		panic(fmt.Sprintf("flow.NewInputs: %v", err))
	}
	store := artifacts.New(mem.New(), artifacts.Options{})
	save := func(s *S, prev map[string]artifacts.Entry) map[string]artifacts.Entry {
		c := *s // saving binds a Ref or File to the store, which is not for the caller's
		entries, _, err := schema.Save(ctx, store, &c, prev, artifacts.Snapshot{}, "")
		if err != nil {
			panic(fmt.Sprintf("flow.NewInputs: %v", err))
		}
		return entries
	}
	if split == nil {
		split = new(S)
	}
	src := Source{Schema: schema, Store: store, Split: save(split, nil), Len: len(states), Arms: arms}
	inputs := make([]Input, len(states))
	for i, s := range states {
		inputs[i].Index = i
		if s == nil {
			inputs[i].Failure = &policies.Failure{Class: policies.Unknown, Message: fmt.Sprintf("item %d failed", i)}
			continue
		}
		inputs[i].Artifacts = save(s, src.Split)
	}
	src.At = func(_ context.Context, i int) (Input, error) { return inputs[i], nil }
	src.All = func(context.Context) iter.Seq2[Input, error] {
		return func(yield func(Input, error) bool) {
			for _, input := range inputs {
				if !yield(input, nil) {
					return
				}
			}
		}
	}
	return newInputs[S](ctx, src)
}
