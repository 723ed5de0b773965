package protocol

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"syscall"
)

// Error is an error that knows its entry in the register of failures, so that whoever shows it to a person can say what to do next.
type Error struct {
	Code Code
	Err  error
}

// Error returns the text of the wrapped error: the code is for programs and for Explain.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the wrapped error.
func (e *Error) Unwrap() error { return e.Err }

// WithCode gives err a code; nil stays nil.
func WithCode(code Code, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Code: code, Err: err}
}

// CodeOf returns the outermost code in err's chain, Unknown if there is none, and "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return Unknown
}

// StorageCode is the condition of a terminal whose storage ended a read or a write so.
func StorageCode(err error) Code {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return StorageFull
	case errors.Is(err, syscall.EIO):
		return StorageFailing
	}
	return StorageReadOnly
}

// Alerts of RFC 8446 §6.2 by which a server refuses a client's certificate.
const (
	alertBadCertificate     = tls.AlertError(42)
	alertCertificateRevoked = tls.AlertError(44)
	alertCertificateExpired = tls.AlertError(45)
	alertCertificateUnknown = tls.AlertError(46)
	alertUnknownCA          = tls.AlertError(48)
	alertAccessDenied       = tls.AlertError(49)
)

// HandshakeCode says what it means when a terminal's mutual TLS with its clinic fails with err: the clinic is not the
// one whose root is pinned, one of the certificates or the clock is out of date, or the clinic refused the terminal. It
// returns "" if err is about none of these. In TLS 1.3 a refusal of the client's certificate shows at the first read after the handshake.
func HandshakeCode(err error) Code {
	var invalid x509.CertificateInvalidError
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var verification *tls.CertificateVerificationError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return TimeOff // also when it is not valid yet: a clinic renews its own certificate in time
	case errors.As(err, &invalid), errors.As(err, &authority), errors.As(err, &name), errors.As(err, &verification):
		return IdentityPin
	}
	switch alert, _ := remoteAlert(err); alert {
	case alertUnknownCA:
		return IdentityOtherClinic
	case alertCertificateExpired:
		return IdentityExpired
	case alertBadCertificate, alertCertificateRevoked, alertCertificateUnknown, alertAccessDenied:
		return LinkRefused
	}
	return ""
}

// remoteAlert returns the alert by which the other side ended a connection. Over TCP crypto/tls says it in a
// net.OpError around a type of its own, of which only the text can be seen.
func remoteAlert(err error) (tls.AlertError, bool) {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" || op.Err == nil {
		return 0, false
	}
	for a := range 256 {
		if alert := tls.AlertError(a); alert.Error() == op.Err.Error() {
			return alert, true
		}
	}
	return 0, false
}
