package stepwell

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

func nothingJoined(context.Context, *trainState, flow.Inputs[trainState]) error { return nil }

// gridFlow has all shapes. Its name is that of the fixture, whose helpers write its records.
func gridFlow(fan flow.Fan) *flow.Flow {
	return flow.New("TrainFlow",
		flow.Step("load", nothing),
		flow.Branch("features", flow.Step("numeric", nothing), flow.Step("text", nothing)).Join("merge", nothingJoined),
		flow.Foreach("grid", func(*trainState) []int { return nil }, func(s *trainState, n int) { s.Rows = n },
			flow.Step("fit", nothing, policies.Retry{MaximumAttempts: 2}),
			flow.Step("score", nothing),
		).With(fan).Join("best", nothingJoined),
		flow.Switch("good", func(*trainState) bool { return true }, flow.Case(true, flow.Step("ship", nothing))).Else(flow.Step("report", nothing)),
		flow.Loop("tune", func(*trainState) bool { return true }, flow.Step("tune_once", nothing)),
		flow.Step("end", nothing),
	)
}

const (
	toleratedRun = "20260103-120000-00aaaaa" // two of 30 items failed
	strictRun    = "20260103-130000-00bbbbb" // three of 30 items failed, and some never began
	carriedRun   = "20260103-140000-00ccccc" // from strictRun
	batchedRun   = "20260103-150000-00ddddd" // in batches of ten, cancelled
)

// newShapes is a store with runs that have shapes.
func newShapes(t *testing.T) *station {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "store")
	store, err := artifacts.Open(t.Context(), dir, artifacts.Options{})
	require.NoError(t, err)
	s := &station{t, dir, store, gridFlow(flow.Fan{Tolerate: flow.Count(2)})}
	require.NoError(t, s.flow.Check())

	s.start(toleratedRun, at("12:00:00.000"), nil)
	s.upTo(toleratedRun, 30)
	for i := range 30 {
		s.itemRun(toleratedRun, i, i == 7 || i == 21)
	}
	s.node(toleratedRun, "best", nil, "12:00:40.000", flow.Ahead{"good": {Case: 0, Value: "true"}})
	s.node(toleratedRun, "ship", nil, "12:00:41.000", nil)
	for i := range 3 {
		s.node(toleratedRun, "tune_once", flow.Index{i}, fmt.Sprintf("12:00:4%d.000", 2+i), nil)
	}
	last := s.node(toleratedRun, "end", nil, "12:00:45.000", nil)
	s.end(toleratedRun, records.End{Status: records.StatusCompleted, Ended: at("12:00:46.500"), Last: &last})
	for _, i := range []int{11, 3} {
		s.doc(records.LogKey("TrainFlow", toleratedRun, "fit", flow.Index{i}, 1, false), fmt.Sprintf(`{"time":"2026-01-01T12:00:%02dZ","level":"INFO","msg":"fitting","alpha":0.%d}`+"\n", 20-i, i))
	}

	s.start(strictRun, at("12:00:00.000"), nil)
	s.upTo(strictRun, 30)
	for i := range 25 {
		s.itemRun(strictRun, i, i == 9 || i == 10 || i == 20)
	}
	f := badItem(9)
	f.Others = 2
	s.end(strictRun, records.End{Status: records.StatusFailed, Ended: at("12:00:39.000"), Failure: f})

	s.start(carriedRun, at("13:00:00.000"), func(r *records.Run) {
		r.Origin, r.Root = strictRun, strictRun
		r.Reused = map[string]string{"load": strictRun, "numeric": strictRun, "text": strictRun, "merge": strictRun, "fit": strictRun, "score": strictRun, records.ItemsKey("grid"): strictRun}
	})
	for _, i := range []int{9, 10, 20, 25, 26} {
		s.node(carriedRun, "fit", flow.Index{i}, "13:00:10.000", nil)
	}
	s.end(carriedRun, records.End{Status: records.StatusCancelled, Ended: at("13:00:20.000")})

	s.flow = gridFlow(flow.Fan{Batch: 10, Tolerate: flow.Count(2)})
	s.start(batchedRun, at("14:00:00.000"), nil)
	s.upTo(batchedRun, 30)
	for _, first := range []int{0, 10} {
		d := records.Shard{Flow: "TrainFlow", Run: batchedRun, Foreach: "grid", First: first, Count: 10}
		for i := first; i < first+10; i++ {
			item := records.Item{Index: i, Outcome: records.Completed, Step: "score", Attempt: 1, Started: at("14:00:10.000"), Took: 300 * time.Millisecond}
			if i == 4 {
				item = records.Item{Index: i, Outcome: records.Failed, Attempt: 2, Started: at("14:00:10.000"), Failure: badItem(i)}
			}
			d.Items = append(d.Items, item)
			d.Add(item)
		}
		_, _, err := records.CreateBatch(t.Context(), store, d)
		require.NoError(t, err)
		s.doc(records.LogKey("TrainFlow", batchedRun, "grid", flow.Index{first}, 1, false),
			fmt.Sprintf(`{"time":"2026-01-01T14:00:1%dZ","level":"INFO","msg":"fitting","task":"fit[%d]","n":1}`+"\n", first/10, first+2)+
				fmt.Sprintf(`{"time":"2026-01-01T14:00:2%dZ","level":"INFO","msg":"scoring","task":"score[%d]"}`+"\n", first/10, first+2))
	}
	s.end(batchedRun, records.End{Status: records.StatusCancelled, Ended: at("14:01:00.000")})
	return s
}

