package flowtest_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

type listing struct{ Item, Sum int }

// listingFlow goes through 2,500 items, whose list has three chunks, and fails at one of them.
func listingFlow(fails *error) *flow.Flow {
	items := func(*listing) []int {
		items := make([]int, 2500)
		for i := range items {
			items[i] = i
		}
		return items
	}
	return flow.New("ListingFlow",
		flow.Step("start", func(context.Context, *listing) error { return nil }),
		flow.Foreach("rows", items, func(s *listing, i int) { s.Item = i },
			flow.Step("row", func(_ context.Context, s *listing) error {
				if s.Item == 1700 {
					return *fails
				}
				return nil
			}),
		).With(flow.Fan{Batch: 100, OnFailure: flow.FinishAll}).Join("sum", func(_ context.Context, s *listing, in flow.Inputs[listing]) error {
			for _, row := range in.All() {
				s.Sum += row.Item
			}
			return nil
		}),
	)
}

// A list of items that is gone or damaged is made again by the step that made it, and the items, which may be others, run again.
func TestResumeWithoutTheListOfItems(t *testing.T) {
	t.Parallel()
	remove := func(t *testing.T, path string) { t.Helper(); require.NoError(t, os.Remove(path)) }
	for name, test := range map[string]struct {
		damage func(t *testing.T, path string)
		chunk  bool
		failed error
		why    string
	}{
		"gone": {damage: remove, failed: flow.Fail("broken"), why: `the list of items of foreach "rows" is gone`},
		"damaged": {failed: flow.Fail("broken"), why: `the list of items of foreach "rows" is damaged`, damage: func(t *testing.T, path string) {
			t.Helper()
			require.NoError(t, os.Truncate(path, 20))
		}},
		"some of it is gone": {damage: remove, chunk: true, why: `the list of items of foreach "rows" is gone`,
			failed: &policies.Failure{Class: policies.Permanent, Type: activities.InputErrorType, Message: "gone"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			store, err := artifacts.Open(t.Context(), dir, artifacts.Options{})
			require.NoError(t, err)
			fails := test.failed
			f := listingFlow(&fails)
			origin := flowtest.Run(t, f, flowtest.Options{Store: store})
			require.Equal(t, records.StatusFailed, origin.Status)
			start, err := origin.Task(t.Context(), "start")
			require.NoError(t, err)
			digest := start.Record.Ahead["rows"].Items.Digest
			if test.chunk {
				list, err := store.GetBlob(t.Context(), digest)
				require.NoError(t, err)
				digest, err = artifacts.ParseDigest(strings.Fields(strings.Split(string(list), "\n")[2])[1])
				require.NoError(t, err)
			}
			hex := strings.TrimPrefix(digest.String(), "sha256:")
			test.damage(t, filepath.Join(dir, "blobs", "sha256", hex[:2], hex))

			fails = nil
			require.Equal(t, []string{"run start: " + test.why, `run row: follows "start"`, `run sum: follows "start"`}, planned(t, f, origin))
			run := flowtest.Resume(t, f, origin, flowtest.Options{})
			require.Equal(t, records.StatusCompleted, run.Status)
			row, err := run.Step(t.Context(), "row")
			require.NoError(t, err)
			require.Equal(t, 2500, row.Completed)
			require.NoError(t, flow.CheckItems(t.Context(), store, *start.Record.Ahead["rows"].Items, true), "it is there again")
		})
	}
}
