package stepwell

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/cards"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) {
	time.Local = time.UTC // what people read has their own zone, golden files have one
	testscript.Main(m, map[string]func(){"starter": App{Flows: []*flow.Flow{trainFlow(), emptyFlow()}}.Main})
}

type trainState struct {
	Alpha  float64 `param:"alpha" default:"0.5" help:"learning rate"`
	Source string  `param:"source" help:"where the rows come from"`

	Rows    int
	Model   []float64
	Report  string
	Raw     []byte
	Data    artifacts.File
	Problem *policies.Failure
}

func nothing(context.Context, *trainState) error { return nil }

func trainFlow() *flow.Flow {
	return flow.New("TrainFlow",
		flow.Step("load", nothing, policies.Retry{MaximumAttempts: 4, InitialInterval: 2 * time.Second}, policies.Timeout{Attempt: time.Minute}),
		flow.Step("train", nothing, policies.Retry{MaximumAttempts: 3, InitialInterval: time.Second, BackoffCoefficient: 1, Jitter: policies.NoJitter, NonRetryable: []string{"Invalid"}}),
		flow.Step("evaluate", nothing, policies.Catch(func(context.Context, *trainState, *policies.Failure) error { return nil })),
		flow.Step("report", nothing, cards.Default()),
	)
}

func emptyFlow() *flow.Flow { return flow.New("OtherFlow", flow.Step("only", nothing)) }

// The runs of the fixture, oldest first.
const (
	completedRun = "20260101-120000-00aaaaa" // with retries and a caught failure
	failedRun    = "20260101-130000-00bbbbb" // a lost attempt, then code failures
	resumedRun   = "20260101-140000-00ccccc" // from failedRun
	cancelledRun = "20260101-150000-00ddddd"
	unknownRun   = "20260101-160000-00eeeee" // has no end
	hostileRun   = "hostile"                 // an id of its own; escape sequences wherever data can be
)

const hostile = "\x1b[31mred\x1b[0m\x1b]0;title\x07 \u009b2J\u202egpj.exe\r\nsecond\x00"

// station is a store with runs written by hand.
type station struct {
	*testing.T
	dir   string
	store *artifacts.Store
	flow  *flow.Flow
}

func at(clock string) time.Time {
	t, err := time.Parse("2006-01-02 15:04:05.000", "2026-01-01 "+clock)
	if err != nil {
		panic(err)
	}
	return t
}

func newStation(t *testing.T) *station {
	t.Helper()
	// A folder whose name is the same in every run, as far as golden files see it.
	dir := filepath.Join(t.TempDir(), "store")
	store, err := artifacts.Open(t.Context(), dir, artifacts.Options{})
	require.NoError(t, err)
	s := &station{t, dir, store, trainFlow()}
	require.NoError(t, s.flow.Check())
	s.completed()
	s.failed()
	s.resumed()
	s.start(cancelledRun, at("15:00:00.000"), nil)
	s.task(cancelledRun, "load", trainState{Alpha: 0.5}, at("15:00:01.000"), at("15:00:02.000"), nil)
	s.attempt(cancelledRun, "train", records.Attempt{Attempt: 1, Outcome: records.Cancelled, Worker: "7@host", Started: at("15:00:02.000"), Ended: at("15:00:09.000"),
		Failure: &policies.Failure{Class: policies.Cancelled, Message: "the run was cancelled", Attempt: 1}, Reason: "the run was cancelled"})
	s.end(cancelledRun, records.End{Status: records.StatusCancelled, Ended: at("15:00:10.000")})
	s.start(unknownRun, at("16:00:00.000"), nil)
	s.task(unknownRun, "load", trainState{Alpha: 0.5}, at("16:00:01.000"), at("16:00:02.000"), nil)
	s.attempt(unknownRun, "train", records.Attempt{Attempt: 1, Outcome: records.Failed, Worker: "7@host", Started: at("16:00:02.000"), Ended: at("16:00:03.000"),
		Failure: &policies.Failure{Class: policies.Unknown, Message: "odd", Attempt: 1}, CountsAsCodeFailure: true, Delay: time.Second, Reason: "constant 1s, no jitter"})
	s.hostile()
	return s
}

