package flightdelay

import (
	"context"
	"log/slog"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/mat"

	"github.com/stepwell-flows/stepwell/flow"
)

// newton fits the same model another way: by iteratively reweighted least squares, with the Hessian and a Cholesky
// factorisation. It returns the intercept and the weights.
func newton(t *testing.T, d Design) []float64 {
	t.Helper()
	n, p := len(d.Y), d.Width+1
	x := mat.NewDense(n, p, nil)
	for i := range n {
		x.SetRow(i, append([]float64{1}, d.Row(i)...))
	}
	beta := mat.NewVecDense(p, nil)
	for range 100 {
		var eta, gradient, delta mat.VecDense
		eta.MulVec(x, beta)
		residual, weighted := mat.NewVecDense(n, nil), mat.NewDense(n, p, nil)
		for i := range n {
			mu := 1 / (1 + math.Exp(-eta.AtVec(i)))
			residual.SetVec(i, mu-d.Y[i])
			for j := range p {
				weighted.Set(i, j, x.At(i, j)*mu*(1-mu)/float64(n))
			}
		}
		gradient.MulVec(x.T(), residual)
		gradient.ScaleVec(1/float64(n), &gradient)
		var h mat.Dense
		h.Mul(x.T(), weighted)
		hessian := mat.NewSymDense(p, nil)
		for i := range p {
			for j := i; j < p; j++ {
				hessian.SetSym(i, j, h.At(i, j))
			}
		}
		for j := 1; j < p; j++ {
			gradient.SetVec(j, gradient.AtVec(j)+penalty*beta.AtVec(j))
			hessian.SetSym(j, j, hessian.At(j, j)+penalty)
		}
		var factors mat.Cholesky
		require.True(t, factors.Factorize(hessian))
		require.NoError(t, factors.SolveVecTo(&delta, &gradient))
		beta.SubVec(beta, &delta)
		if mat.Norm(&delta, 2) < 1e-12 {
			return beta.RawVector().Data
		}
	}
	require.Fail(t, "Newton's method did not converge")
	return nil
}

func TestFitAgreesWithNewton(t *testing.T) {
	t.Parallel()
	for _, seed := range []int{42, 23} {
		s := finished(t, seed)
		train, err := s.Train.Load(t.Context())
		require.NoError(t, err)
		want := newton(t, train)
		got := append([]float64{s.Model.Intercept}, s.Model.Weights...)
		require.InDeltaSlice(t, want, got, 1e-4)
	}
}

// The metrics, computed from their definitions: accuracy from the four counts, and the area as the share of pairs of a late
// flight and one on time in which the late one has the higher score.
func TestMetricsAgreeWithTheirDefinitions(t *testing.T) {
	t.Parallel()
	s := finished(t, 42)
	heldOut, err := s.HeldOut.Load(t.Context())
	require.NoError(t, err)
	var late, onTime []float64
	right := 0.0
	for i, y := range heldOut.Y {
		z := s.Model.Intercept
		for j, w := range s.Model.Weights {
			z += w * heldOut.X[i*heldOut.Width+j]
		}
		if y == 1 {
			late = append(late, z)
		} else {
			onTime = append(onTime, z)
		}
		if (z >= 0) == (y == 1) {
			right++
		}
	}
	require.InDelta(t, right/float64(len(heldOut.Y)), s.Accuracy, 1e-12)
	require.InDelta(t, pairs(late, onTime), s.AUC, 1e-12)
	require.InDelta(t, float64(len(late))/float64(len(heldOut.Y)), s.BaseRate, 1e-12)

	trapezoids := 0.0
	for i := 1; i < len(s.ROC.TruePositive); i++ {
		trapezoids += (s.ROC.FalsePositive[i] - s.ROC.FalsePositive[i-1]) * (s.ROC.TruePositive[i] + s.ROC.TruePositive[i-1]) / 2
	}
	require.InDelta(t, trapezoids, s.AUC, 1e-12, "the area under the curve that is drawn")
}

// pairs is the share of pairs in which the first is greater; equal ones count half.
func pairs(a, b []float64) float64 {
	wins := 0.0
	for _, x := range a {
		for _, y := range b {
			switch {
			case x > y:
				wins++
			case x == y:
				wins += 0.5
			}
		}
	}
	return wins / float64(len(a)*len(b))
}

func TestAreaWithTies(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		n := 2 + rng.IntN(40)
		scores, y := make([]float64, n), make([]float64, n)
		var late, onTime []float64
		for i := range n {
			scores[i], y[i] = float64(rng.IntN(5))/4, float64(rng.IntN(2))
			if i < 2 {
				y[i] = float64(i)
			}
			if y[i] == 1 {
				late = append(late, scores[i])
			} else {
				onTime = append(onTime, scores[i])
			}
		}
		curve, area, err := roc(scores, y)
		require.NoError(t, err)
		require.InDelta(t, pairs(late, onTime), area, 1e-12, "scores %v of %v", scores, y)
		last := len(curve.TruePositive) - 1
		require.Equal(t, []float64{0, 0, 1, 1}, []float64{curve.FalsePositive[0], curve.TruePositive[0], curve.FalsePositive[last], curve.TruePositive[last]})
		require.LessOrEqual(t, last, 5, "one point for each score")
	}
}

