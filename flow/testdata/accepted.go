//go:build ignore

// This file compiles, with every type argument inferred: the counterpart of refused.go.
package accepted

import (
	"context"
	"time"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

type state struct{ Error *policies.Failure }

func (s *state) step(context.Context) error { return nil }

func step(context.Context, *state) error { return nil }

var _ = flow.New("F",
	flow.Step("a", step, policies.Retry{MaximumAttempts: 4, InitialInterval: 2 * time.Second}),
	flow.Seq(
		flow.Step("b", step, policies.Timeout{Attempt: time.Minute}),
		flow.Step("c", func(ctx context.Context, s *state) error { return s.step(ctx) },
			policies.Catch(func(_ context.Context, s *state, f *policies.Failure) error {
				s.Error = f
				return nil
			})),
	),
)
