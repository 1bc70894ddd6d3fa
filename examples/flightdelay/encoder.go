package flightdelay

import (
	"math"
	"math/rand/v2"
	"time"
)

// smoothing is how many average flights each airport's rate of delays is mixed with, so that an airport with three
// flights does not count as one that is always late.
const smoothing = 50

// Encoder turns a flight into the numbers that the model sees. It is learnt from the training flights alone, so that
// nothing about the held-out ones leaks into the model.
type Encoder struct {
	// Names are the features, in the order of the columns.
	Names []string
	// Mean and Scale standardise each feature: (value − mean) / scale.
	Mean, Scale []float64
	// OriginRate and DestinationRate are the airports' smoothed shares of delayed flights; an airport that is not
	// there has BaseRate.
	OriginRate, DestinationRate map[string]float64
	BaseRate                    float64
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
	order := rand.New(rand.NewPCG(uint64(seed), 0)).Perm(n) //nolint:gosec // a split that can be repeated is the point
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

// newEncoder learns from the flights of the given rows.
func newEncoder(f Flights, rows []int) Encoder {
	e := Encoder{OriginRate: map[string]float64{}, DestinationRate: map[string]float64{}}
	late := 0.0
	for _, i := range rows {
		late += target(f, i)
	}
	e.BaseRate = late / float64(len(rows))
	rates(e.OriginRate, f.Origin, f, rows, e.BaseRate)
	rates(e.DestinationRate, f.Destination, f, rows, e.BaseRate)

	e.Names = []string{"distance (log)", "origin's rate of delays", "destination's rate of delays"}
	for _, p := range periods {
		e.Names = append(e.Names, p.name)
	}
	for _, d := range weekdays {
		e.Names = append(e.Names, d.String())
	}

	n := float64(len(rows))
	e.Mean, e.Scale = make([]float64, len(e.Names)), make([]float64, len(e.Names))
	for _, i := range rows {
		for j, v := range e.raw(f, i) {
			e.Mean[j] += v / n
		}
	}
	for _, i := range rows {
		for j, v := range e.raw(f, i) {
			e.Scale[j] += (v - e.Mean[j]) * (v - e.Mean[j]) / n
		}
	}
	for j, variance := range e.Scale {
		e.Scale[j] = math.Sqrt(variance)
		if e.Scale[j] < 1e-12 { // the same for every flight: leave it at zero
			e.Scale[j] = 1
		}
	}
	return e
}

func rates(to map[string]float64, airports []string, f Flights, rows []int, base float64) {
	count := map[string]float64{}
	for _, i := range rows {
		count[airports[i]]++
		to[airports[i]] += target(f, i)
	}
	for a, n := range count {
		to[a] = (to[a] + smoothing*base) / (n + smoothing)
	}
}

// raw returns the features of flight i before they are standardised.
func (e Encoder) raw(f Flights, i int) []float64 {
	row := make([]float64, 0, len(e.Names))
	row = append(row, math.Log(float64(f.Distance[i])), e.rate(e.OriginRate, f.Origin[i]), e.rate(e.DestinationRate, f.Destination[i]))
	left := f.Time(i)
	for _, p := range periods {
		row = append(row, indicator(left.Hour() >= p.from && left.Hour() < p.to))
	}
	for _, d := range weekdays {
		row = append(row, indicator(left.Weekday() == d))
	}
	return row
}

func (e Encoder) rate(rates map[string]float64, airport string) float64 {
	if r, ok := rates[airport]; ok {
		return r
	}
	return e.BaseRate
}

// Encode returns the features of the flights of the given rows.
func (e Encoder) Encode(f Flights, rows []int) Design {
	d := Design{Width: len(e.Names), X: make([]float64, 0, len(rows)*len(e.Names)), Y: make([]float64, 0, len(rows))}
	for _, i := range rows {
		for j, v := range e.raw(f, i) {
			d.X = append(d.X, (v-e.Mean[j])/e.Scale[j])
		}
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
