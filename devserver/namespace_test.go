package devserver

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	persistencespb "go.temporal.io/server/api/persistence/v1"
	"go.temporal.io/server/common/persistence"
	"go.temporal.io/server/common/persistence/serialization"
	"go.temporal.io/server/common/persistence/sql/sqlplugin"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/workflows"
)

func serve(t *testing.T, dir string) client.Client {
	t.Helper()
	s, err := Start(t.Context(), stepwell.DevOptions{Dir: dir, Headless: true})
	require.NoError(t, err)
	t.Cleanup(s.Stop)
	c, err := client.DialContext(t.Context(), client.Options{HostPort: s.Address, Namespace: s.Namespace})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// A run can be started with the search attributes and found by them, without waiting for anything after the start.
func requireSearchable(t *testing.T, c client.Client) {
	t.Helper()
	run, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{
		TaskQueue: "nobody", TypedSearchAttributes: temporal.NewSearchAttributes(
			temporal.NewSearchAttributeKeyKeyword("StepwellUser").ValueSet("ann"),
			temporal.NewSearchAttributeKeyKeyword("StepwellOrigin").ValueSet("F/1"),
			temporal.NewSearchAttributeKeyKeyword("StepwellRun").ValueSet("F/2"),
			temporal.NewSearchAttributeKeyKeywordList("StepwellTags").ValueSet([]string{"red", "green"}),
		),
	}, "AnyFlow")
	require.NoError(t, err)
	for _, query := range []string{
		"StepwellUser = 'ann'", "StepwellOrigin = 'F/1'", "StepwellRun = 'F/2'", "StepwellTags = 'green'", "StepwellTags IN ('red')",
		"StepwellUser = 'ann' AND StepwellTags = 'red' AND WorkflowType = 'AnyFlow'",
	} {
		var found []*commonpb.WorkflowExecution
		require.Eventually(t, func() bool {
			list, err := c.ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{Query: query})
			require.NoError(t, err, query)
			found = nil
			for _, e := range list.GetExecutions() {
				found = append(found, e.GetExecution())
			}
			return len(found) == 1
		}, time.Minute, 10*time.Millisecond, query)
		require.Equal(t, run.GetID(), found[0].GetWorkflowId())
	}
	none, err := c.ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{Query: "StepwellTags = 'blue'"})
	require.NoError(t, err)
	require.Empty(t, none.GetExecutions())
}

func retentionOf(t *testing.T, c client.Client) time.Duration {
	t.Helper()
	d, err := c.WorkflowService().DescribeNamespace(t.Context(), &workflowservice.DescribeNamespaceRequest{Namespace: namespace})
	require.NoError(t, err)
	return d.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration()
}

func TestNamespace(t *testing.T) {
	t.Parallel()
	c := serve(t, t.TempDir())
	requireSearchable(t, c)
	require.Equal(t, retention, retentionOf(t, c))
	list, err := c.OperatorService().ListSearchAttributes(t.Context(), &operatorservice.ListSearchAttributesRequest{Namespace: namespace})
	require.NoError(t, err)
	want := map[string]enumspb.IndexedValueType{}
	for _, a := range workflows.SearchAttributes() {
		want[a.GetName()] = a.GetValueType()
	}
	require.Equal(t, want, list.GetCustomAttributes())
}

// changeNamespace edits the namespace of a directory that no server runs on.
func changeNamespace(t *testing.T, dir string, change func(*persistencespb.NamespaceConfig)) {
	t.Helper()
	db, _, err := openDatabase(t.Context(), dir)
	require.NoError(t, err)
	plugin, err := db.plugin()
	require.NoError(t, err)
	name := namespace
	rows, err := plugin.SelectFromNamespace(t.Context(), sqlplugin.NamespaceFilter{Name: &name})
	require.NoError(t, err)
	require.Len(t, rows, 1)
	detail, err := serialization.NewSerializer().NamespaceDetailFromBlob(persistence.NewDataBlob(rows[0].Data, rows[0].DataEncoding))
	require.NoError(t, err)
	change(detail.Config)
	blob, err := serialization.NewSerializer().NamespaceDetailToBlob(detail)
	require.NoError(t, err)
	rows[0].Data = blob.GetData()
	_, err = plugin.UpdateNamespace(t.Context(), &rows[0])
	require.NoError(t, err)
}

// A directory of an older Stepwell gets what it lacks, and keeps what its user added.
func TestOldNamespace(t *testing.T) {
	t.Parallel()
	dir := made(t)
	changeNamespace(t, dir, func(c *persistencespb.NamespaceConfig) {
		c.Retention = durationpb.New(24 * time.Hour)
		c.CustomSearchAttributeAliases = map[string]string{"Keyword01": "Mine", "Keyword03": "StepwellUser"}
	})
	c := serve(t, dir)
	require.Equal(t, retention, retentionOf(t, c))
	requireSearchable(t, c)
	list, err := c.OperatorService().ListSearchAttributes(t.Context(), &operatorservice.ListSearchAttributesRequest{Namespace: namespace})
	require.NoError(t, err)
	require.Len(t, list.GetCustomAttributes(), len(workflows.SearchAttributes())+1)
	require.Contains(t, list.GetCustomAttributes(), "Mine")
}

func TestSearchAttributesTakeFreeColumns(t *testing.T) {
	t.Parallel()
	c := &persistencespb.NamespaceConfig{CustomSearchAttributeAliases: map[string]string{"Keyword01": "Mine"}}
	changed, err := addSearchAttributes(c)
	require.NoError(t, err)
	require.True(t, changed)
	require.Equal(t, "Mine", c.CustomSearchAttributeAliases["Keyword01"])
	changed, err = addSearchAttributes(c)
	require.NoError(t, err)
	require.False(t, changed)

	full := &persistencespb.NamespaceConfig{CustomSearchAttributeAliases: make(map[string]string)}
	for _, column := range []string{"KeywordList01", "KeywordList02", "KeywordList03"} {
		full.CustomSearchAttributeAliases[column] = "My" + column
	}
	_, err = addSearchAttributes(full)
	require.ErrorContains(t, err, `no free column for search attribute "StepwellTags" (remove one of type KeywordList that you added)`)
}
