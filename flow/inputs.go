package flow

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/policies"
)

// Source is what a join reads: the worker makes one. It is part of the contract between this package and the worker.
type Source struct {
	// Schema and Store read the states.
	Schema *artifacts.Schema
	Store  *artifacts.Store
	// Split is the state at the split, an item that was bound there included.
	Split map[string]artifacts.Entry
	// Len is the number of inputs.
	Len int
	// Arms maps the names of a branch's steps and shapes to the index of their arm, see [Flow.Arms]. It is nil in a foreach.
	Arms map[string]int
	// At reads one input, All reads all of them in order. Both may be called by several goroutines at the same time. Their errors
	// say which input it is; after one All ends.
	At  func(ctx context.Context, i int) (Input, error)
	All func(ctx context.Context) iter.Seq2[Input, error]
	// Failures is All for the inputs that failed, if there is a faster way to them. Nil means that there is none.
	Failures func(ctx context.Context) iter.Seq2[Input, error]
	// Failed is set to the first error of reading, which ends the attempt whatever the join makes of it.
	Failed *error
}

// Input is what one arm or item ended with.
type Input struct {
	Index int
	// Artifacts are those of its last task. Nil when it failed.
	Artifacts map[string]artifacts.Entry
	// Failure is why it failed, nil when it did not.
	Failure *policies.Failure
}

// Inputs are what a join reads: the states that the arms of a branch or the items of a foreach ended with, in the order in which
// they are written or listed.
//
// A state is read from the store when it is asked for, and anew each time: it belongs to the join, which may change it, and any
// number of inputs goes through a loop over [Inputs.All] in bounded memory. If a state cannot be read, the attempt of the join
// fails, whatever the join returns.
//
// The zero Inputs has none. [NewInputs] and [NewBranches] make inputs for the unit test of a join. Inputs are safe for concurrent
// use until the join returns.
type Inputs[S any] struct{ r *inputs }

// inputs is Inputs with the state's type erased.
type inputs struct {
	ctx    context.Context //nolint:containedctx // inputs live as long as the call of one join
	src    Source
	loader *artifacts.Loader
	mu     sync.Mutex // guards *src.Failed
}

func newInputs[S any](ctx context.Context, src Source) Inputs[S] {
	if src.Failed == nil {
		src.Failed = new(error)
	}
	return Inputs[S]{&inputs{ctx: ctx, src: src, loader: src.Schema.Loader(src.Store, src.Split)}}
}

// Len is the number of inputs, failed ones included.
func (in Inputs[S]) Len() int {
	if in.r == nil {
		return 0
	}
	return in.r.src.Len
}

// All yields the index and the state of each input, in order. It passes over failed items, which [Inputs.Failures] yields.
func (in Inputs[S]) All() iter.Seq2[int, *S] {
	return func(yield func(int, *S) bool) {
		if in.r == nil {
			return
		}
		in.r.all(func(i int, state any) bool { return yield(i, state.(*S)) })
	}
}

// At returns the state of input i, or nil if it is an item that failed and was tolerated. It panics if there is no input i, like a
// slice. To read many of them, [Inputs.All] is faster.
func (in Inputs[S]) At(i int) *S {
	if n := in.Len(); i < 0 || i >= n {
		panic(fmt.Sprintf("flow: input %d of a join that has %d", i, n))
	}
	s, _ := in.r.at(i).(*S)
	return s
}

// Branch returns the state that an arm of a branch ended with: the one that has the step or shape of that name anywhere in it. It
// panics if no arm has, or if the join is a foreach's.
func (in Inputs[S]) Branch(name string) *S {
	if in.r == nil || in.r.src.Arms == nil {
		panic(fmt.Sprintf("flow: no arm has %q: the inputs are not those of a branch (use At or All)", name))
	}
	i, ok := in.r.src.Arms[name]
	if !ok {
		panic(fmt.Sprintf("flow: no arm of the branch has %q (it has %s)", name, quoted(slices.Sorted(maps.Keys(in.r.src.Arms)))))
	}
	return in.At(i)
}

