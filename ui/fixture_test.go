package ui_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
	"github.com/stepwell-flows/stepwell/ui"
)

const (
	flowName  = "TrainFlow"
	completed = "20260101-120000-00aaaaa"
	failed    = "20260101-130000-00bbbbb"
	open      = "20260101-140000-00ccccc" // has no end
)

// evil is what a page must only ever show.
const evil = `"><script>alert(1)</script><img src=x onerror=alert(1)>`

type state struct {
	Rows   int
	Text   string
	Scores map[string]float64
	Large  []float64
	Data   artifacts.File
}

func trainFlow() *flow.Flow {
	nothing := func(context.Context, *state) error { return nil }
	return flow.New(flowName, flow.Step("load", nothing), flow.Step("train", nothing))
}

// station is a store with runs written by hand, and the pages of it.
type station struct {
	*testing.T
	dir   string
	store *artifacts.Store
	pages http.Handler
}

func at(clock string) time.Time {
	t, err := time.Parse(time.DateTime, "2026-01-01 "+clock)
	if err != nil {
		panic(err)
	}
	return t
}

func setup(t *testing.T) *station {
	t.Helper()
	s := &station{T: t, dir: filepath.Join(t.TempDir(), "store")}
	var err error
	s.store, err = artifacts.Open(t.Context(), s.dir, artifacts.Options{})
	require.NoError(t, err)
	s.pages = ui.Handler(ui.Fixed(runs.New(s.store, nil), "http://127.0.0.1:8233"), ui.Options{})

	s.start(completed, at("12:00:00"), func(r *records.Run) { r.Tags = []string{"nightly", evil} })
	path := filepath.Join(t.TempDir(), "page.html")
	require.NoError(t, os.WriteFile(path, []byte("<script>alert(1)</script>"), 0o600))
	v := state{Rows: 3, Text: evil, Scores: map[string]float64{"auc": 0.5}, Large: make([]float64, 2000)}
	v.Data.SetPath(path)
	last := s.task(completed, "load", v)
	s.doc(records.LogKey(flowName, completed, "load", nil, 1, false),
		`{"time":"2026-01-01T12:00:01Z","level":"INFO","msg":"reading"}`+"\n"+`{"time":"2026-01-01T12:00:02Z","level":"WARN","msg":`+"\"<b>odd</b>\"}\n")
	s.doc(records.CardKey(flowName, completed, "load", nil, "default"), "<!doctype html><title>card</title><p>a card")
	require.NoError(t, records.CreateEnd(t.Context(), s.store, flowName, completed, records.End{Status: records.StatusCompleted, Ended: at("12:01:00"), Last: &last}))

	s.start(failed, at("13:00:00"), func(r *records.Run) { r.User = "bob" })
	f := &policies.Failure{Class: policies.Invalid, Message: evil, Step: "load", Task: "load", Attempt: 1}
	require.NoError(t, records.CreateEnd(t.Context(), s.store, flowName, failed, records.End{Status: records.StatusFailed, Ended: at("13:01:00"), Failure: f}))
	s.start(open, at("14:00:00"), nil)
	return s
}

func (s *station) start(id string, started time.Time, change func(*records.Run)) {
	s.Helper()
	r := records.Run{Flow: flowName, Run: id, Root: id, Plan: trainFlow().Plan(), Started: started, User: "ada", WorkflowID: flowName + "/" + id, Namespace: "default"}
	if change != nil {
		change(&r)
	}
	require.NoError(s, records.CreateRun(s.Context(), s.store, r))
}

func (s *station) task(id, step string, v state) records.Ref {
	s.Helper()
	schema := trainFlow().Schema()
	entries, changed, err := schema.Save(s.Context(), s.store, &v, nil, artifacts.Snapshot{}, id)
	require.NoError(s, err)
	ref, _, err := records.CreateTask(s.Context(), s.store, records.Task{
		Flow: flowName, Run: id, Step: step, Outcome: records.Completed, Attempt: 1, Worker: "7@host",
		Started: at("12:00:01"), Ended: at("12:00:02"), Artifacts: entries, Changed: changed,
	})
	require.NoError(s, err)
	return ref
}

func (s *station) doc(key, content string) {
	s.Helper()
	require.NoError(s, s.store.PutDoc(s.Context(), key, []byte(content)))
}

// get asks for a page as a browser on this machine does.
func (s *station) get(path string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	s.Helper()
	r := httptest.NewRequestWithContext(s.Context(), http.MethodGet, path, http.NoBody)
	r.Host = "127.0.0.1:8283"
	for _, f := range change {
		f(r)
	}
	w := httptest.NewRecorder()
	s.pages.ServeHTTP(w, r)
	return w
}

// page is the text of a page that must be there, and inert.
func (s *station) page(path string) string {
	s.Helper()
	w := s.get(path)
	require.Equal(s, http.StatusOK, w.Code, path)
	require.NotContains(s, strings.Replace(w.Body.String(), "<script>\"use strict\"", "", 1), "<script>")
	require.NotContains(s, w.Body.String(), "<img src=x")
	return w.Body.String()
}
