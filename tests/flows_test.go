package tests

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

// programFlows are what the test programs can run besides the examples.
func programFlows() []*flow.Flow {
	return []*flow.Flow{chainFlow(), fiftyFlow(), heldFlow(), manyFlow()}
}

// chain is the state of ChainFlow: four steps of which one may fail, or wait until a file appears.
type chain struct {
	Journal string `param:"journal" help:"file in which steps note that they ran"`
	FailAt  string `param:"fail_at" help:"step that fails while the file of fail_while is there"`
	While   string `param:"fail_while" help:"file"`
	HoldAt  string `param:"hold_at" help:"step that waits for the file of hold_until"`
	Until   string `param:"hold_until" help:"file"`
	Factor  int    `param:"factor" default:"1" help:"what the trail's numbers are multiplied with"`

	Trail  []string
	Number int
	Large  []float64 // a blob, not an inline artifact
}

func (s *chain) step(ctx context.Context, name string) error {
	i := flow.Current(ctx)
	journal(s.Journal).note("%s:%s:%d:%s", i.Run, name, i.Attempt, flow.IdempotencyKey(ctx))
	s.Trail = append(s.Trail, name)
	s.Number = s.Number*10 + s.Factor
	if s.HoldAt == name {
		if err := hold(ctx, s.Until); err != nil {
			return err
		}
	}
	if s.FailAt == name {
		if _, err := os.Stat(s.While); err == nil {
			return fmt.Errorf("%s was told to fail", name)
		}
	}
	flow.Log(ctx).Info("done", "step", name)
	return nil
}

// hold waits until a file is there.
func hold(ctx context.Context, file string) error {
	for {
		if _, err := os.Stat(file); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func chainStep(name string, more func(*chain), options ...flow.Option) flow.Node[chain] {
	return flow.Step(name, func(ctx context.Context, s *chain) error {
		if more != nil {
			more(s)
		}
		return s.step(ctx, name)
	}, options...)
}

func chainFlow() *flow.Flow {
	return flow.New("ChainFlow",
		chainStep("a", nil),
		chainStep("b", func(s *chain) {
			s.Large = make([]float64, 4096)
			for i := range s.Large {
				s.Large[i] = float64(i) / 7
			}
		}, policies.Timeout{Heartbeat: 30 * time.Second}), // a test has it wait for its store for as long
		chainStep("c", nil),
		chainStep("d", nil),
	)
}

// fifty is the state of FiftyFlow, whose workers are killed again and again.
type fifty struct {
	Journal string        `param:"journal"`
	Pause   time.Duration `param:"pause" default:"100ms"`
	Sum     int
	Trail   []int
}

func fiftyFlow() *flow.Flow {
	var nodes []flow.Node[fifty]
	for n := range 50 {
		nodes = append(nodes, flow.Step(fmt.Sprintf("s%02d", n), func(ctx context.Context, s *fifty) error {
			journal(s.Journal).note("start:s%02d:%d:%d", n, flow.Current(ctx).Attempt, os.Getpid())
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(s.Pause):
			}
			s.Sum += n
			s.Trail = append(s.Trail, n)
			journal(s.Journal).note("end:s%02d:%d", n, flow.Current(ctx).Attempt)
			return nil
		}, policies.Timeout{Heartbeat: 5 * time.Second}, policies.Retry{MaximumAttempts: 1, Lost: 50}))
	}
	return flow.New("FiftyFlow", nodes...)
}

// held is the state of HeldFlow, whose second step waits for a file and, in the end, fails or is caught.
type held struct {
	Journal string `param:"journal"`
	Until   string `param:"until"`
	Fail    bool   `param:"fail"`
	Before  string
	Dirty   string
	Caught  *policies.Failure
}

func heldFlow() *flow.Flow {
	return flow.New("HeldFlow",
		flow.Step("before", func(ctx context.Context, s *held) error {
			journal(s.Journal).note("before:%d", flow.Current(ctx).Attempt)
			s.Before = "kept"
			return nil
		}),
		flow.Step("held", func(ctx context.Context, s *held) error {
			journal(s.Journal).note("held:%d:%d", flow.Current(ctx).Attempt, os.Getpid())
			s.Dirty = "written by an attempt"
			if err := hold(ctx, s.Until); err != nil {
				return err
			}
			if s.Fail {
				return errors.New("told to fail")
			}
			s.Dirty = ""
			return nil
		}, policies.Timeout{Heartbeat: 8 * time.Second}, policies.Retry{MaximumAttempts: 1, Lost: 1},
			policies.Catch(func(ctx context.Context, s *held, f *policies.Failure) error {
				journal(s.Journal).note("catch:%d", f.Attempt)
				s.Caught = f
				return nil
			})),
		flow.Step("after", func(_ context.Context, s *held) error {
			s.Before += " to the end"
			return nil
		}),
	)
}
