package flowtest_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

// What an older program has exported runs on: the directory is not to be written anew.
func TestReproFit1(t *testing.T) {
	got := flowtest.Repro(t, trailFlow(flow.Fan{}), "testdata/repro_trail_fit_1", flowtest.Options{})
	got.RequireFailure(t, "Permanent", "item 1 is broken")
	// got.RequireSuccess(t)
}

// TestEveryTaskCanBeExported exports the tasks of a run, deletes the run and runs them.
func TestEveryTaskCanBeExported(t *testing.T) {
	t.Parallel()
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			store, err := artifacts.Open(t.Context(), filepath.Join(dir, "store"), artifacts.Options{})
			require.NoError(t, err)
			f := trailFlow(way.fan)
			run := flowtest.Run(t, f, flowtest.Options{Store: store, Limits: &way.limits})
			require.Equal(t, records.StatusCompleted, run.Status, "%+v", run.Failure)
			sets := map[string]map[string]string{}
			for _, name := range []string{"start", "left", "merge", "even_one[1]", "fit[2]", "best", "closed", "end"} {
				task, err := run.Task(t.Context(), name)
				require.NoError(t, err)
				e, err := stepwell.ExportTask(t.Context(), f, task, filepath.Join(dir, name), stepwell.ExportOptions{})
				require.NoError(t, err, name)
				require.Equal(t, runs.Completed, e.State)
				if task.Record == nil {
					continue // the first step of an item of a batch
				}
				sets[name] = map[string]string{}
				for artifact, digest := range e.Changed {
					sets[name][artifact] = digest.String()
				}
			}
			require.NoError(t, os.RemoveAll(filepath.Join(dir, "store")))
			for name, set := range sets {
				flowtest.Repro(t, f, filepath.Join(dir, name), flowtest.Options{}).RequireSet(t, set)
			}
		})
	}
}

// bulky is a state with every kind of artifact.
type bulky struct {
	Token string `param:"api_token"`

	Numbers []float64
	Lazy    artifacts.Ref[[]string]
	File    artifacts.File
	Sum     float64
}

func bulkyFlow(dir string) *flow.Flow {
	return flow.New("Bulky",
		flow.Step("make", func(_ context.Context, s *bulky) error {
			s.Numbers = make([]float64, 5000)
			for i := range s.Numbers {
				s.Numbers[i] = float64(i)
			}
			s.Lazy.Set([]string{strings.Repeat("lazy", 2000)})
			path := filepath.Join(dir, "file.txt")
			s.File.SetPath(path)
			return os.WriteFile(path, []byte(strings.Repeat("line\n", 3000)), 0o600)
		}),
		flow.Step("use", func(ctx context.Context, s *bulky) error {
			words, err := s.Lazy.Load(ctx)
			if err != nil {
				return err
			}
			if err := s.File.Save(ctx, filepath.Join(dir, "copy.txt")); err != nil {
				return err
			}
			s.Sum = s.Numbers[4999] + float64(len(words[0])) + float64(s.File.Size())
			if flow.Current(ctx).Attempt < 2 {
				return flow.Transient(os.ErrDeadlineExceeded)
			}
			return flow.Fail("sum %.0f of attempt %d after %v", s.Sum, flow.Current(ctx).Attempt, flow.Current(ctx).Previous.Class)
		}, policies.Retry{MaximumAttempts: 3, InitialInterval: time.Second}),
	)
}

func TestExportHoldsAllThatTheStepReads(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := bulkyFlow(dir)
	run := flowtest.Run(t, f, flowtest.Options{})
	require.Equal(t, records.StatusFailed, run.Status)
	task, err := run.Task(t.Context(), "use")
	require.NoError(t, err)

	_, err = stepwell.ExportTask(t.Context(), f, task, filepath.Join(dir, "small"), stepwell.ExportOptions{MaxBytes: 1000})
	require.ErrorIs(t, err, stepwell.ErrInput)
	require.ErrorContains(t, err, "--max-bytes")
	require.NoDirExists(t, filepath.Join(dir, "small"))

	at := filepath.Join(dir, "use")
	e, err := stepwell.ExportTask(t.Context(), f, task, at, stepwell.ExportOptions{})
	require.NoError(t, err)
	require.Greater(t, e.Bytes, int64(60_000))
	require.Equal(t, 2, e.Attempt, "the attempt that failed last")
	flowtest.Repro(t, f, at, flowtest.Options{}).RequireFailure(t, e.Failure.Class, e.Failure.Message)

	_, err = stepwell.ExportTask(t.Context(), f, task, at, stepwell.ExportOptions{})
	require.ErrorIs(t, err, stepwell.ErrInput, "nothing is overwritten")
}

