package protocol

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

var (
	// ErrOrigin is wrapped when a passkey was used for another site: its relying party, its origin, or the page around it.
	ErrOrigin = errors.New("passkey used for another site")
	// ErrChallenge is wrapped when a passkey has signed something else than what it is said to prove.
	ErrChallenge = errors.New("passkey signed something else")
	// ErrUserVerification is wrapped when the authenticator did not see to it that its own person used it (PIN, finger, face).
	ErrUserVerification = errors.New("passkey used without user verification")
)

// Bounds of an Assertion's parts, in bytes. Identifiers may have at most 1,023 by WebAuthn §4; the others fit what authenticators send.
const (
	maxCredentialID      = 1023
	maxAuthenticatorData = 1 << 10
	maxClientData        = 2 << 10
	maxPasskeySignature  = 1 << 10 // RSA of 4,096 bits has 512
	minRSA, maxRSA       = 2048, 4096
	maxCredentialKey     = 600 // RSA of 4,096 bits has 550
)

// Credential is a person's passkey as an Authorisation names it: what it is called, and its public key.
type Credential struct {
	ID  []byte `cbor:"1,keyasint"` // as the authenticator chose it
	Key []byte `cbor:"2,keyasint"` // DER SubjectPublicKeyInfo: ECDSA P-256 (ES256), Ed25519 (EdDSA) or RSA of 2,048 to 4,096 bits (RS256)
	// Counter is how far it had counted (WebAuthn §6.1.1) when this was written, as the clinic knew: no use of it since says less. 0: it does not count, or was not used.
	Counter uint32 `cbor:"3,keyasint,omitempty"`
}

func (c *Credential) valid() error {
	if len(c.ID) == 0 || len(c.ID) > maxCredentialID {
		return malformed("passkey's id has %d bytes", len(c.ID))
	}
	_, err := c.public()
	return err
}

// public returns the key, of one of the kinds that are accepted and in its one encoding.
func (c *Credential) public() (crypto.PublicKey, error) {
	if len(c.Key) == 0 || len(c.Key) > maxCredentialKey {
		return nil, malformed("passkey's key has %d bytes", len(c.Key))
	}
	pub, err := x509.ParsePKIXPublicKey(c.Key)
	if err != nil {
		return nil, fmt.Errorf("passkey's key: %w: %w", ErrMalformed, err)
	}
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return nil, malformed("passkey's key is ECDSA, but not P-256")
		}
	case ed25519.PublicKey:
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < minRSA || n > maxRSA {
			return nil, malformed("passkey's key is RSA of %d bits", n)
		}
	default:
		return nil, malformed("passkey's key is %T", pub)
	}
	again, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil || !bytes.Equal(again, c.Key) {
		return nil, malformed("passkey's key is not canonical")
	}
	return pub, nil
}

// Assertion is a passkey's signature (WebAuthn §6.3.3), as the browser returned it: one touch.
type Assertion struct {
	Credential        []byte `cbor:"1,keyasint"` // id of the passkey
	AuthenticatorData []byte `cbor:"2,keyasint"` // WebAuthn §6.1
	ClientData        []byte `cbor:"3,keyasint"` // clientDataJSON, WebAuthn §5.8.1
	Signature         []byte `cbor:"4,keyasint"`
}

func (a *Assertion) valid() error {
	if n := len(a.Credential); n == 0 || n > maxCredentialID {
		return malformed("passkey's id has %d bytes", n)
	}
	if n := len(a.AuthenticatorData); n < authenticatorDataMin || n > maxAuthenticatorData {
		return malformed("authenticator data has %d bytes", n)
	}
	if n := len(a.ClientData); n == 0 || n > maxClientData {
		return malformed("client data has %d bytes", n)
	}
	if n := len(a.Signature); n == 0 || n > maxPasskeySignature {
		return malformed("passkey's signature has %d bytes", n)
	}
	return nil
}

// RelyingParty is the site for which passkeys are made: its RP ID, and the origins of its pages (WebAuthn §4, §13.4.9).
type RelyingParty struct {
	ID      string   `cbor:"1,keyasint"`
	Origins []string `cbor:"2,keyasint"`
}

// MaxOrigins bounds RelyingParty.Origins.
const MaxOrigins = 8

// Check says what is wrong with rp. The error wraps ErrMalformed.
func (rp *RelyingParty) Check() error { return rp.valid() }

func (rp *RelyingParty) valid() error {
	if err := checkText("relying party", rp.ID, true); err != nil {
		return err
	}
	if len(rp.Origins) == 0 || len(rp.Origins) > MaxOrigins {
		return malformed("relying party has %d origins, has to be 1 to %d", len(rp.Origins), MaxOrigins)
	}
	for _, o := range rp.Origins {
		if err := checkText("origin", o, true); err != nil {
			return err
		}
		u, err := url.Parse(o)
		if err != nil || u.Scheme+"://"+u.Host != o || u.Host == "" || o != strings.ToLower(o) {
			return malformed("origin is not scheme://host, in lower case")
		}
		host := u.Hostname()
		if host != rp.ID && !strings.HasSuffix(host, "."+rp.ID) {
			return malformed("origin is not below the relying party")
		}
		if u.Scheme != "https" && (u.Scheme != "http" || host != "localhost") { // passkeys need a secure context; http is for trying out
			return malformed("origin is neither https nor http://localhost")
		}
	}
	return nil
}

