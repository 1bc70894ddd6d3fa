package stepwell

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
	"github.com/stepwell-flows/stepwell/telemetry"
	"github.com/stepwell-flows/stepwell/workflows"
)

// DefaultTaskQueue is the task queue of workers and runs that name no other.
const DefaultTaskQueue = "stepwell"

// Client starts, resumes, follows and cancels runs. The verbs of the command line are thin layers over it.
// It is safe for concurrent use.
type Client struct {
	temporal client.Client
	store    *artifacts.Store
	reader   *runs.Reader
	options  ClientOptions
	search   namespaceAttributes
}

// ClientOptions are what all runs of a client share. The zero value is ready.
type ClientOptions struct {
	// TaskQueue is where the workers of new runs poll. Defaults to [DefaultTaskQueue].
	TaskQueue string
	// Namespace is recorded with each run, for people, and asked for its search attributes: without it, runs do not set those that
	// tell of failed steps and of tasks that wait for a person. It does not choose the namespace; the Temporal client does.
	Namespace string
	// UI is the address of the pages of "starter ui", for example http://127.0.0.1:8283: the Temporal Web UI then links to the page
	// of each run. Defaults to no links.
	UI string
	// Heartbeat is the heartbeat timeout of steps that set none: how soon a lost worker is noticed. Defaults to 30 s for
	// steps. Set, it is the timeout of workflow tasks as well, which is 10 s otherwise.
	Heartbeat time.Duration
	// Slots is how many steps the workers of the task queue run at the same time at least, if that is known and not many: a
	// foreach then has so many under way at first, and more as long as they do not wait for a worker, which costs the server
	// least. Defaults to not known.
	Slots int
	// User is recorded with each run. Defaults to the operating system's name of the user.
	User string
}

// NewClient returns a client over a Temporal client and a store. It closes neither.
func NewClient(c client.Client, store *artifacts.Store, o ClientOptions) *Client {
	if o.TaskQueue == "" {
		o.TaskQueue = DefaultTaskQueue
	}
	if o.User == "" {
		o.User = systemUser()
	}
	return &Client{temporal: c, store: store, reader: runs.New(store, c), options: o}
}

// Runs is the client's reader.
func (c *Client) Runs() *runs.Reader { return c.reader }

// StartOptions are the choices of one run.
type StartOptions struct {
	// Params are the given parameters as text, by name.
	Params map[string]string
	// Env looks up environment variables for parameters that are not given, usually os.LookupEnv.
	// Nil looks up none.
	Env func(string) (string, bool)
	// Tags are kept with the run: at most 50, of 1 to 500 characters on one line each. They can be changed later.
	Tags []string
	// Project is the project that the run belongs to: lower-case letters, digits and _. Defaults to none.
	Project string
	// Branch and Production choose the branch of the project, which is the user's own, user.NAME, unless set: Branch makes it
	// test.BRANCH, Production prod, and both prod.BRANCH.
	Branch     string
	Production bool
	// RunID names the run. Defaults to a new id that begins with the time.
	RunID string
	// MaxParallel bounds the tasks of the run that run at the same time. 0 means no limit but those of the workers.
	MaxParallel int
}

// ErrInput is what every error about the caller's input matches: bad parameters, ids, names.
var ErrInput = errors.New("bad input")

// InputError marks an error as the caller's to mend.
type InputError struct{ Err error }

// Error is the mistake's own text.
func (e *InputError) Error() string { return e.Err.Error() }

// Unwrap is the mistake.
func (e *InputError) Unwrap() error { return e.Err }

// Is makes every InputError an ErrInput.
func (*InputError) Is(target error) bool { return target == ErrInput }

func inputf(format string, args ...any) error { return &InputError{fmt.Errorf(format, args...)} }

