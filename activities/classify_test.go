package activities_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

var (
	errQuota   = errors.New("no units left")
	errMissing = errors.New("no such model")
)

// quotaIsPermanent is the rule of a worker.
func quotaIsPermanent(err error) policies.Class {
	if errors.Is(err, errQuota) {
		return policies.Permanent
	}
	return ""
}

func TestRulesOfStepAndWorker(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err      error
		rule     func(error) policies.Class // of the step
		class    policies.Class
		attempts int32
	}{
		"the worker's rule":                    {errQuota, nil, policies.Permanent, 1},
		"the step's comes first":               {errQuota, func(error) policies.Class { return policies.RateLimited }, policies.RateLimited, 3},
		"the step has none":                    {errQuota, func(error) policies.Class { return "" }, policies.Permanent, 1},
		"nor has the worker":                   {errMissing, func(error) policies.Class { return "" }, policies.Unknown, 3},
		"a rule that panics":                   {errQuota, func(error) policies.Class { panic("oh") }, policies.Permanent, 1},
		"what is built in":                     {&policies.HTTPError{StatusCode: 404}, nil, policies.Invalid, 1},
		"a rule against it":                    {&policies.HTTPError{StatusCode: 404}, func(error) policies.Class { return policies.Transient }, policies.Transient, 3},
		"a mark":                               {flow.Transient(errQuota), nil, policies.Transient, 3},
		"the run's end is not a rule's to say": {errMissing, func(error) policies.Class { return policies.Cancelled }, policies.Unknown, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			options := []flow.Option{policies.Retry{MaximumAttempts: 3}}
			if test.rule != nil {
				options = append(options, policies.Classifier(test.rule))
			}
			fail := func(context.Context, *state) error { calls.Add(1); return test.err }

			run := flowtest.Run(t, flow.New("Rules", flow.Step("call", fail, options...)), flowtest.Options{Classify: quotaIsPermanent})
			require.Equal(t, records.StatusFailed, run.Status)
			require.Equal(t, test.class, run.Failure.Class)
			require.Equal(t, test.attempts, calls.Load())

			calls.Store(0)
			run = flowtest.Run(t, flow.New("Rules",
				flow.Foreach("items", func(*state) []int { return []int{1} }, func(*state, int) {}, flow.Step("call", fail, options...)).
					With(flow.Fan{Batch: 2}).Join("join", func(context.Context, *state, flow.Inputs[state]) error { return nil }),
			), flowtest.Options{Classify: quotaIsPermanent})
			require.Equal(t, records.StatusFailed, run.Status)
			require.Equal(t, test.class, run.Failure.Class, "in a batch")
			require.Equal(t, test.attempts, calls.Load(), "in a batch")
		})
	}
}
