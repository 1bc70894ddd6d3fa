package records

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

// Shard says how some items of a foreach ended that are next to each other in its list. It is the first line of a document
// whose other lines are its items or batches, so that it can be read without them.
type Shard struct {
	Version int        `json:"version"`
	Flow    string     `json:"flow"`
	Run     string     `json:"run"`
	Foreach string     `json:"foreach"`
	Index   flow.Index `json:"index,omitempty"` // of the foreach itself
	First   int        `json:"first"`
	Count   int        `json:"count"`
	Tally
	// Batched says that the lines are batches and not items.
	Batched bool `json:"batched,omitempty"`
	// Worker wrote this part of a batch that is under way. Final says that its attempt then ended in an orderly way.
	Worker string `json:"worker,omitempty"`
	Final  bool   `json:"final,omitempty"`
	// Away says that it ended because the store was away.
	Away bool `json:"away,omitempty"`
	// Execution is the Temporal run whose activity wrote this record or part of a batch. A workflow that is reset goes on as another one.
	Execution string `json:"execution,omitempty"`
	// Scheduled is when that activity was, by the server's clock.
	Scheduled time.Time `json:"scheduled,omitzero"`

	Items   []Item  `json:"-"`
	Batches []Batch `json:"-"`
}

// Tally counts items by how they ended. Those that are missing did not end.
type Tally struct {
	// Completed counts items that ended well, with those whose last task was caught; Caught counts the latter alone.
	Completed int `json:"completed"`
	Caught    int `json:"caught,omitempty"`
	Failed    int `json:"failed,omitempty"`
	// Reused counts those of the completed ones in a batch that were taken over from another run.
	Reused int `json:"reused,omitempty"`
	// Others counts the tasks that failed along with those that the failed items tell of.
	Others int `json:"others,omitempty"`
	// Failure is the failure that was counted first.
	Failure *policies.Failure `json:"failure,omitempty"`
}

// Add counts one more item.
func (t *Tally) Add(i Item) {
	if i.From != "" && (i.Outcome == Completed || i.Outcome == Caught) {
		t.Reused++
	}
	switch i.Outcome {
	case Completed:
		t.Completed++
	case Caught:
		t.Completed++
		t.Caught++
	case Failed:
		t.Failed++
		if i.Failure != nil {
			t.Others += i.Failure.Others
		}
		t.first(i.Failure)
	case Lost, Cancelled, Skipped, Deferred: // no item ends like that
	}
}

// Merge counts what another tally counted.
func (t *Tally) Merge(o Tally) {
	t.Completed += o.Completed
	t.Caught += o.Caught
	t.Failed += o.Failed
	t.Reused += o.Reused
	t.Others += o.Others
	t.first(o.Failure)
}

// Err is the failure of a foreach with failed items: the first one, with the number of others. It is nil when none failed.
func (t *Tally) Err() error {
	if t.Failed == 0 {
		return nil
	}
	f := policies.Failure{Class: policies.Unknown, Message: "an item failed"}
	if t.Failure != nil {
		f = *t.Failure
	}
	f.Others = t.Failed - 1 + t.Others
	return &f
}

func (t *Tally) first(f *policies.Failure) {
	if t.Failure == nil {
		t.Failure = f
	}
}

// Item is how one item ended.
type Item struct {
	Index int `json:"i"`
	// Outcome is Completed, Caught or Failed; empty when the item did not end.
	Outcome Outcome `json:"outcome,omitempty"`
	// Ref is the item's last record, if it has one. Items of a batch have none: their line is the record.
	Ref     *Ref              `json:"ref,omitempty"`
	Failure *policies.Failure `json:"failure,omitempty"`

	// Kept is what the item's tasks set, if that is little: then a join need not read the item's record. Nil in a batch.
	Kept *Kept `json:"kept,omitempty"`
	// Set is what the tasks of an item in a batch set, Gone names the artifacts that they emptied.
	Set  map[string]artifacts.Entry `json:"set,omitempty"`
	Gone []string                   `json:"gone,omitempty"`

	// Step, Attempt, Started and Took are of the last task of an item in a batch.
	Step    string        `json:"step,omitempty"`
	Attempt int           `json:"attempt,omitempty"`
	Started time.Time     `json:"started,omitzero"`
	Took    time.Duration `json:"took_ns,omitempty"`
	// From is the run that an item of a batch ran in, if a resumed run took it over.
	From string `json:"from,omitempty"`
	// Tries counts the failed attempts of the tasks of an item of a batch that is under way, by their names.
	Tries map[string]int `json:"tries,omitempty"`
	// Due is when an item of a batch that is under way is tried again.
	Due time.Time `json:"due,omitzero"`
}

