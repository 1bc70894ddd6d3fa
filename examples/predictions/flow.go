// Package predictions is PredictionFlow: it asks a model server about many flights, and survives what servers and workers do.
//
// With batch 0 each flight is a task of its own; otherwise a task asks about batch flights, many in one request. The server is that
// of examples/modelserver: no flight is predicted twice, however often a call is repeated, a worker killed or the run resumed.
package predictions

import (
	"context"
	"fmt"
	"math"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/stepwell-flows/stepwell/activities/predict"
	"github.com/stepwell-flows/stepwell/examples/flightdelay"
	"github.com/stepwell-flows/stepwell/examples/modelserver/serve"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

// State is what the steps share.
type State struct {
	Server string `param:"server" default:"http://127.0.0.1:8090" help:"address of the model server"`
	Count  int    `param:"count" default:"10000" help:"how many flights, at most 20000"`
	Batch  int    `param:"batch" default:"500" help:"how many flights a task asks about; 0: a task for each flight"`

	// the item
	Flight serve.Flight
	From   int

	// what a task makes
	Probability   float64
	Probabilities []float64 // NaN for a flight without a prediction
	Report        predict.Report

	// of all flights
	Late   int            // how many are more likely late than not
	Mean   float64        // of the probabilities
	Failed map[string]int // by class
}

// Flow is PredictionFlow.
func Flow() *flow.Flow {
	return flow.New("PredictionFlow",
		flow.Step("check", check),
		flow.Switch("how", (*State).how,
			flow.Case("each",
				flow.Foreach("flights", (*State).flights, (*State).setFlight,
					// The client makes a few attempts itself; see predict.Options. The step makes up for a lost connection to it.
					flow.Step("predict", predictOne, policies.Retry{MaximumAttempts: 2, Lost: 20}, policies.Timeout{Attempt: 5 * time.Minute}),
				).With(flow.Fan{Tolerate: flow.Percent(100)}).Join("collect", collect),
			),
			flow.Case("batches",
				flow.Foreach("parts", (*State).parts, (*State).setPart,
					flow.Step("predict_part", predictPart, policies.Retry{MaximumAttempts: 3, Lost: 20}),
				).Join("gather", gather),
			),
		).OrFail(),
		flow.Step("report", report),
	)
}

func (s *State) how() string {
	if s.Batch == 0 {
		return "each"
	}
	return "batches"
}

var builtIn = sync.OnceValues(flightdelay.BuiltIn)

func check(ctx context.Context, s *State) error {
	f, err := builtIn()
	switch {
	case err != nil:
		return flow.Fail("flights: %w", err)
	case s.Count < 1 || s.Count > f.Len():
		return flow.Fail("parameter count is %d (use 1 to %d)", s.Count, f.Len())
	case s.Batch < 0:
		return flow.Fail("parameter batch is %d (use 0 or more)", s.Batch)
	}
	if _, err := client(s.Server, "/predict"); err != nil {
		return err
	}
	if !listens(ctx, s.Server) { // no failure: all calls wait for it
		flow.Log(ctx).Warn("no model server there yet (start one: go run ./examples/modelserver)", "server", s.Server)
	}
	return nil
}

// listens says that something answers at the address of a server.
func listens(ctx context.Context, server string) bool {
	at, err := url.Parse(server)
	if err != nil {
		return false
	}
	port := at.Port()
	if port == "" {
		port = at.Scheme // net knows http and https
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(at.Hostname(), port))
	if err != nil {
		return false
	}
	return c.Close() == nil
}

// flightsOf are flights of the data, without what is known only later.
func flightsOf(from, to int) []serve.Flight {
	f, err := builtIn()
	if err != nil { // check has seen that there is none
		return nil
	}
	out := make([]serve.Flight, 0, to-from)
	for i := from; i < min(to, f.Len()); i++ {
		out = append(out, serve.Flight{
			Departure: f.Time(i).Format(serve.Layout), Origin: f.Origin[i], Destination: f.Destination[i], Distance: f.Distance[i],
		})
	}
	return out
}

func (s *State) flights() []serve.Flight  { return flightsOf(0, s.Count) }
func (s *State) setFlight(f serve.Flight) { s.Flight = f }
func (s *State) setPart(from int)         { s.From = from }
func (s *State) part() []serve.Flight     { return flightsOf(s.From, min(s.From+s.Batch, s.Count)) }
func (s *State) add(p float64)            { s.Mean += p; s.Late += late(p) }
func (s *State) fail(c policies.Class, n int) {
	if s.Failed == nil {
		s.Failed = map[string]int{}
	}
	s.Failed[string(c)] += n
}

func (s *State) parts() []int {
	var from []int
	for i := 0; i < s.Count; i += s.Batch {
		from = append(from, i)
	}
	return from
}

func late(p float64) int {
	if p > 0.5 {
		return 1
	}
	return 0
}

// clients are shared by all tasks of a process, and so are their limits.
var clients sync.Map

func client(server, path string) (*predict.Client, error) {
	if c, ok := clients.Load(server + path); ok {
		return c.(*predict.Client), nil //nolint:forcetypeassert // nothing else is stored
	}
	c, err := predict.New(predict.HTTP(server+path, predict.HTTPOptions{}), predict.Options{
		Dependency: policies.Dependency{
			Name:    "flight-model",
			Breaker: policies.Breaker{Failures: 20, Percent: 80},
			Budget:  policies.Budget{Percent: 100},
		},
		Retry:       policies.Retry{MaximumAttempts: 8, InitialInterval: 100 * time.Millisecond, MaximumInterval: 5 * time.Second},
		Timeout:     5 * time.Second,
		MaxParallel: 32,
	})
	if err != nil {
		return nil, flow.Fail("server %q: %w", server, err)
	}
	clients.Store(server+path, c)
	return c, nil
}

func predictOne(ctx context.Context, s *State) error {
	c, err := client(s.Server, "/predict")
	if err != nil {
		return err
	}
	a, err := predict.Call[serve.Flight, serve.Answer](ctx, c, "", s.Flight)
	s.Probability = a.Probability
	return err
}

func predictPart(ctx context.Context, s *State) error {
	c, err := client(s.Server, "/predict/batch")
	if err != nil {
		return err
	}
	flights := s.part()
	items := make([]predict.Item[serve.Flight], len(flights))
	for i, f := range flights {
		items[i] = predict.Item[serve.Flight]{Key: fmt.Sprint("flight-", s.From+i), Request: f}
	}
	out, err := predict.Batch[serve.Flight, serve.Answer](ctx, c, items, predict.BatchOptions{Chunk: 20})
	if err != nil {
		return err
	}
	s.Report = out.Report
	s.Probabilities = make([]float64, len(items))
	for i, r := range out.Results {
		s.Probabilities[i] = r.Value.Probability
		if r.Failure != nil {
			s.Probabilities[i] = math.NaN()
			s.fail(r.Failure.Class, 1)
		}
	}
	return nil
}

func collect(_ context.Context, s *State, in flow.Inputs[State]) error {
	s.Probabilities = make([]float64, in.Len())
	for i, one := range in.All() {
		s.Probabilities[i] = one.Probability
	}
	for i, f := range in.Failures() {
		s.Probabilities[i] = math.NaN()
		s.fail(f.Class, 1)
	}
	return nil
}

func gather(_ context.Context, s *State, in flow.Inputs[State]) error {
	for _, part := range in.All() {
		s.Probabilities = append(s.Probabilities, part.Probabilities...)
		for class, n := range part.Failed {
			s.fail(policies.Class(class), n)
		}
	}
	return nil
}

func report(ctx context.Context, s *State) error {
	n := 0
	for _, p := range s.Probabilities {
		if !math.IsNaN(p) {
			s.add(p)
			n++
		}
	}
	if n > 0 {
		s.Mean /= float64(n)
	}
	flow.Log(ctx).Info("predicted", "flights", len(s.Probabilities), "failed", s.Failed, "late", s.Late, "mean", s.Mean)
	return nil
}
