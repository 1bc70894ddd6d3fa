package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/operatorservice/v1"
	sdkpb "go.temporal.io/api/sdk/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
	"github.com/stepwell-flows/stepwell/tests/testserver"
	"github.com/stepwell-flows/stepwell/workflows"
)

type found struct {
	N     int    `param:"n" default:"4"`
	Token string `param:"api_token"`
	Item  int
}

// foundFlow tolerates an item that fails, and then waits for a person.
func foundFlow(name string) *flow.Flow {
	return flow.New(name,
		flow.Foreach("grid", func(s *found) []int { return make([]int, s.N) }, func(s *found, i int) { s.Item = i },
			flow.Step("fit", func(ctx context.Context, s *found) error {
				if flow.Current(ctx).Index[0] == 1 {
					return errors.New("item 1 is bad")
				}
				return nil
			})).With(flow.Fan{Tolerate: flow.Count(1)}).
			Join("best", func(context.Context, *found, flow.Inputs[found]) error { return nil }),
		flow.Step("last", func(context.Context, *found) error { return flow.Fail("no") }, policies.Retry{Exhausted: policies.Pause}))
}

// fails runs a flow to where it waits for a person, and lets it fail.
func (r *rig) fails(f *flow.Flow, o stepwell.StartOptions, paused func(*runs.Run)) *runs.Run {
	r.t.Helper()
	run, err := r.client.Start(r.t.Context(), f, o)
	require.NoError(r.t, err)
	eventually(r.t, "the last step waits", func() bool {
		require.NoError(r.t, run.Refresh(r.t.Context()))
		task, err := run.Task(r.t.Context(), "last")
		return err == nil && task.State == runs.Paused
	})
	if paused != nil {
		paused(run)
	}
	_, err = r.client.Decide(r.t.Context(), f.Name(), run.Run.Run, "last", stepwell.Fail)
	require.NoError(r.t, err)
	run = r.wait(run)
	require.Equal(r.t, records.StatusFailed, run.Status, "%+v", run.Failure)
	require.Equal(r.t, "last", run.Failure.Task)
	for _, e := range r.history(run).GetEvents() {
		cause := e.GetWorkflowTaskFailedEventAttributes().GetCause()
		require.NotEqual(r.t, enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_SEARCH_ATTRIBUTES, cause, "%v", e)
	}
	return run
}

// finds waits until a query finds workflows with these ids, and nothing else.
func (r *rig) finds(query string, ids ...string) {
	r.t.Helper()
	slices.Sort(ids)
	eventually(r.t, query, func() bool {
		list, err := r.temporal.ListWorkflow(r.t.Context(), &workflowservice.ListWorkflowExecutionsRequest{Query: query})
		require.NoError(r.t, err, query)
		var got []string
		for _, e := range list.GetExecutions() {
			got = append(got, e.GetExecution().GetWorkflowId())
		}
		slices.Sort(got)
		return slices.Equal(ids, got)
	})
}

type link struct{ Name, Query, URL string }

// setup calls the verb of that name.
func setup(t testing.TB, flows []*flow.Flow, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	all := append([]string{"setup", "--address", testserver.Get(t).Address}, args...)
	code = stepwell.App{Flows: flows}.Run(t.Context(), all, stepwell.IO{Out: &out, Err: &err})
	return code, out.String(), err.String()
}

