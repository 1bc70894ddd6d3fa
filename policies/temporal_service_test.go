package policies_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"

	"github.com/stepwell-flows/stepwell/policies"
)

// What a step gets that is itself a client of Temporal.
func TestClassifyTemporalService(t *testing.T) {
	t.Parallel()
	for class, errs := range map[policies.Class][]error{
		policies.Transient: {
			serviceerror.NewUnavailable("no"), serviceerror.NewInternal("no"), serviceerror.NewAborted("no"),
			serviceerror.NewNamespaceUnavailable("no"),
		},
		policies.RateLimited: {
			serviceerror.NewResourceExhausted(enumspb.RESOURCE_EXHAUSTED_CAUSE_RPS_LIMIT, "no"), &serviceerror.ResourceExhausted{Message: "no"},
		},
		policies.TimedOut: {serviceerror.NewDeadlineExceeded("no")},
		policies.Invalid: {
			serviceerror.NewInvalidArgument("no"), serviceerror.NewNotFound("no"), serviceerror.NewNamespaceNotFound("no"), serviceerror.NewAlreadyExists("no"),
			serviceerror.NewWorkflowExecutionAlreadyStarted("no", "", ""), serviceerror.NewFailedPrecondition("no"), serviceerror.NewQueryFailed("no"),
		},
		policies.Denied:    {serviceerror.NewPermissionDenied("no", "")},
		policies.Permanent: {serviceerror.NewUnimplemented("no"), serviceerror.NewDataLoss("no")},
		policies.Unknown:   {serviceerror.NewCanceled("no")},
	} {
		for _, err := range errs {
			require.Equal(t, class, policies.Classify(fmt.Errorf("start: %w", err)).Class, "%T", err)
		}
	}
}
