// Package gallery is GalleryFlow: every component that a card can have, and cards that are written while the step runs.
//
//	starter run GalleryFlow --epochs 60
//	starter card GalleryFlow/latest/train --open           while it runs, and after
//	starter card GalleryFlow/latest/show default --open
package gallery

import (
	"context"
	"fmt"
	"image"
	"image/color"
	"math"
	"time"

	"github.com/stepwell-flows/stepwell/cards"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

// State is what the steps share.
type State struct {
	Epochs int           `param:"epochs" default:"20" help:"how many epochs the training pretends to have"`
	Pause  time.Duration `param:"pause" default:"50ms" help:"how long each of them takes"`

	Loss   []float64
	Stages []cards.Span
}

// Flow is GalleryFlow.
func Flow() *flow.Flow {
	return flow.New("GalleryFlow",
		flow.Step("train", train, cards.Default(), cards.New("curve")),
		flow.Step("show", show, cards.Default()),
	)
}

// train shows how far it is while it runs.
func train(ctx context.Context, s *State) error {
	bar := &cards.ProgressBar{Label: "Epochs", Total: int64(s.Epochs)}
	flow.Card(ctx).Append(bar)
	for epoch := range s.Epochs {
		started := time.Now()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(s.Pause):
		}
		s.Loss = append(s.Loss, 0.9*math.Exp(-float64(epoch)/9)+0.1)
		s.Stages = append(s.Stages, cards.Span{Name: fmt.Sprintf("epochs %d to %d", epoch/5*5, epoch/5*5+4), Start: started, End: time.Now()})
		bar.Set(int64(epoch + 1))
		// What is on a card already must not change, so the chart gets a copy of what grows.
		flow.CardNamed(ctx, "curve").Put("loss", cards.Plot{
			Title: "Loss", XLabel: "epoch", Layers: []cards.Layer{cards.Line{Name: "training", Y: append([]float64(nil), s.Loss...)}},
		})
		flow.Card(ctx).Refresh()
	}
	return nil
}

// show has one of each of the rest.
func show(ctx context.Context, s *State) error {
	var points []map[string]any
	for epoch, loss := range s.Loss {
		points = append(points, map[string]any{"epoch": epoch, "loss": loss})
	}
	var correlations [][]float64
	picture := image.NewRGBA(image.Rect(0, 0, 160, 60))
	for y := range 60 {
		for x := range 160 {
			picture.Set(x, y, color.RGBA{uint8(x), uint8(4 * y), 160, 255})
		}
	}
	for i := range 8 {
		var row []float64
		for j := range 8 {
			row = append(row, math.Round(100*math.Cos(float64(i-j)/2))/100)
		}
		correlations = append(correlations, row)
	}
	last := 0.0
	if n := len(s.Loss); n > 0 {
		last = s.Loss[n-1]
	}
	flow.Card(ctx).Append(
		cards.Markdown("Every component on **one** card. This one is `cards.Markdown`."),
		cards.ValueBox{Label: "Last loss", Value: last},
		cards.ValueBox{Label: "Epochs", Value: len(s.Loss)},
		cards.VegaLite{Title: "Loss by epoch", Spec: map[string]any{
			"data": map[string]any{"values": points}, "height": 180, "mark": map[string]any{"type": "area", "tooltip": true, "opacity": 0.7},
			"encoding": map[string]any{
				"x": map[string]any{"field": "epoch", "type": "quantitative"}, "y": map[string]any{"field": "loss", "type": "quantitative"},
			},
		}},
		cards.Plot{Title: "Correlations", Layers: []cards.Layer{cards.HeatMap{Name: "r", Values: correlations, Diverging: true}}},
		cards.Plot{Title: "Losses", XLabel: "loss", YLabel: "epochs", Layers: []cards.Layer{cards.Histogram{Values: s.Loss}, cards.AtX("goal", 0.2)}},
		cards.Timeline{Title: "Stages", Spans: s.Stages},
		cards.Table{Caption: "Splits", Columns: []string{"split", "rows"}, Rows: [][]any{{"training", 16000}, {"held out", 4000}}},
		cards.Image{Alt: "a gradient from blue to pink", Caption: "A picture", Picture: picture},
		cards.JSON{Title: "Settings", Value: map[string]any{"epochs": s.Epochs, "pause": s.Pause.String(), "layers": []int{64, 32}}},
		cards.Artifact{Name: "Loss", Value: s.Loss},
		cards.Error{Title: "An error that was dealt with", Err: &policies.Failure{Class: policies.Transient, Type: "HTTPError", Message: "503 from the registry", Stack: "goroutine 1 [running]:\nmain.main()"}},
		cards.Log{Title: "Output of a solver", Lines: []string{"iteration 1: 0.91", "iteration 2: 0.52"}},
	)
	return nil
}
