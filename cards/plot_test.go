package cards

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func drawn(t *testing.T, p Plot) string {
	t.Helper()
	page := string(p.CardHTML())
	require.True(t, strings.HasPrefix(page, `<figure class="chart">`), "%s", page)
	return page
}

var (
	pathData = regexp.MustCompile(`<path class="([kf])-(\w+)"[^>]* d="([^"]*)"/>`)
	place    = regexp.MustCompile(`[ML](-?[\d.]+) (-?[\d.]+)`)
)

// paths returns the points of every path that a paint draws.
func paths(t *testing.T, page, kind, paint string) [][][2]float64 {
	t.Helper()
	var all [][][2]float64
	_, plot, _ := strings.Cut(page, `<svg class="plot"`)
	for _, m := range pathData.FindAllStringSubmatch(plot, -1) {
		if m[1] != kind || m[2] != paint {
			continue
		}
		var points [][2]float64
		for _, p := range place.FindAllStringSubmatch(m[3], -1) {
			x, err := strconv.ParseFloat(p[1], 64)
			require.NoError(t, err)
			y, err := strconv.ParseFloat(p[2], 64)
			require.NoError(t, err)
			points = append(points, [2]float64{x, y})
		}
		all = append(all, points)
	}
	return all
}

func TestLineGoesThroughItsPoints(t *testing.T) {
	t.Parallel()
	page := drawn(t, Plot{Layers: []Layer{Line{Y: []float64{0, 10, 5}}}})
	lines := paths(t, page, "k", "s1")
	require.Len(t, lines, 1)
	p := lines[0]
	require.Len(t, p, 3)
	require.InDelta(t, (p[0][0]+p[2][0])/2, p[1][0], 0.02, "x is 0, 1, 2")
	require.InDelta(t, (p[0][1]+p[1][1])/2, p[2][1], 0.02, "5 is half of 10")
	require.Greater(t, p[0][1], p[1][1], "y grows upwards")
}

func TestDiagonalConnectsTheCorners(t *testing.T) {
	t.Parallel()
	page := drawn(t, Plot{Square: true, XRange: Range{Max: 1}, YRange: Range{Max: 1}, Layers: []Layer{Diagonal("chance"), Line{X: []float64{0, 1}, Y: []float64{0, 1}}}})
	require.Equal(t, paths(t, page, "k", "s1")[0], paths(t, page, "k", "text")[0], "y = x through the same corners")
	require.Contains(t, page, `stroke-dasharray="4 3"`)
	require.Contains(t, page, "chance")
}

func TestBarsAreAsLongAsTheirValues(t *testing.T) {
	t.Parallel()
	height := func(points [][2]float64) float64 {
		low, high := math.Inf(1), math.Inf(-1)
		for _, p := range points {
			low, high = min(low, p[1]), max(high, p[1])
		}
		return high - low
	}
	bars := paths(t, drawn(t, Plot{Layers: []Layer{Bars{Labels: []string{"a", "b", "c"}, Values: []float64{10, 5, 2.5}}}}), "f", "s1")
	require.Len(t, bars, 3)
	require.InDelta(t, height(bars[0]), 2*height(bars[1]), 0.1)
	require.InDelta(t, height(bars[0]), 4*height(bars[2]), 0.1)
}

func TestHistogramCountsEveryValueOnce(t *testing.T) {
	t.Parallel()
	values := []float64{0, 0.1, 0.9, 1, 1.9, 2, 2, math.NaN(), math.Inf(1)}
	page := drawn(t, Plot{Layers: []Layer{Histogram{Values: values, Bins: 2}}})
	require.Contains(t, page, "2 values that are not finite numbers are left out.")
	bins := paths(t, page, "f", "s1")
	require.Len(t, bins, 2)
	// 3 values below 1, 4 from 1 to 2.
	top := func(i int) float64 {
		return slices.MinFunc(bins[i], func(a, b [2]float64) int { return int(math.Copysign(1, a[1]-b[1])) })[1]
	}
	floor := max(bins[0][0][1], bins[0][1][1], bins[0][2][1])
	require.InDelta(t, 3.0/4, (floor-top(0))/(floor-top(1)), 0.01)
}

