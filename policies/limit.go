package policies

import (
	"errors"
	"fmt"
	"regexp"
)

// Limit bounds how many tasks with the same key run at the same time, over all runs, flows and workers of a Temporal
// namespace: at most four calls to the GPU box, at most one writer of a table. It is a step's or a join's option.
//
//	flow.Step("infer", infer, policies.Limit{Key: "gpu-box", Max: 4})
//
// A task that has to wait holds no worker, and the waiting does not count for its [Timeout]. It then counts until its last
// attempt has ended, the waits between attempts included; its catch function runs after that and does not count. Tasks get
// their turn in the order in which they asked; no run has more than Max of them ask at once, so that a run with thousands
// of them does not shut the others out.
type Limit struct {
	// Key names what is limited. Steps of any flow that give the same key share its limit. It is durable, like a step's
	// name: a letter or digit, then up to 127 letters, digits, '.', '_' or '-'.
	Key string `json:"key"`
	// Max is how many tasks may run at once, 1 to 2,000: who runs has to fit into the 2 MiB that Temporal lets a workflow hand
	// on. Where steps give the same key another Max, the one that was asked for last holds; what runs already is not stopped.
	Max int `json:"max"`
}

// maxLimit is the largest Max. With the longest ids, a holder takes about 600 bytes.
const maxLimit = 2000

// StepOption makes Limit an option of a step.
func (Limit) StepOption() {}

// Limited returns the policies with a limit.
func (s Spec) Limited(l Limit) Spec {
	s.Limit, s.mistakes.limit = l, nil
	if l == (Limit{}) {
		s.mistakes.limit = errors.New("limit sets nothing (set Key and Max, or leave it out)")
	}
	return s
}

// legalKey is what a part of a workflow's id takes as it is.
var legalKey = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

func (l Limit) validate(bad func(string, ...any)) {
	if l == (Limit{}) {
		return
	}
	if !legalKey.MatchString(l.Key) {
		bad("limit: Key %q is not allowed (use a letter or digit, then up to 127 letters, digits, '.', '_' or '-')", l.Key)
	}
	if l.Max < 1 || l.Max > maxLimit {
		bad("limit: Max is %d (use 1 to %d)", l.Max, maxLimit)
	}
}

// String is like "at most 4 of gpu-box at once".
func (l Limit) String() string { return fmt.Sprintf("at most %d of %s at once", l.Max, l.Key) }
