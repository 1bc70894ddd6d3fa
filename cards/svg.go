package cards

import (
	"fmt"
	"html"
	"image"
	"image/color"
	"math"
	"strconv"
	"strings"

	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/vg"
)

// paint is a colour by its name in the style sheet, so that one drawing serves the light and the dark page.
type paint string

const (
	paintText paint = "text"
	paintAxis paint = "axis"
	paintGrid paint = "grid"
)

// seriesPaint is the colour of the i-th layer; there are six.
func seriesPaint(i int) paint { return paint("s" + strconv.Itoa(i%6+1)) }

// RGBA implements [color.Color]. The style sheet decides; this is what an unknown name would look like.
func (paint) RGBA() (r, g, b, a uint32) { return color.Gray{Y: 128}.RGBA() }

// svgCanvas is a [vg.Canvas] that writes SVG for use inside of an HTML page: only path and text elements, colours
// as classes, no ids, styles, links or images, and text escaped. gonum's own SVG canvas writes style attributes,
// which a strict Content-Security-Policy blocks, and fixed colours, which the dark page cannot change.
type svgCanvas struct {
	width, height vg.Length
	body          strings.Builder
	state         svgState
	stack         []svgState
	broken        bool // a coordinate was not a number
}

type svgState struct {
	matrix [6]float64 // x' = m0 x + m2 y + m4, y' = m1 x + m3 y + m5; y grows upwards
	width  vg.Length
	dash   []vg.Length
	color  paint
}

func newSVGCanvas(width, height vg.Length) *svgCanvas {
	c := &svgCanvas{width: width, height: height}
	c.state = svgState{matrix: [6]float64{1, 0, 0, 1, 0, 0}, width: 1, color: paintText}
	return c
}

// Size implements [vg.CanvasSizer].
func (c *svgCanvas) Size() (x, y vg.Length) { return c.width, c.height }

// SetLineWidth implements [vg.Canvas].
func (c *svgCanvas) SetLineWidth(w vg.Length) { c.state.width = w }

// SetLineDash implements [vg.Canvas].
func (c *svgCanvas) SetLineDash(pattern []vg.Length, _ vg.Length) { c.state.dash = pattern }

// SetColor implements [vg.Canvas]. A colour that is not a paint is drawn like text.
func (c *svgCanvas) SetColor(clr color.Color) {
	p, ok := clr.(paint)
	if !ok {
		p = paintText
	}
	c.state.color = p
}

// Rotate implements [vg.Canvas].
func (c *svgCanvas) Rotate(rad float64) {
	sin, cos := math.Sincos(rad)
	c.apply([6]float64{cos, sin, -sin, cos, 0, 0})
}

// Translate implements [vg.Canvas].
func (c *svgCanvas) Translate(pt vg.Point) {
	c.apply([6]float64{1, 0, 0, 1, float64(pt.X), float64(pt.Y)})
}

// Scale implements [vg.Canvas].
func (c *svgCanvas) Scale(x, y float64) { c.apply([6]float64{x, 0, 0, y, 0, 0}) }

// apply makes t the first thing that happens to a point.
func (c *svgCanvas) apply(t [6]float64) {
	m := c.state.matrix
	c.state.matrix = [6]float64{
		m[0]*t[0] + m[2]*t[1], m[1]*t[0] + m[3]*t[1],
		m[0]*t[2] + m[2]*t[3], m[1]*t[2] + m[3]*t[3],
		m[0]*t[4] + m[2]*t[5] + m[4], m[1]*t[4] + m[3]*t[5] + m[5],
	}
}

// Push implements [vg.Canvas].
func (c *svgCanvas) Push() { c.stack = append(c.stack, c.state) }

// Pop implements [vg.Canvas].
func (c *svgCanvas) Pop() {
	c.state = c.stack[len(c.stack)-1]
	c.stack = c.stack[:len(c.stack)-1]
}

// Stroke implements [vg.Canvas].
func (c *svgCanvas) Stroke(p vg.Path) {
	if c.state.width <= 0 {
		return
	}
	fmt.Fprintf(&c.body, `<path class="k-%s" fill="none" stroke-width="%s"`, c.state.color, c.number(float64(c.state.width)))
	if len(c.state.dash) > 0 {
		c.body.WriteString(` stroke-dasharray="`)
		for i, d := range c.state.dash {
			if i > 0 {
				c.body.WriteByte(' ')
			}
			c.body.WriteString(c.number(float64(d)))
		}
		c.body.WriteByte('"')
	}
	fmt.Fprintf(&c.body, ` d="%s"/>`, c.path(p))
}

