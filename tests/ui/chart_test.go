package ui

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/cards"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/tests/ui/browser"
)

// TestAChartIsDrawnOnAStoredCard has one that scripts draw, on a page that allows no others.
func TestAChartIsDrawnOnAStoredCard(t *testing.T) {
	p := newPlay(t, "chart", nil)
	p.did("load", nil, 0, nil)
	var card bytes.Buffer
	require.NoError(t, cards.Default().Render(&card, &flow.CardData{Outcome: "completed", Components: []flow.Component{cards.VegaLite{
		Title: "rows", Spec: `{"data": {"values": [{"a": "x", "b": 1}, {"a": "y", "b": 3}]}, "mark": "bar",
			"encoding": {"x": {"field": "a", "type": "nominal"}, "y": {"field": "b", "type": "quantitative"}}}`,
	}}}))
	require.NoError(t, p.store.PutDoc(t.Context(), records.CardKey(flowName, p.id, "load", nil, "default"), card.Bytes()))
	b := browser.Open(t, serve(t, p.store))
	b.Show(p.path("/tasks/load/cards/default"))
	b.Until("document.querySelector('.vega svg, .vega canvas') !== null")
	b.Quiet("chart")
}
