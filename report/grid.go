package report

import (
	"fmt"
	"html/template"
	"math"
	"strings"

	"github.com/stepwell-flows/stepwell/cards"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/runs"
)

const (
	// manyCells is how many cells the grid of a foreach has at most.
	manyCells = 10_000
	// manyMarked is how many of them can be pointed at.
	manyMarked = 500
	cellSize   = 10
)

// grid shows how each item stands.
type grid struct {
	SVG    template.HTML
	Each   string // what a cell is
	Legend []legendView
}

type legendView struct {
	Tone, Word, Count string
}

// look is how a cell is drawn.
type look struct{ tone, word string }

func (o places) grid(f *runs.Foreach, cells []runs.Cell) grid {
	if len(cells) == 0 {
		return grid{}
	}
	each, items := 1, 0
	var sum runs.Cell
	for _, c := range cells {
		each, items = max(each, c.Items), items+c.Items
		sum.Completed, sum.Failed, sum.Cancelled = sum.Completed+c.Completed, sum.Failed+c.Failed, sum.Cancelled+c.Cancelled
		sum.Paused, sum.Running, sum.Unfinished = sum.Paused+c.Paused, sum.Running+c.Running, sum.Unfinished+c.Unfinished
	}
	g := grid{Each: "Each square is an item, in the order of the list."}
	if each > 1 {
		g.Each = fmt.Sprintf("Each square is %s items that are next to each other in the list.", cards.Count(each))
	}
	add := func(tone, word string, n int) {
		if n > 0 {
			g.Legend = append(g.Legend, legendView{tone, word, cards.Count(n)})
		}
	}
	add("good", "completed", sum.Completed)
	add("bad", "failed", sum.Failed)
	add("busy", "running", sum.Running)
	add("warn", "waiting for a person, or cancelled", sum.Paused+sum.Cancelled)
	add("quiet", "not ended", sum.Unfinished)
	add("none", "not begun", items-sum.Completed-sum.Failed-sum.Running-sum.Paused-sum.Cancelled-sum.Unfinished)

	columns := min(100, max(10, int(math.Ceil(math.Sqrt(float64(len(cells))*2)/10)*10)))
	rows := (len(cells) + columns - 1) / columns
	paths := map[string]*strings.Builder{}
	var marked strings.Builder
	marks := 0
	for i, c := range cells {
		x, y := i%columns*cellSize, i/columns*cellSize
		l := lookOf(c)
		if l.word != "" && marks < manyMarked {
			marks++
			title := itemName(f, c) + ": " + l.word
			rect := fmt.Sprintf(`<rect class="c-%s" x="%d" y="%d" width="9" height="9"><title>%s</title></rect>`, l.tone, x, y, template.HTMLEscapeString(title))
			if url := o.item(f, c); url != "" {
				rect = fmt.Sprintf(`<a href="%s" tabindex="-1">%s</a>`, template.HTMLEscapeString(url), rect)
			}
			marked.WriteString(rect)
			continue
		}
		if paths[l.tone] == nil {
			paths[l.tone] = &strings.Builder{}
		}
		fmt.Fprintf(paths[l.tone], "M%d %dh9v9h-9z", x, y)
	}
	wide := columns * cellSize
	if columns <= 50 { // there is room for larger ones
		wide *= 2
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="grid" viewBox="0 0 %d %d" width="%d" aria-hidden="true" focusable="false">`, columns*cellSize, rows*cellSize, wide)
	for _, tone := range []string{"none", "quiet", "good-1", "good-2", "good-3", "good", "busy", "warn", "bad"} {
		if p := paths[tone]; p != nil {
			fmt.Fprintf(&b, `<path class="c-%s" d="%s"/>`, tone, p.String())
		}
	}
	b.WriteString(marked.String() + `</svg>`)
	g.SVG = template.HTML(b.String()) //nolint:gosec // numbers, classes of this package, and text that was escaped
	return g
}

// lookOf is the worst that a cell has, or how much of it has completed. Cells that a reader may want to point at have a word.
func lookOf(c runs.Cell) look {
	say := func(n int, word string) string {
		if c.Items == 1 {
			return word
		}
		return fmt.Sprintf("%s of %s %s", cards.Count(n), cards.Count(c.Items), word)
	}
	switch {
	case c.Failed > 0:
		return look{"bad", say(c.Failed, "failed")}
	case c.Paused > 0:
		return look{"warn", say(c.Paused, "paused")}
	case c.Cancelled > 0:
		return look{"warn", ""}
	case c.Running > 0:
		return look{"busy", ""}
	case c.Completed == c.Items:
		return look{"good", ""}
	case c.Completed > 0:
		return look{fmt.Sprintf("good-%d", 1+min(c.Completed*3/c.Items, 2)), ""}
	case c.Unfinished > 0:
		return look{"quiet", ""}
	}
	return look{"none", ""}
}

func itemName(f *runs.Foreach, c runs.Cell) string {
	if c.Items == 1 {
		return text(flow.TaskName(f.Name, c.First))
	}
	return fmt.Sprintf("items from %s", c.First)
}

// item is the page of an item's first task.
func (o places) item(f *runs.Foreach, c runs.Cell) string {
	if c.Items > 1 || len(f.Steps) == 0 || len(f.Steps[0].Shapes) != len(c.First) {
		return ""
	}
	s := f.Steps[0]
	for _, other := range f.Steps { // the step that has failures, if only one has
		if other.Failed > 0 {
			s = other
			break
		}
	}
	url := o.task(flow.TaskName(s.Name, c.First)).URL
	if !strings.HasPrefix(url, "/") {
		return ""
	}
	return url
}