// Fill implements [vg.Canvas].
func (c *svgCanvas) Fill(p vg.Path) {
	name, opacity := c.state.color.parts()
	if opacity != "" {
		opacity = ` fill-opacity="` + opacity + `"`
	}
	fmt.Fprintf(&c.body, `<path class="f-%s"%s d="%s"/>`, name, opacity, c.path(p))
}

// FillString implements [vg.Canvas]. The text takes exactly the width that the plot measured for it, whatever font
// the reader's browser has.
func (c *svgCanvas) FillString(f font.Face, pt vg.Point, text string) {
	if f.Font.Size == 0 || strings.TrimSpace(text) == "" {
		return
	}
	x, y := c.point(pt)
	fmt.Fprintf(&c.body, `<text class="f-%s" x="%s" y="%s" font-size="%s" textLength="%s" lengthAdjust="spacingAndGlyphs"`,
		c.state.color, x, y, c.number(float64(f.Font.Size)), c.number(float64(f.Width(text))))
	if degrees := -math.Atan2(c.state.matrix[1], c.state.matrix[0]) * 180 / math.Pi; math.Abs(degrees) > 0.01 {
		fmt.Fprintf(&c.body, ` transform="rotate(%s %s %s)"`, c.number(degrees), x, y)
	}
	fmt.Fprintf(&c.body, `>%s</text>`, html.EscapeString(clean(text)))
}

// DrawImage implements [vg.Canvas]. None of this package's layers draws images.
func (c *svgCanvas) DrawImage(vg.Rectangle, image.Image) {}

func (c *svgCanvas) path(p vg.Path) string {
	var b strings.Builder
	for _, comp := range p {
		switch comp.Type {
		case vg.MoveComp:
			x, y := c.point(comp.Pos)
			fmt.Fprintf(&b, "M%s %s", x, y)
		case vg.LineComp:
			x, y := c.point(comp.Pos)
			fmt.Fprintf(&b, "L%s %s", x, y)
		case vg.ArcComp:
			c.arc(&b, comp)
		case vg.CurveComp:
			b.WriteByte("QC"[min(len(comp.Control), 2)-1])
			for _, control := range append(comp.Control, comp.Pos) {
				x, y := c.point(control)
				fmt.Fprintf(&b, "%s %s ", x, y)
			}
		case vg.CloseComp:
			b.WriteByte('Z')
		}
	}
	return b.String()
}

// arc draws in halves of the whole angle, because SVG cannot draw a full circle in one arc.
func (c *svgCanvas) arc(b *strings.Builder, comp vg.PathComp) {
	at := func(angle float64) (x, y string) {
		sin, cos := math.Sincos(angle)
		return c.point(vg.Point{X: comp.Pos.X + comp.Radius*vg.Length(cos), Y: comp.Pos.Y + comp.Radius*vg.Length(sin)})
	}
	x, y := at(comp.Start)
	verb := "M"
	if b.Len() > 0 {
		verb = "L"
	}
	fmt.Fprintf(b, "%s%s %s", verb, x, y)
	radius := c.number(float64(comp.Radius) * math.Hypot(c.state.matrix[0], c.state.matrix[1]))
	sweep := 0 // counter-clockwise with y growing upwards
	if comp.Angle < 0 {
		sweep = 1
	}
	for i := 1; i <= 2; i++ {
		x, y := at(comp.Start + comp.Angle*float64(i)/2)
		fmt.Fprintf(b, "A%s %s 0 0 %d %s %s", radius, radius, sweep, x, y)
	}
}

// point returns a place in the picture, in which y grows downwards.
func (c *svgCanvas) point(p vg.Point) (x, y string) {
	m := c.state.matrix
	fx := m[0]*float64(p.X) + m[2]*float64(p.Y) + m[4]
	fy := m[1]*float64(p.X) + m[3]*float64(p.Y) + m[5]
	return c.number(fx), c.number(float64(c.height) - fy)
}

func (c *svgCanvas) number(f float64) string {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		c.broken = true
		return "0"
	}
	s := strconv.FormatFloat(f, 'f', 2, 64)
	s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	if s == "-0" {
		return "0"
	}
	return s
}

// svg returns the drawing. The label is what a screen reader says instead of it.
func (c *svgCanvas) svg(label string) string {
	return fmt.Sprintf(`<svg class="plot" role="img" aria-label="%s" viewBox="0 0 %s %s">%s</svg>`,
		html.EscapeString(clean(label)), c.number(float64(c.width)), c.number(float64(c.height)), c.body.String())
}
