// Package cards makes reports of tasks: one HTML file each, with everything in it, and no script but where a chart needs one.
//
// A step asks for a card by taking [Default] as an option, and adds what it has to say with [flow.Card]:
//
//	flow.Step("evaluate", evaluate, cards.Default())
//
//	func evaluate(ctx context.Context, s *State) error {
//		…
//		flow.Card(ctx).Append(
//			cards.ValueBox{Label: "accuracy", Value: s.Accuracy},
//			cards.Plot{Title: "Loss", XLabel: "epoch", Layers: []cards.Layer{
//				cards.Line{Name: "training", Y: s.Loss},
//			}},
//		)
//		return nil
//	}
//
// # Components
//
// [Markdown], [Table], [ValueBox], [Plot], [VegaLite], [Image], [Timeline], [JSON], [Artifact], [Error] and [Log] are plain values;
// a *[ProgressBar] moves. A plot is made of layers: [Line], [Scatter], [Bars], [Histogram], [HeatMap], and the reference lines
// [Diagonal], [AtX] and [AtY]. Whatever cannot be shown (series of unequal length, a component that panics) becomes a note on the
// card: a report never fails a task.
//
// # Several cards, and cards of a running step
//
// [New] is a card beside the default one, which [flow.CardNamed] fills. [flow.CardContent.Refresh] lets the cards be written
// while the step runs.
//
// # Safety
//
// Everything that comes from the author's program is escaped, Markdown is sanitised, and the page carries a
// Content-Security-Policy that allows its own style sheet and data: images and nothing else, so that even a
// component of one's own that forgets to escape cannot run a script or reach the network. A card with a [VegaLite] chart
// allows the scripts that draw it as well, by their digests.
package cards
