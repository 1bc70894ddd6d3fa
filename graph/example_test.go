package graph_test

import (
	"context"
	"fmt"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/graph"
)

func Example() {
	type State struct{ Words []string }
	pass := func(context.Context, *State) error { return nil }
	f := flow.New("Words",
		flow.Step("read", pass),
		flow.Loop("shorten", func(s *State) bool { return len(s.Words) > 1 }, flow.Step("drop", pass)),
	)
	fmt.Print(graph.Mermaid(f.Plan()))
	// Output:
	// flowchart TD
	//   entry(["Words"])
	//   step_read("read")
	//   loop_shorten{{"loop shorten"}}
	//   step_drop("drop")
	//   exit(((" ")))
	//   entry --> step_read
	//   step_read --> loop_shorten
	//   loop_shorten -->|"again"| step_drop
	//   step_drop -.->|"shorten"| loop_shorten
	//   loop_shorten -->|"done"| exit
}
