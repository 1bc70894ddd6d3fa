package report_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/cards"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/report"
	"github.com/stepwell-flows/stepwell/runs"
)

var update = flag.Bool("update", false, "write the golden files anew")

type state struct {
	Alpha float64 `param:"alpha" default:"0.5"`
	Rows  int
	Note  string
}

func nop(context.Context, *state) error { return nil }

func join(context.Context, *state, flow.Inputs[state]) error { return nil }

func setRows(s *state, n int) { s.Rows = n }

func none(*state) []int { return nil }

// grid is a flow of all shapes.
func grid(fan flow.Fan) *flow.Flow {
	return flow.New("GridFlow",
		flow.Step("load", nop, policies.Retry{MaximumAttempts: 4}, cards.Default()),
		flow.Branch("features", flow.Step("numeric", nop), flow.Seq(flow.Step("text", nop), flow.Step("embed", nop))).Join("merge", join),
		flow.Foreach("grid", none, setRows,
			flow.Step("fit", nop, policies.Retry{MaximumAttempts: 3}),
			flow.Step("score", nop),
		).With(fan).Join("best", join),
		flow.Switch("good", func(*state) string { return "" }, flow.Case("ship", flow.Step("ship", nop))).Else(flow.Step("tell", nop)),
		flow.Loop("tune", func(*state) bool { return false }, flow.Step("tune_once", nop)),
		flow.Step("end", nop),
	)
}

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func after(s float64) time.Time { return noon.Add(time.Duration(s * float64(time.Second))) }

// lab is a store with the records of runs, written by hand.
type lab struct {
	testing.TB
	store *artifacts.Store
	flow  *flow.Flow
}

func newLab(t testing.TB, f *flow.Flow) lab {
	t.Helper()
	require.NoError(t, f.Check())
	s, err := artifacts.Open(t.Context(), filepath.Join(t.TempDir(), "store"), artifacts.Options{})
	require.NoError(t, err)
	return lab{t, s, f}
}

func (l lab) start(id string, change func(*records.Run)) {
	l.Helper()
	r := records.Run{Flow: l.flow.Name(), Run: id, Root: id, Plan: l.flow.Plan(), Started: noon, WorkflowID: l.flow.Name() + "/" + id,
		TaskQueue: "stepwell", Namespace: "default", Params: map[string]string{"alpha": "0.5"}, User: "alice", Tags: []string{"nightly"}}
	if change != nil {
		change(&r)
	}
	require.NoError(l, records.CreateRun(l.Context(), l.store, r))
}

func (l lab) did(id, step string, x flow.Index, from, to float64, changes ...func(*records.Task)) {
	l.Helper()
	entries, changed, err := l.flow.Schema().Save(l.Context(), l.store, &state{Rows: len(x), Note: step}, nil, artifacts.Snapshot{}, id+"/"+step)
	require.NoError(l, err)
	rec := records.Task{Flow: l.flow.Name(), Run: id, Step: step, Index: x, Outcome: records.Completed, Attempt: 1, Worker: "7@host",
		Started: after(from), Ended: after(to), Artifacts: entries, Changed: changed}
	for _, change := range changes {
		change(&rec)
	}
	_, _, err = records.CreateTask(l.Context(), l.store, rec)
	require.NoError(l, err)
}

func (l lab) tried(id, step string, x flow.Index, a records.Attempt) {
	l.Helper()
	require.NoError(l, records.PutAttempt(l.Context(), l.store, l.flow.Name(), id, step, x, a))
}

func (l lab) over(id string, e records.End) {
	l.Helper()
	require.NoError(l, records.CreateEnd(l.Context(), l.store, l.flow.Name(), id, e))
}

func (l lab) log(id, step string, x flow.Index, attempt int, lines string) {
	l.Helper()
	require.NoError(l, l.store.PutDoc(l.Context(), records.LogKey(l.flow.Name(), id, step, x, attempt, false), []byte(lines)))
}

func (l lab) run(id string) *runs.Run {
	l.Helper()
	r, err := runs.New(l.store, nil).Run(l.Context(), l.flow.Name(), id)
	require.NoError(l, err)
	return r
}

func (l lab) page(write func(*bytes.Buffer) error) string {
	l.Helper()
	var page bytes.Buffer
	require.NoError(l, write(&page))
	if dir := os.Getenv("STEPWELL_PAGES"); dir != "" { // to look at them
		require.NoError(l, os.WriteFile(filepath.Join(dir, filepath.Base(l.Name())+".html"), page.Bytes(), 0o600))
	}
	return page.String()
}

