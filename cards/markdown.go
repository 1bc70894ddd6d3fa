package cards

import (
	"html/template"
	"regexp"
	"strings"
	"sync"

	"github.com/microcosm-cc/bluemonday"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// maxMarkdownRunes bounds the work of parsing, which for deep nesting grows with the square of the length.
const maxMarkdownRunes = 30_000

// Markdown is text in CommonMark, with tables, strikethrough and bare links as GitHub has them. HTML inside of it is
// left out, and so is what comes after 30,000 characters. Links open http, https and mailto addresses; images are shown from data: addresses only, because a
// card loads nothing from elsewhere. Headings begin two levels down, below those of the card.
type Markdown string

// CardHTML implements [flow.Component].
func (m Markdown) CardHTML() template.HTML {
	var b strings.Builder
	if err := markdown().Convert([]byte(shown(string(m), maxMarkdownRunes)), &b); err != nil {
		return note("the Markdown could not be shown: %v", err)
	}
	safe := sanitiser().Sanitize(b.String())
	return template.HTML(`<div class="md wide">` + safe + `</div>`) //nolint:gosec // sanitised in the line above
}

// markdown is safe by itself: goldmark omits raw HTML and dangerous addresses unless told otherwise. The sanitiser
// is there so that no single mistake, in either of them, puts an author's text into the page as markup.
var markdown = sync.OnceValue(func() goldmark.Markdown {
	return goldmark.New(
		goldmark.WithExtensions(
			// Alignment as an attribute, because the page's policy blocks style attributes.
			extension.NewTable(extension.WithTableCellAlignMethod(extension.TableCellAlignAttribute)),
			extension.Strikethrough,
			extension.NewLinkify(extension.WithLinkifyAllowedProtocols([]string{"http:", "https:"})),
		),
		goldmark.WithParserOptions(parser.WithASTTransformers(util.Prioritized(lowerHeadings{}, 100))),
	)
})

var (
	linkAddress  = regexp.MustCompile(`^(?i:https?|mailto):`)
	imageAddress = regexp.MustCompile(`^data:image/`)
)

var sanitiser = sync.OnceValue(func() *bluemonday.Policy {
	p := bluemonday.NewPolicy()
	p.AllowElements("p", "br", "hr", "h3", "h4", "h5", "h6", "strong", "em", "del", "code", "pre", "blockquote",
		"ul", "ol", "li", "table", "thead", "tbody", "tr", "th", "td")
	p.AllowAttrs("align").Matching(bluemonday.CellAlign).OnElements("th", "td")
	p.AllowAttrs("start").Matching(bluemonday.Integer).OnElements("ol")
	p.AllowAttrs("href").Matching(linkAddress).OnElements("a")
	p.AllowAttrs("alt").Matching(bluemonday.Paragraph).OnElements("img")
	p.AllowAttrs("src").Matching(imageAddress).OnElements("img")
	p.AllowURLSchemes("http", "https", "mailto")
	p.AllowDataURIImages()
	p.RequireParseableURLs(true)
	p.AllowRelativeURLs(false)
	p.RequireNoReferrerOnLinks(true)
	p.RequireNoFollowOnLinks(true)
	return p
})

type lowerHeadings struct{}

// Transform keeps the page's outline: the card's title is its h1 and the section that the component is in its h2.
func (lowerHeadings) Transform(doc *ast.Document, _ text.Reader, _ parser.Context) {
	_ = ast.Walk(doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if h, ok := n.(*ast.Heading); ok && entering {
			h.Level = min(h.Level+2, 6)
		}
		return ast.WalkContinue, nil
	})
}
