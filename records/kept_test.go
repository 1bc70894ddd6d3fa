package records_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/records"
)

func inline(text string) artifacts.Entry {
	return artifacts.Entry{Digest: artifacts.Sum([]byte(text)), Size: int64(len(text)), Codec: "json", Type: "string", Inline: []byte(text)}
}

// apply is what a state becomes.
func apply(state map[string]artifacts.Entry, k *records.Kept) map[string]artifacts.Entry {
	out := maps.Clone(state)
	maps.Copy(out, k.Set)
	for _, name := range k.Gone {
		delete(out, name)
	}
	return out
}

// What is kept of an item makes the state at the split that of the item's last record, or nothing is.
func TestKeptIsTheDifference(t *testing.T) {
	t.Parallel()
	kept, tooMuch := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom([]string{"a", "b", "c", "d"})
		text := rapid.Custom(func(t *rapid.T) string {
			return strings.Repeat(rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "letter"), rapid.SampledFrom([]int{1, 9, 70, 90}).Draw(t, "length"))
		})
		split := rapid.MapOf(name, rapid.Map(text, inline)).Draw(t, "split")
		state, k := split, &records.Kept{}
		for range rapid.IntRange(0, 4).Draw(t, "tasks") {
			rec := records.Task{Artifacts: maps.Clone(state), Changed: rapid.SliceOfNDistinct(name, 0, 2, rapid.ID).Draw(t, "changed")}
			for _, name := range rec.Changed {
				if rapid.Bool().Draw(t, "emptied") {
					delete(rec.Artifacts, name)
				} else {
					rec.Artifacts[name] = inline(text.Draw(t, "text"))
				}
			}
			state = rec.Artifacts
			k = k.Then(records.KeptOf(rec))
		}
		if !k.Wanted() {
			tooMuch++
			return
		}
		kept++
		require.Equal(t, state, apply(split, k))
		for name := range k.Set {
			require.NotContains(t, k.Gone, name)
		}
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
			r.Artifacts[name], r.Changed = inline(text), append(r.Changed, name)
		}
		return r
	}
	small, large := rec("1"), rec(strings.Repeat("x", 100))
	require.True(t, records.KeptOf(small).Wanted())
	require.True(t, records.KeptOf(rec(strings.Repeat("x", records.MaxPreview))).Wanted())
	require.False(t, records.KeptOf(rec(strings.Repeat("x", records.MaxPreview+1))).Wanted(), "the previews do not show all of it")
	blob := rec("1")
	blob.Artifacts["field0"] = artifacts.Entry{Digest: artifacts.Sum(nil), Size: 1 << 30, Codec: "file", Type: "artifacts.File"}
	require.True(t, records.KeptOf(blob).Wanted(), "a reference")
	require.False(t, records.KeptOf(rec(slices.Repeat([]string{"1"}, 20)...)).Wanted())

	k := (&records.Kept{}).Then(records.KeptOf(small)).Then(records.KeptOf(large))
	require.Equal(t, &records.Kept{TooMuch: true}, k, "no part of it travels along")
	require.Equal(t, k, k.Then(records.KeptOf(small)), "it stays so")
	require.False(t, (&records.Kept{}).Then(nil).Wanted(), "a worker of an earlier version does not tell")
	require.Nil(t, (*records.Kept)(nil).Then(records.KeptOf(small)), "outside of a foreach")
}
