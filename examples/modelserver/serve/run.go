package serve

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/stepwell-flows/stepwell/activities/predict"
	"github.com/stepwell-flows/stepwell/artifacts"
)

// Handler serves a model at /predict and, many flights in one request, at /predict/batch. Responses are kept in store. What was
// executed is counted and told at /stats.
func Handler(model http.Handler, store *artifacts.Store, o predict.ServerOptions, faults Faults) http.Handler {
	executed := &Counter{}
	one := faults.Wrap(predict.Middleware(store, o), executed.Wrap(model))
	mux := http.NewServeMux()
	mux.Handle("POST /predict", one)
	mux.Handle("POST /predict/batch", predict.BatchHandler(one, predict.BatchHandlerOptions{}))
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) {
		keys, calls, most := executed.Stats()
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, "{\"keys\":%d,\"executed\":%d,\"most_for_one_key\":%d}\n", keys, calls, most)
	})
	return mux
}

// Run is the program: it serves until the context ends.
func Run(ctx context.Context, args []string, out io.Writer) error {
	set := flag.NewFlagSet("modelserver", flag.ContinueOnError)
	set.SetOutput(out)
	address := set.String("addr", "127.0.0.1:8090", "address to listen on")
	location := set.String("store", ".stepwell/store", "store with the trained model, where the responses are kept, too")
	run := set.String("run", "FlightDelayFlow/latest", "the run that trained the model")
	lease := set.Duration("lease", time.Minute, "how long a prediction may take, and how long a crash blocks its key")
	var faults Faults
	faults.Flags(set)
	if err := set.Parse(args); err != nil {
		return err
	}
	store, err := artifacts.Open(ctx, *location, artifacts.Options{})
	if err != nil {
		return err
	}
	model, err := Load(ctx, store, *run)
	if err != nil {
		return fmt.Errorf("%w (train one: go run ./starter run FlightDelayFlow)", err)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", *address)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           Handler(model, store, predict.ServerOptions{Lease: *lease}, faults),
		ReadHeaderTimeout: 5 * time.Second,
	}
	fmt.Fprintf(out, "serving the model of %s at http://%s/predict\n", *run, l.Addr())
	drained := make(chan error, 1)
	go func() {
		<-ctx.Done()
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		drained <- server.Shutdown(drain)
	}()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-drained
}
