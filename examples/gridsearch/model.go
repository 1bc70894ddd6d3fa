package gridsearch

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/mat"
)

// Data are days: the temperature in °C and the power demand in MW.
type Data struct{ Temperature, Demand []float64 }

// Len is the number of days.
func (d Data) Len() int { return len(d.Temperature) }

// part is the days from and up to so many fifths of all.
func (d Data) part(from, to int) Data {
	from, to = d.Len()*from/5, d.Len()*to/5
	return Data{d.Temperature[from:to], d.Demand[from:to]}
}

const coldest, hottest = -10.0, 35.0

// demand is the truth behind the data: heating below 15 °C, cooling above 22 °C.
func demand(t float64) float64 { return 40 + 1.2*max(0, 15-t) + 1.8*max(0, t-22) }

// draw makes up days.
func draw(n int, chance *rand.Rand) Data {
	var d Data
	for range n {
		t := coldest + (hottest-coldest)*chance.Float64()
		d.Temperature = append(d.Temperature, t)
		d.Demand = append(d.Demand, demand(t)+3*chance.NormFloat64())
	}
	return d
}

// Candidate is a model that may be fitted: a polynomial, or a mean over neighbours.
type Candidate struct {
	Degree  int
	Penalty float64 // on the squares of the coefficients

	Neighbours int // 0 for a polynomial
}

// String is for people.
func (c Candidate) String() string {
	if c.Neighbours > 0 {
		return fmt.Sprintf("nearest %d", c.Neighbours)
	}
	return fmt.Sprintf("degree %d, penalty %.3g", c.Degree, c.Penalty)
}

// around are the candidates at a distance: a power of ten of the penalty, a number of neighbours.
func (c Candidate) around(step float64) []Candidate {
	less, more := c, c
	switch {
	case c.Neighbours > 0:
		by := max(1, int(step*float64(c.Neighbours)/2))
		less.Neighbours, more.Neighbours = c.Neighbours-by, c.Neighbours+by
		if less.Neighbours < 1 {
			return []Candidate{more}
		}
	case c.Penalty == 0:
		return []Candidate{{Degree: c.Degree, Penalty: 1e-8}}
	default:
		less.Penalty, more.Penalty = c.Penalty*math.Pow(10, -step), c.Penalty*math.Pow(10, step)
	}
	return []Candidate{less, more}
}

// predict is a fitted model.
type predict func(temperature float64) float64

func (c Candidate) fit(d Data) (predict, error) {
	if c.Neighbours > 0 {
		return nearest(c.Neighbours, d)
	}
	return ridge(c.Degree, c.Penalty, d)
}

var errTooFew = errors.New("there are fewer days")

// nearest predicts the mean demand of the k days with the nearest temperature.
func nearest(k int, d Data) (predict, error) {
	if k > d.Len() {
		return nil, fmt.Errorf("%w: %d", errTooFew, d.Len())
	}
	return func(t float64) float64 {
		days := make([]int, d.Len())
		for i := range days {
			days[i] = i
		}
		slices.SortStableFunc(days, func(a, b int) int {
			return cmp.Compare(math.Abs(d.Temperature[a]-t), math.Abs(d.Temperature[b]-t))
		})
		sum := 0.0
		for _, i := range days[:k] {
			sum += d.Demand[i]
		}
		return sum / float64(k)
	}, nil
}

var errIllConditioned = errors.New("its equations are too close to singular (give it a penalty)")

// ridge fits a polynomial by least squares with a penalty.
func ridge(degree int, penalty float64, d Data) (predict, error) {
	n := float64(d.Len())
	left, right := mat.NewSymDense(degree+1, nil), mat.NewVecDense(degree+1, nil)
	for i, t := range d.Temperature {
		p := powers(degree, t)
		left.SymRankOne(left, 1/n, p)
		right.AddScaledVec(right, d.Demand[i]/n, p)
	}
	for k := 1; k <= degree; k++ { // the mean is free
		left.SetSym(k, k, left.At(k, k)+penalty)
	}
	var equations mat.Cholesky
	if !equations.Factorize(left) || equations.Cond() > 1e10 {
		return nil, errIllConditioned
	}
	var weights mat.VecDense
	if err := equations.SolveVecTo(&weights, right); err != nil {
		return nil, err
	}
	return func(t float64) float64 { return mat.Dot(&weights, powers(degree, t)) }, nil
}

// powers of the temperature, brought to -1 to 1.
func powers(degree int, t float64) *mat.VecDense {
	x := 2*(t-coldest)/(hottest-coldest) - 1
	p := mat.NewVecDense(degree+1, nil)
	for k, power := 0, 1.0; k <= degree; k, power = k+1, power*x {
		p.SetVec(k, power)
	}
	return p
}

// rmse is the root of the mean squared error, in MW.
func rmse(model predict, d Data) float64 {
	sum := 0.0
	for i, t := range d.Temperature {
		e := model(t) - d.Demand[i]
		sum += e * e
	}
	return math.Sqrt(sum / float64(d.Len()))
}
