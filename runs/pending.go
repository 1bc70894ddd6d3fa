package runs

import (
	"encoding/json"
	"strings"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"github.com/stepwell-flows/stepwell/policies"
)

// pending reads what Temporal tells of activities that have not ended, by task.
func pending(flowName string, activities []*workflowpb.PendingActivityInfo) map[string]Pending {
	out := map[string]Pending{}
	for _, a := range activities {
		if !strings.HasPrefix(a.GetActivityType().GetName(), flowName+".") {
			continue
		}
		p := Pending{Attempt: int(a.GetAttempt()), Running: a.GetState() == enumspb.PENDING_ACTIVITY_STATE_STARTED}
		if !p.Running && p.Attempt > 1 && a.GetScheduledTime() != nil {
			p.Next = a.GetScheduledTime().AsTime()
		}
		if p.Running && a.GetLastStartedTime() != nil {
			p.Started = a.GetLastStartedTime().AsTime()
		}
		if f := a.GetLastFailure(); f != nil {
			p.Failure = policies.FailureOf(temporal.GetDefaultFailureConverter().FailureToError(f))
		}
		p.Done, p.Total = progress(a.GetHeartbeatDetails())
		// The activity's id is the task's name.
		var task string
		task, p.Catch = strings.CutSuffix(a.GetActivityId(), ".catch")
		out[task] = p
	}
	return out
}

func progress(details *commonpb.Payloads) (done, total int64) {
	if len(details.GetPayloads()) == 0 {
		return 0, 0
	}
	var beat struct {
		Done  int64 `json:"done"`
		Total int64 `json:"total"`
	}
	var raw json.RawMessage
	if converter.GetDefaultDataConverter().FromPayload(details.GetPayloads()[0], &raw) != nil || json.Unmarshal(raw, &beat) != nil {
		return 0, 0
	}
	return beat.Done, beat.Total
}
