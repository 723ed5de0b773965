// Package brokertest gives tests a real broker over mutual TLS, an authority that makes the certificates for it, and terminals
// that speak MQTT to it as the ones in homes do.
package brokertest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"vindu/clinic/broker"
	"vindu/protocol"
)

// ServerName is what the broker's certificate says.
const ServerName = "terminals.clinic.test"

// Patience bounds every wait of a test for something that has to happen.
const Patience = 20 * time.Second

// Authority makes certificates.
type Authority struct {
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
}

// NewAuthority returns one that nobody else has.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	return &Authority{key, certify(t, template, template, key.Public(), key)}
}

// Export returns key and certificate in DER, for a test's second process.
func (a *Authority) Export(t testing.TB) (key, certificate []byte) {
	t.Helper()
	key, err := x509.MarshalECPrivateKey(a.key)
	if err != nil {
		t.Fatal(err)
	}
	return key, a.certificate.Raw
}

// ImportAuthority is the inverse of Export.
func ImportAuthority(t testing.TB, key, certificate []byte) *Authority {
	t.Helper()
	k, keyErr := x509.ParseECPrivateKey(key)
	c, err := x509.ParseCertificate(certificate)
	if err := errors.Join(keyErr, err); err != nil {
		t.Fatal(err)
	}
	return &Authority{k, c}
}

// SignAck signs an acknowledgement: its key is the service key, too.
func (a *Authority) SignAck(k *protocol.Ack) ([]byte, error) { return protocol.Sign(k, a.key) }

// Service returns the DER SubjectPublicKeyInfo of the service key.
func (a *Authority) Service() []byte { return a.certificate.RawSubjectPublicKeyInfo }

// Pool holds the authority's certificate.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func certify(t testing.TB, template, parent *x509.Certificate, public any, signer *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Server returns a server's certificate for ServerName.
func (a *Authority) Server(t testing.TB) tls.Certificate {
	t.Helper()
	key := newKey(t)
	c := certify(t, &x509.Certificate{
		SerialNumber: serial(), DNSNames: []string{ServerName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, a.certificate, key.Public(), a.key)
	return tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: key, Leaf: c}
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		panic(err) // the system's random source cannot fail
	}
	return n
}

// Identity is a key with a certificate: a terminal's, or the clinic's own.
type Identity struct {
	Key         *ecdsa.PrivateKey
	Hash        protocol.KeyHash
	SPKI        []byte
	Certificate tls.Certificate
}

// Identity makes one that is valid for an hour.
func (a *Authority) Identity(t testing.TB) *Identity {
	t.Helper()
	return a.IdentityUntil(t, time.Now().Add(time.Hour))
}

// IdentityUntil makes one that is valid until then.
func (a *Authority) IdentityUntil(t testing.TB, until time.Time) *Identity {
	t.Helper()
	key := newKey(t)
	hash, err := protocol.HashKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	c := certify(t, &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: hash.Name()},
		URIs:      []*url.URL{{Scheme: "urn", Opaque: "vindu:terminal:" + hash.Name()}},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, a.certificate, key.Public(), a.key)
	return &Identity{key, hash, c.RawSubjectPublicKeyInfo, tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: key, Leaf: c}}
}

// ClientTLS returns the configuration with which i connects to a broker of authority a.
func (i *Identity) ClientTLS(a *Authority) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{i.Certificate}, RootCAs: a.Pool(), ServerName: ServerName,
		MinVersion: tls.VersionTLS13, NextProtos: []string{protocol.ALPNMQTT},
	}
}

// Broker is a running broker with its register: who is in Admitted may connect.
type Broker struct {
	broker.Broker
	Authority *Authority
	Clinic    *Identity // the clinic's own

	mu       sync.Mutex
	admitted map[protocol.KeyHash]bool
	open     bool
	unknown  error // that the register cannot be asked
	refusals []broker.Refusal
	replaced int
	stop     func()
}

// ErrNotAdmitted is what the register says about a terminal that it does not know.
var ErrNotAdmitted = fmt.Errorf("%w: not in the register", broker.ErrRefused)

// Start runs a broker until the test ends.
func Start(t testing.TB, log *slog.Logger) *Broker {
	t.Helper()
	a := NewAuthority(t)
	return StartIn(t, t.TempDir(), a, a.Identity(t), log)
}

