package activities

import (
	"context"
	"errors"
	"slices"

	"go.temporal.io/sdk/temporal"
	"golang.org/x/sync/errgroup"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

// LookInput asks which items of a foreach are finished already, in this run or in one that it reuses.
type LookInput struct {
	Flow    string     `json:"flow"`
	Run     string     `json:"run"`
	Foreach string     `json:"foreach"`
	Index   flow.Index `json:"index,omitempty"`
	// From is the record at the split.
	From *records.Ref `json:"from,omitempty"`
	List flow.List    `json:"list"`
	// First and Count are the part of the list that is asked about.
	First int `json:"first"`
	Count int `json:"count"`
	// Shard asks about shards of that many items each, 0 about items.
	Shard int `json:"shard,omitempty"`
}

// LookResult tells what is finished.
type LookResult struct {
	// Parts are how far the items have come.
	Parts []*records.Cursor `json:"parts,omitempty"`
	// Ended are the shards all of whose items are finished. Their documents are in this run now.
	Ended []records.ShardEnd `json:"ended,omitempty"`
}

func (a *Activities) look(ctx context.Context, in LookInput) (LookResult, error) {
	defer beating(ctx, a.options.Worker)()
	run, err := a.run(ctx, in.Flow, in.Run)
	if err != nil {
		return LookResult{}, bookkeeping(err)
	}
	n, ok := run.Plan.Shape(in.Foreach)
	if !ok || len(n.Nodes) == 0 {
		return LookResult{}, temporal.NewNonRetryableApplicationError("foreach is not in the plan", string(policies.Permanent), nil)
	}
	var out LookResult
	if in.Shard > 0 {
		out.Ended, err = a.lookShards(ctx, run, in)
	} else {
		out.Parts, err = a.lookItems(ctx, run, n, in)
	}
	return out, bookkeeping(err)
}

// lookShards finds the documents of shards all of whose items are finished, and takes those of other runs over. A shard that
// was cut otherwise is no help.
func (a *Activities) lookShards(ctx context.Context, run records.Run, in LookInput) ([]records.ShardEnd, error) {
	s := records.Seeker{Store: a.store, Run: run}
	chain, err := s.Chain(ctx, records.ItemsKey(in.Foreach))
	if err != nil {
		return nil, err
	}
	chain = since(chain, in.From)
	if run.Verify {
		chain = nil // each shard looks at its items
	}
	shards := (in.Count + in.Shard - 1) / in.Shard
	ended := make([]*records.ShardEnd, shards)
	for _, id := range chain {
		firsts, err := records.Shards(ctx, a.store, in.Flow, id, in.Foreach, in.Index)
		if err != nil {
			return nil, err
		}
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(readAhead)
		for _, first := range firsts {
			k := (first - in.First) / in.Shard
			if first < in.First || k >= shards || first != in.First+k*in.Shard || ended[k] != nil {
				continue
			}
			group.Go(func() error {
				d, err := records.LoadShard(ctx, a.store, in.Flow, id, in.Foreach, in.Index, first, id != in.Run)
				if errors.Is(err, artifacts.ErrCorrupt) {
					return nil
				}
				if err != nil {
					return err
				}
				if d.Count != min(in.Shard, in.List.Len-first) || d.Completed != d.Count {
					return nil
				}
				ended[k] = &records.ShardEnd{Shard: k, Tally: d.Tally}
				if id == in.Run {
					return nil
				}
				d.Run = in.Run
				return records.PutShard(ctx, a.store, d)
			})
		}
		if err := group.Wait(); err != nil {
			return nil, err
		}
	}
	var out []records.ShardEnd
	for _, e := range ended {
		if e != nil {
			out = append(out, *e)
		}
	}
	return out, nil
}

func (a *Activities) lookItems(ctx context.Context, run records.Run, n flow.PlanNode, in LookInput) ([]*records.Cursor, error) {
	parts := make([]*records.Cursor, in.Count)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readAhead)
	const some = 50
	for from := 0; from < in.Count; from += some {
		group.Go(func() error {
			s := records.Seeker{Store: a.store, Run: run}
			for k := from; k < min(from+some, in.Count); k++ {
				i := in.First + k
				at := &records.Cursor{Last: in.From, Bind: &flow.Binding{Foreach: in.Foreach, List: in.List, Item: i}, Kept: &records.Kept{}}
				seek := s.Seek
				if run.Verify {
					seek = s.SeekSound
				}
				done, err := seek(ctx, n.Nodes[0], records.Within(in.Index, i), at)
				if err != nil {
					return err
				}
				if done {
					outcome := records.Completed
					if at.Caught {
						outcome = records.Caught
					}
					at = &records.Cursor{Last: at.Last, Kept: at.Kept, Outcome: outcome}
				}
				parts[k] = at
			}
			return nil
		})
	}
	return parts, group.Wait()
}

// shard writes down how the items of a shard ended.
func (a *Activities) shard(ctx context.Context, d records.Shard, items []records.Item, batches []records.Batch) error {
	defer beating(ctx, a.options.Worker)()
	d.Items, d.Batches = items, batches
	return bookkeeping(records.PutShard(ctx, a.store, d))
}

// since cuts a chain of runs, newest first, after the one that has the record at the split: what older ones have of the foreach came from
// another record, and maybe another list.
func since(chain []string, split *records.Ref) []string {
	if split != nil {
		if i := slices.Index(chain, split.Run); i >= 0 {
			return chain[:i+1]
		}
	}
	return chain
}