func TestMetricsOfSmallCases(t *testing.T) {
	t.Parallel()
	y := []float64{0, 0, 1, 1}
	for _, test := range []struct {
		scores         []float64
		area, accuracy float64
	}{
		{[]float64{0.1, 0.2, 0.8, 0.9}, 1, 1},
		{[]float64{0.9, 0.8, 0.2, 0.1}, 0, 0},
		{[]float64{0.5, 0.5, 0.5, 0.5}, 0.5, 0.5},
		{[]float64{0.1, 0.7, 0.4, 0.9}, 0.75, 0.5},
	} {
		_, area, err := roc(test.scores, y)
		require.NoError(t, err)
		require.InDelta(t, test.area, area, 0)
		require.InDelta(t, test.accuracy, accuracy(test.scores, y), 0)
	}
	_, _, err := roc([]float64{0.1, math.NaN(), 0.2, 0.3}, y)
	require.ErrorContains(t, err, "the score of flight 1 is not a number")
	_, _, err = roc([]float64{1, 2}, []float64{1, 1})
	require.ErrorIs(t, err, errOneClass)

	scores, late := make([]float64, 30), make([]float64, 30)
	for i := range scores {
		scores[i] = float64(i)
	}
	late[29], late[28], late[3] = 1, 1, 1
	require.InDelta(t, 2.0/3, topShare(scores, late), 1e-15, "two of the three at the top")
	require.InDelta(t, 1, topShare([]float64{0, 1}, []float64{0, 1}), 0, "at least one")
}

// drawn are n flights of three features whose delays follow known weights.
func drawn(seed uint64, n int, weights ...float64) Design {
	rng := rand.New(rand.NewPCG(seed, 0))
	d := Design{Width: len(weights) - 1}
	for range n {
		z := weights[0]
		for _, w := range weights[1:] {
			x := rng.NormFloat64()
			d.X = append(d.X, x)
			z += w * x
		}
		y := 0.0
		if rng.Float64() < 1/(1+math.Exp(-z)) {
			y = 1
		}
		d.Y = append(d.Y, y)
	}
	return d
}

func TestFitFindsKnownWeights(t *testing.T) {
	t.Parallel()
	weights := []float64{-1, 0.8, -0.5, 0}
	m, err := fitModel(t.Context(), drawn(1, 50_000, weights...), nil)
	require.NoError(t, err)
	// A standard error is about 0.012 here.
	require.InDeltaSlice(t, weights, append([]float64{m.Intercept}, m.Weights...), 0.05)
}

// Small and separable data are what an optimiser without regularisation does not end on.
func TestFitConverges(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		n := 2 + int(seed)
		d := drawn(seed, n, -0.5, 3, -3, 1)
		d.Y[0], d.Y[1] = 0, 1
		m, err := fitModel(t.Context(), d, nil)
		require.NoError(t, err, "seed %d, %d flights", seed, n)
		require.Less(t, m.Iterations, maxIterations/2)
		require.InDeltaSlice(t, newton(t, d)[1:], m.Weights, 2e-3, "seed %d, %d flights", seed, n)
	}
}

func TestFitReportsItsProgressAndStops(t *testing.T) {
	t.Parallel()
	s := start()
	s.Train.Set(drawn(1, 500, 0, 1))
	var last int64
	ctx := flow.NewContext(t.Context(), flow.Runtime{Log: slog.New(slog.DiscardHandler), Progress: func(done, _ int64) {
		require.Equal(t, last+1, done)
		last = done
	}})
	require.NoError(t, fit(ctx, s))
	require.GreaterOrEqual(t, last, int64(s.Model.Iterations-1), "the optimiser does not tell of the last one")
	require.Positive(t, last)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, fit(ctx, s), context.Canceled)
}

func TestLogisticAndLossDoNotOverflow(t *testing.T) {
	t.Parallel()
	require.InDelta(t, 0.5, logistic(0), 0)
	require.InDelta(t, 1, logistic(1000), 0)
	require.InDelta(t, 0, logistic(-1000), 0)
	require.InDelta(t, 1-logistic(3), logistic(-3), 1e-15)
	require.InDelta(t, math.Ln2, logLoss(0, 1), 1e-15)
	require.InDelta(t, 1000, logLoss(-1000, 1), 1e-9)
	require.InDelta(t, 0, logLoss(1000, 1), 1e-9)
	require.InDelta(t, -math.Log(logistic(0.7)), logLoss(0.7, 1), 1e-15)
	require.InDelta(t, -math.Log(1-logistic(0.7)), logLoss(0.7, 0), 1e-15)
}
