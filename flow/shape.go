package flow

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"strings"

	"github.com/stepwell-flows/stepwell/artifacts"
)

// shape is what a node that is no step and no sequence does, with the state's type erased.
type shape struct {
	labels []string // of a switch's cases
	orElse bool     // whether the last of a switch's nodes is for all other values
	choose func(state any) (int, error)
	again  func(state any) bool
	fan    Fan
	elem   reflect.Type
	items  func(ctx context.Context, state any) iter.Seq2[any, error]
	bind   func(state, item any)
	zero   func() any // a new *E
}

// BranchShape is a branch that still needs its join.
type BranchShape[S any] struct{ n *node }

// Branch runs its arms at the same time, each from the state as it is at the split. An arm is one node; use [Seq] for several
// steps. The first failure keeps the other arms from starting further steps.
//
// The name is durable, like a step's.
func Branch[S any](name string, arms ...Node[S]) BranchShape[S] {
	n := &node{kind: KindBranch, name: name}
	n.nodes = adopt(n, fmt.Sprintf("branch %q", name), arms)
	if len(arms) < 2 {
		n.errs = append(n.errs, fmt.Errorf("branch %q has fewer than two arms (use flow.Seq)", name))
	}
	return BranchShape[S]{n}
}

// Join is the step that brings the arms together. It starts from the state at the split and reads what the arms ended with
// from its inputs, in the order of the arms; see [Inputs.Merge] to take over what they set.
func (b BranchShape[S]) Join(name string, fn func(context.Context, *S, Inputs[S]) error, options ...Option) Node[S] {
	return join(b.n, name, fn, options)
}

// ForeachShape is a foreach that still needs its join.
type ForeachShape[S any] struct{ n *node }

// Foreach runs its body once for each item of a list, many at the same time. Each starts from the state as it is at the split,
// with its item bound to it. No items are no mistake: the join then has no inputs.
//
// Items is called once, when the step before the foreach has ended; what it returns is kept, so a resume goes through the
// same items. Bind puts an item into the state; E may be of any type that a field of the state may have.
// See [ForeachStream] for lists that should not be in memory at once, and [ForeachShape.With] for limits.
//
// The name is durable, like a step's.
func Foreach[S, E any](name string, items func(*S) []E, bind func(*S, E), body ...Node[S]) ForeachShape[S] {
	var stream func(context.Context, *S) iter.Seq2[E, error]
	if items != nil {
		stream = func(_ context.Context, s *S) iter.Seq2[E, error] {
			return func(yield func(E, error) bool) {
				for _, e := range items(s) {
					if !yield(e, nil) {
						return
					}
				}
			}
		}
	}
	return ForeachStream(name, stream, bind, body...)
}

// ForeachStream is [Foreach] over items that come one after the other, from a database or a listing for example: they are
// written down as they come and never in memory together. An error among them fails the attempt of the step before.
func ForeachStream[S, E any](name string, items func(context.Context, *S) iter.Seq2[E, error], bind func(*S, E), body ...Node[S]) ForeachShape[S] {
	n := &node{kind: KindForeach, name: name}
	n.nodes = []*node{decide(inside(n, fmt.Sprintf("foreach %q", name), body))}
	elem := reflect.TypeFor[E]()
	if items == nil {
		n.errs = append(n.errs, fmt.Errorf("foreach %q has no function for its items", name))
	}
	if bind == nil {
		n.errs = append(n.errs, fmt.Errorf("foreach %q has no function that binds an item", name))
	}
	if err := artifacts.CheckType(elem); err != nil {
		n.errs = append(n.errs, fmt.Errorf("items of foreach %q: %w", name, err))
	}
	n.shape = &shape{
		elem: elem,
		items: func(ctx context.Context, state any) iter.Seq2[any, error] {
			return func(yield func(any, error) bool) {
				for e, err := range items(ctx, state.(*S)) {
					if !yield(&e, err) {
						return
					}
				}
			}
		},
		bind: func(state, item any) { bind(state.(*S), *item.(*E)) },
		zero: func() any { return new(E) },
	}
	return ForeachShape[S]{n}
}

// With sets how the items are run.
func (f ForeachShape[S]) With(fan Fan) ForeachShape[S] {
	n := *f.n // the shape that was there before may be used, too
	s := *n.shape
	n.shape, s.fan = &s, fan
	for _, err := range each(fan.validate()) {
		n.errs = append(n.errs[:len(n.errs):len(n.errs)], fmt.Errorf("foreach %q: %w", n.name, err))
	}
	return ForeachShape[S]{&n}
}

// Join is the step that brings the items together. It starts from the state at the split and reads what the items ended with
// from its inputs, in the order of the list, whatever the order in which they ended.
func (f ForeachShape[S]) Join(name string, fn func(context.Context, *S, Inputs[S]) error, options ...Option) Node[S] {
	return join(f.n, name, fn, options)
}

