package gridsearch

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/stepwell-flows/stepwell/cards"
	"github.com/stepwell-flows/stepwell/flow"
)

// summarize says on a card what the search found.
func summarize(ctx context.Context, s *State) error {
	model, err := s.Best.fit(s.Train)
	if err != nil {
		return flow.Fail("fit %s: %w", s.Best, err)
	}
	scores := slices.Concat(s.Polynomials.Scores, s.Neighbours.Scores)
	failed := slices.Concat(s.Polynomials.Failed, s.Neighbours.Failed)
	slices.SortStableFunc(scores, func(a, b Score) int { return cmp.Compare(a.Loss, b.Loss) })
	tried := cards.Table{Caption: "All candidates", Columns: []string{"candidate", "error on the validation rows, MW"}}
	var bars cards.Bars
	for i, score := range scores {
		tried.Rows = append(tried.Rows, []any{score.Candidate.String(), fmt.Sprintf("%.3f", score.Loss)})
		if i < 12 {
			bars.Labels, bars.Values = append(bars.Labels, score.Candidate.String()), append(bars.Values, score.Loss)
		}
	}
	left := cards.Table{Caption: "Candidates that could not be fitted, and were tolerated", Columns: []string{"candidate", "why"}}
	for _, f := range failed {
		left.Rows = append(left.Rows, []any{f.Candidate.String(), f.Why})
	}
	curve := cards.Line{Name: s.Best.String()}
	for t := coldest; t <= hottest; t += 0.5 {
		curve.X, curve.Y = append(curve.X, t), append(curve.Y, model(t))
	}
	card := flow.Card(ctx)
	card.Append(
		cards.Markdown("**"+s.Verdict+"**"),
		cards.ValueBox{Label: "Error on test rows, MW", Value: fmt.Sprintf("%.2f", s.TestLoss), Note: fmt.Sprintf("to ship: below %.2f", s.ShipBelow)},
		cards.ValueBox{Label: "Candidates", Value: len(scores) + len(failed), Note: fmt.Sprintf("%d could not be fitted", len(failed))},
		cards.ValueBox{Label: "Turns of tuning", Value: len(s.Path), Note: fmt.Sprintf("error on validation rows: %.3f", s.BestLoss)},
		cards.Markdown("Errors are roots of mean squared errors. The noise of the data alone makes one of 3 MW."),
		cards.Plot{Title: "The best of the grids", XLabel: "error on the validation rows, MW", Layers: []cards.Layer{bars}},
		cards.Plot{
			Title: "The model and the test rows", XLabel: "temperature, °C", YLabel: "demand, MW",
			Layers: []cards.Layer{cards.Scatter{Name: "days", X: s.Test.Temperature, Y: s.Test.Demand}, curve},
		},
		tried,
	)
	if len(failed) > 0 {
		card.Append(left)
	}
	return nil
}
