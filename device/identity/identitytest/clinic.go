// Package identitytest has a clinic's certificate authority for tests: it enrols identities without a network and makes
// the server certificates that they accept.
package identitytest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"sync/atomic"
	"testing"
	"time"

	"vindu/device/identity"
	"vindu/device/state"
	"vindu/device/state/statetest"
	"vindu/protocol"
)

// ServerName is the name by which terminals know the clinic.
const ServerName = "terminals.clinic.example"

// Life is that of the certificates it issues to terminals.
const Life = 30 * 24 * time.Hour

// Clinic is a root, an issuing authority below it, and an authorisation key.
type Clinic struct {
	Root      *x509.Certificate
	Issuing   *x509.Certificate
	Authority *ecdsa.PrivateKey // the authorisation key
	Service   *ecdsa.PrivateKey // the server's
	Trust     []byte            // of settings, signed
	Policy    []byte            // so, too

	t      testing.TB
	now    func() time.Time
	key    *ecdsa.PrivateKey
	serial *atomic.Int64

	rootKey *ecdsa.PrivateKey
	above   []*x509.Certificate // between Issuing and the root before
	roots   [][]byte            // of settings
}

// At returns the same clinic going by another time.
func (c *Clinic) At(now func() time.Time) *Clinic {
	other := *c
	other.now = now
	return &other
}

// New returns a clinic that goes by now.
func New(t testing.TB, now func() time.Time) *Clinic {
	t.Helper()
	c := &Clinic{t: t, now: now, Authority: newKey(t), Service: newKey(t), serial: new(atomic.Int64)}
	c.rootKey = newKey(t)
	root := c.ca("Root")
	c.Root = c.sign(root, root, c.rootKey.Public(), c.rootKey)
	c.newIssuing()
	return c
}