// Flags of authenticator data, WebAuthn §6.1.
const (
	flagUserPresent  = 1 << 0
	flagUserVerified = 1 << 2
	flagBackupAble   = 1 << 3
	flagBackedUp     = 1 << 4
	flagAttested     = 1 << 6
	flagExtensions   = 1 << 7

	authenticatorDataMin = sha256.Size + 1 + 4
)

// Verify checks that a was made by credential c, for the site rp, by its own person, over challenge (WebAuthn §7.2, steps 5 to 22; attestation and
// extensions play no part). It returns the authenticator's signature counter: 0 of those that do not count. The caller compares it with what it has
// seen before. Errors wrap ErrMalformed, ErrChallenge, ErrOrigin, ErrUserVerification or ErrSignature.
func (a *Assertion) Verify(c Credential, rp RelyingParty, challenge Hash) (counter uint32, err error) {
	if err := a.valid(); err != nil {
		return 0, fmt.Errorf("verify passkey: %w", err)
	}
	if subtle.ConstantTimeCompare(a.Credential, c.ID) != 1 {
		return 0, fmt.Errorf("verify passkey: made by another passkey: %w", ErrSignature)
	}
	key, err := c.public()
	if err != nil {
		return 0, fmt.Errorf("verify passkey: %w", err)
	}
	if err := a.checkClient(rp, challenge); err != nil {
		return 0, fmt.Errorf("verify passkey: %w", err)
	}
	if counter, err = a.checkAuthenticator(rp); err != nil {
		return 0, fmt.Errorf("verify passkey: %w", err)
	}
	client := sha256.Sum256(a.ClientData)
	signed := append(bytes.Clone(a.AuthenticatorData), client[:]...)
	digest := sha256.Sum256(signed)
	good := false
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		good = ecdsa.VerifyASN1(k, digest[:], a.Signature)
	case ed25519.PublicKey:
		good = ed25519.Verify(k, signed, a.Signature)
	case *rsa.PublicKey:
		good = rsa.VerifyPKCS1v15(k, crypto.SHA256, digest[:], a.Signature) == nil
	}
	if !good {
		return 0, fmt.Errorf("verify passkey: %w", ErrSignature)
	}
	return counter, nil
}

// clientData is what the browser says, under the signature, of the page that asked. Members that are not named here are ignored, as WebAuthn §5.8.1 demands.
type clientData struct {
	Type        string `json:"type"`
	Challenge   string `json:"challenge"`
	Origin      string `json:"origin"`
	CrossOrigin bool   `json:"crossOrigin"`
	TopOrigin   string `json:"topOrigin"`
}

func (a *Assertion) checkClient(rp RelyingParty, challenge Hash) error {
	var c clientData
	if err := json.Unmarshal(a.ClientData, &c); err != nil {
		return fmt.Errorf("client data: %w: %w", ErrMalformed, err)
	}
	if c.Type != "webauthn.get" {
		return fmt.Errorf("not a sign-in but another use of the passkey: %w", ErrChallenge)
	}
	want := base64.RawURLEncoding.EncodeToString(challenge[:])
	if subtle.ConstantTimeCompare([]byte(c.Challenge), []byte(want)) != 1 {
		return ErrChallenge
	}
	if !slices.Contains(rp.Origins, c.Origin) {
		return ErrOrigin
	}
	if c.CrossOrigin || c.TopOrigin != "" {
		return fmt.Errorf("inside another site's page: %w", ErrOrigin)
	}
	return nil
}

func (a *Assertion) checkAuthenticator(rp RelyingParty) (counter uint32, err error) {
	hash := sha256.Sum256([]byte(rp.ID))
	if subtle.ConstantTimeCompare(a.AuthenticatorData[:sha256.Size], hash[:]) != 1 {
		return 0, ErrOrigin
	}
	flags := a.AuthenticatorData[sha256.Size]
	if flags&flagUserPresent == 0 || flags&flagUserVerified == 0 {
		return 0, ErrUserVerification
	}
	if flags&flagBackedUp != 0 && flags&flagBackupAble == 0 { // §6.1.3: cannot be
		return 0, malformed("authenticator data contradicts itself")
	}
	if rest := len(a.AuthenticatorData) - authenticatorDataMin; flags&flagAttested != 0 || (rest > 0) != (flags&flagExtensions != 0) {
		return 0, malformed("authenticator data has what does not belong to a sign-in")
	}
	return binary.BigEndian.Uint32(a.AuthenticatorData[sha256.Size+1:]), nil
}