// The lists that setup links to have the runs that they say.
func TestRunsAreFoundByLinks(t *testing.T) {
	t.Parallel()
	f := foundFlow("FoundFlow")
	r := newRig(t, t.TempDir(), f)
	tag := "team: a&b (v1.2)"
	options := stepwell.StartOptions{Tags: []string{"nightly", tag}, Project: "fraud", Params: map[string]string{"n": "210", "api_token": "hunter2hunter2"}}
	paused := func(run *runs.Run) { r.finds("StepwellPaused = true AND WorkflowType = 'FoundFlow'", run.WorkflowID) }
	run := r.fails(f, options, paused)
	replay(t, "marked", r.history(run))
	resumed, _, err := r.client.Resume(t.Context(), f, stepwell.ResumeOptions{Step: "last"})
	require.NoError(t, err)
	eventually(t, "it waits again", func() bool {
		require.NoError(t, resumed.Refresh(t.Context()))
		task, err := resumed.Task(t.Context(), "last")
		return err == nil && task.State == runs.Paused
	})

	code, out, stderr := setup(t, []*flow.Flow{f}, "--links", "--json", "--web-ui", "https://temporal.internal/", "--user", "tester",
		"--tag", tag, "--project", "fraud", "--branch", "user.tester")
	require.Equal(t, stepwell.ExitOK, code, stderr)
	var links []link
	require.NoError(t, json.Unmarshal([]byte(out), &links), out)
	queries := map[string]string{}
	for _, l := range links {
		queries[l.Name] = l.Query
		u, err := url.Parse(l.URL)
		require.NoError(t, err)
		require.Equal(t, "https://temporal.internal/namespaces/default/workflows", "https://"+u.Host+u.Path)
		require.Equal(t, l.Query, u.Query().Get("query"))
	}
	mine := func(name string) string { // other tests use the server, too
		require.Contains(t, queries, name)
		return queries[name] + " AND WorkflowType = 'FoundFlow'"
	}
	first, second := run.WorkflowID, resumed.WorkflowID
	r.finds(queries["FoundFlow"], first, second)
	r.finds(queries["FoundFlow, failed"], first)
	for name, ids := range map[string][]string{
		"running": {second}, "waiting for a person": {second}, "failed": {first}, "with failed steps": {first}, "resumed": {second},
		"of user tester": {first, second}, "with tag " + tag: {first}, "of project fraud": {first, second}, "of project fraud, branch user.tester": {first, second},
	} {
		r.finds(mine(name), ids...)
	}
	r.finds("StepwellFailedSteps = 'fit' AND StepwellFlow = 'FoundFlow'", first)
	r.finds("StepwellFailedSteps = 'last' AND StepwellRun = '"+run.Run.Run+"'", first)

	_, err = r.client.Decide(t.Context(), f.Name(), resumed.Run.Run, "last", stepwell.Skip)
	require.NoError(t, err)
	resumed = r.wait(resumed)
	require.Equal(t, records.StatusCompleted, resumed.Status)
	r.finds(mine("waiting for a person"))

	v, err := r.temporal.QueryWorkflow(t.Context(), first, "", "__temporal_workflow_metadata")
	require.NoError(t, err)
	var page sdkpb.WorkflowMetadata
	require.NoError(t, v.Get(&page))
	require.Contains(t, page.GetCurrentDetails(), "| grid | ended | 210 of 210 | 1 |")
	require.Contains(t, page.GetCurrentDetails(), "| last | failed: no |")
	about := page.GetDefinition()
	for _, d := range slices.Concat(about.GetQueryDefinitions(), about.GetSignalDefinitions(), about.GetUpdateDefinitions()) {
		require.NotEmpty(t, d.GetDescription(), d.GetName())
	}

	d, err := r.temporal.DescribeWorkflowExecution(t.Context(), first, "")
	require.NoError(t, err)
	memo := string(d.GetWorkflowExecutionInfo().GetMemo().GetFields()["stepwell"].GetData())
	require.Contains(t, memo, `"n":"210"`)
	require.Contains(t, memo, `"steps":["fit","best","last"]`)
	require.Contains(t, memo, r.store.String())
	for _, text := range []string{memo, string(d.GetExecutionConfig().GetUserMetadata().GetDetails().GetData())} {
		require.Contains(t, text, "api_token")
		require.NotContains(t, text, "hunter2", "a parameter that is a secret by its name is not shown")
	}
}

