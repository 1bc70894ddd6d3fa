package failures

import (
	"context"
	"errors"
	"math"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

// rows are the rows of the table, in its order.
func rows(fixed bool) []flow.SwitchCase[State, string] {
	return []flow.SwitchCase[State, string]{
		flow.Case("transient", transientRow()),
		flow.Case("service", serviceRow()),
		flow.Case("cooldown", cooldownRow()),
		flow.Case("timeout", timeoutRow()),
		flow.Case("lost", lostRow()),
		flow.Case("memory", memoryRow()),
		flow.Case("crash", crashRow()),
		flow.Case("code", codeRow()),
		flow.Case("bug", bugRow(fixed)),
		flow.Case("input", inputRow()),
		flow.Case("denied", deniedRow()),
		flow.Case("items", itemsRow()),
		flow.Case("charge", chargeRow()),
		flow.Case("budget", budgetRow()),
		flow.Case("breaker", breakerRow()),
	}
}

// Nobody listens at first: the service is being started.
func transientRow() flow.Node[State] {
	return flow.Step("transient", func(ctx context.Context, s *State) (err error) {
		s.Answer, err = get(ctx, "/weather")
		return err
	}, policies.Retry{MaximumAttempts: 4, InitialInterval: 500 * time.Millisecond})
}

// The service is overloaded, then says when it wants to be asked again.
func serviceRow() flow.Node[State] {
	return flow.Step("service", func(ctx context.Context, s *State) (err error) {
		s.Answer, err = get(ctx, "/overloaded")
		return err
	}, policies.Retry{MaximumAttempts: 4, InitialInterval: 500 * time.Millisecond})
}

// The service asks to be left alone for longer than a minute.
func cooldownRow() flow.Node[State] {
	return flow.Step("cooldown", func(ctx context.Context, s *State) (err error) {
		s.Answer, err = get(ctx, "/maintenance?seconds="+strconv.Itoa(int(s.Cooldown.Seconds())))
		return err
	}, policies.Retry{MaximumAttempts: 2})
}

// The first call hangs.
func timeoutRow() flow.Node[State] {
	return flow.Step("timeout", func(ctx context.Context, s *State) (err error) {
		s.Answer, err = get(ctx, "/hangs")
		return err
	}, policies.Retry{MaximumAttempts: 3, InitialInterval: 500 * time.Millisecond}, policies.Timeout{Attempt: 2 * time.Second})
}

// The worker dies: the first attempt gives you a minute to kill it.
func lostRow() flow.Node[State] {
	return flow.Step("lost", func(ctx context.Context, s *State) error {
		if flow.Current(ctx).Attempt == 1 {
			flow.Log(ctx).Info("kill this worker", "pid", os.Getpid())
			select {
			case <-time.After(time.Minute):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		s.Answer = "done"
		return nil
	}, policies.Timeout{Heartbeat: 5 * time.Second})
}

// The first attempt may use 256 MiB, and needs more. The next one may use a GiB.
func memoryRow() flow.Node[State] {
	return flow.Step("memory", func(_ context.Context, s *State) error {
		table := make([]byte, 300<<20)
		for i := 0; i < len(table); i += 4096 {
			table[i] = 1 // memory counts when it is written
		}
		s.Answer = strconv.Itoa(len(table)>>20) + " MiB"
		return nil
	}, flow.Isolated{Memory: 256 << 20}, policies.Escalate{Rungs: []policies.Rung{{}, {Memory: 1 << 30}}})
}

// The process ends, as it does when a C library crashes.
func crashRow() flow.Node[State] {
	return flow.Step("crash", func(ctx context.Context, s *State) error {
		if flow.Current(ctx).Attempt == 1 {
			os.Exit(3)
		}
		s.Answer = "done"
		return nil
	}, flow.Isolated{}, policies.Retry{MaximumAttempts: 2, InitialInterval: 500 * time.Millisecond})
}

// The computation does not get anywhere from where it starts. The next attempt starts elsewhere.
func codeRow() flow.Node[State] {
	return flow.Step("code", func(ctx context.Context, s *State) error {
		x := -2 * float64(flow.Current(ctx).Attempt-1)
		for range 100 { // Newton's method on x³ - 2x + 2: from 0 it goes to 1, and back to 0
			step := (x*x*x - 2*x + 2) / (3*x*x - 2)
			x -= step
			if math.Abs(step) < 1e-9 {
				s.Root = x
				return nil
			}
		}
		return errors.New("no root after 100 steps")
	}, policies.Retry{MaximumAttempts: 3, InitialInterval: 500 * time.Millisecond})
}

// The code is wrong, and stays wrong until somebody mends it.
func bugRow(fixed bool) flow.Node[State] {
	return flow.Step("bug", func(_ context.Context, s *State) error {
		temperatures := []string{"7.5", "17.0", "21.5"}
		last := len(temperatures)
		if fixed {
			last--
		}
		s.Answer = temperatures[last]
		return nil
	}, policies.Retry{MaximumAttempts: 2, InitialInterval: 500 * time.Millisecond, Exhausted: policies.Pause})
}

// The service does not take the input. Without it, a default has to do.
func inputRow() flow.Node[State] {
	return flow.Step("input", func(ctx context.Context, s *State) (err error) {
		s.Answer, err = get(ctx, "/city?name=Atlantis")
		return err
	}, policies.Retry{MaximumAttempts: 4}, policies.Catch(func(_ context.Context, s *State, f *policies.Failure) error {
		s.Answer, s.Caught = "unknown", f
		return nil
	}))
}

// The credentials are not those that the service wants.
func deniedRow() flow.Node[State] {
	return flow.Step("denied", func(ctx context.Context, s *State) (err error) {
		s.Answer, err = get(ctx, "/private")
		return err
	}, policies.Retry{MaximumAttempts: 4})
}

// Two of twenty items are bad; one in ten is tolerated.
func itemsRow() flow.Node[State] {
	return flow.Foreach("items", items(20), (*State).set,
		flow.Step("item", func(ctx context.Context, s *State) (err error) {
			s.Answer, err = get(ctx, "/item?number="+strconv.Itoa(s.Item))
			return err
		}, policies.Retry{MaximumAttempts: 4}),
	).With(flow.Fan{Tolerate: flow.Percent(10)}).Join("collect", collect)
}

// The answer is cut off, but the work was done.
func chargeRow() flow.Node[State] {
	return flow.Step("charge", func(ctx context.Context, s *State) (err error) {
		s.Answer, err = post(ctx, "/charge", http.Header{"Idempotency-Key": {flow.IdempotencyKey(ctx)}})
		if err != nil {
			return err
		}
		charges, err := get(ctx, "/charges")
		s.Charges, _ = strconv.Atoi(charges)
		return err
	}, policies.Retry{MaximumAttempts: 4, InitialInterval: 500 * time.Millisecond})
}

// A service is down and forty tasks try to reach it. Together they may repeat five calls.
func budgetRow() flow.Node[State] {
	return flow.Foreach("budget", items(40), (*State).set,
		flow.Step("order", func(ctx context.Context, s *State) (err error) {
			s.Answer, err = get(ctx, "/down")
			return err
		}, policies.Retry{MaximumAttempts: 4, InitialInterval: 500 * time.Millisecond}, policies.Dependency{
			Name: "failures-orders", Budget: policies.Budget{Percent: 10, Minimum: 5},
		}),
	).With(flow.Fan{Tolerate: flow.Percent(100)}).Join("count", collect)
}

// A service is down for a while. The tasks wait until it is back, and use no attempt.
func breakerRow() flow.Node[State] {
	return flow.Foreach("breaker", items(12), (*State).set,
		flow.Step("look", func(ctx context.Context, s *State) (err error) {
			s.Answer, err = get(ctx, "/restarting")
			return err
		}, policies.Retry{MaximumAttempts: 6, InitialInterval: 500 * time.Millisecond}, policies.Dependency{
			Name: "failures-stock", Breaker: policies.Breaker{Failures: 3, Cooldown: 2 * time.Second},
		}),
	).With(flow.Fan{MaxParallel: 3}).Join("sum", collect)
}

func items(n int) func(*State) []int {
	return func(*State) []int {
		numbers := make([]int, n)
		for i := range numbers {
			numbers[i] = i
		}
		return numbers
	}
}

func (s *State) set(item int) { s.Item = item }

// collect counts items. Those that failed and were tolerated are values like the others.
func collect(_ context.Context, s *State, in flow.Inputs[State]) error {
	s.Items, s.Failed = in.Len(), map[string]int{}
	for _, f := range in.Failures() {
		s.Failed[string(f.Class)]++
	}
	return nil
}
