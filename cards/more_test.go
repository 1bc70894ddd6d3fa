package cards

import (
	stdbytes "bytes"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"image"
	"image/color"
	"image/jpeg"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flow"
)

func TestCardOfOnesOwn(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	require.NoError(t, New("fairness").Render(&b, sample()))
	require.Contains(t, b.String(), "<li>fairness</li>")
	require.Contains(t, b.String(), "<figcaption>Weights")
	for _, id := range []string{"artifacts", "params", "attempts", "log"} {
		require.NotContains(t, b.String(), `id="`+id+`"`)
	}
	d := failed()
	b.Reset()
	require.NoError(t, New("fairness").Render(&b, d))
	require.Contains(t, b.String(), "index out of range")
	require.NotEmpty(t, d.Attempts, "the data is other cards' too")
}

// The programs of the charts are on the cards that need them.
func TestOnlyCardsWithChartsHaveScripts(t *testing.T) {
	t.Parallel()
	page := renderCard(t, sample())
	require.NotContains(t, page, "<script")
	require.NotContains(t, page, "script-src")

	page = renderCard(t, components())
	require.Equal(t, len(vegaScripts()), strings.Count(page, "<script>"))
	for _, s := range vegaScripts() {
		require.Contains(t, html.UnescapeString(page[:2000]), digest(s), "the policy names the script by its digest")
		lower := strings.ToLower(s)
		require.NotContains(t, lower, "</script", "it would end early")
		require.NotContains(t, lower, "<!--", "it would be read otherwise")
		require.NotContains(t, s, "\r", "a parser drops it, and the digest is another")
	}
	require.NotContains(t, vegaPolicy(), "unsafe")
}

func TestVegaLiteRefuses(t *testing.T) {
	t.Parallel()
	deep := map[string]any{"layer": []any{map[string]any{"transform": []any{map[string]any{"lookup": "a", "from": map[string]any{"data": map[string]any{"url": "x.csv"}}}}}}}
	for _, test := range []struct {
		spec any
		want string
	}{
		{map[string]any{"mark": "bar", "data": map[string]any{"url": "https://example.com/a.csv"}}, "put the rows into data.values"},
		{deep, "put the rows into data.values"},
		{`{"mark":`, "no JSON object"}, {`[]`, "no JSON object"}, {`"bar"`, "no JSON object"}, {math.NaN(), "unsupported value"},
		{`{"$schema": "https://vega.github.io/schema/vega/v6.json"}`, "only Vega-Lite is drawn"},
		{strings.Repeat(" ", maxSpecBytes+1), "aggregate the data first"},
	} {
		html := string(VegaLite{Title: "t", Spec: test.spec}.CardHTML())
		require.Contains(t, html, `class="note`)
		require.Contains(t, html, test.want)
		require.NotContains(t, html, "data-vega")
	}
	// A column may be called what it likes.
	for _, spec := range []any{
		`{"mark":"bar","data":{"values":[{"data":{"url":"x"}}]}}`, []byte(`{"mark":"bar"}`), json.RawMessage(`{"mark":"bar"}`),
	} {
		require.Contains(t, string(VegaLite{Spec: spec}.CardHTML()), `data-vega="{`)
	}
	html := string(VegaLite{Title: "t", Spec: `{"mark":"bar","description":"a <b> chart"}`}.CardHTML())
	require.Contains(t, html, `aria-label="a &lt;b&gt; chart"`)
}

func TestProgressBar(t *testing.T) {
	t.Parallel()
	bar := &ProgressBar{Label: "rows", Total: 20_000}
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			for range 100 {
				bar.Add(1)
				_ = bar.CardHTML()
			}
		})
	}
	wg.Wait()
	require.Contains(t, string(bar.CardHTML()), "1,000 of 20,000 (5 %)")
	bar.Set(30_000)
	require.Contains(t, string(bar.CardHTML()), `max="20000" value="20000"`)
	bar.Set(math.MaxInt64)
	require.NotContains(t, string(bar.CardHTML()), "(-")
	require.NotContains(t, string((&ProgressBar{Total: -1}).CardHTML()), "<progress")
}

func TestImageIsOneOfFourKinds(t *testing.T) {
	t.Parallel()
	picture := image.NewGray(image.Rect(0, 0, 7, 5))
	var b stdbytes.Buffer
	require.NoError(t, jpeg.Encode(&b, picture, nil))
	html := string(Image{Alt: "grey", Data: b.Bytes()}.CardHTML())
	require.Contains(t, html, `<img src="data:image/jpeg;base64,`)
	require.Contains(t, html, `alt="grey" width="7" height="5"`)
	require.Contains(t, string(Image{Picture: picture}.CardHTML()), `<img src="data:image/png;base64,`)
	for _, test := range []struct {
		image Image
		want  string
	}{
		{Image{}, "neither Data nor a Picture"},
		{Image{Data: []byte("<svg xmlns='http://www.w3.org/2000/svg'/>")}, "use PNG, JPEG, GIF or WebP"},
		{Image{Data: []byte("<html><script>")}, "use PNG, JPEG, GIF or WebP"},
		{Image{Data: append(b.Bytes(), make([]byte, maxImageBytes)...)}, "make it smaller"},
		{Image{Picture: image.NewUniform(color.Black)}, "make it smaller"},
		{Image{Picture: image.NewGray(image.Rectangle{})}, "make it smaller"},
	} {
		html := string(test.image.CardHTML())
		require.Contains(t, html, `class="note`)
		require.Contains(t, html, test.want)
	}
}

