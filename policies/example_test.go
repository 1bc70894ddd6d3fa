package policies_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/stepwell-flows/stepwell/policies"
)

// failures runs a policy against code that always fails and prints what follows each failure.
func failures(r policies.Retry) {
	spec := policies.NewSpec(&r, nil, nil)
	f := policies.Classify(errors.New("boom"))
	middle := func() float64 { return 0.5 } // instead of a random number
	for n := 1; ; n++ {
		d := spec.Decide(f, nil, r.RetryIf, n, middle)
		fmt.Printf("failure %d: %s\n", n, d.Reason)
		if !d.Retry {
			return
		}
	}
}

func ExampleRetry() {
	failures(policies.Retry{MaximumAttempts: 4, InitialInterval: 2 * time.Second})
	// Output:
	// failure 1: exponential 2s, full jitter drew 1s
	// failure 2: exponential 4s, full jitter drew 2s
	// failure 3: exponential 8s, full jitter drew 4s
	// failure 4: attempts spent (4 of 4)
}

// The zero value is one attempt.
func ExampleRetry_zero() {
	failures(policies.Retry{})
	// Output:
	// failure 1: attempts spent (1 of 1)
}

// Metaflow's @retry(times=3, minutes_between_retries=2): three retries are four attempts, and the
// wait is always the same.
func ExampleRetry_metaflow() {
	failures(policies.Retry{
		MaximumAttempts:    4,
		InitialInterval:    2 * time.Minute,
		BackoffCoefficient: 1,
		Jitter:             policies.NoJitter,
	})
	// Output:
	// failure 1: constant 2m, no jitter
	// failure 2: constant 2m, no jitter
	// failure 3: constant 2m, no jitter
	// failure 4: attempts spent (4 of 4)
}

// Modal's Retries(max_retries=3, backoff_coefficient=2.0, initial_delay=1.0, max_delay=60.0).
func ExampleRetry_modal() {
	failures(policies.Retry{
		MaximumAttempts:    4,
		InitialInterval:    time.Second,
		BackoffCoefficient: 2,
		MaximumInterval:    time.Minute,
		Jitter:             policies.NoJitter,
	})
	// Output:
	// failure 1: exponential 1s, no jitter
	// failure 2: exponential 2s, no jitter
	// failure 3: exponential 4s, no jitter
	// failure 4: attempts spent (4 of 4)
}

type NotFoundError struct{ Key string }

func (e *NotFoundError) Error() string { return fmt.Sprintf("key %q not found", e.Key) }

func ExampleRetry_nonRetryable() {
	r := policies.Retry{MaximumAttempts: 4, NonRetryable: []string{"NotFoundError"}}
	err := fmt.Errorf("look up the model: %w", &NotFoundError{"model-7"})

	d := policies.NewSpec(&r, nil, nil).Decide(policies.Classify(err), err, nil, 1, nil)
	fmt.Println(d.Retry, d.Reason)
	// Output:
	// false "NotFoundError" is listed in NonRetryable
}

func ExampleCatch() {
	type State struct{ Price float64 }
	c := policies.Catch(func(_ context.Context, s *State, f *policies.Failure) error {
		if f.Class == policies.Bug {
			return f // a bug stays a failure
		}
		s.Price = 9.99 // yesterday's
		return nil
	})

	s := State{}
	err := c.Call(context.Background(), &s, policies.Classify(errors.New("the exchange is closed")))
	fmt.Println(s.Price, err)
	// Output:
	// 9.99 <nil>
}

func ExampleClassify() {
	err := fmt.Errorf("load prices: %w", &NotFoundError{"AAPL"})
	f := policies.Classify(policies.WithClass(err, policies.Invalid))
	fmt.Println(f.Class, f.Type, f.Message)
	// Output:
	// Invalid NotFoundError load prices: key "AAPL" not found
}

func ExampleWithRetryAfter() {
	err := policies.WithRetryAfter(errors.New(http.StatusText(http.StatusTooManyRequests)), 30*time.Second)

	spec := policies.NewSpec(&policies.Retry{MaximumAttempts: 3, Jitter: policies.NoJitter}, nil, nil)
	d := spec.Decide(policies.Classify(err), err, nil, 1, nil)
	fmt.Println(d.Delay, d.Reason)
	// Output:
	// 30s asked for 30s by the error
}

func ExampleSpec() {
	spec := policies.NewSpec(
		&policies.Retry{MaximumAttempts: 4, InitialInterval: 2 * time.Second},
		&policies.Timeout{Attempt: 90 * time.Second},
		nil,
	)
	b, err := json.MarshalIndent(spec, "", "  ")
	fmt.Println(string(b), err)
	// Output:
	// {
	//   "maximum_attempts": 4,
	//   "backoff_coefficient": 2,
	//   "jitter": "full",
	//   "lost": 5,
	//   "timeout": {
	//     "attempt": "1m30s"
	//   },
	//   "initial_interval": "2s",
	//   "maximum_interval": "3m20s"
	// } <nil>
}

func ExampleSpec_Validate() {
	spec := policies.NewSpec(
		&policies.Retry{MaximumAttempts: 3, InitialInterval: 5, BackoffCoefficient: 0.5},
		&policies.Timeout{Attempt: time.Hour, Total: time.Minute},
		nil,
	)
	fmt.Println(spec.Validate())
	// Output:
	// retry: InitialInterval is 5ns (a number needs a unit, such as 5*time.Second)
	// retry: BackoffCoefficient is 0.5 (use 1 for equal waits, 2 for doubling ones)
	// timeout: Attempt 1h0m0s is longer than Total 1m0s, which covers all attempts (make Total longer)
}

// Four attempts of a minute each, while one in ten attempts fails.
func ExampleExplain() {
	s := policies.NewSpec(&policies.Retry{MaximumAttempts: 4, InitialInterval: 2 * time.Second}, &policies.Timeout{Attempt: time.Minute}, nil)
	e, err := policies.Explain(s, policies.Assumptions{FailureRate: 0.1, AttemptTime: 200 * time.Millisecond})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%.2f%% succeed, 95%% of all within %s, none takes more than %s\n", 100*e.Success, e.P95.Round(10*time.Millisecond), e.Worst)
	fmt.Printf("while everything fails there are %d calls of one\n", e.Load.Stacked)
	// Output:
	// 99.99% succeed, 95% of all within 1.5s, none takes more than 4m14s
	// while everything fails there are 4 calls of one
}
