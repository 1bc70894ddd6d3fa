package policies_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/stepwell-flows/stepwell/policies"
)

// Quote is the state of a flow.
type Quote struct {
	URL   string
	Price float64
}

// fetchPrice is a step: flow.Step("fetch_price", fetchPrice, policies.Retry{MaximumAttempts: 5}).
func fetchPrice(ctx context.Context, s *Quote) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	if err := policies.CheckResponse(resp); err != nil {
		return err // its class and its wait are known
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(&s.Price)
}

// The status says whether the step is tried again, and Retry-After when.
func ExampleCheckResponse() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/busy":
			w.Header().Set("Retry-After", "30")
			http.Error(w, "come back later", http.StatusTooManyRequests)
		case "/gone":
			http.NotFound(w, r)
		default:
			fmt.Fprint(w, 9.99)
		}
	}))
	defer server.Close()

	spec := policies.NewSpec(&policies.Retry{MaximumAttempts: 5, Jitter: policies.NoJitter}, nil, nil)
	for _, path := range []string{"/busy", "/gone?key=secret", "/"} {
		s := Quote{URL: server.URL + path}
		err := fetchPrice(context.Background(), &s)
		if err == nil {
			fmt.Println("price", s.Price)
			continue
		}
		f := policies.Classify(err)
		fmt.Println(strings.ReplaceAll(f.Message, server.URL, "http://prices"))
		fmt.Println(" ", f.Class, "-", spec.Decide(f, err, nil, 1, nil).Reason)
	}
	// Output:
	// GET http://prices/busy: 429 Too Many Requests: come back later
	//   RateLimited - asked for 30s by the error
	// GET http://prices/gone: 404 Not Found: 404 page not found
	//   Invalid - class Invalid is not retried
	// price 9.99
}

// A service that needs a while until it finds what it was given: its 404 is tried again. Anything else is left to the other rules.
func ExampleClassifier() {
	notYet := policies.Classifier(func(err error) policies.Class {
		var e *policies.HTTPError
		if errors.As(err, &e) && e.StatusCode == http.StatusNotFound {
			return policies.Transient
		}
		return ""
	})
	// It is an option of a step: flow.Step("wait_for_model", waitForModel, policies.Retry{MaximumAttempts: 9}, notYet)

	for _, status := range []int{404, 403} {
		err := &policies.HTTPError{Method: "GET", URL: "http://models/7", StatusCode: status}
		f := policies.ClassifyWith(err, notYet.Rule())
		fmt.Println(f.Message, "-", f.Class)
	}
	// Output:
	// GET http://models/7: 404 Not Found - Transient
	// GET http://models/7: 403 Forbidden - Denied
}

func ExampleParseRetryAfter() {
	now := time.Date(2026, time.November, 25, 8, 0, 0, 0, time.UTC)
	fmt.Println(policies.ParseRetryAfter("120", now))
	fmt.Println(policies.ParseRetryAfter("Wed, 25 Nov 2026 08:00:30 GMT", now))
	fmt.Println(policies.ParseRetryAfter("Wed, 25 Nov 2026 07:00:00 GMT", now))
	fmt.Println(policies.ParseRetryAfter("-1", now))
	// Output:
	// 2m0s true
	// 30s true
	// 0s true
	// 0s false
}
