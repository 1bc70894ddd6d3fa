package flowtest_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

// TestLineageOfAResume has tasks that were taken over, items among them: they have parents and children in the new run, start from what
// they started from, and are no difference to the run that they are from.
func TestLineageOfAResume(t *testing.T) {
	t.Parallel()
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := trailFlow(way.fan)
			origin := flowtest.Run(t, f, flowtest.Options{Limits: &way.limits, Params: map[string]string{"items": "7", "break": "4"}})
			require.Equal(t, records.StatusFailed, origin.Status)
			run := flowtest.Resume(t, f, origin, flowtest.Options{Limits: &way.limits, Step: "fit", Params: map[string]string{"break": "-1"}})
			require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)

			up, down, reused := map[string]bool{}, map[string]bool{}, 0
			for _, task := range everyTask(t, run) {
				if task.Reused() {
					reused++
				}
				for _, parent := range names(t, task.Parents(t.Context())) {
					up[parent+" → "+task.Name()] = true
				}
				for _, child := range names(t, task.Children(t.Context())) {
					down[task.Name()+" → "+child] = true
				}
				spun, err := stepwell.Spin(t.Context(), f, task, stepwell.SpinOptions{})
				require.NoError(t, err, task.Name())
				spun.Close()
				require.Nil(t, spun.Failure, task.Name())
				if task.Record != nil {
					require.Empty(t, spun.Output(), task.Name())
				}
			}
			require.Equal(t, up, down)
			require.Greater(t, reused, 5)

			d, err := runs.Compare(t.Context(), origin, run, runs.CompareOptions{All: true})
			require.NoError(t, err)
			require.Equal(t, []string{"fit"}, steps(d)[:1])
			got := []string{}
			for r, err := range origin.Resumed(t.Context()) {
				require.NoError(t, err)
				got = append(got, r.Run.Run)
			}
			require.Equal(t, []string{run.Run.Run}, got)
		})
	}
}

// TestLineageOfItemsThatWereTakenOver resumes a foreach in its middle: a join has items of two runs.
func TestLineageOfItemsThatWereTakenOver(t *testing.T) {
	t.Parallel()
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mended atomic.Bool
			f := flow.New("Mended",
				flow.Step("start", visit("start")),
				flow.Foreach("grid", (*trail).items, (*trail).setItem,
					flow.Step("fit", func(ctx context.Context, s *trail) error {
						if mended.Load() {
							return visit("fit")(ctx, s)
						}
						return breakable(ctx, s)
					}),
				).With(way.fan).Join("best", gather),
			)
			origin := flowtest.Run(t, f, flowtest.Options{Limits: &way.limits, Params: map[string]string{"items": "7", "break": "4"}})
			require.Equal(t, records.StatusFailed, origin.Status)
			mended.Store(true)
			run := flowtest.Resume(t, f, origin, flowtest.Options{Limits: &way.limits})
			require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
			best, err := run.Task(t.Context(), "best")
			require.NoError(t, err)
			require.Len(t, names(t, best.Parents(t.Context())), 8, "the split and seven items")
			start, err := run.Task(t.Context(), "start")
			require.NoError(t, err)
			require.Len(t, names(t, start.Children(t.Context())), 8)
			for _, task := range everyTask(t, run) {
				spun, err := stepwell.Spin(t.Context(), f, task, stepwell.SpinOptions{})
				require.NoError(t, err, task.Name())
				spun.Close()
				require.Nil(t, spun.Failure, task.Name())
				require.Empty(t, spun.Output(), task.Name())
			}
			d, err := runs.Compare(t.Context(), origin, run, runs.CompareOptions{Tasks: -1})
			require.NoError(t, err)
			require.Equal(t, []string{"fit"}, steps(d))
			for _, task := range d.Steps[0].Tasks {
				if task.Task == "fit[4]" {
					require.True(t, task.Failed)
				}
			}
		})
	}
}