func join[S any](n *node, name string, fn func(context.Context, *S, Inputs[S]) error, options []Option) Node[S] {
	joined := *n
	step := newStep[S](name, options)
	if fn == nil {
		step.errs = append(step.errs, fmt.Errorf("join %q has no function", name))
	}
	step.step.Join = func(ctx context.Context, state any, in Source) error {
		return fn(ctx, state.(*S), newInputs[S](ctx, in))
	}
	joined.join = step
	return Node[S]{&joined}
}

// SwitchCase is one way that a [Switch] can go.
type SwitchCase[S, K any] struct {
	key  K
	body []Node[S]
}

// Case runs its nodes when the switch's selector returned key.
func Case[S any, K comparable](key K, body ...Node[S]) SwitchCase[S, K] {
	return SwitchCase[S, K]{key, body}
}

// SwitchShape is a switch that still needs to be told what other values mean.
type SwitchShape[S any] struct{ n *node }

// Switch runs the nodes of the case that the selector's value names. The selector is called once, when the step before the
// switch has ended; it must not change the state. [SwitchShape.Else] or [SwitchShape.OrFail] says what any other value means.
//
// The name is durable, like a step's.
func Switch[S any, K comparable](name string, selector func(*S) K, cases ...SwitchCase[S, K]) SwitchShape[S] {
	n := &node{kind: KindSwitch, name: name, shape: &shape{}}
	seen := map[K]bool{}
	for _, c := range cases {
		label := fmt.Sprint(c.key)
		if seen[c.key] {
			n.errs = append(n.errs, fmt.Errorf("switch %q has two cases %q (take one away)", name, label))
		}
		seen[c.key] = true
		n.shape.labels = append(n.shape.labels, label)
		n.nodes = append(n.nodes, seq(n, fmt.Sprintf("case %q of switch %q", label, name), c.body))
	}
	if len(cases) == 0 {
		n.errs = append(n.errs, fmt.Errorf("switch %q has no cases", name))
	}
	if selector == nil {
		n.errs = append(n.errs, fmt.Errorf("switch %q has no selector", name))
	}
	n.shape.choose = func(state any) (int, error) {
		key := selector(state.(*S))
		for i, c := range cases {
			if c.key == key {
				return i, nil
			}
		}
		text := fmt.Sprint(key)
		if len(text) > 80 {
			text = strings.ToValidUTF8(text[:80], "") + "…"
		}
		return len(cases), fmt.Errorf("switch %q: value %q is none of its cases %q (add a case, or Else)", name, text, n.shape.labels)
	}
	return SwitchShape[S]{n}
}

// Else runs its nodes, or nothing if there are none, when no case has the selector's value.
func (s SwitchShape[S]) Else(body ...Node[S]) Node[S] {
	n, sh := *s.n, *s.n.shape
	sh.orElse, n.shape = true, &sh
	n.nodes = append(n.nodes[:len(n.nodes):len(n.nodes)], seq(&n, fmt.Sprintf("else of switch %q", n.name), body))
	return Node[S]{&n}
}

// OrFail makes a value that no case has fail the step before the switch, without another attempt.
func (s SwitchShape[S]) OrFail() Node[S] { return Node[S](s) }

// Loop runs its body as long as cond is true. Cond is called on the state before each turn, when the step before has ended;
// it must not change the state. Turn k of the loop adds k to the index of the tasks within.
//
// The name is durable, like a step's.
func Loop[S any](name string, cond func(*S) bool, body ...Node[S]) Node[S] {
	n := &node{kind: KindLoop, name: name}
	n.nodes = []*node{inside(n, fmt.Sprintf("loop %q", name), body)}
	if cond == nil {
		n.errs = append(n.errs, fmt.Errorf("loop %q has no condition", name))
	}
	n.shape = &shape{again: func(state any) bool { return cond(state.(*S)) }}
	return Node[S]{n}
}

// inside is a body that must have something in it.
func inside[S any](n *node, what string, body []Node[S]) *node {
	if len(body) == 0 {
		n.errs = append(n.errs, fmt.Errorf("%s has no steps", what))
	}
	return seq(n, what, body)
}

func seq[S any](n *node, what string, body []Node[S]) *node {
	return &node{kind: KindSeq, nodes: flatten(adopt(n, what, body))}
}

// adopt returns the erased nodes. A node that is missing is told as a mistake of n.
func adopt[S any](n *node, what string, nodes []Node[S]) []*node {
	var all []*node
	for _, child := range nodes {
		if child.n == nil {
			n.errs = append(n.errs, fmt.Errorf("%s has an empty node (make nodes with flow.Step or one of the shapes)", what))
			continue
		}
		all = append(all, child.n)
	}
	return all
}

