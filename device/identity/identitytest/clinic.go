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
	Authority *ecdsa.PrivateKey // signs invitations

	t      testing.TB
	now    func() time.Time
	key    *ecdsa.PrivateKey
	serial *atomic.Int64
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
	c := &Clinic{t: t, now: now, Authority: newKey(t), serial: new(atomic.Int64)}
	rootKey := newKey(t)
	from, until := now().Add(-time.Hour), now().AddDate(20, 0, 0)
	root := &x509.Certificate{Subject: pkix.Name{CommonName: "Root"}, NotBefore: from, NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	c.Root = c.sign(root, root, rootKey.Public(), rootKey)
	c.key = newKey(t)
	c.Issuing = c.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "Issuing"}, NotBefore: from, NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign}, c.Root, c.key.Public(), rootKey)
	return c
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
	return []*x509.Certificate{leaf, c.Issuing}
}

// Grant returns what the terminal with that key would get by enrolling.
func (c *Clinic) Grant(address string, pub crypto.PublicKey) identity.Grant {
	c.t.Helper()
	return identity.Grant{Address: address, ServerName: ServerName, Root: c.Root, Chain: c.Issue(pub), Settings: c.Settings()}
}

// Settings returns the clinic's settings now.
func (c *Clinic) Settings() *protocol.Settings {
	c.t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(c.Authority.Public())
	if err != nil {
		c.t.Fatal(err)
	}
	return &protocol.Settings{Version: protocol.Version, Organisation: "Nordbyen clinic", Home: "Home 17", Authorities: [][]byte{spki}, At: protocol.At(c.now())}
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
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Raw, c.Issuing.Raw}, PrivateKey: key, Leaf: leaf}},
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
