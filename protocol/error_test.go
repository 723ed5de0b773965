package protocol

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"testing"
)

func TestCodeOf(t *testing.T) {
	cause := errors.New("disk on fire")
	coded := WithCode(StorageUnreadable, cause)
	for _, c := range []struct {
		name string
		err  error
		want Code
	}{
		{"nil", nil, ""},
		{"no code", cause, Unknown},
		{"coded", coded, StorageUnreadable},
		{"wrapped", fmt.Errorf("open: %w", coded), StorageUnreadable},
		{"outermost wins", WithCode(StorageFull, fmt.Errorf("open: %w", coded)), StorageFull},
		{"coding nothing", WithCode(StorageFull, nil), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := CodeOf(c.err); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	if !errors.Is(coded, cause) || coded.Error() != cause.Error() {
		t.Errorf("a coded error hides its cause: %v", coded)
	}
}

func TestHandshakeCode(t *testing.T) {
	verification := func(err error) error { return &tls.CertificateVerificationError{Err: err} }
	for _, c := range []struct {
		name string
		err  error
		want Code
	}{
		{"not about TLS", errors.New("connection refused"), ""},
		{"nil", nil, ""},
		{"another root", verification(x509.UnknownAuthorityError{}), IdentityPin},
		{"another name", verification(x509.HostnameError{}), IdentityPin},
		{"not for servers", verification(x509.CertificateInvalidError{Reason: x509.IncompatibleUsage}), IdentityPin},
		{"outside its validity", verification(x509.CertificateInvalidError{Reason: x509.Expired}), TimeOff},
		{"our certificate is of another clinic", fmt.Errorf("read: %w", tls.AlertError(48)), IdentityOtherClinic},
		{"our certificate has expired", tls.AlertError(45), IdentityExpired},
		{"revoked", tls.AlertError(44), LinkRefused},
		{"access denied", tls.AlertError(49), LinkRefused},
		{"another alert", tls.AlertError(80), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := HandshakeCode(c.err); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
