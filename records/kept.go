package records

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/stepwell-flows/stepwell/artifacts"
)

const (
	// MaxKept is how much of an item the workflow keeps, in bytes of JSON. A shard's document with 500 items is one argument of an
	// activity, and from 512 KiB on a server warns of those.
	MaxKept = 768
	// MaxPreview is how much of an artifact's content Temporal's history has for people, in bytes, and the most that is kept of one.
	MaxPreview = 80
)

// Kept is what the tasks of an item set since the split. The workflow keeps it while it is little, so that the join of
// thousands of items reads it from the documents of their shards instead of a record for each. Only references travel through Temporal,
// and previews for people: what a preview shows in full may as well be kept. The methods of a nil *Kept, which keeps nothing, may be
// called.
type Kept struct {
	Set  map[string]artifacts.Entry `json:"set,omitempty"`
	Gone []string                   `json:"gone,omitempty"` // what was emptied
	// Bytes is how much that is, TooMuch that it was more than [MaxKept].
	Bytes   int  `json:"bytes,omitempty"`
	TooMuch bool `json:"too_much,omitempty"`
}

// KeptOf is what a task set.
func KeptOf(t Task) *Kept {
	k := &Kept{}
	for _, name := range t.Changed {
		e, ok := t.Artifacts[name]
		if !ok {
			k.Gone = append(k.Gone, name)
			continue
		}
		if len(e.Inline) > MaxPreview {
			return &Kept{TooMuch: true}
		}
		if k.Set == nil {
			k.Set = map[string]artifacts.Entry{}
		}
		k.Set[name] = e
	}
	b, err := json.Marshal(k)
	if k.Bytes = len(b); err != nil || k.Bytes > MaxKept {
		return &Kept{TooMuch: true}
	}
	return k
}

// Wanted says that it is of use to know what the next task sets.
func (k *Kept) Wanted() bool { return k != nil && !k.TooMuch }

// Then is what is kept after one more task, of which nothing is known if next is nil.
func (k *Kept) Then(next *Kept) *Kept {
	if !k.Wanted() {
		return k
	}
	if !next.Wanted() || k.Bytes+next.Bytes > MaxKept {
		return &Kept{TooMuch: true}
	}
	out := &Kept{Set: maps.Clone(k.Set), Bytes: k.Bytes + next.Bytes}
	if out.Set == nil {
		out.Set = map[string]artifacts.Entry{}
	}
	maps.Copy(out.Set, next.Set)
	for _, name := range k.Gone {
		if _, again := next.Set[name]; !again {
			out.Gone = append(out.Gone, name)
		}
	}
	for _, name := range next.Gone {
		delete(out.Set, name)
		if !slices.Contains(out.Gone, name) {
			out.Gone = append(out.Gone, name)
		}
	}
	return out
}
