package report_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/report"
)

// links leads everywhere.
func links(p report.Place) string {
	parts := []string{"", p.Flow, p.Run, p.Task, p.Step, p.Foreach, p.Artifact, p.Card}
	if p.Logs {
		parts = append(parts, "logs")
	}
	return strings.Join(parts, "/")
}

func TestRunTellsWhatFailedFirstAndWhatCameOfIt(t *testing.T) {
	t.Parallel()
	l := newLab(t, grid(flow.Fan{}))
	l.failed("r1", 40)
	page := l.runPage("r1", report.Options{})
	require.Contains(t, page, "item 7 has no rows")
	require.Contains(t, page, "best: never started")
	require.Contains(t, page, "starter resume GridFlow/r1")
}

func TestForeachShowsEachItemAndWhySomeFailed(t *testing.T) {
	t.Parallel()
	l := newLab(t, grid(flow.Fan{}))
	l.failed("r1", 40)
	page := l.foreachPage("r1", "grid", report.Options{Link: links})
	require.Contains(t, page, "item 7 has no rows")
}

func TestTaskHasADefaultCardAlthoughItsStepAskedForNone(t *testing.T) {
	t.Parallel()
	l := newLab(t, grid(flow.Fan{}))
	l.failed("r1", 40)
	page := l.taskPage("r1", "merge", report.Options{})
	require.Contains(t, page, "merge")
	page = l.taskPage("r1", "load", report.Options{Link: links})
	require.Contains(t, page, "store: 429 too many requests")
}
