package activities

import (
	"context"

	"go.temporal.io/sdk/activity"
)

// stopping is closed when the worker is told to stop. An attempt outside of a worker has nobody who would:
// nil.
func stopping(ctx context.Context) <-chan struct{} {
	if !activity.IsActivity(ctx) {
		return nil
	}
	return activity.GetWorkerStopChannel(ctx)
}