// Batch says where the items of a batch are.
type Batch struct {
	Run    string           `json:"run"`
	First  int              `json:"first"`
	Count  int              `json:"count"`
	Digest artifacts.Digest `json:"digest,omitzero"` // zero when it was not run to its end
	Tally
}

// ItemsKey is the key in [Run.Reused] of the shards and batches of a foreach, which can be taken over as wholes.
func ItemsKey(foreach string) string { return foreach + "[]" }

// FanPrefix is the folder of what the items of a foreach ended with.
func FanPrefix(flowName, run, foreach string, x flow.Index) string {
	return taskPrefix(flowName, run, "fans", foreach) + x.Key() + "/"
}

// ShardKey is the key of a shard's document.
func ShardKey(flowName, run, foreach string, x flow.Index, first int) string {
	return FanPrefix(flowName, run, foreach, x) + fmt.Sprintf("%08d.jsonl", first)
}

// BatchesPrefix is the folder of a foreach's batches.
func BatchesPrefix(flowName, run, foreach string, x flow.Index) string {
	return taskPrefix(flowName, run, "batches", foreach) + x.Key() + "/"
}

// BatchKey is the key of a batch that ended: the record of its items.
func BatchKey(flowName, run, foreach string, x flow.Index, first int) string {
	return BatchesPrefix(flowName, run, foreach, x) + fmt.Sprintf("%08d.jsonl", first)
}

// BatchPartPrefix is the folder of what the attempts of a batch got done before it ended.
func BatchPartPrefix(flowName, run, foreach string, x flow.Index, first int) string {
	return taskPrefix(flowName, run, "parts", foreach) + x.Key() + "/" + fmt.Sprintf("%08d/", first)
}

// encodeShard writes a shard as lines.
func encodeShard(s Shard) ([]byte, error) {
	var b bytes.Buffer
	lines := json.NewEncoder(&b)
	lines.SetEscapeHTML(false)
	s.Version = version
	err := lines.Encode(s)
	for i := range s.Items {
		err = errors.Join(err, lines.Encode(&s.Items[i]))
	}
	for i := range s.Batches {
		err = errors.Join(err, lines.Encode(&s.Batches[i]))
	}
	return b.Bytes(), err
}

// decodeShard reads the lines that are wanted: none, or all.
func decodeShard(s *artifacts.Store, key string, b []byte, whole bool) (Shard, error) {
	head, rest, _ := bytes.Cut(b, []byte("\n"))
	var out Shard
	if err := decode(s, key, head, &out, &out.Version); err != nil {
		return Shard{}, err
	}
	if !whole {
		return out, nil
	}
	lines := json.NewDecoder(bytes.NewReader(rest))
	for lines.More() {
		var err error
		if out.Batched {
			var v Batch
			err = lines.Decode(&v)
			out.Batches = append(out.Batches, v)
		} else {
			var v Item
			err = lines.Decode(&v)
			out.Items = append(out.Items, v)
		}
		if err != nil {
			return Shard{}, corrupt(s, key, "a line is not what it should be: "+err.Error())
		}
	}
	return out, nil
}

// PutShard writes a shard's document, in place of the one that may be there: a shard that runs again knows more.
func PutShard(ctx context.Context, s *artifacts.Store, d Shard) error {
	b, err := encodeShard(d)
	if err != nil {
		return fmt.Errorf("encode shard %d of foreach %q: %w", d.First, d.Foreach, err)
	}
	return s.PutDoc(ctx, ShardKey(d.Flow, d.Run, d.Foreach, d.Index, d.First), b)
}

// LoadShard reads a shard's document: its first line, or all of it. It fails with [artifacts.ErrNotFound] when the shard did
// not end.
func LoadShard(ctx context.Context, s *artifacts.Store, flowName, run, foreach string, x flow.Index, first int, whole bool) (Shard, error) {
	key := ShardKey(flowName, run, foreach, x, first)
	b, err := s.GetDoc(ctx, key)
	if err != nil {
		return Shard{}, err
	}
	d, err := decodeShard(s, key, b, whole)
	if err == nil && (d.Flow != flowName || d.Run != run || d.Foreach != foreach || d.First != first || !d.Index.Equal(x)) {
		err = corrupt(s, key, fmt.Sprintf("it is shard %d of foreach %q of run %s/%s", d.First, d.Foreach, d.Flow, d.Run))
	}
	return d, err
}

// Shards lists the first items of a foreach's shards that have a document, in order.
func Shards(ctx context.Context, s *artifacts.Store, flowName, run, foreach string, x flow.Index) ([]int, error) {
	return firsts(ctx, s, FanPrefix(flowName, run, foreach, x))
}

