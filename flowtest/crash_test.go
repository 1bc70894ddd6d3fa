package flowtest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/workflows"
)

// order is the state of a flow that has every shape.
type order struct {
	N     int `param:"n" default:"3"`
	Item  int
	Left  int
	Turns int
	Price int
	Sum   int
	Trail []string
	Way   string
}

// account is a service that charges each key once.
type account struct{ flowtest.Ledger }

func (a *account) charge(ctx context.Context) { a.Once(flow.IdempotencyKey(ctx)) }

// shapesFlow charges in each of its shapes.
func shapesFlow(a *account) *flow.Flow {
	step := func(name string, o ...flow.Option) flow.Node[order] {
		return flow.Step(name, func(ctx context.Context, s *order) error {
			a.charge(ctx)
			s.Trail = append(s.Trail, flow.Current(ctx).Task)
			return nil
		}, o...)
	}
	join := func(ctx context.Context, s *order, in flow.Inputs[order]) error {
		a.charge(ctx)
		s.Trail = append(s.Trail, flow.Current(ctx).Task)
		for i, part := range in.All() {
			s.Sum += part.Sum + part.Price + i
			s.Trail = append(s.Trail, fmt.Sprint(part.Trail))
		}
		return nil
	}
	price := func(ctx context.Context, s *order) error {
		a.charge(ctx)
		s.Price = 10 * s.Item
		if s.Item == 1 && flow.Current(ctx).Previous == nil {
			return flow.Transient(errors.New("busy"))
		}
		if s.Item == 2 {
			return flow.Fail("no price")
		}
		return nil
	}
	turn := func(ctx context.Context, s *order) error {
		a.charge(ctx)
		s.Turns++
		return nil
	}
	items := func(s *order) []int { return []int{0, 1, 2}[:s.N] }
	bind := func(s *order, i int) { s.Item = i }
	retry := policies.Retry{MaximumAttempts: 2, InitialInterval: time.Second}
	guess := policies.Catch(func(_ context.Context, s *order, _ *policies.Failure) error { s.Price = 7; return nil })
	return flow.New("ShapesFlow",
		step("start"),
		flow.Branch("both",
			flow.Foreach("each", items, bind,
				flow.Step("price", price, retry, guess),
				flow.Branch("inner",
					step("left"),
					flow.Seq(flow.Loop("count", func(s *order) bool { return s.Turns < 2 }, flow.Step("turn", turn)), step("right")),
				).Join("joined", join),
			).Join("total", join),
			flow.Seq(
				flow.Foreach("small", items, bind, flow.Step("cheap", price, retry, guess), step("packed")).With(flow.Fan{Batch: 2}).Join("packs", join),
				flow.Switch("large", func(s *order) bool { return s.Sum > 5 }, flow.Case(true, step("truck"))).Else(step("van")),
			),
		).Join("all", join),
		step("end"),
	)
}

// A worker that is killed anywhere in a flow of every shape changes nothing about what the flow comes to, nor charges twice.
func TestEveryCrashOfEveryShape(t *testing.T) {
	t.Parallel()
	t.Run("direct", func(t *testing.T) {
		t.Parallel()
		var a account
		flowtest.EveryCrash(t, shapesFlow(&a), nil, flowtest.CrashOptions{Before: a.Reset, Effects: a.Counts})
	})
	t.Run("shards", func(t *testing.T) {
		t.Parallel()
		var a account
		flowtest.EveryCrash(t, shapesFlow(&a), nil, flowtest.CrashOptions{
			Before: a.Reset, Effects: a.Counts, Sample: 40, Limits: &workflows.Limits{Tasks: 1, Shard: 2, Shards: 2},
		})
	})
}

// A step that keeps a checkpoint after each charge is killed after each of them, and goes on where it was.
func TestEveryCrashAtCheckpoints(t *testing.T) {
	t.Parallel()
	var a account
	f := flow.New("PartsFlow", flow.Step("parts", func(ctx context.Context, s *order) error {
		done, err := flow.LoadCheckpoint(ctx, "done")
		if err != nil {
			return err
		}
		for i := len(done); i < s.N; i++ {
			a.Once(flow.IdempotencyKey(ctx) + fmt.Sprint(i)) // whoever was cut off does not read the checkpoint of another
			done = append(done, 'x')
			if err := flow.SaveCheckpoint(ctx, "done", done); err != nil {
				return err
			}
		}
		s.Sum = len(done)
		return nil
	}))
	flowtest.EveryCrash(t, f, nil, flowtest.CrashOptions{Before: a.Reset, Effects: a.Counts})
}

// The items of a foreach may fail if that is tolerated; what of them was begun is another matter each time.
func TestEveryCrashWithTolerance(t *testing.T) {
	t.Parallel()
	for name, limits := range map[string]*workflows.Limits{"direct": nil, "shards": {Tasks: 1, Shard: 2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check := func(_ context.Context, s *order) error {
				if s.Item == 1 {
					return flow.Fail("bad item")
				}
				s.Price = s.Item
				return nil
			}
			other := func(context.Context, *order) error { return nil }
			sum := func(_ context.Context, s *order, in flow.Inputs[order]) error {
				for _, part := range in.All() {
					s.Sum += part.Price
				}
				for i := range in.Failures() {
					s.Trail = append(s.Trail, fmt.Sprint("failed: ", i))
				}
				return nil
			}
			f := flow.New("TolerantFlow",
				flow.Foreach("each", func(*order) []int { return []int{0, 1, 2, 3} }, func(s *order, i int) { s.Item = i },
					flow.Branch("both", flow.Step("check", check), flow.Step("beside", other)).Join("checked", func(_ context.Context, s *order, in flow.Inputs[order]) error {
						return in.Merge(s)
					}),
				).With(flow.Fan{Tolerate: flow.Count(1), OnFailure: flow.FinishAll}).Join("sum", sum))
			flowtest.EveryCrash(t, f, nil, flowtest.CrashOptions{Limits: limits, Sample: 30})
		})
	}
}
