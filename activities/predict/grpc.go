package predict

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/stepwell-flows/stepwell/policies"
)

// The metadata of the pair. The keys stand without quotes.
const (
	keyMetadata      = "idempotency-key"
	replayedMetadata = "idempotent-replayed"
	requestMetadata  = "x-request-id"
)

type grpcTransport struct {
	conn    grpc.ClientConnInterface
	method  string
	options []grpc.CallOption
}

// GRPC calls a unary method such as "/models.Predictor/Predict". Requests and responses are protocol buffers, the response type
// is a pointer: predict.Call[*pb.Request, *pb.Response].
//
// The connection's own retries should be off (grpc.WithDisableRetry): they are not counted.
func GRPC(conn grpc.ClientConnInterface, method string, options ...grpc.CallOption) Transport {
	return &grpcTransport{conn, method, options}
}

func (t *grpcTransport) target() string { return t.method }

func (t *grpcTransport) identity() string {
	if c, ok := t.conn.(interface{ Target() string }); ok { // as grpc.ClientConn has it
		return c.Target() + " " + t.method
	}
	return t.method
}

func (t *grpcTransport) check() error {
	if t.conn == nil || len(t.method) < 2 || t.method[0] != '/' {
		return fmt.Errorf("method %q cannot be called (give a connection and a method like \"/package.Service/Method\")", t.method)
	}
	return nil
}

func (t *grpcTransport) encode(req any) (payload, error) {
	m, ok := req.(proto.Message)
	if !ok {
		return payload{}, fmt.Errorf("a %T is no protocol buffer", req)
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	return payload{bytes: b, message: m}, err
}

// message makes the message that resp, a pointer to the caller's response type, is to hold.
func message(resp any) (proto.Message, error) {
	v := reflect.ValueOf(resp).Elem()
	if v.Kind() == reflect.Pointer && v.IsNil() {
		v.Set(reflect.New(v.Type().Elem()))
	}
	m, ok := reflect.TypeAssert[proto.Message](v)
	if !ok {
		return nil, policies.WithClass(fmt.Errorf("a %s is no protocol buffer (the response type is a pointer to a message)", v.Type()), policies.Permanent)
	}
	return m, nil
}

func (t *grpcTransport) keep(_ answer, resp any) ([]byte, error) {
	m, err := message(resp)
	if err != nil {
		return nil, err
	}
	return proto.Marshal(m)
}

func (t *grpcTransport) restore(b []byte, resp any) error {
	m, err := message(resp)
	if err != nil {
		return err
	}
	return proto.Unmarshal(b, m)
}

func (t *grpcTransport) send(ctx context.Context, p payload, h heading, resp any) (answer, error) {
	m, err := message(resp)
	if err != nil {
		return answer{}, err
	}
	out := metadata.Pairs(requestMetadata, h.request)
	if h.key != "" {
		out.Set(keyMetadata, h.key)
	}
	propagation.TraceContext{}.Inject(ctx, carrier(out))
	if own, ok := metadata.FromOutgoingContext(ctx); ok {
		out = metadata.Join(own, out)
	}
	var header metadata.MD
	options := append(append([]grpc.CallOption(nil), t.options...), grpc.Header(&header))
	err = t.conn.Invoke(metadata.NewOutgoingContext(ctx, out), t.method, p.message, m, options...)
	a := answer{status: status.Code(err).String(), replayed: len(header.Get(replayedMetadata)) > 0}
	if err == nil {
		return a, nil
	}
	if ctx.Err() != nil { // the deadline of this attempt, or of the caller
		return a, errors.Join(ctx.Err(), err)
	}
	if executingGRPC(err) {
		err = &executingError{err}
	}
	return a, err
}

func executingGRPC(err error) bool {
	s, _ := status.FromError(err)
	return s.Code() == codes.Aborted && slices.ContainsFunc(s.Details(), func(detail any) bool {
		info, ok := detail.(*errdetails.ErrorInfo)
		return ok && info.GetReason() == inFlightReason && info.GetDomain() == inFlightDomain
	})
}

// askedByGRPC is the wait in the status's details.
func askedByGRPC(err error) time.Duration {
	s, ok := status.FromError(err)
	if !ok {
		return 0
	}
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			return max(info.GetRetryDelay().AsDuration(), 0)
		}
	}
	return 0
}

type carrier metadata.MD

func (c carrier) Get(key string) string {
	if v := metadata.MD(c).Get(key); len(v) > 0 {
		return v[0]
	}
	return ""
}

func (c carrier) Set(key, value string) { metadata.MD(c).Set(key, value) }

func (c carrier) Keys() []string {
	keys := make([]string, 0, len(c))
	for k := range c {
		keys = append(keys, k)
	}
	return keys
}