func (s *station) completed() {
	s.start(completedRun, at("12:00:00.000"), func(r *records.Run) { r.Tags, r.Code = []string{"nightly", "gpu"}, "4f1c2aa" })
	busy := &policies.Failure{Class: policies.RateLimited, Message: "store: 429 too many requests", Attempt: 1, RetryAfter: 2 * time.Second}
	down := &policies.Failure{Class: policies.Transient, Message: "dial tcp: connection refused", Type: "OpError", Attempt: 2}
	s.attempt(completedRun, "load", records.Attempt{Attempt: 1, Outcome: records.Failed, Worker: "7@host", Started: at("12:00:01.000"), Ended: at("12:00:01.200"),
		Failure: busy, CountsAsCodeFailure: true, Delay: 2100 * time.Millisecond, Reason: "asked for 2s by the error, full jitter added 100ms"})
	s.attempt(completedRun, "load", records.Attempt{Attempt: 2, Outcome: records.Failed, Worker: "8@host", Started: at("12:00:03.350"), Ended: at("12:00:03.400"),
		Failure: down, CountsAsCodeFailure: true, Delay: 2700 * time.Millisecond, Reason: "exponential 4s, full jitter drew 2.7s"})
	after := trainState{Alpha: 0.5, Source: "s3://rows", Rows: 1200}
	s.task(completedRun, "load", after, at("12:00:06.150"), at("12:00:07.000"), func(r *records.Task) { r.Attempt, r.Worker = 3, "8@host" })
	after.Model = make([]float64, 2000)
	s.task(completedRun, "train", after, at("12:00:07.000"), at("12:01:40.000"), nil)
	bug := &policies.Failure{Class: policies.Bug, Message: "panic: runtime error: index out of range [3] with length 3", Type: "PanicError", Attempt: 1,
		Step: "evaluate", Task: "evaluate", Stack: "goroutine 7 [running]:\nmain.evaluate(...)\n\t/src/main.go:104\n"}
	s.attempt(completedRun, "evaluate", records.Attempt{Attempt: 1, Outcome: records.Failed, Worker: "8@host", Started: at("12:01:40.000"), Ended: at("12:01:40.500"),
		Failure: bug, CountsAsCodeFailure: true, Reason: "attempts spent (1 of 1)"})
	after.Problem = bug
	s.task(completedRun, "evaluate", after, at("12:01:40.600"), at("12:01:40.700"), func(r *records.Task) { r.Outcome, r.Failure = records.Caught, bug })
	path := filepath.Join(s.TempDir(), "rows.csv")
	require.NoError(s, os.WriteFile(path, []byte("a,b\n1,2\n"), 0o600))
	after.Data.SetPath(path)
	after.Report, after.Raw = "AUC 0.71\nfine", []byte{0, 1, 2, 255}
	last := s.task(completedRun, "report", after, at("12:01:41.000"), at("12:01:42.000"), nil)
	s.end(completedRun, records.End{Status: records.StatusCompleted, Ended: at("12:01:42.100"), Last: &last})
	s.doc(records.CardKey("TrainFlow", completedRun, "report", nil, "default"), "<!doctype html><title>report</title>")
	s.log(completedRun, "load", 1, false, `{"time":"2026-01-01T12:00:01.100Z","level":"INFO","msg":"reading","source":"s3://rows","part":1}`)
	s.log(completedRun, "load", 3, false, `{"time":"2026-01-01T12:00:06.500Z","level":"INFO","msg":"read","rows":1200}`, `{"level":"DEBUG","msg":"no time of its own"}`)
	s.log(completedRun, "evaluate", 1, false, `{"time":"2026-01-01T12:01:40.200Z","level":"WARN","msg":"looks odd","model":{"depth":3}}`)
	s.log(completedRun, "evaluate", 1, true, `{"time":"2026-01-01T12:01:40.650Z","level":"ERROR","msg":"using yesterday's"}`)
}

