package failurehandling

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/stepwell-flows/stepwell/cards"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
)

// summarize runs whatever happened before it, because what went wrong was caught.
func summarize(ctx context.Context, s *State) error {
	data, dataNote := "live", fmt.Sprintf("the service answered at attempt %d", s.APIAttempts)
	if s.APIError != nil {
		data, dataNote = "yesterday's", "the service could not be reached"
	}
	logic, logicNote := "worked", s.Result
	if s.Error != nil {
		logic, logicNote = "caught", "there is no result"
	}
	card := flow.Card(ctx)
	card.Append(
		cards.ValueBox{Label: "Weather data", Value: data, Note: dataNote},
		cards.ValueBox{Label: "Risky logic", Value: logic, Note: logicNote},
	)

	readings := cards.Table{Caption: "What the logic worked on", Columns: []string{"city", "°C"}}
	for _, city := range slices.Sorted(maps.Keys(s.APIData)) {
		readings.Rows = append(readings.Rows, []any{city, s.APIData[city]})
	}
	card.Append(readings)

	failures := cards.Table{Caption: "What was caught", Columns: []string{"step", "class", "attempt", "message"}}
	for _, caught := range []struct {
		step    string
		failure *policies.Failure
	}{{"api_call", s.APIError}, {"risky_logic", s.Error}} {
		if f := caught.failure; f != nil {
			failures.Rows = append(failures.Rows, []any{caught.step, string(f.Class), f.Attempt, f.Message})
		}
	}
	if len(failures.Rows) == 0 {
		card.Append(cards.Markdown("Nothing had to be caught. Try `--simulate_code_bug`."))
	} else {
		card.Append(failures, cards.Markdown("The run finished all the same: a caught step starts again from the state it was given, "+
			"and its catch decides what the next steps find."))
	}
	return nil
}
