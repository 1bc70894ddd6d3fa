package devserver

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/server/common/dynamicconfig"
	"gopkg.in/yaml.v3"
)

// The server ignores an unknown key, and takes its default instead of a value of a wrong type. Its reader of files
// checks both.
func TestSettings(t *testing.T) {
	t.Parallel()
	type constrained struct {
		Value any `yaml:"value"`
	}
	file := make(map[string][]constrained)
	for _, s := range settings() {
		require.NotEmpty(t, s.reason, s.key)
		require.NotContains(t, file, s.key.String(), "set twice")
		file[s.key.String()] = []constrained{{s.value}}
	}
	contents, err := yaml.Marshal(file)
	require.NoError(t, err)
	loaded := dynamicconfig.LoadYamlFile(contents)
	require.Empty(t, loaded.Errors)
	require.Empty(t, loaded.Warnings)
	require.Len(t, loaded.Map, len(settings()))
	require.Len(t, dynamicConfig(), len(settings()))

	// The reader does find mistakes.
	bad := dynamicconfig.LoadYamlFile([]byte("frontend.rsp: [{value: 1}]\nfrontend.rps: [{value: [1]}]"))
	require.Len(t, bad.Warnings, 2)
}

// What the server reads is what the table says, where a reader of another type would fall back to the default.
func TestSettingsAreRead(t *testing.T) {
	t.Parallel()
	var log logBuffer
	c := dynamicconfig.NewCollection(dynamicConfig(), newLogger(log.logger()))
	require.Equal(t, plenty, dynamicconfig.TransferProcessorMaxPollRPS.Get(c)())
	require.Equal(t, plenty, dynamicconfig.FrontendRPS.Get(c)())
	require.Equal(t, 1, dynamicconfig.MatchingNumTaskqueueReadPartitions.Get(c)("any", "any", 0))
	require.Zero(t, dynamicconfig.WorkflowIdReuseMinimalInterval.Get(c)("any"))
	require.InDelta(t, 1_000, dynamicconfig.SchedulerNamespaceStartWorkflowRPS.Get(c)("any"), 0)
	require.False(t, dynamicconfig.EnableServerVersionCheck.Get(c)())
	require.Empty(t, log.String())
}

func TestSilence(t *testing.T) {
	t.Parallel()
	var log logBuffer
	l := newLogger(log.logger())
	child := l.With()
	child.Info("too little")
	for message := range benign {
		child.Warn(message)
	}
	require.Empty(t, log.String())
	child.Warn("while it runs")
	require.Contains(t, log.String(), "while it runs")
	l.silence()
	child.Error("while it stops")
	require.NotContains(t, log.String(), "while it stops")

	another := newLogger(slog.New(slog.NewTextHandler(&log, nil)))
	another.Warn("of the next server")
	require.Contains(t, log.String(), "of the next server")
}
