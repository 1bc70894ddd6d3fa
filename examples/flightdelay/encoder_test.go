package flightdelay

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/stat"
)

// The committed file is the one that data/SOURCE.md describes.
func TestDataAreThoseOfTheSource(t *testing.T) {
	t.Parallel()
	gz, err := gzip.NewReader(bytes.NewReader(builtIn))
	require.NoError(t, err)
	require.Empty(t, gz.Name, "a name would make the file depend on where it was made")
	require.True(t, gz.ModTime.IsZero())
	content, err := io.ReadAll(gz)
	require.NoError(t, err)
	sum := sha256.Sum256(content)
	source, err := os.ReadFile("data/SOURCE.md")
	require.NoError(t, err)
	require.Contains(t, string(source), hex.EncodeToString(sum[:]))
}

func TestTableIsBounded(t *testing.T) {
	t.Parallel()
	_, err := parseTable(strings.NewReader(zipped(t, strings.Repeat("a,b\n", 1000))), 3999)
	require.ErrorIs(t, err, errBadData)
	require.ErrorContains(t, err, "more than 3999 bytes of text")
	table, err := parseTable(strings.NewReader(zipped(t, strings.Repeat("a,b\n", 1000))), 4000)
	require.NoError(t, err)
	require.Len(t, table.Rows, 999)
}

func TestSplit(t *testing.T) {
	t.Parallel()
	train, test := split(1000, 0.25, 42)
	require.Len(t, test, 250)
	all := slices.Sorted(slices.Values(append(slices.Clone(train), test...)))
	for i, row := range all {
		require.Equal(t, i, row, "every flight is on one side")
	}
	again, heldAgain := split(1000, 0.25, 42)
	require.Equal(t, train, again)
	require.Equal(t, test, heldAgain)
	_, other := split(1000, 0.25, 43)
	require.NotEqual(t, test, other)
	require.False(t, slices.IsSorted(test), "the data are in the order of time; the split is not")

	// The split of a seed is part of what a result means: it must be the same with any version of Go.
	_, small := split(10, 0.3, 42)
	require.Equal(t, []int{3, 2, 5}, small)
}

// flights are a few hundred that differ in everything.
func flights(t *testing.T) Flights {
	t.Helper()
	table, err := readTable("")
	require.NoError(t, err)
	table.Rows = table.Rows[:600]
	f, err := parseFlights(table)
	require.NoError(t, err)
	return f
}

// with returns the flights, some of which have another delay.
func with(f Flights, delay int64, rows ...int) Flights {
	f.Delay = slices.Clone(f.Delay)
	for _, i := range rows {
		f.Delay[i] = delay
	}
	return f
}

// Nothing that is learnt changes when all that is known of the held-out flights changes.
func TestHeldOutFlightsDoNotLeak(t *testing.T) {
	t.Parallel()
	f := flights(t)
	rows, held := split(f.Len(), 0.25, 1)
	encoder, train := learn(f, rows)
	changed := with(f, 999, held...)
	changed.Distance, changed.Departure, changed.Origin = slices.Clone(f.Distance), slices.Clone(f.Departure), slices.Clone(f.Origin)
	for _, i := range held {
		changed.Distance[i], changed.Departure[i], changed.Origin[i] = 9999, 0, "XXX"
	}
	encoderAfter, trainAfter := learn(changed, rows)
	require.Equal(t, encoder, encoderAfter)
	require.Equal(t, train, trainAfter)
}

// A flight's features do not depend on its own delay, on neither side of the split.
func TestOwnDelayDoesNotLeak(t *testing.T) {
	t.Parallel()
	f := flights(t)
	rows, held := split(f.Len(), 0.25, 1)
	encoder, train := learn(f, rows)

	require.Equal(t, encoder.Encode(f, held).X, encoder.Encode(with(f, 999, held...), held).X)

	raw := func(e Encoder, d Design, at int) []float64 {
		row := slices.Clone(d.Row(at))
		for j := range row {
			row[j] = row[j]*e.Scale[j] + e.Mean[j]
		}
		return row
	}
	moved := 0
	for at := 0; at < len(rows); at += 7 {
		flipped := int64(999)
		if f.Late(rows[at]) {
			flipped = 0
		}
		changed := with(f, flipped, rows[at])
		encoderAfter, trainAfter := learn(changed, rows)
		require.InDeltaSlice(t, raw(encoder, train, at), raw(encoderAfter, trainAfter, at), 1e-9, "row %d", at)
		require.NotEqual(t, train.Y[at], trainAfter.Y[at])
		for other := range rows {
			if math.Abs(raw(encoder, train, other)[1]-raw(encoderAfter, trainAfter, other)[1]) > 1e-6 {
				moved++
				break
			}
		}
	}
	require.Positive(t, moved, "the delay counts for flights of other folds")
}

func TestTrainingFeaturesAreStandardised(t *testing.T) {
	t.Parallel()
	f := flights(t)
	rows, held := split(f.Len(), 0.25, 1)
	encoder, train := learn(f, rows)
	for j := range train.Width {
		column := make([]float64, len(rows))
		for i := range column {
			column[i] = train.Row(i)[j]
		}
		mean, deviation := stat.PopMeanStdDev(column, nil)
		require.InDelta(t, 0, mean, 1e-9, encoder.Names[j])
		if deviation != 0 { // the 600 flights are of one or two weekdays
			require.InDelta(t, 1, deviation, 1e-9, encoder.Names[j])
		}
		require.False(t, math.IsNaN(mean+deviation))
	}
	d := encoder.Encode(f, held)
	require.Len(t, d.X, len(held)*d.Width)
	mean := stat.Mean(d.X, nil)
	require.NotZero(t, mean, "the held-out flights are measured by the training flights, not by themselves")
}

func TestFeaturesOfOneFlight(t *testing.T) {
	t.Parallel()
	at := func(s string) int64 {
		when, err := time.Parse(dateLayout, s)
		require.NoError(t, err)
		return when.Unix() / 60
	}
	f := Flights{
		Departure: []int64{at("2001/02/02 17:00"), at("2001/02/05 04:59"), at("2001/02/05 05:00")}, // Friday, Monday, Monday
		Delay:     []int64{15, 14, -3}, Distance: []int64{100, 200, 300},
		Origin: []string{"BOS", "BOS", "ORD"}, Destination: []string{"SFO", "LAX", "SFO"},
	}
	require.Equal(t, []bool{true, false, false}, []bool{f.Late(0), f.Late(1), f.Late(2)}, "15 minutes count as late")
	r := newRates(f, []int{0, 1, 2})
	base := 1.0 / 3
	require.InDelta(t, base, r.Base, 1e-15)
	require.InDelta(t, (1+50*base)/52, r.Origin["BOS"], 1e-15)
	require.InDelta(t, (0+50*base)/51, r.Origin["ORD"], 1e-15)
	require.InDelta(t, base, r.of(r.Origin, "XXX"), 1e-15, "an airport that was not there")

	encoder, _ := learn(f, []int{0, 1, 2})
	set := func(i int) (names []string) {
		for j, v := range r.features(f, i)[3:] {
			if v == 1 {
				names = append(names, encoder.Names[3+j])
			}
		}
		return names
	}
	require.Equal(t, []string{"leaves 17–20 h", "Friday"}, set(0))
	require.Equal(t, []string{"leaves 0–4 h"}, set(1))
	require.Empty(t, set(2), "Monday morning is what the others are compared with")
	require.InDelta(t, math.Log(100), r.features(f, 0)[0], 1e-15)
}
