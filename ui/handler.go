package ui

import (
	"bytes"
	"context"
	"errors"
	"net/http"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/runs"
)

// Source gives the reader that pages are made with, and the address of the Temporal Web UI, "" if there is none. It is called for
// every request, at the same time for several.
type Source func(ctx context.Context) (reader *runs.Reader, webUI string, err error)

// Fixed is a source that never changes.
func Fixed(reader *runs.Reader, webUI string) Source {
	return func(context.Context) (*runs.Reader, string, error) { return reader, webUI, nil }
}

// Options are the settings of a handler. The zero value is ready for use.
type Options struct {
	// Hosts are names and addresses, without a port, under which pages may be asked for beside localhost and loopback
	// addresses. Empty is right for a handler that listens on a loopback address.
	Hosts []string
}

// Handler answers with the pages. It is safe for concurrent use.
func Handler(source Source, o Options) http.Handler {
	h := &handler{source: source}
	mux := http.NewServeMux()
	for pattern, serve := range map[string]func(*request) error{
		"GET /{$}":                                 (*request).flows,
		"GET /runs/{flow}":                         (*request).runs,
		"GET /runs/{flow}/{run}":                   (*request).run,
		"GET /runs/{flow}/{run}/logs":              (*request).runLog,
		"GET " + taskPattern:                       (*request).task,
		"GET " + taskPattern + "/logs":             (*request).logs,
		"GET " + taskPattern + "/log":              (*request).rawLog,
		"GET " + taskPattern + "/artifacts":        (*request).artifacts,
		"GET " + taskPattern + "/artifacts/{name}": (*request).download,
		"GET " + taskPattern + "/cards/{name}":     (*request).card,
		"GET /runs/{flow}/{run}/steps/{step}":      (*request).step,
		"GET /runs/{flow}/{run}/foreach/{name}":    (*request).foreach,
		"GET /":                                    (*request).nowhere,
	} {
		mux.Handle(pattern, h.page(serve))
	}
	return guarded(o.Hosts, mux)
}

const taskPattern = "/runs/{flow}/{run}/tasks/{task}"

type handler struct{ source Source }

// request is one request while it is answered.
type request struct {
	*http.Request
	w      http.ResponseWriter
	reader *runs.Reader
	webUI  string
}

// page makes a handler of a function that answers or says why not.
func (h *handler) page(serve func(*request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := &request{Request: r, w: w}
		var err error
		if q.reader, q.webUI, err = h.source(r.Context()); err == nil {
			err = serve(q)
		}
		if err != nil {
			q.fail(err)
		}
	})
}

// errNoPage is what an address leads to that no link has.
var errNoPage = errors.New("there is no such page")

func (q *request) nowhere() error { return errNoPage }

// fail shows why there is no page. A store that fails is told in its own words: who may see the pages may see the store.
func (q *request) fail(err error) {
	if q.Context().Err() != nil {
		return // nobody reads the answer
	}
	status, title := http.StatusInternalServerError, "This could not be read"
	switch {
	case errors.Is(err, runs.ErrPathspec):
		status, title = http.StatusBadRequest, "Not a name"
	case errors.Is(err, runs.ErrNotFound), errors.Is(err, artifacts.ErrNotFound), errors.Is(err, errNoPage):
		status, title = http.StatusNotFound, "Not found"
	}
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, "error", errorView{frame: q.frame(title, nil), Message: text(err.Error())}); err != nil {
		http.Error(q.w, "the page could not be made", http.StatusInternalServerError)
		return
	}
	q.send(status, b.Bytes(), pagePolicy)
}

type errorView struct {
	frame
	Message string
}

// show answers with a page made of a template.
func (q *request) show(name string, view interface{ policy() string }) error {
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, name, view); err != nil {
		return err
	}
	q.send(http.StatusOK, b.Bytes(), view.policy())
	return nil
}

// send writes a whole page, so that one that fails half way is never shown as if it were all.
func (q *request) send(status int, page []byte, policy string) {
	header := q.w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", policy)
	q.w.WriteHeader(status)
	_, _ = q.w.Write(page) // who does not take it has gone
}
