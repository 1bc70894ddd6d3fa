package records

import (
	"encoding/json"
	"slices"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
)

const (
	// MaxKept is how much of an item the workflow keeps, in bytes of JSON. A shard's document with 500 items is one argument of an
	// activity, and from 512 KiB on a server warns of those.
	MaxKept = 640
	// MaxPreview is how much of an artifact's content Temporal's history has for people, in bytes, and the most that is kept of one.
	MaxPreview = 80
)

// Kept is what the tasks of an item set since the split. The workflow keeps it while it is little, so that the join of
// thousands of items reads it from the documents of their shards instead of a record for each. Only references travel through Temporal,
// and previews for people: what is kept of an artifact is no larger than a preview, and has nothing in it that previews hide. The
// methods of a nil *Kept, which keeps nothing, may be called.
type Kept struct {
	Set  []KeptEntry `json:"set,omitempty"`
	Gone []string    `json:"gone,omitempty"` // what was emptied
	// TooMuch says that it was more than [MaxKept].
	TooMuch bool `json:"too_much,omitempty"`
}

// bytes is how much JSON it is, more than may be kept if it is none.
func (k *Kept) bytes() int {
	b, err := json.Marshal(k)
	if err != nil {
		return MaxKept + 1
	}
	return len(b)
}

// bounded is k, or that it is too much.
func (k *Kept) bounded() *Kept {
	if k.bytes() > MaxKept {
		return &Kept{TooMuch: true}
	}
	return k
}

// KeptEntry is an [artifacts.Entry] without what follows from the rest: of content that is inline its digest and size, and By if the
// artifact was set by the last task.
type KeptEntry struct {
	Artifact string `json:"artifact"`

	Codec  string           `json:"codec"`
	Type   string           `json:"type"`
	Inline []byte           `json:"inline,omitempty"`
	Digest artifacts.Digest `json:"digest,omitzero"`
	Size   int64            `json:"size,omitempty"`
	By     string           `json:"by,omitempty"`
	Name   string           `json:"name,omitempty"`
}

// KeptOf is what a task set.
func KeptOf(t Task) *Kept {
	k := &Kept{}
	by := setBy(Ref{Run: t.Run, Step: t.Step, Index: t.Index})
	for _, name := range t.Changed {
		e, ok := t.Artifacts[name]
		if !ok {
			k.Gone = append(k.Gone, name)
			continue
		}
		if len(e.Inline) > MaxPreview || len(e.Inline) > 0 && artifacts.Hidden(e) {
			return &Kept{TooMuch: true}
		}
		small := KeptEntry{Artifact: name, Codec: e.Codec, Type: e.Type, Inline: e.Inline, By: e.By, Name: e.Name}
		if len(e.Inline) == 0 {
			small.Digest, small.Size = e.Digest, e.Size
		}
		if e.By == by {
			small.By = ""
		}
		k.Set = append(k.Set, small)
	}
	return k.bounded()
}

// setBy is what an entry says of the task that set it.
func setBy(r Ref) string { return r.Run + "/" + flow.TaskName(r.Step, r.Index) }

// Wanted says that it is of use to know what the next task sets.
func (k *Kept) Wanted() bool { return k != nil && !k.TooMuch }

// Then is what is kept after one more task, of which nothing is known if next is nil. Last is the record before, the last one of k.
func (k *Kept) Then(next *Kept, last *Ref) *Kept {
	if !k.Wanted() {
		return k
	}
	if !next.Wanted() {
		return &Kept{TooMuch: true}
	}
	if len(k.Set) == 0 && len(k.Gone) == 0 {
		return next
	}
	out := &Kept{}
	for _, e := range k.Set {
		if next.has(e.Artifact) {
			continue
		}
		if e.By == "" {
			e.By = setBy(*last)
		}
		out.Set = append(out.Set, e)
	}
	for _, name := range k.Gone {
		if !next.has(name) {
			out.Gone = append(out.Gone, name)
		}
	}
	out.Set, out.Gone = append(out.Set, next.Set...), append(out.Gone, next.Gone...)
	return out.bounded()
}

// has says that something is known of an artifact.
func (k *Kept) has(name string) bool {
	return slices.Contains(k.Gone, name) || slices.ContainsFunc(k.Set, func(e KeptEntry) bool { return e.Artifact == name })
}

// Changes are what an item set and what it emptied, ok if that is known without its record.
func (i Item) Changes() (set map[string]artifacts.Entry, gone []string, ok bool) {
	if !i.Kept.Wanted() {
		return i.Set, i.Gone, i.Ref == nil
	}
	set = make(map[string]artifacts.Entry, len(i.Kept.Set))
	for _, small := range i.Kept.Set {
		e := artifacts.Entry{
			Digest: small.Digest, Size: small.Size, Codec: small.Codec, Type: small.Type, Inline: small.Inline, By: small.By, Name: small.Name,
		}
		if len(e.Inline) > 0 {
			e.Digest, e.Size = artifacts.Sum(e.Inline), int64(len(e.Inline))
		}
		if e.By == "" {
			e.By = setBy(*i.Ref)
		}
		set[small.Artifact] = e
	}
	return set, i.Kept.Gone, true
}