func (c *Clinic) ca(name string) *x509.Certificate {
	return &x509.Certificate{Subject: pkix.Name{CommonName: name}, NotBefore: c.now().Add(-time.Hour), NotAfter: c.now().AddDate(20, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
}

func (c *Clinic) newIssuing() {
	c.key = newKey(c.t)
	template := c.ca("Issuing")
	template.MaxPathLenZero = true
	c.Issuing = c.sign(template, c.Root, c.key.Public(), c.rootKey)
}

// Succeeded returns the same clinic after it has changed its root: with a new one that the old one certified, and an issuing authority below it.
func (c *Clinic) Succeeded() *Clinic {
	c.t.Helper()
	next := *c
	next.rootKey = newKey(c.t)
	root := c.ca("Root 2")
	next.Root = c.sign(root, root, next.rootKey.Public(), next.rootKey)
	newWithOld := c.sign(c.ca("Root 2"), c.Root, next.rootKey.Public(), c.rootKey)
	oldWithNew := c.sign(c.ca("Root"), next.Root, c.rootKey.Public(), next.rootKey)
	next.above = []*x509.Certificate{newWithOld}
	next.roots = [][]byte{next.Root.Raw, newWithOld.Raw, oldWithNew.Raw}
	next.newIssuing()
	return &next
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (c *Clinic) sign(template, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	c.t.Helper()
	template.SerialNumber = big.NewInt(c.serial.Add(1))
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		c.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		c.t.Fatal(err)
	}
	return cert
}

// Issue returns a certificate for a terminal's key that begins now, with the issuing authority's.
func (c *Clinic) Issue(pub crypto.PublicKey) []*x509.Certificate {
	c.t.Helper()
	hash, err := protocol.HashKey(pub)
	if err != nil {
		c.t.Fatal(err)
	}
	leaf := c.sign(&x509.Certificate{Subject: pkix.Name{CommonName: hash.Name()}, NotBefore: c.now(), NotAfter: c.now().Add(Life),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, c.Issuing, pub, c.key)
	return append([]*x509.Certificate{leaf, c.Issuing}, c.above...)
}

// Grant returns what the terminal with that key would get by enrolling.
func (c *Clinic) Grant(address string, pub crypto.PublicKey) identity.Grant {
	c.t.Helper()
	return identity.Grant{Address: address, ServerName: ServerName, Root: c.Root, Chain: c.Issue(pub), Settings: c.Settings()}
}

// Settings returns the clinic's settings now.
func (c *Clinic) Settings() *protocol.Settings {
	c.t.Helper()
	return &protocol.Settings{
		Version: protocol.Version, Organisation: "Nordbyen clinic", Home: "Home 17", Authorities: [][]byte{c.spki(c.Authority)}, At: protocol.At(c.now()), Roots: c.roots,
		Trust: c.Trust, Policy: c.Policy,
	}
}

func (c *Clinic) spki(key *ecdsa.PrivateKey) []byte {
	c.t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		c.t.Fatal(err)
	}
	return spki
}

// NewAuthority returns the same clinic with another authorisation key, which it has not told anybody of.
func (c *Clinic) NewAuthority() *Clinic {
	other := *c
	other.Authority = newKey(c.t)
	return &other
}

// SignTrust returns a trust with this serial number in the clinic's own authorisation key, signed by that of another: by itself, or the one before.
func (c *Clinic) SignTrust(serial uint64, by *Clinic, change ...func(*protocol.Trust)) []byte {
	c.t.Helper()
	s := &protocol.Trust{
		Version: protocol.Version, Serial: serial, Authorities: [][]byte{c.spki(c.Authority)}, Service: [][]byte{c.spki(c.Service)},
		RelyingParty: protocol.RelyingParty{ID: "clinic.example", Origins: []string{"https://clinic.example"}}, Issued: 1,
	}
	for _, f := range change {
		f(s)
	}
	signed, err := protocol.Sign(s, by.Authority)
	if err != nil {
		c.t.Fatal(err)
	}
	return signed
}

// SignPolicy returns a policy with this serial number for a terminal.
func (c *Clinic) SignPolicy(serial uint64, terminal protocol.KeyHash, change ...func(*protocol.Policy)) []byte {
	c.t.Helper()
	p := &protocol.Policy{
		Version: protocol.Version, Serial: serial, Terminal: terminal, Home: "17", Rules: []protocol.Rule{{Group: "nurses", Mode: protocol.ModeRing, After: 10}},
		Zone: "Europe/Oslo", Longest: 3600, Volume: 80, Issued: 1,
	}
	for _, f := range change {
		f(p)
	}
	signed, err := protocol.Sign(p, c.Authority)
	if err != nil {
		c.t.Fatal(err)
	}
	return signed
}

// Services returns the keys of the clinic's server, as its trust names them.
func (c *Clinic) Services() [][]byte { return [][]byte{c.spki(c.Service)} }

// Ack returns an acknowledgement of a terminal's events, signed by the clinic's server.
func (c *Clinic) Ack(terminal protocol.KeyHash, epoch protocol.Nonce, seq uint64) []byte {
	c.t.Helper()
	signed, err := protocol.Sign(&protocol.Ack{Version: protocol.Version, Terminal: terminal, Epoch: epoch, Seq: seq}, c.Service)
	if err != nil {
		c.t.Fatal(err)
	}
	return signed
}

// Server returns the TLS configuration of a server of the clinic that asks for a terminal's certificate.
func (c *Clinic) Server(protocols ...string) *tls.Config {
	c.t.Helper()
	key := newKey(c.t)
	leaf := c.sign(&x509.Certificate{Subject: pkix.Name{CommonName: ServerName}, DNSNames: []string{ServerName}, NotBefore: c.now().Add(-time.Minute),
		NotAfter: c.now().AddDate(1, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, c.Issuing, key.Public(), c.key)
	roots := x509.NewCertPool()
	roots.AddCert(c.Root)
	chain := [][]byte{leaf.Raw, c.Issuing.Raw}
	for _, above := range c.above {
		chain = append(chain, above.Raw)
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: chain, PrivateKey: key, Leaf: leaf}},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    roots,
		NextProtos:   protocols,
		Time:         c.now,
	}
}

// Enrolled returns a terminal with a new key that is enrolled at the clinic, its state on a simulated disk.
func (c *Clinic) Enrolled(address string) *identity.Identity {
	c.t.Helper()
	dir, err := state.OpenOn(statetest.New(), "/state")
	if err != nil {
		c.t.Fatal(err)
	}
	keys, err := identity.FileKeystore(dir)
	if err != nil {
		c.t.Fatal(err)
	}
	i, err := identity.Open(dir, keys, c.now)
	if err != nil {
		c.t.Fatal(err)
	}
	if err := i.Keep(c.Grant(address, keys.Signer().Public())); err != nil {
		c.t.Fatal(err)
	}
	return i
}