// flatten takes sequences within a sequence apart: they say no more than their nodes.
func flatten(nodes []*node) []*node {
	var all []*node
	for _, n := range nodes {
		if n.kind == KindSeq && len(n.errs) == 0 {
			all = append(all, n.nodes...)
			continue
		}
		all = append(all, n)
	}
	return all
}

// Fan says how a foreach runs its items. The zero value runs up to some thousand at a time, one activity each for every step,
// and stops at the first failure.
type Fan struct {
	// MaxParallel is how many items run at the same time. 0 means no limit but those of the workers and of the engine.
	MaxParallel int `json:"max_parallel,omitempty"`
	// Batch is how many items one activity runs, one after the other. Use it for many items that take less than a second:
	// it costs one activity, and one object in the store, for all of them. 0 means 1: an activity for each task. The body of
	// a batch may have steps, switches and loops, but no branch, foreach or card. An item is then the unit of resume.
	Batch int `json:"batch,omitempty"`
	// OnFailure says what the failure of an item that is not tolerated means for the others. Defaults to StopOnFirst.
	OnFailure OnFailure `json:"on_failure,omitempty"`
	// Tolerate is how many items may fail and the join runs all the same. Defaults to none. The join sees them in
	// [Inputs.Failures].
	Tolerate Tolerance `json:"tolerate,omitzero"`
}

// OnFailure says what becomes of the other items.
type OnFailure string

const (
	// StopOnFirst starts no further tasks; those that run finish. It is the zero value.
	StopOnFirst OnFailure = ""
	// FinishAll runs all items to their end before the foreach fails.
	FinishAll OnFailure = "finish_all"
)

// Tolerance is a number of items or a part of them; make it with [Count] or [Percent]. The zero value is none.
type Tolerance struct {
	Count   int     `json:"count,omitempty"`
	Percent float64 `json:"percent,omitempty"`
}

// Count tolerates n failed items.
func Count(n int) Tolerance { return Tolerance{Count: n} }

// Percent tolerates p percent of the items, rounded down: 5 percent of 30 items is one item.
func Percent(p float64) Tolerance { return Tolerance{Percent: p} }

// Of is how many of n items may fail.
func (t Tolerance) Of(n int) int {
	return max(t.Count, int(float64(n)*t.Percent/100))
}

const (
	maxBatch    = 10_000
	maxParallel = 1_000_000
)

func (f Fan) validate() error {
	var errs []error
	if f.MaxParallel < 0 || f.MaxParallel > maxParallel {
		errs = append(errs, fmt.Errorf("Fan.MaxParallel is %d (use 0 for no limit, or 1 to %d)", f.MaxParallel, maxParallel))
	}
	if f.Batch < 0 || f.Batch > maxBatch {
		errs = append(errs, fmt.Errorf("Fan.Batch is %d (use 0 to %d)", f.Batch, maxBatch))
	}
	if f.OnFailure != StopOnFirst && f.OnFailure != FinishAll {
		errs = append(errs, fmt.Errorf("Fan.OnFailure is %q (use flow.StopOnFirst or flow.FinishAll)", f.OnFailure))
	}
	if t := f.Tolerate; t.Count < 0 || !(t.Percent >= 0 && t.Percent <= 100) {
		errs = append(errs, fmt.Errorf("Fan.Tolerate is %d items, %v percent (use flow.Count of 0 or more, or flow.Percent of 0 to 100)", t.Count, t.Percent))
	}
	return errors.Join(errs...)
}

// mayBeEmpty says that a node may run no task at all.
func (n *node) mayBeEmpty() bool {
	switch n.kind {
	case KindSeq:
		for _, child := range n.nodes {
			if !child.mayBeEmpty() {
				return false
			}
		}
		return true
	case KindSwitch:
		for _, child := range n.nodes {
			if child.mayBeEmpty() {
				return true
			}
		}
		return false
	case KindLoop:
		return true
	default: // a step, a split that is decided, a branch and a foreach, which have a join
		return false
	}
}

// asks says that author's code has to decide something before the node's first tasks can start.
func (n *node) asks() bool {
	switch n.kind {
	case KindSeq:
		return len(n.nodes) > 0 && n.nodes[0].asks()
	case KindBranch:
		for _, arm := range n.nodes {
			if arm.asks() {
				return true
			}
		}
		return false
	case KindForeach, KindSwitch, KindLoop:
		return true
	default:
		return false
	}
}

// decide puts a task of its own before what asks where no step goes before it: at the start of the flow, and of an item.
// It has the name of the shape that it decides.
func decide(s *node) *node {
	if !s.asks() {
		return s
	}
	first := s.nodes[0]
	d := &node{kind: KindDecide, name: first.name, step: &StepDef{
		Name: first.name, Spec: decideSpec(), Run: func(context.Context, any) error { return nil },
	}}
	return &node{kind: KindSeq, nodes: append([]*node{d}, s.nodes...), errs: s.errs}
}
