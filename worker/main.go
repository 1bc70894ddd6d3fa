// Command worker runs the steps of the example flows until it is told to stop; SIGTERM drains it.
// It needs a Temporal server: it has none built in.
package main

import (
	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/examples"
)

func main() { stepwell.App{Flows: examples.Flows()}.Worker() }
