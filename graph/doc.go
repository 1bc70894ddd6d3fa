// Package graph draws flows: as an outline that reads like the author's expression, and as directed graphs in the
// languages of Graphviz and Mermaid.
//
// It draws a [flow.Plan], so what it shows is what a run is started with:
//
//	os.WriteFile("train.mmd", []byte(graph.Mermaid(train.Plan())), 0o644)
//
// # What is drawn
//
// The flow's name is where it begins. A step is a box. A branch and a foreach fan out from a node of their own and come
// together in their join; the body of a foreach stands in a frame that says what its items are. A switch is a diamond whose
// edges carry its cases. A loop is a hexagon that is left into its body, from where an edge with the loop's name leads back,
// or to what follows. What the plan adds to decide a shape that has no step before it is left out.
//
// # Safety
//
// Values of cases and types of items may be any text. What is not plain is shown as a quoted Go string, so that no character
// of it does anything to a terminal, and what means something to Graphviz or Mermaid is escaped.
package graph