// upTo writes what comes before a foreach of n items.
func (s *station) upTo(id string, n int) {
	s.node(id, "load", nil, "12:00:01.000", nil)
	s.node(id, "numeric", nil, "12:00:02.000", nil)
	s.node(id, "text", nil, "12:00:03.000", nil)
	s.node(id, "merge", nil, "12:00:04.000", flow.Ahead{"grid": {Items: &flow.List{Len: n}}})
}

func badItem(i int) *policies.Failure {
	return &policies.Failure{Class: policies.Invalid, Message: fmt.Sprintf("item %d is negative", i), Step: "fit", Task: fmt.Sprintf("fit[%d]", i), Attempt: 2, CodeFailures: 2,
		Worker: "7@host", Time: at("12:00:30.000").Add(time.Duration(i) * time.Second)}
}

// itemRun writes what the tasks of an item leave.
func (s *station) itemRun(id string, i int, fails bool) {
	s.Helper()
	if fails {
		for n := range 2 {
			a := records.Attempt{Attempt: n + 1, Outcome: records.Failed, Worker: "7@host", Started: at("12:00:20.000"), Ended: badItem(i).Time, Failure: badItem(i), CountsAsCodeFailure: true}
			if a.Delay, a.Reason = time.Second, "constant 1s, no jitter"; n == 1 {
				a.Delay, a.Reason = 0, "attempts spent (2 of 2)"
			}
			require.NoError(s, records.PutAttempt(s.Context(), s.store, "TrainFlow", id, "fit", flow.Index{i}, a))
		}
		return
	}
	s.node(id, "fit", flow.Index{i}, "12:00:10.000", nil)
	s.node(id, "score", flow.Index{i}, "12:00:11.000", nil)
}

// node writes the record of any task. It took a second.
func (s *station) node(id, step string, x flow.Index, started string, ahead flow.Ahead) records.Ref {
	s.Helper()
	v := trainState{Alpha: 0.5, Rows: len(x)}
	entries, changed, err := s.flow.Schema().Save(s.Context(), s.store, &v, nil, artifacts.Snapshot{}, id+"/"+flow.TaskName(step, x))
	require.NoError(s, err)
	rec := records.Task{Flow: "TrainFlow", Run: id, Step: step, Index: x, Outcome: records.Completed, Attempt: 1, Worker: "7@host",
		Started: at(started), Ended: at(started).Add(time.Second), Artifacts: entries, Changed: changed[:1], Ahead: ahead}
	ref, _, err := records.CreateTask(s.Context(), s.store, rec)
	require.NoError(s, err)
	return ref
}

