package ui

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/cards"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

const (
	// manyLines is how many lines of a log a page shows.
	manyLines = 2000
	// manyLogs is how many tasks of a step the log of a run is made of, and searchedLogs how many when something is looked for.
	manyLogs, searchedLogs = 1000, 10_000
	// maxLog is how much of the logs of a run is read, in bytes as stored.
	maxLog = 32 << 20
	// parallelLogs is how many logs are read at the same time.
	parallelLogs = 16
)

// lineFilter chooses lines of a log, as the form has it.
type lineFilter struct {
	Step, Attempt, Level, Contains string

	least slog.Level
}

func readLineFilter(query url.Values) (lineFilter, error) {
	f := lineFilter{Step: query.Get("step"), Attempt: query.Get("attempt"), Level: query.Get("level"), Contains: query.Get("q")}
	var ok bool
	if f.least, ok = level(f.Level); f.Level != "" && !ok {
		return f, fmt.Errorf("%w level %q (choose one of the list)", runs.ErrPathspec, f.Level)
	}
	return f, nil
}

// Levels are those to choose from.
func (lineFilter) Levels() []string { return []string{"DEBUG", "INFO", "WARN", "ERROR"} }

// looks says that only some lines are wanted, which may be anywhere.
func (f lineFilter) looks() bool { return f.Level != "" || f.Contains != "" }

// query is the filter as part of an address, for a page of the lines.
func (f lineFilter) query(page int) string {
	v := url.Values{"page": {strconv.Itoa(page)}}
	for name, value := range map[string]string{"step": f.Step, "attempt": f.Attempt, "level": f.Level, "q": f.Contains} {
		if value != "" {
			v.Set(name, value)
		}
	}
	return "?" + v.Encode()
}

// line is how a line is shown, "" if it is not wanted. A line without a level, which was not logged but printed, is wanted at all.
func (f lineFilter) line(l records.LogLine, shown string) (lineView, bool) {
	at, known := level(l.Level)
	if f.Level != "" && known && at < f.least || f.Contains != "" && !strings.Contains(shown, f.Contains) {
		return lineView{}, false
	}
	return lineView{text(shown), levelTone(at)}, true
}

type lineView struct{ Text, Tone string }

func level(name string) (slog.Level, bool) {
	var l slog.Level
	err := l.UnmarshalText([]byte(name))
	return l, err == nil
}

func levelTone(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return "bad"
	case l >= slog.LevelWarn:
		return "warn"
	case l < slog.LevelInfo:
		return "none"
	}
	return ""
}

// logText is a line in one zone for all readers. Who says whose line it is, "" among lines of one.
func logText(l records.LogLine, who string) string {
	var parts []string
	if !l.Time.IsZero() {
		parts = append(parts, l.Time.UTC().Format("15:04:05.000"))
	}
	for _, part := range []string{l.Level, who} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(slices.Concat(parts, []string{l.Message}, l.Attrs), " ")
}

type logsView struct {
	taskView
	Action   string
	Attempts []string
	Filter   lineFilter
	Lines    []lineView
	Earlier  int
	// Raw is where the log is to be had whole.
	Raw string
}

// logs shows the lines of all attempts of a task, or of one, with the last ones whole.
func (q *request) logs() error {
	run, task, err := q.findTask()
	if err != nil {
		return err
	}
	base := taskLink(run, task.Name())
	v := logsView{Action: base + "/logs"}
	if v.Filter, err = readLineFilter(q.URL.Query()); err != nil {
		return err
	}
	if v.taskView, err = q.taskView(run, task, "logs"); err != nil {
		return err
	}
	logs, err := task.Logs(q.Context())
	if err != nil {
		return err
	}
	for _, l := range logs {
		number := strconv.Itoa(l.Attempt)
		if !slices.Contains(v.Attempts, number) {
			v.Attempts = append(v.Attempts, number)
		}
		if v.Filter.Attempt != "" && v.Filter.Attempt != number {
			continue
		}
		who := "attempt " + number
		if l.Catch {
			who += ", catch"
		}
		v.Lines = append(v.Lines, lineView{"— " + who + " —", "none"})
		for _, line := range l.Lines {
			if shown, ok := v.Filter.line(line, logText(line, "")); ok {
				v.Lines = append(v.Lines, shown)
			}
		}
	}
	if len(logs) > 0 {
		v.Raw = base + "/log"
	}
	if goesOn(run) {
		v.Script = liveElement
	}
	v.Earlier = max(0, len(v.Lines)-manyLines)
	v.Lines = v.Lines[v.Earlier:]
	return q.show("logs", v)
}

type runLogView struct {
	frame
	State  records.Status
	Action string
	Steps  []string // what has logs, to choose from
	Filter lineFilter
	Lines  []lineView
	// Which says which lines these are, and Notes what is left out.
	Which string
	Notes []string
	Pages []link
}

