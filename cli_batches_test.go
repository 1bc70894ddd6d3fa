package stepwell

import (
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

// turnsFlow has a foreach with batches whose items take turns of a loop before their last step.
func turnsFlow() *flow.Flow {
	return flow.New("TrainFlow",
		flow.Step("load", nothing),
		flow.Foreach("rows", func(*trainState) []int { return nil }, func(s *trainState, n int) { s.Rows = n },
			flow.Loop("turns", func(*trainState) bool { return true },
				flow.Switch("kinds", func(*trainState) string { return "" }, flow.Case("even", flow.Step("even", nothing))).
					Else(flow.Step("odd", nothing, policies.Retry{MaximumAttempts: 3})),
			),
			flow.Step("cell", nothing),
		).With(flow.Fan{Batch: 3, Tolerate: flow.Count(1)}).Join("total", nothingJoined),
	)
}

// TestReadingBatches has items of batches with a loop, of whose steps only the last has a record.
func TestReadingBatches(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	store, err := artifacts.Open(t.Context(), dir, artifacts.Options{})
	require.NoError(t, err)
	s := &station{t, dir, store, turnsFlow()}
	require.NoError(t, s.flow.Check())
	const good, bad = "20260104-120000-00aaaaa", "20260104-130000-00bbbbb"
	failure := &policies.Failure{Class: policies.Unknown, Message: "bad turn", Step: "odd", Task: "odd[1,2]", Attempt: 3, CodeFailures: 3, Worker: "7@host", Time: at("12:00:12.000")}
	for _, id := range []string{good, bad} {
		s.start(id, at("12:00:00.000"), nil)
		s.node(id, "load", nil, "12:00:01.000", flow.Ahead{"rows": {Items: &flow.List{Len: 3}}})
		d := records.Shard{Flow: "TrainFlow", Run: id, Foreach: "rows", Count: 3}
		for i := range 3 {
			item := records.Item{Index: i, Outcome: records.Completed, Step: "cell", Attempt: 1, Started: at("12:00:10.000"), Took: 300 * time.Millisecond}
			if id == bad && i == 1 {
				item = records.Item{Index: i, Outcome: records.Failed, Step: "even", Attempt: 3, Started: at("12:00:10.000"), Failure: failure}
			}
			d.Items = append(d.Items, item)
			d.Add(item)
		}
		_, _, err := records.CreateBatch(t.Context(), store, d)
		require.NoError(t, err)
	}
	last := s.node(good, "total", nil, "12:00:40.000", nil)
	s.end(good, records.End{Status: records.StatusCompleted, Ended: at("12:00:46.500"), Last: &last})
	s.end(bad, records.End{Status: records.StatusFailed, Ended: at("12:00:46.500"), Failure: failure})
	for _, test := range []struct{ name, args string }{
		{"batches-show", "show TrainFlow/" + good},
		{"batches-show-step", "show TrainFlow/" + good + "/even"},
		{"batches-show-step-json", "show TrainFlow/" + good + "/even --json"},
		{"batches-show-item", "show TrainFlow/" + good + "/even[2]"},
		{"batches-why-item", "why TrainFlow/" + good + "/even[2]"},
		{"batches-why-step", "why TrainFlow/" + good + "/even"},
		{"batches-failed-show", "show TrainFlow/" + bad},
		{"batches-failed-show-item", "show TrainFlow/" + bad + "/odd[1,2]"},
		{"batches-failed-show-item-json", "show TrainFlow/" + bad + "/odd[1] --json"},
		{"batches-diff", "diff TrainFlow/" + bad + " TrainFlow/" + good},
		{"batches-failed-why-foreach", "why TrainFlow/" + bad + "/rows"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := s.run(t, strings.Fields(test.args)...)
			require.Equal(t, ExitOK, got.code, got.err)
			s.golden(t, test.name, got.out)
		})
	}
	got := s.run(t, "dump", "TrainFlow/"+good+"/even[2]")
	require.NotEqual(t, ExitOK, got.code)
	require.Contains(t, got.err, "that of its last task, cell[2]")
}
