package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Leaf is a certificate of the clinic itself, made anew, with a new key that never leaves memory, when a third of its
// life is left. None outlives the issuing CA. It is safe for concurrent use.
type Leaf struct {
	a        *Authority
	template func() *x509.Certificate

	mu      sync.Mutex
	current *tls.Certificate
}

// Server returns the certificate of the clinic's server under name, the server name by which terminals know it.
func (a *Authority) Server(name string) *Leaf {
	return &Leaf{a: a, template: func() *x509.Certificate {
		return &x509.Certificate{
			Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		}
	}}
}

// Client returns the certificate with which the clinic itself connects to its broker; IsClinic recognises it.
func (a *Authority) Client() *Leaf {
	return &Leaf{a: a, template: func() *x509.Certificate {
		return &x509.Certificate{
			Subject:     pkix.Name{CommonName: "clinic"},
			URIs:        []*url.URL{{Scheme: "urn", Opaque: strings.TrimPrefix(uriClinic, "urn:")}},
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}
	}}
}

// Certificate returns the current certificate with its chain. Where no new one can be made the current one serves until its end.
func (l *Leaf) Certificate() (*tls.Certificate, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.a.now()
	if l.current != nil {
		leaf := l.current.Leaf
		due := leaf.NotAfter.Add(-leaf.NotAfter.Sub(leaf.NotBefore) / 3)
		if now.Before(due) || (!leaf.NotAfter.Before(l.a.issuing.NotAfter) && now.Before(leaf.NotAfter)) { // one that ends with the CA is the last
			return l.current, nil
		}
	}
	fresh, err := l.make()
	if err == nil {
		l.current = fresh
	} else if l.current == nil || !now.Before(l.current.Leaf.NotAfter) {
		return nil, err
	}
	return l.current, nil
}

func (l *Leaf) make() (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	c, err := l.a.issue(l.template(), serverLife, &key.PublicKey)
	if err != nil {
		return nil, err
	}
	made := &tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: key, Leaf: c}
	for _, above := range l.a.Chain() {
		made.Certificate = append(made.Certificate, above.Raw)
	}
	return made, nil
}

// GetCertificate is for tls.Config of a server.
func (l *Leaf) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) { return l.Certificate() }

// GetClientCertificate is for tls.Config of a client.
func (l *Leaf) GetClientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return l.Certificate()
}

// Expires returns when the issuing CA ends.
func (a *Authority) Expires() time.Time { return a.issuing.NotAfter }

// RootExpires returns when the root ends: by then the next one must have been made, and every terminal have heard of it.
func (a *Authority) RootExpires() time.Time { return a.root.NotAfter }