func TestReadingShapes(t *testing.T) {
	t.Parallel()
	s := newShapes(t)
	for _, test := range []struct{ name, args string }{
		{"shapes-show", "show TrainFlow/" + toleratedRun},
		{"shapes-show-json", "show TrainFlow/" + toleratedRun + " --json"},
		{"shapes-show-step", "show TrainFlow/" + toleratedRun + "/fit"},
		{"shapes-show-step-failed", "show TrainFlow/" + toleratedRun + "/fit --failed"},
		{"shapes-show-step-failed-json", "show TrainFlow/" + toleratedRun + "/fit --failed --json"},
		{"shapes-show-turns-all", "show TrainFlow/" + toleratedRun + "/tune_once --all"},
		{"shapes-show-foreach", "show TrainFlow/" + toleratedRun + "/grid"},
		{"shapes-show-foreach-json", "show TrainFlow/" + toleratedRun + "/grid --json"},
		{"shapes-show-item", "show TrainFlow/" + toleratedRun + "/fit[7]"},
		{"shapes-show-skipped", "show TrainFlow/" + toleratedRun + "/report"},
		{"shapes-why", "why TrainFlow/" + toleratedRun},
		{"shapes-why-foreach", "why TrainFlow/" + toleratedRun + "/grid"},
		{"shapes-why-step", "why TrainFlow/" + strictRun + "/fit"},
		{"shapes-logs", "logs TrainFlow/" + toleratedRun},
		{"shapes-logs-item", "logs TrainFlow/" + toleratedRun + "/fit[3]"},
		{"shapes-failed-show", "show TrainFlow/" + strictRun},
		{"shapes-failed-why", "why TrainFlow/" + strictRun},
		{"shapes-failed-why-json", "why TrainFlow/" + strictRun + " --json"},
		{"shapes-resumed-show", "show TrainFlow/" + carriedRun},
		{"shapes-resumed-show-step", "show TrainFlow/" + carriedRun + "/fit"},
		{"shapes-batched-show", "show TrainFlow/" + batchedRun},
		{"shapes-batched-show-item", "show TrainFlow/" + batchedRun + "/score[12]"},
		{"shapes-batched-why", "why TrainFlow/" + batchedRun + "/grid"},
		{"shapes-batched-logs", "logs TrainFlow/" + batchedRun},
		{"shapes-batched-logs-item", "logs TrainFlow/" + batchedRun + "/fit[12]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := s.run(t, strings.Fields(test.args)...)
			require.Equal(t, ExitOK, got.code, got.err)
			text := got.out
			if got.err != "" {
				text += "-- standard error\n" + got.err
			}
			s.golden(t, test.name, text)
			if strings.HasSuffix(test.args, "--json") {
				require.True(t, json.Valid([]byte(got.out)), got.out)
			}
		})
	}
	for args, say := range map[string]string{
		"dump TrainFlow/" + toleratedRun + "/fit":                "its tasks are like fit[0]",
		"card TrainFlow/" + toleratedRun + "/fit":                "its tasks are like fit[0]",
		"show TrainFlow/" + toleratedRun + "/fit[30]":            "has 30 items there, counted from 0",
		"dump TrainFlow/" + batchedRun + "/fit[12]":              "that of its last task, score[12]",
		"show TrainFlow/" + toleratedRun + "/load --all":         "for a step with many tasks",
		"show TrainFlow/" + toleratedRun + "/fit --all --failed": "leave --failed out",
	} {
		got := s.run(t, strings.Fields(args)...)
		require.NotEqual(t, ExitOK, got.code, args)
		require.Contains(t, got.err, say, args)
	}
}

// TestWhyOfABatch has a failure that no task has: the batch's.
func TestWhyOfABatch(t *testing.T) {
	t.Parallel()
	s := newShapes(t)
	s.start("lost", at("12:00:00.000"), nil)
	s.upTo("lost", 30)
	s.end("lost", records.End{Status: records.StatusFailed, Ended: at("12:01:00.000"), Failure: &policies.Failure{
		Class: policies.Permanent, Message: "the worker was lost 21 times", Step: "grid", Task: "grid[10-19]", Attempt: 21}})
	got := s.run(t, "why", "TrainFlow/lost")
	require.Equal(t, ExitOK, got.code, got.err)
	require.Contains(t, got.out, `Task "grid[10-19]" failed first: the worker was lost 21 times.`)
	require.Contains(t, got.out, "logs TrainFlow/lost/grid ")
	for _, args := range []string{"show TrainFlow/lost", "logs TrainFlow/lost/grid", "show TrainFlow/lost/grid", "why TrainFlow/lost/grid"} {
		got := s.run(t, strings.Fields(args)...)
		require.Equal(t, ExitOK, got.code, "%s: %s", args, got.err)
	}
}

func TestGrouped(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{0: "0", 7: "7", 999: "999", 1000: "1,000", 123456: "123,456", 1234567: "1,234,567", -1234: "-1,234", -123: "-123"} {
		require.Equal(t, want, grouped(n))
	}
}
