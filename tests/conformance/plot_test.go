package conformance

import (
	"context"
	"maps"
	"sync"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/runs"
)

// state is the state of every graph.
type state struct {
	Limit int `param:"limit" default:"10" help:"turns of the loops"`

	// Trail names the tasks that led to this state. A join puts those of its inputs behind one another, in order.
	Trail []string
	// Results is what the items of a foreach made, in order.
	Results []string

	X, Y, Z string // items
	Item    item
	Made    string // of one item
	Value   string // of a switch
	Inner   string // of a switch within
	Count   int    // of a loop
}

// item is an item that is no plain value.
type item struct {
	Kind   string
	Number float64
}

// plot is what is to happen to the tasks of a graph, and what did.
type plot struct {
	// policies are those of a step. Catch does what the step would have done; that of a join has no inputs.
	policies func(step string, join bool, catch policies.CatchPolicy) []flow.Option

	origin *runs.Run // one that went undisturbed, once there is one

	mu      sync.Mutex
	disturb func(ctx context.Context, i flow.Info) error
	begun   map[string]map[string]int // calls of functions, by run and task
	ended   map[string]map[string]int // those that returned nil
}

// disturbing sets what the functions do first. An error of it fails the attempt.
func (p *plot) disturbing(disturb func(context.Context, flow.Info) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.disturb = disturb
}

// failing makes the tasks that match fail.
func (p *plot) failing(match func(i flow.Info) bool) {
	p.disturbing(func(_ context.Context, i flow.Info) error {
		if match(i) {
			return flow.Transient(&plotError{i.Task})
		}
		return nil
	})
}

type plotError struct{ task string }

func (e *plotError) Error() string { return e.task + " fails by the plot" }

// step is a step that does something, and is counted.
func (p *plot) step(name string, do func(*state)) flow.Node[state] {
	return flow.Step(name, func(ctx context.Context, s *state) error {
		return p.play(ctx, s, func() error {
			if do != nil {
				do(s)
			}
			return nil
		})
	}, p.options(name, false, do)...)
}

// joiner is a shape that needs its join.
type joiner interface {
	Join(string, func(context.Context, *state, flow.Inputs[state]) error, ...flow.Option) flow.Node[state]
}

// join ends a shape with a step that takes over the trails and what else it is told to.
func (p *plot) join(shape joiner, name string, do func(s *state, inputs []*state)) flow.Node[state] {
	return shape.Join(name, func(ctx context.Context, s *state, in flow.Inputs[state]) error {
		return p.play(ctx, s, func() error {
			var inputs []*state
			split := len(s.Trail)
			for _, input := range in.All() {
				s.Trail = append(s.Trail, input.Trail[split:]...)
				inputs = append(inputs, input)
			}
			if do != nil {
				do(s, inputs)
			}
			return nil
		})
	}, p.options(name, true, nil)...)
}

func (p *plot) options(step string, join bool, do func(*state)) []flow.Option {
	if p.policies == nil {
		return nil
	}
	return p.policies(step, join, policies.Catch(func(ctx context.Context, s *state, _ *policies.Failure) error {
		if do != nil {
			do(s)
		}
		s.Trail = append(s.Trail, flow.Current(ctx).Task)
		return nil
	}))
}

func (p *plot) play(ctx context.Context, s *state, do func() error) error {
	i := flow.Current(ctx)
	p.mu.Lock()
	p.begun = count(p.begun, i)
	disturb := p.disturb
	p.mu.Unlock()
	if disturb != nil {
		trail := s.Trail
		s.Trail = append(s.Trail, "left by an attempt that failed")
		if err := disturb(ctx, i); err != nil {
			return err
		}
		s.Trail = trail
	}
	if err := do(); err != nil {
		return err
	}
	s.Trail = append(s.Trail, i.Task)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = count(p.ended, i)
	return nil
}

func count(calls map[string]map[string]int, i flow.Info) map[string]map[string]int {
	if calls == nil {
		calls = map[string]map[string]int{}
	}
	if calls[i.Run] == nil {
		calls[i.Run] = map[string]int{}
	}
	calls[i.Run][i.Task]++
	return calls
}

// did returns how often each task's function was called in a run, and how often it returned nil.
func (p *plot) did(run string) (begun, ended map[string]int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.begun[run]), maps.Clone(p.ended[run])
}
