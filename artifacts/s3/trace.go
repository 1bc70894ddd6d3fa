package s3

import (
	"context"
	"errors"
	"net/http"
	"reflect"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// addTrace makes a span of each call that is a part of something that is traced. Its attributes have the names of OpenTelemetry's
// conventions for S3. Of a download it lasts until the content begins.
func addTrace(stack *middleware.Stack) error {
	return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("StepwellTrace", traced), middleware.After)
}

func traced(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return next.HandleInitialize(ctx, in)
	}
	operation := awsmiddleware.GetOperationName(ctx)
	ctx, span := otel.Tracer("github.com/stepwell-flows/stepwell/artifacts/s3").Start(ctx, "S3."+operation,
		trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
			attribute.String("rpc.system", "aws-api"), attribute.String("rpc.service", "S3"), attribute.String("rpc.method", operation),
			attribute.String("aws.s3.bucket", parameter(in.Parameters, "Bucket")),
		))
	defer span.End()
	if key := parameter(in.Parameters, "Key"); key != "" {
		span.SetAttributes(attribute.String("aws.s3.key", key))
	}
	out, metadata, err := next.HandleInitialize(ctx, in)
	status := 0
	if answer, ok := awsmiddleware.GetRawResponse(metadata).(*smithyhttp.Response); ok && answer.Response != nil {
		status = answer.StatusCode
	}
	if failed, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		status = failed.HTTPStatusCode()
	}
	if status != 0 {
		span.SetAttributes(attribute.Int("http.response.status_code", status))
	}
	// An object that is not there, or is there already, is what the store wanted to know.
	if err != nil && status != http.StatusNotFound && status != http.StatusPreconditionFailed {
		text := "no answer"
		if api, ok := errors.AsType[smithy.APIError](err); ok {
			text = api.ErrorCode()
		}
		span.SetStatus(codes.Error, text)
	}
	return out, metadata, err
}

// parameter is a field of an operation's input, "" if it has none of that name.
func parameter(input any, name string) string {
	v := reflect.Indirect(reflect.ValueOf(input))
	if v.Kind() != reflect.Struct {
		return ""
	}
	if f := v.FieldByName(name); f.IsValid() {
		if s, ok := reflect.TypeAssert[*string](f); ok && s != nil {
			return *s
		}
	}
	return ""
}
