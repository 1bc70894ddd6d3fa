package predict

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/stepwell-flows/stepwell/artifacts"
)

// Interceptor is [Middleware] for the unary methods of a gRPC server, with the metadata "idempotency-key" and
// "idempotent-replayed". All of them need a key; give the server that has others a handler in front that picks.
//
//	no key, or not one            InvalidArgument
//	a key that is being executed  Aborted with RetryInfo and ErrorInfo
//	a key of another request      InvalidArgument
//	a finished key                the stored response
//
// Final are success, InvalidArgument, NotFound, AlreadyExists, FailedPrecondition, OutOfRange and Unimplemented. Other errors give
// the key back. Messages are compared as deterministically encoded bytes; their types must be registered, as generated code does.
func Interceptor(store *artifacts.Store, o ServerOptions) grpc.UnaryServerInterceptor {
	o = o.withDefaults()
	s := server{&keeper{store: store, lease: o.Lease, now: o.Now}, o}
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		in, _ := metadata.FromIncomingContext(ctx)
		values := in.Get(keyMetadata)
		if len(values) != 1 || !legalKey(values[0]) {
			return nil, status.Errorf(codes.InvalidArgument, "the metadata %s is not one string of 1 to %d visible ASCII characters", keyMetadata, maxKey)
		}
		request, err := s.fingerprintOf(info.FullMethod, req)
		if err != nil {
			return nil, err
		}
		kept := context.WithoutCancel(ctx)
		h, done, err := s.keeper.take(kept, o.Scope(ctx), values[0], request)
		switch busy, ok := errors.AsType[*inFlightError](err); {
		case ok:
			return nil, aborted(busy)
		case errors.Is(err, errReused):
			return nil, status.Error(codes.InvalidArgument, err.Error())
		case err != nil:
			return nil, s.unavailableGRPC("claim", err)
		case done != nil:
			return s.replayGRPC(ctx, *done)
		}
		return s.executeGRPC(ctx, kept, req, h, values[0], next)
	}
}

func (s server) executeGRPC(ctx, kept context.Context, req any, h *hold, key string, next grpc.UnaryHandler) (any, error) {
	claim := h.claim(key)
	run, cancel := context.WithDeadlineCause(context.WithValue(kept, claimKey{}, claim), claim.Until, errLease)
	defer cancel()
	returned := false
	defer func() {
		if !returned { // a panic
			s.release(kept, h)
		}
	}()
	resp, failed := next(run, req)
	returned = true
	out, ok := storedGRPC(resp, failed, s.options.MaxResponse)
	if !ok {
		s.release(kept, h)
		return resp, failed
	}
	first, err := h.commit(kept, out)
	switch {
	case err != nil:
		return nil, s.unavailableGRPC("store", err)
	case first != nil:
		return s.replayGRPC(ctx, *first)
	case out.Status != int(status.Code(failed)): // too large
		return s.replayGRPC(ctx, out)
	}
	return resp, failed
}

func (s server) fingerprintOf(method string, req any) (string, error) {
	m, ok := req.(proto.Message)
	if !ok {
		return "", status.Errorf(codes.Internal, "a %T is no protocol buffer", req)
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return "", status.Errorf(codes.Internal, "encode the request: %v", err)
	}
	if int64(len(b)) > s.options.MaxRequest {
		return "", status.Errorf(codes.InvalidArgument, "the request is larger than %d bytes", s.options.MaxRequest)
	}
	h := sha256.New()
	fmt.Fprintf(h, "%d\x00%s", len(method), method)
	h.Write(b)
	return hex.EncodeToString(h.Sum(nil)), nil
}

// storedGRPC is what is kept of a response, if it is final.
func storedGRPC(resp any, failed error, limit int64) (stored, bool) {
	var m proto.Message
	code := status.Code(failed)
	switch code {
	case codes.OK:
		var ok bool
		if m, ok = resp.(proto.Message); !ok {
			return stored{}, false
		}
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.FailedPrecondition, codes.OutOfRange, codes.Unimplemented:
		if askedByGRPC(failed) > 0 {
			return stored{}, false
		}
		m = status.Convert(failed).Proto()
	default:
		return stored{}, false
	}
	a, err := anypb.New(m)
	if err != nil {
		return stored{}, false
	}
	b, err := proto.Marshal(a)
	if err != nil {
		return stored{}, false
	}
	if int64(len(b)) > limit { // it was executed, and must not be again
		return storedGRPC(nil, status.Error(codes.OutOfRange, errLarge.Error()), 1<<20)
	}
	return stored{Status: int(code), Body: b}, true
}

func (s server) replayGRPC(ctx context.Context, r stored) (any, error) {
	if err := grpc.SetHeader(ctx, metadata.Pairs(replayedMetadata, "true")); err != nil {
		s.options.Log.Warn("a replay is not marked as one", "error", err)
	}
	var a anypb.Any
	if err := proto.Unmarshal(r.Body, &a); err != nil {
		return nil, status.Errorf(codes.Internal, "the stored response cannot be read: %v", err)
	}
	m, err := a.UnmarshalNew()
	if err != nil {
		return nil, status.Errorf(codes.Internal, "the stored response cannot be read: %v", err)
	}
	if codes.Code(r.Status) == codes.OK {
		return m, nil
	}
	if failed, ok := m.(*spb.Status); ok {
		return nil, status.FromProto(failed).Err()
	}
	return nil, status.Errorf(codes.Internal, "the stored response is a %s", a.GetTypeUrl())
}

// How a client knows what Aborted means.
const (
	inFlightReason = "IN_FLIGHT"
	inFlightDomain = "idempotency.stepwell"
)

func aborted(busy *inFlightError) error {
	s := status.New(codes.Aborted, busy.Error())
	if with, err := s.WithDetails(&errdetails.ErrorInfo{Reason: inFlightReason, Domain: inFlightDomain}); err == nil {
		s = with
	}
	return withRetryInfo(s, busy.wait)
}

func (s server) unavailableGRPC(what string, err error) error {
	s.options.Log.Error("the store of idempotency keys does not work", "op", what, "error", err)
	return withRetryInfo(status.New(codes.Unavailable, "the store of responses does not answer"), time.Second)
}

func withRetryInfo(s *status.Status, wait time.Duration) error {
	if with, err := s.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(wait)}); err == nil {
		s = with
	}
	return s.Err()
}
