package cards_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/stepwell-flows/stepwell/cards"
	"github.com/stepwell-flows/stepwell/flow"
)

type state struct{ Accuracy float64 }

func evaluate(ctx context.Context, s *state) error {
	s.Accuracy = 0.9134
	flow.Card(ctx).Append(cards.ValueBox{Label: "accuracy", Value: s.Accuracy})
	return nil
}

// A step asks for a card where the flow is defined, and says in its function what the card shows.
func ExampleDefault() {
	f := flow.New("TrainFlow", flow.Step("evaluate", evaluate, cards.Default()))
	fmt.Println(f.Check(), f.Plan().Root.Nodes[0].Cards)
	// Output: <nil> [default]
}

// What a step would put on its card can be looked at without a run.
func ExampleDefault_test() {
	var content flow.CardContent
	ctx := flow.NewContext(context.Background(), flow.Runtime{Card: &content})
	if err := evaluate(ctx, &state{}); err != nil {
		fmt.Println(err)
	}
	var page strings.Builder
	data := &flow.CardData{Info: flow.Info{Flow: "TrainFlow", Step: "evaluate"}, Outcome: "completed", Components: content.Components()}
	if err := cards.Default().Render(&page, data); err != nil {
		fmt.Println(err)
	}
	fmt.Println(strings.Contains(page.String(), "<dt>accuracy</dt><dd>0.9134</dd>"))
	// Output: true
}

func ExampleMarkdown() {
	fmt.Println(cards.Markdown("The model **beats** the one in use.<script>alert(1)</script>").CardHTML())
	// Output: <div class="md wide"><p>The model <strong>beats</strong> the one in use.alert(1)</p>
	// </div>
}

func ExampleTable() {
	fmt.Println(cards.Table{Columns: []string{"split", "rows"}, Rows: [][]any{{"training", 1600}, {"held out", 400}}}.CardHTML())
	// Output: <div class="scroll wide" role="region" aria-label="table" tabindex="0"><table><thead><tr><th scope="col">split</th><th scope="col" class="n">rows</th></tr></thead><tbody><tr><td>training</td><td class="n">1600</td></tr><tr><td>held out</td><td class="n">400</td></tr></tbody></table></div>
}

// A plot that cannot be drawn says why; it never fails the task.
func ExamplePlot() {
	fmt.Println(cards.Plot{Title: "Loss", Layers: []cards.Layer{
		cards.Line{Name: "training", X: []float64{1, 2, 3}, Y: []float64{0.9, 0.5}},
	}}.CardHTML())
	// Output: <p class="note wide">the plot &#34;Loss&#34; could not be drawn: layer 0 &#34;training&#34;: 3 values of x for 2 of y</p>
}

// A card of one's own is a name and a function.
func Example_custom() {
	spec := flow.CardSpec{Name: "plain", Render: func(w io.Writer, d *flow.CardData) error {
		_, err := fmt.Fprintf(w, "%s %s\n", d.Info.Step, d.Outcome)
		return err
	}}
	_ = spec.Render(os.Stdout, &flow.CardData{Info: flow.Info{Step: "fit"}, Outcome: "completed"})
	// Output: fit completed
}
