package flowtest_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stepwell-flows/stepwell/flowtest"
)

// A service that is busy at first, then loses an answer, then works.
func ExampleFake() {
	t := &testing.T{} // in a test, its own
	fake := flowtest.NewFake(t,
		flowtest.Reply{Status: http.StatusServiceUnavailable, RetryAfter: 2 * time.Second},
		flowtest.Reply{Fault: flowtest.FaultReset},
		flowtest.Reply{Body: `{"probability": 0.7}`})
	for range 3 {
		resp, err := http.Get(fake.URL() + "/predict")
		if err == nil {
			_ = resp.Body.Close()
		}
	}
	for _, r := range fake.Requests() {
		fmt.Printf("%s: %s\n", &r, r.Answer)
	}
	// Output:
	// request 1 (GET /predict): 503, Retry-After: 2
	// request 2 (GET /predict): reset in the middle of a 200
	// request 3 (GET /predict): 200
}
