package protocol

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
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
	remote := func(alert tls.AlertError) error { return &net.OpError{Op: "remote error", Err: alert} }
	verification := func(err error) error { return &tls.CertificateVerificationError{Err: err} }
	for _, c := range []struct {
		name string
		err  error
		want Code
	}{
		{"an alert that we sent", &net.OpError{Op: "local error", Err: tls.AlertError(48)}, ""},
		{"not about TLS", errors.New("connection refused"), ""},
		{"nil", nil, ""},
		{"another root", verification(x509.UnknownAuthorityError{}), IdentityPin},
		{"another name", verification(x509.HostnameError{}), IdentityPin},
		{"not for servers", verification(x509.CertificateInvalidError{Reason: x509.IncompatibleUsage}), IdentityPin},
		{"outside its validity", verification(x509.CertificateInvalidError{Reason: x509.Expired}), TimeOff},
		{"our certificate is of another clinic", fmt.Errorf("read: %w", remote(48)), IdentityOtherClinic},
		{"our certificate has expired", remote(45), IdentityExpired},
		{"revoked", remote(44), LinkRefused},
		{"access denied", remote(49), LinkRefused},
		{"another alert", remote(80), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := HandshakeCode(c.err); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestHandshakeCodeReal asks crypto/tls itself, because the form of its errors is not promised.
func TestHandshakeCodeReal(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	own := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "clinic"}, DNSNames: []string{"clinic"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, own, own, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AddCert(root)
	for _, c := range []struct {
		name   string
		server *tls.Config
		client *tls.Config
		want   Code
	}{
		{"another root", &tls.Config{}, &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "clinic"}, IdentityPin},
		{"another name", &tls.Config{}, &tls.Config{RootCAs: trusted, ServerName: "surgery"}, IdentityPin},
		{"clock in the past", &tls.Config{}, &tls.Config{RootCAs: trusted, ServerName: "clinic", Time: func() time.Time { return time.Unix(-1, 0) }}, TimeOff},
		{"our certificate is of another clinic", &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: x509.NewCertPool()},
			&tls.Config{RootCAs: trusted, ServerName: "clinic", Certificates: []tls.Certificate{cert}}, IdentityOtherClinic},
	} {
		t.Run(c.name, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			c.server.Certificates = []tls.Certificate{cert}
			done := make(chan struct{})
			go func() {
				defer close(done)
				far, err := listener.Accept()
				if err != nil {
					return
				}
				defer far.Close()
				s := tls.Server(far, c.server)
				if s.Handshake() == nil {
					_, _ = s.Write([]byte("x"))
				}
				_, _ = io.Copy(io.Discard, far) // so that closing does not reset the connection before the alert is read
			}()
			near, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			client := tls.Client(near, c.client)
			err = client.Handshake()
			if err == nil {
				_, err = client.Read(make([]byte, 1))
			}
			near.Close()
			<-done
			if got := HandshakeCode(err); got != c.want {
				t.Errorf("got %q, want %q, for %v", got, c.want, err)
			}
		})
	}
}

// The same sentence is read from a terminal that goes on trying and from a command that tries once: it promises neither.
func TestRegisterPromisesNoNewAttempt(t *testing.T) {
	for _, f := range Register {
		for _, promise := range []string{"keeps trying", "trying again", "tries again", "tried again"} {
			if text := f.Sentence + " " + f.Next; strings.Contains(strings.ToLower(text), promise) {
				t.Errorf("%s: %q is not true of vindu-agent enrol", f.Code, text)
			}
		}
	}
}
