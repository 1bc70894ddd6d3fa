package cards

import (
	"errors"
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Plot is a chart, drawn as SVG inside the card. It follows the page's light or dark colours.
//
// Values that are not finite are left out, and the caption says how many. Layers of many points are thinned to what
// the eye can tell apart.
type Plot struct {
	// Title says what the chart shows.
	Title string
	// XLabel and YLabel name the axes, with their units. Default to none.
	XLabel, YLabel string
	// Layers are drawn in order, later ones above, at most 20. Each takes the next of six colours; reference lines take
	// none.
	Layers []Layer
	// XRange and YRange fix the axes. Default to the range of the data; what lies outside is clipped.
	XRange, YRange Range
	// Square makes the chart as high as it is wide, for axes of the same unit.
	Square bool
}

// Range is a part of an axis. The zero value means the range of the data.
type Range struct{ Min, Max float64 }

// Layer is a part of a [Plot]: [Line], [Scatter], [Bars], [Histogram], or a [Reference]. Only this package makes layers.
type Layer interface {
	// add puts the layer on the drawing.
	add(d *drawing) error
	// label names the layer in the legend; empty leaves it out.
	label() string
}

// Sizes in points, which are the units of the SVG's view box. The width is that of a phone, so that the text keeps
// its size there and grows a little elsewhere.
const (
	plotWidth  = 380
	plotHeight = 260
	fontSize   = 11
	barHeight  = 20
	maxLayers  = 20
)

// drawing is one rendering of a Plot.
type drawing struct {
	plot    *plot.Plot
	spec    Plot
	height  vg.Length
	series  int // layers that took a colour
	groups  int // layers of bars
	group   int // index of the next layer of bars
	labels  []string
	across  bool // bars are drawn sideways
	dropped int
	legend  []legendEntry
	heat    *heatCells
	scale   *heatScale
}

type legendEntry struct {
	Name   string
	Class  paint
	Dashed bool
}

var plotFigure = template.Must(template.New("plot").Parse(
	`<figure class="chart">` +
		`<figcaption>{{.Title}}{{with .Legend}}<span class="legend">{{range .}}<span>` +
		`<svg viewBox="0 0 18 8" aria-hidden="true"><path class="k-{{.Class}}" stroke-width="{{if .Dashed}}1.5{{else}}3{{end}}"` +
		`{{if .Dashed}} stroke-dasharray="4 3"{{end}} d="M0 4H18"/></svg>{{.Name}}</span>{{end}}</span>{{end}}</figcaption>` +
		`{{.SVG}}{{.Scale}}{{with .Note}}<p class="quiet">{{.}}</p>{{end}}</figure>`))

// CardHTML implements [flow.Component].
func (p Plot) CardHTML() (out template.HTML) {
	defer func() {
		// gonum panics on ranges it cannot draw.
		if r := recover(); r != nil {
			out = note("the plot %q could not be drawn: %v", label(p.Title), r)
		}
	}()
	d, svg, err := p.draw()
	if err != nil {
		return note("the plot %q could not be drawn: %v", label(p.Title), err)
	}
	remark := ""
	if d.dropped > 0 {
		remark = Count(d.dropped) + " values that are not finite numbers are left out."
	}
	legend := d.legend
	if len(legend) == 1 && !legend[0].Dashed {
		legend = nil // the title says it
	}
	var scale template.HTML
	if d.scale != nil {
		scale = execute(heatScaleText, d.scale)
	}
	return execute(plotFigure, struct {
		Title, Note string
		Legend      []legendEntry
		SVG, Scale  template.HTML
	}{label(p.Title), remark, legend, template.HTML(svg), scale}) //nolint:gosec // svgCanvas escapes
}

func (p Plot) draw() (*drawing, string, error) {
	d := &drawing{plot: newGonumPlot(), spec: p, height: plotHeight}
	if p.Square {
		d.height = plotWidth
	}
	if len(p.Layers) > maxLayers {
		return nil, "", fmt.Errorf("it has %d layers, at most %d can be told apart (make several plots)", len(p.Layers), maxLayers)
	}
	if err := d.countBars(); err != nil {
		return nil, "", err
	}
	if !d.cells() {
		d.plot.Add(grid{x: !d.bars() || d.across, y: !d.bars() || !d.across})
	}
	var errs []error
	for i, l := range p.Layers {
		if l == nil {
			errs = append(errs, fmt.Errorf("layer %d is nil", i))
			continue
		}
		if err := l.add(d); err != nil {
			errs = append(errs, fmt.Errorf("layer %d %q: %w", i, l.label(), err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, "", err
	}
	if d.series == 0 {
		return nil, "", errors.New("there is nothing to draw (no layer has a finite value)")
	}
	d.axis(&d.plot.X, short(p.XLabel, 60), p.XRange)
	d.axis(&d.plot.Y, short(p.YLabel, 60), p.YRange)
	d.nameBars()
	d.nameCells()

	c := newSVGCanvas(plotWidth, d.height)
	// Text reaches half a line past the outermost ticks.
	area := draw.Crop(draw.NewCanvas(c, plotWidth, d.height), 2, -10, 2, -6)
	d.plot.Draw(area)
	if c.broken {
		return nil, "", errors.New("its range is too wide to draw")
	}
	return d, c.svg(d.describe()), nil
}

// newGonumPlot returns an empty plot in the card's colours and font. Its title and legend stay empty, because those
// are HTML outside of the drawing.
func newGonumPlot() *plot.Plot {
	p := plot.New()
	p.BackgroundColor = nil
	sans := font.Font{Typeface: "Liberation", Variant: "Sans", Size: fontSize}
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.Label.TextStyle.Font, a.Label.TextStyle.Color = sans, paintText
		a.Label.Padding = 4
		a.Tick.Label.Font, a.Tick.Label.Color = sans, paintText
		a.Tick.LineStyle = draw.LineStyle{}
		a.Tick.Length = 3
		a.Tick.Marker = ticker{}
		a.LineStyle = draw.LineStyle{Color: paintAxis, Width: 1}
		a.Padding = 0
	}
	// The labels below are a little lower, so that the first ones of both axes keep apart.
	p.X.Tick.Label.YAlign, p.X.Label.Padding = -1.35, 7
	return p
}

// axis labels an axis and settles its range.
func (d *drawing) axis(a *plot.Axis, label string, r Range) {
	a.Label.Text = label
	if r != (Range{}) && finite(r.Min) && finite(r.Max) {
		a.Min, a.Max = min(r.Min, r.Max), max(r.Min, r.Max)
	}
	// gonum cannot tell apart two numbers that float64 can hardly tell apart.
	if span, size := a.Max-a.Min, max(math.Abs(a.Min), math.Abs(a.Max), 1e-12); span < size*1e-9 {
		a.Min, a.Max = a.Min-size/2, a.Max+size/2
	}
}

// describe is the text in place of the picture.
func (d *drawing) describe() string {
	var kinds, names []string
	for _, l := range d.spec.Layers {
		kind := strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T", l), "cards."))
		kinds = append(kinds, kind)
		if l.label() != "" {
			names = append(names, l.label())
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "chart (%s)", strings.Join(kinds, ", "))
	for _, part := range [][2]string{{": ", d.spec.Title}, {"; x: ", d.spec.XLabel}, {"; y: ", d.spec.YLabel}, {"; shows: ", strings.Join(names, ", ")}} {
		if part[1] != "" {
			b.WriteString(part[0] + label(part[1]))
		}
	}
	return b.String()
}

// color takes the next colour and names it in the legend.
func (d *drawing) color(name string) paint {
	p := seriesPaint(d.series)
	d.series++
	if name != "" {
		d.legend = append(d.legend, legendEntry{Name: label(name), Class: p})
	}
	return p
}

// finite says that a value can be drawn; beyond the bound the width of a range could overflow.
func finite(f float64) bool { return math.Abs(f) < 1e300 }

// grid draws a line at every tick, below the data.
type grid struct{ x, y bool }

// Plot implements [plot.Plotter].
func (g grid) Plot(c draw.Canvas, p *plot.Plot) {
	style := draw.LineStyle{Color: paintGrid, Width: 0.75}
	trX, trY := p.Transforms(&c)
	if g.x {
		for _, t := range p.X.Tick.Marker.Ticks(p.X.Min, p.X.Max) {
			c.StrokeLine2(style, trX(t.Value), c.Min.Y, trX(t.Value), c.Max.Y)
		}
	}
	if g.y {
		for _, t := range p.Y.Tick.Marker.Ticks(p.Y.Min, p.Y.Max) {
			c.StrokeLine2(style, c.Min.X, trY(t.Value), c.Max.X, trY(t.Value))
		}
	}
}

// ticker marks about five round values. gonum's own may loop for very long on ranges that are narrow beside their
// distance from zero.
type ticker struct{}

// Ticks implements [plot.Ticker].
func (ticker) Ticks(low, high float64) []plot.Tick {
	rough := (high - low) / 5
	if !(rough > 0) || math.IsInf(rough, 0) {
		return nil
	}
	power := math.Pow(10, math.Floor(math.Log10(rough)))
	step := 10 * power
	for _, m := range []float64{1, 2, 2.5, 5} {
		if m*power >= rough*0.999 {
			step = m * power
			break
		}
	}
	// step is 10^k, or 2, 2.5 or 5 of it; the digits after the point that write it exactly.
	digits := -int(math.Floor(math.Log10(power)))
	if step == 2.5*power {
		digits++
	}
	digits = max(0, digits)
	var ticks []plot.Tick
	first, last := math.Ceil(low/step-1e-6), math.Floor(high/step+1e-6)
	for i := range min(int(last-first)+1, 12) {
		v := (first + float64(i)) * step
		ticks = append(ticks, plot.Tick{Value: min(max(v, low), high), Label: tickLabel(v, digits)})
	}
	return ticks
}

func tickLabel(v float64, digits int) string {
	if a := math.Abs(v); a >= 1e7 || digits > 5 {
		return minus(strconv.FormatFloat(v, 'g', 4, 64))
	}
	if digits == 0 {
		return grouped(strconv.FormatFloat(v+0, 'f', 0, 64)) // +0 turns -0 into 0
	}
	return minus(strconv.FormatFloat(v+0, 'f', digits, 64))
}
