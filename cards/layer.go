package cards

import (
	"errors"
	"fmt"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// maxPoints bounds what one layer draws: a chart is 380 points wide.
const maxPoints = 1500

// Line connects points in their order.
type Line struct {
	// Name is the line's name in the legend. Defaults to none.
	Name string
	// X and Y are the points. X defaults to 0, 1, 2 …
	X, Y []float64
}

func (l Line) label() string { return l.Name }

func (l Line) add(d *drawing) error {
	points, err := d.points(l.X, l.Y)
	if err != nil || len(points) == 0 {
		return err
	}
	line := &plotter.Line{XYs: thin(points), LineStyle: draw.LineStyle{Color: d.color(l.Name), Width: 1.75}}
	d.plot.Add(line)
	return nil
}

// Scatter draws a dot for every point.
type Scatter struct {
	// Name is the name in the legend. Defaults to none.
	Name string
	// X and Y are the points. X defaults to 0, 1, 2 …
	X, Y []float64
}

func (s Scatter) label() string { return s.Name }

func (s Scatter) add(d *drawing) error {
	points, err := d.points(s.X, s.Y)
	if err != nil || len(points) == 0 {
		return err
	}
	if len(points) > maxPoints { // every k-th, so that the density keeps its shape
		kept := make(plotter.XYs, maxPoints)
		for i := range kept {
			kept[i] = points[i*len(points)/maxPoints]
		}
		points = kept
	}
	style := draw.GlyphStyle{Color: d.color(s.Name), Radius: 2, Shape: draw.CircleGlyph{}}
	d.plot.Add(&plotter.Scatter{XYs: points, GlyphStyle: style})
	return nil
}

// Histogram counts values in bins of equal width.
type Histogram struct {
	// Name is the name in the legend. Defaults to none.
	Name   string
	Values []float64
	// Bins is the number of bins. Defaults to the square root of the number of values, at least 5 and at most 40.
	Bins int
}

func (h Histogram) label() string { return h.Name }

func (h Histogram) add(d *drawing) error {
	points, err := d.points(nil, h.Values)
	if err != nil || len(points) == 0 {
		return err
	}
	low, high := math.Inf(1), math.Inf(-1)
	for _, p := range points {
		low, high = min(low, p.Y), max(high, p.Y)
	}
	if high-low < max(math.Abs(low), 1e-12)*1e-9 {
		low, high = low-0.5*max(math.Abs(low), 1), high+0.5*max(math.Abs(low), 1)
	}
	n := h.Bins
	if n <= 0 {
		n = min(max(int(math.Sqrt(float64(len(points)))), 5), 40)
	}
	n = min(n, plotWidth)
	width := high/float64(n) - low/float64(n)
	bins := make([]plotter.HistogramBin, n)
	for i := range bins {
		bins[i].Min, bins[i].Max = low+float64(i)*width, low+float64(i+1)*width
	}
	for _, p := range points {
		bins[min(int((p.Y-low)/width), n-1)].Weight++
	}
	hist := &plotter.Histogram{Bins: bins, Width: width, FillColor: d.color(h.Name)}
	hist.LineStyle = draw.LineStyle{Color: paint("bg"), Width: 0.75}
	d.plot.Add(hist)
	return nil
}

// Bars draws a bar for every label. Several layers of bars in one plot must have the same labels and stand in
// groups. Where the labels do not fit below the bars, the bars are drawn sideways, the first one on top.
type Bars struct {
	// Name is the name in the legend. Defaults to none.
	Name string
	// Labels name the bars and Values are their lengths.
	Labels []string
	Values []float64
}

func (b Bars) label() string { return b.Name }

func (b Bars) add(d *drawing) error {
	values := make(plotter.Values, len(b.Values))
	for i, v := range b.Values {
		if !finite(v) {
			d.dropped++
			v = 0
		}
		at := i
		if d.across {
			at = len(b.Values) - 1 - i
		}
		values[at] = v
	}
	room := vg.Length(plotWidth-60) / vg.Length(len(values))
	if d.across {
		room = barHeight
	}
	width := min(room*0.75, 48) / vg.Length(d.groups)
	chart := &plotter.BarChart{Values: values, Width: width, Color: d.color(b.Name), Horizontal: d.across}
	chart.Offset = width * (vg.Length(d.group) - vg.Length(d.groups-1)/2)
	if d.across {
		chart.Offset = -chart.Offset
	}
	d.group++
	d.plot.Add(chart)
	return nil
}

// maxBars is how many bars a chart can hold and stay readable.
const maxBars = 60

// countBars looks at all layers of bars before the first is drawn.
func (d *drawing) countBars() error {
	for i, l := range d.spec.Layers {
		b, ok := l.(Bars)
		if !ok {
			continue
		}
		switch {
		case len(b.Labels) != len(b.Values):
			return fmt.Errorf("layer %d %q has %d labels for %d values", i, b.Name, len(b.Labels), len(b.Values))
		case len(b.Values) == 0:
			return fmt.Errorf("layer %d %q has no bars", i, b.Name)
		case len(b.Values) > maxBars:
			return fmt.Errorf("layer %d %q has %d bars, at most %d can be told apart (use a Histogram or a Table)", i, b.Name, len(b.Values), maxBars)
		case d.groups > 0 && len(b.Labels) != len(d.labels):
			return fmt.Errorf("layer %d %q has %d bars beside %d of the layer before", i, b.Name, len(b.Labels), len(d.labels))
		}
		d.groups++
		d.labels = b.Labels
	}
	if !d.bars() {
		return nil
	}
	var width vg.Length
	d.labels = append([]string(nil), d.labels...)
	for i, label := range d.labels {
		d.labels[i] = short(label, 30)
		width = max(width, d.plot.X.Tick.Label.Width(d.labels[i]+"m"))
	}
	if width*vg.Length(len(d.labels)) > plotWidth-60 {
		d.across = true
		d.height = max(plotHeight/2, vg.Length(len(d.labels)*barHeight+50))
	}
	return nil
}

func (d *drawing) bars() bool { return d.groups > 0 }

// nameBars puts the labels on the axis that the bars stand on.
func (d *drawing) nameBars() {
	if !d.bars() {
		return
	}
	// The bars' own axis ends half a step beyond the first and the last bar; lengths begin at zero.
	last := float64(len(d.labels) - 1)
	on, lengths := &d.plot.X, &d.plot.Y
	if d.across {
		on, lengths = lengths, on
	}
	on.Min, on.Max = -0.5, last+0.5
	on.Tick.Marker = names{d.labels, d.across}
	lengths.Min, lengths.Max = min(lengths.Min, 0), max(lengths.Max, 0)
}

// names marks the bars with their labels.
type names struct {
	labels   []string
	reversed bool
}

// Ticks implements [plot.Ticker].
func (n names) Ticks(float64, float64) []plot.Tick {
	ticks := make([]plot.Tick, len(n.labels))
	for i, label := range n.labels {
		at := i
		if n.reversed {
			at = len(n.labels) - 1 - i
		}
		ticks[i] = plot.Tick{Value: float64(at), Label: label}
	}
	return ticks
}

// Reference is a dashed line to compare with. It does not widen the axes.
type Reference struct {
	name string
	// from and to return the line's ends for the ranges of the axes.
	ends func(x, y Range) (from, to plotter.XY)
}

// Diagonal is the line on which y equals x, such as chance in a ROC curve or a perfect prediction.
func Diagonal(name string) Reference {
	return Reference{name, func(x, y Range) (from, to plotter.XY) {
		low, high := max(x.Min, y.Min), min(x.Max, y.Max)
		return plotter.XY{X: low, Y: low}, plotter.XY{X: high, Y: high}
	}}
}

// AtX is the upright line at x.
func AtX(name string, at float64) Reference {
	return Reference{name, func(_, y Range) (from, to plotter.XY) {
		return plotter.XY{X: at, Y: y.Min}, plotter.XY{X: at, Y: y.Max}
	}}
}

// AtY is the level line at y.
func AtY(name string, at float64) Reference {
	return Reference{name, func(x, _ Range) (from, to plotter.XY) {
		return plotter.XY{X: x.Min, Y: at}, plotter.XY{X: x.Max, Y: at}
	}}
}

func (r Reference) label() string { return r.name }

func (r Reference) add(d *drawing) error {
	if r.ends == nil {
		return errors.New("the reference line is empty (make it with Diagonal, AtX or AtY)")
	}
	d.plot.Add(r)
	if r.name != "" {
		d.legend = append(d.legend, legendEntry{Name: label(r.name), Class: paintText, Dashed: true})
	}
	return nil
}

// Plot implements [plot.Plotter].
func (r Reference) Plot(c draw.Canvas, p *plot.Plot) {
	from, to := r.ends(Range{p.X.Min, p.X.Max}, Range{p.Y.Min, p.Y.Max})
	if !finite(from.X) || !finite(from.Y) || to.X < from.X || to.Y < from.Y {
		return
	}
	trX, trY := p.Transforms(&c)
	style := draw.LineStyle{Color: paintText, Width: 1, Dashes: []vg.Length{4, 3}}
	c.StrokeLines(style, c.ClipLinesXY([]vg.Point{{X: trX(from.X), Y: trY(from.Y)}, {X: trX(to.X), Y: trY(to.Y)}})...)
}

// points pairs x with y and leaves out what is not finite.
func (d *drawing) points(x, y []float64) (plotter.XYs, error) {
	if x != nil && len(x) != len(y) {
		return nil, fmt.Errorf("%d values of x for %d of y", len(x), len(y))
	}
	points := make(plotter.XYs, 0, len(y))
	for i := range y {
		p := plotter.XY{X: float64(i), Y: y[i]}
		if x != nil {
			p.X = x[i]
		}
		if !finite(p.X) || !finite(p.Y) {
			d.dropped++
			continue
		}
		points = append(points, p)
	}
	return points, nil
}

// thin keeps, of every run of points, the first, the lowest and the highest, in their order: peaks stay.
func thin(points plotter.XYs) plotter.XYs {
	if len(points) <= maxPoints {
		return points
	}
	runs := maxPoints / 3
	kept := make(plotter.XYs, 0, maxPoints+1)
	for r := range runs {
		from, to := r*len(points)/runs, (r+1)*len(points)/runs
		low, high := from, from
		for i := from; i < to; i++ {
			if points[i].Y < points[low].Y {
				low = i
			}
			if points[i].Y > points[high].Y {
				high = i
			}
		}
		kept = append(kept, points[from])
		for _, i := range []int{min(low, high), max(low, high)} {
			if i != from && points[i] != kept[len(kept)-1] {
				kept = append(kept, points[i])
			}
		}
	}
	return append(kept, points[len(points)-1])
}