func TestJSONTree(t *testing.T) {
	t.Parallel()
	html := string(JSON{Value: []byte(`{"b": 1.50, "a": [true, null, "x"], "c": {}, "d": 12345678901234567890}`)}.CardHTML())
	require.Less(t, strings.Index(html, `<span class="key">b</span> <code>1.50</code>`), strings.Index(html, `<span class="key">a</span>`), "the order and the digits are kept")
	require.Contains(t, html, "12345678901234567890")
	require.Contains(t, html, `<span class="quiet">3 items</span>`)

	many := string(JSON{Value: make([]int, 20_000)}.CardHTML())
	require.Contains(t, many, "20,000 items")
	require.Contains(t, many, "… and 15,001 more")
	require.Less(t, len(many), 200_000)

	type loop struct{ Next *loop }
	l := &loop{}
	l.Next = l
	for _, v := range []any{l, math.Inf(1), func() {}, make(chan int), make([]byte, 10<<20), json.RawMessage(strings.Repeat("[", 1000) + strings.Repeat("]", 1000))} {
		require.Contains(t, string(JSON{Title: "t", Value: v}.CardHTML()), `class="note`, "%T", v)
	}
}

func TestArtifact(t *testing.T) {
	t.Parallel()
	require.Contains(t, string(Artifact{Name: "N", Value: 12345}.CardHTML()), "<code>12,345</code>")
	require.Contains(t, string(Artifact{Name: "When", Value: time.Minute}.CardHTML()), "<code>1 m 0 s</code>")
	require.Contains(t, string(Artifact{Name: "Model", Value: map[string]int{"a": 1}}.CardHTML()), `<span class="key">a</span>`)
	require.Contains(t, string(Artifact{Name: "Err", Value: errors.New("boom")}.CardHTML()), "boom")
	require.Contains(t, string(Artifact{Name: "None"}.CardHTML()), "<code>–</code>")
	require.Contains(t, string(Artifact{Name: "F", Value: struct{ F func() }{}}.CardHTML()), "<code>")
}

type selfish struct{}

func (s selfish) Error() string { return "again" }
func (s selfish) Unwrap() error { return s }

func TestError(t *testing.T) {
	t.Parallel()
	require.Contains(t, string(Error{Err: fmt.Errorf("outer: %w", errors.New("inner"))}.CardHTML()), "outer: inner")
	require.Contains(t, string(Error{Err: selfish{}}.CardHTML()), "again")
	require.Contains(t, string(Error{Title: "t"}.CardHTML()), `class="note`)
}

func TestHeatMap(t *testing.T) {
	t.Parallel()
	draw := func(h HeatMap, more ...Layer) string {
		return string(Plot{Title: "t", Layers: append([]Layer{h}, more...)}.CardHTML())
	}
	html := draw(HeatMap{Columns: []string{"a", "b"}, Rows: []string{"c", "d"}, Values: [][]float64{{1, 2}, {3, math.NaN()}}})
	for _, want := range []string{">a<", ">b<", ">c<", ">d<", ">3<", "1 values that are not finite", `class="scale`} {
		require.Contains(t, html, want)
	}
	large := make([][]float64, 1000)
	for i := range large {
		large[i] = make([]float64, 1000)
		large[i][i] = 1
	}
	html = draw(HeatMap{Values: large})
	require.NotContains(t, html, `class="note`)
	require.Less(t, len(html), 1<<20)
	require.NotContains(t, draw(HeatMap{Values: [][]float64{{5}}}), `class="note`)
	require.NotContains(t, draw(HeatMap{Values: [][]float64{{0, 0}}, Diverging: true}), "NaN")
	for _, html := range []string{
		draw(HeatMap{}), draw(HeatMap{Values: [][]float64{{1}, {1, 2}}}), draw(HeatMap{Values: [][]float64{{math.NaN()}}}),
		draw(HeatMap{Values: [][]float64{{1}}, Rows: []string{"a", "b"}}), draw(HeatMap{Values: [][]float64{{1}}}, Line{Y: []float64{1, 2}}),
		draw(HeatMap{Values: [][]float64{{1}}}, HeatMap{Values: [][]float64{{1}}}),
	} {
		require.Contains(t, html, `class="note`)
	}
}

func TestTimeline(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	html := string(Timeline{Spans: []Span{
		{Name: "a", Start: at, End: at.Add(time.Second)}, {Name: "none"}, {Name: "b", Start: at.Add(time.Second)}, {Name: "a", Start: at.Add(3 * time.Second), End: at.Add(time.Second)},
	}, End: at.Add(4 * time.Second)}.CardHTML())
	require.Contains(t, html, `x="250.0" y="1" width="750.0"`)
	require.Contains(t, html, "3 s, goes on")
	require.Contains(t, html, "1 s (twice)")
	require.NotContains(t, html, ">none<")
	require.Contains(t, string(Timeline{}.CardHTML()), "nothing yet")

	var many []Span
	for i := range 5000 {
		many = append(many, Span{Name: fmt.Sprint(i % 1000), Start: at, End: at})
	}
	html = string(Timeline{Spans: many}.CardHTML())
	require.Equal(t, maxTimelineRows, strings.Count(html, `<th scope="row">`))
	require.Contains(t, html, "… and 4,000 more")
}

func TestLiveCardSaysHowOldItIs(t *testing.T) {
	t.Parallel()
	page := renderCard(t, live())
	require.Contains(t, page, "This is how it stood at 2026-03-14 09:27:01 UTC")
	require.Contains(t, page, "<dt>Running for</dt><dd>8 s</dd>")
	require.Contains(t, page, "1,200 of 4,000 (30 %)")
	over := renderCard(t, &flow.CardData{Outcome: "completed", Done: 3, Total: 4, Written: time.Now()})
	require.NotContains(t, over, "3 of 4", "what is done needs no progress")
}