func (l lab) runPage(id string, o report.Options) string {
	l.Helper()
	return l.page(func(b *bytes.Buffer) error { return report.Run(l.Context(), b, l.run(id), o) })
}

func (l lab) foreachPage(id, name string, o report.Options) string {
	l.Helper()
	f, err := l.run(id).Foreach(l.Context(), name)
	require.NoError(l, err)
	return l.page(func(b *bytes.Buffer) error { return report.Foreach(l.Context(), b, f, o) })
}

func (l lab) taskPage(id, name string, o report.Options) string {
	l.Helper()
	t, err := l.run(id).Task(l.Context(), name)
	require.NoError(l, err)
	return l.page(func(b *bytes.Buffer) error { return report.Task(l.Context(), b, t, o) })
}

func ahead(n int) func(*records.Task) {
	return func(r *records.Task) { r.Ahead = flow.Ahead{"grid": {Items: &flow.List{Len: n}}} }
}

func failure(class policies.Class, step string, x flow.Index, message string, at float64) *policies.Failure {
	return &policies.Failure{Class: class, Message: message, Type: "ValueError", Step: step, Task: flow.TaskName(step, x), Attempt: 1, Time: after(at), Worker: "7@host"}
}

// failed plays a run of the grid in which items failed, every third one was tried twice, and nothing after the foreach ran.
func (l lab) failed(id string, items int) {
	l.Helper()
	l.start(id, nil)
	busy := failure(policies.RateLimited, "load", nil, "store: 429 too many requests", 1)
	l.tried(id, "load", nil, records.Attempt{Attempt: 1, Outcome: records.Failed, Worker: "7@host", Started: after(0.2), Ended: after(1), Failure: busy,
		CountsAsCodeFailure: true, Delay: 2 * time.Second, Reason: "asked for 2s by the error"})
	l.did(id, "load", nil, 3, 4.5, func(r *records.Task) { r.Attempt = 2 })
	l.log(id, "load", nil, 1, `{"time":"2026-01-01T12:00:00.400Z","level":"INFO","msg":"asking","source":"s3://rows"}`+"\n")
	l.log(id, "load", nil, 2, `{"time":"2026-01-01T12:00:03.400Z","level":"INFO","msg":"read","rows":1200}`+"\n")
	l.did(id, "numeric", nil, 4.5, 6)
	l.did(id, "text", nil, 4.5, 5)
	l.did(id, "embed", nil, 5, 7.5)
	l.did(id, "merge", nil, 7.5, 8, ahead(items))
	var first *policies.Failure
	count := 0
	for i := range items {
		x, from, attempt := flow.Index{i}, 8+float64(i)*20/float64(items), 1
		took := 0.5 + float64(i*7%13)/10
		if i%3 == 1 {
			l.tried(id, "fit", x, records.Attempt{Attempt: 1, Outcome: records.Failed, Started: after(from), Ended: after(from + 0.2),
				Failure: failure(policies.Transient, "fit", x, "connection refused", from+0.2), CountsAsCodeFailure: true, Delay: time.Second, Reason: "exponential 1s"})
			from, attempt = from+1, 2
		}
		if i%10 == 7 {
			f := failure(policies.Invalid, "fit", x, fmt.Sprintf("item %d has no rows", i), from+took)
			f.Attempt = attempt
			if i%20 == 7 {
				f.Class, f.Type = policies.Bug, "PanicError"
				f.Stack = "goroutine 7 [running]:\nmain.fit(...)\n\t/src/main.go:104\n"
			}
			l.tried(id, "fit", x, records.Attempt{Attempt: attempt, Outcome: records.Failed, Started: after(from), Ended: after(from + took), Failure: f, CountsAsCodeFailure: true, Final: true})
			if first == nil {
				first = f
			}
			count++
			continue
		}
		l.did(id, "fit", x, from, from+took, func(r *records.Task) { r.Attempt = attempt })
		if i%5 != 0 {
			l.did(id, "score", x, from+took, from+took+0.1)
		}
	}
	if first != nil {
		first.Others = count - 1
	}
	l.over(id, records.End{Status: records.StatusFailed, Ended: after(32), Failure: first})
}
