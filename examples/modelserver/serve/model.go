// Package serve answers requests with the model that FlightDelayFlow trained.
package serve

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/examples/flightdelay"
	"github.com/stepwell-flows/stepwell/runs"
)

// Flight is what is asked.
type Flight struct {
	// Departure is when the flight leaves the gate, in the local time of its origin, like "2001/01/31 09:30".
	Departure   string `json:"departure"`
	Origin      string `json:"origin"`
	Destination string `json:"destination"`
	// Distance is in miles.
	Distance int64 `json:"distance"`
}

// Layout is how a departure is written.
const Layout = "2006/01/02 15:04"

// Answer is the model's.
type Answer struct {
	// Probability is that of a delay of 15 minutes or more.
	Probability float64 `json:"probability"`
}

// Model is a trained model. It is safe for concurrent use.
type Model struct {
	encoder flightdelay.Encoder
	model   flightdelay.Model
}

// Load reads the model that a run trained, such as "FlightDelayFlow/latest", from a store.
func Load(ctx context.Context, store *artifacts.Store, run string) (*Model, error) {
	r, err := runs.New(store, nil).Find(ctx, run)
	if err != nil {
		return nil, err
	}
	fit, err := r.Task(ctx, "fit")
	if err != nil {
		return nil, err
	}
	m := &Model{}
	if m.model, err = runs.Load[flightdelay.Model](ctx, fit, "Model"); err != nil {
		return nil, fmt.Errorf("run %q has no model: %w", run, err)
	}
	m.encoder, err = runs.Load[flightdelay.Encoder](ctx, fit, "Encoder")
	return m, err
}

// Predict answers for one flight.
func (m *Model) Predict(f Flight) (Answer, error) {
	at, err := time.Parse(Layout, f.Departure)
	if err != nil {
		return Answer{}, fmt.Errorf("departure %.40q is not a time like 2001/01/31 09:30", f.Departure)
	}
	if f.Distance < 1 || f.Distance > 20_000 {
		return Answer{}, fmt.Errorf("distance is %d (give 1 to 20000 miles)", f.Distance)
	}
	d := m.encoder.Encode(flightdelay.Flights{
		Departure: []int64{at.Unix() / 60}, Delay: []int64{0}, Distance: []int64{f.Distance},
		Origin: []string{f.Origin}, Destination: []string{f.Destination},
	}, []int{0})
	return Answer{m.model.Probability(d.Row(0))}, nil
}

// ServeHTTP answers a POST of a flight.
func (m *Model) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var f Flight
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&f); err != nil {
		problem(w, http.StatusBadRequest, "the body is not a flight in JSON")
		return
	}
	a, err := m.Predict(f)
	if err != nil {
		problem(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	answer(w, http.StatusOK, "application/json", a)
}

func problem(w http.ResponseWriter, status int, detail string) {
	answer(w, status, "application/problem+json", map[string]string{"title": http.StatusText(status), "detail": detail})
}

func answer(w http.ResponseWriter, status int, kind string, v any) {
	b, err := json.Marshal(v)
	if err != nil { // a probability that is no number
		http.Error(w, "the answer cannot be encoded", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	_, _ = w.Write(b) // the client may be gone
}
