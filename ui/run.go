package ui

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"

	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/report"
	"github.com/stepwell-flows/stepwell/runs"
)

// reportPolicy is the outer bound of what a page of package report may do. The page itself names its style sheet.
var reportPolicy = "default-src 'none'; style-src 'unsafe-inline'; script-src " + hash(liveScript) +
	"; connect-src 'self'; img-src data:; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// href is where the pages are that a report links to.
func href(p report.Place) string {
	base := flowLink(p.Flow) + "/" + url.PathEscape(p.Run)
	switch {
	case p.Flow == "":
		return "/"
	case p.Run == "":
		return flowLink(p.Flow)
	case p.Step != "":
		return base + "/steps/" + url.PathEscape(p.Step)
	case p.Foreach != "":
		return base + "/foreach/" + url.PathEscape(p.Foreach)
	case p.Task == "" && p.Logs:
		return base + "/logs"
	case p.Task == "":
		return base
	}
	base += "/tasks/" + url.PathEscape(p.Task)
	switch {
	case p.Artifact != "":
		return base + "/artifacts/" + url.PathEscape(p.Artifact)
	case p.Card != "":
		return base + "/cards/" + url.PathEscape(p.Card)
	case p.Logs:
		return base + "/logs"
	}
	return base
}

// goesOn reports whether there may be more to see of a run later.
func goesOn(run *runs.Run) bool {
	return run.Status == records.StatusRunning || run.Status == runs.Unknown
}

// report answers with a page of package report, which keeps itself current while the run has not ended.
func (q *request) report(run *runs.Run, write func(context.Context, io.Writer, report.Options) error) error {
	o := report.Options{
		Link: href, WebUI: q.webUI, Script: liveScript,
		Live: goesOn(run),
	}
	var b bytes.Buffer
	if err := write(q.Context(), &b, o); err != nil {
		return err
	}
	q.send(http.StatusOK, b.Bytes(), reportPolicy)
	return nil
}

// run shows a run. "latest" leads to the newest one, so that a page stays that of one run.
func (q *request) run() error {
	run, err := q.findRun()
	if err != nil {
		return err
	}
	if q.PathValue("run") == runs.LatestRun {
		http.Redirect(q.w, q.Request, runLink(run), http.StatusFound)
		return nil
	}
	return q.report(run, func(ctx context.Context, w io.Writer, o report.Options) error { return report.Run(ctx, w, run, o) })
}

// task shows a task.
func (q *request) task() error {
	run, task, err := q.findTask()
	if err != nil {
		return err
	}
	return q.report(run, func(ctx context.Context, w io.Writer, o report.Options) error { return report.Task(ctx, w, task, o) })
}

// foreach shows all items of a foreach.
func (q *request) foreach() error {
	run, err := q.findRun()
	if err != nil {
		return err
	}
	foreach, err := run.Foreach(q.Context(), q.PathValue("name"))
	if err != nil {
		return err
	}
	return q.report(run, func(ctx context.Context, w io.Writer, o report.Options) error {
		return report.Foreach(ctx, w, foreach, o)
	})
}
