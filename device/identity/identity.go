// Package identity is who the terminal is: its key pair, the certificate that its clinic gave it, and what it pinned
// when it was set up.
//
//	identity/key.pem    the private key, sealed (FileKeys)
//	identity/tpm.pem    or where in a TPM it is (package tpm)
//	identity/key-2.pem  and tpm-2.pem: the same for a key that replaces another, in turns (Rotation)
//	identity/before.pem what clinic.pem was before a new key that has not proven itself yet
//	identity/clinic.pem everything from enrolment, in one file so that it is replaced as one: a block VINDU CLINIC
//	                    (CBOR: version, address, server name, settings, trust, policy, withdrawn mandates), then the terminal's certificate, those of issuing
//	                    authorities, and last the clinic's root
//
// It lies outside every database and survives their loss. The terminal's name is the hash of its public key; the
// certificate only says that the clinic knows it.
//
// What was pinned at enrolment, the root and the authorisation keys, changes only by a new enrolment: a renewal or
// new settings that say otherwise are refused. But a root may hand over to the next one by certifying it (RFC 4210 §4.4), and authorisation keys by
// signing a protocol.Trust that names those that follow. Trust and policy never go back. All verification goes by the clock that Open is given, which has a floor.
package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"vindu/device/state"
	"vindu/protocol"
)

// ErrDamaged is wrapped when a file of the identity cannot be understood. It is left as it is.
var ErrDamaged = errors.New("identity is damaged: set the terminal up anew, or restore its state folder")

// ErrForeign is wrapped when a certificate is not for this terminal's key, or not of the pinned clinic.
var ErrForeign = errors.New("certificate of another terminal or clinic")

func damaged(err error) error {
	return protocol.WithCode(protocol.IdentityDamaged, fmt.Errorf("%w: %w", err, ErrDamaged))
}

func foreign(format string, args ...any) error {
	return protocol.WithCode(protocol.IdentityOtherClinic, fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), ErrForeign))
}

// Grant is what an enrolment gave the terminal. It is not changed once it is in use.
type Grant struct {
	Address    string              // host:port of the clinic's front door
	ServerName string              // by which terminals know the clinic (SNI)
	Chain      []*x509.Certificate // the terminal's certificate, then those between it and Root
	Root       *x509.Certificate   // pinned
	Settings   *protocol.Settings
	Trust      *protocol.Trust  // the last that was proven, or nil; signed in Settings
	Policy     *protocol.Policy // so, too
}

// kept is what clinic.pem holds.
type kept struct {
	Grant
	withdrawn []protocol.Nonce // all mandates that were ever said to be, the first known first
}

// Identity is safe for concurrent use.
type Identity struct {
	dir  *state.Dir
	keys Keystore
	hash protocol.KeyHash
	now  func() time.Time

	began time.Time // with monotonic reading

	writing sync.Mutex                   // held across load, check and write of clinic.pem
	turned  bool                         // clinic.pem is for another key now; guarded by writing
	heard   map[protocol.Nonce]time.Time // withdrawn mandates that this program did not know when it began, since when it does; guarded by writing
	mu      sync.Mutex
	grant   *kept // nil if not enrolled
	changed chan struct{}
}

// Open loads the identity. A terminal that was never enrolled is no error. If what was kept from enrolment is damaged or
// belongs to another key, the error wraps ErrDamaged or ErrForeign and the returned Identity is not nil: it has its key and counts as not enrolled.
func Open(dir *state.Dir, keys Keystore, now func() time.Time) (*Identity, error) {
	pub, ok := keys.Signer().Public().(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return nil, errors.New("open identity: the keystore's key is not ECDSA P-256")
	}
	hash, err := protocol.HashKey(pub)
	if err != nil {
		return nil, fmt.Errorf("open identity: %w", err)
	}
	i := &Identity{dir: dir, keys: keys, hash: hash, now: now, began: time.Now(), heard: map[protocol.Nonce]time.Time{}, changed: make(chan struct{})}
	b, err := dir.Read(clinicFile, maxClinic)
	if errors.Is(err, fs.ErrNotExist) {
		return i, nil
	}
	if err != nil {
		return i, fmt.Errorf("open identity: %w", err)
	}
	g, err := decodeGrant(b)
	if err != nil {
		return i, damaged(fmt.Errorf("open identity %s/%s: %w", dir.Path(), clinicFile, err))
	}
	if err := i.check(&g.Grant); err != nil {
		return i, fmt.Errorf("open identity %s/%s: %w", dir.Path(), clinicFile, err)
	}
	i.grant = g
	return i, nil
}

