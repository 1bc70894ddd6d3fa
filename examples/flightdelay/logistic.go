package flightdelay

import (
	"context"
	"errors"
	"fmt"
	"math"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/optimize"
)

// penalty is the strength of the L2 regularisation. What is minimised is the mean log loss of the training flights plus
// penalty/2 times the sum of the squared weights; the intercept is free.
const penalty = 1e-3

// flat is the size of the gradient at which the weights count as found: they are then good to about four decimals. The
// loss is a sum over all flights, and much below this its rounding hides the way down from the optimiser.
const flat = 1e-6

// maxIterations is far more than the fit needs.
const maxIterations = 500

// errOneClass says that there is nothing to tell apart.
var errOneClass = errors.New("all flights are alike")

// Model is a logistic regression over standardised features.
type Model struct {
	// Intercept is the log odds of a delay for a flight that is average in everything.
	Intercept float64
	// Weights are what one standard deviation of each feature adds to the log odds.
	Weights []float64
	// Iterations are the steps that the optimiser took.
	Iterations int
}

// Probability is the model's probability that a flight with these features is delayed.
func (m Model) Probability(features []float64) float64 {
	return logistic(m.Intercept + floats.Dot(m.Weights, features))
}

// logistic is 1/(1+e⁻ᶻ), without overflow.
func logistic(z float64) float64 {
	if z >= 0 {
		return 1 / (1 + math.Exp(-z))
	}
	e := math.Exp(z)
	return e / (1 + e)
}

// logLoss is the loss of log odds z for a flight with target y: log(1+eᶻ) − yz, without overflow.
func logLoss(z, y float64) float64 {
	return math.Max(z, 0) + math.Log1p(math.Exp(-math.Abs(z))) - y*z
}

// fitModel finds the weights by L-BFGS. It stops early, with the context's error, when the context ends. The function
// watch, if there is one, is told the number of each finished iteration.
func fitModel(ctx context.Context, d Design, watch func(iteration int)) (Model, error) {
	if s := d.Share(); s == 0 || s == 1 {
		return Model{}, fmt.Errorf("%w: the share of delayed flights to learn from is %g", errOneClass, s)
	}
	n := float64(len(d.Y))
	problem := optimize.Problem{
		// x is the intercept and then the weights.
		Func: func(x []float64) float64 {
			loss := 0.0
			for i, y := range d.Y {
				loss += logLoss(x[0]+floats.Dot(x[1:], d.Row(i)), y)
			}
			return loss/n + penalty/2*floats.Dot(x[1:], x[1:])
		},
		Grad: func(grad, x []float64) {
			clear(grad)
			for i, y := range d.Y {
				row := d.Row(i)
				residual := (logistic(x[0]+floats.Dot(x[1:], row)) - y) / n
				grad[0] += residual
				floats.AddScaled(grad[1:], residual, row)
			}
			floats.AddScaled(grad[1:], penalty, x[1:])
		},
	}
	settings := &optimize.Settings{
		GradientThreshold: flat,
		MajorIterations:   maxIterations,
		Converger:         optimize.NeverTerminate{}, // the gradient decides
		Recorder:          recorder{ctx, watch},
	}
	start := make([]float64, d.Width+1)
	result, err := optimize.Minimize(problem, start, settings, &optimize.LBFGS{})
	if err != nil {
		return Model{}, fmt.Errorf("minimise the loss: %w", err)
	}
	if result.Status != optimize.GradientThreshold {
		return Model{}, fmt.Errorf("minimise the loss: stopped after %d iterations: %v", result.MajorIterations, result.Status)
	}
	return Model{Intercept: result.X[0], Weights: result.X[1:], Iterations: result.MajorIterations}, nil
}

// recorder carries the context into the optimiser and the progress out of it.
type recorder struct {
	ctx   context.Context //nolint:containedctx // the optimiser's interface takes no context
	watch func(iteration int)
}

// Init implements [optimize.Recorder].
func (recorder) Init() error { return nil }

// Record implements [optimize.Recorder].
func (r recorder) Record(_ *optimize.Location, op optimize.Operation, stats *optimize.Stats) error {
	if op == optimize.MajorIteration && r.watch != nil {
		r.watch(stats.MajorIterations)
	}
	return r.ctx.Err()
}
