package flow_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

type batchState struct {
	Items []string
	Item  string
}

// The items of a batch have no activities of their own, so none of them can wait for a person, climb a ladder or be limited.
func TestBatchRefusesWhatNeedsAnActivity(t *testing.T) {
	t.Parallel()
	for what, option := range map[string]flow.Option{
		"policies.Pause":    policies.Retry{Exhausted: policies.Pause},
		"policies.Escalate": policies.Escalate{Rungs: []policies.Rung{{}, {Queue: "big"}}},
		"flow.Isolated":     flow.Isolated{},
		"a limit":           policies.Limit{Key: "gpu", Max: 1},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := flow.New("BatchFlow", flow.Step("start", func(context.Context, *batchState) error { return nil }),
				flow.Foreach("items", func(s *batchState) []string { return s.Items }, func(s *batchState, item string) { s.Item = item },
					flow.Step("one", func(context.Context, *batchState) error { return nil }, option),
				).With(flow.Fan{Batch: 10}).Join("all", func(context.Context, *batchState, flow.Inputs[batchState]) error { return nil }))
			require.ErrorContains(t, f.Check(), `foreach "items" has batches, and so step "one" cannot have `+what+" (take that or Fan.Batch away)")
		})
	}
}
