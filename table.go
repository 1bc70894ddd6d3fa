package stepwell

import (
	"io"
	"strings"

	"charm.land/lipgloss/v2"
)

// table prints aligned columns. Unlike text/tabwriter it knows that colours and combining characters take no room.
type table struct {
	w      io.Writer
	indent string
	rows   [][]string
	widths []int
}

func newTable(w io.Writer) *table { return &table{w: w} }

// row adds a line. A single cell stands alone and does not widen the first column.
func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// flush prints the rows. What comes then is another table.
func (t *table) flush() {
	t.part()
	t.widths = nil
}

// part prints the rows so far, of a table that goes on: its columns get wider if they must. Nothing follows the last cell of a
// row, so copied lines have no spaces at their end.
func (t *table) part() {
	widths := t.widths
	for _, cells := range t.rows {
		if len(cells) < 2 {
			continue
		}
		for i, cell := range cells {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], cellWidth(cell))
		}
	}
	var b strings.Builder
	for _, cells := range t.rows {
		for len(cells) > 1 && cells[len(cells)-1] == "" {
			cells = cells[:len(cells)-1]
		}
		b.WriteString(t.indent)
		for i, cell := range cells {
			b.WriteString(cell)
			if i < len(cells)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-cellWidth(cell)+2))
			}
		}
		b.WriteByte('\n')
	}
	t.rows, t.widths = nil, widths
	_, _ = io.WriteString(t.w, b.String()) // the stream remembers what went wrong
}

// cellWidth is how much room a text takes. Nearly all are plain, and a list has many.
func cellWidth(s string) int {
	if plain(s) {
		return len(s)
	}
	return lipgloss.Width(s)
}
