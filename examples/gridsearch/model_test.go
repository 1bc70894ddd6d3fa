package gridsearch

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFlowIsSound(t *testing.T) {
	t.Parallel()
	require.NoError(t, Flow().Check())
	require.Equal(t, "GridSearchFlow", Flow().Name())
}

func TestRidgeFindsAPolynomial(t *testing.T) {
	t.Parallel()
	var d Data
	for i := range 40 {
		temperature := coldest + float64(i)
		d.Temperature = append(d.Temperature, temperature)
		d.Demand = append(d.Demand, 5-2*temperature+0.5*temperature*temperature)
	}
	model, err := Candidate{Degree: 2}.fit(d)
	require.NoError(t, err)
	require.InDelta(t, 0, rmse(model, d), 1e-6)
	line, err := Candidate{Degree: 1}.fit(d)
	require.NoError(t, err)
	require.Greater(t, rmse(line, d), 10.0)

	_, err = Candidate{Degree: 32}.fit(d)
	require.ErrorIs(t, err, errIllConditioned)
	_, err = Candidate{Degree: 32, Penalty: 1e-6}.fit(d)
	require.NoError(t, err)
}

func TestNearest(t *testing.T) {
	t.Parallel()
	d := Data{Temperature: []float64{0, 10, 20}, Demand: []float64{1, 3, 8}}
	one, err := Candidate{Neighbours: 1}.fit(d)
	require.NoError(t, err)
	require.InDelta(t, 3, one(11), 0)
	two, err := Candidate{Neighbours: 2}.fit(d)
	require.NoError(t, err)
	require.InDelta(t, 2, two(4), 0)
	_, err = Candidate{Neighbours: 4}.fit(d)
	require.ErrorIs(t, err, errTooFew)
}

func TestAround(t *testing.T) {
	t.Parallel()
	for i, penalty := range []float64{0.01, 1} {
		require.InEpsilon(t, penalty, Candidate{Degree: 2, Penalty: 0.1}.around(1)[i].Penalty, 1e-9)
	}
	require.Equal(t, []Candidate{{Neighbours: 6}, {Neighbours: 10}}, Candidate{Neighbours: 8}.around(0.5))
	require.Equal(t, []Candidate{{Neighbours: 2}}, Candidate{Neighbours: 1}.around(1))
	require.Equal(t, []Candidate{{Degree: 2, Penalty: 1e-8}}, Candidate{Degree: 2}.around(1))
}

func TestDraw(t *testing.T) {
	t.Parallel()
	seed := func(n uint64) Data { return draw(10, rand.New(rand.NewPCG(n, 0))) }
	first := seed(1)
	require.Equal(t, first, seed(1))
	require.NotEqual(t, first, seed(2))
	require.Equal(t, 6, first.part(0, 3).Len())
	require.InDelta(t, 40, demand(18), 0)
}
