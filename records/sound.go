package records

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
)

// SeekSound is [Seeker.Seek] that takes no record whose content is gone or damaged, as far as the tasks that are to run start
// from it: what made that content is not finished.
func (s *Seeker) SeekSound(ctx context.Context, n flow.PlanNode, x flow.Index, at *Cursor) (done bool, _ error) {
	for {
		c := *at
		done, err := s.Seek(ctx, n, x, &c)
		if err != nil {
			return false, err
		}
		task, why, err := s.rotten(ctx, &c)
		if err != nil {
			return false, err
		}
		if task == "" {
			*at = c
			return done, nil
		}
		s.Reject(task, why)
	}
}

// rotten looks at the records that the tasks to run start from for an artifact whose content is gone or wrong, and names the task
// that is to run again because of it.
func (s *Seeker) rotten(ctx context.Context, at *Cursor) (task, why string, _ error) {
	taken := map[string]Task{}
	for _, t := range s.Taken {
		taken[flow.TaskName(t.Record.Step, t.Record.Index)] = t.Record
	}
	for _, ref := range frontier(at, nil) {
		name := flow.TaskName(ref.Step, ref.Index)
		rec, ok := taken[name]
		if !ok { // it is from before the place where the search began
			continue
		}
		by, why, err := Damaged(ctx, s.Store, rec.Artifacts)
		if err != nil {
			return "", "", err
		}
		if why == "" {
			continue
		}
		if _, ok := taken[by]; ok {
			return by, why, nil
		}
		// Whoever made it cannot run again alone, so all does.
		first := s.Taken[0].Record
		return flow.TaskName(first.Step, first.Index), why, nil
	}
	for _, l := range s.lists {
		name := flow.TaskName(l.by.Step, l.by.Index)
		if _, ok := taken[name]; !ok {
			continue
		}
		why, err := gone(flow.CheckItems(ctx, s.Store, l.items, s.Run.Verify))
		if err != nil {
			return "", "", err
		}
		if why != "" {
			return name, fmt.Sprintf("the list of items of foreach %q is %s", l.foreach, why), nil
		}
	}
	return "", "", nil
}

// gone says in a word what an error says of content, and returns other errors.
func gone(err error) (why string, _ error) {
	switch {
	case errors.Is(err, artifacts.ErrNotFound):
		return "gone", nil
	case errors.Is(err, artifacts.ErrCorrupt):
		return "damaged", nil
	}
	return "", err
}

// frontier are the records that what is under way starts from.
func frontier(at *Cursor, refs []Ref) []Ref {
	if at.Last != nil && (at.Inside == nil || len(at.Parts) > 0) && !slices.ContainsFunc(refs, at.Last.equal) {
		refs = append(refs, *at.Last)
	}
	if at.Inside != nil {
		refs = frontier(at.Inside, refs)
	}
	for _, p := range at.Parts {
		refs = frontier(p, refs)
	}
	return refs
}

// Damaged looks for an artifact whose content is gone or wrong, and names the task that made it. It returns "" for both when
// all is well.
func Damaged(ctx context.Context, store *artifacts.Store, entries map[string]artifacts.Entry) (task, why string, _ error) {
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		e := entries[name]
		var err error
		switch inline := len(e.Inline) > 0 || e.Size == 0; {
		case !inline:
			err = store.VerifyBlob(ctx, e.Digest, e.Size)
		case artifacts.Sum(e.Inline) != e.Digest:
			err = artifacts.ErrCorrupt
		}
		if why, err = gone(err); err != nil {
			return "", "", err
		}
		if why == "" {
			continue
		}
		_, task, _ = strings.Cut(e.By, "/") // By is "run/step[index]"
		return task, fmt.Sprintf("the content of artifact %q is %s", name, why), nil
	}
	return "", "", nil
}
