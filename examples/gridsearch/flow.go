package gridsearch

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/stepwell-flows/stepwell/cards"
	"github.com/stepwell-flows/stepwell/flow"
)

// State is what the steps share.
type State struct {
	Seed      int     `param:"seed" default:"2" help:"seed of the data"`
	Rows      int     `param:"rows" default:"300" help:"how many days of data"`
	ShipBelow float64 `param:"ship_below" default:"3.5" help:"ship the model if its error on the test rows is below this, in MW"`

	// set by load
	Train, Valid, Test Data

	// of one item of a grid
	Candidate Candidate // bound to it
	Loss      float64   // on the validation rows

	// set by the joins of the grids, and taken over by choose
	Polynomials, Neighbours Search

	// set by choose, and by every turn of the loop
	Best     Candidate
	BestLoss float64
	Step     float64   // how far from the best the next turn looks; 0 when tuning is over
	Path     []float64 // the loss after each turn

	TestLoss float64 // set by evaluate
	Verdict  string  // set by ship or report
}

// Search is what came out of one grid.
type Search struct {
	Scores []Score // in the order of the grid
	Failed []Failed
	Best   Score
}

// Score is a candidate with its error.
type Score struct {
	Candidate Candidate
	Loss      float64
}

// Failed is a candidate that could not be fitted.
type Failed struct {
	Candidate Candidate
	Why       string
}

// Flow is GridSearchFlow.
func Flow() *flow.Flow {
	return flow.New("GridSearchFlow",
		flow.Step("load", load),
		flow.Branch("families",
			flow.Foreach("polynomials", (*State).polynomials, (*State).try,
				flow.Step("fit_polynomial", fit),
			).With(flow.Fan{MaxParallel: 8, Tolerate: flow.Percent(10)}).Join("best_polynomial", bestPolynomial),
			flow.Foreach("neighbours", (*State).neighbours, (*State).try,
				flow.Step("fit_neighbours", fit),
			).Join("best_neighbours", bestNeighbours),
		).Join("choose", choose),
		flow.Loop("tune", (*State).tuning,
			flow.Step("tune_once", tuneOnce),
		),
		flow.Step("evaluate", evaluate),
		flow.Switch("quality", (*State).good,
			flow.Case(true, flow.Step("ship", ship)),
		).Else(flow.Step("report", report)),
		flow.Step("summarize", summarize, cards.Default()),
	)
}

func load(ctx context.Context, s *State) error {
	if s.Rows < 20 {
		return flow.Fail("parameter rows is %d (give 20 or more)", s.Rows)
	}
	all := draw(s.Rows, rand.New(rand.NewPCG(uint64(s.Seed), 0)))
	s.Train, s.Valid, s.Test = all.part(0, 3), all.part(3, 4), all.part(4, 5)
	flow.Log(ctx).Info("drawn", "train", s.Train.Len(), "valid", s.Valid.Len(), "test", s.Test.Len())
	return nil
}

// polynomials is a grid over degree and penalty.
func (s *State) polynomials() []Candidate {
	var grid []Candidate
	for _, degree := range []int{1, 2, 4, 8, 16, 32} {
		for _, penalty := range []float64{0, 1e-6, 1e-4, 1e-2, 1} {
			grid = append(grid, Candidate{Degree: degree, Penalty: penalty})
		}
	}
	return grid
}

func (s *State) neighbours() []Candidate {
	var grid []Candidate
	for k := 1; k <= s.Train.Len(); k *= 2 {
		grid = append(grid, Candidate{Neighbours: k})
	}
	return grid
}

// try binds an item to the state that its task starts from.
func (s *State) try(c Candidate) { s.Candidate = c }

// fit scores one candidate. Both grids use it, under names of their own.
func fit(ctx context.Context, s *State) error {
	model, err := s.Candidate.fit(s.Train)
	if err != nil {
		return flow.Fail("fit %s: %w", s.Candidate, err) // another attempt would give the same
	}
	s.Loss = rmse(model, s.Valid)
	flow.Log(ctx).Info("scored", "candidate", s.Candidate.String(), "rmse", s.Loss)
	return nil
}

func bestPolynomial(ctx context.Context, s *State, in flow.Inputs[State]) (err error) {
	s.Polynomials, err = collect(ctx, in, s.polynomials())
	return err
}

func bestNeighbours(ctx context.Context, s *State, in flow.Inputs[State]) (err error) {
	s.Neighbours, err = collect(ctx, in, s.neighbours())
	return err
}

// collect goes through the items of a grid: those with a score, and those whose failure was tolerated.
func collect(ctx context.Context, in flow.Inputs[State], grid []Candidate) (Search, error) {
	var found Search
	for _, item := range in.All() {
		score := Score{item.Candidate, item.Loss}
		if len(found.Scores) == 0 || score.Loss < found.Best.Loss {
			found.Best = score
		}
		found.Scores = append(found.Scores, score)
	}
	for i, failure := range in.Failures() {
		found.Failed = append(found.Failed, Failed{grid[i], failure.Message})
		flow.Log(ctx).Warn("left out", "candidate", grid[i].String(), "why", failure.Message)
	}
	if len(found.Scores) == 0 {
		return found, flow.Fail("no candidate of %d could be fitted", in.Len())
	}
	return found, nil
}

// choose brings the two families together. Each arm has set its own Search, so there is nothing to disagree on.
func choose(ctx context.Context, s *State, in flow.Inputs[State]) error {
	if err := in.Merge(s, flow.Include("Polynomials", "Neighbours")); err != nil {
		return err
	}
	best := s.Polynomials.Best
	if s.Neighbours.Best.Loss < best.Loss {
		best = s.Neighbours.Best
	}
	s.Best, s.BestLoss, s.Step = best.Candidate, best.Loss, 1
	flow.Log(ctx).Info("chosen", "candidate", s.Best.String(), "rmse", s.BestLoss)
	return nil
}

// tuning is the loop's condition.
func (s *State) tuning() bool { return s.Step > 0.1 && len(s.Path) < 30 }

// tuneOnce tries the candidates on both sides of the best one, and moves there or looks closer.
func tuneOnce(ctx context.Context, s *State) error {
	moved := false
	for _, c := range s.Best.around(s.Step) {
		model, err := c.fit(s.Train)
		if err != nil {
			continue // beyond what can be fitted
		}
		if loss := rmse(model, s.Valid); loss < s.BestLoss {
			s.Best, s.BestLoss, moved = c, loss, true
		}
	}
	if !moved {
		s.Step /= 2
	}
	s.Path = append(s.Path, s.BestLoss)
	flow.Log(ctx).Info("tuned", "candidate", s.Best.String(), "rmse", s.BestLoss, "step", s.Step)
	return nil
}

func evaluate(ctx context.Context, s *State) error {
	model, err := s.Best.fit(s.Train)
	if err != nil {
		return flow.Fail("fit %s: %w", s.Best, err)
	}
	s.TestLoss = rmse(model, s.Test)
	flow.Log(ctx).Info("evaluated", "candidate", s.Best.String(), "rmse", s.TestLoss)
	return nil
}

// good is the switch's selector.
func (s *State) good() bool { return s.TestLoss < s.ShipBelow }

func ship(_ context.Context, s *State) error {
	s.Verdict = fmt.Sprintf("shipped: %s", s.Best)
	return nil
}

func report(_ context.Context, s *State) error {
	s.Verdict = fmt.Sprintf("not shipped: an error of %.2f MW is not below %.2f MW", s.TestLoss, s.ShipBelow)
	return nil
}
