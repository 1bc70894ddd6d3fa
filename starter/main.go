// Command starter starts, resumes, follows and reads runs of the example flows. Without a configured Temporal server it
// runs everything in its own process.
package main

import (
	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/devserver"
	"github.com/stepwell-flows/stepwell/examples"
)

func main() { stepwell.App{Flows: examples.Flows(), Dev: devserver.Start}.Main() }
