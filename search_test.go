package stepwell

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"google.golang.org/grpc"

	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/workflows"
)

// searchServer is a Temporal that has some search attributes, or does not say which.
type searchServer struct {
	client.Client
	operatorservice.OperatorServiceClient
	has    map[string]enumspb.IndexedValueType
	err    error // of the question
	refuse bool  // starts with attributes
	asked  int
	starts []client.StartWorkflowOptions
	in     []workflows.Input
}

func (s *searchServer) OperatorService() operatorservice.OperatorServiceClient { return s }

func (s *searchServer) ListSearchAttributes(context.Context, *operatorservice.ListSearchAttributesRequest, ...grpc.CallOption) (*operatorservice.ListSearchAttributesResponse, error) {
	s.asked++
	return &operatorservice.ListSearchAttributesResponse{CustomAttributes: s.has}, s.err
}

func (s *searchServer) ExecuteWorkflow(_ context.Context, o client.StartWorkflowOptions, _ any, args ...any) (client.WorkflowRun, error) {
	s.starts, s.in = append(s.starts, o), append(s.in, args[0].(workflows.Input))
	if s.refuse && o.TypedSearchAttributes.Size() > 0 {
		return nil, serviceerror.NewInvalidArgument("Namespace default has no mapping defined for search attribute StepwellFlow")
	}
	return nil, nil
}

// Runs are started with the search attributes that the namespace has, and may set those and no others.
func TestRunsAreStartedWithWhatTheNamespaceHas(t *testing.T) {
	t.Parallel()
	all := map[string]enumspb.IndexedValueType{}
	for _, key := range workflows.SearchAttributes() {
		all[key.GetName()] = key.GetValueType()
	}
	own := []string{"StepwellFailedSteps", "StepwellPaused"}
	for name, test := range map[string]struct {
		server    searchServer
		namespace string
		want      int // attributes of the start that counts: flow, run, user, project, branch, tags
		search    []string
		asked     int
	}{
		"all":                      {searchServer{has: all}, "default", 6, own, 1},
		"none":                     {searchServer{}, "default", 0, nil, 1},
		"some":                     {searchServer{has: map[string]enumspb.IndexedValueType{"StepwellFlow": enumspb.INDEXED_VALUE_TYPE_KEYWORD, "StepwellRun": enumspb.INDEXED_VALUE_TYPE_TEXT, "StepwellPaused": enumspb.INDEXED_VALUE_TYPE_BOOL}}, "default", 1, own[1:], 1},
		"one may not ask":          {searchServer{err: serviceerror.NewPermissionDenied("no", "")}, "default", 6, nil, 1},
		"nor has it any":           {searchServer{err: serviceerror.NewPermissionDenied("no", ""), refuse: true}, "default", 0, nil, 1},
		"they went away":           {searchServer{has: all, refuse: true}, "default", 0, nil, 1},
		"the namespace is unknown": {searchServer{has: all}, "", 6, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			server := test.server
			c := NewClient(&server, s.store, ClientOptions{Namespace: test.namespace})
			doc := records.Run{Flow: "TrainFlow", Run: "r1", Plan: s.flow.Plan(), User: "ada", Tags: []string{"x"}, Project: "fraud", Branch: "prod"}
			for range 2 {
				require.NoError(t, c.execute(t.Context(), doc, nil))
				require.Equal(t, test.want, server.starts[len(server.starts)-1].TypedSearchAttributes.Size())
				require.Equal(t, test.search, server.in[len(server.in)-1].Search)
			}
			require.Equal(t, test.asked, server.asked, "an answer counts for a while")
		})
	}
}

// After setup, a client that runs already finds the attributes.
func TestAnswersAreForgotten(t *testing.T) {
	t.Parallel()
	server := &searchServer{}
	c := NewClient(server, newStage(t).store, ClientOptions{Namespace: "default"})
	has, known := c.attributes(t.Context())
	require.True(t, known)
	require.Empty(t, has)
	server.has = map[string]enumspb.IndexedValueType{"StepwellFlow": enumspb.INDEXED_VALUE_TYPE_KEYWORD}
	c.search.until = time.Now()
	has, _ = c.attributes(t.Context())
	require.Len(t, has, 1)
}
