package bench

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/cards"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/records"
)

const (
	cardRounds = 3
	cardTime   = 17 * time.Second // long enough for several refreshes
	cardShare  = 0.01
)

// BenchmarkSeeCard measures what the live refresh of a card costs the process of a step: the same step with a card that has a chart
// and a table, and without one. The server is none of it, so the flow runs in the test environment.
func BenchmarkSeeCard(b *testing.B) {
	share := func(f *flow.Flow) float64 {
		store, err := artifacts.Open(b.Context(), filepath.Join(b.TempDir(), "store"), artifacts.Options{})
		require.NoError(b, err)
		began := now(b)
		run := flowtest.Run(b, f, flowtest.Options{Store: store})
		spent := now(b).since(began)
		require.Equal(b, records.StatusCompleted, run.Status, "%+v", run.Failure)
		return float64(spent.cpu) / float64(spent.wall)
	}
	var with, without []float64
	for i := range cardRounds {
		inTurn(i, func() { with = append(with, share(cardFlow("WithCard", cards.Default()))) }, func() { without = append(without, share(cardFlow("WithoutCard"))) })
	}
	cost := median(with) - median(without)
	b.ReportMetric(cost*100, "percent-of-a-core")
	report(b, "a step with a live card needs %.2f%% of a core, without one %.2f%%: the card %.2f%% (goal under %.0f%%: %s)",
		median(with)*100, median(without)*100, cost*100, cardShare*100, verdict(cost < cardShare))
}

// cardFlow changes a card ten times a second, if it has one.
func cardFlow(name string, options ...flow.Option) *flow.Flow {
	return flow.New(name, flow.Step("train", func(ctx context.Context, _ *seen) error {
		var loss []float64
		rows := make([][]any, 100)
		for i := range rows {
			rows[i] = []any{i, "a row of the table", float64(i) / 7}
		}
		for began := time.Now(); time.Since(began) < cardTime; {
			loss = append(loss, 1/float64(len(loss)+1))
			flow.Card(ctx).Put("loss", cards.Plot{Title: "Loss", Layers: []cards.Layer{cards.Line{Name: "training", Y: append([]float64(nil), loss...)}}})
			flow.Card(ctx).Put("rows", cards.Table{Caption: "Rows", Columns: []string{"row", "text", "value"}, Rows: rows})
			flow.Card(ctx).Refresh()
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(100 * time.Millisecond):
			}
		}
		return nil
	}, options...))
}
