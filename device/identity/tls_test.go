package identity_test

import (
	"crypto"
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"vindu/device/identity"
	"vindu/device/identity/identitytest"
	"vindu/device/state/statetest"
	"vindu/protocol"
)

// TestTLS connects to servers that are, and are not, the clinic.
func TestTLS(t *testing.T) {
	clinic, foreign := identitytest.New(t, time.Now), identitytest.New(t, time.Now)
	nextYear := identitytest.New(t, func() time.Time { return time.Now().AddDate(2, 0, 0) })
	i := clinic.Enrolled(address)
	other := clinic.Server("mqtt")
	other.ServerName = "other"
	older := clinic.Server("mqtt")
	older.MinVersion, older.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	stranger := foreign.Enrolled(address)
	for _, c := range []struct {
		name   string
		client *tls.Config
		server *tls.Config
		want   protocol.Code
		fails  bool
	}{
		{"the clinic", i.TLS("mqtt"), clinic.Server("mqtt"), "", false},
		{"another clinic's server", i.TLS("mqtt"), foreign.Server("mqtt"), protocol.IdentityPin, true},
		{"another clinic's terminal", clientOf(stranger, i), clinic.Server("mqtt"), protocol.IdentityOtherClinic, true},
		{"a server from the future", clientAt(t, nextYear), nextYear.Server("mqtt"), protocol.TimeOff, true},
		{"TLS 1.2 only", i.TLS("mqtt"), older, "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			done := make(chan struct{})
			go func() {
				defer close(done)
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				s := tls.Server(conn, c.server)
				if s.Handshake() == nil {
					_, _ = s.Write([]byte("x"))
				}
				_, _ = io.Copy(io.Discard, conn)
			}()
			raw, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			conn := tls.Client(raw, c.client)
			if err = conn.Handshake(); err == nil {
				_, err = conn.Read(make([]byte, 1))
			}
			raw.Close()
			<-done
			if (err != nil) != c.fails || protocol.HandshakeCode(err) != c.want {
				t.Errorf("got %v with code %q", err, protocol.HandshakeCode(err))
			}
			if s := conn.ConnectionState(); !c.fails && (s.Version != tls.VersionTLS13 || s.NegotiatedProtocol != "mqtt") {
				t.Errorf("version %#x, protocol %q", s.Version, s.NegotiatedProtocol)
			}
		})
	}
}

// clientOf is a terminal that trusts what i trusts but shows its own certificate.
func clientOf(stranger, i *identity.Identity) *tls.Config {
	config := stranger.TLS("mqtt")
	config.RootCAs = i.TLS().RootCAs
	return config
}

// clientAt is a terminal of the clinic whose clock is right.
func clientAt(t *testing.T, clinic *identitytest.Clinic) *tls.Config {
	t.Helper()
	i := load(t, statetest.New())
	if err := i.Keep(clinic.Grant(address, i.Signer().Public())); err != nil {
		t.Fatal(err)
	}
	return i.TLS("mqtt")
}

// opaque is a key of which only signatures are seen, as in a TPM.
type opaque struct{ crypto.Signer }

type opaqueKeystore struct{ signer crypto.Signer }

func (k opaqueKeystore) Signer() crypto.Signer  { return opaque{k.signer} }
func (opaqueKeystore) Grade() string            { return identity.GradeHardware }
func (opaqueKeystore) Condition() protocol.Code { return "" }

func TestOpaqueKey(t *testing.T) {
	clinic := identitytest.New(t, time.Now)
	dir := openDir(t, statetest.New())
	soft, err := identity.FileKeystore(dir)
	if err != nil {
		t.Fatal(err)
	}
	i, err := identity.Open(dir, opaqueKeystore{soft.Signer()}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Keep(clinic.Grant(address, i.Signer().Public())); err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	defer near.Close()
	go func() {
		s := tls.Server(far, clinic.Server("mqtt"))
		if s.Handshake() == nil {
			_, _ = s.Write([]byte("x"))
		}
		far.Close()
	}()
	conn := tls.Client(near, i.TLS("mqtt"))
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
	if i.Grade() != identity.GradeHardware {
		t.Errorf("grade %s", i.Grade())
	}
}
