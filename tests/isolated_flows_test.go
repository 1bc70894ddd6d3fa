package tests

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/cards"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/guard"
	"github.com/stepwell-flows/stepwell/policies"
)

// isolatedFlows have steps in processes of their own, so the program has to know them.
func isolatedFlows() []*flow.Flow {
	return []*flow.Flow{wildFlow(), deafFlow(), tameFlow(), unstartableFlow(), loopingFlow(), cautiousFlow()}
}

// wild is the state of WildFlow, whose first step does to its process what the mode says.
type wild struct {
	Mode    string `param:"mode"`
	Journal string `param:"journal" default:""`

	Done    string
	Caught  policies.Failure
	Worker  int
	Ballast [][]byte
}

const wildMemory = 192 << 20

func wildFlow() *flow.Flow {
	return flow.New("WildFlow",
		flow.Step("wild", goWild,
			flow.Isolated{Memory: wildMemory}, policies.Timeout{Attempt: 5 * time.Minute, Heartbeat: 10 * time.Second},
			policies.Catch(func(ctx context.Context, s *wild, f *policies.Failure) error {
				s.Caught = *f
				return nil
			})),
		flow.Step("next", func(_ context.Context, s *wild) error {
			s.Worker = os.Getpid()
			return nil
		}),
	)
}

func goWild(ctx context.Context, s *wild) error {
	switch s.Mode {
	case "well":
	case "exit":
		os.Exit(3)
	case "exit_zero":
		os.Exit(0)
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "segv":
		// As from C code: the runtime cannot turn it into a panic.
		signal := exec.Command("kill", "-SEGV", fmt.Sprint(os.Getpid()))
		_ = signal.Run()
		time.Sleep(time.Minute)
	case "panic":
		panic("at once")
	case "panic_elsewhere":
		go func() { panic("in another goroutine") }()
		time.Sleep(time.Minute)
	case "memory":
		debug.SetGCPercent(-1)
		for s.Ballast = nil; ; time.Sleep(5 * time.Millisecond) {
			s.Ballast = append(s.Ballast, bytes.Repeat([]byte{1}, 8<<20))
		}
	case "loud":
		line := append(bytes.Repeat([]byte("x"), 99), '\n')
		for i := range 1 << 20 {
			if i == 0 || i == 1<<20-1 {
				fmt.Fprintf(os.Stdout, "line %d\n", i)
			}
			_, _ = os.Stdout.Write(line)
		}
		fmt.Fprint(os.Stderr, "the end")
	case "children", "children_exit":
		for _, script := range []string{"sleep 1000 &", "setsid sleep 1000 & sleep 1000 &", "setsid sh -c 'setsid sleep 1000 & setsid sleep 1000 &' &"} {
			cmd := exec.Command("sh", "-c", script)
			cmd.Env = append(os.Environ(), "WILD="+flow.Current(ctx).Run)
			if err := cmd.Run(); err != nil {
				return err
			}
		}
		if s.Mode == "children_exit" {
			os.Exit(1)
		}
	case "hold": // in the first attempt
		if flow.Current(ctx).Attempt == 1 {
			cmd := exec.Command("sh", "-c", "setsid sleep 1000 &")
			cmd.Env = append(os.Environ(), "WILD="+flow.Current(ctx).Run)
			if err := cmd.Run(); err != nil {
				return err
			}
			journal(s.Journal).note("held:%d:%d", os.Getpid(), os.Getppid())
			time.Sleep(time.Hour)
		}
	case "error":
		return flow.RetryAfter(policies.WithClass(errors.New("no"), policies.Invalid), time.Hour)
	default:
		return fmt.Errorf("mode %q", s.Mode)
	}
	s.Done = s.Mode
	return nil
}

// tame is the state of TameFlow, whose isolated steps do what steps do.
type tame struct {
	Times int `param:"times" default:"3"`

	Items  []int
	Item   int
	Square int
	Sum    int
	Large  []float64
	File   artifacts.File
	Key    string
	PIDs   []int
	Dir    string
	Env    string
}

