package ui

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/cards"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

const (
	// pageOfRuns is how many runs a page lists.
	pageOfRuns = 50
	// parallelFlows is how many flows are looked at at the same time.
	parallelFlows = 16
)

type flowsView struct {
	frame
	Store string
	Flows []flowView
}

type flowView struct {
	Name   string
	Runs   int
	Latest *runs.Run
	// Problem says why there is no latest run.
	Problem string
}

// flows lists the flows that have runs.
func (q *request) flows() error {
	ctx := q.Context()
	names, err := q.reader.Flows(ctx)
	if err != nil {
		return err
	}
	v := flowsView{frame: q.frame("Flows", nil), Store: q.reader.Store().String()}
	v.Path, v.WebUI = nil, q.webUI
	found := make([]*flowView, len(names))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallelFlows)
	for i, name := range names {
		g.Go(func() (err error) {
			found[i], err = q.flow(ctx, name)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, f := range found {
		if f != nil {
			v.Flows = append(v.Flows, *f)
		}
	}
	return q.show("flows", v)
}

// flow is one flow of the list, nil if it has no runs after all.
func (q *request) flow(ctx context.Context, name string) (*flowView, error) {
	ids, err := q.reader.IDs(ctx, name)
	switch {
	case errors.Is(err, runs.ErrNotFound), errors.Is(err, runs.ErrPathspec):
		return nil, nil
	case err != nil:
		return nil, err
	}
	f := &flowView{Name: name, Runs: len(ids), Problem: "no run can be read"}
	for _, id := range ids[:min(len(ids), 10)] {
		f.Latest, err = q.reader.Run(ctx, name, id)
		switch {
		case err == nil:
			return f, nil
		case !unreadable(err):
			return nil, err
		}
		f.Latest, f.Problem = nil, text(err.Error())
	}
	return f, nil
}

// unreadable says that one run cannot be read, which is no reason to keep the others back.
func unreadable(err error) bool {
	return errors.Is(err, artifacts.ErrCorrupt) || errors.Is(err, records.ErrNewer) ||
		errors.Is(err, runs.ErrNotFound) || errors.Is(err, runs.ErrPathspec)
}

type runsView struct {
	frame
	Flow     string
	Total    int
	Statuses []records.Status
	Filter   filter
	Runs     []runView
	// Newest and Older are links to other pages of the list.
	Newest, Older string
}

type runView struct {
	*runs.Run
	Took string
	Tags []link
	// Problem says why there is no run.
	Problem string
}

// filter chooses runs of a list, as the form has it.
type filter struct {
	Status                       records.Status
	Tags                         []string
	User, Project, Branch, Since string

	since time.Time
}

// TagText are the tags as the form has them.
func (f filter) TagText() string { return strings.Join(f.Tags, ", ") }

var statuses = []records.Status{records.StatusRunning, records.StatusCompleted, records.StatusFailed, records.StatusCancelled, runs.Unknown}

// readFilter reads the filter of a query. What is no time or status is told, as a name that does not exist would be.
func readFilter(query url.Values, now time.Time) (filter, error) {
	get := func(name string) string { return strings.TrimSpace(query.Get(name)) }
	f := filter{Status: records.Status(get("status")), User: get("user"), Project: get("project"), Branch: get("branch"), Since: get("since")}
	for _, tag := range slices.Concat(query["tag"], strings.Split(query.Get("tags"), ",")) { // of a link, and of the form
		if tag = strings.TrimSpace(tag); tag != "" && !slices.Contains(f.Tags, tag) {
			f.Tags = append(f.Tags, tag)
		}
	}
	if f.Status != "" && !slices.Contains(statuses, f.Status) {
		return f, fmt.Errorf("%w status %q (choose one of the list)", runs.ErrPathspec, f.Status)
	}
	if f.Since == "" {
		return f, nil
	}
	var ok bool
	if f.since, ok = moment(f.Since, now); !ok {
		return f, fmt.Errorf("%w time %q (write how long ago, like 90m, 24h or 7d, or a date like 2026-01-31 or 2026-01-31T12:00:00Z)", runs.ErrPathspec, f.Since)
	}
	return f, nil
}

// moment reads a time: how long before now, a date in UTC, or a date with a time.
func moment(s string, now time.Time) (time.Time, bool) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return now.AddDate(0, 0, -int(n)), err == nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), d >= 0
	}
	for _, form := range []string{time.DateOnly, time.RFC3339, "2006-01-02T15:04", time.DateTime} {
		if t, err := time.Parse(form, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// chosen is the filter as package runs has it.
func (f filter) chosen() runs.Filter {
	out := runs.Filter{Tags: f.Tags, User: f.User, Project: f.Project, Branch: f.Branch, Since: f.since}
	if f.Status != "" {
		out.Statuses = []records.Status{f.Status}
	}
	return out
}

// query is the filter as part of an address, for the runs that are older than one.
func (f filter) query(older string) string {
	v := url.Values{}
	for name, value := range map[string]string{
		"status": string(f.Status), "user": f.User, "project": f.Project, "branch": f.Branch, "since": f.Since, "before": older,
	} {
		if value != "" {
			v.Set(name, value)
		}
	}
	for _, tag := range f.Tags {
		v.Add("tag", tag)
	}
	if len(v) == 0 {
		return ""
	}
	return "?" + v.Encode()
}

// overlap is how much later than the run that a page begins after a run may have started which comes after it in the list: lists are
// in the order of ids, and an id may be made before its run is.
const overlap = time.Hour

// runs lists the runs of a flow, newest first, a page of them.
func (q *request) runs() error {
	ctx, query := q.Context(), q.URL.Query()
	p, err := runs.ParsePathspec(q.PathValue("flow"))
	if err != nil {
		return err
	}
	f, err := readFilter(query, time.Now())
	if err != nil {
		return err
	}
	ids, err := q.reader.IDs(ctx, p.Flow)
	if err != nil {
		return err
	}
	v := runsView{frame: q.frame(p.Flow, nil), Flow: p.Flow, Total: len(ids), Statuses: statuses, Filter: f}
	v.WebUI = q.webUI
	chosen, before := f.chosen(), query.Get("before")
	var after map[string]bool // the ids that come after
	if before != "" {
		run, err := q.reader.Run(ctx, p.Flow, before)
		if err != nil {
			return err
		}
		chosen.Until = run.Started.Add(overlap)
		after = map[string]bool{}
		for _, id := range ids[slices.Index(ids, before)+1:] {
			after[id] = true
		}
		v.Newest = flowLink(p.Flow) + f.query("")
	}
	last := ""
	for run, err := range q.reader.Select(ctx, p.Flow, chosen) {
		switch {
		case err != nil && !unreadable(err):
			return err
		case err != nil:
			if before == "" { // it does not say where it belongs
				v.Runs = append(v.Runs, runView{Problem: text(err.Error())})
			}
			continue
		case after != nil && !after[run.Run.Run]:
			continue
		}
		if len(v.Runs) >= pageOfRuns {
			v.Older = flowLink(p.Flow) + f.query(last)
			break
		}
		last = run.Run.Run
		row := runView{Run: run, Took: took(run)}
		for _, tag := range run.Tags {
			row.Tags = append(row.Tags, link{text(tag), flowLink(p.Flow) + filter{Tags: []string{tag}}.query("")})
		}
		v.Runs = append(v.Runs, row)
	}
	return q.show("runs", v)
}

func took(r *runs.Run) string {
	if d := r.Duration(); d > 0 {
		return cards.Duration(d)
	}
	return ""
}