// Failures yields the index and the failure of each item that failed and was tolerated, in order. See [Fan.Tolerate].
func (in Inputs[S]) Failures() iter.Seq2[int, *policies.Failure] {
	return func(yield func(int, *policies.Failure) bool) {
		if in.r == nil {
			return
		}
		all := in.r.src.Failures
		if all == nil {
			all = in.r.src.All
		}
		for input := range in.r.from(all) {
			if input.Failure != nil && !yield(input.Index, input.Failure) {
				return
			}
		}
	}
}

// quoted lists names in a message.
func quoted(names []string) string {
	q := make([]string, len(names))
	for i, name := range names {
		q[i] = fmt.Sprintf("%q", name)
	}
	return strings.Join(q, ", ")
}

// fail keeps the first error of reading and returns it.
func (r *inputs) fail(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if *r.src.Failed == nil {
		*r.src.Failed = err
	}
	return *r.src.Failed
}

// failed returns the error that reading has ended with.
func (r *inputs) failed() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return *r.src.Failed
}

// what names an input in a message.
func (r *inputs) what(i int) string {
	var names []string
	for name, arm := range r.src.Arms {
		if arm == i {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return fmt.Sprintf("input %d", i)
	}
	return fmt.Sprintf("%q", slices.Min(names))
}

// from yields inputs, and keeps the error that ends them.
func (r *inputs) from(all func(context.Context) iter.Seq2[Input, error]) iter.Seq[Input] {
	return func(yield func(Input) bool) {
		if r.failed() != nil {
			return
		}
		for input, err := range all(r.ctx) {
			if err != nil {
				_ = r.fail(err)
				return
			}
			if !yield(input) {
				return
			}
		}
	}
}

// load reads the state of an input.
func (r *inputs) load(ctx context.Context, input Input) (any, error) {
	state := reflect.New(r.src.Schema.Type()).Interface()
	if err := r.loader.Load(ctx, input.Artifacts, state); err != nil {
		return nil, fmt.Errorf("read %s of the join: %w", r.what(input.Index), err)
	}
	return state, nil
}

// at returns the state of an input, nil if it failed, and a zero state if it cannot be read.
func (r *inputs) at(i int) any {
	if r.failed() == nil {
		input, err := r.src.At(r.ctx, i)
		if err == nil && input.Failure != nil {
			return nil
		}
		var state any
		if err == nil {
			state, err = r.load(r.ctx, input)
		}
		if err == nil {
			return state
		}
		_ = r.fail(err)
	}
	return reflect.New(r.src.Schema.Type()).Interface()
}

// While a join looks at one state, the next ones come from the store: so many, and so many bytes, at the most.
const (
	aheadStates = 32
	aheadBytes  = 32 << 20
)

// coming is a state on its way from the store.
type coming struct {
	index int
	bytes int64
	state any
	err   error
	done  chan struct{} // closed when state or err is there; nil if they are
}

// all yields the states of all inputs that did not fail.
func (r *inputs) all(yield func(int, any) bool) {
	ctx, cancel := context.WithCancel(r.ctx)
	var (
		loads sync.WaitGroup
		ahead []*coming
		bytes int64
	)
	defer loads.Wait()
	defer cancel()
	next := func() bool {
		c := ahead[0]
		ahead[0], ahead = nil, ahead[1:]
		bytes -= c.bytes
		if c.done != nil {
			<-c.done
		}
		if c.err != nil {
			_ = r.fail(c.err)
			return false
		}
		return yield(c.index, c.state)
	}
	for input := range r.from(r.src.All) {
		if input.Failure != nil {
			continue
		}
		c := &coming{index: input.Index, bytes: r.loader.Remote(input.Artifacts)}
		for len(ahead) > 0 && (len(ahead) == aheadStates || bytes+c.bytes > aheadBytes) {
			if !next() {
				return
			}
		}
		ahead, bytes = append(ahead, c), bytes+c.bytes
		if c.bytes > 0 {
			c.done = make(chan struct{})
			loads.Go(func() {
				defer close(c.done)
				c.state, c.err = r.load(ctx, input)
			})
			continue
		}
		c.state, c.err = r.load(ctx, input)
		if len(ahead) == 1 && !next() {
			return
		}
	}
	for len(ahead) > 0 && r.failed() == nil {
		if !next() {
			return
		}
	}
}
