package cards

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"github.com/stepwell-flows/stepwell/flow"
)

func attr(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

// What a screen reader and a keyboard need.
func TestCardIsAccessible(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]*flow.CardData{"completed": sample(), "failed": failed(), "empty": {}, "components": components(), "live": live(), "everything": everywhere("text")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			doc, err := html.Parse(strings.NewReader(renderCard(t, d)))
			require.NoError(t, err)
			count, ids, level := map[string]int{}, map[string]bool{}, 0
			var named []string
			for n := range doc.Descendants() {
				if n.Type != html.ElementNode {
					continue
				}
				count[n.Data]++
				if id := attr(n, "id"); id != "" {
					require.False(t, ids[id], "two elements have the id %q", id)
					ids[id] = true
				}
				if by := attr(n, "aria-labelledby"); by != "" {
					named = append(named, by)
				}
				label := attr(n, "aria-label") + attr(n, "aria-labelledby")
				switch n.Data {
				case "html":
					require.Equal(t, "en", attr(n, "lang"))
				case "title", "h1":
					require.NotNil(t, n.FirstChild, "%s is empty", n.Data)
				case "section", "nav":
					require.NotEmpty(t, label, "%s without a name", n.Data)
				case "th":
					if attr(n, "align") == "" { // those of Markdown stand in a simple table, of which browsers know the scope
						require.Contains(t, []string{"col", "row"}, attr(n, "scope"))
					}
				case "svg":
					require.True(t, attr(n, "aria-hidden") == "true" || attr(n, "role") == "img" && label != "", "a picture without a text")
				}
				if slices.Contains(strings.Fields(attr(n, "class")), "scroll") {
					require.Equal(t, "0", attr(n, "tabindex"), "the keyboard cannot scroll %s", n.Data)
					require.Equal(t, "region", attr(n, "role"))
					require.NotEmpty(t, label)
				}
				if heading := regexp.MustCompile(`^h([1-6])$`).FindStringSubmatch(n.Data); heading != nil {
					next, _ := strconv.Atoi(heading[1])
					require.LessOrEqual(t, next, level+1, "the outline skips a level at %s", n.Data)
					level = next
				}
			}
			for _, id := range named {
				require.True(t, ids[id], "no element has the id %q", id)
			}
			for _, element := range []string{"header", "nav", "main", "footer", "h1"} {
				require.Equal(t, 1, count[element], "number of %s elements", element)
			}
		})
	}
}

// contrast is the ratio of WCAG 2 between two colours like "#1b2129".
func contrast(t *testing.T, a, b string) float64 {
	t.Helper()
	luminance := func(color string) float64 {
		require.Regexp(t, `^#[0-9a-f]{6}$`, color)
		sum := 0.0
		for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
			n, err := strconv.ParseUint(color[1+2*i:3+2*i], 16, 8)
			require.NoError(t, err)
			c := float64(n) / 255
			if c <= 0.04045 {
				c /= 12.92
			} else {
				c = math.Pow((c+0.055)/1.055, 2.4)
			}
			sum += weight * c
		}
		return sum
	}
	x, y := luminance(a), luminance(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

func TestContrast(t *testing.T) {
	t.Parallel()
	require.InDelta(t, 21, contrast(t, "#000000", "#ffffff"), 1e-9)

	blocks := regexp.MustCompile(`(?s):root \{(.*?)\}`).FindAllStringSubmatch(styleSheet, -1)
	require.Len(t, blocks, 2, "light and dark")
	for i, theme := range []string{"light", "dark"} {
		colors := map[string]string{}
		for _, m := range regexp.MustCompile(`--([\w-]+): (#\w+);`).FindAllStringSubmatch(blocks[i][1], -1) {
			colors[m[1]] = m[2]
		}
		for background, texts := range map[string]string{
			"page":    "text quiet",
			"bg":      "text quiet good warn bad accent",
			"soft":    "text quiet",
			"good-bg": "good",
			"warn-bg": "warn",
			"bad-bg":  "bad",
		} {
			for text := range strings.FieldsSeq(texts) {
				require.GreaterOrEqual(t, contrast(t, colors[text], colors[background]), 4.5, "%s: %s on %s", theme, text, background)
			}
		}
		// Lines and bars are no text.
		for _, series := range []string{"s1", "s2", "s3", "s4", "s5", "s6"} {
			require.GreaterOrEqual(t, contrast(t, colors[series], colors["bg"]), 3.0, "%s: %s", theme, series)
		}
	}
}
