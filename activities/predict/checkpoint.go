package predict

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/stepwell-flows/stepwell/flow"
)

// The results of a batch are kept as numbered checkpoints, each with those since the one before: what is written in all grows with
// the number of results, however often it is written.

// row is a success that is kept.
type row struct {
	Key      string `json:"key"`
	Digest   string `json:"digest"` // of the request
	Target   string `json:"target"` // a digest: what was asked
	Response []byte `json:"response"`
}

const (
	saveEvery = 500 * time.Millisecond
	saveRows  = 2000
)

// checkpoint writes rows.
type checkpoint struct {
	name  string
	next  int // number of the next document
	rows  []row
	since time.Time // when the oldest of the rows came
}

func (c *checkpoint) document(n int) string { return fmt.Sprintf("%s.%d", c.name, n) }

func (c *checkpoint) add(r row) {
	if len(c.rows) == 0 {
		c.since = time.Now()
	}
	c.rows = append(c.rows, r)
}

func (c *checkpoint) due() bool {
	return len(c.rows) >= saveRows || len(c.rows) > 0 && time.Since(c.since) >= saveEvery
}

func (c *checkpoint) save(ctx context.Context) error {
	if len(c.rows) == 0 {
		return nil
	}
	b, err := json.Marshal(c.rows)
	if err != nil {
		return err
	}
	c.since = time.Now() // if it fails, again after a while
	if err := flow.SaveCheckpoint(ctx, c.document(c.next), b); err != nil {
		return err
	}
	c.next++
	c.rows = nil
	return nil
}

// load reads all rows.
func (c *checkpoint) load(ctx context.Context) (rows []row, err error) {
	for ; ; c.next++ {
		b, err := flow.LoadCheckpoint(ctx, c.document(c.next))
		if err != nil {
			return nil, err
		}
		if b == nil {
			return rows, nil
		}
		var some []row
		if err := json.Unmarshal(b, &some); err != nil {
			return nil, fmt.Errorf("checkpoint %q: %w", c.document(c.next), err)
		}
		rows = append(rows, some...)
	}
}

// keep notes a success for the next save.
func (b *batch) keep(ctx context.Context, e *entry, a answer) {
	bytes, err := b.client.transport.keep(a, e.resp)
	if err != nil {
		flow.Log(ctx).Warn("a result cannot be kept for another attempt", "key", e.key, "error", err)
		return
	}
	b.saved.add(row{e.key, e.digest, b.target, bytes})
}

// restore finishes the entries that an earlier attempt of the task had finished. One whose request has changed is not among them,
// nor is one that another model has answered.
func (b *batch) restore(ctx context.Context) error {
	rows, err := b.saved.load(ctx)
	if err != nil {
		return err
	}
	for _, r := range rows {
		e := b.byKey[r.Key]
		if e == nil || e.finished || e.digest != r.Digest || r.Target != b.target {
			continue
		}
		resp := b.newResp()
		if safely(func() error { return b.client.transport.restore(r.Response, resp) }) != nil {
			continue // the type has changed: ask again
		}
		b.finish(e, resp, nil)
		b.report.Restored++
		b.report.Succeeded++
	}
	return nil
}
