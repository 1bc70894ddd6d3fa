package report

import (
	"net/url"
	"strings"
	"time"

	"github.com/stepwell-flows/stepwell/runs"
)

// Options say what a page has besides the run itself. The zero value is ready for use and makes a page for a file.
type Options struct {
	// Link returns the address of what a page wants to link to, "" for no link. Nil links nothing.
	Link func(Place) string
	// WebUI is the address of Temporal's Web UI, such as "http://127.0.0.1:8233". Pages link to the run there. Defaults to no link.
	WebUI string
	// Live says that the page is loaded anew by itself while the run goes on, which it tells its reader.
	Live bool
	// Script is JavaScript that the page runs, and may fetch from where it came from with. The page allows this text by its digest and
	// no other. Defaults to none.
	Script string
	// Command returns what to type for a verb of the starter and its arguments, for a shell. Defaults to "starter" and the words.
	Command func(words ...string) string
	// Now is the time at which a run that has not ended is drawn. Defaults to the current time.
	Now time.Time
}

// Place is something that a page links to. The zero Place is where all flows are listed; a flow alone is the list of its runs.
type Place struct {
	// Pathspec names the flow, the run and the task.
	runs.Pathspec
	// Step is a step with many tasks, of which there is a list.
	Step string
	// Foreach is a foreach, which has a page.
	Foreach string
	// Artifact, Card and Logs are of the task: an artifact or a card by its name, all that it logged. Logs without a task are those
	// of the run.
	Artifact, Card string
	Logs           bool
}

func (o Options) link(p Place) string {
	if o.Link == nil {
		return ""
	}
	return o.Link(p)
}

func (o Options) now() time.Time {
	if o.Now.IsZero() {
		return time.Now()
	}
	return o.Now
}

func (o Options) command(words ...string) string {
	if o.Command != nil {
		return text(o.Command(words...))
	}
	all := []string{"starter"}
	for _, w := range words {
		if strings.ContainsAny(w, "[ '\"$&;|<>()*?!`\\") {
			w = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		all = append(all, w)
	}
	return text(strings.Join(all, " "))
}

// temporal is the run's page in Temporal's Web UI.
func (o Options) temporal(run *runs.Run) string {
	base, err := url.Parse(o.WebUI)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" {
		return ""
	}
	namespace := run.Namespace
	if namespace == "" {
		namespace = "default"
	}
	return strings.TrimSuffix(o.WebUI, "/") + "/namespaces/" + url.PathEscape(namespace) + "/workflows/" + url.PathEscape(run.WorkflowID)
}

// places are the links of one run's page.
type places struct {
	Options
	run *runs.Run
}

func (o places) spec(task string) runs.Pathspec {
	return runs.Pathspec{Flow: o.run.Flow, Run: o.run.Run.Run, Task: task}
}

func (o places) task(name string) link {
	return link{text(name), o.link(Place{Pathspec: o.spec(name)})}
}

func (o places) step(s *runs.Step) link {
	if s.Task != nil {
		return o.task(s.Task.Name())
	}
	return link{text(s.Name), o.link(Place{Pathspec: o.spec(""), Step: s.Name})}
}

func (o places) foreach(name string) link {
	return link{text(name), o.link(Place{Pathspec: o.spec(""), Foreach: name})}
}

// crumbs lead from the list of flows to a page of the run.
func (o places) crumbs(more ...link) []link {
	flow := runs.Pathspec{Flow: o.run.Flow}
	var all []link
	if home := o.link(Place{}); home != "" {
		all = append(all, link{"Flows", home})
	}
	all = append(all, link{text(o.run.Flow), o.link(Place{Pathspec: flow})})
	if len(more) > 0 {
		all = append(all, link{text(o.run.Run.Run), o.link(Place{Pathspec: o.spec("")})})
	}
	return append(all, more...)
}
