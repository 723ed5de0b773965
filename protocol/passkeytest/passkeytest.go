// Package passkeytest has authenticators for tests: they sign as a passkey does (WebAuthn §6.3.3), and, if asked, as an honest one never would.
// Real browsers' virtual authenticators are used where there is a browser.
package passkeytest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"sync"
	"testing"

	"vindu/protocol"
)

// Kind is a kind of key.
type Kind string

const (
	ES256 Kind = "ES256"
	EdDSA Kind = "EdDSA"
	RS256 Kind = "RS256"
)

// Authenticator holds one passkey.
type Authenticator struct {
	ID      []byte
	Counter uint32 // of the next signature; it counts on unless it is 0
	mu      sync.Mutex
	key     crypto.Signer
}

// New makes a passkey. The first counter is 1.
func New(t testing.TB, kind Kind) *Authenticator {
	t.Helper()
	a := &Authenticator{ID: make([]byte, 32), Counter: 1}
	rand.Read(a.ID)
	var err error
	switch kind {
	case ES256:
		a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case EdDSA:
		_, a.key, err = ed25519.GenerateKey(rand.Reader)
	case RS256:
		a.key, err = rsa.GenerateKey(rand.Reader, 2048)
	default:
		err = fmt.Errorf("unknown kind of key %q", kind)
	}
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// From is a passkey whose key is at hand.
func From(id []byte, key crypto.Signer) *Authenticator {
	return &Authenticator{ID: id, Counter: 1, key: key}
}

// Credential is what an authorisation says of the passkey.
func (a *Authenticator) Credential(t testing.TB) protocol.Credential {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(a.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return protocol.Credential{ID: a.ID, Key: der}
}

// Use is what goes into a signature. Its fields may be changed before it is made.
type Use struct {
	Type        string
	Challenge   []byte
	Origin      string
	CrossOrigin bool
	TopOrigin   string
	RPID        string
	Flags       byte
	Counter     uint32
	Extra       []byte         // after the authenticator data
	Members     map[string]any // more members of the client data
}

// Flags of an honest use: present and verified.
const Flags = 0x05

// Assert signs a challenge as an honest authenticator does in the first of rp's origins; each of change may spoil it before it is signed.
func (a *Authenticator) Assert(t testing.TB, rp protocol.RelyingParty, challenge protocol.Hash, change ...func(*Use)) *protocol.Assertion {
	t.Helper()
	u := Use{Type: "webauthn.get", Challenge: challenge[:], Origin: rp.Origins[0], RPID: rp.ID, Flags: Flags, Counter: a.next()}
	for _, f := range change {
		f(&u)
	}
	members := map[string]any{"type": u.Type, "challenge": base64.RawURLEncoding.EncodeToString(u.Challenge), "origin": u.Origin, "crossOrigin": u.CrossOrigin}
	if u.TopOrigin != "" {
		members["topOrigin"] = u.TopOrigin
	}
	for k, v := range u.Members {
		members[k] = v
	}
	client, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	id := sha256.Sum256([]byte(u.RPID))
	data := binary.BigEndian.AppendUint32(append(id[:], u.Flags), u.Counter)
	data = append(data, u.Extra...)
	return &protocol.Assertion{Credential: a.ID, AuthenticatorData: data, ClientData: client, Signature: a.Sign(t, data, client)}
}

// next is the counter of the next signature.
func (a *Authenticator) next() uint32 {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.Counter
	if now > 0 {
		a.Counter++
	}
	return now
}

// Sign signs authenticator data and client data, whatever they are.
func (a *Authenticator) Sign(t testing.TB, data, client []byte) []byte {
	t.Helper()
	hash := sha256.Sum256(client)
	message := append(append([]byte(nil), data...), hash[:]...)
	var opts crypto.SignerOpts = crypto.SHA256
	digest := sha256.Sum256(message)
	signed := digest[:]
	if _, ok := a.key.(ed25519.PrivateKey); ok {
		opts, signed = crypto.Hash(0), message
	}
	signature, err := a.key.Sign(rand.Reader, signed, opts)
	if err != nil {
		t.Fatal(err)
	}
	return signature
}
