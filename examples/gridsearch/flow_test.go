package gridsearch

import (
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
	"github.com/stepwell-flows/stepwell/workflows"
)

// end is the state that a run ended with.
func end(t *testing.T, r *runs.Run) *State {
	t.Helper()
	require.Equal(t, records.StatusCompleted, r.Status, "%+v", r.Failure)
	last, err := r.Last(t.Context())
	require.NoError(t, err)
	require.Equal(t, "summarize", last.Step)
	s, err := runs.LoadState[State](t.Context(), last, Flow())
	require.NoError(t, err)
	return s
}

func step(t *testing.T, r *runs.Run, name string) *runs.Step {
	t.Helper()
	s, err := r.Step(t.Context(), name)
	require.NoError(t, err)
	return s
}

func TestRun(t *testing.T) {
	t.Parallel()
	r := flowtest.Run(t, Flow(), flowtest.Options{})
	s := end(t, r)

	polynomials := step(t, r, "fit_polynomial")
	require.Equal(t, 30, polynomials.Total)
	require.Equal(t, 28, polynomials.Completed)
	require.Equal(t, 2, polynomials.Failed, "tolerated")
	var failed []string
	for task, err := range polynomials.Failures(t.Context()) {
		require.NoError(t, err)
		require.NoError(t, task.Explain(t.Context()))
		require.Equal(t, policies.Permanent, task.Failure.Class)
		failed = append(failed, task.Name())
	}
	require.Equal(t, []string{"fit_polynomial[20]", "fit_polynomial[25]"}, failed)
	require.Len(t, s.Polynomials.Scores, 28)
	require.Len(t, s.Polynomials.Failed, 2)
	require.Equal(t, Candidate{Degree: 16}, s.Polynomials.Failed[0].Candidate, "the index of a failure is that of its item")
	require.Contains(t, s.Polynomials.Failed[0].Why, errIllConditioned.Error())

	neighbours := step(t, r, "fit_neighbours")
	require.Equal(t, neighbours.Total, neighbours.Completed)
	require.Len(t, s.Neighbours.Scores, neighbours.Total)
	for i, score := range s.Neighbours.Scores {
		require.Equal(t, 1<<i, score.Candidate.Neighbours, "joins see the items in the order of the list")
	}

	require.NotEmpty(t, s.Path)
	require.Equal(t, len(s.Path), step(t, r, "tune_once").Completed, "a task for each turn")
	require.LessOrEqual(t, s.BestLoss, min(s.Polynomials.Best.Loss, s.Neighbours.Best.Loss))
	require.InDelta(t, s.BestLoss, s.Path[len(s.Path)-1], 0)
	require.InDelta(t, 3, s.TestLoss, 0.6, "the noise of the data, in MW")
	require.Zero(t, s.Candidate, "what an item was bound to stays within its foreach")
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ below, ran, skipped, verdict string }{
		{"100", "ship", "report", "shipped: "},
		{"0.1", "report", "ship", "is not below 0.10 MW"},
	} {
		t.Run(test.ran, func(t *testing.T) {
			t.Parallel()
			r := flowtest.Run(t, Flow(), flowtest.Options{Params: map[string]string{"ship_below": test.below, "rows": "60"}})
			require.Contains(t, end(t, r).Verdict, test.verdict)
			require.Equal(t, runs.Completed, step(t, r, test.ran).State)
			require.Equal(t, runs.Skipped, step(t, r, test.skipped).State)
		})
	}
}

// However the engine spreads the items, the result is the same.
func TestSpreadOverShards(t *testing.T) {
	t.Parallel()
	want := end(t, flowtest.Run(t, Flow(), flowtest.Options{}))
	got := end(t, flowtest.Run(t, Flow(), flowtest.Options{Limits: &workflows.Limits{Tasks: 1, Shard: 4}}))
	require.Equal(t, want, got)
}

func TestCard(t *testing.T) {
	t.Parallel()
	r := flowtest.Run(t, Flow(), flowtest.Options{})
	s := end(t, r)
	page, err := step(t, r, "summarize").Task.Card(t.Context(), "default")
	require.NoError(t, err)
	for _, want := range []string{s.Verdict, s.Best.String(), "<svg", "too close to singular", "nearest 16"} {
		require.Contains(t, string(page), want)
	}
}

func TestTooFewRows(t *testing.T) {
	t.Parallel()
	r := flowtest.Run(t, Flow(), flowtest.Options{Params: map[string]string{"rows": "7"}})
	require.Equal(t, records.StatusFailed, r.Status)
	require.Equal(t, "load", r.Failure.Task)
	require.True(t, strings.HasPrefix(r.Failure.Message, "parameter rows is 7"), r.Failure.Message)
}

// A join is a plain function: its inputs are made of states, a nil one is an item that failed.
func TestBestOfAGrid(t *testing.T) {
	t.Parallel()
	ctx := flow.NewContext(t.Context(), flow.Runtime{Log: slog.New(slog.DiscardHandler)})
	var s State
	good := Candidate{Degree: 1, Penalty: 1e-6}
	in := flow.NewInputs(&State{}, nil, &State{Candidate: good, Loss: 2}, &State{Candidate: Candidate{Degree: 1}, Loss: 3})
	require.NoError(t, bestPolynomial(ctx, &s, in))
	require.Equal(t, Score{good, 2}, s.Polynomials.Best)
	require.Equal(t, s.polynomials()[0], s.Polynomials.Failed[0].Candidate)

	s.Train = draw(2, rand.New(rand.NewPCG(1, 0)))
	require.ErrorContains(t, bestNeighbours(ctx, &s, flow.NewInputs(&State{}, nil, nil)), "no candidate of 2 could be fitted")
}