// newNamespace makes a namespace without any search attributes, and a worker in it.
func newNamespace(t testing.TB, flows ...*flow.Flow) (*rig, string) {
	t.Helper()
	server := testserver.Get(t)
	name := strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()))
	all := server.Dial(t)
	_, err := all.WorkflowService().RegisterNamespace(t.Context(), &workflowservice.RegisterNamespaceRequest{
		Namespace: name, WorkflowExecutionRetentionPeriod: durationpb.New(24 * time.Hour),
	})
	require.NoError(t, err)
	c, err := client.DialContext(t.Context(), client.Options{
		HostPort: server.Address, Namespace: name, Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler)),
		ConnectionOptions: client.ConnectionOptions{GetSystemInfoTimeout: time.Minute}, // a busy machine takes more than the default 5 s
	})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	eventually(t, "the server knows the namespace", func() bool {
		_, err := c.ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{})
		return err == nil
	})
	store, err := artifacts.Open(t.Context(), t.TempDir(), artifacts.Options{})
	require.NoError(t, err)
	w, err := stepwell.NewWorker(c, store, stepwell.WorkerOptions{Drain: 500 * time.Millisecond}, flows...)
	require.NoError(t, err)
	require.NoError(t, w.Start())
	t.Cleanup(w.Stop)
	return &rig{t: t, store: store, temporal: c, client: fresh(c, store, name), stop: func() {}}, name
}

// fresh is a client that has not asked for anything yet.
func fresh(c client.Client, store *artifacts.Store, namespace string) *stepwell.Client {
	return stepwell.NewClient(c, store, stepwell.ClientOptions{Namespace: namespace, User: "tester"})
}

// A namespace without the attributes runs flows as well as any; setup gives it what it lacks.
func TestSetup(t *testing.T) {
	t.Parallel()
	f := foundFlow("SetupFlow")
	r, name := newNamespace(t, f)
	code, out, stderr := setup(t, nil, "--namespace", name, "--check")
	require.Equal(t, stepwell.ExitFailed, code, stderr)
	require.Regexp(t, `StepwellPaused +Bool +missing`, out)
	require.Contains(t, stderr, "some are missing (create them with: ")
	r.fails(f, stepwell.StartOptions{Tags: []string{"before"}, Project: "fraud"}, nil)

	code, out, stderr = setup(t, nil, "--namespace", name, "--json")
	require.Equal(t, stepwell.ExitOK, code, stderr)
	require.NotContains(t, out, `"present"`)
	code, out, stderr = setup(t, nil, "--namespace", name)
	require.Equal(t, stepwell.ExitOK, code, stderr)
	require.Contains(t, out, "StepwellFailedSteps  KeywordList  present")
	require.NotContains(t, out, "created")
	code, _, stderr = setup(t, nil, "--namespace", name, "--check")
	require.Equal(t, stepwell.ExitOK, code, stderr)

	r.client = fresh(r.temporal, r.store, name)
	after := r.fails(f, stepwell.StartOptions{Tags: []string{"after"}}, nil)
	r.finds("StepwellTags IN ('before', 'after') AND StepwellFailedSteps = 'last'", after.WorkflowID)

	code, _, stderr = setup(t, nil, "--namespace", "no-such-namespace")
	require.Equal(t, stepwell.ExitUnavailable, code)
	require.Contains(t, stderr, `namespace "no-such-namespace" does not exist (create it with: `)
}

// believes starts a run that sets an attribute which its namespace does not have: at the end, its workflow task fails at the server.
// It returns when the last step waits for a person.
func (r *rig) believes(f *flow.Flow, id string) *runs.Run {
	r.t.Helper()
	ctx := r.t.Context()
	_, err := r.temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: f.Name() + "/" + id, TaskQueue: stepwell.DefaultTaskQueue}, f.Name(),
		workflows.Input{Version: 1, Plan: f.Plan(), Run: id, Search: []string{workflows.AttrFailedSteps.GetName()}, Params: map[string]string{"api_token": "x"}})
	require.NoError(r.t, err)
	var run *runs.Run
	eventually(r.t, "the last step waits", func() bool {
		if run, err = r.client.Runs().Run(ctx, f.Name(), id); err != nil {
			return false
		}
		task, err := run.Task(ctx, "last")
		return err == nil && task.State == runs.Paused
	})
	return run
}