func (s *station) failed() {
	s.start(failedRun, at("13:00:00.000"), func(r *records.Run) { r.Tags = []string{"nightly"} })
	after := trainState{Alpha: 0.5, Rows: 9}
	last := s.task(failedRun, "load", after, at("13:00:01.000"), at("13:00:02.000"), nil)
	odd := func(n int) *policies.Failure {
		return &policies.Failure{Class: policies.Unknown, Message: "loss is NaN", Flow: "TrainFlow", Run: failedRun, Step: "train", Task: "train", Attempt: n}
	}
	s.attempt(failedRun, "train", records.Attempt{Attempt: 1, Outcome: records.Failed, Worker: "7@host", Started: at("13:00:02.000"), Ended: at("13:00:03.000"),
		Failure: odd(1), CountsAsCodeFailure: true, Delay: time.Second, Reason: "constant 1s, no jitter"})
	s.attempt(failedRun, "train", records.Attempt{Attempt: 2, Outcome: records.Lost, Worker: "7@host", Started: at("13:00:04.010"),
		Failure: &policies.Failure{Class: policies.Lost, Message: "the worker stopped heartbeating", Attempt: 2}, Reason: "the worker stopped heartbeating"})
	s.attempt(failedRun, "train", records.Attempt{Attempt: 3, Outcome: records.Failed, Worker: "9@host", Started: at("13:00:40.000"), Ended: at("13:00:41.000"),
		Failure: odd(3), CountsAsCodeFailure: true, Delay: time.Second, Reason: "constant 1s, no jitter"})
	spent := odd(4)
	spent.CodeFailures, spent.LostAttempts = 3, 1
	s.attempt(failedRun, "train", records.Attempt{Attempt: 4, Outcome: records.Failed, Worker: "9@host", Started: at("13:00:42.020"), Ended: at("13:00:43.000"),
		Failure: spent, CountsAsCodeFailure: true, Reason: "attempts spent (3 of 3)"})
	s.end(failedRun, records.End{Status: records.StatusFailed, Ended: at("13:00:43.500"), Failure: spent, Last: &last})
}

func (s *station) resumed() {
	s.start(resumedRun, at("14:00:00.000"), func(r *records.Run) {
		r.Origin, r.Root, r.Reused = failedRun, failedRun, map[string]string{"load": failedRun}
	})
	after := trainState{Alpha: 0.5, Rows: 9, Model: []float64{1, 2}}
	var last records.Ref
	for _, step := range []string{"train", "evaluate", "report"} {
		last = s.task(resumedRun, step, after, at("14:00:01.000"), at("14:00:02.000"), nil)
	}
	s.doc(records.CardKey("TrainFlow", resumedRun, "report", nil, "default"), "<p>one")
	s.doc(records.CardKey("TrainFlow", resumedRun, "report", nil, "plots"), "<p>two")
	s.end(resumedRun, records.End{Status: records.StatusCompleted, Ended: at("14:00:03.000"), Last: &last})
}

func (s *station) hostile() {
	s.start(hostileRun, at("13:30:00.000"), func(r *records.Run) {
		r.Tags, r.User, r.Code = []string{hostile}, hostile, hostile
		r.Params = map[string]string{"alpha": "0.5", "source": hostile}
	})
	s.task(hostileRun, "load", trainState{Alpha: 0.5, Source: hostile, Report: hostile}, at("13:30:01.000"), at("13:30:02.000"), func(r *records.Task) { r.Worker = hostile })
	f := &policies.Failure{Class: policies.Invalid, Message: hostile, Type: hostile, Step: "train", Task: "train", Attempt: 1, Worker: hostile, Stack: hostile}
	s.attempt(hostileRun, "train", records.Attempt{Attempt: 1, Outcome: records.Failed, Worker: hostile, Started: at("13:30:02.000"), Ended: at("13:30:03.000"),
		Failure: f, CountsAsCodeFailure: true, Reason: hostile})
	s.end(hostileRun, records.End{Status: records.StatusFailed, Ended: at("13:30:04.000"), Failure: f})
	line, err := marshalJSON(map[string]any{"time": "2026-01-01T13:30:01Z", "level": "INFO", "msg": hostile, "k" + hostile: hostile}, "")
	require.NoError(s, err)
	s.log(hostileRun, "load", 1, false, strings.TrimSpace(string(line)))
	s.log(hostileRun, "train", 1, false, hostile)
}

