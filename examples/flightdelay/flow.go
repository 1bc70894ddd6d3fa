package flightdelay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/cards"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

// State is what the steps share. The large artifacts are references, so that a step reads only those it asks for.
type State struct {
	Data     string  `param:"data" help:"CSV file of flights, compressed with gzip or not (default: the flights built into the program)"`
	TestSize float64 `param:"test_size" default:"0.2" help:"share of the flights to hold out for the evaluation"`
	Seed     int     `param:"seed" default:"42" help:"seed of the split into training and held-out flights"`

	// set by load
	Source string
	Table  artifacts.Ref[Table]

	// set by validate
	Flights     artifacts.Ref[Flights]
	Rows        int
	First, Last time.Time

	// set by features
	Encoder        Encoder
	Train, HeldOut artifacts.Ref[Design]

	// set by fit
	Model Model

	// set by evaluate, on the held-out flights
	Accuracy float64
	AUC      float64
	BaseRate float64 // share of delayed flights
	TopTenth float64 // share of delayed flights among the tenth with the highest probability
	ROC      Curve
}

// Flow is FlightDelayFlow.
func Flow() *flow.Flow {
	return flow.New("FlightDelayFlow",
		// A file on a network may be out of reach for a moment: tried again. Bad data stay bad: load fails at once.
		flow.Step("load", load, policies.Retry{MaximumAttempts: 3, InitialInterval: time.Second}),
		flow.Step("validate", validate),
		flow.Step("features", features),
		flow.Step("fit", fit, policies.Timeout{Attempt: 10 * time.Minute}),
		flow.Step("evaluate", evaluate),
		flow.Step("report", report, cards.Default()),
	)
}

func load(ctx context.Context, s *State) error {
	if !(s.TestSize > 0 && s.TestSize < 1) {
		return flow.Fail("parameter test_size is %g (choose a share between 0 and 1, such as 0.2)", s.TestSize)
	}
	s.Source = s.Data
	if s.Data == "" {
		s.Source = "flights built into the program"
	}
	table, err := readTable(s.Data)
	switch {
	case errors.Is(err, errBadData), errors.Is(err, fs.ErrNotExist):
		return flow.Fail("load %q: %w", s.Source, err)
	case err != nil:
		return fmt.Errorf("load %q: %w", s.Source, err)
	}
	flow.Log(ctx).Info("loaded", "source", s.Source, "rows", len(table.Rows), "columns", strings.Join(table.Columns, ","))
	s.Table.Set(table)
	return nil
}

func validate(ctx context.Context, s *State) error {
	table, err := s.Table.Load(ctx)
	if err != nil {
		return err
	}
	flights, err := parseFlights(table)
	if err != nil {
		return flow.Fail("validate %q: %w", s.Source, err)
	}
	s.Rows = flights.Len()
	s.First, s.Last = flights.Time(0), flights.Time(0)
	for i := range flights.Len() {
		if t := flights.Time(i); t.Before(s.First) {
			s.First = t
		} else if t.After(s.Last) {
			s.Last = t
		}
	}
	flow.Log(ctx).Info("validated", "rows", s.Rows, "first", s.First.Format(dateLayout), "last", s.Last.Format(dateLayout))
	s.Flights.Set(flights)
	return nil
}

func features(ctx context.Context, s *State) error {
	flights, err := s.Flights.Load(ctx)
	if err != nil {
		return err
	}
	train, heldOut := split(flights.Len(), s.TestSize, s.Seed)
	if len(train) < 2 || len(heldOut) == 0 {
		return flow.Fail("%d flights with test_size %g leave %d to learn from and %d to hold out (give more flights)",
			flights.Len(), s.TestSize, len(train), len(heldOut))
	}
	encoder, design := learn(flights, train)
	s.Encoder = encoder
	s.Train.Set(design)
	s.HeldOut.Set(s.Encoder.Encode(flights, heldOut))
	flow.Log(ctx).Info("encoded", "training", len(train), "held_out", len(heldOut), "features", len(s.Encoder.Names))
	return nil
}

func fit(ctx context.Context, s *State) error {
	train, err := s.Train.Load(ctx)
	if err != nil {
		return err
	}
	started := time.Now()
	s.Model, err = fitModel(ctx, train, func(iteration int) {
		flow.Progress(ctx, int64(iteration), 0)
	})
	if errors.Is(err, errOneClass) {
		return flow.Fail("fit: %w", err)
	}
	if err != nil {
		return err
	}
	flow.Log(ctx).Info("fitted", "iterations", s.Model.Iterations, "took", time.Since(started).Round(time.Millisecond))
	return nil
}

func evaluate(ctx context.Context, s *State) error {
	heldOut, err := s.HeldOut.Load(ctx)
	if err != nil {
		return err
	}
	scores := make([]float64, len(heldOut.Y))
	for i := range scores {
		scores[i] = s.Model.Probability(heldOut.Row(i))
	}
	s.ROC, s.AUC, err = roc(scores, heldOut.Y)
	switch {
	case errors.Is(err, errOneClass):
		return flow.Fail("evaluate: %w (choose a larger test_size)", err)
	case err != nil:
		return flow.Fail("evaluate: %w", err)
	}
	s.Accuracy = accuracy(scores, heldOut.Y)
	s.BaseRate = heldOut.Share()
	s.TopTenth = topShare(scores, heldOut.Y)
	flow.Log(ctx).Info("evaluated", "auc", s.AUC, "accuracy", s.Accuracy, "base_rate", s.BaseRate)
	return nil
}
