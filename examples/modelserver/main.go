// Command modelserver serves the model that FlightDelayFlow trained, each request once, and fails as it is told.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/stepwell-flows/stepwell/examples/modelserver/serve"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve.Run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "modelserver:", err)
		os.Exit(1) //nolint:gocritic // the deferred call only stops listening for signals
	}
}
