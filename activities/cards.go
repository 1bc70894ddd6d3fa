package activities

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
)

// renderCards writes the step's cards. Nothing that goes wrong here touches the task's outcome.
func (t *attempt) renderCards(ctx context.Context, rec records.Task) {
	for _, c := range t.def.Cards {
		if err := t.renderCard(ctx, c, rec); err != nil && t.log != nil {
			t.log.logger.Warn("card was not written", "card", c.Name, "error", err)
		}
	}
}

func (t *attempt) renderCard(ctx context.Context, c flow.CardSpec, rec records.Task) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	data := &flow.CardData{
		Info: t.info(), Outcome: string(rec.Outcome), Worker: t.worker, Started: rec.Started, Ended: rec.Ended,
		Failure: rec.Failure, Components: t.card.Components(),
	}
	if t.log != nil {
		data.Log = t.log.tail(50)
	}
	params := map[string]bool{}
	for _, p := range t.flow.Params() {
		params[p.Name] = true
		data.Params = append(data.Params, flow.CardValue{Name: p.Name, Type: string(p.Kind), Preview: t.run.Params[p.Name]})
	}
	for _, name := range slices.Sorted(maps.Keys(rec.Artifacts)) {
		if params[name] {
			continue
		}
		e := rec.Artifacts[name]
		v := flow.CardValue{Name: name, Type: e.Type, Size: e.Size, Digest: e.Digest.String(), Changed: slices.Contains(rec.Changed, name)}
		if e.Size <= 64<<10 {
			if content, err := t.store.Content(ctx, e); err == nil {
				v.Preview = artifacts.Preview(e, content, 300)
			}
		}
		data.Artifacts = append(data.Artifacts, v)
	}
	for _, e := range t.ledger {
		data.Attempts = append(data.Attempts, flow.CardAttempt{Number: e.Attempt, Outcome: string(e.Outcome), Started: e.Started, Ended: e.Ended, Failure: e.Failure, Delay: e.Delay, Reason: e.Reason})
	}
	if rec.Outcome == records.Completed {
		data.Attempts = append(data.Attempts, flow.CardAttempt{Number: rec.Attempt, Outcome: string(rec.Outcome), Started: rec.Started, Ended: rec.Ended})
	}
	var page bytes.Buffer
	if err := c.Render(&page, data); err != nil {
		return err
	}
	return t.store.PutDoc(ctx, records.CardKey(t.in.Flow, t.in.Run, t.in.Step, t.in.Index, c.Name), page.Bytes())
}