func tameFlow() *flow.Flow {
	isolated := flow.Isolated{}
	return flow.New("TameFlow",
		flow.Step("begin", func(ctx context.Context, s *tame) error {
			i := flow.Current(ctx)
			if i.Attempt == 1 {
				if err := flow.SaveCheckpoint(ctx, "half", []byte("so far")); err != nil {
					return err
				}
				return &tameError{"first"}
			}
			half, err := flow.LoadCheckpoint(ctx, "half")
			if err != nil {
				return err
			}
			if string(half) != "so far" || i.Previous == nil || i.Previous.Type != "tameError" {
				return fmt.Errorf("half %q, previous %t", half, i.Previous != nil)
			}
			for n := range s.Times {
				s.Items = append(s.Items, n+1)
			}
			s.Large = make([]float64, 4096)
			s.Large[7] = 7
			s.Key = flow.IdempotencyKey(ctx)
			s.PIDs = append(s.PIDs, os.Getpid())
			if s.Dir, err = os.Getwd(); err != nil {
				return err
			}
			s.Env = os.Getenv("TAME")
			if err := os.WriteFile("report.txt", []byte("a report"), 0o600); err != nil {
				return err
			}
			s.File.SetPath("report.txt")
			flow.Progress(ctx, 1, 2)
			flow.Log(ctx).With("of", "begin").Warn("begun", "items", s.Items, "size", 3, "text", "a b")
			flow.Card(ctx).Append(cards.Markdown("# a heading of the *child*"))
			return nil
		}, flow.Isolated{Env: []string{"TAME=yes"}, CPU: 1}, cards.Default(),
			policies.Retry{MaximumAttempts: 3, InitialInterval: time.Millisecond, RetryIf: func(err error) bool {
				var mine *tameError
				return errors.As(err, &mine) && mine.text == "first"
			}}),
		flow.Foreach("square", func(s *tame) []int { return s.Items }, func(s *tame, n int) { s.Item = n },
			flow.Step("fit", func(_ context.Context, s *tame) error {
				s.Square = s.Item * s.Item
				s.PIDs = append(s.PIDs, os.Getpid())
				return nil
			}, isolated),
		).Join("total", func(_ context.Context, s *tame, in flow.Inputs[tame]) error {
			for _, one := range in.All() {
				s.Sum += one.Square
				s.PIDs = append(s.PIDs, one.PIDs[len(one.PIDs)-1])
			}
			s.PIDs = append(s.PIDs, os.Getpid())
			return nil
		}, isolated),
	)
}

type tameError struct{ text string }

func (e *tameError) Error() string { return e.text }

// unstartable is the state of UnstartableFlow, whose step has a directory that is not there.
type unstartable struct{ Ran bool }

func unstartableFlow() *flow.Flow {
	return flow.New("UnstartableFlow", flow.Step("never", func(_ context.Context, s *unstartable) error {
		s.Ran = true
		return nil
	}, flow.Isolated{Dir: "/nowhere/at/all"}, policies.Retry{MaximumAttempts: 5}))
}

// deaf is the state of DeafFlow, whose step does not look at its context.
type deaf struct{ Heard bool }

func deafFlow() *flow.Flow {
	return flow.New("DeafFlow", flow.Step("deaf", func(_ context.Context, s *deaf) error {
		if err := exec.Command("sh", "-c", "setsid sleep 1000 &").Run(); err != nil {
			return err
		}
		for {
			time.Sleep(time.Second)
		}
	}, flow.Isolated{Env: []string{"TEST_DEAF=yes"}}, policies.Timeout{Attempt: 500 * time.Millisecond}, policies.Retry{MaximumAttempts: 2, InitialInterval: time.Millisecond}))
}

// looping is the state of LoopingFlow, which cannot be loaded.
type looping struct {
	Bomb bomb
}

// bomb ends the process that decodes it, unless that is a test's.
type bomb struct{ armed bool }

// MarshalBinary implements encoding.BinaryMarshaler.
func (b bomb) MarshalBinary() ([]byte, error) {
	if b.armed {
		return []byte("armed"), nil
	}
	return nil, nil
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler.
func (b *bomb) UnmarshalBinary(content []byte) error {
	if os.Getenv("BOMB") != "" {
		os.Exit(9)
	}
	b.armed = len(content) > 0
	return nil
}

func loopingFlow() *flow.Flow {
	return flow.New("LoopingFlow",
		flow.Step("arm", func(_ context.Context, s *looping) error {
			s.Bomb.armed = true
			return nil
		}),
		flow.Step("never", func(context.Context, *looping) error { return nil },
			flow.Isolated{Env: []string{"BOMB=yes"}}, policies.Retry{MaximumAttempts: 9, InitialInterval: time.Millisecond}))
}

// cautious is the state of CautiousFlow, whose isolated step calls a service that is guarded.
type cautious struct{ Calls int }

// The cooldown is longer than a machine that is busy needs to start another process.
func cautiousFlow() *flow.Flow {
	service := policies.Dependency{Name: "cautious", Breaker: policies.Breaker{Failures: 2, Cooldown: 20 * time.Second}}
	return flow.New("CautiousFlow", flow.Step("call", func(ctx context.Context, s *cautious) error {
		for range 2 {
			call, err := guard.From(ctx).Dependency(service).Begin(false)
			if err != nil {
				return err
			}
			if flow.Current(ctx).Attempt == 1 {
				call.End(&policies.Failure{Class: policies.Transient})
				continue
			}
			call.End(nil)
			s.Calls++
		}
		if s.Calls == 0 {
			return errors.New("both failed")
		}
		return nil
	}, flow.Isolated{}, policies.Retry{MaximumAttempts: 2, InitialInterval: time.Millisecond}))
}
