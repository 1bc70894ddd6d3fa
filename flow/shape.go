package flow

import (
	"context"
	"fmt"
	"iter"
	"reflect"
	"slices"
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
	fanned bool // whether the fan was set
	elem   reflect.Type
	items  func(ctx context.Context, state any) iter.Seq2[any, error]
	bind   func(state, item any)
	zero   func() any // a new *E
}

// BranchShape is a branch that still needs its join. It is immutable.
type BranchShape[S any] struct{ n *node }

// Branch runs its arms, two or more, at the same time, each from the state as it is at the split. An arm is one node; use [Seq] for
// several steps. It must run a step whatever happens: an arm that is nothing but a loop is a mistake. The first failure that is
// not caught keeps the other arms from starting further steps.
//
// The name is durable, like a step's.
func Branch[S any](name string, arms ...Node[S]) BranchShape[S] {
	n := &node{kind: KindBranch, name: name}
	n.nodes = adopt(fmt.Sprintf("branch %q", name), arms)
	if len(arms) < 2 {
		n.errs = append(n.errs, fmt.Errorf("branch %q has fewer than two arms (use flow.Seq)", name))
	}
	return BranchShape[S]{n}
}

// Join is the step that brings the arms together, with the options of a step. It starts from the state at the split and reads what
// the arms ended with from its inputs, in the order of the arms; see [Inputs.Merge] to take over what they set.
func (b BranchShape[S]) Join(name string, fn func(context.Context, *S, Inputs[S]) error, options ...Option) Node[S] {
	return join(b.n, name, fn, options)
}

// ForeachShape is a foreach that still needs its join. It is immutable: With and Join return a new value.
type ForeachShape[S any] struct{ n *node }

// Foreach runs its body once for each item of a list, many at the same time. Each starts from the state as it is at the split,
// with its item bound to it. No items are no mistake: the join then has no inputs.
//
// Items is called once, when the step before the foreach has ended, and must not change the state; what it returns is kept, so a
// resume goes through the same items. There may be [MaxItems] of them. Bind puts an item into the state that the item's first step
// gets, into fields that are no parameters; it is called again with each attempt. E may be of any type that a field of the state may have, but for [artifacts.Ref] and
// [artifacts.File]. See [ForeachStream] for lists that should not be in memory at once, and [ForeachShape.With] for limits.
//
// Item k of the list, counted from 0, adds k to the index of the tasks within.
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
// written down as they come and never in memory together. An error among them fails the attempt of the step before; with another
// attempt items is called anew.
func ForeachStream[S, E any](name string, items func(context.Context, *S) iter.Seq2[E, error], bind func(*S, E), body ...Node[S]) ForeachShape[S] {
	n := &node{kind: KindForeach, name: name}
	n.nodes = []*node{decide(inside(fmt.Sprintf("foreach %q", name), body))}
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

// With sets how the items are run. Without it they are run as the zero [Fan] says.
func (f ForeachShape[S]) With(fan Fan) ForeachShape[S] {
	if f.n == nil {
		return f
	}
	n := *f.n // the shape that was there before may be used, too
	s := *n.shape
	n.errs = slices.Clone(n.errs)
	if s.fanned {
		n.errs = append(n.errs, fmt.Errorf("foreach %q has two Fans (keep one With)", n.name))
	}
	for _, err := range each(fan.validate()) {
		n.errs = append(n.errs, fmt.Errorf("foreach %q: %w", n.name, err))
	}
	s.fan, s.fanned, n.shape = fan, true, &s
	return ForeachShape[S]{&n}
}

// Join is the step that brings the items together, with the options of a step. It starts from the state at the split and reads
// what the items ended with from its inputs, in the order of the list, whatever the order in which they ended.
func (f ForeachShape[S]) Join(name string, fn func(context.Context, *S, Inputs[S]) error, options ...Option) Node[S] {
	return join(f.n, name, fn, options)
}

func join[S any](n *node, name string, fn func(context.Context, *S, Inputs[S]) error, options []Option) Node[S] {
	if n == nil { // of no use, like the zero Node
		return Node[S]{}
	}
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

// Case runs its nodes, or nothing if there are none, when the switch's selector returned key. It needs to be told the types when it
// has no nodes: flow.Case[State]("skip").
//
// A key is kept in plans and records as the text that fmt.Sprint makes of it, so the keys of a switch need different texts.
func Case[S any, K comparable](key K, body ...Node[S]) SwitchCase[S, K] {
	return SwitchCase[S, K]{key, body}
}

// SwitchShape is a switch that still needs to be told what other values mean. It is immutable.
type SwitchShape[S any] struct{ n *node }

// Switch runs the nodes of the case that the selector's value names. The selector is called once, when the step before the
// switch has ended; it must not change the state. [SwitchShape.Else] or [SwitchShape.OrFail] says what any other value means.
//
// The name is durable, like a step's.
func Switch[S any, K comparable](name string, selector func(*S) K, cases ...SwitchCase[S, K]) SwitchShape[S] {
	n := &node{kind: KindSwitch, name: name, shape: &shape{}}
	for _, c := range cases {
		label := fmt.Sprint(c.key)
		switch reflect.ValueOf(c.key).Kind() {
		case reflect.Pointer, reflect.UnsafePointer, reflect.Chan:
			label = fmt.Sprintf("%T", c.key)
			n.errs = append(n.errs, fmt.Errorf("a case of switch %q is a %s, which is another one in each process (use a string, a number or a bool)", name, label))
		default:
			if slices.Contains(n.shape.labels, label) {
				n.errs = append(n.errs, fmt.Errorf("switch %q has two cases %q (take one away)", name, label))
			}
		}
		n.shape.labels = append(n.shape.labels, label)
		n.nodes = append(n.nodes, seq(fmt.Sprintf("case %q of switch %q", label, name), c.body))
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
		return len(cases), fmt.Errorf("switch %q: value %q is none of its cases %s (add a case, or Else)",
			name, clip(fmt.Sprint(key), 80), clip(quoted(n.shape.labels), 500))
	}
	return SwitchShape[S]{n}
}

// Else runs its nodes, or nothing if there are none, when no case has the selector's value.
func (s SwitchShape[S]) Else(body ...Node[S]) Node[S] {
	if s.n == nil {
		return Node[S]{}
	}
	n, sh := *s.n, *s.n.shape
	sh.orElse, n.shape = true, &sh
	n.nodes = append(slices.Clone(n.nodes), seq(fmt.Sprintf("the else of switch %q", n.name), body))
	return Node[S]{&n}
}

// OrFail makes a value that no case has fail the step before the switch, without another attempt.
func (s SwitchShape[S]) OrFail() Node[S] { return Node[S](s) }

// Loop runs its body as long as cond is true, which may be never. Cond is called on the state before each turn, when the step
// before has ended; it must not change the state. The body must run a step in every turn. There is no limit on the turns: count
// them in the state if there should be one. Turn k of the loop, counted from 0, adds k to the index of the tasks within.
//
// The name is durable, like a step's.
func Loop[S any](name string, cond func(*S) bool, body ...Node[S]) Node[S] {
	n := &node{kind: KindLoop, name: name}
	n.nodes = []*node{inside(fmt.Sprintf("loop %q", name), body)}
	if cond == nil {
		n.errs = append(n.errs, fmt.Errorf("loop %q has no condition", name))
	}
	n.shape = &shape{again: func(state any) bool { return cond(state.(*S)) }}
	return Node[S]{n}
}

// clip cuts a text that is too long for a message.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
