package ui

import (
	"bytes"
	"html"
	"net/http"
	"regexp"
	"sync"

	"github.com/stepwell-flows/stepwell/cards"
	"github.com/stepwell-flows/stepwell/flow"
)

// card shows a stored card, which pages of tasks have in a frame. It is a page that a step wrote, or whoever can write to the store:
// it gets an origin of its own, loads nothing, and runs no script but those with which package cards draws charts.
func (q *request) card() error {
	_, task, err := q.findTask()
	if err != nil {
		return err
	}
	page, err := task.Card(q.Context(), q.PathValue("name"))
	if err != nil {
		return err
	}
	q.send(http.StatusOK, page, cardPolicy())
	return nil
}

// cardPolicy is the outer bound of what a stored card may do. The card itself names its style sheet.
var cardPolicy = sync.OnceValue(func() string {
	return "sandbox allow-scripts; default-src 'none'; script-src " + cardScripts() +
		"; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
})

var scriptSource = regexp.MustCompile(`script-src ([^;"]+)`)

// cardScripts names the scripts of package cards, as a card that needs them does.
func cardScripts() string {
	var page bytes.Buffer
	chart := flow.CardData{Components: []flow.Component{cards.VegaLite{Spec: "{}"}}}
	if err := cards.Default().Render(&page, &chart); err == nil {
		head, _, _ := bytes.Cut(page.Bytes(), []byte("<title>")) // the policy comes before anything else
		if found := scriptSource.FindStringSubmatch(html.UnescapeString(string(head))); found != nil {
			return found[1]
		}
	}
	return "'none'"
}
