// Command build builds the MinIO server that the tests run, unless it is there already.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/stepwell-flows/stepwell/internal/minio"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	path, err := minio.Binary(ctx, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(path)
}