// Key returns the hash of the public key: the terminal's identity.
func (i *Identity) Key() protocol.KeyHash { return i.hash }

// Signer signs with the terminal's key.
func (i *Identity) Signer() crypto.Signer { return i.keys.Signer() }

// Grade says how well the key is kept.
func (i *Identity) Grade() string { return i.keys.Grade() }

// Grant returns what enrolment gave, or nil if the terminal is not enrolled.
func (i *Identity) Grant() *Grant {
	if g := i.kept(); g != nil {
		return &g.Grant
	}
	return nil
}

func (i *Identity) kept() *kept {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.grant
}

// Changed returns a channel that is closed at the next change of the grant.
func (i *Identity) Changed() <-chan struct{} {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.changed
}

// Certificate returns the terminal's certificate, or nil.
func (i *Identity) Certificate() *x509.Certificate {
	if g := i.Grant(); g != nil {
		return g.Chain[0]
	}
	return nil
}

// Root returns the pinned root of the clinic, or nil.
func (i *Identity) Root() *x509.Certificate {
	if g := i.Grant(); g != nil {
		return g.Root
	}
	return nil
}

// Settings returns the clinic's settings with the pinned authorisation keys, or nil. They must not be changed.
func (i *Identity) Settings() *protocol.Settings {
	if g := i.Grant(); g != nil {
		return g.Settings
	}
	return nil
}

// Condition returns the code of what is wrong with the identity now, or "". It asks the keystore, which may take seconds.
func (i *Identity) Condition() protocol.Code {
	code := i.keys.Condition()
	if code != "" && code != protocol.IdentityTPMUnused { // which lasts, and is not to hide what does not
		return code
	}
	c := i.Certificate()
	switch {
	case c == nil:
		return protocol.IdentityNone
	case i.now().After(c.NotAfter):
		return protocol.IdentityExpired
	}
	return code
}

// Keep replaces what an earlier enrolment gave, if any, by grant. When it returns nil, that survives a power cut. The error
// wraps ErrForeign if the certificate is not for this key or not of the clinic that the grant names.
func (i *Identity) Keep(grant Grant) error {
	i.writing.Lock()
	defer i.writing.Unlock()
	g := kept{Grant: grant}
	if g.Settings != nil {
		settings := *g.Settings
		pinned := settings
		pinned.Trust, pinned.Policy = nil, nil
		g.Settings, g.Trust, g.Policy = &pinned, nil, nil
		_ = g.believe(&settings, i.hash) // what is refused comes again with the next settings, and is told then
		g.Settings = &settings
		var known []protocol.Nonce
		if old := i.kept(); old != nil {
			known = old.withdrawn
		}
		g.withdrawn, _ = i.remember(known, settings.Withdrawn) // likewise
	}
	if err := i.keep(&g); err != nil {
		return err
	}
	switch { // with what a person enrolled, nothing turns back
	case i.before() != nil: // but the key before has still to be destroyed
		return i.dir.Write(beforeFile, []byte(onwards))
	case i.dir.Has(beforeFile) && !i.settling():
		return i.dir.Remove(beforeFile)
	}
	return nil
}

