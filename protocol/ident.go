package protocol

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// KeyHash is the SHA-256 of a public key's DER SubjectPublicKeyInfo. It is the identity of a
// terminal; security decisions compare all of it.
type KeyHash [sha256.Size]byte

// Fingerprint is the SHA-256 of a DTLS certificate (RFC 8122 §5).
type Fingerprint [sha256.Size]byte

// Hash is the SHA-256 of something that a statement refers to.
type Hash [sha256.Size]byte

// CallID names one call attempt. It is random and says nothing about anybody.
type CallID [16]byte

// Nonce makes a statement unlike every other.
type Nonce [16]byte

// HashKey returns the identity of a public key.
func HashKey(pub crypto.PublicKey) (KeyHash, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return KeyHash{}, fmt.Errorf("encode public key: %w", err)
	}
	return sha256.Sum256(der), nil
}

// HashSPKI returns the identity of a public key given as DER SubjectPublicKeyInfo.
func HashSPKI(spki []byte) KeyHash { return sha256.Sum256(spki) }

var idEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// Name returns the terminal's name: lower-case base32 of the whole hash, 52 characters, as used in topics and certificates.
func (k KeyHash) Name() string { return strings.ToLower(idEncoding.EncodeToString(k[:])) }

// Code returns the 16 characters that people compare, in groups of four: "ABCD-EFGH-IJKL-MNOP".
func (k KeyHash) Code() string {
	s := idEncoding.EncodeToString(k[:])[:16]
	return s[:4] + "-" + s[4:8] + "-" + s[8:12] + "-" + s[12:16]
}

// String is Name.
func (k KeyHash) String() string { return k.Name() }

// LogValue is Name; without it a JSON log would have a list of numbers.
func (k KeyHash) LogValue() slog.Value { return slog.StringValue(k.Name()) }

// ParseName is the inverse of KeyHash.Name. It accepts only the canonical spelling.
func ParseName(s string) (KeyHash, error) {
	var k KeyHash
	b, err := idEncoding.DecodeString(strings.ToUpper(s))
	if err != nil || len(b) != len(k) {
		return KeyHash{}, malformed("terminal name has to be 52 base32 characters")
	}
	copy(k[:], b)
	if k.Name() != s {
		return KeyHash{}, malformed("terminal name is not in canonical spelling")
	}
	return k, nil
}

// NewCallID returns a random call id.
func NewCallID() (id CallID) { rand.Read(id[:]); return id }

// NewNonce returns a random nonce.
func NewNonce() (n Nonce) { rand.Read(n[:]); return n }

// String returns the id in hexadecimal, as it appears in logs and URLs.
func (c CallID) String() string { return hex.EncodeToString(c[:]) }

// LogValue is String.
func (c CallID) LogValue() slog.Value { return slog.StringValue(c.String()) }

// ParseCallID is the inverse of CallID.String.
func ParseCallID(s string) (CallID, error) {
	var c CallID
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(c) {
		return CallID{}, malformed("call id has to be 32 hexadecimal digits")
	}
	copy(c[:], b)
	if c.String() != s {
		return CallID{}, malformed("call id is not in canonical spelling")
	}
	return c, nil
}

// String returns the fingerprint as SDP writes it: "AB:CD:…" (RFC 8122 §5).
func (f Fingerprint) String() string {
	var b strings.Builder
	for i, x := range f {
		if i > 0 {
			b.WriteByte(':')
		}
		fmt.Fprintf(&b, "%02X", x)
	}
	return b.String()
}

// Time is an instant in milliseconds since the Unix epoch, UTC; zero means "never".
type Time int64

// At converts t, rounding down to the millisecond. The zero time.Time becomes 0.
func At(t time.Time) Time {
	if t.IsZero() {
		return 0
	}
	return Time(t.UnixMilli())
}

// Time converts back; 0 becomes the zero time.Time.
func (t Time) Time() time.Time {
	if t == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(t)).UTC()
}

// SDP is a session description. It carries addresses and keys' fingerprints and never reaches a log.
type SDP string

// LogValue redacts.
func (s SDP) LogValue() slog.Value { return slog.StringValue(fmt.Sprintf("[sdp, %d bytes]", len(s))) }

// CandidateLine is the value of an ICE candidate attribute. It carries addresses and never reaches a log.
type CandidateLine string

// LogValue redacts.
func (CandidateLine) LogValue() slog.Value { return slog.StringValue("[candidate]") }

// Secret is a password, token or voucher secret. It never reaches a log.
type Secret string

// LogValue redacts.
func (Secret) LogValue() slog.Value { return slog.StringValue("[secret]") }

// String redacts, so that %v and %s cannot leak it; use string(s) for the value.
func (Secret) String() string { return "[secret]" }
