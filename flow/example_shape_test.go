package flow_test

import (
	"context"
	"fmt"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

// Training is the state of the examples of shapes.
type Training struct {
	Rows    int
	Numeric []float64
	Text    []float64

	Alphas []float64
	Alpha  float64
	Loss   float64
	Best   float64
	Failed int
}

func load(_ context.Context, s *Training) error {
	s.Rows, s.Alphas = 3, []float64{0.1, 0.5, 2}
	return nil
}

func numeric(_ context.Context, s *Training) error { s.Numeric = make([]float64, s.Rows); return nil }
func text(_ context.Context, s *Training) error    { s.Text = make([]float64, 2*s.Rows); return nil }

func (s *Training) alphas() []float64      { return s.Alphas }
func (s *Training) setAlpha(alpha float64) { s.Alpha = alpha }

func fit(_ context.Context, s *Training) error {
	s.Loss = (s.Alpha - 0.4) * (s.Alpha - 0.4)
	return nil
}

// best keeps the alpha with the smallest loss.
func best(_ context.Context, s *Training, in flow.Inputs[Training]) error {
	s.Loss = 1e9
	for _, item := range in.All() {
		if item.Loss < s.Loss {
			s.Best, s.Loss = item.Alpha, item.Loss
		}
	}
	for i, failure := range in.Failures() {
		s.Failed++
		fmt.Printf("item %d: %s\n", i, failure.Message)
	}
	return nil
}

// merge takes over what both arms have set.
func merge(_ context.Context, s *Training, in flow.Inputs[Training]) error { return in.Merge(s) }

func ExampleBranch() {
	f := flow.New("FeatureFlow",
		flow.Step("load", load),
		flow.Branch("features",
			flow.Step("numeric", numeric),
			flow.Step("text", text, policies.Retry{MaximumAttempts: 3}),
		).Join("merge", merge),
	)
	fmt.Println(f.Check(), f.Plan().Steps())
	// Output:
	// <nil> [load numeric text merge]
}

func ExampleForeach() {
	f := flow.New("GridFlow",
		flow.Step("load", load),
		flow.Foreach("grid", (*Training).alphas, (*Training).setAlpha,
			flow.Step("fit", fit),
		).With(flow.Fan{MaxParallel: 100, Tolerate: flow.Percent(5)}).Join("best", best),
	)
	fmt.Println(f.Check(), f.Plan().Steps())
	// Output:
	// <nil> [load fit best]
}

func ExampleSwitch() {
	report := func(context.Context, *Training) error { return nil }
	verdict := func(s *Training) string {
		if s.Loss < 0.1 {
			return "ship"
		}
		return "too bad"
	}
	f := flow.New("ReleaseFlow",
		flow.Step("fit", fit),
		flow.Switch("good", verdict,
			flow.Case("ship", flow.Step("ship", report), flow.Step("announce", report)),
		).Else(flow.Step("report", report)),
	)
	fmt.Println(f.Check(), f.Plan().Steps())
	// Output:
	// <nil> [fit ship announce report]
}

func ExampleLoop() {
	notConverged := func(s *Training) bool { return s.Loss > 0.001 }
	f := flow.New("TuneFlow",
		flow.Step("load", load),
		flow.Loop("tune", notConverged, flow.Step("tune_once", fit)),
	)
	fmt.Println(f.Check(), f.Plan().Steps())
	// Output:
	// <nil> [load tune_once]
}

// A join is a plain function, too: a test makes its inputs from states. A nil state is an item that failed.
func ExampleNewInputs() {
	in := flow.NewInputs(&Training{},
		&Training{Alpha: 0.1, Loss: 0.09},
		nil,
		&Training{Alpha: 0.5, Loss: 0.01},
	)
	var s Training
	err := best(context.Background(), &s, in)
	fmt.Println(s.Best, s.Loss, s.Failed, err)
	// Output:
	// item 1: item 1 failed
	// 0.5 0.01 1 <nil>
}

func ExampleNewBranches() {
	compare := func(_ context.Context, s *Training, in flow.Inputs[Training]) error {
		s.Best = min(in.Branch("fast").Loss, in.Branch("slow").Loss)
		return nil
	}
	var s Training
	err := compare(context.Background(), &s, flow.NewBranches(&s, []string{"fast", "slow"}, &Training{Loss: 0.3}, &Training{Loss: 0.2}))
	fmt.Println(s.Best, err)
	// Output:
	// 0.2 <nil>
}

func ExampleInputs_Merge() {
	split := Training{Rows: 3}
	in := flow.NewBranches(&split, []string{"numeric", "text"},
		&Training{Rows: 3, Numeric: []float64{1}, Loss: 0.1},
		&Training{Rows: 2, Text: []float64{2}, Loss: 0.2},
	)
	s := split
	fmt.Println(in.Merge(&s))

	s.Loss = max(in.Branch("numeric").Loss, in.Branch("text").Loss) // the join decides
	fmt.Println(in.Merge(&s), s.Rows, s.Numeric, s.Text, s.Loss)
	// Output:
	// merge: inputs do not agree on "Loss" ("numeric" and "text") (set them in the join before Merge, or give them to flow.Exclude)
	// <nil> 2 [1] [2] 0.2
}

func ExampleTolerance() {
	fmt.Println(flow.Percent(5).Of(30), flow.Count(3).Of(30))
	// Output:
	// 1 3
}