// KeepChain takes a renewed certificate over. It has to be for the same key and under the pinned root.
func (i *Identity) KeepChain(chain []*x509.Certificate) error {
	i.writing.Lock()
	defer i.writing.Unlock()
	old := i.kept()
	if old == nil {
		return protocol.WithCode(protocol.IdentityNone, errors.New("keep renewed certificate: the terminal is not enrolled"))
	}
	g := *old
	g.Chain = slices.Clone(chain)
	return i.keep(&g)
}

// KeepSettings takes new settings over. A trust and a policy in them are taken over if they are proven (protocol.Trust, protocol.Policy); those that are not
// are returned as refused, by errors with a code, and change nothing; so are withdrawn mandates for which there is no room. Without any trust the authorisation keys have to be the pinned ones; with one, what
// settings say of them counts no more. A new root has to be certified by the pinned one, in whose place it is pinned.
func (i *Identity) KeepSettings(s *protocol.Settings) (refused []error, err error) {
	i.writing.Lock()
	defer i.writing.Unlock()
	old := i.kept()
	if old == nil {
		return nil, protocol.WithCode(protocol.IdentityNone, errors.New("keep settings: the terminal is not enrolled"))
	}
	g, settings := *old, *s
	refused = g.believe(&settings, i.hash)
	if g.Trust == nil && !slices.EqualFunc(s.Authorities, old.Settings.Authorities, bytes.Equal) {
		return refused, foreign("keep settings: the authorisation keys are not the pinned ones")
	}
	if g.withdrawn, err = i.remember(old.withdrawn, settings.Withdrawn); err != nil {
		refused = append(refused, err)
	}
	if err := i.follow(&g.Grant, s.Roots); err != nil {
		return refused, fmt.Errorf("keep settings: %w", err)
	}
	if s.Organisation == old.Settings.Organisation && s.Home == old.Settings.Home && slices.Equal(settings.Withdrawn, old.Settings.Withdrawn) && g.Root == old.Root &&
		g.Trust == old.Trust && g.Policy == old.Policy && same(s.Coming, old.Settings.Coming) && same(s.Rehearse, old.Settings.Rehearse) && slices.Equal(g.withdrawn, old.withdrawn) {
		return refused, nil // only the time moved: not worth a write
	}
	g.Settings = &settings
	return refused, i.keep(&g)
}

func same[T comparable](a, b *T) bool { return a == b || a != nil && b != nil && *a == *b }

// follow has g pin a new root: roots are the new one, it certified by the pinned one, and the pinned one certified by it, as protocol.Settings has them. If
// it is pinned already nothing changes.
func (i *Identity) follow(g *Grant, roots [][]byte) error {
	if len(roots) == 0 || bytes.Equal(roots[0], g.Root.Raw) {
		return nil
	}
	certs := make([]*x509.Certificate, 0, len(roots))
	for _, der := range roots {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return foreign("new root: %v", err)
		}
		certs = append(certs, c)
	}
	if len(certs) != 3 {
		return foreign("new root: %d certificates, not 3", len(certs))
	}
	root, newWithOld, oldWithNew := certs[0], certs[1], certs[2]
	if err := newWithOld.CheckSignatureFrom(g.Root); err != nil {
		return foreign("new root: the pinned one did not certify it: %v", err)
	}
	if !root.IsCA || !newWithOld.IsCA || !bytes.Equal(root.RawSubjectPublicKeyInfo, newWithOld.RawSubjectPublicKeyInfo) || !bytes.Equal(root.RawSubject, newWithOld.RawSubject) {
		return foreign("new root: the pinned one certified another")
	}
	if err := root.CheckSignatureFrom(root); err != nil {
		return foreign("new root: it is not signed by itself: %v", err)
	}
	now := i.now()
	for _, c := range []*x509.Certificate{root, newWithOld, g.Root} {
		if now.Before(c.NotBefore) || now.After(c.NotAfter) {
			return foreign("new root: %q is good from %v to %v", c.Subject.CommonName, c.NotBefore, c.NotAfter)
		}
	}
	g.Root = root
	if i.check(g) != nil { // this terminal's certificate is from below the old root: until it is renewed that hangs below the new one
		g.Chain = append(slices.Clone(g.Chain), oldWithNew)
	}
	return nil
}

