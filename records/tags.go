package records

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/stepwell-flows/stepwell/artifacts"
)

// The limits of a run's tags.
const (
	// MaxTags is how many tags a run may have, those that it has by itself not counted.
	MaxTags = 50
	// MaxTagRunes is how many characters a tag may have.
	MaxTagRunes = 500
)

// ErrTags is what every error about tags that are not allowed matches.
var ErrTags = errors.New("tags are not allowed")

// tagError says what is wrong with tags, and is an ErrTags.
type tagError struct{ error }

func (e tagError) Is(target error) bool { return target == ErrTags }
func (e tagError) Unwrap() error        { return e.error }

func tagsf(format string, args ...any) error { return tagError{fmt.Errorf(format, args...)} }

// Tags is tags/<Flow>/<run>/<n>.json: all tags of a run after its n-th change, those that it has by itself left out. Of
// several that write the same number at once, one does, and the others start again from what it wrote. Numbers have no gaps and
// no document is ever changed or deleted, so the highest number is the run's tags.
type Tags struct {
	Version int      `json:"version"`
	Tags    []string `json:"tags"`
	// Started is when the run started: a run that was deleted leaves nothing to another one with its id.
	Started time.Time `json:"started"`
	// Changed is when the tags were changed.
	Changed time.Time `json:"changed"`
}

// FlowTagsPrefix is the folder of the changed tags of a flow's runs, with a folder for each run that has some.
// They are not in the runs' own folders so that one listing tells of thousands of runs which of them have any.
func FlowTagsPrefix(flowName string) string { return "tags/" + flowName + "/" }

// TagsPrefix is the folder of a run's changed tags.
func TagsPrefix(flowName, run string) string { return FlowTagsPrefix(flowName) + run + "/" }

// TagsKey is the key of a run's tags after their n-th change. Numbers are padded so that a person sees them in order.
func TagsKey(flowName, run string, n int) string {
	return TagsPrefix(flowName, run) + fmt.Sprintf("%05d.json", n)
}

// SystemTags are the tags that the run has by itself, from its document: "user:", "project:", "project_branch:" and "code:".
// Nobody can add or remove them.
func (r Run) SystemTags() []string {
	var tags []string
	for _, t := range [][2]string{{"user:", r.User}, {"project:", r.Project}, {"project_branch:", r.Branch}, {"code:", r.Code}} {
		if t[1] != "" {
			tags = append(tags, t[0]+t[1])
		}
	}
	return tags
}

// CheckTags refuses tags that no run may have, all of them in one [ErrTags]. How many there are it does not look at.
func CheckTags(tags []string) error {
	var errs []error
	for _, t := range tags {
		switch {
		case t == "":
			errs = append(errs, tagsf("tag %q is not allowed (use 1 to %d characters)", t, MaxTagRunes))
		case !utf8.ValidString(t):
			errs = append(errs, tagsf("tag %q is not allowed (use UTF-8)", t))
		case utf8.RuneCountInString(t) > MaxTagRunes:
			errs = append(errs, tagsf("tag %.40q… of %d characters is not allowed (use 1 to %d)", t, utf8.RuneCountInString(t), MaxTagRunes))
		case strings.ContainsAny(t, "\x00\n\r"):
			errs = append(errs, tagsf("tag %q is not allowed (use one line)", t))
		}
	}
	return errors.Join(errs...)
}

// UniqueTags returns tags in their order, each once.
func UniqueTags(tags []string) []string {
	var out []string
	for _, t := range tags {
		if !slices.Contains(out, t) {
			out = append(out, t)
		}
	}
	return out
}

// LoadTags reads the tags of a run as they are now, those that it has by itself left out.
func LoadTags(ctx context.Context, s *artifacts.Store, r Run) ([]string, error) {
	_, tags, err := lastTags(ctx, s, r)
	return tags, err
}

// lastTags also returns the number of the last change, 0 if there was none. A damaged document, as a power failure may leave it,
// is none: the one before it counts.
func lastTags(ctx context.Context, s *artifacts.Store, r Run) (last int, tags []string, err error) {
	var numbers []int
	for info, err := range s.List(ctx, TagsPrefix(r.Flow, r.Run)) {
		if err != nil {
			return 0, nil, err
		}
		name, isDoc := strings.CutSuffix(path.Base(info.Key), ".json")
		if n, err := strconv.Atoi(name); isDoc && err == nil && n > 0 {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	for _, n := range slices.Backward(numbers) {
		last = max(last, n)
		key := TagsKey(r.Flow, r.Run, n)
		b, err := s.GetDoc(ctx, key)
		var t Tags
		if err == nil {
			err = decode(s, key, b, &t, &t.Version)
		}
		switch {
		case errors.Is(err, artifacts.ErrCorrupt):
			continue
		case err != nil:
			return 0, nil, err
		case !t.Started.Equal(r.Started):
			return last, r.Tags, nil // of a run that is gone
		}
		return last, t.Tags, nil
	}
	return last, r.Tags, nil
}

// ChangeTags takes tags away from a run, adds others, and returns what it has then. It does all or nothing, also when others
// change the same run's tags at the same time: none of their changes is lost. A tag that is there already is not added again, also
// one that the run has by itself; one that is not there is not missed. To remove one that the run has by itself, or to have more
// than [MaxTags] and more than before, is an [ErrTags]. The run's document must be as [LoadRun] read it.
func ChangeTags(ctx context.Context, s *artifacts.Store, r Run, remove, add []string) ([]string, error) {
	system := r.SystemTags()
	err := CheckTags(add)
	for _, t := range remove {
		if slices.Contains(system, t) {
			err = errors.Join(err, tagsf("tag %q cannot be removed: run %s/%s has it by itself", t, r.Flow, r.Run))
		}
	}
	if err != nil {
		return nil, err
	}
	for {
		last, tags, err := lastTags(ctx, s, r)
		if err != nil {
			return nil, err
		}
		next := slices.DeleteFunc(slices.Clone(tags), func(t string) bool { return slices.Contains(remove, t) })
		for _, t := range add {
			if !slices.Contains(system, t) && !slices.Contains(next, t) {
				next = append(next, t)
			}
		}
		if len(next) > MaxTags && len(next) > len(tags) {
			return nil, tagsf("run %s/%s would have %d tags, at most %d are allowed (remove some first)", r.Flow, r.Run, len(next), MaxTags)
		}
		if slices.Equal(next, tags) {
			return tags, nil
		}
		t := Tags{Version: version, Tags: next, Started: r.Started, Changed: time.Now()}
		_, err = create(ctx, s, TagsKey(r.Flow, r.Run, last+1), t)
		if !errors.Is(err, artifacts.ErrExists) {
			return next, err
		}
		select { // somebody was faster
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(rand.N(10 * time.Millisecond)):
		}
	}
}
