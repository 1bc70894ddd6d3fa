package runs_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/artifacts/driver"
	"github.com/stepwell-flows/stepwell/artifacts/mem"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

func TestTagsAreReadAndChanged(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start(t, "r1", noon, func(r *records.Run) { r.Tags, r.User = []string{"nightly"}, "ada" })
	run := l.run(t, "r1")
	require.Equal(t, []string{"nightly"}, run.Tags)
	require.NoError(t, run.AddTags(t.Context(), "gpu"))
	require.NoError(t, l.run(t, "r1").ReplaceTags(t.Context(), []string{"nightly"}, []string{"weekly"}))
	require.NoError(t, run.AddTags(t.Context(), "late"), "from what it has now, not from what was read")
	require.Equal(t, []string{"gpu", "weekly", "late"}, run.Tags)
	require.NoError(t, run.RemoveTags(t.Context(), "gpu", "weekly", "late"))
	require.Empty(t, l.run(t, "r1").Tags)
	require.Equal(t, []string{"user:ada"}, l.run(t, "r1").AllTags())
	require.True(t, run.HasTag("user:ada"))
	require.ErrorIs(t, run.RemoveTags(t.Context(), "user:ada"), runs.ErrTags)
}

func TestFilter(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	add := func(id string, minutes int, change func(*records.Run)) {
		l.start(t, id, noon.Add(time.Duration(minutes)*time.Minute), change)
	}
	add("one", 0, func(r *records.Run) { r.User, r.Tags = "ada", []string{"nightly"} })
	add("two", 1, func(r *records.Run) { r.User, r.Project, r.Branch = "bob", "fraud", "prod" })
	add("three", 2, func(r *records.Run) { r.User, r.Project, r.Branch = "ada", "fraud", "test.x" })
	four := runs.NewID(noon.Add(3 * time.Minute)) // tells its time without being read
	add(four, 3, func(r *records.Run) { r.User = "ada" })
	l.end(t, "two", records.End{Status: records.StatusCompleted, Ended: noon.Add(time.Hour)})
	require.NoError(t, l.run(t, "two").AddTags(t.Context(), "nightly", "gpu"))
	for _, test := range []struct {
		name   string
		filter runs.Filter
		want   string
	}{
		{"all", runs.Filter{}, "four three two one"},
		{"a tag, given at the start or later", runs.Filter{Tags: []string{"nightly"}}, "two one"},
		{"all of several tags", runs.Filter{Tags: []string{"nightly", "gpu"}}, "two"},
		{"a tag that a run has by itself", runs.Filter{Tags: []string{"user:ada"}}, "four three one"},
		{"user", runs.Filter{User: "bob"}, "two"},
		{"project", runs.Filter{Project: "fraud"}, "three two"},
		{"branch", runs.Filter{Branch: "test.x"}, "three"},
		{"status", runs.Filter{Statuses: []records.Status{records.StatusCompleted, records.StatusFailed}}, "two"},
		{"since", runs.Filter{Since: noon.Add(time.Minute)}, "four three two"},
		{"until", runs.Filter{Until: noon.Add(time.Minute)}, "two one"},
		{"between", runs.Filter{Since: noon.Add(time.Minute), Until: noon.Add(2 * time.Minute), User: "ada"}, "three"},
		{"none", runs.Filter{User: "eve"}, ""},
	} {
		var got []string
		for run, err := range l.reader.Select(t.Context(), "Train", test.filter) {
			require.NoError(t, err)
			require.True(t, test.filter.Match(run))
			got = append(got, strings.Replace(run.Run.Run, four, "four", 1))
		}
		require.Equal(t, test.want, strings.Join(got, " "), test.name)
	}
}

// counting counts the objects that are read.
type counting struct {
	driver.Driver
	gets atomic.Int64
}

func (c *counting) Get(ctx context.Context, key string, offset int64) (io.ReadCloser, error) {
	c.gets.Add(1)
	return c.Driver.Get(ctx, key, offset)
}

func TestListsReadOnlyWhatTheyNeed(t *testing.T) {
	t.Parallel()
	c := &counting{Driver: mem.New()}
	store := artifacts.New(c, artifacts.Options{})
	l := lab{store, runs.New(store, nil)}
	for i := range 200 {
		started := noon.Add(time.Duration(i) * time.Minute)
		id := runs.NewID(started)
		l.start(t, id, started, func(r *records.Run) { r.User = fmt.Sprint("u", i%100) })
		l.end(t, id, records.End{Status: records.StatusCompleted, Ended: started})
	}
	read := func(take int, f runs.Filter) (taken, gets int) {
		c.gets.Store(0)
		for _, err := range l.reader.Select(t.Context(), "Train", f) {
			require.NoError(t, err)
			if taken++; taken == take {
				break
			}
		}
		return taken, int(c.gets.Load())
	}
	taken, gets := read(1, runs.Filter{})
	require.Equal(t, 1, taken)
	require.Equal(t, 2, gets, "run.json and end.json of the newest run")
	taken, gets = read(20, runs.Filter{})
	require.Equal(t, 20, taken)
	require.LessOrEqual(t, gets, 2*31, "1, 2, 4, 8 and 16 runs")
	taken, gets = read(0, runs.Filter{})
	require.Equal(t, 200, taken)
	require.Equal(t, 400, gets, "no tags were changed, so none are read")
	taken, gets = read(0, runs.Filter{User: "u7"})
	require.Equal(t, 2, taken)
	require.Equal(t, 202, gets, "how a run ended is read only when the rest fits")
	taken, gets = read(0, runs.Filter{Since: noon.Add(195 * time.Minute)})
	require.Equal(t, 5, taken)
	require.LessOrEqual(t, gets, 100, "old ids are not read at all")
}

// tagServed tags the runs of production that completed.
func tagServed(ctx context.Context, reader *runs.Reader) error {
	production := runs.Filter{Project: "fraud", Branch: "prod", Statuses: []records.Status{records.StatusCompleted}}
	for run, err := range reader.Select(ctx, "ScoreFlow", production) { // newest first
		if err != nil {
			return err
		}
		if err := run.AddTags(ctx, "served"); err != nil {
			return err
		}
	}
	return nil
}

func TestTheRunsThatFitAreTagged(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for i, branch := range []string{"prod", "prod", "test.x", "prod"} {
		r := records.Run{
			Flow: "ScoreFlow", Run: fmt.Sprint("r", i), Plan: train.Plan(), Started: noon.Add(time.Duration(i) * time.Hour), Project: "fraud", Branch: branch,
		}
		require.NoError(t, records.CreateRun(t.Context(), l.store, r))
		if i < 3 {
			require.NoError(t, records.CreateEnd(t.Context(), l.store, r.Flow, r.Run, records.End{Status: records.StatusCompleted, Ended: r.Started}))
		}
	}
	require.NoError(t, tagServed(t.Context(), l.reader))
	for id, want := range map[string]bool{"r0": true, "r1": true, "r2": false, "r3": false} {
		run, err := l.reader.Run(t.Context(), "ScoreFlow", id)
		require.NoError(t, err)
		require.Equal(t, want, run.HasTag("served"), id)
	}
}
