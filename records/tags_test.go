package records_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/records"
)

// tagged is a store with the document of a run in it.
func tagged(t *testing.T) (*artifacts.Store, records.Run) {
	t.Helper()
	s, err := artifacts.Open(t.Context(), t.TempDir(), artifacts.Options{})
	require.NoError(t, err)
	r := records.Run{
		Flow: "F", Run: "r1", Root: "r1", Tags: []string{"nightly"}, User: "ada", Project: "fraud", Branch: "prod", Code: "4f1c2aa",
		Started: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC),
	}
	require.NoError(t, records.CreateRun(t.Context(), s, r))
	return s, r
}

func TestTagsChange(t *testing.T) {
	t.Parallel()
	s, r := tagged(t)
	for _, test := range []struct {
		name        string
		remove, add []string
		want        []string
		say         string
	}{
		{"none", nil, nil, []string{"nightly"}, ""},
		{"add", nil, []string{"gpu", "gpu", "nightly"}, []string{"nightly", "gpu"}, ""},
		{"add one that the run has by itself", nil, []string{"user:ada", "project_branch:prod"}, []string{"nightly", "gpu"}, ""},
		{"remove one that is not there", []string{"cpu"}, nil, []string{"nightly", "gpu"}, ""},
		{"replace is remove, then add", []string{"nightly", "gpu"}, []string{"gpu", "weekly"}, []string{"gpu", "weekly"}, ""},
		{"a tag of the run's own stays, and nothing else changes", []string{"gpu", "user:ada"}, []string{"x"}, nil, `tag "user:ada" cannot be removed: run F/r1 has it by itself`},
		{"one bad tag keeps all out", nil, []string{"good", "", "two\nlines", "\xff", strings.Repeat("ä", 501)}, nil, "of 501 characters is not allowed"},
		{"500 characters are fine", []string{"weekly"}, []string{strings.Repeat("ä", 500)}, []string{"gpu", strings.Repeat("ä", 500)}, ""},
		{"remove all", []string{"gpu", strings.Repeat("ä", 500)}, nil, nil, ""},
	} {
		before, err := records.LoadTags(t.Context(), s, r)
		require.NoError(t, err)
		got, err := records.ChangeTags(t.Context(), s, r, test.remove, test.add)
		after, loadErr := records.LoadTags(t.Context(), s, r)
		require.NoError(t, loadErr)
		if test.say != "" {
			require.ErrorIs(t, err, records.ErrTags, test.name)
			require.ErrorContains(t, err, test.say, test.name)
			require.Equal(t, before, after, test.name)
			continue
		}
		require.NoError(t, err, test.name)
		require.ElementsMatch(t, test.want, got, test.name)
		require.ElementsMatch(t, test.want, after, test.name)
	}
}

func TestTagsHaveALimit(t *testing.T) {
	t.Parallel()
	s, r := tagged(t)
	var many []string
	for i := range records.MaxTags {
		many = append(many, fmt.Sprint("tag-", i))
	}
	_, err := records.ChangeTags(t.Context(), s, r, nil, many)
	require.ErrorIs(t, err, records.ErrTags)
	require.ErrorContains(t, err, "would have 51 tags, at most 50")
	tags, err := records.ChangeTags(t.Context(), s, r, []string{"nightly"}, many)
	require.NoError(t, err)
	require.Equal(t, many, tags)

	// A run that had more before may get fewer.
	r.Run, r.Root, r.Tags = "r2", "r2", append(many, "a", "b", "c")
	require.NoError(t, records.CreateRun(t.Context(), s, r))
	tags, err = records.ChangeTags(t.Context(), s, r, []string{"a"}, nil)
	require.NoError(t, err)
	require.Len(t, tags, 52)
	_, err = records.ChangeTags(t.Context(), s, r, []string{"b"}, []string{"d", "e"})
	require.ErrorIs(t, err, records.ErrTags)
}

func TestNoConcurrentChangeOfTagsIsLost(t *testing.T) {
	t.Parallel()
	s, r := tagged(t)
	const writers = 16
	var wait sync.WaitGroup
	errs := make([]error, writers)
	for i := range writers {
		wait.Go(func() {
			mine := fmt.Sprint("w", i)
			_, err := records.ChangeTags(t.Context(), s, r, nil, []string{mine, mine + "-temporary"})
			if err == nil {
				_, err = records.ChangeTags(t.Context(), s, r, []string{mine + "-temporary"}, nil)
			}
			errs[i] = err
		})
	}
	wait.Wait()
	want := []string{"nightly"}
	for i, err := range errs {
		require.NoError(t, err)
		want = append(want, fmt.Sprint("w", i))
	}
	got, err := records.LoadTags(t.Context(), s, r)
	require.NoError(t, err)
	require.ElementsMatch(t, want, got)
}

func TestTagsOfDamagedDocumentsAndDeletedRuns(t *testing.T) {
	t.Parallel()
	s, r := tagged(t)
	for _, tag := range []string{"a", "b"} {
		_, err := records.ChangeTags(t.Context(), s, r, nil, []string{tag})
		require.NoError(t, err)
	}
	require.NoError(t, s.PutDoc(t.Context(), records.TagsKey("F", "r1", 2), []byte(`{"vers`)))
	require.NoError(t, s.PutDoc(t.Context(), records.TagsPrefix("F", "r1")+"note.txt", nil))
	got, err := records.LoadTags(t.Context(), s, r)
	require.NoError(t, err)
	require.Equal(t, []string{"nightly", "a"}, got, "the last whole document counts")
	got, err = records.ChangeTags(t.Context(), s, r, nil, []string{"c"})
	require.NoError(t, err)
	require.Equal(t, []string{"nightly", "a", "c"}, got)

	// Another run with the id of one whose folder was deleted.
	next := r
	next.Started = r.Started.Add(time.Hour)
	got, err = records.LoadTags(t.Context(), s, next)
	require.NoError(t, err)
	require.Equal(t, []string{"nightly"}, got)
	_, err = records.ChangeTags(t.Context(), s, next, []string{"nightly"}, nil)
	require.NoError(t, err)
	got, err = records.LoadTags(t.Context(), s, next)
	require.NoError(t, err)
	require.Empty(t, got)

	require.NoError(t, s.PutDoc(t.Context(), records.TagsKey("F", "r1", 99), []byte(`{"version":2,"tags":{}}`)))
	_, err = records.LoadTags(t.Context(), s, r)
	require.ErrorIs(t, err, records.ErrNewer)
}
