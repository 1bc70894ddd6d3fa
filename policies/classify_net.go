package policies

import (
	"crypto/tls"
	"crypto/x509"
	"database/sql/driver"
	"io"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"syscall"
)

// tlsClass knows what goes wrong with certificates and handshakes. A certificate that is refused stays refused; a handshake that
// was cut is an error of the network.
func tlsClass(err error) Class {
	switch err.(type) {
	case *tls.CertificateVerificationError, x509.UnknownAuthorityError, x509.HostnameError, x509.CertificateInvalidError,
		x509.ConstraintViolationError, x509.InsecureAlgorithmError, x509.UnhandledCriticalExtension, x509.SystemRootsError,
		tls.RecordHeaderError, *tls.ECHRejectionError:
		return Permanent
	}
	if is(err, http.ErrSchemeMismatch) {
		return Permanent
	}
	// An alert that one side sent to the other: tls.AlertError, or the type that package tls keeps to itself.
	t := reflect.TypeOf(err)
	if t.Kind() != reflect.Uint8 || t.PkgPath() != "crypto/tls" {
		return ""
	}
	switch reflect.ValueOf(err).Uint() {
	case 41, 42, 43, 44, 45, 46, 48, 49, 115, 116: // about a certificate or key of ours, RFC 8446 section 6.2
		return Denied
	case 40, 70, 71, 86, 109, 110, 112, 120: // nothing in common, or no such server
		return Permanent
	}
	return Transient
}

// dnsClass knows the answers of name servers. "No such host" is tried again, too: names of services that are being started appear
// some time later, and name servers have gaps.
func dnsClass(err error) Class {
	if _, ok := err.(*net.DNSError); ok {
		return Transient
	}
	return ""
}

// broken are the errors of connections that could not be made or did not last.
var broken = []error{
	syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.ECONNABORTED, syscall.EPIPE, syscall.ETIMEDOUT, syscall.ENETUNREACH,
	syscall.EHOSTUNREACH, syscall.ENETDOWN, syscall.EHOSTDOWN, syscall.ENETRESET, syscall.ENOTCONN, syscall.EADDRNOTAVAIL,
	syscall.EADDRINUSE, io.ErrUnexpectedEOF, driver.ErrBadConn,
}

// networkClass knows errors of connections and whatever says that it is a timeout. A timeout of a connection is Transient: the
// attempt had time left, and more of it would not help. That of a dialer does not get here, see contextClass.
func networkClass(err error) Class {
	switch e := err.(type) {
	case *net.AddrError, *net.ParseError, net.InvalidAddrError, net.UnknownNetworkError:
		return Permanent
	case *net.OpError:
		if c := networkClass(e.Err); c == Permanent { // a bad address, which comes wrapped in one
			return c
		}
		return Transient
	case *url.Error:
		if e.Op == "parse" {
			return Invalid
		}
		if e.Err == io.EOF { // the server closed the connection before it answered
			return Transient
		}
	}
	if slow, ok := err.(interface{ Timeout() bool }); ok && slow.Timeout() {
		return Transient
	}
	if is(err, broken...) {
		return Transient
	}
	return ""
}