// Batches lists the first items of a foreach's batches that ended, in order.
func Batches(ctx context.Context, s *artifacts.Store, flowName, run, foreach string, x flow.Index) ([]int, error) {
	return firsts(ctx, s, BatchesPrefix(flowName, run, foreach, x))
}

func firsts(ctx context.Context, s *artifacts.Store, prefix string) ([]int, error) {
	var all []int
	for info, err := range s.List(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		name := strings.TrimSuffix(strings.TrimPrefix(info.Key, prefix), ".jsonl")
		var n int
		if _, err := fmt.Sscanf(name, "%d", &n); err == nil && fmt.Sprintf("%08d", n) == name {
			all = append(all, n)
		}
	}
	return all, nil
}

// CreateBatch writes the record of a batch's items and returns its digest. If the batch has ended already, the record that is
// there stays and stands.
func CreateBatch(ctx context.Context, s *artifacts.Store, d Shard) (artifacts.Digest, Shard, error) {
	key := BatchKey(d.Flow, d.Run, d.Foreach, d.Index, d.First)
	b, err := encodeShard(d)
	if err != nil {
		return artifacts.Digest{}, Shard{}, fmt.Errorf("encode batch %d of foreach %q: %w", d.First, d.Foreach, err)
	}
	err = s.CreateDoc(ctx, key, b)
	if errors.Is(err, artifacts.ErrExists) {
		return FindBatch(ctx, s, d.Flow, d.Run, d.Foreach, d.Index, d.First)
	}
	if err != nil {
		return artifacts.Digest{}, Shard{}, err
	}
	return artifacts.Sum(b), d, nil
}

// ReplaceBatch writes the record of a batch's items in place of the one with digest old, which does not stand any more. Of several that
// replace it the first decides what is written, and all return that: what one of them told of must not be overwritten later.
func ReplaceBatch(ctx context.Context, s *artifacts.Store, d Shard, old artifacts.Digest) (artifacts.Digest, Shard, error) {
	key := BatchKey(d.Flow, d.Run, d.Foreach, d.Index, d.First)
	b, err := encodeShard(d)
	if err != nil {
		return artifacts.Digest{}, Shard{}, fmt.Errorf("encode batch %d of foreach %q: %w", d.First, d.Foreach, err)
	}
	_, hex, _ := strings.Cut(old.String(), ":")
	next := strings.TrimSuffix(key, ".jsonl") + ".after." + hex + ".jsonl"
	err = s.CreateDoc(ctx, next, b)
	if errors.Is(err, artifacts.ErrExists) {
		if b, err = s.GetDoc(ctx, next); err == nil {
			d, err = decodeShard(s, next, b, true)
		}
	}
	if err == nil {
		err = s.PutDoc(ctx, key, b)
	}
	return artifacts.Sum(b), d, err
}

// FindBatch reads the record of a batch without knowing its digest.
func FindBatch(ctx context.Context, s *artifacts.Store, flowName, run, foreach string, x flow.Index, first int) (artifacts.Digest, Shard, error) {
	key := BatchKey(flowName, run, foreach, x, first)
	b, err := s.GetDoc(ctx, key)
	if err != nil {
		return artifacts.Digest{}, Shard{}, err
	}
	d, err := decodeShard(s, key, b, true)
	return artifacts.Sum(b), d, err
}

// LoadBatch reads the record of a batch and checks its digest.
func LoadBatch(ctx context.Context, s *artifacts.Store, flowName, foreach string, x flow.Index, ref Batch) (Shard, error) {
	key := BatchKey(flowName, ref.Run, foreach, x, ref.First)
	b, err := s.GetDoc(ctx, key)
	if err != nil {
		return Shard{}, err
	}
	if got := artifacts.Sum(b); got != ref.Digest {
		return Shard{}, &artifacts.CorruptError{Digest: ref.Digest, Key: key, Store: s.String(), Reason: "its content has digest " + got.String()}
	}
	return decodeShard(s, key, b, true)
}

// Part names what an attempt of a batch got done. Executions of a workflow that was reset count attempts anew, and one from before the
// reset may write late: each has names of its own. That of the first is left out.
type Part struct {
	Attempt   int
	Execution string
}

func (p Part) compare(o Part) int {
	return cmp.Or(cmp.Compare(p.Attempt, o.Attempt), cmp.Compare(p.Execution, o.Execution))
}