func TestExportRefusesSecrets(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := bulkyFlow(dir)
	run := flowtest.Run(t, f, flowtest.Options{Params: map[string]string{"api_token": "s3cr3t-value"}})
	task, err := run.Task(t.Context(), "use")
	require.NoError(t, err)
	_, err = stepwell.ExportTask(t.Context(), f, task, filepath.Join(dir, "no"), stepwell.ExportOptions{})
	require.ErrorIs(t, err, stepwell.ErrInput)
	require.ErrorContains(t, err, "api_token")
	require.NotContains(t, err.Error(), "s3cr3t")
	require.NoDirExists(t, filepath.Join(dir, "no"))
	e, err := stepwell.ExportTask(t.Context(), f, task, filepath.Join(dir, "yes"), stepwell.ExportOptions{Secrets: true})
	require.NoError(t, err)
	require.Equal(t, []string{"api_token"}, e.Secrets)
}

func TestSpinKeepsWhatItMakesInAStoreOfItsOwn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := bulkyFlow(dir)
	run := flowtest.Run(t, f, flowtest.Options{})
	before := documents(t, run.Store())
	task, err := run.Task(t.Context(), "make")
	require.NoError(t, err)
	own, err := artifacts.Open(t.Context(), filepath.Join(dir, "own"), artifacts.Options{})
	require.NoError(t, err)
	for range 2 { // the second takes the place of the first
		spun, err := stepwell.Spin(t.Context(), f, task, stepwell.SpinOptions{Persist: own})
		require.NoError(t, err)
		spun.Close()
		require.Nil(t, spun.Failure)
	}
	kept, err := runs.New(own, nil).Run(t.Context(), f.Name(), run.Run.Run)
	require.NoError(t, err)
	again, err := kept.Task(t.Context(), "make")
	require.NoError(t, err)
	numbers, err := runs.Load[[]float64](t.Context(), again, "Numbers")
	require.NoError(t, err)
	require.Len(t, numbers, 5000)
	require.Equal(t, before, documents(t, run.Store()), "the run is as it was")
}

// documents lists all that is in a store, with its size.
func documents(t *testing.T, s *artifacts.Store) map[string]int64 {
	t.Helper()
	all := map[string]int64{}
	for info, err := range s.List(t.Context(), "") {
		require.NoError(t, err)
		all[info.Key] = info.Size
	}
	return all
}

func TestSpinEndsAfterTheAttemptsTimeout(t *testing.T) {
	t.Parallel()
	slow := false
	f := flow.New("Slow", flow.Step("wait", func(ctx context.Context, _ *trail) error {
		if slow {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}, policies.Timeout{Attempt: 50 * time.Millisecond}))
	run := flowtest.Run(t, f, flowtest.Options{})
	task, err := run.Task(t.Context(), "wait")
	require.NoError(t, err)
	slow = true
	spun, err := stepwell.Spin(t.Context(), f, task, stepwell.SpinOptions{})
	require.NoError(t, err)
	defer spun.Close()
	require.NotNil(t, spun.Failure)
	require.Equal(t, policies.TimedOut, spun.Failure.Class)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = stepwell.Spin(ctx, f, task, stepwell.SpinOptions{})
	require.ErrorIs(t, err, context.Canceled)
}

func TestExportedTaskOfAnotherVersionIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, err := json.Marshal(stepwell.Exported{Version: 99})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "task.json"), b, 0o600))
	_, err = stepwell.SpinExported(t.Context(), trailFlow(flow.Fan{}), dir, stepwell.SpinOptions{})
	require.ErrorIs(t, err, stepwell.ErrInput)
	require.ErrorContains(t, err, "upgrade")
	_, err = stepwell.OpenExported(filepath.Join(dir, "nowhere"))
	require.ErrorIs(t, err, stepwell.ErrInput)
}