// Start starts a run of f and returns it without waiting. Everything about the flow and the input is
// checked first and reported at once as an [ErrInput]; after such an error nothing was written.
func (c *Client) Start(ctx context.Context, f *flow.Flow, o StartOptions) (*runs.Run, error) {
	if err := f.Check(); err != nil {
		return nil, &InputError{err}
	}
	params, err := f.ResolveParams(o.Params, o.Env)
	if o.RunID != "" {
		err = errors.Join(err, records.CheckRunID(o.RunID))
	}
	err = errors.Join(err, checkTags(o.Tags), checkProject(o), checkParallel(o.MaxParallel))
	if err != nil {
		return nil, &InputError{err}
	}
	return c.start(ctx, records.Run{
		Flow: f.Name(), Run: o.RunID, Plan: f.Plan(), Params: params, Tags: o.Tags, MaxParallel: o.MaxParallel,
		Project: o.Project, Branch: branch(o, c.options.User),
	}, nil)
}

func checkParallel(n int) error {
	if n < 0 {
		return fmt.Errorf("the limit of parallel tasks (MaxParallel, --max-parallel) is %d (use 0 for none, or 1 or more)", n)
	}
	return nil
}

// maxPlan bounds the workflow's input, which holds the plan. Temporal refuses payloads over 2 MiB and
// warns over 512 KiB.
const maxPlan = 1 << 20

// start writes run.json and starts the workflow at a cursor.
func (c *Client) start(ctx context.Context, doc records.Run, at *records.Cursor) (*runs.Run, error) {
	if b, err := json.Marshal(doc.Plan); err != nil || len(b) > maxPlan {
		return nil, errors.Join(err, inputf("the plan of flow %q has %d bytes, a workflow's input may have %d (split the flow)", doc.Flow, len(b), maxPlan))
	}
	ctx, span := telemetry.Starting(ctx, doc.Flow)
	defer span.End()
	doc.Started, doc.User, doc.Code = time.Now(), c.options.User, codeVersion()
	doc.Tags, doc.Branch = records.UniqueTags(doc.Tags), resumedBranch(doc.Branch, doc.User)
	doc.TaskQueue, doc.Namespace = c.options.TaskQueue, c.options.Namespace
	if id, err := runs.ClusterID(ctx, c.temporal); err == nil { // else the run cannot be told from one of another cluster
		doc.Cluster = id
	}
	chosen := doc.Run != ""
	for {
		if !chosen {
			doc.Run = runs.NewID(doc.Started)
		}
		if doc.Origin == "" {
			doc.Root = doc.Run
		}
		doc.WorkflowID = doc.Flow + "/" + doc.Run
		err := records.CreateRun(ctx, c.store, doc)
		if errors.Is(err, artifacts.ErrExists) && !chosen {
			continue
		}
		if errors.Is(err, artifacts.ErrExists) {
			return nil, inputf("run %q of flow %q exists (choose another --run-id)", doc.Run, doc.Flow)
		}
		if err != nil {
			return nil, fmt.Errorf("start flow %q: %w", doc.Flow, err)
		}
		break
	}
	if err := c.execute(ctx, doc, at); err != nil {
		return nil, err
	}
	return c.reader.Run(ctx, doc.Flow, doc.Run)
}

