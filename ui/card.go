package ui

import (
	"net/http"
	"strings"
	"sync"

	"github.com/stepwell-flows/stepwell/cards"
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
	return "sandbox allow-scripts; default-src 'none'; script-src " + strings.Join(cards.Scripts(), " ") +
		"; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
})
