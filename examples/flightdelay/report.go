package flightdelay

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/stepwell-flows/stepwell/cards"
	"github.com/stepwell-flows/stepwell/flow"
)

// report says on a card what came out, with the figure to compare each number with.
func report(ctx context.Context, s *State) error {
	onTime := 1 - s.BaseRate
	verdict := "The model ranks flights no better than chance."
	if s.AUC > 0.5 {
		verdict = fmt.Sprintf("Of a delayed flight and one on time, the model gives the delayed one the higher probability in **%.0f of 100** cases.", 100*s.AUC)
	}
	flow.Card(ctx).Append(
		cards.Markdown(fmt.Sprintf("Will a flight that leaves now arrive %d minutes or more behind its schedule? Data: %d flights, %s to %s (`%s`); "+
			"the model has not seen the %.3g %% that are held out.\n\n%s Most flights are on time, so accuracy says little: "+
			"always answering “on time” is right for %.1f %%.",
			lateAfter, s.Rows, s.First.Format("2 January 2006"), s.Last.Format("2 January 2006"), strings.ReplaceAll(s.Source, "`", "'"),
			100*s.TestSize, verdict, 100*onTime)),
		cards.ValueBox{Label: "AUC", Value: fmt.Sprintf("%.3f", s.AUC), Note: "chance: 0.500"},
		cards.ValueBox{Label: "Accuracy", Value: fmt.Sprintf("%.1f %%", 100*s.Accuracy), Note: fmt.Sprintf("always “on time”: %.1f %%", 100*onTime)},
		cards.ValueBox{Label: "Delayed", Value: fmt.Sprintf("%.1f %%", 100*s.BaseRate), Note: "of the held-out flights"},
		cards.ValueBox{Label: "Delayed in the top tenth", Value: fmt.Sprintf("%.1f %%", 100*s.TopTenth), Note: "by the model's probability"},
		cards.Plot{
			Title: "ROC curve, held-out flights", XLabel: "share of flights on time called late", YLabel: "share of late flights called late",
			XRange: cards.Range{Max: 1}, YRange: cards.Range{Max: 1}, Square: true,
			Layers: []cards.Layer{
				cards.Diagonal("chance"),
				cards.Line{Name: fmt.Sprintf("model (AUC %.3f)", s.AUC), X: s.ROC.FalsePositive, Y: s.ROC.TruePositive},
			},
		},
		weightPlot(s),
		weightTable(s),
	)
	return nil
}

// byWeight orders the features by what they do to the prediction, the strongest first.
func byWeight(s *State) []int {
	order := make([]int, len(s.Model.Weights))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(math.Abs(s.Model.Weights[b]), math.Abs(s.Model.Weights[a]))
	})
	return order
}

func weightPlot(s *State) cards.Plot {
	var bars cards.Bars
	for _, i := range byWeight(s) {
		bars.Labels = append(bars.Labels, s.Encoder.Names[i])
		bars.Values = append(bars.Values, s.Model.Weights[i])
	}
	return cards.Plot{Title: "What makes a delay more likely", XLabel: "log odds for one standard deviation", Layers: []cards.Layer{bars}}
}

func weightTable(s *State) cards.Table {
	t := cards.Table{
		Caption: "Coefficients",
		Columns: []string{"feature", "coefficient", "odds ratio", "mean", "standard deviation"},
	}
	for _, i := range byWeight(s) {
		w := s.Model.Weights[i]
		t.Rows = append(t.Rows, []any{s.Encoder.Names[i], fmt.Sprintf("%+.3f", w), fmt.Sprintf("%.3f", math.Exp(w)), s.Encoder.Mean[i], s.Encoder.Scale[i]})
	}
	return t
}