func (c *Client) execute(ctx context.Context, doc records.Run, at *records.Cursor) error {
	rungs, err := records.Rungs(ctx, c.store, doc.Plan)
	if err != nil {
		return err
	}
	limits := workflows.Limits{}
	if c.options.Slots > 0 {
		// One slot is held by the poll for what is not handed over directly.
		limits.Shards, limits.Slots, limits.Window, limits.Follow = 1, max(1, c.options.Slots-1), 2*c.options.Slots, true
	}
	limits = limits.WithDefaults() // which may be others by the time that the run is replayed
	has, known := c.attributes(ctx)
	in := workflows.Input{
		Version: limits.Version(), Plan: doc.Plan, Run: doc.Run, Prepared: true,
		Defaults: policies.Defaults{Heartbeat: c.options.Heartbeat}, Start: at, MaxParallel: doc.MaxParallel, Rungs: rungs,
		Limits: &limits, Search: workflows.OwnAttributes(has),
	}
	o := client.StartWorkflowOptions{
		ID:                       doc.WorkflowID,
		TaskQueue:                c.options.TaskQueue,
		WorkflowIDReusePolicy:    enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE,
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
		// The SDK would return the run that exists instead of failing.
		WorkflowExecutionErrorWhenAlreadyStarted: true,
		EnableEagerStart:                         true,
		WorkflowTaskTimeout:                      c.options.Heartbeat,
		StaticSummary:                            staticSummary(doc),
		StaticDetails:                            staticDetails(doc, c.store, c.options.UI),
		Memo:                                     memo(doc, c.store),
		TypedSearchAttributes:                    searchAttributes(doc, has, known),
	}
	_, err = c.temporal.ExecuteWorkflow(ctx, o, doc.Flow, in)
	var invalid *serviceerror.InvalidArgument
	if errors.As(err, &invalid) && strings.Contains(strings.ToLower(err.Error()), "search attribute") {
		// A server that was not set up for Stepwell; the run is as good without.
		o.TypedSearchAttributes, in.Search = temporal.SearchAttributes{}, nil
		_, err = c.temporal.ExecuteWorkflow(ctx, o, doc.Flow, in)
	}
	if err == nil {
		return nil
	}
	// Only an answer that says so means that the workflow was not started; otherwise the run stays.
	if notStarted(err) {
		_ = c.store.DeleteDoc(ctx, records.RunKey(doc.Flow, doc.Run))
	}
	if _, exists := errors.AsType[*serviceerror.WorkflowExecutionAlreadyStarted](err); exists {
		return inputf("run %q of flow %q exists on the Temporal server, with another store or without its record (choose another --run-id)", doc.Run, doc.Flow)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("start run %s/%s on Temporal, which may have started all the same (see: attach %s/%s): %w", doc.Flow, doc.Run, doc.Flow, doc.Run, err)
	}
	return fmt.Errorf("start flow %q on Temporal: %w", doc.Flow, err)
}

func notStarted(err error) bool {
	var (
		invalid *serviceerror.InvalidArgument
		started *serviceerror.WorkflowExecutionAlreadyStarted
		unknown *serviceerror.NamespaceNotFound
		denied  *serviceerror.PermissionDenied
	)
	return errors.As(err, &invalid) || errors.As(err, &started) || errors.As(err, &unknown) || errors.As(err, &denied)
}

func staticSummary(doc records.Run) string {
	s := doc.Run
	if doc.Origin != "" {
		s += " resumed from " + doc.Origin
	}
	if doc.User != "" {
		s += " by " + doc.User
	}
	return s
}

// staticDetails is Markdown for the Web UI, which sends it in a URL: at most about 8 KiB.
func staticDetails(doc records.Run, store *artifacts.Store, ui string) string {
	var b strings.Builder
	if ui != "" {
		fmt.Fprintf(&b, "[Page of the run](%s/runs/%s/%s), with its cards, logs and artifacts%s.\n\n",
			strings.TrimSuffix(ui, "/"), url.PathEscape(doc.Flow), url.PathEscape(doc.Run), whileItRuns(ui))
	}
	fmt.Fprintf(&b, "Run `%s/%s`, %d steps: %s\n\nArtifacts are in `%s`.\n",
		doc.Flow, doc.Run, len(doc.Plan.Steps()), shorten(strings.Join(doc.Plan.Steps(), " → "), 2000), store)
	if len(doc.Params) > 0 {
		b.WriteString("\n| parameter | value |\n|---|---|\n")
	}
	plain := strings.NewReplacer("|", "\\|", "\n", " ", "\r", " ", "`", "'")
	for _, name := range slices.Sorted(maps.Keys(doc.Params)) {
		if b.Len() > 6000 {
			b.WriteString("| … | |\n")
			break
		}
		fmt.Fprintf(&b, "| %s | `%s` |\n", name, plain.Replace(shorten(activities.Redacted(name, doc.Params[name]), 200)))
	}
	return b.String()
}

// whileItRuns says that pages of the user's own machine are not always there.
func whileItRuns(ui string) string {
	u, err := url.Parse(ui)
	if err != nil {
		return ""
	}
	if ip := net.ParseIP(u.Hostname()); u.Hostname() == "localhost" || ip != nil && ip.IsLoopback() {
		return ", while `starter ui` runs on this machine"
	}
	return ""
}

