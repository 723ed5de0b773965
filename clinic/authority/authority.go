// Package authority holds the clinic's keys and what is done with them: it certifies terminals and the clinic's own
// server and client for TLS, and signs what terminals take from the clinic alone. The authorisation key signs trust, authorisations, policies, technicians'
// mandates and orders; the service key the time, acknowledgements of events and the ends by which the server ends calls, and nothing else.
//
// All keys are ECDSA P-256, but the audit log's, which is Ed25519. Below the root (20 years, its key is needed only to make a new issuing CA, or the next root) stands one
// issuing CA (5 years) and below that the leaves. Both are followed by others without anybody touching a terminal (RenewIssuing, RenewRoot). A terminal pins the root, which came with its voucher, and the
// authorisation keys, which it gets with its settings. A leaf says what the clinic decides and nothing that a request
// asks for: a terminal's CN is its name (protocol.KeyHash.Name), its SAN the URI urn:vindu:terminal:<name>, and
// urn:vindu:before:<name> of a key that it has replaced.
//
// In the folder, with mode 0700 and all files 0600:
//
//	root.pem                         the root; after a change also NewWithOld, OldWithNew and the root before
//	issuing.pem                      the issuing CA, then those before it
//	root*.key                        not needed while serving: advise to keep it offline
//	issuing*.key                     PKCS #8 in PEM; that one counts which fits issuing.pem
//	authorisation*.key               PKCS #8 in PEM; those count that the newest trust names. They may be elsewhere (ErrKeyElsewhere)
//	service.key                      PKCS #8 in PEM
//	trust-<serial>.cose              every signed protocol.Trust that there was; trust.waiting the next one, until it is signed
//	log.key                          signs the audit log's tree heads (golang.org/x/mod/sumdb/note)
//
// As long as the authorisation key is on the server, whoever steals the server can sign what terminals believe.
package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"vindu/protocol"
)

// Lifetimes of certificates, and how far back they begin, for clocks that are a little off.
const (
	rootLife     = 20 * 365 * 24 * time.Hour
	issuingLife  = 5 * 365 * 24 * time.Hour
	TerminalLife = 30 * 24 * time.Hour
	serverLife   = 30 * 24 * time.Hour
	backdate     = time.Hour
	// shortest is the least that a terminal's certificate may hold, where the issuing CA ends soon: one that holds for less would be due for renewal at once.
	shortest = 3 * backdate
)

// URIs in the SAN of leaves. A terminal's is followed by its name.
const (
	uriTerminal = "urn:vindu:terminal:"
	uriClinic   = "urn:vindu:clinic"
	// uriBefore is followed by the name of the key that the terminal's has replaced, for a register that was restored from an older backup.
	uriBefore = "urn:vindu:before:"
)

// MaxRequest bounds a certification request (PKCS #10, DER) in bytes.
const MaxRequest = 4 << 10

var (
	// ErrRequest is wrapped when a certification request is malformed, not signed by its own key, or not for a P-256 key.
	ErrRequest = errors.New("unusable certification request")
	// ErrCertificate is wrapped when a certificate is not a terminal's of this clinic, whatever its time.
	ErrCertificate = errors.New("not a terminal's certificate of this clinic")
)

// Authority holds the clinic's keys, root's excepted. It is safe for concurrent use.
type Authority struct {
	root, issuing *x509.Certificate
	change        *rootChange         // nil if the root is the first
	former        []*x509.Certificate // issuing CAs before this one, newest first
	chain         []*x509.Certificate
	issuingKey    *ecdsa.PrivateKey
	service       *ecdsa.PrivateKey
	serviceSPKI   []byte
	logKey        string
	dir           string
	keys          atomic.Pointer[keys] // may change while the server runs
	now           func() time.Time
	terminals     verified
}

// rootChange leads from one root to the next.
type rootChange struct{ newWithOld, oldWithNew, old *x509.Certificate }

// Root returns the certificate that vouchers carry and terminals pin.
func (a *Authority) Root() *x509.Certificate { return a.root }

// Issuing returns the certificate of the CA that signs leaves.
func (a *Authority) Issuing() *x509.Certificate { return a.issuing }

// Chain returns the certificates that stand between a leaf and the root that a terminal has pinned, whether that is this root or the one before it.
func (a *Authority) Chain() []*x509.Certificate { return slices.Clone(a.chain) }

