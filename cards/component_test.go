package cards

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"github.com/stepwell-flows/stepwell/flow"
)

// texts returns the text of every element of a kind, in order.
func texts(t *testing.T, page, element string) []string {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(page))
	require.NoError(t, err)
	var found []string
	for n := range doc.Descendants() {
		if n.Type == html.ElementNode && n.Data == element {
			var b strings.Builder
			for inner := range n.Descendants() {
				if inner.Type == html.TextNode {
					b.WriteString(inner.Data)
				}
			}
			found = append(found, b.String())
		}
	}
	return found
}

type colour int

func (c colour) String() string { return [...]string{"red", "green"}[c] }

type point struct {
	X, Y int
	note string
}

func TestCell(t *testing.T) {
	t.Parallel()
	deep := make([]any, 1)
	deep[0] = deep
	type ring struct{ Next *ring }
	loop := &ring{}
	loop.Next = loop
	for _, test := range []struct {
		value  any
		want   string
		number bool
	}{
		{nil, "–", false},
		{"a", "a", false},
		{"", "", false},
		{"-0.25", "-0.25", true},
		{"+1e3", "+1e3", true},
		{"1 km", "1 km", false},
		{0, "0", true},
		{-1234, "−1234", true},
		{1234567, "1,234,567", true},
		{int64(math.MinInt64), "−9,223,372,036,854,775,808", true},
		{uint8(200), "200", true},
		{0.0, "0", true},
		{0.123456, "0.1235", true},
		{-12.3456, "−12.35", true},
		{123456.7, "123,457", true},
		{1.5e12, "1.5e+12", true},
		{1.5e-7, "1.5e−07", true},
		{float32(0.5), "0.5000", true},
		{math.NaN(), "NaN", true},
		{math.Inf(-1), "-Inf", true},
		{true, "true", false},
		{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), "2026-01-02T03:04:05Z", false},
		{90 * time.Second, "1 m 30 s", true},
		{errors.New("bad\x1b[31m"), "bad", false},
		{colour(1), "green", false},
		{colour(7), "%!v(PANIC=String method: runtime error: index out of range [7] with length 2)", false},
		{(*colour)(nil), "<nil>", false},
		{point{1, 2, "n"}, "{1 2 n}", false},
		{[]float64{1, 2}, "[1 2]", false},
		{map[string]int{"b": 2, "a": 1}, "map[a:1 b:2]", false},
		{make([]float64, 1_000_000), "[]float64, too large to show", false},
		{deep, "[]interface {}, too large to show", false},
		{loop, "*cards.ring, too large to show", false},
		{strings.Repeat("é", 2001), strings.Repeat("é", 2000) + "… (1 more characters)", false},
	} {
		text, number := cell(test.value)
		require.Equal(t, test.want, text, "%T", test.value)
		require.Equal(t, test.number, number, "%v", test.want)
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0 s", 999: "999 ns", 1500: "1 µs", 850 * time.Millisecond: "850 ms", 2718 * time.Millisecond: "2.71 s",
		200 * time.Second: "3 m 20 s", 125 * time.Minute: "2 h 5 m", -time.Second: "−1 s", math.MinInt64: "−2562047 h 47 m",
	} {
		require.Equal(t, want, duration(d))
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	page := string(Table{Columns: []string{"name", "n", "text"}, Rows: [][]any{{"a", 1, "1.5"}, {"b", nil, "x"}, {"c"}}}.CardHTML())
	require.Equal(t, []string{"name", "n", "text"}, texts(t, page, "th"))
	require.Equal(t, []string{"a", "1", "1.5", "b", "–", "x", "c", "", ""}, texts(t, page, "td"), "short rows are filled")
	require.Contains(t, page, `<th scope="col" class="n">n</th>`)
	require.Contains(t, page, `<th scope="col">text</th>`, "one value that is no number")

	require.Equal(t, []string{"no rows"}, texts(t, string(Table{Columns: []string{"a", "b"}}.CardHTML()), "td"))
	require.Equal(t, []string{"no rows"}, texts(t, string(Table{}.CardHTML()), "td"))
	require.Equal(t, []string{"", ""}, texts(t, string(Table{Rows: [][]any{{1, 2}}}.CardHTML()), "th"), "rows without headers")
}