// Whatever the ranges, nothing is drawn outside of the picture or at a place that is no number.
func TestEverythingStaysInside(t *testing.T) {
	t.Parallel()
	nan, inf := math.NaN(), math.Inf(1)
	for name, p := range map[string]Plot{
		"beyond the range":    {XRange: Range{2, 3}, YRange: Range{2, 3}, Layers: []Layer{Line{Y: []float64{0, 1, 2, 5, 100, -100}}, Scatter{Y: []float64{0, 1, 2, 5, 100}}, AtX("", 7), AtY("", 1e9), Diagonal("")}},
		"bars beyond":         {YRange: Range{0, 1}, Layers: []Layer{Bars{Labels: []string{"a", "b"}, Values: []float64{5, -5}}}},
		"histogram beyond":    {YRange: Range{0, 1}, XRange: Range{0, 1}, Layers: []Layer{Histogram{Values: []float64{0, 0, 0, 9}}}},
		"one point":           {Layers: []Layer{Line{Y: []float64{3}}, Scatter{Y: []float64{3}}}},
		"all equal":           {Layers: []Layer{Line{Y: []float64{7, 7, 7}}, Histogram{Values: []float64{7, 7}}}},
		"zeros":               {Layers: []Layer{Line{Y: []float64{0, 0}}}},
		"nearly equal":        {Layers: []Layer{Line{Y: []float64{1e15, 1e15 + 0.125}}}},
		"tiny":                {Layers: []Layer{Line{Y: []float64{1e-300, 2e-300}}}},
		"huge":                {Layers: []Layer{Line{Y: []float64{-9e299, 9e299}}}},
		"not finite":          {Layers: []Layer{Line{Y: []float64{1, nan, 3, inf, -inf}}}},
		"not finite in x":     {Layers: []Layer{Scatter{X: []float64{nan, 1, 2}, Y: []float64{1, 2, 3}}}},
		"range upside down":   {XRange: Range{5, -5}, Layers: []Layer{Line{Y: []float64{1, 2}}}},
		"range of no width":   {YRange: Range{5, 5}, Layers: []Layer{Line{Y: []float64{1, 2}}}},
		"range not finite":    {YRange: Range{nan, inf}, Layers: []Layer{Line{Y: []float64{1, 2}}}},
		"references at NaN":   {Layers: []Layer{Line{Y: []float64{1, 2}}, AtX("x", nan), AtY("y", inf)}},
		"huge labels":         {Title: strings.Repeat("title ", 1e5), XLabel: strings.Repeat("x", 1e6), YLabel: strings.Repeat("y ", 1e6), Layers: []Layer{Bars{Name: strings.Repeat("n", 1e6), Labels: []string{strings.Repeat("l", 1e6), "b"}, Values: []float64{1, 2}}, AtY(strings.Repeat("r", 1e6), 1)}},
		"bars that are NaN":   {Layers: []Layer{Bars{Labels: []string{"a", "b"}, Values: []float64{nan, 1}}}},
		"bars of length zero": {Layers: []Layer{Bars{Labels: []string{"a", "b"}, Values: []float64{0, 0}}}},
		"sixty bars":          {Layers: []Layer{Bars{Labels: slices.Repeat([]string{"label"}, 60), Values: make([]float64, 60)}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			page := drawn(t, p)
			require.Less(t, len(page), 40_000)
			require.NotContains(t, page, "NaN ")
			view := regexp.MustCompile(`viewBox="0 0 380 ([\d.]+)"`).FindStringSubmatch(page)
			height, err := strconv.ParseFloat(view[1], 64)
			require.NoError(t, err)
			for _, paint := range []string{"s1", "s2", "text", "axis", "grid"} {
				for _, path := range append(paths(t, page, "k", paint), paths(t, page, "f", paint)...) {
					for _, at := range path {
						require.True(t, at[0] >= -3 && at[0] <= plotWidth+3 && at[1] >= -3 && at[1] <= height+3, "%s at %v of %s x %v", paint, at, "380", height)
					}
				}
			}
		})
	}
}