// runLog shows the lines of all tasks of a run in the order of time, a page of them, at first the last one.
func (q *request) runLog() error {
	run, err := q.findRun()
	if err != nil {
		return err
	}
	query := q.URL.Query()
	v := runLogView{frame: q.frame("Log", runPath(run)), State: run.Status, Action: runLink(run) + "/logs"}
	v.WebUI = q.temporalLink(run)
	if v.Filter, err = readLineFilter(query); err != nil {
		return err
	}
	v.Steps = slices.Concat(run.LogGroups()...)
	m := merger{run: run, filter: v.Filter}
	for _, name := range v.Steps {
		if v.Filter.Step == "" || v.Filter.Step == name {
			if err := m.add(q.Context(), name); err != nil {
				return err
			}
		}
	}
	if v.Filter.Step != "" && !slices.Contains(v.Steps, v.Filter.Step) {
		return fmt.Errorf("step %q: %w in run %s", v.Filter.Step, runs.ErrNotFound, run.Pathspec())
	}
	lines, err := m.merge(q.Context())
	if err != nil {
		return err
	}
	v.Notes = m.notes
	n := len(lines)
	last := max((n+manyLines-1)/manyLines, 1)
	page := last
	if asked, err := strconv.Atoi(query.Get("page")); err == nil {
		page = min(max(asked, 1), last)
	}
	if page == last && goesOn(run) {
		v.Script = liveElement
	}
	from, to := (page-1)*manyLines, min(page*manyLines, n)
	for _, l := range lines[from:to] {
		v.Lines = append(v.Lines, l.lineView)
	}
	if last > 1 {
		v.Which = fmt.Sprintf("Lines %s to %s of %s.", cards.Count(from+1), cards.Count(to), cards.Count(n))
		at := func(name string, page int) { v.Pages = append(v.Pages, link{name, v.Action + v.Filter.query(page)}) }
		if page > 1 {
			at("First", 1)
			at("Earlier", page-1)
		}
		if page < last {
			at("Later", page+1)
			at("Last", last)
		}
	}
	return q.show("runlog", v)
}

// merger makes one log of those of many tasks.
type merger struct {
	run    *runs.Run
	filter lineFilter
	files  []runs.LogFile
	size   int64
	notes  []string
}

type timedLine struct {
	lineView
	at time.Time
}

// add takes the logs of a step, or of the batches of a foreach.
func (m *merger) add(ctx context.Context, name string) error {
	limit, found := manyLogs, manyLogs
	if m.filter.looks() { // one long listing costs less than one for each of so many tasks
		limit, found = searchedLogs, 0
	}
	files, err := m.run.LogFiles(ctx, name, found)
	if err != nil {
		return err
	}
	tasks, last := 0, ""
	for _, f := range files {
		if task := f.Task(); task != last {
			tasks, last = tasks+1, task
		}
		number := strconv.Itoa(f.Attempt)
		switch {
		case tasks > limit:
			note := fmt.Sprintf("Of %s only the first %s tasks that logged are here.", text(name), cards.Count(limit))
			if !m.filter.looks() {
				note += fmt.Sprintf(" Choose a level or a text to look through %s.", cards.Count(searchedLogs))
			}
			m.notes = append(m.notes, note)
			return nil
		case m.filter.Attempt != "" && m.filter.Attempt != number:
			continue
		case m.size+f.Size > maxLog:
			m.notes = append(m.notes, fmt.Sprintf("More than %s was logged: what is missing here begins with %s.", cards.Size(maxLog), text(f.Task())))
			return nil
		}
		m.size += f.Size
		m.files = append(m.files, f)
	}
	return nil
}

// merge reads the logs and sorts their lines by time.
func (m *merger) merge(ctx context.Context) ([]timedLine, error) {
	all := make([][]timedLine, len(m.files))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallelLogs)
	for i, f := range m.files {
		g.Go(func() (err error) {
			all[i], err = m.read(ctx, f)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	lines := slices.Concat(all...)
	slices.SortStableFunc(lines, func(a, b timedLine) int { return a.at.Compare(b.at) })
	return lines, nil
}

// read reads the lines of one log that are wanted. One without a time stays behind the one before it. A log that is gone has none.
func (m *merger) read(ctx context.Context, f runs.LogFile) (lines []timedLine, _ error) {
	b, _, err := f.ReadFrom(ctx, 0)
	if err != nil {
		if errors.Is(err, artifacts.ErrNotFound) {
			err = nil
		}
		return nil, err
	}
	var at time.Time
	for raw := range strings.Lines(string(b)) {
		l := records.ReadLogLine([]byte(strings.TrimSuffix(raw, "\n")))
		if !l.Time.IsZero() {
			at = l.Time
		}
		who := f.Task()
		if f.Batch && len(l.Attrs) > 0 {
			if task, ok := strings.CutPrefix(l.Attrs[0], "task="); ok && isItem(task) {
				who, l.Attrs = task, l.Attrs[1:]
			}
		}
		if f.Attempt > 1 {
			who += "#" + strconv.Itoa(f.Attempt)
		}
		if f.Catch {
			who += " catch"
		}
		if shown, ok := m.filter.line(l, logText(l, who)); ok {
			lines = append(lines, timedLine{shown, at})
		}
	}
	return lines, nil
}

// isItem reports whether a text is the name of a task in a foreach: lines of a batch say which item they are of.
func isItem(text string) bool {
	_, x, err := flow.ParseTaskName(text)
	return err == nil && x != nil
}
