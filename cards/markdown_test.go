package cards

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMarkdown(t *testing.T) {
	t.Parallel()
	const pixel = "data:image/png;base64,iVBORw0KGgo="
	for name, test := range map[string]struct{ in, want string }{
		"emphasis":           {"**a** *b* ~~c~~ `d`", "<p><strong>a</strong> <em>b</em> <del>c</del> <code>d</code></p>"},
		"headings go down":   {"# a\n## b\n##### c", "<h3>a</h3>\n<h4>b</h4>\n<h6>c</h6>"},
		"list from 3":        {"3. a\n4. b", "<ol start=\"3\">\n<li>a</li>\n<li>b</li>\n</ol>"},
		"table":              {"|a|b|\n|-|-:|\n|1|2|", `<td align="right">2</td>`},
		"link":               {"[a](https://example.com/?q=1&r=2)", `<a href="https://example.com/?q=1&amp;r=2" rel="nofollow noreferrer">a</a>`},
		"bare link":          {"see https://example.com.", `see <a href="https://example.com" rel="nofollow noreferrer">https://example.com</a>.`},
		"mail":               {"<a@example.com>", `<a href="mailto:a@example.com" rel="nofollow noreferrer">a@example.com</a>`},
		"image":              {"![a](" + pixel + ")", `<img src="` + pixel + `" alt="a"`},
		"image of the web":   {"![a](https://example.com/x.png)", `<p><img alt="a"`},
		"script link":        {"[a](javascript:alert(1))", "<p>a</p>"},
		"file link":          {"[a](file:///etc/passwd)", "<p>a</p>"},
		"relative link":      {"[a](/x)", "<p>a</p>"},
		"link without host":  {"[a](//example.com)", "<p>a</p>"},
		"data link":          {"[a](" + pixel + ")", "<p>a</p>"},
		"html":               {"a<b onclick=x>c</b><script>d</script>", "<p>acd</p>"},
		"html block":         {"<div>a</div>\n\nb", "<p>b</p>"},
		"html in code":       {"`<script>`", "<p><code>&lt;script&gt;</code></p>"},
		"control characters": {"a\x00b\x1b[1mc\u202ed", "<p>abcd</p>"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := string(Markdown(test.in).CardHTML())
			require.Contains(t, got, test.want)
			require.True(t, strings.HasPrefix(got, `<div class="md wide">`) && strings.HasSuffix(got, "</div>"), "%s", got)
		})
	}
}

func TestMarkdownIsCut(t *testing.T) {
	t.Parallel()
	got := string(Markdown(strings.Repeat("word ", 1_000_000)).CardHTML())
	require.Less(t, len(got), 2*maxMarkdownRunes)
	require.Contains(t, got, "(4,970,000 more characters)")
}
