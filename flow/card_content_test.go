package flow_test

import (
	"context"
	"html/template"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flow"
)

func within(ctx context.Context, content *flow.CardContent, log *strings.Builder) context.Context {
	return flow.NewContext(ctx, flow.Runtime{Card: content, Log: slog.New(slog.NewTextHandler(log, nil))})
}

type component template.HTML

func (c component) CardHTML() template.HTML { return template.HTML(c) }

func TestCardsOfAStepAreKeptApart(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	content := flow.NewCardContent(nil, "first", "default", "other")
	ctx := within(t.Context(), content, &log)
	flow.Card(ctx).Append(nil)
	flow.CardNamed(ctx, "other").Append(nil, nil)
	require.Same(t, content, flow.CardNamed(ctx, "default"), "it is that of flow.Card")
	require.Same(t, content, flow.CardNamed(ctx, "other").Named("default"))
	require.Len(t, content.Components(), 1)
	require.Len(t, content.Named("other").Components(), 2)
	require.Empty(t, content.Named("first").Components())
	require.Empty(t, log.String())

	custom := flow.NewCardContent(nil, "model", "data")
	require.Same(t, custom, custom.Named("model"), "without a default card it is the first one's")
	require.NotSame(t, custom, custom.Named("data"))
}

// A name that the step has not is a mistake, and no reason for a task to fail.
func TestCardOfAnotherNameIsDiscarded(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	content := flow.NewCardContent(nil, "default")
	ctx := within(t.Context(), content, &log)
	for range 3 {
		card := flow.CardNamed(ctx, "other")
		card.Append(nil)
		card.Put("a", nil)
		card.Clear()
		card.Refresh()
		require.Empty(t, card.Components())
	}
	require.Empty(t, content.Components())
	require.Equal(t, 1, strings.Count(log.String(), "the step has no card of that name"), log.String())
	require.Contains(t, log.String(), "card=other cards=[default]")

	require.Nil(t, flow.CardNamed(t.Context(), "default"), "outside of a run")
	require.Nil(t, flow.CardNamed(within(t.Context(), flow.NewCardContent(nil), &log), "default").Components(), "of a step without cards")
}

func TestCardContentOfATestTakesEveryName(t *testing.T) {
	t.Parallel()
	var content flow.CardContent
	ctx := within(t.Context(), &content, &strings.Builder{})
	flow.CardNamed(ctx, "default").Append(nil)
	flow.CardNamed(ctx, "any").Append(nil, nil)
	flow.CardNamed(ctx, "any").Refresh()
	require.Len(t, content.Components(), 1)
	require.Len(t, content.Named("any").Components(), 2)
}

func TestPutReplacesInPlace(t *testing.T) {
	t.Parallel()
	var content flow.CardContent
	a, b, c := component("a"), component("b"), component("c")
	content.Put("x", a)
	content.Append(b)
	content.Put("x", c)
	require.Equal(t, []flow.Component{c, b}, content.Components())
	content.Clear()
	content.Put("x", a)
	require.Equal(t, []flow.Component{a}, content.Components())
}

func TestRefreshOfAnyCardTellsTheWorker(t *testing.T) {
	t.Parallel()
	told := 0
	content := flow.NewCardContent(func() { told++ }, "default", "other")
	content.Refresh()
	content.Named("other").Refresh()
	require.Equal(t, 2, told)
}
