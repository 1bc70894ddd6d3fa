package report

import (
	"cmp"
	"context"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/stepwell-flows/stepwell/cards"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

const (
	// manyFailures is how many failed tasks of a step are read to know why.
	manyFailures = 300
	// someExamples is how many of the failures of a kind are shown.
	someExamples = 3
	// someSlow is how many items are listed as the slowest.
	someSlow = 5
	// timed is how many tasks of a step are read to know how long they took.
	timed = 500
)

type foreachView struct {
	head
	Boxes    []boxView
	Done     string // share of the items, for the bar
	DoneText string
	BadShare string
	Grid     grid
	Failures []kindView
	Looked   string // how many failures were looked at, if not all
	Steps    []stepView
	Charts   []template.HTML
	Slow     []slowView
	Next     []link
}

type boxView struct{ Name, Value, Note string }

type stepView struct {
	Step                          link
	State                         pill
	Total, Completed, Failed      string
	Caught, Running, Other        string
	Median, Longest, Looked, Note string
}

// kindView is failures of the same class and type.
type kindView struct {
	Class, Type, Count string
	Examples           []exampleView

	n int
}

type exampleView struct {
	Task    link
	Message string
	Attempt string
}

// Foreach writes the page of a foreach: how many of its items have ended and how, how fast, why some failed, how long they took, and
// how each of them stands. Of more items than 10,000 it shows sums.
func Foreach(ctx context.Context, w io.Writer, f *runs.Foreach, o Options) error {
	p := places{o, f.Run()}
	v := foreachView{head: p.head("foreach", f.Name, state(f.State))}
	v.Path = p.crumbs(link{Text: text(f.Name)})
	if f.Failed > 0 && f.State == runs.Completed {
		v.Outcome = pill{"completed, failures tolerated", "warn"}
	}
	if ui := o.temporal(p.run); ui != "" {
		v.Links = append(v.Links, link{"Temporal Web UI", ui})
	}
	fail := func(err error) error {
		return fmt.Errorf("report of foreach %q of run %s: %w", f.Name, p.run.Pathspec(), err)
	}
	all, err := measureForeach(ctx, f)
	if err != nil {
		return fail(err)
	}
	p.speed(&v, f, all)
	cells, err := f.Cells(ctx, manyCells)
	if err != nil {
		return fail(err)
	}
	v.Grid = p.grid(f, cells)
	for _, m := range all {
		v.Steps = append(v.Steps, p.stepRow(m))
		if chart := m.chart(len(all) > 1); chart != "" {
			v.Charts = append(v.Charts, chart)
		}
	}
	v.Slow = p.slowItems(all)
	if f.Failed > 0 {
		if v.Failures, v.Looked, err = p.kinds(ctx, f); err != nil {
			return fail(err)
		}
		spec := p.run.Pathspec() + "/" + f.Name
		v.Next = append(v.Next, link{"which failed first, and why", o.command("why", spec)})
		for _, s := range f.Steps {
			if s.Failed > 0 {
				v.Next = append(v.Next, link{"all that failed of step " + text(s.Name), o.command("show", p.run.Pathspec()+"/"+s.Name, "--failed")})
			}
		}
	}
	if err := pages.ExecuteTemplate(w, "foreach.html", v); err != nil {
		return fmt.Errorf("write the report of foreach %q: %w", f.Name, err)
	}
	return nil
}

// measureForeach reads when and how long some of the tasks ran.
func measureForeach(ctx context.Context, f *runs.Foreach) ([]*measure, error) {
	out := make([]*measure, len(f.Steps))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for i, s := range f.Steps {
		g.Go(func() error {
			m := &measure{step: s}
			out[i] = m
			tasks, of, err := s.Sample(ctx, timed, func(g runs.Glance) bool { return g.State == runs.Completed || g.State == runs.Caught })
			m.of = of
			for _, t := range tasks {
				if t.Record != nil && !t.Reused() {
					m.tasks = append(m.tasks, t)
					m.span(t.Record.Started, t.Record.Ended)
				}
			}
			return err
		})
	}
	return out, g.Wait()
}

// speed sums up the items: how many, how fast, how much longer.
func (o places) speed(v *foreachView, f *runs.Foreach, all []*measure) {
	done := f.Completed + f.Failed
	box := func(name, value, note string) { v.Boxes = append(v.Boxes, boxView{name, value, note}) }
	items := "unknown"
	if f.Items > 0 || f.State == runs.Completed {
		items = cards.Count(f.Items)
	}
	box("items", items, "")
	box("completed", cards.Count(f.Completed), percent(f.Completed, f.Items))
	box("failed", cards.Count(f.Failed), percent(f.Failed, f.Items))
	if f.Running > 0 {
		box("tasks running", cards.Count(f.Running), "")
	}
	var span measure
	for _, m := range all {
		span.span(m.from, m.to)
	}
	live := o.run.Status == records.StatusRunning && (f.Items == 0 || done < f.Items)
	if live {
		span.to = o.now()
	}
	if d := span.took(); d > 0 {
		v.Facts = append(v.Facts, fact{"Took", link{Text: cards.Duration(d)}})
		reused := 0
		for _, m := range all {
			reused = max(reused, m.step.Reused)
		}
		if n := done - reused; n > 0 {
			rate := float64(n) / d.Seconds()
			unit, value := perUnit(rate)
			box("items each "+unit, value, "")
			if left := f.Items - done; live && left > 0 {
				box("left", cards.Duration(time.Duration(float64(left)/rate*float64(time.Second)).Round(time.Second)), cards.Count(left)+" items")
			}
		}
	}
	if f.Items > 0 {
		v.Done, v.BadShare = number(float64(f.Completed)/float64(f.Items)*1000), number(float64(f.Failed)/float64(f.Items)*1000)
		v.DoneText = fmt.Sprintf("%s of %s items have ended", cards.Count(done), cards.Count(f.Items))
	}
}

// perUnit writes a rate for people.
func perUnit(perSecond float64) (unit, value string) {
	switch {
	case perSecond >= 1:
		return "second", fmt.Sprintf("%.3g", perSecond)
	case perSecond*60 >= 1:
		return "minute", fmt.Sprintf("%.3g", perSecond*60)
	}
	return "hour", fmt.Sprintf("%.3g", perSecond*3600)
}

func percent(n, of int) string {
	if of == 0 || n == 0 {
		return ""
	}
	p := float64(n) / float64(of) * 100
	switch {
	case p < 0.1:
		return "under 0.1%"
	case n < of && p > 99.9:
		return "over 99.9%"
	}
	return fmt.Sprintf("%.3g%%", p)
}

func (o places) stepRow(m *measure) stepView {
	s := m.step
	v := stepView{Step: o.step(s), State: state(s.State), Completed: cards.Count(s.Completed), Failed: cards.Count(s.Failed), Caught: cards.Count(s.Caught),
		Running: cards.Count(s.Running), Total: "unknown"}
	if s.Total > 0 {
		v.Total = cards.Count(s.Total)
	}
	rest := s.Counts
	rest.Total, rest.Completed, rest.Failed, rest.Caught, rest.Running = 0, 0, 0, 0, 0
	v.Note = counts(rest)
	if names := s.RecordedBy(); s.Untold || s.State == runs.InBatches {
		v.Note = strings.TrimPrefix(v.Note+", in batches: an item has one record, that of its last step, "+text(strings.Join(names, " or ")), ", ")
	}
	if median, longest := m.typical(); longest > 0 {
		v.Median, v.Longest = cards.Duration(median), cards.Duration(longest)
		if len(m.tasks) < m.of {
			v.Looked = fmt.Sprintf("times are of %s that were looked at", cards.Count(len(m.tasks)))
		}
	}
	return v
}

// chart is a histogram of how long the tasks took.
func (m *measure) chart(named bool) template.HTML {
	if len(m.tasks) < 5 {
		return ""
	}
	_, longest := m.typical()
	unit, name := time.Second, "seconds"
	switch {
	case longest < 2*time.Second:
		unit, name = time.Millisecond, "milliseconds"
	case longest > 5*time.Hour:
		unit, name = time.Hour, "hours"
	case longest > 5*time.Minute:
		unit, name = time.Minute, "minutes"
	}
	values := make([]float64, len(m.tasks))
	for i, t := range m.tasks {
		values[i] = math.Round(float64(max(t.Record.Ended.Sub(t.Record.Started), 0))/float64(unit)*100) / 100
	}
	title := "How long tasks took"
	if named {
		title += ": " + text(m.step.Name)
	}
	return cards.Plot{Title: title, XLabel: name, YLabel: "tasks", Layers: []cards.Layer{cards.Histogram{Values: values}}}.CardHTML()
}

// slowItems lists the tasks that took the longest of those that were read.
func (o places) slowItems(all []*measure) []slowView {
	var tasks []*runs.Task
	for _, m := range all {
		tasks = append(tasks, m.tasks...)
	}
	took := func(t *runs.Task) time.Duration { return t.Record.Ended.Sub(t.Record.Started) }
	slices.SortStableFunc(tasks, func(a, b *runs.Task) int { return cmp.Compare(took(b), took(a)) })
	var out []slowView
	for _, t := range tasks[:min(len(tasks), someSlow)] {
		out = append(out, slowView{Step: o.task(t.Name()), Took: cards.Duration(took(t)), Width: number(float64(took(t)) / float64(max(took(tasks[0]), 1)) * 100)})
	}
	return out
}

// kinds groups failures by their class and type, the most frequent first.
func (o places) kinds(ctx context.Context, f *runs.Foreach) ([]kindView, string, error) {
	var failed []*runs.Task
	total := 0
	for _, s := range f.Steps {
		tasks, of, err := s.Sample(ctx, manyFailures, func(g runs.Glance) bool { return g.State == runs.Failed })
		if err != nil {
			return nil, "", err
		}
		failed, total = append(failed, tasks...), total+max(of, s.Failed)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for _, t := range failed {
		g.Go(func() error { return t.Explain(ctx) })
	}
	if err := g.Wait(); err != nil {
		return nil, "", err
	}
	slices.SortStableFunc(failed, func(a, b *runs.Task) int { return slices.Compare(a.Index, b.Index) })
	at := map[[2]string]int{}
	var kinds []kindView
	for _, t := range failed {
		class, typ, message, attempt := "Unknown", "", "the reason was not recorded", 0
		if t.Failure != nil {
			class, typ, message, attempt = string(t.Failure.Class), t.Failure.Type, t.Failure.Message, t.Failure.Attempt
		}
		i, ok := at[[2]string{class, typ}]
		if !ok {
			i = len(kinds)
			at[[2]string{class, typ}] = i
			kinds = append(kinds, kindView{Class: text(class), Type: text(typ)})
		}
		k := &kinds[i]
		if k.n++; len(k.Examples) < someExamples {
			e := exampleView{Task: o.task(t.Name()), Message: cards.Text(message, 500)}
			if attempt > 1 {
				e.Attempt = fmt.Sprintf("attempt %d", attempt)
			}
			k.Examples = append(k.Examples, e)
		}
	}
	slices.SortStableFunc(kinds, func(a, b kindView) int { return cmp.Compare(b.n, a.n) })
	for i := range kinds {
		kinds[i].Count = many(kinds[i].n, "task")
	}
	looked := ""
	if len(failed) < total {
		looked = fmt.Sprintf("of %s that failed, %s were looked at, spread over all", many(total, "task"), cards.Count(len(failed)))
	}
	return kinds, looked, nil
}
