package flowtest_test

import (
	"runtime"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
)

type (
	activityInfo   = activity.Info
	converterValue = converter.EncodedValue
)

func goexit() { runtime.Goexit() }
