package records

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
)

// Plans reads the documents of runs, and makes something of each plan only once: it is most of a document, and thousands of runs of
// a flow have the same. They share it, so nobody may change it. The zero Plans is ready, and is safe for concurrent use.
type Plans struct {
	mu    sync.Mutex
	known map[string]flow.Plan // by their JSON
}

// maxPlans bounds the plans that are kept. A flow has few at a time, one for each version of the program.
const maxPlans = 16

// LoadRun is the function LoadRun.
func (p *Plans) LoadRun(ctx context.Context, s *artifacts.Store, flowName, run string) (Run, error) {
	if err := CheckRunID(run); err != nil {
		return Run{}, err
	}
	key := RunKey(flowName, run)
	b, err := s.GetDoc(ctx, key)
	if err != nil {
		return Run{}, err
	}
	var r Run
	type fields Run
	doc := struct {
		*fields
		Plan json.RawMessage `json:"plan"` // in place of the one in fields, which is deeper
	}{fields: (*fields)(&r)}
	if err := decode(s, key, b, &doc, &r.Version); err != nil {
		return Run{}, err
	}
	if r.Plan, err = p.plan(doc.Plan); err != nil {
		return Run{}, corrupt(s, key, "it is not the document it should be: "+err.Error())
	}
	if r.Flow != flowName || r.Run != run {
		return Run{}, corrupt(s, key, fmt.Sprintf("it is the document of run %s/%s (a folder of runs cannot be copied or renamed)", r.Flow, r.Run))
	}
	return r, nil
}

func (p *Plans) plan(text json.RawMessage) (plan flow.Plan, err error) {
	p.mu.Lock()
	plan, ok := p.known[string(text)]
	p.mu.Unlock()
	if ok || len(text) == 0 {
		return plan, nil
	}
	if err := json.Unmarshal(text, &plan); err != nil {
		return plan, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known == nil || len(p.known) >= maxPlans {
		p.known = map[string]flow.Plan{}
	}
	p.known[string(text)] = plan
	return plan, nil
}
