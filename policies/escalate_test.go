package policies_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/policies"
)

// A step is given more if its own attempt ran out of memory or time, not if a call within it did.
func TestClimb(t *testing.T) {
	t.Parallel()
	s := policies.Spec{Escalate: &policies.Escalate{Rungs: []policies.Rung{{Memory: 1 << 30}, {Memory: 2 << 30}}}}
	for _, c := range []struct {
		name string
		f    *policies.Failure
		want bool
	}{
		{"memory", &policies.Failure{Class: policies.OutOfMemory, Type: "OutOfMemoryError"}, true},
		{"the attempt's time", &policies.Failure{Class: policies.TimedOut, Type: "TimeoutError"}, true},
		{"a call's time", policies.Classify(fmt.Errorf("call the model: %w", context.DeadlineExceeded)), false},
		{"said to be a timeout", policies.Classify(policies.WithClass(fmt.Errorf("slow"), policies.TimedOut)), false},
		{"anything else", &policies.Failure{Class: policies.Transient}, false},
	} {
		require.Equal(t, c.want, s.Climb(c.f, 0), c.name)
		require.False(t, s.Climb(c.f, 1), "%s on the last rung", c.name)
	}
}
