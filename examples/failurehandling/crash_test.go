package failurehandling

import (
	"testing"

	"github.com/stepwell-flows/stepwell/flowtest"
)

// A worker that is killed, wherever it is, changes nothing about what the flow comes to.
func TestEveryCrash(t *testing.T) {
	t.Parallel()
	t.Run("the service works", func(t *testing.T) {
		t.Parallel()
		flowtest.EveryCrash(t, Flow(), map[string]string{"simulate_api_failure": "false"}, flowtest.CrashOptions{
			Ignore: []string{"APIAttempts"},
		})
	})
	t.Run("the service stays down and the code has a bug", func(t *testing.T) {
		t.Parallel()
		flowtest.EveryCrash(t, FlowWith(draws(down)), map[string]string{"simulate_code_bug": "true"}, flowtest.CrashOptions{
			Ignore: []string{"APIError", "Error"}, // they tell of worker, time and attempts
		})
	})
}
