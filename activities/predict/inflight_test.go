package predict_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/stepwell-flows/stepwell/activities/predict"
	"github.com/stepwell-flows/stepwell/policies"
)

// A key whose server crashed while it executed it is blocked until its claim runs out. That is a wait, and no attempt of the call.
func TestInFlightIsNoAttempt(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"call", "batch", "chunk", "gRPC"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, o := memory(), predict.ServerOptions{Lease: 3 * time.Second} // blocked for 3.75 s
			crash, asked := make(chan struct{}), atomic.Int32{}
			t.Cleanup(func() { close(crash) })
			// The dead server's execution never ends.
			dead := predict.Middleware(store, o)(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-crash }))
			alive := predict.Middleware(store, o)(http.HandlerFunc(double))
			if name == "chunk" {
				dead, alive = predict.BatchHandler(dead, predict.BatchHandlerOptions{}), predict.BatchHandler(alive, predict.BatchHandlerOptions{})
			}
			url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if asked.Add(1) > 1 {
					alive.ServeHTTP(w, r)
					return
				}
				body, _ := io.ReadAll(r.Body)
				again, _ := http.NewRequestWithContext(context.WithoutCancel(r.Context()), http.MethodPost, r.URL.String(), nil)
				again.Header, again.URL = r.Header, r.URL
				again.Body = io.NopCloser(bytes.NewReader(body))
				go dead.ServeHTTP(discard{http.Header{}}, again)
				time.Sleep(50 * time.Millisecond)
				panic(http.ErrAbortHandler)
			}))
			options := predict.Options{Retry: quick(2), Dependency: policies.Dependency{
				Name: "m", Breaker: policies.Breaker{Failures: 3}, Budget: policies.Budget{Percent: 0.001, Minimum: 2},
			}}
			ctx := inTask(t, &notes{})
			switch name {
			case "call":
				got, err := ask(ctx, newClient(t, url, options), 3)
				require.NoError(t, err)
				require.Equal(t, 6, got)
			case "gRPC":
				executes := make(chan struct{})
				conn := grpcServer(t, func(context.Context, int64) (int64, error) {
					if asked.Add(1) == 1 {
						close(executes)
						<-crash
					}
					return 6, nil
				}, func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
					if asked.Load() > 0 {
						return next(ctx, req)
					}
					go func() { _, _ = next(context.WithoutCancel(ctx), req) }()
					<-executes
					return nil, status.Error(codes.Unavailable, "the server crashed")
				}, predict.Interceptor(store, o))
				c, err := predict.New(predict.GRPC(conn, "/test.Predictor/Double"), options)
				require.NoError(t, err)
				got, err := predict.Call[*wrapperspb.Int64Value, *wrapperspb.Int64Value](ctx, c, "op", wrapperspb.Int64(3))
				require.NoError(t, err)
				require.EqualValues(t, 6, got.GetValue())
			default:
				chunk := 1
				if name == "chunk" {
					chunk = 2
				}
				out, err := predict.Batch[question, reaction](ctx, newClient(t, url, options), questions(chunk), predict.BatchOptions{Chunk: chunk})
				require.NoError(t, err)
				require.Empty(t, out.Report.Failed)
				require.Equal(t, chunk, out.Report.Succeeded)
			}
		})
	}
}

// Where the wait is longer than the call's patience, the task waits in its workflow.
func TestInFlightParks(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	clock, begun := newClock(), make(chan struct{})
	goOn := make(chan struct{})
	h := predict.Middleware(memory(), predict.ServerOptions{Now: clock.now})(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(begun)
		<-goOn
	}))
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { close(goOn) })
	first := newClient(t, url, predict.Options{Retry: quick(1)})
	go func() { _, _ = ask(context.WithoutCancel(t.Context()), first, 1) }()
	<-begun
	clock.advance(20 * time.Second)
	_, err := ask(t.Context(), newClient(t, url, predict.Options{Patience: 5 * time.Second, Retry: quick(1)}), 1)
	d, ok := policies.DeferralOf(err, nil)
	require.True(t, ok, "%v", err)
	require.GreaterOrEqual(t, d.For, 20*time.Second)
	require.EqualValues(t, 2, asked.Load())
}

type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}
