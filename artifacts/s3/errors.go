package s3

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/stepwell-flows/stepwell/artifacts/driver"
)

// answerError is an error of the SDK in one line.
type answerError struct {
	text  string
	kind  error // one of package driver's errors, or nil
	cause error // the SDK's
}

// Error implements error.
func (e *answerError) Error() string {
	text := strings.Join(strings.Fields(e.text), " ") // some servers send several lines
	if e.kind != nil {
		return e.kind.Error() + ": " + text
	}
	return text
}

// Unwrap gives the kind and the SDK's error.
func (e *answerError) Unwrap() []error {
	if e.kind == nil {
		return []error{e.cause}
	}
	return []error{e.kind, e.cause}
}

// Is makes an error that stays one a driver.ErrUnusable.
func (e *answerError) Is(target error) bool { return target == driver.ErrUnusable && e.kind == nil }

// fail says what was not done, and turns the SDK's error into the driver's.
func (d *Driver) fail(ctx context.Context, op, key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %q: %w", op, key, d.classify(ctx, err))
}

func (d *Driver) classify(ctx context.Context, err error) error {
	if source, ok := errors.AsType[*sourceError](err); ok {
		return source.err
	}
	if errors.Is(err, driver.ErrExists) {
		return driver.ErrExists
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if c, ok := errors.AsType[*credentialsError](err); ok {
		if c.passing {
			return unavailable("the credentials could not be renewed: "+brief(c.err), err)
		}
		return permanent("no AWS credentials found (set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give this machine a role)", err)
	}
	if errors.Is(err, errNoBucket) {
		return d.noBucket(err)
	}
	if errors.Is(err, errConflict) {
		return unavailable(fmt.Sprintf("%v, %d times in a row", errConflict, conflicts), err)
	}
	if _, ok := errors.AsType[smithy.APIError](err); ok {
		return d.classifyAnswer(err)
	}
	return d.classifyTransport(err)
}

func permanent(text string, cause error) error { return &answerError{text: text, cause: cause} }

func unavailable(text string, cause error) error {
	return &answerError{text: text, kind: driver.ErrUnavailable, cause: cause}
}

func (d *Driver) noBucket(err error) error {
	return permanent(fmt.Sprintf("bucket %q does not exist at %s (create it, or correct the location)", d.bucket, d.endpoint), err)
}

// codeOf is the code of the server's answer, or empty if it did not answer. The answer to HEAD has no body, but MinIO says the code
// in a header.
func codeOf(err error) string {
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return ""
	}
	if code := header(err, "X-Minio-Error-Code"); code != "" {
		if code == "NoSuchKey" {
			return "NotFound"
		}
		return code
	}
	return api.ErrorCode()
}

func header(err error, name string) string {
	if r, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && r.Response != nil && r.Response.Response != nil {
		return r.Response.Header.Get(name)
	}
	return ""
}

func status(err error) int {
	if r, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && r.Response != nil && r.Response.Response != nil {
		return r.HTTPStatusCode()
	}
	return 0
}

// classifyAnswer handles what the server said.
func (d *Driver) classifyAnswer(err error) error {
	switch code := codeOf(err); code {
	case "NoSuchKey", "NotFound":
		return driver.ErrNotFound
	case "NoSuchBucket":
		return d.noBucket(err)
	case "AccessDenied", "Forbidden", "AllAccessDisabled", "AccountProblem":
		return permanent(fmt.Sprintf("access to bucket %q denied (the credentials need s3:GetObject, s3:PutObject and s3:DeleteObject on its objects, "+
			"and s3:ListBucket on the bucket)", d.bucket), err)
	case "InvalidAccessKeyId", "InvalidClientTokenId":
		return permanent(fmt.Sprintf("the access key is not known at %s (correct AWS_ACCESS_KEY_ID, or the profile)", d.endpoint), err)
	case "SignatureDoesNotMatch":
		return permanent("the secret key does not belong to the access key (correct AWS_SECRET_ACCESS_KEY, or the profile)", err)
	case "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken", "InvalidTokenId":
		return permanent("the session's credentials are not valid any more (log in again, or renew AWS_SESSION_TOKEN)", err)
	case "RequestTimeTooSkewed":
		return permanent("the clocks of this machine and the server differ too much (set this machine's clock)", err)
	case "PermanentRedirect", "MovedPermanently", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException":
		return d.wrongRegion(err)
	case "SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "TooManyRequests", "InternalError", "ServiceUnavailable", "OperationAborted",
		// The content was damaged on its way.
		"BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "IncompleteBody":
		return unavailable(brief(err), err)
	}
	switch s := status(err); {
	case s >= 500, s == http.StatusTooManyRequests, s == http.StatusRequestTimeout:
		return unavailable(brief(err), err)
	case s == http.StatusMovedPermanently:
		return d.wrongRegion(err)
	}
	return permanent(brief(err), err)
}

func (d *Driver) wrongRegion(err error) error {
	region := header(err, "X-Amz-Bucket-Region")
	if region == "" {
		region = "…"
	}
	return permanent(fmt.Sprintf("bucket %q is in another region than %q (add ?region=%s to the location, or set AWS_REGION)",
		d.bucket, d.client.Options().Region, region), err)
}

// classifyTransport handles errors on the way to the server and back.
func (d *Driver) classifyTransport(err error) error {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return permanent(brief(err)+" (set AWS_CA_BUNDLE to the file of the authority that signed the server's certificate)", err)
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok || strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") {
		return permanent(fmt.Sprintf("%s does not speak TLS (write http:// in the endpoint)", d.endpoint), err)
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
		hint := "check the endpoint and the region"
		if strings.HasPrefix(dns.Name, d.bucket+".") {
			hint = "add path_style=true to the location if the server wants the bucket in the path"
		}
		return unavailable(fmt.Sprintf("%s (%s)", brief(err), hint), err)
	}
	_, sending := errors.AsType[*smithyhttp.RequestSendError](err)
	_, network := errors.AsType[net.Error](err)
	_, garbled := errors.AsType[*smithy.DeserializationError](err)
	if sending || network || garbled || errors.Is(err, io.ErrUnexpectedEOF) {
		return unavailable(brief(err), err)
	}
	return permanent(brief(err), err)
}

// brief is the part of the SDK's error that says what happened.
func brief(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		text := codeOf(err)
		if message := api.ErrorMessage(); message != "" && message != text {
			text += ": " + message
		}
		if s := status(err); s != 0 {
			text += fmt.Sprintf(" (HTTP status %d)", s)
		}
		return text
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err.Error()
	}
	if op, ok := errors.AsType[*smithy.OperationError](err); ok {
		return op.Err.Error()
	}
	return err.Error()
}