// keep checks, writes and only then uses g. i.writing is held.
func (i *Identity) keep(g *kept) error {
	if i.turned {
		return fmt.Errorf("keep identity: %w", errTurned)
	}
	if err := i.check(&g.Grant); err != nil {
		return fmt.Errorf("keep identity: %w", err)
	}
	if len(g.Settings.Roots) > 0 || len(g.Settings.KeyOrder) > 0 { // what they are for is done, or comes again
		s := *g.Settings
		s.Roots, s.KeyOrder, g.Settings = nil, nil, &s
	}
	b, err := encodeGrant(g)
	if err != nil {
		return fmt.Errorf("keep identity: %w", err)
	}
	if err := i.dir.Write(clinicFile, b); err != nil {
		return fmt.Errorf("keep identity: %w", err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.grant = g
	close(i.changed)
	i.changed = make(chan struct{})
	return nil
}

// check asks whether g is for this terminal's key, and of one clinic. It does not ask for the time: an expired certificate may still renew.
func (i *Identity) check(g *Grant) error { return checkGrant(g, i.hash) }

func checkGrant(g *Grant, self protocol.KeyHash) error {
	if g.Address == "" || g.ServerName == "" || g.Root == nil || len(g.Chain) == 0 || g.Settings == nil {
		return damaged(errors.New("grant is not complete"))
	}
	for _, der := range g.Settings.Authorities { // without them no call, mandate or order could ever be verified
		key, err := x509.ParsePKIXPublicKey(der)
		if pub, ok := key.(*ecdsa.PublicKey); err != nil || !ok || pub.Curve != elliptic.P256() {
			return damaged(errors.New("an authorisation key of the clinic is not ECDSA P-256"))
		}
	}
	if len(g.Settings.Authorities) == 0 {
		return damaged(errors.New("the clinic has no authorisation key"))
	}
	leaf := g.Chain[0]
	if protocol.HashSPKI(leaf.RawSubjectPublicKeyInfo) != self {
		return foreign("the certificate is for the terminal %s, this is %s", protocol.HashSPKI(leaf.RawSubjectPublicKeyInfo).Code(), self.Code())
	}
	if leaf.Subject.CommonName != self.Name() {
		return foreign("the certificate names a terminal %q", leaf.Subject.CommonName)
	}
	// The instant at which all of them have begun: a certificate may be dated back behind the authority that signed it.
	between, begun := x509.NewCertPool(), leaf.NotBefore
	for _, c := range append(g.Chain[1:len(g.Chain):len(g.Chain)], g.Root) {
		if c != g.Root { // there too, what it signed would be verified twice
			between.AddCert(c)
		}
		if c.NotBefore.After(begun) {
			begun = c.NotBefore
		}
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots:         pool(g.Root),
		Intermediates: between,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		CurrentTime:   begun,
	})
	if err != nil {
		return foreign("the certificate does not lead to the clinic's root: %v", err)
	}
	return nil
}

func pool(root *x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(root)
	return p
}

// TLS returns the configuration for a connection to the clinic: TLS 1.3, the server verified by the pinned root, name and the
// clock, this terminal authenticated by its newest certificate, and protocols offered by ALPN (RFC 7301). It
// returns nil if the terminal is not enrolled.
func (i *Identity) TLS(protocols ...string) *tls.Config {
	g := i.Grant()
	if g == nil {
		return nil
	}
	own := &tls.Certificate{PrivateKey: i.Signer(), Leaf: g.Chain[0]}
	for _, c := range g.Chain {
		own.Certificate = append(own.Certificate, c.Raw)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		RootCAs:    pool(g.Root),
		ServerName: g.ServerName,
		NextProtos: protocols,
		Time:       i.now,
		// Not Certificates: that would leave the certificate out where the server's list of authorities does not fit,
		// and the server could then not say what is wrong with it.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own, nil },
	}
}
