// Package geocode is GeocodeFlow: a function over many small items, which elsewhere is called a map. What comes out is in the
// order of what went in, each item is tried again on its own, and an item that fails is a value beside the others, not the end
// of the run.
package geocode

import (
	"context"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

// State is what the steps share.
type State struct {
	Count int `param:"count" default:"1000" help:"how many addresses"`

	Address string // the item
	Place   Place  // what became of it

	Results  []Result // of all items, in the order of the addresses
	Failures int
}

// Place is where an address is.
type Place struct{ Latitude, Longitude float64 }

// Result is a place, or why there is none.
type Result struct {
	Place Place
	Error string
}

// Flow is GeocodeFlow.
func Flow() *flow.Flow {
	return flow.New("GeocodeFlow",
		flow.Foreach("addresses", (*State).addresses, (*State).setAddress,
			flow.Step("locate", locate,
				policies.Retry{MaximumAttempts: 4, InitialInterval: 200 * time.Millisecond, BackoffCoefficient: 2},
				policies.Timeout{Attempt: 10 * time.Second}),
		).With(flow.Fan{Batch: 100, Tolerate: flow.Percent(100)}).Join("collect", collect),
	)
}

// addresses are the items. A real list comes from a file or a database; one that should not be in memory at once, from a
// flow.ForeachStream.
func (s *State) addresses() []string {
	all := make([]string, s.Count)
	for i := range all {
		all[i] = fmt.Sprintf("%d Harbour Street", i+1)
		if i%97 == 96 {
			all[i] = "somewhere"
		}
	}
	return all
}

func (s *State) setAddress(a string) { s.Address = a }

// locate is the function over one item. It stands for a call to a service, which now and then is busy.
func locate(ctx context.Context, s *State) error {
	h := fnv.New32a()
	_, _ = h.Write([]byte(s.Address))
	at := h.Sum32()
	if at%20 == 0 && flow.Current(ctx).Attempt == 1 {
		return flow.Transient(fmt.Errorf("geocoder: 503 service unavailable")) // tried again, this item alone
	}
	if !strings.HasSuffix(s.Address, " Street") {
		return flow.Fail("%q is no address", s.Address)
	}
	s.Place = Place{Latitude: float64(at%180_000)/1000 - 90, Longitude: float64(at%360_000)/1000 - 180}
	return nil
}

// collect gets the items in the order of the list, and the failures as values.
func collect(ctx context.Context, s *State, in flow.Inputs[State]) error {
	s.Results = make([]Result, in.Len())
	for i, item := range in.All() {
		s.Results[i].Place = item.Place
	}
	for i, failure := range in.Failures() {
		s.Results[i].Error = failure.Message
		s.Failures++
	}
	flow.Log(ctx).Info("located", "addresses", in.Len(), "failed", s.Failures)
	return nil
}
