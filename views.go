package stepwell

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
	"github.com/stepwell-flows/stepwell/workflows"
)

// view is a list of the Temporal Web UI: the workflows that a query finds. The page can save it.
type view struct {
	Name  string `json:"name"`
	Query string `json:"query"`
	URL   string `json:"url"`
}

// webUIAddress is where the Temporal Web UI of a configured server is, as far as the user says: by a flag, else by STEPWELL_WEB_UI.
func (c *command) webUIAddress(flag string) (string, error) {
	if flag != "" {
		return c.pageAddress("--web-ui", flag)
	}
	return c.pageAddress("STEPWELL_WEB_UI", "")
}

// pageAddress is the address of a page that a flag gives, or without a value the environment. It may be none.
func (c *command) pageAddress(name, address string) (string, error) {
	if address == "" {
		address, _ = c.io.Env(name)
	}
	if address == "" {
		return "", nil
	}
	if u, err := url.Parse(address); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", inputf("%s %q is not the address of a page (write it like http://127.0.0.1:8233)", name, address)
	}
	return strings.TrimSuffix(address, "/"), nil
}

// viewURL is the page of the Temporal Web UI with the workflows that a query finds.
func viewURL(webUI, namespace, query string) string {
	return fmt.Sprintf("%s/namespaces/%s/workflows?query=%s", webUI, url.PathEscape(namespace), strings.ReplaceAll(url.QueryEscape(query), "+", "%20"))
}

// executionStatuses are what Temporal calls the statuses of runs.
var executionStatuses = map[records.Status][]string{
	records.StatusRunning:   {"Running"},
	records.StatusCompleted: {"Completed"},
	records.StatusFailed:    {"Failed", "Terminated", "TimedOut"},
	records.StatusCancelled: {"Canceled"},
}

// filterQuery is the query for the runs of a flow that a filter takes. What Temporal does not know of a run is left out.
func filterQuery(flowName string, f runs.Filter) string {
	terms := []string{fmt.Sprintf("WorkflowType = %s", quoted(flowName))}
	is := func(name, value string) {
		if value != "" {
			terms = append(terms, fmt.Sprintf("%s = %s", name, quoted(value)))
		}
	}
	var statuses []string
	for _, s := range f.Statuses {
		for _, name := range executionStatuses[s] {
			statuses = append(statuses, quoted(name))
		}
	}
	switch len(statuses) {
	case 0:
	case 1:
		terms = append(terms, "ExecutionStatus = "+statuses[0])
	default:
		terms = append(terms, fmt.Sprintf("ExecutionStatus IN (%s)", strings.Join(statuses, ", ")))
	}
	is(workflows.AttrUser.GetName(), f.User)
	is(workflows.AttrProject.GetName(), f.Project)
	is(workflows.AttrBranch.GetName(), f.Branch)
	for _, tag := range f.Tags {
		name, value := workflows.AttrTags.GetName(), tag
		// Tags that runs have by themselves are attributes of their own.
		for prefix, attribute := range map[string]string{
			"user:": workflows.AttrUser.GetName(), "project:": workflows.AttrProject.GetName(), "project_branch:": workflows.AttrBranch.GetName(), "code:": "",
		} {
			if rest, ok := strings.CutPrefix(tag, prefix); ok {
				name, value = attribute, rest
			}
		}
		if name != "" {
			is(name, value)
		}
	}
	if !f.Since.IsZero() {
		terms = append(terms, fmt.Sprintf("StartTime >= %s", quoted(f.Since.UTC().Format(time.RFC3339))))
	}
	return strings.Join(terms, " AND ")
}

// quoted is a text in a query.
func quoted(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text) + "'"
}

// usefulViews are those that most people want: of each flow, and of all. The filter adds those of a user, tag, project and branch.
func usefulViews(flows []string, f runs.Filter) []view {
	var views []view
	add := func(name, format string, args ...any) {
		views = append(views, view{Name: name, Query: fmt.Sprintf(format, args...)})
	}
	for _, name := range flows {
		add(name, "WorkflowType = %s", quoted(name))
		add(name+", failed", "WorkflowType = %s AND ExecutionStatus = 'Failed'", quoted(name))
	}
	run, running := workflows.AttrRun.GetName(), "ExecutionStatus = 'Running'"
	add("running", "%s IS NOT NULL AND %s", run, running)
	add("waiting for a person", "%s = true AND %s", workflows.AttrPaused.GetName(), running)
	add("failed", "%s IS NOT NULL AND ExecutionStatus = 'Failed'", run)
	add("with failed steps", "%s IS NOT NULL", workflows.AttrFailedSteps.GetName())
	add("resumed", "%s IS NOT NULL", workflows.AttrOrigin.GetName())
	if f.User != "" {
		add("of user "+f.User, "%s = %s", workflows.AttrUser.GetName(), quoted(f.User))
	}
	for _, tag := range f.Tags {
		add("with tag "+tag, "%s = %s", workflows.AttrTags.GetName(), quoted(tag))
	}
	if f.Project != "" {
		add("of project "+f.Project, "%s = %s", workflows.AttrProject.GetName(), quoted(f.Project))
	}
	if f.Project != "" && f.Branch != "" {
		add("of project "+f.Project+", branch "+f.Branch, "%s = %s AND %s = %s",
			workflows.AttrProject.GetName(), quoted(f.Project), workflows.AttrBranch.GetName(), quoted(f.Branch))
	}
	return views
}

// linked gives views their addresses.
func linked(views []view, webUI, namespace string) []view {
	out := slices.Clone(views)
	for i := range out {
		out[i].URL = viewURL(webUI, namespace, out[i].Query)
	}
	return out
}
