package predict_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/stepwell-flows/stepwell/activities/predict"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/artifacts/mem"
	"github.com/stepwell-flows/stepwell/policies"
)

type flight struct {
	Origin      string `json:"origin"`
	Destination string `json:"destination"`
}

type delay struct {
	Probability float64 `json:"probability"`
}

// The pair: a server that executes each key once, and a client that may repeat itself.
func Example() {
	executed := 0
	model := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		executed++
		var f flight
		if err := json.NewDecoder(r.Body).Decode(&f); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		fmt.Fprint(w, `{"probability":0.25}`)
	})
	store := artifacts.New(mem.New(), artifacts.Options{})
	server := httptest.NewServer(predict.Middleware(store, predict.ServerOptions{})(model))
	defer server.Close()

	client, err := predict.New(predict.HTTP(server.URL, predict.HTTPOptions{}), predict.Options{
		Dependency: policies.Dependency{Name: "flight-model", Budget: policies.Budget{Percent: 20}},
		Retry:      policies.Retry{MaximumAttempts: 3, InitialInterval: 100 * time.Millisecond},
		Timeout:    2 * time.Second,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 3 { // as a step does that is tried again, or whose run is resumed
		d, err := predict.Call[flight, delay](context.Background(), client, "flight-17", flight{"BOS", "SFO"})
		fmt.Println(d.Probability, err)
	}
	fmt.Println("executed:", executed)
	// Output:
	// 0.25 <nil>
	// 0.25 <nil>
	// 0.25 <nil>
	// executed: 1
}
