package failures

import (
	"context"
	"os"
	"time"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

// State is what the steps share.
type State struct {
	Kind     string        `param:"kind" default:"transient" help:"which row of the table in docs/failures.md"`
	Cooldown time.Duration `param:"cooldown" default:"90s" help:"how long the service of --kind cooldown asks to be left alone"`

	Answer  string            // of a service
	Root    float64           // what --kind code computes
	Charges int               // how often --kind charge was charged
	Caught  *policies.Failure // nil unless a failure was caught

	// of a foreach
	Item   int
	Items  int            // how many there were
	Failed map[string]int // how many of them failed, by class
}

// Flow is FailuresFlow. The step of --kind bug is mended where the environment variable FIXED is set, as if a worker with other
// code had been deployed.
func Flow() *flow.Flow { return FlowWith(os.Getenv("FIXED") != "") }

// FlowWith is [Flow], with the bug or without it.
func FlowWith(fixed bool) *flow.Flow {
	return flow.New("FailuresFlow",
		flow.Switch("kind", (*State).kind, rows(fixed)...).OrFail(),
		flow.Step("end", end),
	)
}

func (s *State) kind() string { return s.Kind }

func end(ctx context.Context, s *State) error {
	flow.Log(ctx).Info("done", "answer", s.Answer, "caught", s.Caught != nil, "items", s.Items, "failed", s.Failed)
	return nil
}
