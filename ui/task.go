package ui

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/cards"
	"github.com/stepwell-flows/stepwell/runs"
)

const (
	// previewBytes is how much of an artifact its preview shows, and maxPreviewed the largest that is read for one.
	previewBytes = 2000
	maxPreviewed = 1 << 20
	// pageOfTasks is how many tasks of a step a page lists.
	pageOfTasks = 100
)

// findRun reads the run that a request names. "latest" stands for the newest one.
func (q *request) findRun() (*runs.Run, error) {
	p, err := runs.ParsePathspec(q.PathValue("flow") + "/" + q.PathValue("run"))
	if err != nil {
		return nil, err
	}
	return q.reader.Find(q.Context(), p.String())
}

// findTask reads the task that a request names.
func (q *request) findTask() (*runs.Run, *runs.Task, error) {
	run, err := q.findRun()
	if err != nil {
		return nil, nil, err
	}
	p, err := runs.ParsePathspec(run.Pathspec() + "/" + q.PathValue("task"))
	if err != nil {
		return nil, nil, err
	}
	task, err := run.Task(q.Context(), p.Task)
	return run, task, err
}

// taskView is what the pages of a task have in common.
type taskView struct {
	frame
	State runs.State
	Bar   bar
}

// bar is a row of links between pages that belong together.
type bar struct {
	Links []link
	// Here is the link that leads to the page itself.
	Here string
}

func (q *request) taskView(run *runs.Run, task *runs.Task, path ...string) (taskView, error) {
	v := taskView{frame: q.frame(task.Name(), append(runPath(run), link{text(task.Name()), taskLink(run, task.Name())})), State: task.State}
	v.WebUI = q.temporalLink(run)
	var err error
	v.Bar, err = q.taskBar(q.Context(), run, task, path...)
	return v, err
}

// taskBar leads to the pages of a task. path is the one that is shown, below that of the task.
func (q *request) taskBar(ctx context.Context, run *runs.Run, task *runs.Task, path ...string) (bar, error) {
	base := taskLink(run, task.Name())
	b := bar{Links: []link{{"Overview", base}, {"Artifacts", base + "/artifacts"}, {"Logs", base + "/logs"}}, Here: base}
	names, err := task.Cards(ctx)
	if err != nil {
		return b, err
	}
	for _, name := range names {
		b.Links = append(b.Links, link{"Card " + cards.Text(name, 60), base + "/cards/" + url.PathEscape(name)})
	}
	for _, part := range path {
		b.Here += "/" + url.PathEscape(part)
	}
	return b, nil
}

type artifactsView struct {
	taskView
	Artifacts []artifactView
	// Why says why there are none.
	Why string
}

type artifactView struct {
	Name, Type, Preview, Digest, Href, Form string
	Size                                    int64
	Changed                                 bool
}

// artifacts lists the artifacts of a task. Large ones are not read.
func (q *request) artifacts() error {
	run, task, err := q.findTask()
	if err != nil {
		return err
	}
	v := artifactsView{Why: fmt.Sprintf("The task is %s; only a finished one has artifacts.", task.State)}
	switch last := task.RecordedBy(); {
	case last != "":
		v.Why = fmt.Sprintf("An item of a batch has one record, that of its last task: %s.", text(last))
	case task.State == runs.InBatches:
		v.Why = "The record of its batch is written when that ends."
	}
	if v.taskView, err = q.taskView(run, task, "artifacts"); err != nil {
		return err
	}
	for _, name := range task.Artifacts() {
		e, err := task.Artifact(name)
		if err != nil {
			return err
		}
		a := artifactView{
			Name: name, Type: e.Type, Digest: e.Digest.String(), Size: e.Size, Form: form(e), Changed: slices.Contains(task.Record.Changed, name),
			Href: taskLink(run, task.Name()) + "/artifacts/" + url.PathEscape(name),
		}
		var content []byte
		if e.Size <= maxPreviewed && e.Name == "" {
			if _, content, err = task.Content(q.Context(), name); err != nil {
				a.Preview = text(err.Error())
			}
		}
		if a.Preview == "" {
			a.Preview = text(artifacts.Preview(e, content, previewBytes))
		}
		v.Artifacts = append(v.Artifacts, a)
	}
	return q.show("artifacts", v)
}

type stepView struct {
	frame
	State  runs.State
	Facts  []link
	States []link
	Chosen string
	Tasks  []taskRow
	More   string
}

type taskRow struct {
	Name, Href, Took, Failure string
	State                     runs.State
}

// step lists the tasks of a step with many of them.
func (q *request) step() error {
	run, err := q.findRun()
	if err != nil {
		return err
	}
	step, err := run.Step(q.Context(), q.PathValue("step"))
	if err != nil {
		return err
	}
	v := stepView{frame: q.frame(step.Name, runPath(run)), State: step.State}
	v.WebUI = q.temporalLink(run)
	base, query := stepLink(run, step.Name), q.URL.Query()
	for _, f := range []struct {
		name string
		n    int
	}{{"Tasks", step.Total}, {"Completed", step.Completed}, {"Caught", step.Caught}, {"Failed", step.Failed}, {"Running", step.Running}, {"Paused", step.Paused}, {"Reused", step.Reused}} {
		if f.n > 0 {
			v.Facts = append(v.Facts, link{f.name, cards.Count(f.n)})
		}
	}
	if step.Untold || step.State == runs.InBatches {
		v.Facts = append(v.Facts, link{"In batches", "an item has one record, that of its last step, " + text(strings.Join(step.RecordedBy(), " or "))})
	}
	tasks := step.Tasks(q.Context())
	switch v.Chosen = query.Get("state"); v.Chosen {
	case "failed":
		tasks = step.Failures(q.Context())
	case "caught":
		tasks = step.CaughtTasks(q.Context())
	case "paused":
		tasks = step.PausedTasks(q.Context())
	default:
		v.Chosen = "all"
	}
	for _, state := range []string{"all", "failed", "caught", "paused"} {
		v.States = append(v.States, link{state, base + "?state=" + state})
	}
	from, _ := strconv.Atoi(query.Get("from"))
	n := 0
	for task, err := range tasks {
		if err != nil {
			return err
		}
		if n++; n <= from {
			continue
		}
		if len(v.Tasks) == pageOfTasks {
			v.More = fmt.Sprintf("%s?state=%s&from=%d", base, v.Chosen, n-1)
			break
		}
		if err := task.Explain(q.Context()); err != nil {
			return err
		}
		row := taskRow{Name: task.Name(), State: task.State, Href: taskLink(run, task.Name())}
		if rec := task.Record; rec != nil && !rec.Started.IsZero() {
			row.Took = cards.Duration(rec.Ended.Sub(rec.Started))
		}
		if task.Failure != nil {
			row.Failure = cards.Text(task.Failure.Message, 300)
		}
		v.Tasks = append(v.Tasks, row)
	}
	return q.show("step", v)
}