func (p Part) file() string {
	if p.Execution == "" {
		return fmt.Sprintf("%05d.jsonl", p.Attempt)
	}
	return fmt.Sprintf("%05d.%s.jsonl", p.Attempt, p.Execution)
}

func parsePart(file string) (p Part, ok bool) {
	name, ok := strings.CutSuffix(file, ".jsonl")
	number, execution, _ := strings.Cut(name, ".")
	n, err := strconv.Atoi(number)
	return Part{n, execution}, ok && err == nil
}

// PutBatchPart writes down what an attempt of a batch got done so far. Only that attempt writes it.
func PutBatchPart(ctx context.Context, s *artifacts.Store, d Shard, p Part) error {
	b, err := encodeShard(d)
	if err != nil {
		return fmt.Errorf("encode batch %d of foreach %q: %w", d.First, d.Foreach, err)
	}
	return s.PutDoc(ctx, BatchPartPrefix(d.Flow, d.Run, d.Foreach, d.Index, d.First)+p.file(), b)
}

// BatchParts yields what the attempts of a batch got done, in the order of their numbers. A damaged part is none.
func BatchParts(ctx context.Context, s *artifacts.Store, flowName, run, foreach string, x flow.Index, first int) (iter.Seq2[Part, Shard], error) {
	prefix := BatchPartPrefix(flowName, run, foreach, x, first)
	parts := map[Part]Shard{}
	for info, err := range s.List(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		p, ok := parsePart(strings.TrimPrefix(info.Key, prefix))
		if !ok {
			continue
		}
		b, err := s.GetDoc(ctx, info.Key)
		if err != nil {
			return nil, err
		}
		d, err := decodeShard(s, info.Key, b, true)
		if errors.Is(err, artifacts.ErrCorrupt) {
			continue
		}
		if err != nil {
			return nil, err
		}
		parts[p] = d
	}
	return func(yield func(Part, Shard) bool) {
		for _, p := range slices.SortedFunc(maps.Keys(parts), Part.compare) {
			if !yield(p, parts[p]) {
				return
			}
		}
	}, nil
}

// BatchHead reads the first line of a batch's record: how many of its items ended how.
func BatchHead(ctx context.Context, s *artifacts.Store, flowName, run, foreach string, x flow.Index, first int) (Shard, error) {
	key := BatchKey(flowName, run, foreach, x, first)
	b, err := s.GetDoc(ctx, key)
	if err != nil {
		return Shard{}, err
	}
	return decodeShard(s, key, b, false)
}

// TaskIndexes yields the indexes of a step's tasks that have a record, in the order of their keys. Records are not read.
func TaskIndexes(ctx context.Context, s *artifacts.Store, flowName, run, step string) iter.Seq2[flow.Index, error] {
	prefix := taskPrefix(flowName, run, "tasks", step)
	return func(yield func(flow.Index, error) bool) {
		for info, err := range s.List(ctx, prefix) {
			if err != nil {
				yield(nil, err)
				return
			}
			name, ok := strings.CutSuffix(strings.TrimPrefix(info.Key, prefix), ".json")
			if !ok {
				continue
			}
			if x, err := flow.ParseIndex(name); err == nil && !yield(x, nil) {
				return
			}
		}
	}
}

// TriedIndexes lists the indexes of a step's tasks that have a ledger.
func TriedIndexes(ctx context.Context, s *artifacts.Store, flowName, run, step string) ([]flow.Index, error) {
	return indexes(ctx, s, taskPrefix(flowName, run, "attempts", step))
}

// LoggedIndexes lists the indexes of a step's tasks that logged something.
func LoggedIndexes(ctx context.Context, s *artifacts.Store, flowName, run, step string) ([]flow.Index, error) {
	return indexes(ctx, s, taskPrefix(flowName, run, "logs", step))
}

// ShardIndexes lists the indexes of a foreach that have documents of shards.
func ShardIndexes(ctx context.Context, s *artifacts.Store, flowName, run, foreach string) ([]flow.Index, error) {
	return indexes(ctx, s, taskPrefix(flowName, run, "fans", foreach))
}

// BatchIndexes lists the indexes of a foreach that have batches which ended.
func BatchIndexes(ctx context.Context, s *artifacts.Store, flowName, run, foreach string) ([]flow.Index, error) {
	return indexes(ctx, s, taskPrefix(flowName, run, "batches", foreach))
}

// indexes reads the folders of a prefix as indexes.
func indexes(ctx context.Context, s *artifacts.Store, prefix string) ([]flow.Index, error) {
	var all []flow.Index
	for name, err := range s.Dirs(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		if x, err := flow.ParseIndex(name); err == nil {
			all = append(all, x)
		}
	}
	return all, nil
}
