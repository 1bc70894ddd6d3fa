package report

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/cards"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

const (
	// previewed is the largest artifact whose content is read for a preview, in bytes, and preview how long that is.
	previewed = 64 << 10
	preview   = 300
	// logTail is how many lines of a log a page has.
	logTail = 200
)

type taskView struct {
	head
	Note  string
	Next  []link
	Cards []cardView
	Files []link
	Rest  template.HTML
}

type cardView struct{ Name, URL string }

// Task writes the page of a task, whether its step asked for a card or not: its parameters, its artifacts with previews, its attempts
// and the end of its log. With links it also has the cards that the step made, in frames, and its artifacts to load down.
func Task(ctx context.Context, w io.Writer, t *runs.Task, o Options) error {
	data, err := cardData(ctx, t, o)
	if err != nil {
		return fmt.Errorf("report of task %s: %w", t.Pathspec(), err)
	}
	if o.Link == nil {
		return cards.Default().Render(w, alone(data, t))
	}
	p := places{o, t.Run()}
	outcome := state(t.State)
	v := taskView{head: p.head("task", t.Name(), outcome)}
	v.Path = p.crumbs(link{Text: text(t.Name())})
	v.Foot = text(t.Pathspec())
	v.Facts = p.taskFacts(t, data)
	if logs := o.link(Place{Pathspec: p.spec(t.Name()), Logs: true}); logs != "" {
		v.Links = append(v.Links, link{"Logs", logs})
	}
	if ui := o.temporal(p.run); ui != "" {
		v.Links = append(v.Links, link{"Temporal Web UI", ui})
	}
	v.Note = pendingNote(t)
	if t.State == runs.Paused {
		v.Next = p.verdicts(t)
	}
	names, err := t.Cards(ctx)
	if err != nil {
		return fmt.Errorf("report of task %s: %w", t.Pathspec(), err)
	}
	for _, name := range names {
		if url := o.link(Place{Pathspec: p.spec(t.Name()), Card: name}); url != "" {
			v.Cards = append(v.Cards, cardView{text(name), url})
		}
	}
	for _, name := range t.Artifacts() {
		if url := o.link(Place{Pathspec: p.spec(t.Name()), Artifact: name}); url != "" {
			v.Files = append(v.Files, link{text(name), url})
		}
	}
	if v.Rest, err = sections(data); err != nil {
		return fmt.Errorf("report of task %s: %w", t.Pathspec(), err)
	}
	if err := pages.ExecuteTemplate(w, "task.html", v); err != nil {
		return fmt.Errorf("write the report of task %s: %w", t.Pathspec(), err)
	}
	return nil
}

// alone says on a card that has no page around it how a task stands that has no outcome.
func alone(d *flow.CardData, t *runs.Task) *flow.CardData {
	switch t.State {
	case runs.NotStarted:
		d.Outcome, d.Components = "", []flow.Component{cards.Markdown("This task has not started.")}
	case runs.Skipped:
		d.Outcome, d.Components = "", []flow.Component{cards.Markdown("This task did not run: the run went another way.")}
	case runs.InBatches:
		where := "the record of its batch is written when that ends."
		if last := t.RecordedBy(); last != "" {
			where = "an item of a batch has one record, that of its last task, `" + last + "`."
		}
		d.Outcome, d.Components = "", []flow.Component{cards.Markdown("Nothing tells whether this task ran: " + where)}
	case runs.Unfinished:
		d.Outcome, d.Components = "", []flow.Component{cards.Markdown("This task has begun. Whether it goes on is not known: Temporal was not asked.")}
	case runs.Running:
		if !d.Live {
			d.Outcome = "waiting"
		}
	case runs.Completed, runs.Caught, runs.Failed, runs.Cancelled, runs.Paused:
	}
	return d
}

// sections is what the default card has between its top and its bottom.
func sections(data *flow.CardData) (template.HTML, error) {
	var page bytes.Buffer
	if err := cards.Default().Render(&page, data); err != nil {
		return "", err
	}
	_, rest, _ := strings.Cut(page.String(), "<main>")
	end := strings.LastIndex(rest, "</main>")
	if end < 0 {
		return "", errors.New("the default card has no main part")
	}
	return template.HTML(rest[:end]), nil //nolint:gosec // the default card is escaped
}

func (o places) taskFacts(t *runs.Task, data *flow.CardData) []fact {
	var out []fact
	add := func(name, value, url string) {
		if value != "" {
			out = append(out, fact{name, link{text(value), url}})
		}
	}
	switch {
	case data.Started.IsZero():
	case data.Live:
		add("So far", took(data.Written.Sub(data.Started)), "")
	default:
		add("Duration", took(data.Ended.Sub(data.Started)), "")
	}
	if n := len(data.Attempts); n > 0 {
		count := cards.Count(n)
		if last := data.Attempts[n-1].Number; t.Batched() && last > n {
			count = cards.Count(last) + ", of which an item of a batch keeps the last"
		}
		add("Attempts", count, "")
	}
	if last := t.RecordedBy(); last != "" {
		add("Record", "an item of a batch has one, that of its last task: "+last, o.link(Place{Pathspec: o.spec(last)}))
	}
	add("Started", instant(data.Started), "")
	add("Ended", instant(data.Ended), "")
	add("Worker", data.Worker, "")
	if t.Reused() {
		add("Reused from", t.Owner, o.link(Place{Pathspec: runs.Pathspec{Flow: o.run.Flow, Run: t.Owner, Task: t.Name()}}))
	}
	if t.Record != nil && t.Record.Usage != nil {
		add("Memory", cards.Size(t.Record.Usage.PeakMemory), "")
		add("Processor time", cards.Duration(t.Record.Usage.CPU), "")
	}
	var parents []string
	if t.Record != nil {
		for _, r := range t.Record.Parents[:min(len(t.Record.Parents), 5)] {
			parents = append(parents, flow.TaskName(r.Step, r.Index))
		}
		if more := len(t.Record.Parents) - 5; more > 0 {
			parents = append(parents, many(more, "other"))
		}
	}
	if len(parents) == 1 {
		add("Started from", parents[0], o.link(Place{Pathspec: o.spec(parents[0])}))
	} else {
		add("Started from", strings.Join(parents, ", "), "")
	}
	return out
}

