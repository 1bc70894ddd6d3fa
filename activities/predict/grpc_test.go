package predict_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/stepwell-flows/stepwell/activities/predict"
	"github.com/stepwell-flows/stepwell/policies"
)

type noConn struct{ grpc.ClientConnInterface }

type predictor func(ctx context.Context, n int64) (int64, error)

// grpcServer serves test.Predictor/Double and returns a connection.
func grpcServer(t testing.TB, p predictor, interceptors ...grpc.UnaryServerInterceptor) *grpc.ClientConn {
	t.Helper()
	l := bufconn.Listen(1 << 20)
	s := grpc.NewServer(grpc.ChainUnaryInterceptor(interceptors...))
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: "test.Predictor", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Double", Handler: func(_ any, ctx context.Context, decode func(any) error, i grpc.UnaryServerInterceptor) (any, error) {
			in := &wrapperspb.Int64Value{}
			if err := decode(in); err != nil {
				return nil, err
			}
			h := func(ctx context.Context, req any) (any, error) {
				q, _ := req.(*wrapperspb.Int64Value)
				n, err := p(ctx, q.GetValue())
				if err != nil {
					return nil, err
				}
				return wrapperspb.Int64(n), nil
			}
			return i(ctx, in, &grpc.UnaryServerInfo{FullMethod: "/test.Predictor/Double"}, h)
		}}},
	}, nil)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	conn, err := grpc.NewClient("passthrough:///test", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry(),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func grpcClient(t testing.TB, conn *grpc.ClientConn, o predict.Options) *predict.Client {
	t.Helper()
	c, err := predict.New(predict.GRPC(conn, "/test.Predictor/Double"), o)
	require.NoError(t, err)
	return c
}

func askGRPC(ctx context.Context, c *predict.Client, key string, n int64) (int64, error) {
	a, err := predict.Call[*wrapperspb.Int64Value, *wrapperspb.Int64Value](ctx, c, key, wrapperspb.Int64(n))
	return a.GetValue(), err
}

func TestGRPC(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var keys, ids []string
	var executed, asked atomic.Int32
	front := func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		in, _ := metadata.FromIncomingContext(ctx)
		mu.Lock()
		keys, ids = append(keys, in.Get("idempotency-key")...), append(ids, in.Get("x-request-id")...)
		mu.Unlock()
		switch asked.Add(1) {
		case 1:
			return nil, status.Error(codes.Unavailable, "not now")
		case 2: // executed, and the response is lost
			_, _ = next(ctx, req)
			return nil, status.Error(codes.Unavailable, "lost")
		}
		return next(ctx, req)
	}
	conn := grpcServer(t, func(_ context.Context, n int64) (int64, error) {
		executed.Add(1)
		if n < 0 {
			return 0, status.Error(codes.OutOfRange, "n is negative")
		}
		return 2 * n, nil
	}, front, predict.Interceptor(memory(), predict.ServerOptions{}))
	c := grpcClient(t, conn, predict.Options{Retry: quick(3)})
	got, err := askGRPC(t.Context(), c, "a", 4)
	require.NoError(t, err)
	require.EqualValues(t, 8, got)
	require.Equal(t, []string{"a", "a", "a"}, keys)
	require.Len(t, ids, 3)
	require.Equal(t, ids[0], ids[2], "the correlation id of a call")
	require.EqualValues(t, 1, executed.Load())

	_, err = askGRPC(t.Context(), c, "a", 5)
	require.Equal(t, codes.InvalidArgument, status.Code(err), "%v", err)
	require.ErrorContains(t, err, "another request")
	require.Equal(t, policies.Invalid, policies.Classify(err).Class)
	for range 2 {
		_, err = askGRPC(t.Context(), c, "b", -1)
		require.Equal(t, codes.OutOfRange, status.Code(err), "%v", err)
		require.ErrorContains(t, err, "n is negative")
	}
	require.EqualValues(t, 2, executed.Load(), "a final failure is kept, too")

	require.ErrorContains(t, conn.Invoke(t.Context(), "/test.Predictor/Double", wrapperspb.Int64(1), &wrapperspb.Int64Value{}), "idempotency-key")

	batch, err := predict.Batch[*wrapperspb.Int64Value, *wrapperspb.Int64Value](inTask(t, &notes{}), c,
		[]predict.Item[*wrapperspb.Int64Value]{{Request: wrapperspb.Int64(1)}, {Request: wrapperspb.Int64(2)}, {Request: wrapperspb.Int64(1)}}, predict.BatchOptions{})
	require.NoError(t, err)
	require.EqualValues(t, 2, batch.Results[2].Value.GetValue())
	require.Equal(t, 2, batch.Report.Requests)
}

// The interceptor says how long to wait while a key is being executed, and the client waits.
func TestGRPCInFlight(t *testing.T) {
	t.Parallel()
	clock, begun, goOn := newClock(), make(chan struct{}), make(chan struct{})
	var executed atomic.Int32
	conn := grpcServer(t, func(_ context.Context, n int64) (int64, error) {
		executed.Add(1)
		close(begun)
		<-goOn
		return 2 * n, nil
	}, predict.Interceptor(memory(), predict.ServerOptions{Now: clock.now}))
	first := make(chan error, 1)
	c := grpcClient(t, conn, predict.Options{})
	go func() {
		_, err := askGRPC(t.Context(), c, "a", 1)
		first <- err
	}()
	<-begun
	clock.advance(20 * time.Second)
	_, err := askGRPC(t.Context(), grpcClient(t, conn, predict.Options{Patience: 5 * time.Second}), "a", 1)
	require.Equal(t, codes.Aborted, status.Code(err))
	f := policies.Classify(err)
	require.Equal(t, policies.RateLimited, f.Class)
	require.Equal(t, 20*time.Second, f.RetryAfter)
	close(goOn)
	require.NoError(t, <-first)
	got, err := askGRPC(t.Context(), grpcClient(t, conn, predict.Options{}), "a", 1)
	require.NoError(t, err)
	require.EqualValues(t, 2, got)
	require.EqualValues(t, 1, executed.Load())
}

func TestGRPCDeadline(t *testing.T) {
	t.Parallel()
	conn := grpcServer(t, func(ctx context.Context, n int64) (int64, error) {
		<-ctx.Done()
		return 0, ctx.Err()
	}, func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		return next(ctx, req)
	})
	_, err := askGRPC(t.Context(), grpcClient(t, conn, predict.Options{Retry: quick(2), Timeout: 20 * time.Millisecond}), "a", 1)
	require.Equal(t, policies.TimedOut, policies.Classify(err).Class, "%v", err)
	require.ErrorContains(t, err, "attempt 2")
}

func TestGRPCWantsMessages(t *testing.T) {
	t.Parallel()
	conn := grpcServer(t, nil)
	_, err := predict.Call[question, reaction](t.Context(), grpcClient(t, conn, predict.Options{}), "a", question{})
	require.ErrorContains(t, err, "no protocol buffer")
	_, err = predict.New(predict.GRPC(nil, "Double"), predict.Options{})
	require.ErrorContains(t, err, fmt.Sprintf("%q", "Double"))
}
