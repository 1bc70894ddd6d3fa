package ui

import (
	"net/http"
	"net/url"
)

type cardView struct {
	taskView
	Name, Src, Sandbox string
}

// card shows a stored card in a frame. The card is a page that a step wrote, or whoever can write to the store: in the frame it has
// an origin of its own, and nothing of these pages.
func (q *request) card() error {
	run, task, err := q.findTask()
	if err != nil {
		return err
	}
	name := q.PathValue("name")
	if _, err := task.Card(q.Context(), name); err != nil {
		return err
	}
	v := cardView{Name: text(name), Src: taskLink(run, task.Name()) + "/cards/" + url.PathEscape(name) + "/page", Sandbox: cardSandbox}
	if v.taskView, err = q.taskView(run, task, "cards", name); err != nil {
		return err
	}
	return q.show("card", v)
}

const (
	// cardSandbox is what a card may do at all.
	cardSandbox = ""
	// cardPolicy holds also for a card that is opened without the frame.
	cardPolicy = "sandbox " + cardSandbox + "; default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:" +
		"; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)

// cardPage is the card itself.
func (q *request) cardPage() error {
	_, task, err := q.findTask()
	if err != nil {
		return err
	}
	page, err := task.Card(q.Context(), q.PathValue("name"))
	if err != nil {
		return err
	}
	q.send(http.StatusOK, page, cardPolicy)
	return nil
}
