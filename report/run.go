package report

import (
	"cmp"
	"context"
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/stepwell-flows/stepwell/cards"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

const (
	// slowest is how many steps are listed as the slowest.
	slowest = 5
	// somePaused is how many tasks are listed that wait for a person.
	somePaused = 10
	// someResumed is how many runs are listed that were resumed from the run, the newest.
	someResumed = 5
)

type runView struct {
	head
	Paused     []pausedView
	MorePaused int
	Failure    *failureView
	Cascade    []link // what came of it, and what never started
	Never      []link
	Overcome   []overcomeView
	Next       []link // what to type: the purpose, and the command in place of an address
	Graph      template.HTML
	Outline    []outlineLine
	Timeline   timeline
	Slowest    []slowView
	Retries    []retryView
	Lost       string
	Params     []fact
}

type pausedView struct {
	Task    link
	Message string
	Next    []link
}

// overcomeView is what failed in a step and did not stop the run.
type overcomeView struct {
	Step          link
	What, Message string
}

type slowView struct {
	Step        link
	Took, Share string
	Width       string
}

type retryView struct {
	Step                    link
	Tasks, Failed           string
	Lost, Deferred          string
	Ran, Waited, Incomplete string
}

// Run writes the page of a run: how it stands, what failed first and what came of it, its graph, when each step and each attempt
// ran, the slowest steps, what retries cost, and what to type next. It reads the run's store, and what is wrong with that is its
// error; what w says is, too.
func Run(ctx context.Context, w io.Writer, run *runs.Run, o Options) error {
	p := places{o, run}
	steps, err := run.Steps(ctx)
	if err != nil {
		return fmt.Errorf("report of run %s: %w", run.Pathspec(), err)
	}
	all, err := measureAll(ctx, steps, o.now())
	if err != nil {
		return fmt.Errorf("report of run %s: %w", run.Pathspec(), err)
	}
	v := runView{head: p.head("run", run.Run.Run, status(run)), Timeline: p.timeline(all)}
	v.Path = p.crumbs()
	v.Facts = append(p.facts(), p.resumed(ctx)...)
	if logs := o.link(Place{Pathspec: p.spec(""), Logs: true}); logs != "" {
		v.Links = append(v.Links, link{"Logs", logs})
	}
	if ui := o.temporal(run); ui != "" {
		v.Links = append(v.Links, link{"Temporal Web UI", ui})
	}
	if err := p.paused(ctx, &v, steps); err != nil {
		return fmt.Errorf("report of run %s: %w", run.Pathspec(), err)
	}
	if run.Failure != nil {
		v.Failure = p.failure(run.Failure)
		v.Cascade, v.Never = p.cascade(steps)
	}
	v.Overcome = p.overcome(steps)
	v.Next = p.next()
	v.Graph, v.Outline = p.graph(steps)
	v.Slowest = p.slowest(all)
	v.Retries, v.Lost = p.retried(all)
	for _, name := range slices.Sorted(maps.Keys(run.Params)) {
		v.Params = append(v.Params, fact{text(name), link{Text: cards.Text(run.Params[name], 2000)}})
	}
	if err := pages.ExecuteTemplate(w, "run.html", v); err != nil {
		return fmt.Errorf("write the report of run %s: %w", run.Pathspec(), err)
	}
	return nil
}

func (o places) facts() []fact {
	run := o.run
	var out []fact
	add := func(name, value, url string) {
		if value != "" {
			out = append(out, fact{name, link{text(value), url}})
		}
	}
	d := "Duration"
	if run.Ended.IsZero() {
		d = "So far"
	}
	add(d, took(o.duration()), "")
	add("Started", instant(run.Started), "")
	add("Ended", instant(run.Ended), "")
	add("User", run.User, "")
	add("Project", run.Project, "")
	add("Branch", run.Branch, "")
	add("Tags", strings.Join(run.Tags, ", "), "")
	from := func(id string) string {
		return o.link(Place{Pathspec: runs.Pathspec{Flow: run.Flow, Run: id}})
	}
	if run.Origin != "" {
		add("Resumed from", run.Origin, from(run.Origin))
		if run.Root != run.Origin {
			add("First run", run.Root, from(run.Root))
		}
	}
	add("Code", run.Code, "")
	add("Task queue", run.TaskQueue, "")
	add("Store", run.Store().String(), "")
	return out
}

// resumed links to the runs that were resumed from this one. It is not worth an error: one that cannot be read is left out.
func (o places) resumed(ctx context.Context) []fact {
	if !over(o.run) {
		return nil
	}
	var out []fact
	for run, err := range o.run.Resumed(ctx) {
		if err != nil {
			continue
		}
		if len(out) == someResumed {
			return append(out, fact{"Resumed as", link{Text: "others before"}})
		}
		l := link{text(run.Run.Run) + ", " + status(run).Word, o.link(Place{Pathspec: runs.Pathspec{Flow: run.Flow, Run: run.Run.Run}})}
		out = append(out, fact{"Resumed as", l})
	}
	return out
}

func (o places) duration() time.Duration {
	switch {
	case !o.run.Ended.IsZero():
		return max(o.run.Ended.Sub(o.run.Started), 0)
	case o.run.Status == records.StatusRunning:
		return max(o.now().Sub(o.run.Started), 0)
	}
	return 0
}

// paused lists the tasks that wait for a person, with what to type.
func (o places) paused(ctx context.Context, v *runView, steps []*runs.Step) error {
	for _, s := range steps {
		if s.Paused == 0 {
			continue
		}
		shown := 0
		for t, err := range s.PausedTasks(ctx) {
			if err != nil {
				return err
			}
			if len(v.Paused) == somePaused {
				break
			}
			shown++
			p := pausedView{Task: o.task(t.Name()), Next: o.verdicts(t)}
			if t.Failure != nil {
				p.Message = cards.Text(string(t.Failure.Class)+": "+t.Failure.Message, 500)
			}
			v.Paused = append(v.Paused, p)
		}
		v.MorePaused += max(s.Paused-shown, 0)
	}
	return nil
}

// verdicts are what a person may say about a paused task.
func (o places) verdicts(t *runs.Task) []link {
	return []link{
		{"try it again, with all its attempts", o.command("retry", t.Pathspec())},
		{"go on without it, from the state before it", o.command("skip", t.Pathspec())},
		{"let it fail", o.command("fail", t.Pathspec())},
	}
}

// cascade says what came of the first failure, step by step, and which steps never started.
func (o places) cascade(steps []*runs.Step) (out, never []link) {
	first := o.run.Failure.Step
	for _, s := range steps {
		var parts []string
		failed := s.Failed
		if s.Name == first && failed > 0 {
			failed--
		}
		if failed > 0 {
			word := "tasks"
			if s.Name == first {
				word = "others"
			}
			parts = append(parts, fmt.Sprintf("%s %s failed", cards.Count(failed), word))
		}
		if s.Cancelled > 0 {
			parts = append(parts, cards.Count(s.Cancelled)+" cancelled")
		}
		if s.Total > s.Begun() && s.Begun() > 0 {
			parts = append(parts, fmt.Sprintf("%s never ran", cards.Count(s.Total-s.Begun())))
		}
		l := o.step(s)
		switch {
		case s.State == runs.NotStarted:
			never = append(never, l)
		case len(parts) > 0 && (s.Task == nil || s.Name != first):
			l.Text += ": " + strings.Join(parts, ", ")
			out = append(out, l)
		}
	}
	const some = 20
	if more := len(never) - some; more > 0 {
		never = append(never[:some], link{Text: many(more, "more step")})
	}
	return out, never
}

// overcome lists the failures that were caught and, when the run has completed, tolerated.
func (o places) overcome(steps []*runs.Step) []overcomeView {
	var out []overcomeView
	for _, s := range steps {
		var what []string
		if s.Caught > 0 && s.Task == nil {
			what = append(what, cards.Count(s.Caught)+" caught")
		} else if s.Caught > 0 {
			what = append(what, "caught")
		}
		if s.Failed > 0 && o.run.Status == records.StatusCompleted {
			what = append(what, cards.Count(s.Failed)+" failed, which was tolerated")
		}
		if len(what) == 0 || len(out) == manyTracks {
			continue
		}
		v := overcomeView{Step: o.step(s), What: strings.Join(what, ", ")}
		if t := s.Task; t != nil && t.Failure != nil {
			v.Message = cards.Text(string(t.Failure.Class)+": "+t.Failure.Message, 500)
		}
		if n := len(s.Shapes); n > 0 && o.Link != nil {
			if shape, ok := o.run.Plan.Shape(s.Shapes[n-1]); ok && shape.Kind == flow.KindForeach {
				v.Step.URL = o.foreach(shape.Name).URL // where the reasons are
			}
		}
		out = append(out, v)
	}
	return out
}

// next is what to type now.
func (o places) next() []link {
	spec := o.run.Pathspec()
	why := link{"what failed first, and each attempt", o.command("why", spec)}
	resume := link{"a new run that reuses what is finished", o.command("resume", spec)}
	switch o.run.Status {
	case records.StatusFailed:
		if f := o.run.Failure; f != nil && f.Class == policies.Bug {
			resume.Text = "after the code is fixed: " + resume.Text
		}
		return []link{why, {"what was logged", o.command("logs", spec)}, resume}
	case records.StatusCancelled:
		return []link{resume}
	case records.StatusRunning:
		return []link{{"follow it", o.command("attach", spec)}}
	case records.StatusCompleted, runs.Unknown:
	}
	return nil
}

// slowest lists the steps that took the longest from their first start to their last end.
func (o places) slowest(all []*measure) []slowView {
	total := o.duration()
	var ran []*measure
	for _, m := range all {
		if m.took() > 0 {
			ran = append(ran, m)
		}
	}
	slices.SortStableFunc(ran, func(a, b *measure) int { return cmp.Compare(b.took(), a.took()) })
	var out []slowView
	for _, m := range ran[:min(len(ran), slowest)] {
		v := slowView{Step: o.step(m.step), Took: took(m.took())}
		share := float64(m.took()) / float64(max(total, m.took()))
		v.Width = number(share * 100)
		if total > 0 {
			v.Share = fmt.Sprintf("%.0f%%", share*100)
		}
		out = append(out, v)
	}
	return out
}

// retried lists what retries cost, step by step, and sums it up.
func (o places) retried(all []*measure) ([]retryView, string) {
	var out []retryView
	var ran, waited time.Duration
	atLeast := ""
	for _, m := range all {
		if m.failed+m.lost+m.deferred == 0 {
			continue
		}
		v := retryView{Step: o.step(m.step), Tasks: cards.Count(m.retried), Failed: cards.Count(m.failed), Lost: cards.Count(m.lost), Deferred: cards.Count(m.deferred),
			Ran: cards.Duration(m.ran), Waited: cards.Duration(m.waited)}
		if m.looked < m.retried {
			v.Incomplete = fmt.Sprintf("counted in %s of them", cards.Count(m.looked))
			atLeast = "at least "
		}
		ran, waited = ran+m.ran, waited+m.waited
		out = append(out, v)
	}
	if len(out) == 0 {
		return nil, ""
	}
	return out, fmt.Sprintf("%s%s in attempts that did not finish their task, and %s%s waiting for the next, over all tasks together",
		atLeast, cards.Duration(ran), atLeast, cards.Duration(waited))
}
