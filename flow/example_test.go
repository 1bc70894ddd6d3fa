package flow_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

type Order struct {
	Amount  int `param:"amount" default:"100" help:"cents to charge"`
	Receipt string
	Error   *policies.Failure
}

func charge(_ context.Context, s *Order) error {
	if s.Amount <= 0 {
		return flow.Fail("cannot charge %d cents", s.Amount)
	}
	s.Receipt = fmt.Sprintf("charged %d", s.Amount)
	return nil
}

func mail(context.Context, *Order) error { return errors.New("no mail server") }

func ExampleNew() {
	f := flow.New("OrderFlow",
		flow.Step("charge", charge, policies.Retry{MaximumAttempts: 4, InitialInterval: 2 * time.Second}),
		flow.Step("mail", mail, policies.Catch(func(_ context.Context, s *Order, f *policies.Failure) error {
			s.Error = f
			return nil
		})),
	)
	fmt.Println(f.Check())
	fmt.Println(f.Plan().Steps())
	// Output:
	// <nil>
	// [charge mail]
}

// A step is a plain function: a test needs no server.
func ExampleStep() {
	s := Order{Amount: 250}
	err := charge(context.Background(), &s)
	fmt.Println(s.Receipt, err)
	// Output:
	// charged 250 <nil>
}

func ExampleSeq() {
	paid := flow.Seq(flow.Step("charge", charge), flow.Step("mail", mail)) // used by several flows
	f := flow.New("GiftFlow", paid, flow.Step("wrap", func(context.Context, *Order) error { return nil }))
	fmt.Println(f.Plan().Steps(), f.Check())
	// Output:
	// [charge mail wrap] <nil>
}

// Check tells every mistake, not only the first.
func ExampleFlow_Check() {
	f := flow.New("OrderFlow",
		flow.Step("charge/card", charge),
		flow.Step("mail", mail, policies.Retry{InitialInterval: 5}),
		flow.Step("mail", mail),
	)
	fmt.Println(f.Check())
	// Output:
	// flow "OrderFlow": step name "charge/card" is not allowed (use a letter, then up to 63 letters, digits, _ or -)
	// flow "OrderFlow": step "mail": retry sets InitialInterval but not MaximumAttempts, so there is one attempt only (set MaximumAttempts, the first try included)
	// flow "OrderFlow": step "mail": retry: InitialInterval is 5ns (a number needs a unit, such as 5*time.Second)
	// flow "OrderFlow": two steps are named "mail" (rename one)
}

func ExampleParam() {
	type Training struct {
		Alpha  float64       `param:"alpha" default:"0.5" help:"learning rate"`
		Budget time.Duration `param:"time-budget" default:"1h"`
		Layers []int         `param:"layers" default:"[64,32]"`
		Bucket string        `param:"bucket" required:"true"`
	}
	f := flow.New("TrainFlow", flow.Step("train", func(context.Context, *Training) error { return nil }))
	for _, p := range f.Params() {
		fmt.Println(p.Name, p.Kind, p.Env())
	}

	values, err := f.ResolveParams(map[string]string{"bucket": "b", "time_budget": "90s"}, nil)
	fmt.Println(values, err)
	s := f.NewState().(*Training)
	fmt.Println(f.SetParams(s, values), s.Alpha, s.Budget, s.Layers, s.Bucket)

	_, err = f.ResolveParams(map[string]string{"alpha": "high", "aplha": "1"}, nil)
	fmt.Println(err)
	// Output:
	// alpha float STEPWELL_RUN_ALPHA
	// time-budget duration STEPWELL_RUN_TIME_BUDGET
	// layers json STEPWELL_RUN_LAYERS
	// bucket string STEPWELL_RUN_BUCKET
	// map[alpha:0.5 bucket:b layers:[64,32] time-budget:90s] <nil>
	// <nil> 0.5 1m30s [64 32] b
	// parameter "alpha": "high" is not a number of 64 bits
	// parameter "bucket" is required (set --bucket or STEPWELL_RUN_BUCKET)
	// flow "TrainFlow" has no parameter "aplha" (it has alpha, time-budget, layers, bucket)
}

func ExampleIdempotencyKey() {
	// What the worker gives the first attempt, and the second one in a resumed run.
	first := flow.NewContext(context.Background(), flow.Runtime{Info: flow.Info{Flow: "OrderFlow", Run: "a", Root: "a", Step: "charge", Attempt: 1}})
	again := flow.NewContext(context.Background(), flow.Runtime{Info: flow.Info{Flow: "OrderFlow", Run: "b", Root: "a", Step: "charge", Attempt: 2}})

	fmt.Println(flow.IdempotencyKey(first))
	fmt.Println(flow.IdempotencyKey(again) == flow.IdempotencyKey(first))
	// Output:
	// 8a79910d76c653c34f3223bfed676f1c
	// true
}

func ExampleFail() {
	err := charge(context.Background(), &Order{Amount: -5})
	fmt.Println(err)

	spec := policies.NewSpec(&policies.Retry{MaximumAttempts: 9}, nil, nil)
	fmt.Println(spec.Decide(policies.Classify(err), err, nil, 1, nil).Reason)
	// Output:
	// cannot charge -5 cents
	// class Permanent is not retried
}

func ExampleTransient() {
	err := fmt.Errorf("load prices: %w", flow.Transient(errors.New("the exchange is opening")))
	f := policies.Classify(err)
	fmt.Println(f.Class, f.Message)
	// Output:
	// Transient load prices: the exchange is opening
}

func ExampleRetryAfter() {
	err := flow.RetryAfter(errors.New("429 Too Many Requests"), 30*time.Second)

	spec := policies.NewSpec(&policies.Retry{MaximumAttempts: 2, Jitter: policies.NoJitter}, nil, nil)
	fmt.Println(spec.Decide(policies.Classify(err), err, nil, 1, nil).Reason)
	// Output:
	// asked for 30s by the error
}

func ExampleCurrent() {
	step := func(ctx context.Context, s *Order) error {
		if flow.Current(ctx).Previous != nil {
			s.Receipt = "at last, in attempt " + fmt.Sprint(flow.Current(ctx).Attempt)
		}
		return nil
	}
	ctx := flow.NewContext(context.Background(), flow.Runtime{Info: flow.Info{Attempt: 2, Previous: &policies.Failure{Message: "no mail server"}}})
	var s Order
	fmt.Println(step(ctx, &s), s.Receipt)
	// Output:
	// <nil> at last, in attempt 2
}