// The workflow task that a verdict comes with fails at the server. The verdict is not lost.
func TestVerdictOutlivesItsWorkflowTask(t *testing.T) {
	t.Parallel()
	f := foundFlow("LostFlow")
	r, name := newNamespace(t, f)
	run := r.believes(f, "lost")
	decided := make(chan error, 1)
	go func() {
		_, err := r.client.Decide(t.Context(), f.Name(), "lost", "last", stepwell.Fail)
		decided <- err
	}()
	eventually(t, "a workflow task fails", func() bool {
		return slices.ContainsFunc(r.history(run).GetEvents(), func(e *historypb.HistoryEvent) bool {
			return e.GetWorkflowTaskFailedEventAttributes().GetCause() == enumspb.WORKFLOW_TASK_FAILED_CAUSE_BAD_SEARCH_ATTRIBUTES
		})
	})
	_, err := stepwell.AddSearchAttributes(t.Context(), r.temporal, name)
	require.NoError(t, err)
	require.NoError(t, <-decided)
	run = r.wait(run)
	require.Equal(t, records.StatusFailed, run.Status, "%+v", run.Failure)
	r.finds("StepwellFailedSteps = 'last'", run.WorkflowID)
}

// If it fails again and again, whoever tells the verdict hears of it.
func TestVerdictOfAStuckRun(t *testing.T) {
	t.Parallel()
	f := foundFlow("StuckFlow")
	r, _ := newNamespace(t, f)
	r.believes(f, "stuck")
	_, err := r.client.Decide(t.Context(), f.Name(), "stuck", "last", stepwell.Fail)
	require.ErrorContains(t, err, `the workflow tasks of "StuckFlow/stuck" fail`)
}

// What somebody else has put into a namespace is left as it is. Runs use the attributes that are right, and no others.
func TestSetupOfANamespaceThatIsTaken(t *testing.T) {
	t.Parallel()
	f := foundFlow("TakenFlow")
	r, name := newNamespace(t, f)
	taken := map[string]enumspb.IndexedValueType{"StepwellUser": enumspb.INDEXED_VALUE_TYPE_TEXT}
	for i := range 3 {
		taken[fmt.Sprintf("Mine%d", i)] = enumspb.INDEXED_VALUE_TYPE_KEYWORD_LIST
	}
	_, err := r.temporal.OperatorService().AddSearchAttributes(t.Context(), &operatorservice.AddSearchAttributesRequest{Namespace: name, SearchAttributes: taken})
	require.NoError(t, err)
	eventually(t, "the server knows them", func() bool {
		list, err := r.temporal.OperatorService().ListSearchAttributes(t.Context(), &operatorservice.ListSearchAttributesRequest{Namespace: name})
		return err == nil && len(list.GetCustomAttributes()) == len(taken)
	})

	code, out, stderr := setup(t, nil, "--namespace", name)
	require.Equal(t, stepwell.ExitFailed, code, stderr)
	require.Regexp(t, `StepwellUser +Keyword +other type +Text`, out)
	require.Regexp(t, `StepwellTags +KeywordList +refused`, out)
	require.Regexp(t, `StepwellFailedSteps +KeywordList +refused`, out)
	require.Regexp(t, `StepwellFlow +Keyword +created`, out)
	require.Contains(t, stderr, "StepwellUser is Text there, and has to be Keyword")
	require.Contains(t, stderr, "StepwellTags was refused: ")
	require.Contains(t, stderr, "room for 10 Keyword, 3 KeywordList and 3 Bool")

	run := r.fails(f, stepwell.StartOptions{Tags: []string{"some"}}, func(run *runs.Run) { r.finds("StepwellPaused = true", run.WorkflowID) })
	r.finds("StepwellFlow = 'TakenFlow' AND StepwellPaused = false", run.WorkflowID)
}
