package cards

import (
	"fmt"
	"image"
	"math"
	"time"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

// sample is a task that shows every part of the default card.
func sample() *flow.CardData {
	start := time.Date(2026, 3, 14, 9, 26, 53, 0, time.UTC)
	at := func(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }
	down := &policies.Failure{Class: policies.Transient, Type: "errorString", Message: "registry: 503 service unavailable", Attempt: 1}
	busy := &policies.Failure{Class: policies.RateLimited, Type: "errorString", Message: "registry: 429 too many requests", RetryAfter: 2 * time.Second, Attempt: 2}

	loss := make([]float64, 40)
	for i := range loss {
		loss[i] = 0.9*math.Exp(-float64(i)/9) + 0.12 + 0.02*math.Sin(float64(i)*1.7)
	}
	var rocX, rocY []float64
	for i := range 101 {
		x := float64(i) / 100
		rocX, rocY = append(rocX, x), append(rocY, math.Pow(x, 0.35))
	}
	var dots, fit, residuals []float64
	for i := range 120 {
		x := float64(i) / 12
		e := math.Sin(float64(i*i)*0.37) * 1.1
		fit, dots, residuals = append(fit, x), append(dots, 0.8*x+1+e), append(residuals, e)
	}
	return &flow.CardData{
		Info: flow.Info{
			Flow: "TrainFlow", Run: "20260314-092650-k7qd", Step: "evaluate", Task: "evaluate", Attempt: 3,
			Origin: "20260313-180211-p2xm", Tags: []string{"nightly", "model=v2"},
		},
		Outcome: "completed",
		Worker:  "worker-1@build-7",
		Started: at(0), Ended: at(9.412),
		Params: []flow.CardValue{
			{Name: "alpha", Type: "float64", Preview: "0.5", Size: 9},
			{Name: "data", Type: "string", Preview: `"s3://warehouse/flights/2026-03.parquet"`, Size: 41},
		},
		Artifacts: []flow.CardValue{
			{Name: "Table", Type: "artifacts.Ref[train.Table]", Preview: "ref of 1.8 MiB", Size: 1_887_436, Digest: "sha256:1f0c"},
			{Name: "AUC", Type: "float64", Preview: "0.7412", Size: 9, Digest: "sha256:ab12", Changed: true},
			{Name: "Classes", Type: "[]string", Preview: `["on time", "delayed", "cancelled", "diverted"]`, Size: 38, Digest: "sha256:9d3e"},
			{Name: "Confusion", Type: "[][]int", Preview: "[[2310, 190], [402, 598]]", Size: 21, Digest: "sha256:77aa", Changed: true},
		},
		Attempts: []flow.CardAttempt{
			{Number: 1, Outcome: "failed", Started: at(0), Ended: at(0.214), Failure: down, Delay: 710 * time.Millisecond, Reason: "exponential 1s, full jitter drew 710ms"},
			{Number: 2, Outcome: "failed", Started: at(0.93), Ended: at(1.018), Failure: busy, Delay: 2 * time.Second, Reason: "asked for 2s by the error"},
			{Number: 3, Outcome: "completed", Started: at(3.02), Ended: at(9.412)},
		},
		Components: []flow.Component{
			Markdown("The new model **beats** the one in use. Details are in the [notebook](https://example.com/notebook).\n\n" +
				"| split | rows |\n|:--|--:|\n| training | 16000 |\n| held out | 4000 |\n"),
			ValueBox{Label: "AUC", Value: 0.7412, Note: "chance: 0.5"},
			ValueBox{Label: "Rows", Value: 20000, Note: "4000 held out"},
			ValueBox{Label: "Slowest batch", Value: 2710 * time.Millisecond},
			ValueBox{Label: "Model", Value: "logistic"},
			Plot{
				Title: "ROC curve", XLabel: "false positive rate", YLabel: "true positive rate", Square: true,
				XRange: Range{Max: 1}, YRange: Range{Max: 1},
				Layers: []Layer{Diagonal("chance"), Line{Name: "model", X: rocX, Y: rocY}},
			},
			Plot{Title: "Loss", XLabel: "epoch", YLabel: "log loss", Layers: []Layer{
				Line{Name: "training", Y: loss},
				Line{Name: "held out", Y: shift(loss, 0.06)},
				AtY("goal", 0.2),
			}},
			Plot{Title: "Fit", XLabel: "x", YLabel: "y", Layers: []Layer{
				Scatter{Name: "measured", X: fit, Y: dots}, Line{Name: "fitted", X: []float64{0, 10}, Y: []float64{1, 9}},
			}},
			Plot{Title: "Residuals", XLabel: "minutes", YLabel: "count", Layers: []Layer{Histogram{Values: residuals, Bins: 12}, AtX("zero", 0)}},
			Plot{Title: "Rows by class", YLabel: "rows", Layers: []Layer{
				Bars{Name: "March", Labels: []string{"on time", "late", "lost"}, Values: []float64{12000, 5400, 310}},
				Bars{Name: "April", Labels: []string{"on time", "late", "lost"}, Values: []float64{12400, 4900, 280}},
			}},
			Plot{Title: "Weights", XLabel: "log odds", Layers: []Layer{
				Bars{Labels: []string{"leaves 17–20 h", "rate of the origin", "rate of the destination", "distance", "Saturday"}, Values: []float64{0.46, 0.27, 0.24, 0.03, -0.11}},
			}},
			Table{Caption: "Coefficients", Columns: []string{"feature", "coefficient", "odds ratio"}, Rows: [][]any{
				{"leaves 17–20 h", 0.4584, 1.5815}, {"rate of the origin", 0.2744, 1.3157}, {"Saturday", -0.1123, 0.8938},
			}},
		},
		Log: []string{
			"09:26:56.020 INFO evaluating rows=4000",
			"09:26:59.871 WARN a batch was slow batch=17 took=2.71s",
			"09:27:02.402 INFO evaluated auc=0.7412",
		},
	}
}

// components is a card with one of each component that sample has not.
func components() *flow.CardData {
	start := time.Date(2026, 3, 14, 9, 26, 53, 0, time.UTC)
	at := func(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }
	bar := &ProgressBar{Label: "Epochs", Total: 40, Unit: "epochs"}
	bar.Set(29)
	counted := &ProgressBar{Label: "Rows"}
	counted.Add(48_211)
	picture := image.NewGray(image.Rect(0, 0, 64, 24))
	for i := range picture.Pix {
		picture.Pix[i] = uint8(i % 64 * 4)
	}
	waves := make([][]float64, 16)
	for i := range waves {
		for j := range 24 {
			waves[i] = append(waves[i], math.Sin(float64(i)/3)*math.Cos(float64(j)/4))
		}
	}
	var rows []map[string]any
	for i := range 24 {
		rows = append(rows, map[string]any{"hour": i, "flights": 40 + 30*math.Sin(float64(i)/4), "kind": []string{"on time", "late"}[i%2]})
	}
	return &flow.CardData{
		Info:    flow.Info{Flow: "TrainFlow", Run: "20260314-092650-k7qd", Step: "inspect", Task: "inspect", Attempt: 1},
		Outcome: "completed", Started: at(0), Ended: at(12.5),
		Components: []flow.Component{
			bar, counted,
			Plot{Title: "Confusion", XLabel: "predicted", YLabel: "true", Layers: []Layer{HeatMap{
				Name: "rows", Columns: []string{"on time", "delayed", "cancelled"}, Rows: []string{"on time", "delayed", "cancelled"},
				Values: [][]float64{{2310, 190, 4}, {402, 598, 11}, {3, 17, 88}},
			}}},
			Plot{Title: "Waves", Layers: []Layer{HeatMap{Values: waves, Diverging: true}}},
			Timeline{Title: "Stages", Spans: []Span{
				{Name: "read", Start: at(0), End: at(2.2), Tone: "good"},
				{Name: "fit", Start: at(2.3), End: at(4), Tone: "bad", Note: "no convergence"},
				{Name: "fit", Start: at(4.5), End: at(11.8), Tone: "good", Note: "with a smaller step"},
				{Name: "write", Start: at(11.8), End: at(12.5)},
			}},
			VegaLite{Title: "Flights by hour", Spec: map[string]any{
				"$schema": "https://vega.github.io/schema/vega-lite/v6.json", "description": "bars of flights by hour", "height": 160,
				"data": map[string]any{"values": rows}, "mark": map[string]any{"type": "bar", "tooltip": true},
				"encoding": map[string]any{
					"x": map[string]any{"field": "hour", "type": "ordinal"}, "y": map[string]any{"field": "flights", "type": "quantitative"},
					"color": map[string]any{"field": "kind", "type": "nominal"},
				},
			}},
			Image{Alt: "a ramp from black to white", Caption: "Exposure", Picture: picture},
			JSON{Title: "Settings", Value: struct {
				Name   string         `json:"name"`
				Layers []int          `json:"layers"`
				More   map[string]any `json:"more"`
			}{"v2", []int{64, 32}, map[string]any{"dropout": 0.1, "seed": nil, "<b>": "a & b"}}},
			Artifact{Name: "Threshold", Value: 0.4375}, Artifact{Name: "Classes", Value: []string{"on time", "late"}},
			Error{Title: "Calibration was skipped", Err: fmt.Errorf("calibrate: %w", &policies.Failure{
				Class: policies.Permanent, Type: "CalibrationError", Message: "fewer than 30 rows", Stack: "goroutine 1 [running]:\nmain.calibrate()",
			})},
			Log{Title: "Output of the solver", Lines: []string{"iter 1 loss 0.91", "\x1b[32miter 2 loss 0.52\x1b[0m"}},
		},
	}
}

// live is a task that runs.
func live() *flow.CardData {
	d := sample()
	d.Outcome, d.Live, d.Ended, d.Artifacts = "", true, time.Time{}, nil
	d.Written, d.Done, d.Total = d.Started.Add(8*time.Second), 1200, 4000
	d.Attempts[2] = flow.CardAttempt{Number: 3, Started: d.Attempts[2].Started}
	d.Components = d.Components[:2]
	return d
}

// failed is a task that ended in a panic.
func failed() *flow.CardData {
	d := sample()
	d.Info.Step, d.Info.Task = "fit", "fit[3]"
	d.Outcome = "failed"
	d.Components = nil
	d.Artifacts = d.Artifacts[:1]
	d.Failure = &policies.Failure{
		Class: policies.Bug, Type: "boundsError", Message: "runtime error: index out of range [3] with length 3", Attempt: 3, CodeFailures: 3, LostAttempts: 1,
		Stack: "goroutine 42 [running]:\ngithub.com/acme/train.fit({0x14a8e60, 0xc0003})\n\t/src/train/fit.go:71 +0x1d4\nruntime.goexit()\n\t/usr/lib/go/src/runtime/asm_amd64.s:1771 +0x1",
	}
	d.Attempts[2] = flow.CardAttempt{Number: 3, Outcome: "failed", Started: d.Attempts[2].Started, Ended: d.Attempts[2].Ended, Failure: d.Failure, Reason: "attempts spent (3 of 3)"}
	return d
}

func shift(values []float64, by float64) []float64 {
	out := make([]float64, len(values))
	for i, v := range values {
		out[i] = v + by
	}
	return out
}
