package records

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/internal/readahead"
)

// span is how many items of a part of a foreach's list a run has finished.
type span struct {
	x                string // the key of the foreach's index
	run              int    // its place in the lineage
	first, end, done int
}

// countBatches counts the finished items of a foreach with batches: from the summaries of shards, and from those of batches where a
// shard did not come to write one, as the run was killed.
func (s *Seeker) countBatches(ctx context.Context, chain []string, foreach string) (int, error) {
	var spans []span
	for k, id := range chain {
		shards, err := s.spans(ctx, k, taskPrefix(s.Run.Flow, id, "fans", foreach), nil)
		if err != nil {
			return 0, err
		}
		batches, err := s.spans(ctx, k, taskPrefix(s.Run.Flow, id, "batches", foreach), shards)
		if err != nil {
			return 0, err
		}
		spans = append(append(spans, shards...), batches...)
	}
	return finished(spans), nil
}

// spans reads the summaries of the documents below a prefix that do not begin within others.
func (s *Seeker) spans(ctx context.Context, run int, prefix string, within []span) ([]span, error) {
	var keys []string
	for info, err := range s.Store.List(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		first := 0
		x, name, _ := strings.Cut(info.Key[len(prefix):], "/")
		if _, err := fmt.Sscanf(name, "%d.jsonl", &first); err != nil {
			continue
		}
		if !slices.ContainsFunc(within, func(o span) bool { return o.x == x && o.first <= first && first < o.end }) {
			keys = append(keys, info.Key)
		}
	}
	read := func(ctx context.Context, i int) (Shard, error) {
		b, err := s.Store.GetDoc(ctx, keys[i])
		if err != nil {
			return Shard{}, err
		}
		d, err := decodeShard(s.Store, keys[i], b, false)
		if err == nil && d.Batched {
			d, err = decodeShard(s.Store, keys[i], b, true)
		}
		if errors.Is(err, artifacts.ErrCorrupt) {
			return Shard{}, nil
		}
		return d, err
	}
	var out []span
	for d, err := range readahead.InOrder(ctx, 16, len(keys), read) {
		if err != nil {
			return nil, err
		}
		if d.Count > 0 {
			out = append(out, spansOf(d, run)...)
		}
	}
	return out, nil
}

// spansOf is a document as spans: a shard as its batches, as another run may have finished some of them.
func spansOf(d Shard, run int) []span {
	var out []span
	left := d.Completed
	for _, b := range d.Batches {
		out = append(out, span{x: d.Index.Key(), run: run, first: b.First, end: b.First + b.Count, done: b.Completed})
		left -= b.Completed
	}
	if left != 0 || len(d.Batches) == 0 { // the batches are not told
		out = []span{{x: d.Index.Key(), run: run, first: d.First, end: d.First + d.Count, done: d.Completed}}
	}
	return out
}

// finished adds up spans. Runs of a lineage may have cut the list otherwise, and have taken items over from one another: of spans that
// overlap, those of the run that has most count.
func finished(spans []span) int {
	slices.SortFunc(spans, func(a, b span) int {
		return cmp.Or(cmp.Compare(a.x, b.x), cmp.Compare(a.first, b.first), cmp.Compare(b.end, a.end))
	})
	n, end, x := 0, 0, ""
	runs := map[int]int{}
	most := func() int {
		m := 0
		for _, done := range runs {
			m = max(m, done)
		}
		clear(runs)
		return m
	}
	for _, s := range spans {
		if s.x != x || s.first >= end {
			n += most()
			x, end = s.x, 0
		}
		runs[s.run] += s.done
		end = max(end, s.end)
	}
	return n + most()
}
