package tests

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
)

type parchment struct {
	Item int
	Text string
	Read []string
}

// Content that is gone is no failure of an item that may be tolerated: else a resumed run would leave out in silence what is done.
func TestGoneContentIsNotTolerated(t *testing.T) {
	t.Parallel()
	ready := filepath.Join(t.TempDir(), "ready")
	f := flow.New("ParchmentFlow",
		flow.Foreach("pages", func(*parchment) []int { return []int{0, 1, 2, 3} }, func(s *parchment, i int) { s.Item = i },
			flow.Step("write", func(_ context.Context, s *parchment) error {
				s.Text = strings.Repeat(string(rune('a'+s.Item)), 3000) // too long for the record
				return nil
			}),
			flow.Step("read", func(_ context.Context, s *parchment) error {
				if _, err := os.Stat(ready); err != nil {
					return flow.Fail("not ready")
				}
				return nil
			}),
		).With(flow.Fan{Tolerate: flow.Count(1)}).Join("all", func(_ context.Context, s *parchment, in flow.Inputs[parchment]) error {
			for _, one := range in.All() {
				s.Read = append(s.Read, one.Text[:1])
			}
			return nil
		}),
	)
	dir := t.TempDir()
	r := newRig(t, dir, f)
	run := r.run(f, nil)
	require.Equal(t, records.StatusFailed, run.Status)
	require.NoError(t, os.WriteFile(ready, nil, 0o600))
	task, err := run.Task(t.Context(), "write[2]")
	require.NoError(t, err)
	e, err := task.Artifact("Text")
	require.NoError(t, err)
	hex := strings.TrimPrefix(e.Digest.String(), "sha256:")
	require.NoError(t, os.Remove(filepath.Join(dir, "blobs", "sha256", hex[:2], hex)))
	r.restart(f) // with an empty cache

	run, _ = r.resume(f, stepwell.ResumeOptions{})
	replay(t, "gone", r.history(run))
	require.Equal(t, records.StatusFailed, run.Status)
	require.Equal(t, activities.InputErrorType, run.Failure.Type)
	require.Equal(t, "read[2]", run.Failure.Task)
	run, _ = r.resume(f, stepwell.ResumeOptions{})
	require.Equal(t, records.StatusCompleted, run.Status)
	require.Equal(t, []string{"a", "b", "c", "d"}, lastState[parchment](t, run, f).Read)
}