// StartIn runs a broker with its state in dir until the test ends or Stop is called.
func StartIn(t testing.TB, dir string, a *Authority, clinic *Identity, log *slog.Logger) *Broker {
	t.Helper()
	b := &Broker{Authority: a, Clinic: clinic, admitted: make(map[protocol.KeyHash]bool)}
	n, err := broker.New(broker.Config{
		Dir:    dir,
		TLS:    &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{a.Server(t)}, ClientCAs: a.Pool()},
		Clinic: func(c *x509.Certificate) bool { return protocol.HashSPKI(c.RawSubjectPublicKeyInfo) == clinic.Hash },
		Admit: func(key protocol.KeyHash, _ *x509.Certificate) error {
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.unknown != nil {
				return b.unknown
			}
			if !b.admitted[key] && !b.open {
				return ErrNotAdmitted
			}
			return nil
		},
		Refused: func(r broker.Refusal) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.refusals = append(b.refusals, r)
		},
		Replaced: func(protocol.KeyHash) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.replaced++
		},
	}, log)
	if err != nil {
		t.Fatal(err)
	}
	b.Broker = n
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	b.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("broker: %v", err)
		}
	})
	t.Cleanup(b.stop)
	select {
	case <-n.Ready():
	case err := <-done:
		done <- nil
		t.Fatalf("broker: %v", err)
	case <-time.After(Patience):
		t.Fatal("broker is not ready")
	}
	return b
}

// Stop ends the broker as a server that is stopped does.
func (b *Broker) Stop() { b.stop() }

// Admit lets a terminal in.
func (b *Broker) Admit(key protocol.KeyHash) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.admitted[key] = true
}

// AdmitAll lets everybody in whose certificate is of the authority.
func (b *Broker) AdmitAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open = true
}

// Revoke does not let a terminal in any more, and closes its connections.
func (b *Broker) Revoke(key protocol.KeyHash) {
	b.mu.Lock()
	delete(b.admitted, key)
	b.mu.Unlock()
	b.Kick(key)
}

// Ignorant has the register fail with err whenever it is asked; nil ends that.
func (b *Broker) Ignorant(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unknown = err
}

// Replaced returns how many connections took the place of another.
func (b *Broker) Replaced() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.replaced
}

// Refusals returns who was refused so far.
func (b *Broker) Refusals() []broker.Refusal {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]broker.Refusal(nil), b.refusals...)
}

// Terminal makes an identity that is admitted.
func (b *Broker) Terminal(t testing.TB) *Identity {
	t.Helper()
	i := b.Authority.Identity(t)
	b.Admit(i.Hash)
	return i
}

// Options returns a client's options to connect as i; tests change them to do what they must not.
func (b *Broker) Options(i *Identity) *mqtt.ClientOptions {
	return Options(b.Addr().String(), b.Authority, i)
}

// Options returns a client's options to connect to a broker of authority a as i.
func Options(address string, a *Authority, i *Identity) *mqtt.ClientOptions {
	config := i.ClientTLS(a)
	o := mqtt.NewClientOptions().AddBroker("tls://" + address).SetClientID(i.Hash.Name()).
		SetAutoReconnect(false).SetConnectRetry(false).SetCleanSession(true).SetOrderMatters(true).
		SetProtocolVersion(4).SetConnectTimeout(Patience).SetWriteTimeout(Patience).SetKeepAlive(30 * time.Second)
	o.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) {
		return (&tls.Dialer{Config: config}).Dial("tcp", address)
	})
	return o
}

// Connect connects as i with those options and disconnects when the test ends.
func Connect(t testing.TB, o *mqtt.ClientOptions) (mqtt.Client, error) {
	t.Helper()
	c := mqtt.NewClient(o)
	token := c.Connect()
	if !token.WaitTimeout(Patience) {
		t.Fatal("connect: no reply")
	}
	if err := token.Error(); err != nil {
		return nil, err
	}
	t.Cleanup(func() { c.Disconnect(0) })
	return c, nil
}

// MustConnect is Connect where it has to succeed.
func MustConnect(t testing.TB, o *mqtt.ClientOptions) mqtt.Client {
	t.Helper()
	c, err := Connect(t, o)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	return c
}

// Wait waits for a token and fails the test on its error.
func Wait(t testing.TB, token mqtt.Token) {
	t.Helper()
	if !token.WaitTimeout(Patience) {
		t.Fatal("mqtt: no reply")
	}
	if err := token.Error(); err != nil {
		t.Fatalf("mqtt: %v", err)
	}
}