// maxMemo bounds the texts of a memo, in bytes: servers warn over 2 KiB.
const maxMemo = 1500

// memo is what Temporal keeps of a run beside its history, for people and for programs that list workflows.
func memo(doc records.Run, store *artifacts.Store) map[string]any {
	m := struct {
		Params map[string]string `json:"params,omitempty"`
		Steps  []string          `json:"steps,omitempty"`
		More   int               `json:"more_steps,omitempty"`
		Store  string            `json:"store"`
		Code   string            `json:"code,omitempty"`
	}{Params: map[string]string{}, Store: store.String(), Code: doc.Code}
	left := maxMemo
	for _, name := range slices.Sorted(maps.Keys(doc.Params)) {
		value := shorten(activities.Redacted(name, doc.Params[name]), 100)
		if left -= len(name) + len(value) + 6; left < 0 {
			m.Params["…"] = "there are more"
			break
		}
		m.Params[name] = value
	}
	for i, step := range doc.Plan.Steps() {
		if left -= len(step) + 3; left < 0 {
			m.More = len(doc.Plan.Steps()) - i
			break
		}
		m.Steps = append(m.Steps, step)
	}
	return map[string]any{"stepwell": m}
}

func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

// codeVersion is the version control revision that the program was built from, "" when it is not known.
func codeVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	revision, dirty := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "+changes"
		}
	}
	if revision == "" {
		return ""
	}
	return revision + dirty
}

// Wait blocks until the run ended and returns it as it is then. The run's own failure is no error of Wait.
func (c *Client) Wait(ctx context.Context, flowName, run string) (*runs.Run, error) {
	r, err := c.reader.Run(ctx, flowName, run)
	if err != nil {
		return nil, err
	}
	if !r.Ended.IsZero() || r.Status == records.StatusFailed {
		return r, nil
	}
	err = c.temporal.GetWorkflow(ctx, r.WorkflowID, "").Get(ctx, nil)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if refreshErr := r.Refresh(ctx); refreshErr != nil {
		return nil, refreshErr
	}
	if r.Status == records.StatusRunning || r.Status == runs.Unknown {
		return nil, fmt.Errorf("wait for run %s: %w", r.Pathspec(), cmp.Or(err, errUnanswered))
	}
	return r, nil
}

// Cancel asks a running run to stop. Steps learn of it with their next heartbeat; finished ones keep
// their records, so the run can be resumed.
func (c *Client) Cancel(ctx context.Context, flowName, run string) error {
	r, err := c.reader.Run(ctx, flowName, run)
	if err != nil {
		return err
	}
	if r.Status != records.StatusRunning && r.Status != runs.Unknown {
		return inputf("run %s is %s already", r.Pathspec(), r.Status)
	}
	if r.TemporalRunID == "" {
		return c.temporal.CancelWorkflow(ctx, r.WorkflowID, "")
	}
	// The workflow's id may be another run's by now.
	_, err = c.temporal.WorkflowService().RequestCancelWorkflowExecution(ctx, &workflowservice.RequestCancelWorkflowExecutionRequest{
		Namespace:           r.Namespace,
		WorkflowExecution:   &commonpb.WorkflowExecution{WorkflowId: r.WorkflowID},
		FirstExecutionRunId: r.TemporalRunID,
		RequestId:           uuid.NewString(),
	})
	return err
}

var errUnanswered = errors.New("it has ended, but the server does not say how")

// Polled reports whether any worker polls the task queue for workflows at this moment. The server
// remembers a worker for some minutes after it is gone.
func (c *Client) Polled(ctx context.Context, taskQueue string) (bool, error) {
	d, err := c.temporal.DescribeTaskQueue(ctx, taskQueue, enumspb.TASK_QUEUE_TYPE_WORKFLOW)
	if err != nil {
		return false, fmt.Errorf("describe task queue %q: %w", taskQueue, err)
	}
	for _, p := range d.GetPollers() {
		if time.Since(p.GetLastAccessTime().AsTime()) < 2*time.Minute {
			return true, nil
		}
	}
	return false, nil
}