func pendingNote(t *runs.Task) string {
	p := t.Pending
	switch {
	case p == nil:
		return ""
	case p.Catch:
		return "The attempts are spent, and its catch function runs."
	case p.Running && p.Total > 0:
		return fmt.Sprintf("Attempt %d runs: %s of %s done.", p.Attempt, cards.Count(int(p.Done)), cards.Count(int(p.Total)))
	case p.Running:
		return fmt.Sprintf("Attempt %d runs.", p.Attempt)
	case !p.Next.IsZero():
		return fmt.Sprintf("Attempt %d is due at %s.", p.Attempt, instant(p.Next))
	}
	return "It waits for a worker."
}

// cardData reads what a card can show of a task.
func cardData(ctx context.Context, t *runs.Task, o Options) (*flow.CardData, error) {
	run := t.Run()
	d := &flow.CardData{
		Info:    flow.Info{Flow: run.Flow, Run: run.Run.Run, Step: t.Step, Task: t.Name(), Index: t.Index, Origin: run.Origin, Root: run.Root, Tags: run.Tags},
		Outcome: string(t.State), Failure: t.Failure,
	}
	if t.State == runs.Failed || t.State == runs.Paused {
		if err := t.Explain(ctx); err != nil {
			return nil, err
		}
		d.Failure = t.Failure
	}
	for _, p := range run.Plan.Params {
		d.Params = append(d.Params, flow.CardValue{Name: p.Name, Type: string(p.Kind), Preview: run.Params[p.Name]})
	}
	if r := t.Record; r != nil {
		d.Worker, d.Started, d.Ended = r.Worker, r.Started, r.Ended
		d.Info.Attempt = r.Attempt
	}
	attempts, err := t.Attempts(ctx)
	if err != nil {
		return nil, err
	}
	for _, a := range attempts {
		d.Attempts = append(d.Attempts, flow.CardAttempt{
			Number: a.Attempt.Attempt, Outcome: string(a.Outcome), Started: a.Started, Ended: a.Ended, Failure: a.Failure, Delay: a.Delay, Reason: a.Reason,
		})
		if t.Record == nil {
			if d.Started.IsZero() {
				d.Started = a.Started
			}
			d.Ended, d.Worker = a.Ended, a.Worker
		}
	}
	if p := t.Pending; p != nil {
		if p.Running {
			d.Attempts = append(d.Attempts, flow.CardAttempt{Number: p.Attempt, Started: p.Started})
		}
		if d.Started.IsZero() {
			d.Started = p.Started
		}
		d.Ended = time.Time{}
		d.Live, d.Written, d.Done, d.Total = p.Running, o.now(), p.Done, p.Total
	}
	if err := artifactValues(ctx, t, d); err != nil {
		return nil, err
	}
	d.Log, err = tail(ctx, t)
	return d, err
}

// artifactValues adds the artifacts of a task. One whose content is gone says so in its place.
func artifactValues(ctx context.Context, t *runs.Task, d *flow.CardData) error {
	for _, name := range t.Artifacts() {
		if slices.ContainsFunc(d.Params, func(p flow.CardValue) bool { return p.Name == name }) {
			continue
		}
		e := t.Record.Artifacts[name]
		v := flow.CardValue{Name: name, Type: e.Type, Size: e.Size, Digest: e.Digest.String(), Changed: slices.Contains(t.Record.Changed, name)}
		switch {
		case e.Name != "": // a file
			v.Preview = artifacts.Preview(e, nil, preview)
		case e.Size <= previewed:
			_, content, err := t.Content(ctx, name)
			switch {
			case errors.Is(err, artifacts.ErrNotFound):
				v.Preview = "(the content is gone)"
			case errors.Is(err, artifacts.ErrCorrupt):
				v.Preview = "(the content is damaged)"
			case err != nil:
				return err
			default:
				v.Preview = artifacts.Preview(e, content, preview)
			}
		}
		d.Artifacts = append(d.Artifacts, v)
	}
	return nil
}

// tail is the end of what the latest attempts of a task logged.
func tail(ctx context.Context, t *runs.Task) ([]string, error) {
	logs, err := t.Logs(ctx)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, l := range slices.Backward(logs) {
		part := make([]string, 0, len(l.Lines))
		for _, line := range l.Lines[max(0, len(l.Lines)-(logTail-len(lines))):] {
			part = append(part, logText(line, l.Attempt, len(logs) > 1))
		}
		if lines = append(part, lines...); len(lines) >= logTail {
			break
		}
	}
	return lines, nil
}

func logText(l records.LogLine, attempt int, named bool) string {
	var b strings.Builder
	if !l.Time.IsZero() {
		b.WriteString(l.Time.UTC().Format("15:04:05.000 "))
	}
	if named {
		fmt.Fprintf(&b, "#%d ", attempt)
	}
	b.WriteString(strings.TrimSpace(l.Level + " " + l.Message))
	for _, a := range l.Attrs {
		b.WriteString(" " + a)
	}
	return b.String()
}
