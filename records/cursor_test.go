package records_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

// longFailure is as long as a failure gets.
func longFailure(text string, x ...int) *policies.Failure {
	step := strings.Repeat("s", 64)
	return &policies.Failure{
		Class: policies.Unknown, Message: strings.Repeat(text, 2000/len(text)), Type: strings.Repeat("T", 300), Stack: strings.Repeat("at\n", 100),
		Flow: strings.Repeat("f", 128), Run: strings.Repeat("r", 100), Step: step, Task: flow.TaskName(step, x), Attempt: 10, CodeFailures: 10,
		Time: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Worker: strings.Repeat("w", 100),
	}
}

// What goes with a workflow that continues as new is bounded when all names and texts are as long as they get: a server takes 2 MiB. A shard
// has up to 83 items that each run 20 tasks in the workflow itself.
func TestTrimLeavesRoomForFailures(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{"plain": "m", "escaped": "<", "letters of several bytes": "ü", "no text": "\xff"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &records.Cursor{}
			ref := &records.Ref{Run: strings.Repeat("r", 100), Step: strings.Repeat("s", 64), Index: flow.Index{99999, 19}, Digest: artifacts.Sum(nil)}
			list := flow.List{Len: 20, Digest: artifacts.Sum(nil)}
			entry := records.KeptEntry{Artifact: "a", Codec: "string", Type: "string", Inline: []byte(strings.Repeat("x", 80))}
			for i := range 83 {
				inner := &records.Cursor{Next: 1, Last: ref, Ahead: flow.Ahead{strings.Repeat("i", 64): {Items: &list}}, Kept: &records.Kept{}}
				for j := range 20 {
					part := &records.Cursor{Last: ref, Kept: &records.Kept{Set: []records.KeptEntry{entry, entry, entry}}}
					switch j % 4 {
					case 0:
						part.Bind = &flow.Binding{Foreach: strings.Repeat("i", 64), List: list, Item: j}
						part.Tried = &records.Tried{Attempt: 10, Forgiven: 5, Paused: longFailure(text, i, j)}
					case 1, 2:
						part = &records.Cursor{Outcome: records.Failed, Failure: longFailure(text, i, j)}
					case 3:
						part.Outcome = records.Completed
					}
					inner.Parts = append(inner.Parts, part)
				}
				c.Parts = append(c.Parts, &records.Cursor{Last: ref, Bind: &flow.Binding{Foreach: "outer", List: list, Item: i}, Inside: inner})
			}
			c.Trim()
			b, err := json.Marshal(c)
			require.NoError(t, err)
			require.Less(t, len(b), 7<<18)
		})
	}
}

// Failures of shards and batches count, too.
func TestTrimLeavesRoomForFailuresOfShardsAndBatches(t *testing.T) {
	t.Parallel()
	shards, batches := &records.Cursor{}, &records.Cursor{}
	for i := range 500 {
		tally := records.Tally{Completed: 1000, Failed: 3, Failure: longFailure("m", i)}
		shards.Ended = append(shards.Ended, records.ShardEnd{Shard: i, Tally: tally})
		batches.Parts = append(batches.Parts, &records.Cursor{Outcome: records.Completed, Batch: &records.Batch{Digest: artifacts.Sum(nil), Tally: tally}})
	}
	for _, c := range []*records.Cursor{shards, batches} {
		c.Trim()
		b, err := json.Marshal(c)
		require.NoError(t, err)
		require.Less(t, len(b), 1<<20)
	}
}

// Failures are told at length while there is room, those first that were heard of first; then briefly.
func TestTrimTellsFailuresBriefly(t *testing.T) {
	t.Parallel()
	c := &records.Cursor{}
	var tasks []string
	for i := range 500 {
		f := longFailure("ü", i)
		c.Parts = append(c.Parts, &records.Cursor{Outcome: records.Failed, Failure: f})
		tasks = append([]string{f.Task}, tasks...)
	}
	first, last := c.Parts[0].Failure, c.Parts[499].Failure
	c.Rank(tasks)
	c.Trim()
	require.Equal(t, longFailure("ü", 499), c.Parts[499].Failure, "heard of first")
	require.Same(t, last, c.Parts[499].Failure)
	short := c.Parts[0].Failure
	require.Less(t, len(short.Message), 100)
	require.True(t, utf8.ValidString(short.Message))
	require.Regexp(t, `^ü+…$`, short.Message)
	require.Empty(t, short.Stack)
	require.Equal(t, first.Task, short.Task)
	require.Equal(t, first.Time, short.Time)
	require.Equal(t, longFailure("ü", 0), first, "the failure itself may be in use elsewhere")

	few := &records.Cursor{Parts: []*records.Cursor{{Outcome: records.Failed, Failure: longFailure("ü")}}}
	few.Trim()
	require.Equal(t, longFailure("ü"), few.Parts[0].Failure)
}

// The order in which failures were heard of goes with the cursor, wherever in it they are.
func TestRank(t *testing.T) {
	t.Parallel()
	part := func(task string) *records.Cursor {
		return &records.Cursor{Outcome: records.Failed, Failure: &policies.Failure{Task: task}}
	}
	batch := &records.Cursor{Batch: &records.Batch{Tally: records.Tally{Failure: &policies.Failure{Task: "d[3]"}}}}
	c := &records.Cursor{Inside: &records.Cursor{Parts: []*records.Cursor{
		part("b[0]"), {}, {Inside: &records.Cursor{Parts: []*records.Cursor{part("c[2,0]"), batch}}}, part("b[3]"), part("unheard"),
	}}}
	require.Empty(t, c.Ranked(), "from a workflow that did not tell")
	c.Rank([]string{"elsewhere", "d[3]", "b[3]", "c[2,0]", "b[0]"})
	b, err := json.Marshal(c)
	require.NoError(t, err)
	var next records.Cursor
	require.NoError(t, json.Unmarshal(b, &next))
	want := []string{"d[3]", "b[3]", "c[2,0]", "b[0]"}
	require.Equal(t, want, next.Ranked())
	next.Rank(append(want, "unheard"))
	require.Equal(t, append(want, "unheard"), next.Ranked())
}
