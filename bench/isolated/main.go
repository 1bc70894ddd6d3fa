// Command isolated is the worker of BenchmarkIsolated: like one that is deployed, it has no server in it.
package main

import (
	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/bench/isolated/counting"
)

func main() { stepwell.App{Flows: counting.Flows()}.Worker() }
