package policies

import (
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// statusOf is the gRPC status that an error has: those of package status, and those of Temporal's services, which call the
// method otherwise.
func statusOf(err error) *status.Status {
	switch e := err.(type) {
	case interface{ GRPCStatus() *status.Status }:
		return e.GRPCStatus()
	case interface{ Status() *status.Status }:
		return e.Status()
	}
	return nil
}

func grpcClass(err error) Class {
	s := statusOf(err)
	if s == nil {
		return ""
	}
	switch s.Code() {
	case codes.Canceled: // like context.Canceled
		return Unknown
	case codes.DeadlineExceeded:
		return TimedOut
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.FailedPrecondition, codes.OutOfRange:
		return Invalid
	case codes.PermissionDenied, codes.Unauthenticated:
		return Denied
	case codes.ResourceExhausted:
		return RateLimited
	case codes.Aborted, codes.Internal, codes.Unavailable:
		return Transient
	case codes.Unimplemented, codes.DataLoss:
		return Permanent
	default: // OK and Unknown say nothing
		return ""
	}
}

// askedByStatus is the wait that a gRPC status asks for in its details, as google.rpc.RetryInfo. It outlives errors that panic.
func askedByStatus(err error) (asked time.Duration) {
	defer func() {
		if recover() != nil {
			asked = 0
		}
	}()
	s := statusOf(err)
	if s == nil {
		return 0
	}
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			asked = max(asked, info.GetRetryDelay().AsDuration())
		}
	}
	return asked
}

// awsClass knows error codes of AWS and of services that speak S3. Only those are listed whose HTTP status says something else,
// or which a client makes up without a status; the rest is left to httpClass.
//
// The codes of throttling and of timeouts are those of aws-sdk-go-v2, aws/retry/standard.go.
func awsClass(err error) Class {
	e, ok := err.(interface { // smithy.APIError, without what needs the SDK's types
		ErrorCode() string
		ErrorMessage() string
	})
	if !ok {
		return ""
	}
	switch e.ErrorCode() {
	case "Throttling", "ThrottlingException", "ThrottledException", "RequestThrottledException", "TooManyRequestsException",
		"ProvisionedThroughputExceededException", "TransactionInProgressException", "RequestLimitExceeded", "BandwidthLimitExceeded",
		"LimitExceededException", "RequestThrottled", "SlowDown", "PriorRequestNotComplete", "EC2ThrottledException",
		"SlowDownRead", "SlowDownWrite", "TooManyRequests": // MinIO
		return RateLimited
	case "RequestTimeout", "RequestTimeoutException", "InternalError", "InternalFailure", "InternalServerError", "InternalServerException",
		"InternalServiceError", "InternalServiceException", "ServiceUnavailable", "ServiceUnavailableException", "Busy",
		"OperationAborted", "ConditionalRequestConflict", "TransactionConflictException", "IDPCommunicationError",
		"XMinioServerNotInitialized":
		return Transient
	case "AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "UnauthorizedAccess", "NotAuthorized", "AuthFailure",
		"AuthorizationError", "AuthorizationHeaderMalformed", "AccountProblem", "AllAccessDisabled", "OptInRequired",
		"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired", "RequestTimeTooSkewed",
		"InvalidToken", "InvalidAccessKeyId", "InvalidClientTokenId", "InvalidSecurity", "InvalidSignatureException",
		"InvalidIdentityToken", "IncompleteSignature", "MissingAuthenticationToken", "MissingAuthenticationTokenException",
		"MissingSecurityHeader", "SignatureDoesNotMatch", "UnrecognizedClientException", "NotSignedUp":
		return Denied
	case "NoSuchBucket", "NoSuchKey", "NoSuchUpload", "NoSuchVersion", "NotFound", "ResourceNotFoundException",
		"ValidationException", "ValidationError", "InvalidArgument", "InvalidRequest", "InvalidParameterValue", "MalformedXML",
		"BucketAlreadyExists", "BucketAlreadyOwnedByYou", "PreconditionFailed", "ConditionalCheckFailedException", "EntityTooLarge",
		"InvalidBucketName", "InvalidRange":
		return Invalid
	case "NotImplemented", "MethodNotAllowed":
		return Permanent
	}
	return ""
}
