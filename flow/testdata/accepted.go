//go:build ignore

// This file compiles, with every type argument inferred: the counterpart of refused.go.
package accepted

import (
	"context"
	"iter"
	"time"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

type state struct {
	Alphas []float64
	Alpha  float64
	Error  *policies.Failure
}

type verdict string

func (s *state) alphas() []float64  { return s.Alphas }
func (s *state) setAlpha(a float64) { s.Alpha = a }
func (s *state) good() bool         { return s.Alpha > 0 }
func (s *state) verdict() verdict   { return "ship" }
func (s *state) notConverged() bool { return false }

func rows(context.Context, *state) iter.Seq2[row, error] { return nil }

type row struct{ ID int }

func setRow(s *state, r row) { s.Alpha = float64(r.ID) }

func merge(_ context.Context, s *state, in flow.Inputs[state]) error {
	for range in.All() {
	}
	_, _ = in.At(0), in.Branch("a")
	return in.Merge(s, flow.Exclude("Alpha"))
}

func (s *state) step(context.Context) error { return nil }

func step(context.Context, *state) error { return nil }

var _ = flow.New("F",
	flow.Step("a", step, policies.Retry{MaximumAttempts: 4, InitialInterval: 2 * time.Second}),
	flow.Seq(
		flow.Step("b", step, policies.Timeout{Attempt: time.Minute}),
		flow.Step("c", func(ctx context.Context, s *state) error { return s.step(ctx) },
			policies.Catch(func(_ context.Context, s *state, f *policies.Failure) error {
				s.Error = f
				return nil
			})),
	),
)

var _ = flow.New("G",
	flow.Step("load", step),
	flow.Branch("features",
		flow.Step("numeric", step),
		flow.Seq(flow.Step("text", step), flow.Step("embed", step)),
	).Join("merge", merge),
	flow.Foreach("grid", (*state).alphas, (*state).setAlpha,
		flow.Step("fit", step, policies.Retry{MaximumAttempts: 3}),
	).With(flow.Fan{MaxParallel: 100, Tolerate: flow.Percent(5)}).Join("best", merge, policies.Timeout{Total: time.Hour}),
	flow.ForeachStream("rows", rows, setRow,
		flow.Foreach("inner", (*state).alphas, (*state).setAlpha, flow.Step("score", step)).Join("scores", merge),
	).Join("all", merge),
	flow.Switch("verdict", (*state).verdict,
		flow.Case(verdict("ship"), flow.Step("ship", step)),
		flow.Case[state](verdict("skip")),
	).Else(flow.Step("report", step)),
	flow.Switch("good", (*state).good, flow.Case(true, flow.Step("praise", step)), flow.Case[state](false)).OrFail(),
	flow.Switch("size", func(s *state) int { return len(s.Alphas) }, flow.Case(1, flow.Step("one", step))).Else(),
	flow.Loop("tune", (*state).notConverged, flow.Step("tune_once", step)),
	flow.Step("end", step),
)

var _ = merge(context.Background(), &state{}, flow.NewInputs(&state{}, &state{}, nil))

var _ = merge(context.Background(), &state{}, flow.NewBranches(&state{}, []string{"a", "b"}, &state{}, &state{}))
