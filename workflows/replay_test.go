package workflows_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"

	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/workflows"
)

// Every history that was ever saved replays: runs that are under way survive a new version of the interpreter. The test
// of package tests that saves them says which runs they are.
func TestSavedHistoriesReplay(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			t.Parallel()
			f, err := os.Open(file)
			require.NoError(t, err)
			defer f.Close()
			history, err := client.HistoryFromJSON(f, client.HistoryJSONOptions{})
			require.NoError(t, err)
			name := history.GetEvents()[0].GetWorkflowExecutionStartedEventAttributes().GetWorkflowType().GetName()
			r := worker.NewWorkflowReplayer()
			workflows.RegisterLimit(r)
			workflows.RegisterDependency(r)
			if name != activities.LimitType && name != activities.DependencyType {
				workflows.Register(r, strings.TrimSuffix(name, ".shard"))
			}
			require.NoError(t, r.ReplayWorkflowHistory(log.NewStructuredLogger(slog.New(slog.DiscardHandler)), history))
		})
	}
}
