package policies

import (
	"net/http"
	"reflect"
)

// httpClass knows the status of errors that have one: in a method StatusCode or HTTPStatusCode (the AWS SDK's), or in a field
// StatusCode.
func httpClass(err error) Class {
	switch e := err.(type) {
	case interface{ HTTPStatusCode() int }:
		return statusClass(e.HTTPStatusCode())
	case interface{ StatusCode() int }:
		return statusClass(e.StatusCode())
	}
	if v := field(err, "StatusCode"); v.IsValid() && v.Kind() == reflect.Int {
		return statusClass(int(v.Int()))
	}
	return ""
}

// statusClass is the class of a status, "" for those that are no failure.
func statusClass(code int) Class {
	switch code {
	case http.StatusTooManyRequests:
		return RateLimited
	case http.StatusRequestTimeout, http.StatusTooEarly:
		return Transient
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired, http.StatusNetworkAuthenticationRequired:
		return Denied
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported, http.StatusVariantAlsoNegotiates, http.StatusLoopDetected, http.StatusNotExtended:
		return Permanent
	case 499: // of proxies: it was the caller who did not wait, as with context.Canceled
		return Unknown
	}
	switch {
	case code >= 300 && code < 400: // a redirect that was not followed
		return Permanent
	case code >= 400 && code < 500:
		return Invalid
	case code >= 500 && code < 600: // those of proxies, such as 520 to 530, among them
		return Transient
	}
	return ""
}
