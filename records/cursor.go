package records

import (
	"cmp"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

// Cursor is a place in a plan: how far a node has come. It is a tree like the plan. A workflow that continues as new and a run
// that is resumed both begin at one.
//
// Of a node that has not begun, Last, Ahead and Bind are what it starts from; of one that has ended, what the next one starts from.
type Cursor struct {
	// Next is the index of the next node of a sequence, or the number of a loop's turn.
	Next int `json:"next"`
	// Last is the record that the next task starts from, nil when nothing is finished. A branch and a foreach keep that of
	// their split until they are done.
	Last *Ref `json:"last,omitempty"`
	// Ahead is what was decided about the shapes that follow that record.
	Ahead flow.Ahead `json:"ahead,omitempty"`
	// Bind is the item that the next task has to put into its state.
	Bind *flow.Binding `json:"bind,omitempty"`
	// Inside is the place in the node that is under way: the node at Next of a sequence, the case of a switch, the body of a
	// loop.
	Inside *Cursor `json:"inside,omitempty"`
	// Parts are the arms of a branch, or the items of a foreach that runs its tasks itself.
	Parts []*Cursor `json:"parts,omitempty"`
	// Batch is how a part that is a batch of items ended.
	Batch *Batch `json:"batch,omitempty"`
	// Ended are the shards of a foreach that have ended.
	Ended []ShardEnd `json:"ended,omitempty"`
	// Kept is what was set since the split of the foreach that this is within, nil outside of one.
	Kept *Kept `json:"kept,omitempty"`
	// Caught says that the failure of the last task was caught.
	Caught bool `json:"caught,omitempty"`
	// Tried is what is known of a task that has to go on in another activity, nil if it has not begun.
	Tried *Tried `json:"tried,omitempty"`
	// Outcome says how a part ended, "" while it has not.
	Outcome Outcome `json:"outcome,omitempty"`
	// Failure is why a part failed.
	Failure *policies.Failure `json:"failure,omitempty"`
	// Heard is the place of that failure, or its batch's, among those that the workflow heard of, counted from 1. See [Cursor.Rank].
	Heard int `json:"heard,omitempty"`
	// Look says that tasks may be finished already: their records are to be looked for.
	Look bool `json:"look,omitempty"`
}

// Tried is how far a task has come that was deferred, climbed or waits for a person.
type Tried struct {
	// Attempt is the last attempt there was, Forgiven up to which one failures do not count any more.
	Attempt  int `json:"attempt,omitempty"`
	Forgiven int `json:"forgiven,omitempty"`
	// Rung is the rung of the step's ladder.
	Rung int `json:"rung,omitempty"`
	// Since is when the first attempt was scheduled, and later by what the task has waited in the queue of a limit since. Zero
	// without Timeout.Total.
	Since time.Time `json:"since,omitzero"`
	// Paused is why the task waits for a person, nil if it does not.
	Paused *policies.Failure `json:"paused,omitempty"`
	// Verdict is what the person said, "" while nothing.
	Verdict Verdict `json:"verdict,omitempty"`
}

// Verdict is what a person said about a paused task.
type Verdict string

// What a person may say.
const (
	RetryIt Verdict = "retry"
	SkipIt  Verdict = "skip"
	FailIt  Verdict = "fail"
)

// ShardEnd is how a shard of a foreach ended.
type ShardEnd struct {
	// Shard is the shard's place among those of its parent.
	Shard int `json:"shard"`
	Tally
}

// Start is the beginning of a node that starts from where c stands.
func (c *Cursor) Start() *Cursor {
	return &Cursor{Last: c.Last, Ahead: c.Ahead, Bind: c.Bind, Kept: c.Kept}
}

// End takes over where a node has ended.
func (c *Cursor) End(at *Cursor) {
	*c = Cursor{Next: c.Next, Last: at.Last, Ahead: at.Ahead, Bind: at.Bind, Kept: at.Kept, Caught: at.Caught}
}

// each visits c and all cursors within.
func (c *Cursor) each(visit func(*Cursor)) {
	if c == nil {
		return
	}
	visit(c)
	c.Inside.each(visit)
	for _, part := range c.Parts {
		part.each(visit)
	}
}

// failed is why a part failed, or items of it that is a batch.
func (c *Cursor) failed() *policies.Failure {
	if c.Batch != nil {
		return c.Batch.Failure
	}
	return c.Failure
}

// Rank notes in which order the failures within were heard of. It is given the names of the tasks in that order.
func (c *Cursor) Rank(tasks []string) {
	places := make(map[string]int, len(tasks))
	for i, task := range tasks {
		places[task] = i + 1
	}
	c.each(func(c *Cursor) {
		if f := c.failed(); f != nil {
			c.Heard = places[f.Task]
		}
	})
}

// Ranked are the names of the tasks whose failures are within, in the order in which they were heard of. Those of a workflow that did
// not tell are not among them.
func (c *Cursor) Ranked() []string {
	var ranked []*Cursor
	c.each(func(c *Cursor) {
		if c.Heard > 0 && c.failed() != nil {
			ranked = append(ranked, c)
		}
	})
	slices.SortStableFunc(ranked, func(a, b *Cursor) int { return cmp.Compare(a.Heard, b.Heard) })
	var tasks []string
	for _, c := range ranked {
		tasks = append(tasks, c.failed().Task)
	}
	return tasks
}

const (
	// maxCursorKept is how much of the items under way goes with a workflow that continues as new, in bytes of JSON. Its input may
	// have 2 MiB.
	maxCursorKept = 256 << 10
	// maxCursorFailures is how much of the failures goes with it at length, briefMessage what there is of the message of another, both
	// in bytes of JSON.
	maxCursorFailures = 256 << 10
	briefMessage      = 80
)

// Trim forgets what is kept of items, and what is told of failures, beyond what the input of a workflow has room for. Joins read the
// records of those items, and people the ledger of those tasks.
func (c *Cursor) Trim() {
	left := maxCursorKept
	c.each(func(c *Cursor) {
		if k := c.Kept; k.Wanted() && len(k.Set)+len(k.Gone) > 0 {
			if left -= k.bytes(); left < 0 {
				c.Kept = &Kept{TooMuch: true}
			}
		}
	})
	c.trimFailures()
}

// trimFailures leaves those at length that were heard of first: one of them is what the run will fail with.
func (c *Cursor) trimFailures() {
	type told struct {
		heard int
		f     **policies.Failure
	}
	var all []told
	c.each(func(c *Cursor) {
		all = append(all, told{cmp.Or(c.Heard, math.MaxInt), &c.Failure})
		if c.Batch != nil {
			all = append(all, told{cmp.Or(c.Heard, math.MaxInt), &c.Batch.Failure})
		}
		if c.Tried != nil {
			all = append(all, told{math.MaxInt, &c.Tried.Paused})
		}
		for i := range c.Ended {
			all = append(all, told{math.MaxInt, &c.Ended[i].Failure})
		}
	})
	slices.SortStableFunc(all, func(a, b told) int { return cmp.Compare(a.heard, b.heard) })
	left := maxCursorFailures
	for _, t := range all {
		if *t.f == nil {
			continue
		}
		if left -= jsonBytes(*t.f); left < 0 {
			*t.f = brief(*t.f)
		}
	}
}

// brief is a failure without what may be long.
func brief(f *policies.Failure) *policies.Failure {
	short := *f
	short.Stack, short.Type, short.Worker = "", "", ""
	for n := briefMessage; jsonBytes(short.Message) > briefMessage; n /= 2 { // what JSON escapes is six times as long
		short.Message = strings.ToValidUTF8(f.Message[:min(n, len(f.Message))], "") + "…"
	}
	return &short
}

// jsonBytes is how much JSON something is, more than there is room for if it is none.
func jsonBytes(v any) int {
	b, err := json.Marshal(v)
	if err != nil {
		return math.MaxInt32
	}
	return len(b)
}
