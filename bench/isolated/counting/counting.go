// Package counting has the flows of BenchmarkIsolated: trivial steps in the worker's process and in their own.
package counting

import (
	"context"
	"fmt"
	"time"

	"github.com/stepwell-flows/stepwell/flow"
)

// Steps is how many steps of a flow count.
const Steps = 40

// Pause is how long the steps between them take, in flows that have some.
const Pause = 150 * time.Millisecond

type count struct {
	N    int
	Note string
}

func add(_ context.Context, s *count) error {
	s.N++
	s.Note = fmt.Sprintf("the count is %d", s.N)
	return nil
}

func pause(context.Context, *count) error {
	time.Sleep(Pause)
	return nil
}

// Flows returns the flows, in the order of their names below.
func Flows() []*flow.Flow {
	isolated := flow.Isolated{Memory: 1 << 30}
	return []*flow.Flow{
		counting("Plain", false), counting("Isolated", false, isolated),
		counting("PausedPlain", true), counting("PausedIsolated", true, isolated),
		counting("PausedCold", true, flow.Isolated{Memory: 1 << 30, Env: []string{"A=b"}}),
	}
}

func counting(name string, paused bool, options ...flow.Option) *flow.Flow {
	var nodes []flow.Node[count]
	for i := range Steps {
		if paused {
			nodes = append(nodes, flow.Step(fmt.Sprintf("pause%02d", i), pause))
		}
		nodes = append(nodes, flow.Step(fmt.Sprintf("step%02d", i), add, options...))
	}
	return flow.New(name, nodes...)
}
