package activities

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"sync"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/internal/readahead"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

// JoinInput says what a join reads. A branch, and a foreach that ran its tasks itself, list their parts; the parts of a
// foreach that had shards are in their documents.
type JoinInput struct {
	// Len is the number of inputs that there must be.
	Len int `json:"len"`
	// Parts are the arms or items, in order.
	Parts []records.Item `json:"parts,omitempty"`
	// Branch says that the parts are the arms of a branch.
	Branch bool `json:"branch,omitempty"`
	// Shape is the name of the branch or foreach.
	Shape string `json:"shape"`
	// Shard is how many items a shard has.
	Shard int `json:"shard,omitempty"`
}

// parents are the records that a branch's join starts from besides that of the split.
func (in *JoinInput) parents() []records.Ref {
	if !in.Branch {
		return nil
	}
	var refs []records.Ref
	for _, p := range in.Parts {
		if p.Ref != nil {
			refs = append(refs, *p.Ref)
		}
	}
	return refs
}

// readAhead is how many documents a join reads at the same time, before their turn comes.
const readAhead = 16

// joinSource reads the inputs of a join. It is safe for concurrent use, as a join may read in several goroutines.
type joinSource struct {
	t     *attempt
	from  map[string]artifacts.Entry // the record at the split, which the items' first tasks start from
	split map[string]artifacts.Entry // and the state that they start from
	err   error

	mu    sync.Mutex
	shard *records.Shard // the last one that was read
	batch *records.Shard
}

// joinSource refuses a join whose parts are not exactly the items of its list.
func (t *attempt) joinSource(ctx context.Context, state any, prev map[string]artifacts.Entry) (*joinSource, error) {
	j := &joinSource{t: t, from: prev, split: prev}
	if t.in.Bind != nil {
		// The item is part of the state at the split, though no record has it.
		entries, _, err := t.flow.Schema().Save(ctx, t.store, state, prev, artifacts.Snapshot{}, t.in.Run)
		if err != nil {
			return nil, badInput(err)
		}
		j.split = entries
	}
	in := t.in.Join
	if in.Shard > 0 {
		return j, nil // each shard's document is checked when it is read
	}
	if len(in.Parts) != in.Len {
		return nil, policies.WithClass(fmt.Errorf("join %q has %d inputs of %d", t.in.Step, len(in.Parts), in.Len), policies.Permanent)
	}
	for i, p := range in.Parts {
		if p.Index != i || p.Outcome == "" {
			return nil, policies.WithClass(fmt.Errorf("join %q has no input %d", t.in.Step, i), policies.Permanent)
		}
	}
	return j, nil
}

// call calls the author's join. An error of reading ends the attempt, whatever the join made of it.
func (j *joinSource) call(ctx context.Context, def *flow.StepDef, state any) (err error) {
	defer func() {
		if j.err == nil {
			return
		}
		_ = recover() // of a join that stumbled over a state that could not be read
		err = j.err
		if !errors.Is(err, artifacts.ErrUnavailable) && ctx.Err() == nil {
			err = badInput(err)
		}
	}()
	return def.Join(ctx, state, j.source())
}

func (j *joinSource) source() flow.Source {
	in := j.t.in.Join
	src := flow.Source{
		Schema: j.t.flow.Schema(), Store: j.t.store, Split: j.split, Len: in.Len, At: j.at, All: j.all, Failures: j.failures, Failed: &j.err,
	}
	if in.Branch {
		src.Arms = j.t.flow.Arms(in.Shape)
	}
	return src
}

// input is what a part ended with.
func (j *joinSource) input(ctx context.Context, p records.Item) (flow.Input, error) {
	in := flow.Input{Index: p.Index, Failure: p.Failure}
	base := j.split
	set, gone, known := p.Changes()
	switch {
	case p.Outcome == records.Failed:
		if in.Failure == nil {
			in.Failure = &policies.Failure{Class: policies.Unknown, Message: "it failed"}
		}
		return in, nil
	case p.Ref != nil && known:
		base = j.from
	case p.Ref != nil:
		rec, err := records.LoadTask(ctx, j.t.store, j.t.in.Flow, *p.Ref)
		in.Artifacts, in.Failure = rec.Artifacts, nil
		if err != nil {
			err = fmt.Errorf("input %d of join %q: %w", p.Index, j.t.in.Step, err)
		}
		return in, err
	}
	in.Failure = nil
	in.Artifacts = make(map[string]artifacts.Entry, len(base)+len(set))
	maps.Copy(in.Artifacts, base)
	maps.Copy(in.Artifacts, set)
	for _, name := range gone {
		delete(in.Artifacts, name)
	}
	return in, nil
}

