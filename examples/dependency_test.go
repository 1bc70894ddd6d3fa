package examples

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

// The step stands in docs/failures.md.
func TestDependencyOfTheDocument(t *testing.T) {
	t.Parallel()
	score := func(context.Context, *Import) error { return nil }
	require.NoError(t, flow.New("ScoreFlow",
		flow.Step("score", score,
			policies.Retry{MaximumAttempts: 5},
			policies.Dependency{
				Name:     "model",
				Breaker:  policies.Breaker{Failures: 5},  // stop calling it when it is gone
				Budget:   policies.Budget{Percent: 20},   // at most one retry to five first tries
				Throttle: policies.Throttle{Percent: 50}, // call less when half of the calls fail
			}),
	).Check())
}