func (s *station) start(id string, started time.Time, change func(*records.Run)) {
	s.Helper()
	r := records.Run{
		Flow: "TrainFlow", Run: id, Root: id, Plan: s.flow.Plan(), Params: map[string]string{"alpha": "0.5", "source": "s3://rows"},
		Started: started, User: "ada", WorkflowID: "TrainFlow/" + id, TaskQueue: "stepwell", Namespace: "default",
	}
	if change != nil {
		change(&r)
	}
	require.NoError(s, records.CreateRun(s.Context(), s.store, r))
}

// task writes the record of a task that left a state behind. What it set is told by the record before.
func (s *station) task(id, step string, v trainState, started, ended time.Time, change func(*records.Task)) records.Ref {
	s.Helper()
	names := s.flow.Plan().Steps()
	var prev map[string]artifacts.Entry
	before := s.flow.NewState()
	var parents []records.Ref
	for i, name := range names {
		if name != step || i == 0 {
			continue
		}
		ref, rec, err := records.FindTask(s.Context(), s.store, "TrainFlow", id, names[i-1], nil)
		if err == nil {
			prev, parents = rec.Artifacts, []records.Ref{ref}
			require.NoError(s, s.flow.Schema().Load(s.Context(), s.store, prev, before))
		}
	}
	snapshot, err := s.flow.Schema().Snapshot(before)
	require.NoError(s, err)
	if prev == nil {
		snapshot = artifacts.Snapshot{}
		prev, _, err = s.flow.Schema().Save(s.Context(), s.store, &trainState{Alpha: v.Alpha, Source: v.Source}, nil, snapshot, id)
		require.NoError(s, err)
	}
	entries, changed, err := s.flow.Schema().Save(s.Context(), s.store, &v, prev, snapshot, id+"/"+step)
	require.NoError(s, err)
	rec := records.Task{
		Flow: "TrainFlow", Run: id, Step: step, Outcome: records.Completed, Attempt: 1, Worker: "7@host",
		Started: started, Ended: ended, Parents: parents, Artifacts: entries, Changed: changed,
	}
	if change != nil {
		change(&rec)
	}
	ref, _, err := records.CreateTask(s.Context(), s.store, rec)
	require.NoError(s, err)
	return ref
}

func (s *station) attempt(id, step string, a records.Attempt) {
	s.Helper()
	require.NoError(s, records.PutAttempt(s.Context(), s.store, "TrainFlow", id, step, nil, a))
}

func (s *station) end(id string, e records.End) {
	s.Helper()
	require.NoError(s, records.CreateEnd(s.Context(), s.store, "TrainFlow", id, e))
}

func (s *station) log(id, step string, attempt int, catch bool, lines ...string) {
	s.Helper()
	s.doc(records.LogKey("TrainFlow", id, step, nil, attempt, catch), strings.Join(lines, "\n")+"\n")
}

func (s *station) doc(key, content string) {
	s.Helper()
	require.NoError(s, s.store.PutDoc(s.Context(), key, []byte(content)))
}

// result is what a call of the program did.
type result struct {
	code     int
	out, err string
}

// run calls a program of the fixture's flows, which finds the store by the environment.
func (s *station) run(t *testing.T, args ...string) result {
	t.Helper()
	return call(t.Context(), App{Flows: []*flow.Flow{s.flow, emptyFlow()}}, map[string]string{"STEPWELL_STORE": s.dir}, args...)
}

func call(ctx context.Context, app App, env map[string]string, args ...string) result {
	var out, err bytes.Buffer
	code := app.Run(ctx, args, IO{Out: &out, Err: &err, Env: func(name string) (string, bool) { v, ok := env[name]; return v, ok }})
	return result{code, out.String(), err.String()}
}

// golden compares a text with a file of testdata/cli. The store's folder is called STORE in it.
func (s *station) golden(t *testing.T, name, text string) {
	t.Helper()
	golden(t, name, strings.ReplaceAll(text, s.dir, "STORE"))
}

func golden(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join("testdata", "cli", name+".golden")
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
		return
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "write it with: go test . -update")
	require.Equal(t, string(want), text, "%s differs (if the change is meant: go test . -update)", path)
}
