package records_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
)

func inline(text, by string) artifacts.Entry {
	e := artifacts.Entry{Digest: artifacts.Sum([]byte(text)), Size: int64(len(text)), Codec: "string", Type: "string", By: by}
	if text != "" {
		e.Inline = []byte(text)
	}
	return e
}

// What is kept of an item makes the state at the split that of the item's last record, or nothing is.
func TestKeptIsTheDifference(t *testing.T) {
	t.Parallel()
	kept, tooMuch := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom([]string{"a", "b", "c", "d"})
		text := rapid.Custom(func(t *rapid.T) string {
			return strings.Repeat(rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "letter"), rapid.SampledFrom([]int{0, 1, 9, 70, 90}).Draw(t, "length"))
		})
		split := map[string]artifacts.Entry{}
		for name, text := range rapid.MapOf(name, text).Draw(t, "split") {
			split[name] = inline(text, "r/split")
		}
		k, state, last := &records.Kept{}, split, records.Ref{Run: "r", Step: "split"}
		for n := range rapid.IntRange(0, 4).Draw(t, "tasks") {
			rec := records.Task{
				Run: "r", Step: "step", Index: flow.Index{n}, Artifacts: maps.Clone(state),
				Changed: rapid.SliceOfNDistinct(name, 0, 2, rapid.ID).Draw(t, "changed"),
			}
			for _, name := range rec.Changed {
				switch rapid.IntRange(0, 2).Draw(t, "how") {
				case 0:
					delete(rec.Artifacts, name)
				case 1:
					rec.Artifacts[name] = inline(text.Draw(t, "text"), fmt.Sprintf("r/step[%d]", n))
				case 2:
					e := inline("a large content", "r/elsewhere") // taken over by a join
					e.Inline = nil
					rec.Artifacts[name] = e
				}
			}
			k = k.Then(records.KeptOf(rec), &last)
			state, last = rec.Artifacts, records.Ref{Run: "r", Step: "step", Index: rec.Index}
		}
		b, err := json.Marshal(records.Item{Ref: &last, Kept: k})
		require.NoError(t, err)
		if !k.Wanted() {
			tooMuch++
			return
		}
		kept++
		require.Less(t, len(b), records.MaxKept+250)
		var item records.Item
		require.NoError(t, json.Unmarshal(b, &item))
		set, gone, ok := item.Changes()
		require.True(t, ok)
		got := maps.Clone(split)
		maps.Copy(got, set)
		for _, name := range gone {
			require.NotContains(t, set, name)
			delete(got, name)
		}
		require.Equal(t, state, got)
	})
	require.NotZero(t, kept)
	require.NotZero(t, tooMuch)
}

func TestKeptIsLittle(t *testing.T) {
	t.Parallel()
	rec := func(texts ...string) records.Task {
		r := records.Task{Artifacts: map[string]artifacts.Entry{}}
		for i, text := range texts {
			name := fmt.Sprintf("field%d", i)
			r.Artifacts[name], r.Changed = inline(text, "r/step"), append(r.Changed, name)
		}
		return r
	}
	small, large := rec("1"), rec(strings.Repeat("x", 100))
	require.True(t, records.KeptOf(small).Wanted())
	require.True(t, records.KeptOf(rec(strings.Repeat("x", records.MaxPreview))).Wanted())
	require.False(t, records.KeptOf(rec(strings.Repeat("x", records.MaxPreview+1))).Wanted(), "the previews do not show all of it")
	hidden := rec("1")
	e := hidden.Artifacts["field0"]
	e.Codec = "bytes"
	hidden.Artifacts["field0"] = e
	require.False(t, records.KeptOf(hidden).Wanted(), "previews do not show bytes")
	hidden = rec("\xa1\x61k\x42\x01\x02") // a map of a name to bytes
	e = hidden.Artifacts["field0"]
	e.Codec = "cbor"
	hidden.Artifacts["field0"] = e
	require.False(t, records.KeptOf(hidden).Wanted(), "nor bytes within")
	e.Inline = []byte("\xa1\x61k\x01")
	hidden.Artifacts["field0"] = e
	require.True(t, records.KeptOf(hidden).Wanted(), "a number")
	blob := rec("1")
	blob.Artifacts["field0"] = artifacts.Entry{Digest: artifacts.Sum(nil), Size: 1 << 30, Codec: "file", Type: "artifacts.File"}
	require.True(t, records.KeptOf(blob).Wanted(), "a reference")
	require.False(t, records.KeptOf(rec(slices.Repeat([]string{"1"}, 20)...)).Wanted())

	last := &records.Ref{Run: "r", Step: "step"}
	k := (&records.Kept{}).Then(records.KeptOf(small), nil).Then(records.KeptOf(large), last)
	require.Equal(t, &records.Kept{TooMuch: true}, k, "no part of it travels along")
	require.Equal(t, k, k.Then(records.KeptOf(small), last), "it stays so")
	require.False(t, (&records.Kept{}).Then(nil, nil).Wanted(), "a worker of an earlier version does not tell")
	again := &records.Kept{}
	for range 100 {
		again = again.Then(records.KeptOf(small), last)
	}
	require.Equal(t, records.KeptOf(small), again, "what was set before does not count")
	require.Nil(t, (*records.Kept)(nil).Then(records.KeptOf(small), last), "outside of a foreach")
}

// What goes with a workflow that continues as new is bounded, whatever its items set.
func TestTrim(t *testing.T) {
	t.Parallel()
	k := records.KeptOf(records.Task{Changed: []string{"a"}, Artifacts: map[string]artifacts.Entry{"a": inline(strings.Repeat("x", 80), "")}})
	all := func(n int) *records.Cursor {
		c := &records.Cursor{Inside: &records.Cursor{Kept: k}}
		for range n {
			c.Parts = append(c.Parts, &records.Cursor{Kept: k, Inside: &records.Cursor{Kept: k}}, &records.Cursor{Kept: &records.Kept{}})
		}
		return c
	}
	few, many := all(100), all(5000)
	few.Trim()
	require.Equal(t, all(100), few)
	many.Trim()
	wanted, forgotten := 0, 0
	for i := 0; i < len(many.Parts); i += 2 {
		if many.Parts[i].Kept.Wanted() {
			wanted++
		} else {
			require.Equal(t, &records.Kept{TooMuch: true}, many.Parts[i].Kept)
			forgotten++
		}
		require.Equal(t, &records.Kept{}, many.Parts[i+1].Kept, "an item that has set nothing may still be kept")
	}
	require.Positive(t, wanted)
	require.Positive(t, forgotten)
	b, err := json.Marshal(many)
	require.NoError(t, err)
	empty, err := json.Marshal(all(0))
	require.NoError(t, err)
	require.Less(t, len(b), 256<<10+100*5000+len(empty))
}
