package flightdelay

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Curve is a ROC curve: for every threshold, the share of flights on time that are called late (FalsePositive) and the
// share of late ones that are (TruePositive).
type Curve struct{ FalsePositive, TruePositive []float64 }

// accuracy is the share of flights that the model calls right when it calls those late whose probability is at least
// one half.
func accuracy(scores, y []float64) float64 {
	right := 0
	for i, s := range scores {
		if (s >= 0.5) == (y[i] == 1) {
			right++
		}
	}
	return float64(right) / float64(len(y))
}

// roc returns the curve and the area under it. The area is the probability that a late flight has a higher score than
// one on time, where equal scores count half. Both kinds of flights must be there, and every score must be a number.
func roc(scores, y []float64) (Curve, float64, error) {
	order := make([]int, len(scores))
	positives := 0.0
	for i := range order {
		order[i] = i
		positives += y[i]
		if math.IsNaN(scores[i]) {
			return Curve{}, 0, fmt.Errorf("the score of flight %d is not a number", i)
		}
	}
	negatives := float64(len(y)) - positives
	if positives == 0 || negatives == 0 {
		return Curve{}, 0, fmt.Errorf("%w: %d held-out flights, %g of them delayed", errOneClass, len(y), positives)
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(scores[b], scores[a]) })

	c := Curve{FalsePositive: []float64{0}, TruePositive: []float64{0}}
	var hits, alarms, area float64
	for i := 0; i < len(order); {
		// Flights of equal score pass the threshold together: the curve goes straight to the next point.
		score := scores[order[i]]
		hitsBefore, alarmsBefore := hits, alarms
		for ; i < len(order) && scores[order[i]] == score; i++ {
			if y[order[i]] == 1 {
				hits++
			} else {
				alarms++
			}
		}
		area += (alarms - alarmsBefore) * (hitsBefore + hits) / 2
		c.FalsePositive = append(c.FalsePositive, alarms/negatives)
		c.TruePositive = append(c.TruePositive, hits/positives)
	}
	return c, area / (positives * negatives), nil
}

// topShare is the share of late flights among the tenth with the highest scores, at least one flight.
func topShare(scores, y []float64) float64 {
	order := make([]int, len(scores))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(scores[b], scores[a]) })
	top := order[:max(1, len(order)/10)]
	late := 0.0
	for _, i := range top {
		late += y[i]
	}
	return late / float64(len(top))
}
