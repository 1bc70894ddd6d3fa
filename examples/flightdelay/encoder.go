package flightdelay

import (
	"math"
	"math/rand/v2"
	"time"

	"gonum.org/v1/gonum/stat"
)

// smoothing is how many average flights each airport's rate of delays is mixed with, so that an airport with three
// flights does not count as one that is always late.
const smoothing = 50

// folds is into how many parts the training flights are dealt to give each of them rates that it had no part in.
const folds = 5

// Encoder turns a flight into the numbers that the model sees. It is learnt from the training flights alone, so that
// nothing about the held-out ones leaks into the model.
type Encoder struct {
	// Names are the features, in the order of the columns.
	Names []string
	// Mean and Scale standardise each feature: (value − mean) / scale.
	Mean, Scale []float64
	// Rates are those of all training flights.
	Rates Rates
}

// Rates are the smoothed shares of delayed flights by airport. An airport that is not there has the rate Base.
type Rates struct {
	Origin, Destination map[string]float64
	Base                float64
}

// Design is what a model is fitted or tested on: one row of standardised features for each flight.
type Design struct {
	// X holds the rows one after the other, Width numbers each.
	X     []float64
	Width int
	// Y is 1 for a delayed flight and 0 for another.
	Y []float64
}

// Row returns the features of flight i.
func (d Design) Row(i int) []float64 { return d.X[i*d.Width : (i+1)*d.Width] }

// Share is the share of delayed flights.
func (d Design) Share() float64 {
	var sum float64
	for _, y := range d.Y {
		sum += y
	}
	return sum / float64(len(d.Y))
}

// split deals n flights into a training and a held-out part, at random but always alike for one seed.
func split(n int, testSize float64, seed int) (train, test []int) {
	order := rand.New(rand.NewPCG(uint64(seed), 0)).Perm(n)
	held := int(math.Round(float64(n) * testSize))
	return order[held:], order[:held]
}

// periods of the day; 5 to 8 h, when few flights are late, is what the others are compared with.
var periods = []struct {
	name     string
	from, to int // hours, to excluded
}{
	{"leaves 0–4 h", 0, 5}, {"leaves 9–12 h", 9, 13}, {"leaves 13–16 h", 13, 17}, {"leaves 17–20 h", 17, 21}, {"leaves 21–23 h", 21, 24},
}

// weekdays but Monday, which they are compared with.
var weekdays = []time.Weekday{time.Tuesday, time.Wednesday, time.Thursday, time.Friday, time.Saturday, time.Sunday}

// learn makes the encoder from the flights of the given rows, at least two, and encodes them.
//
// A flight's own delay is part of its airports' rates. If the model saw those, it would take the rates of small airports
// for better signs than they are for any other flight. So each flight is encoded with rates learnt without its fold.
func learn(f Flights, rows []int) (Encoder, Design) {
	e := Encoder{Names: []string{"distance (log)", "origin's rate of delays", "destination's rate of delays"}, Rates: newRates(f, rows)}
	for _, p := range periods {
		e.Names = append(e.Names, p.name)
	}
	for _, d := range weekdays {
		e.Names = append(e.Names, d.String())
	}

	width := len(e.Names)
	d := Design{Width: width, X: make([]float64, len(rows)*width), Y: make([]float64, len(rows))}
	n := min(folds, len(rows))
	others := make([]int, 0, len(rows))
	for fold := range n {
		others = others[:0]
		for at, i := range rows {
			if at%n != fold {
				others = append(others, i)
			}
		}
		rates := newRates(f, others)
		for at := fold; at < len(rows); at += n {
			copy(d.Row(at), rates.features(f, rows[at]))
			d.Y[at] = target(f, rows[at])
		}
	}

	e.Mean, e.Scale = make([]float64, width), make([]float64, width)
	column := make([]float64, len(rows))
	for j := range width {
		for i := range rows {
			column[i] = d.Row(i)[j]
		}
		e.Mean[j], e.Scale[j] = stat.PopMeanStdDev(column, nil)
		if e.Scale[j] < 1e-12 { // the same for every flight: leave it at zero
			e.Scale[j] = 1
		}
	}
	for i := range rows {
		e.standardise(d.Row(i))
	}
	return e, d
}

func newRates(f Flights, rows []int) Rates {
	r := Rates{Origin: map[string]float64{}, Destination: map[string]float64{}}
	for _, i := range rows {
		r.Base += target(f, i)
	}
	r.Base /= float64(len(rows))
	smooth := func(rates map[string]float64, airports []string) {
		count := map[string]float64{}
		for _, i := range rows {
			count[airports[i]]++
			rates[airports[i]] += target(f, i)
		}
		for a, n := range count {
			rates[a] = (rates[a] + smoothing*r.Base) / (n + smoothing)
		}
	}
	smooth(r.Origin, f.Origin)
	smooth(r.Destination, f.Destination)
	return r
}

// features returns the features of flight i before they are standardised.
func (r Rates) features(f Flights, i int) []float64 {
	row := []float64{math.Log(float64(f.Distance[i])), r.of(r.Origin, f.Origin[i]), r.of(r.Destination, f.Destination[i])}
	left := f.Time(i)
	for _, p := range periods {
		row = append(row, indicator(left.Hour() >= p.from && left.Hour() < p.to))
	}
	for _, d := range weekdays {
		row = append(row, indicator(left.Weekday() == d))
	}
	return row
}

func (r Rates) of(rates map[string]float64, airport string) float64 {
	if rate, ok := rates[airport]; ok {
		return rate
	}
	return r.Base
}

func (e Encoder) standardise(row []float64) {
	for j := range row {
		row[j] = (row[j] - e.Mean[j]) / e.Scale[j]
	}
}

// Encode returns the features of the flights of the given rows, which the encoder was not learnt from.
func (e Encoder) Encode(f Flights, rows []int) Design {
	d := Design{Width: len(e.Names), X: make([]float64, 0, len(rows)*len(e.Names)), Y: make([]float64, 0, len(rows))}
	for _, i := range rows {
		row := e.Rates.features(f, i)
		e.standardise(row)
		d.X = append(d.X, row...)
		d.Y = append(d.Y, target(f, i))
	}
	return d
}

func target(f Flights, i int) float64 { return indicator(f.Late(i)) }

func indicator(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
