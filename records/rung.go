package records

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
)

// RungKey is where the rung of a step's ladder is remembered from one run to the next.
func RungKey(flowName, step string) string { return "rungs/" + flowName + "/" + step + ".json" }

type rung struct {
	Version int `json:"version"`
	Rung    int `json:"rung"`
}

// PutRung remembers on which rung, counted from 0, a step finished.
func PutRung(ctx context.Context, s *artifacts.Store, flowName, step string, n int) error {
	b, err := json.Marshal(rung{Version: 1, Rung: n})
	if err != nil {
		return err
	}
	return s.PutDoc(ctx, RungKey(flowName, step), b)
}

// Rungs reads which rungs are remembered for the steps of a plan, without those that are 0. A damaged document counts as none.
func Rungs(ctx context.Context, s *artifacts.Store, p flow.Plan) (map[string]int, error) {
	var found map[string]int
	for _, name := range p.Steps() {
		n, ok := p.Step(name)
		if !ok || n.Policy == nil || n.Policy.Escalate == nil {
			continue
		}
		b, err := s.GetDoc(ctx, RungKey(p.Flow, name))
		if errors.Is(err, artifacts.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the rung of step %q: %w", name, err)
		}
		var r rung
		if json.Unmarshal(b, &r) != nil || r.Rung <= 0 {
			continue
		}
		if found == nil {
			found = map[string]int{}
		}
		found[name] = min(r.Rung, len(n.Policy.Escalate.Rungs)-1)
	}
	return found, nil
}