func (j *joinSource) at(ctx context.Context, i int) (flow.Input, error) {
	in := j.t.in.Join
	if in.Shard == 0 {
		return j.input(ctx, in.Parts[i])
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if s := j.shard; s == nil || i < s.First || i >= s.First+s.Count {
		d, err := j.loadShard(ctx, i/in.Shard)
		if err != nil {
			return flow.Input{}, err
		}
		j.shard = &d
	}
	if !j.shard.Batched {
		return j.input(ctx, j.shard.Items[i-j.shard.First])
	}
	for _, b := range j.shard.Batches {
		if i < b.First || i >= b.First+b.Count {
			continue
		}
		if j.batch == nil || j.batch.First != b.First {
			d, err := j.loadBatch(ctx, b)
			if err != nil {
				return flow.Input{}, err
			}
			j.batch = &d
		}
		return j.input(ctx, j.batch.Items[i-b.First])
	}
	return flow.Input{}, fmt.Errorf("join %q has no input %d", j.t.in.Step, i)
}

// loadShard reads a shard's document. It must have exactly the items of its part of the list.
func (j *joinSource) loadShard(ctx context.Context, k int) (records.Shard, error) {
	in := j.t.in.Join
	d, err := records.LoadShard(ctx, j.t.store, j.t.in.Flow, j.t.in.Run, in.Shape, j.t.in.Index, k*in.Shard, true)
	if err != nil {
		return d, fmt.Errorf("inputs of join %q: %w", j.t.in.Step, err)
	}
	if want := min(in.Shard, in.Len-d.First); d.Count != want {
		return d, fmt.Errorf("inputs of join %q: shard %d has %d items of %d", j.t.in.Step, k, d.Count, want)
	}
	next := d.First
	if d.Batched {
		for _, b := range d.Batches {
			if b.First != next || b.Digest.IsZero() {
				return d, fmt.Errorf("join %q has no input %d", j.t.in.Step, next)
			}
			next += b.Count
		}
	} else {
		for _, p := range d.Items {
			if p.Index != next || p.Outcome == "" {
				return d, fmt.Errorf("join %q has no input %d", j.t.in.Step, next)
			}
			next++
		}
	}
	if next != d.First+d.Count {
		return d, fmt.Errorf("join %q has no input %d", j.t.in.Step, next)
	}
	return d, nil
}

func (j *joinSource) loadBatch(ctx context.Context, b records.Batch) (records.Shard, error) {
	d, err := records.LoadBatch(ctx, j.t.store, j.t.in.Flow, j.t.in.Join.Shape, j.t.in.Index, b)
	if err != nil {
		return d, fmt.Errorf("inputs of join %q: %w", j.t.in.Step, err)
	}
	for i, p := range d.Items {
		if p.Index != b.First+i || p.Outcome == "" {
			return d, fmt.Errorf("join %q has no input %d", j.t.in.Step, b.First+i)
		}
	}
	if len(d.Items) != b.Count {
		return d, fmt.Errorf("join %q has no input %d", j.t.in.Step, b.First+len(d.Items))
	}
	return d, nil
}

// all yields the inputs in order. It reads ahead, as a store may take its time for each document.
func (j *joinSource) all(ctx context.Context) iter.Seq2[flow.Input, error] {
	in := j.t.in.Join
	return func(yield func(flow.Input, error) bool) {
		if in.Shard == 0 {
			j.parts(ctx, in.Parts, yield)
			return
		}
		shards := (in.Len + in.Shard - 1) / in.Shard
		for d, err := range readahead.InOrder(ctx, 2, shards, j.loadShard) {
			if err != nil {
				yield(flow.Input{}, err)
				return
			}
			if !d.Batched {
				if !j.parts(ctx, d.Items, yield) {
					return
				}
				continue
			}
			batch := func(ctx context.Context, i int) (records.Shard, error) { return j.loadBatch(ctx, d.Batches[i]) }
			for b, err := range readahead.InOrder(ctx, 4, len(d.Batches), batch) {
				if err != nil {
					yield(flow.Input{}, err)
					return
				}
				for _, p := range b.Items {
					input, err := j.input(ctx, p)
					if !yield(input, err) || err != nil {
						return
					}
				}
			}
		}
	}
}

// failures yields the inputs that failed, and reads only what it must for that.
func (j *joinSource) failures(ctx context.Context) iter.Seq2[flow.Input, error] {
	in := j.t.in.Join
	return func(yield func(flow.Input, error) bool) {
		if in.Shard == 0 {
			j.failed(ctx, in.Parts, yield)
			return
		}
		for k := range (in.Len + in.Shard - 1) / in.Shard {
			d, err := j.loadShard(ctx, k)
			if err != nil {
				yield(flow.Input{}, err)
				return
			}
			if !j.failed(ctx, d.Items, yield) {
				return
			}
			for _, b := range d.Batches {
				if b.Failed == 0 {
					continue
				}
				items, err := j.loadBatch(ctx, b)
				if err != nil {
					yield(flow.Input{}, err)
					return
				}
				if !j.failed(ctx, items.Items, yield) {
					return
				}
			}
		}
	}
}

func (j *joinSource) failed(ctx context.Context, parts []records.Item, yield func(flow.Input, error) bool) bool {
	for _, p := range parts {
		if p.Outcome != records.Failed {
			continue
		}
		if in, err := j.input(ctx, p); !yield(in, err) || err != nil {
			return false
		}
	}
	return true
}

func (j *joinSource) parts(ctx context.Context, parts []records.Item, yield func(flow.Input, error) bool) bool {
	read := func(ctx context.Context, i int) (flow.Input, error) { return j.input(ctx, parts[i]) }
	for in, err := range readahead.InOrder(ctx, readAhead, len(parts), read) {
		if !yield(in, err) || err != nil {
			return false
		}
	}
	return true
}