func TestTableIsBounded(t *testing.T) {
	t.Parallel()
	rows := make([][]any, 10_000)
	for i := range rows {
		rows[i] = []any{i, "x"}
	}
	page := string(Table{Columns: []string{"i", "x"}, Rows: rows}.CardHTML())
	require.Len(t, texts(t, page, "tr"), 1+maxTableRows)
	require.Contains(t, page, "… and 9,500 more rows")

	wide := string(Table{Columns: slices.Repeat([]string{"c"}, 100_000), Rows: [][]any{make([]any, 200_000)}}.CardHTML())
	require.Len(t, texts(t, wide, "td"), maxTableColumns)
	require.Contains(t, wide, "… and 199,950 more columns")

	long := slices.Repeat([][]any{slices.Repeat([]any{strings.Repeat("x", 3000)}, maxTableColumns)}, maxTableRows)
	page = string(Table{Rows: long}.CardHTML())
	require.Less(t, len(page), 2*maxTableRunes)
	require.Contains(t, page, "more rows")

	huge := strings.Repeat("label ", 1_000_000)
	page = string(Table{Caption: huge, Columns: []string{huge}}.CardHTML()) + string(ValueBox{Label: huge, Value: huge, Note: huge}.CardHTML())
	require.Less(t, len(page), 10_000)
}

func TestComponentsThatCannotBeShown(t *testing.T) {
	t.Parallel()
	var box *ValueBox
	page := renderCard(t, &flow.CardData{Components: []flow.Component{
		nil, box, angry{"<b>"}, angry{strings.Repeat("x", 1_000_000)}, ValueBox{Label: "after", Value: 1},
	}})
	require.Contains(t, page, "component 0 is nil")
	require.Contains(t, page, "component 1 (*cards.ValueBox) could not be shown")
	require.Contains(t, page, "component 2 (cards.angry) could not be shown: &lt;b&gt;")
	require.Contains(t, page, "<dt>after</dt>")
	require.Less(t, len(page), 40_000)
}

func TestComponentsAreBounded(t *testing.T) {
	t.Parallel()
	many := slices.Repeat([]flow.Component{ValueBox{Label: "a", Value: 1}}, 10_000)
	page := renderCard(t, &flow.CardData{Components: many})
	require.Equal(t, maxComponents, strings.Count(page, `<div class="box">`))
	require.Contains(t, page, "9,500 more components are left out")

	large := slices.Repeat([]flow.Component{foreign(strings.Repeat("x", 1<<20))}, 100)
	page = renderCard(t, &flow.CardData{Components: large})
	require.Less(t, len(page), maxComponentBytes+1<<20)
	require.Contains(t, page, "92 more components are left out")
}

func TestCardIsBounded(t *testing.T) {
	t.Parallel()
	d := everywhere(strings.Repeat("x ", 1<<16))
	d.Attempts = slices.Repeat(d.Attempts, 5000)
	d.Log = slices.Repeat(d.Log, 5000)
	page := renderCard(t, d)
	require.Less(t, len(page), 4<<20)
	require.Contains(t, page, "4,900 earlier attempts are left out")
	require.Contains(t, page, "9,500 earlier lines are left out")
	checkSafe(t, page)
}

func TestAttempts(t *testing.T) {
	t.Parallel()
	page := renderCard(t, sample())
	require.Equal(t, []string{"good"}, classes(page, "Attempt 3"))
	require.Equal(t, []string{"bad"}, classes(page, "Attempt 1"))
	require.Contains(t, page, "waited 2 s: asked for 2s by the error")
	running := renderCard(t, &flow.CardData{Attempts: []flow.CardAttempt{{Number: 1}}})
	require.Contains(t, running, `<span class="how">running</span>`)
}

// classes are those of the list items that hold the text.
func classes(page, text string) (found []string) {
	for item := range strings.SplitSeq(page, "<li class=\"") {
		if class, rest, ok := strings.Cut(item, "\">"); ok && strings.Contains(rest, text) {
			found = append(found, class)
		}
	}
	return found
}

func TestArtifactsThatWereSetComeFirst(t *testing.T) {
	t.Parallel()
	page := renderCard(t, &flow.CardData{Artifacts: []flow.CardValue{
		{Name: "A", Preview: "1", Size: 1}, {Name: "B", Size: 9000}, {Name: "C", Preview: "3", Size: 2048, Changed: true},
	}})
	names := slices.DeleteFunc(texts(t, page, "span"), func(s string) bool { return len(s) != 1 })
	require.Equal(t, []string{"C", "A", "B"}, names)
	require.Contains(t, page, "2.0 KiB")
	require.Equal(t, 1, strings.Count(page, "not shown here"), "only B has a value and no preview")
}

// A writer that fails is an error that names the task, not a panic.
func TestWriteError(t *testing.T) {
	t.Parallel()
	err := Default().Render(brokenWriter{}, sample())
	require.EqualError(t, err, `write the card of "evaluate": disk full`)
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func ExampleValueBox() {
	fmt.Println(ValueBox{Label: "AUC", Value: 0.74123, Note: "chance: 0.5"}.CardHTML())
	// Output: <div class="box"><dl><dt>AUC</dt><dd>0.7412</dd></dl><p>chance: 0.5</p></div>
}
