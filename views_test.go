package stepwell

import (
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

func TestFilterQuery(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		filter runs.Filter
		want   string
	}{
		{runs.Filter{}, "WorkflowType = 'TrainFlow'"},
		{runs.Filter{Statuses: []records.Status{records.StatusRunning, records.StatusFailed}}, "WorkflowType = 'TrainFlow' AND ExecutionStatus IN ('Running', 'Failed', 'Terminated', 'TimedOut')"},
		{runs.Filter{Statuses: []records.Status{records.StatusCancelled}}, "WorkflowType = 'TrainFlow' AND ExecutionStatus = 'Canceled'"},
		{runs.Filter{Statuses: []records.Status{runs.Unknown}}, "WorkflowType = 'TrainFlow'"},
		{
			runs.Filter{User: "o'hara", Project: "fraud", Branch: "prod", Since: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)},
			`WorkflowType = 'TrainFlow' AND StepwellUser = 'o\'hara' AND StepwellProject = 'fraud' AND StepwellBranch = 'prod' AND StartTime >= '2026-01-02T03:04:05Z'`,
		},
		{
			runs.Filter{Tags: []string{`a\b`, "user:ada", "project:fraud", "project_branch:prod", "code:abc", "project"}},
			`WorkflowType = 'TrainFlow' AND StepwellTags = 'a\\b' AND StepwellUser = 'ada' AND StepwellProject = 'fraud' AND StepwellBranch = 'prod' AND StepwellTags = 'project'`,
		},
	} {
		require.Equal(t, test.want, filterQuery("TrainFlow", test.filter))
	}
}

func TestViewURL(t *testing.T) {
	t.Parallel()
	query := `StepwellTags = 'a&b=c+d #1' AND StepwellUser = 'o\'hara'`
	address := viewURL("http://127.0.0.1:8233", "my ns", query)
	u, err := url.Parse(address)
	require.NoError(t, err)
	require.Equal(t, query, u.Query().Get("query"))
	require.Equal(t, "/namespaces/my ns/workflows", u.Path)
	require.NotContains(t, address, "+", "the page does not read + as a space everywhere")
}
