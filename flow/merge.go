package flow

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/policies"
)

// MergeOption narrows what [Inputs.Merge] takes over; [Include] and [Exclude] make one. The zero value excludes nothing.
type MergeOption struct {
	include bool
	names   []string
}

// Include takes over no other artifacts than those with these names. Several of them add up.
func Include(names ...string) MergeOption { return MergeOption{true, slices.Clone(names)} }

// Exclude takes over all artifacts but those with these names. Several of them add up.
func Exclude(names ...string) MergeOption { return MergeOption{false, slices.Clone(names)} }

// Merge takes over into s, the state of the join, what the inputs changed: every artifact that differs from the state at the
// split in one input, or in several that agree on its content. An artifact that the join has changed in s already stays as it is,
// parameters never take part, and neither do items that failed.
//
// Artifacts on which inputs do not agree are conflicts. Merge then sets nothing and returns one error that lists all of them: set
// them in s before Merge, or leave them out with [Exclude]. In the join of a foreach, a field that the item is bound to is one of
// them as soon as there are two items. It is an error as well to give [Include] or [Exclude] a name that no artifact has, told
// together with the conflicts, or to give both. These errors end the task without another attempt.
//
// Merge compares digests and loads only what it takes over. It goes through any number of inputs in memory that does not grow
// with their number.
func (in Inputs[S]) Merge(s *S, options ...MergeOption) error {
	if in.r == nil {
		return nil
	}
	return in.r.merge(s, options)
}

// merging is one artifact that may be taken over.
type merging struct {
	field artifacts.Field
	split held
	// changed is what the first input that changed it made of it, by that input; other is one that does not agree, or -1.
	changed   held
	by, other int
}

// held is what a state has of an artifact: nothing, if it is an empty Ref or File.
type held struct {
	entry artifacts.Entry
	there bool
}

func (h held) same(other held) bool {
	return h.there == other.there && (!h.there || h.entry.Same(other.entry))
}

func (r *inputs) merge(state any, options []MergeOption) error {
	var include, names []string
	for _, o := range options {
		names = append(names, o.names...)
		if o.include {
			include = append(include, o.names...)
		}
	}
	including := slices.ContainsFunc(options, func(o MergeOption) bool { return o.include })
	if including && len(include) < len(names) {
		return refuse("Include and Exclude exclude each other (use one of them)")
	}
	all, err := r.mergings()
	if err != nil {
		return err
	}
	var take []*merging
	for i := range all {
		if slices.Contains(names, all[i].field.Name) == including {
			take = append(take, &all[i])
		}
	}
	if err := r.compare(take); err != nil {
		return err
	}
	if take, err = settle(take, state); err != nil {
		return err
	}
	// A name with a mistake in it is often why there is a conflict, so one does not hide the other.
	if wrong := slices.Concat(r.conflicts(take, including), r.unknown(names)); len(wrong) > 0 {
		return refuse("%s", strings.Join(wrong, "; "))
	}
	return r.take(take, state)
}

func refuse(format string, args ...any) error {
	return policies.WithClass(fmt.Errorf("merge: "+format, args...), policies.Permanent)
}

// mergings lists the artifacts that can be taken over.
func (r *inputs) mergings() ([]merging, error) {
	zero := reflect.New(r.src.Schema.Type()).Interface()
	var all []merging
	for _, f := range r.src.Schema.Fields() {
		if f.Param {
			continue
		}
		m := merging{field: f, by: -1, other: -1}
		m.split.entry, m.split.there = r.src.Split[f.Name]
		if !m.split.there && !f.Lazy() { // the field is newer than the record: the split had its zero value
			e, err := f.Entry(zero)
			if err != nil {
				return nil, fmt.Errorf("merge: %w", err)
			}
			m.split = held{e, true}
		}
		all = append(all, m)
	}
	return all, nil
}

// compare goes through the inputs and finds out who changed what.
func (r *inputs) compare(all []*merging) error {
	for input := range r.from(r.src.All) {
		if input.Failure != nil {
			continue
		}
		for _, m := range all {
			var h held
			h.entry, h.there = input.Artifacts[m.field.Name]
			switch {
			case m.other >= 0, h.same(m.split), !h.there && !m.field.Lazy(): // an older worker may not know the field
			case m.by < 0:
				m.changed, m.by = h, input.Index
			case !h.same(m.changed):
				m.other = input.Index
			}
		}
	}
	if err := r.failed(); err != nil {
		return fmt.Errorf("merge: %w", err)
	}
	return nil
}

// settle leaves out what no input changed and what the join has changed itself.
func settle(all []*merging, state any) ([]*merging, error) {
	var left []*merging
	var errs []error
	for _, m := range all {
		if m.by < 0 {
			continue
		}
		e, err := m.field.Entry(state)
		if err != nil {
			errs = append(errs, fmt.Errorf("merge: %w", err))
		}
		if m.split.same(held{e, e.Codec != ""}) {
			left = append(left, m)
		}
	}
	return left, errors.Join(errs...)
}

// conflicts says on what inputs do not agree, if there is anything.
func (r *inputs) conflicts(all []*merging, including bool) []string {
	var told []string
	for _, m := range all {
		if m.other >= 0 {
			told = append(told, fmt.Sprintf("%q (%s and %s)", m.field.Name, r.what(m.by), r.what(m.other)))
		}
	}
	if len(told) == 0 {
		return nil
	}
	out := "give them to flow.Exclude"
	if including {
		out = "take them out of flow.Include"
	}
	return []string{fmt.Sprintf("inputs do not agree on %s (set them in the join before Merge, or %s)", strings.Join(told, ", "), out)}
}

// unknown says which of the names no artifact has, if there are any.
func (r *inputs) unknown(names []string) []string {
	var unknown, known []string
	for _, name := range names {
		if _, ok := r.src.Schema.Field(name); !ok && !slices.Contains(unknown, name) {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	for _, f := range r.src.Schema.Fields() {
		if !f.Param {
			known = append(known, f.Name)
		}
	}
	return []string{fmt.Sprintf("no artifact has the name %s (there are %s)", quoted(unknown), quoted(known))}
}

// take sets the artifacts in the state, all or none.
func (r *inputs) take(all []*merging, state any) error {
	entries := map[string]artifacts.Entry{}
	for _, m := range all {
		if m.changed.there {
			entries[m.field.Name] = m.changed.entry
		}
	}
	loaded := reflect.New(r.src.Schema.Type()).Interface()
	if err := r.loader.Load(r.ctx, entries, loaded); err != nil {
		return r.fail(fmt.Errorf("merge: %w", err))
	}
	for _, m := range all {
		m.field.Value(state).Set(m.field.Value(loaded)) // the zero value if the input emptied it
	}
	return nil
}