func TestPlotsThatCannotBeDrawn(t *testing.T) {
	t.Parallel()
	for want, layers := range map[string][]Layer{
		"there is nothing to draw":               {},
		"no layer has a finite value":            {Line{Y: []float64{math.NaN()}}, AtX("x", 1)},
		"2 values of x for 1 of y":               {Scatter{X: []float64{1, 2}, Y: []float64{1}}},
		"layer 0 is nil":                         {nil},
		"has 1 labels for 2 values":              {Bars{Labels: []string{"a"}, Values: []float64{1, 2}}},
		"has no bars":                            {Bars{}},
		"at most 60 can be told apart":           {Bars{Labels: make([]string, 61), Values: make([]float64, 61)}},
		"1 bars beside 2 of the layer before":    {Bars{Labels: []string{"a", "b"}, Values: []float64{1, 2}}, Bars{Labels: []string{"a"}, Values: []float64{1}}},
		"the reference line is empty":            {Reference{}},
		"21 layers, at most 20 can be told":      slices.Repeat([]Layer{Line{Y: []float64{1}}}, 21),
		"layer 1 &#34;&lt;b&gt;&#34;: 1 values ": {Line{Y: []float64{1}}, Line{Name: "<b>", X: []float64{1}, Y: []float64{1, 2}}},
	} {
		page := string(Plot{Title: "<i>", Layers: layers}.CardHTML())
		require.Contains(t, page, want)
		require.Contains(t, page, `<p class="note wide">the plot &#34;&lt;i&gt;&#34; could not be drawn`)
	}
}

func TestManyPointsAreThinned(t *testing.T) {
	t.Parallel()
	const n = 1_000_000
	y := make([]float64, n)
	for i := range y {
		y[i] = math.Sin(float64(i) / 1e5)
	}
	y[n/3], y[n/2] = 9, -9 // peaks that must stay
	line := paths(t, drawn(t, Plot{Layers: []Layer{Line{Y: y}}}), "k", "s1")[0]
	require.LessOrEqual(t, len(line), maxPoints+1)
	ys := make([]float64, len(line))
	for i, p := range line {
		ys[i] = p[1]
		if i > 0 {
			require.GreaterOrEqual(t, p[0], line[i-1][0], "in order")
		}
	}
	slices.Sort(ys)
	require.Greater(t, ys[len(ys)-1]-ys[0], 180.0, "the peaks reach over the chart")

	page := drawn(t, Plot{Layers: []Layer{Scatter{Y: y}, Histogram{Values: y}}})
	require.Equal(t, maxPoints, strings.Count(page, `<path class="f-s1"`))
}

func TestTicks(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		low, high float64
		want      []string
	}{
		{0, 1, []string{"0.0", "0.2", "0.4", "0.6", "0.8", "1.0"}},
		{0, 12400, []string{"0", "2500", "5000", "7500", "10,000"}},
		{0, 12, []string{"0.0", "2.5", "5.0", "7.5", "10.0"}},
		{0, 125, []string{"0", "25", "50", "75", "100", "125"}},
		{-0.11, 0.46, []string{"0.0", "0.2", "0.4"}},
		{-3, 3, []string{"−2", "0", "2"}},
		{0, 0.0012, []string{"0.00000", "0.00025", "0.00050", "0.00075", "0.00100"}},
		{0, 5e8, []string{"0", "1e+08", "2e+08", "3e+08", "4e+08", "5e+08"}},
		{1e9, 1e9 + 5, nil},
		{1, 1, nil},
		{math.NaN(), 1, nil},
		{0, math.Inf(1), nil},
	} {
		var labels []string
		for _, tick := range (ticker{}).Ticks(test.low, test.high) {
			labels = append(labels, tick.Label)
			require.True(t, tick.Value >= test.low && tick.Value <= test.high)
		}
		if test.low == 1e9 {
			require.Len(t, labels, 6)
			continue
		}
		require.Equal(t, test.want, labels, "%g to %g", test.low, test.high)
	}
}

func TestLegend(t *testing.T) {
	t.Parallel()
	one := drawn(t, Plot{Title: "Loss", Layers: []Layer{Line{Name: "only", Y: []float64{1, 2}}}})
	require.NotContains(t, one, `class="legend"`, "the title says it")
	two := drawn(t, Plot{Title: "Loss", Layers: []Layer{Line{Name: "a", Y: []float64{1, 2}}, Line{Name: "b", Y: []float64{1, 2}}, Line{Y: []float64{3}}}})
	require.Contains(t, two, `k-s1" stroke-width="3" d="M0 4H18"/></svg>a</span>`)
	require.Contains(t, two, `k-s2" stroke-width="3" d="M0 4H18"/></svg>b</span>`)
	require.Contains(t, two, `aria-label="chart (line, line, line): Loss; shows: a, b"`)
}