// RootChange returns what terminals that pinned the root before this one verify this one by, as protocol.Settings carries it; nil if this is the first.
func (a *Authority) RootChange() [][]byte {
	if a.change == nil {
		return nil
	}
	return [][]byte{a.root.Raw, a.change.newWithOld.Raw, a.change.oldWithNew.Raw}
}

// CACerts returns the authorities as EST tells them (RFC 7030 §4.1.3): the root, what leads from and to the one before, that one, and the issuing CA.
func (a *Authority) CACerts() []*x509.Certificate {
	if a.change == nil {
		return []*x509.Certificate{a.root, a.issuing}
	}
	return []*x509.Certificate{a.root, a.issuing, a.change.newWithOld, a.change.oldWithNew, a.change.old}
}

// Pool returns what certificates of the clinic's terminals and servers are verified against. The issuing CAs are in it, so
// that a peer that sends its leaf alone, or one from before a change of the CAs, is understood.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.root)
	for _, c := range append([]*x509.Certificate{a.issuing}, a.former...) {
		pool.AddCert(c)
	}
	return pool
}

// Request is a certification request that was found good.
type Request struct {
	Name string // the subject's common name, as the terminal wrote it: no certificate is made of it
	Key  *ecdsa.PublicKey
	SPKI []byte // DER SubjectPublicKeyInfo, in its one canonical form
	Hash protocol.KeyHash
	// Before is the key that this one replaces or has replaced, as the clinic knows, which its certificate is to name; zero if there is none.
	Before protocol.KeyHash
}

// ParseRequest checks a PKCS #10 request (RFC 2986) in DER. Only its key counts, and for a key that succeeds another the common name; extensions and attributes are ignored.
// The error wraps ErrRequest.
func ParseRequest(der []byte) (*Request, error) {
	if len(der) > MaxRequest {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrRequest, len(der), MaxRequest)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	key, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("%w: the key is not ECDSA P-256", ErrRequest)
	}
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if string(spki) != string(csr.RawSubjectPublicKeyInfo) { // else one key could have two names
		return nil, fmt.Errorf("%w: the key is not in canonical form", ErrRequest)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	return &Request{Name: csr.Subject.CommonName, Key: key, SPKI: spki, Hash: protocol.HashSPKI(spki)}, nil
}

// IssueTerminal certifies a terminal for TerminalLife, or to the end of the issuing CA if that is earlier. The caller has decided that it may have a
// certificate.
func (a *Authority) IssueTerminal(r *Request) (*x509.Certificate, error) {
	if a.issuing.NotAfter.Sub(a.now()) < shortest {
		return nil, a.over()
	}
	name := r.Hash.Name()
	uris := []*url.URL{{Scheme: "urn", Opaque: strings.TrimPrefix(uriTerminal, "urn:") + name}}
	if (r.Before != protocol.KeyHash{}) {
		uris = append(uris, &url.URL{Scheme: "urn", Opaque: strings.TrimPrefix(uriBefore, "urn:") + r.Before.Name()})
	}
	return a.issue(&x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		URIs:        uris,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, TerminalLife, r.Key)
}

func (a *Authority) over() error {
	return fmt.Errorf("issue certificate: the issuing CA ends on %s: make a new one (vindu-clinic renew-ca) and restart the server", a.issuing.NotAfter.Format(time.DateTime))
}

func (a *Authority) issue(template *x509.Certificate, life time.Duration, key *ecdsa.PublicKey) (*x509.Certificate, error) {
	now := a.now()
	if !now.Before(a.issuing.NotAfter) {
		return nil, a.over()
	}
	template.NotBefore, template.NotAfter = now.Add(-backdate), earlier(now.Add(life), a.issuing.NotAfter)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.BasicConstraintsValid = true
	der, err := x509.CreateCertificate(rand.Reader, template, a.issuing, key, a.issuingKey)
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

// IsClinic reports whether c, whose chain TLS has verified, is the certificate of the clinic's own client.
func IsClinic(c *x509.Certificate) bool { return len(c.URIs) == 1 && c.URIs[0].String() == uriClinic }

// LogKey returns the private key, in the form of golang.org/x/mod/sumdb/note, that signs the audit log's tree heads.
func (a *Authority) LogKey() protocol.Secret { return protocol.Secret(a.logKey) }
