package activities

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"html/template"
	"maps"
	"runtime/debug"
	"slices"
	"time"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
)

const (
	// cardLimit is how long one card may take to be made.
	cardLimit = 45 * time.Second
	// maxCard is the size of the largest card that is kept, in bytes.
	maxCard = 64 << 20
)

// renderCards writes the step's cards. Nothing that goes wrong here touches the task's outcome.
func (t *attempt) renderCards(ctx context.Context, rec records.Task) {
	t.live.stop()
	t.live.final = true
	if len(t.def.Cards) == 0 {
		return
	}
	data, failed := t.cardData(ctx, rec)
	for _, c := range t.def.Cards {
		err := failed
		if err == nil {
			err = t.renderCard(ctx, c, *data, cardLimit)
		}
		if err != nil && t.log != nil {
			t.log.logger.Warn("card was not written", "card", c.Name, "error", err)
		}
	}
}

// settleCards says on cards that were written while the attempt ran that it runs no more, unless they have been written since.
func (t *attempt) settleCards(ctx context.Context) {
	t.live.stop()
	if !t.live.wrote || t.live.final {
		return
	}
	rec := records.Task{Started: t.started, Outcome: "waiting"}
	if ctx.Err() != nil {
		rec.Outcome = "interrupted"
	}
	t.renderCards(context.WithoutCancel(ctx), rec)
}

// renderCard writes one card, and in its place what went wrong if it cannot be made.
func (t *attempt) renderCard(ctx context.Context, c flow.CardSpec, data flow.CardData, limit time.Duration) error {
	data.Components = t.live.components(c.Name)
	page, err := renderWithin(limit, c, data)
	if err != nil {
		// Perhaps it is a component that cannot be shown: the rest is worth keeping.
		data.Components = []flow.Component{rendered("<p class=\"note wide\">The card could not be made: " + template.HTMLEscapeString(err.Error()) + "</p>")}
		var again error
		if page, again = renderWithin(limit/10, c, data); again != nil {
			page = errorCard(c.Name, data.Info, err)
		}
	}
	return errors.Join(err, t.store.PutDoc(ctx, records.CardKey(t.in.Flow, t.in.Run, t.in.Step, t.in.Index, c.Name), page))
}

// renderWithin makes a card. One that takes longer than the limit is left behind.
func renderWithin(limit time.Duration, c flow.CardSpec, data flow.CardData) ([]byte, error) {
	type result struct {
		page []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		r := result{err: errors.New("it ended its goroutine (runtime.Goexit)")}
		defer func() {
			if v := recover(); v != nil {
				r.err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
			}
			done <- r
		}()
		page := cardWriter{}
		r.err = c.Render(&page, &data)
		r.page = page.Bytes()
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case r := <-done:
		return r.page, r.err
	case <-timer.C:
		return nil, fmt.Errorf("it took longer than %s (put less on the card)", limit)
	}
}

// cardWriter keeps a card of bearable size.
type cardWriter struct{ bytes.Buffer }

// Write implements io.Writer.
func (w *cardWriter) Write(b []byte) (int, error) {
	if w.Len()+len(b) > maxCard {
		return 0, fmt.Errorf("it is larger than %d MiB (put less on the card)", maxCard>>20)
	}
	return w.Buffer.Write(b)
}

var errorPage = template.Must(template.New("error").Parse(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{.Task}} · the card could not be made</title>
</head>
<body>
<main>
<h1>The card {{.Name}} of {{.Task}} could not be made</h1>
<p>{{.Where}}. What the task did is not touched by this.</p>
<pre>{{.Error}}</pre>
</main>
</body>
</html>
`))

// errorCard is a page in place of a card that cannot be made.
func errorCard(name string, info flow.Info, err error) []byte {
	var page bytes.Buffer
	_ = errorPage.Execute(&page, struct{ Name, Task, Where, Error string }{name, info.Task, info.Flow + "/" + info.Run, err.Error()})
	return page.Bytes()
}

// cardData is what the step's cards can show, but for their own components.
func (t *attempt) cardData(ctx context.Context, rec records.Task) (data *flow.CardData, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	data = t.cardFacts(rec)
	t.cardArtifacts(ctx, rec, data)
	return data, nil
}

// cardFacts is the part that needs nothing from the store.
func (t *attempt) cardFacts(rec records.Task) *flow.CardData {
	data := &flow.CardData{
		Info: t.info(), Outcome: string(rec.Outcome), Worker: t.worker, Started: rec.Started, Ended: rec.Ended,
		Failure: rec.Failure, Done: t.beat.done.Load(), Total: t.beat.total.Load(), Written: t.options.Now(),
	}
	if t.log != nil {
		data.Log = t.log.tail(50)
	}
	for _, p := range t.flow.Params() {
		data.Params = append(data.Params, flow.CardValue{Name: p.Name, Type: string(p.Kind), Preview: t.run.Params[p.Name]})
	}
	for _, e := range t.ledger {
		data.Attempts = append(data.Attempts, flow.CardAttempt{Number: e.Attempt, Outcome: string(e.Outcome), Started: e.Started, Ended: e.Ended, Failure: e.Failure, Delay: e.Delay, Reason: e.Reason})
	}
	if rec.Outcome == records.Completed {
		data.Attempts = append(data.Attempts, flow.CardAttempt{Number: rec.Attempt, Outcome: string(rec.Outcome), Started: rec.Started, Ended: rec.Ended})
	}
	return data
}

func (t *attempt) cardArtifacts(ctx context.Context, rec records.Task, data *flow.CardData) {
	params := map[string]bool{}
	for _, p := range data.Params {
		params[p.Name] = true
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
}
