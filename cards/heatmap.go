package cards

import (
	"errors"
	"fmt"
	"html/template"
	"maps"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

const (
	heatLevels   = 12
	maxHeatCells = 100 // on each side
	maxHeatTexts = 12  // columns whose values are written into the cells
)

// HeatMap colours a cell for every value of a matrix, such as a confusion matrix or correlations. It is the only layer of its plot
// but for reference lines. Above 100 rows or columns neighbours are put together to their mean; up to 12 columns the values
// are written into the cells. A value that is not finite leaves its cell empty.
type HeatMap struct {
	// Name says what the values are, and stands beside the scale. Defaults to none.
	Name string
	// Columns and Rows name the cells. Default to 0, 1, 2 …
	Columns, Rows []string
	// Values hold the rows, the first of which is on top. All have the same length.
	Values [][]float64
	// Diverging gives values below and above zero colours of their own, which grow with their distance from zero.
	Diverging bool
}

// heatScale is what the colours mean.
type heatScale struct {
	Name, From, To string
	Cells          []heatCell
}

type heatCell struct{ X, Class, Opacity string }

var heatScaleText = template.Must(template.New("scale").Parse(
	`<p class="scale quiet">{{with .Name}}<span>{{.}}:</span>{{end}}<span>{{.From}}</span>` +
		`<svg viewBox="0 0 120 10" preserveAspectRatio="none" aria-hidden="true">{{range .Cells}}<rect class="f-{{.Class}}" fill-opacity="{{.Opacity}}" x="{{.X}}" y="0" width="10" height="10"/>{{end}}</svg>` +
		`<span>{{.To}}</span></p>`))

func (h HeatMap) label() string { return h.Name }

func (h HeatMap) add(d *drawing) error {
	for _, l := range d.spec.Layers {
		switch l.(type) {
		case HeatMap, Reference, nil:
		default:
			return errors.New("a heat map is alone in its plot (make a plot of each)")
		}
	}
	if d.series > 0 {
		return errors.New("there is another heat map before it (make a plot of each)")
	}
	if len(h.Values) == 0 || len(h.Values[0]) == 0 {
		return errors.New("it has no values")
	}
	width := len(h.Values[0])
	for i, row := range h.Values {
		if len(row) != width {
			return fmt.Errorf("row %d has %d values beside %d of the first", i, len(row), width)
		}
	}
	if h.Columns != nil && len(h.Columns) != width || h.Rows != nil && len(h.Rows) != len(h.Values) {
		return fmt.Errorf("%d names of columns and %d of rows for %d by %d values", len(h.Columns), len(h.Rows), width, len(h.Values))
	}
	c := h.shrink()
	low, high := math.Inf(1), math.Inf(-1)
	for _, row := range c.Values {
		for _, v := range row {
			if !finite(v) {
				d.dropped++
				continue
			}
			low, high = min(low, v), max(high, v)
		}
	}
	if low > high {
		return errors.New("it has no finite value")
	}
	if h.Diverging {
		high = max(math.Abs(low), math.Abs(high))
		low = -high
	}
	d.series++
	heat := &heatCells{HeatMap: c, low: low, high: high, strongest: 95}
	if width <= maxHeatTexts && len(c.Values) <= 2*maxHeatTexts {
		heat.texts, heat.strongest = true, 50 // so that the text can be read on every cell
	}
	d.scale = heat.scale()
	d.heat = heat
	d.height = min(max(vg.Length(len(c.Values)*22+50), plotHeight/2), plotWidth)
	d.plot.Add(heat)
	return nil
}

// shrink puts neighbours together where there are too many cells to be told apart.
func (h HeatMap) shrink() HeatMap {
	height, width := len(h.Values), len(h.Values[0])
	if height <= maxHeatCells && width <= maxHeatCells {
		return h
	}
	out := HeatMap{Name: h.Name, Diverging: h.Diverging}
	rows, columns := min(height, maxHeatCells), min(width, maxHeatCells)
	name := func(names []string, from int) string {
		if names != nil {
			return names[from]
		}
		return fmt.Sprint(from)
	}
	for y := range rows {
		fromY, toY := y*height/rows, (y+1)*height/rows
		out.Rows = append(out.Rows, name(h.Rows, fromY))
		row := make([]float64, columns)
		for x := range row {
			fromX, toX := x*width/columns, (x+1)*width/columns
			if y == 0 {
				out.Columns = append(out.Columns, name(h.Columns, fromX))
			}
			sum, n := 0.0, 0
			for _, r := range h.Values[fromY:toY] {
				for _, v := range r[fromX:toX] {
					if finite(v) {
						sum, n = sum+v, n+1
					}
				}
			}
			row[x] = sum / float64(n) // of no value it is not finite, which leaves the cell empty
		}
		out.Values = append(out.Values, row)
	}
	return out
}

// heatCells draws a heat map.
type heatCells struct {
	HeatMap
	low, high float64
	strongest int // opacity of the strongest colour, in percent
	texts     bool
}

// color is that of a value: a share of the first colour, or below zero of the second.
func (h *heatCells) color(v float64) paint {
	base, share := "s1", 1.0
	switch {
	case h.Diverging:
		if v < 0 {
			base = "s2"
		}
		if h.high > 0 {
			share = math.Abs(v) / h.high
		}
	case h.high > h.low:
		share = (v - h.low) / (h.high - h.low)
	}
	level := math.Round(share * (heatLevels - 1))
	least := 4.0
	return paint(fmt.Sprintf("%s/%.2g", base, (least+(float64(h.strongest)-least)*level/(heatLevels-1))/100))
}

func (h *heatCells) scale() *heatScale {
	s := &heatScale{Name: label(h.Name), From: figure(h.low), To: figure(h.high)}
	for i := range heatLevels {
		class, opacity := h.color(h.low + (h.high-h.low)*float64(i)/(heatLevels-1)).parts()
		s.Cells = append(s.Cells, heatCell{X: fmt.Sprint(10 * i), Class: class, Opacity: opacity})
	}
	return s
}

// DataRange implements [plot.DataRanger].
func (h *heatCells) DataRange() (xmin, xmax, ymin, ymax float64) {
	return -0.5, float64(len(h.Values[0])) - 0.5, -0.5, float64(len(h.Values)) - 0.5
}

// Plot implements [plot.Plotter].
func (h *heatCells) Plot(c draw.Canvas, p *plot.Plot) {
	trX, trY := p.Transforms(&c)
	style := p.X.Tick.Label
	style.XAlign, style.YAlign, style.Color = draw.XCenter, draw.YCenter, paint("strong")
	colors := map[paint]vg.Path{} // one path of each keeps the page small
	var texts []func()
	for i, row := range h.Values {
		y := float64(len(h.Values) - 1 - i)
		for j, v := range row {
			if !finite(v) {
				continue
			}
			x := float64(j)
			low, high := vg.Point{X: trX(x - 0.5), Y: trY(y - 0.5)}, vg.Point{X: trX(x + 0.5), Y: trY(y + 0.5)}
			if len(row) <= maxHeatCells/2 { // a gap between cells that are large enough for one
				low, high = low.Add(vg.Point{X: 0.5, Y: 0.5}), high.Sub(vg.Point{X: 0.5, Y: 0.5})
			}
			path := colors[h.color(v)]
			path.Move(low)
			path.Line(vg.Point{X: high.X, Y: low.Y})
			path.Line(high)
			path.Line(vg.Point{X: low.X, Y: high.Y})
			path.Close()
			colors[h.color(v)] = path
			if text := figure(v); h.texts && style.Width(text) <= high.X-low.X {
				texts = append(texts, func() { c.FillText(style, vg.Point{X: trX(x), Y: trY(y)}, text) })
			}
		}
	}
	for _, p := range slices.Sorted(maps.Keys(colors)) {
		c.SetColor(p)
		c.Fill(colors[p])
	}
	for _, write := range texts {
		write()
	}
}

// figure writes a value: a whole number as it is, because many maps show counts.
func figure(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1e9 {
		return grouped(fmt.Sprint(int64(v)))
	}
	text := number4(v)
	if strings.Contains(text, ".") && !strings.Contains(text, "e") {
		text = strings.TrimRight(text, "0") // there is little room in a cell
	}
	return text
}

// cells says that the plot is a heat map.
func (d *drawing) cells() bool {
	for _, l := range d.spec.Layers {
		if _, ok := l.(HeatMap); ok {
			return true
		}
	}
	return false
}

// nameCells puts names on the axes of a heat map, as many as there is room for.
func (d *drawing) nameCells() {
	if d.heat == nil {
		return
	}
	h := d.heat
	d.plot.X.Min, d.plot.X.Max, d.plot.Y.Min, d.plot.Y.Max = h.DataRange()
	rows := sparse(h.Rows, len(h.Values), 14, func(string) vg.Length { return 16 }, d.height-50)
	columns := sparse(h.Columns, len(h.Values[0]), 12, func(s string) vg.Length { return d.plot.X.Tick.Label.Width(s + "m") }, plotWidth-80)
	d.plot.X.Tick.Marker = names{columns, false}
	d.plot.Y.Tick.Marker = names{rows, true}
}

// sparse shortens names, and blanks so many of them that the rest fit.
func sparse(all []string, n, length int, width func(string) vg.Length, room vg.Length) []string {
	out := make([]string, n)
	var widest vg.Length
	for i := range out {
		if out[i] = fmt.Sprint(i); all != nil {
			out[i] = short(all[i], length)
		}
		widest = max(widest, width(out[i]))
	}
	every := max(1, int(math.Ceil(float64(widest)*float64(n)/float64(room))))
	for i := range out {
		if i%every != 0 {
			out[i] = ""
		}
	}
	return out
}

// parts are the name of the colour in the style sheet, and how opaque it is; empty is wholly.
func (p paint) parts() (name, opacity string) {
	name, opacity, _ = strings.Cut(string(p), "/")
	return name, opacity
}
