package runs

import (
	"context"
	"slices"
	"time"

	"github.com/stepwell-flows/stepwell/records"
)

// ErrTags is what every error about tags that are not allowed matches.
var ErrTags = records.ErrTags

// AllTags are the run's tags and those that it has by itself (see [records.Run.SystemTags]), the latter last.
func (r *Run) AllTags() []string { return slices.Concat(r.Tags, r.SystemTags()) }

// HasTag reports whether the run has a tag, also one that it has by itself.
func (r *Run) HasTag(tag string) bool {
	return slices.Contains(r.Tags, tag) || slices.Contains(r.SystemTags(), tag)
}

// AddTags gives the run tags. Those that it has already change nothing. More than [records.MaxTags], or a tag that is not allowed,
// is [ErrTags], and nothing is added. Tags and what others did to them in the meantime are in r afterwards.
func (r *Run) AddTags(ctx context.Context, tags ...string) error {
	return r.ReplaceTags(ctx, nil, tags)
}

// RemoveTags takes tags away. Those that the run does not have change nothing. One that it has by itself is [ErrTags], and nothing
// is removed.
func (r *Run) RemoveTags(ctx context.Context, tags ...string) error {
	return r.ReplaceTags(ctx, tags, nil)
}

// ReplaceTags takes tags away and adds others, all or nothing, under the rules of both. It is safe while others, in other processes
// too, change tags of the same run: no change is lost. It is not safe while another goroutine uses r.
func (r *Run) ReplaceTags(ctx context.Context, remove, add []string) error {
	doc := r.Run
	doc.Tags = r.given
	tags, err := records.ChangeTags(ctx, r.reader.store, doc, remove, add)
	if err == nil {
		r.Tags = tags
	}
	return err
}

// Filter chooses runs. The zero Filter takes all.
type Filter struct {
	// Tags must all be there. Those that a run has by itself count, like "user:ada" and "project:fraud".
	Tags []string
	// User, Project and Branch are compared as a whole: a branch is user.NAME, test.NAME, prod or prod.NAME. "" means any.
	User, Project, Branch string
	// Statuses are those that a run may have. None means any.
	Statuses []records.Status
	// Since and Until bound when the run started, both included. Zero means no bound.
	Since, Until time.Time

	origin string // that the run was resumed from; "" means any
}

// Match reports whether the filter takes the run.
func (f Filter) Match(r *Run) bool { return f.facts(r) && f.status(r) }

// facts asks for all that is known before the run's state is.
func (f Filter) facts(r *Run) bool {
	for _, wanted := range [][2]string{{f.User, r.User}, {f.Project, r.Project}, {f.Branch, r.Branch}, {f.origin, r.Origin}} {
		if wanted[0] != "" && wanted[0] != wanted[1] {
			return false
		}
	}
	if !f.Since.IsZero() && r.Started.Before(f.Since) || !f.Until.IsZero() && r.Started.After(f.Until) {
		return false
	}
	return !slices.ContainsFunc(f.Tags, func(tag string) bool { return !r.HasTag(tag) })
}

func (f Filter) status(r *Run) bool {
	return len(f.Statuses) == 0 || slices.Contains(f.Statuses, r.Status)
}

// slack is how much the time in a run's id may differ from the one in its document: another workflow may have started the run, and
// then the id is older.
const slack = time.Hour

// ids leaves out those ids whose time is too far from what the filter takes.
func (f Filter) ids(ids []string) []string {
	if f.Since.IsZero() && f.Until.IsZero() {
		return ids
	}
	return slices.DeleteFunc(ids, func(id string) bool {
		t, ok := timeOf(id)
		return ok && (!f.Since.IsZero() && t.Before(f.Since.Add(-slack)) || !f.Until.IsZero() && t.After(f.Until.Add(slack)))
	})
}
