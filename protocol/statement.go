package protocol

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/veraison/go-cose"
)

// Content types of the statements; part of what is signed.
const (
	typeInvitation = "vindu/invitation.v1"
	typeAnswer     = "vindu/answer.v1"
	typeEnd        = "vindu/end.v1"
)

var (
	// ErrSignature is wrapped when a statement is not signed by the expected key.
	ErrSignature = errors.New("signature does not verify")
	// ErrKind is wrapped when a statement is well signed but of another kind than expected.
	ErrKind = errors.New("statement of another kind")
)

// Party is one who takes part in a call, as shown to all who do (R12). It never describes a patient.
type Party struct {
	Name         string `cbor:"1,keyasint" json:"name"`
	Role         string `cbor:"2,keyasint" json:"role"`
	Organisation string `cbor:"3,keyasint" json:"organisation"`
}

func (p Party) valid() error {
	return errors.Join(checkText("name", p.Name, true), checkText("role", p.Role, true), checkText("organisation", p.Organisation, true))
}

// Invitation is what a caller proves to a terminal before it rings: who calls whom, why, with which keys, and when.
type Invitation struct {
	Version  uint        `cbor:"1,keyasint"`
	Call     CallID      `cbor:"2,keyasint"`
	Terminal KeyHash     `cbor:"3,keyasint"` // the terminal that is called (R2)
	Caller   Fingerprint `cbor:"4,keyasint"` // the caller's DTLS certificate
	Offer    Hash        `cbor:"5,keyasint"` // SHA-256 of the offer
	Parties  []Party     `cbor:"6,keyasint"` // the roster; the first is the caller
	Errand   string      `cbor:"7,keyasint"` // why, in words for the patient; may be empty
	Issued   Time        `cbor:"8,keyasint"`
	Expires  Time        `cbor:"9,keyasint"`
	Nonce    Nonce       `cbor:"10,keyasint"`
	// Key is the caller's key for this call alone, DER SubjectPublicKeyInfo, ECDSA P-256: it signs what the caller says later, so that one touch is enough.
	Key           []byte `cbor:"11,keyasint"`
	Authorisation Hash   `cbor:"12,keyasint"` // SHA-256 of the signed Authorisation by which the caller calls
	RelayOnly     bool   `cbor:"13,keyasint"` // picture and sound through the relay alone
	Urgent        bool   `cbor:"14,keyasint"` // rings in quiet hours, where the home's policy lets this caller; the screen says so
}

// MaxInvitationLife bounds Expires-Issued: an invitation is for a call that is made now.
const MaxInvitationLife = 2 * time.Minute

func (i *Invitation) valid() error {
	if err := checkVersion(i.Version); err != nil {
		return err
	}
	switch {
	case i.Call == CallID{}, i.Terminal == KeyHash{}, i.Caller == Fingerprint{}, i.Offer == Hash{}, i.Nonce == Nonce{}, i.Authorisation == Hash{}:
		return malformed("invitation lacks a call, terminal, fingerprint, offer, nonce or authorisation")
	case len(i.Parties) == 0 || len(i.Parties) > MaxParties:
		return malformed("invitation names %d parties, has to be 1 to %d", len(i.Parties), MaxParties)
	case i.Issued <= 0 || i.Expires <= i.Issued || i.Expires-i.Issued > Time(MaxInvitationLife.Milliseconds()):
		return malformed("invitation is not valid for any, or for too long a time")
	}
	for _, p := range i.Parties {
		if err := p.valid(); err != nil {
			return err
		}
	}
	if _, err := ParseKey(i.Key); err != nil {
		return err
	}
	return checkText("errand", i.Errand, false)
}

// Decision is what a terminal answers.
type Decision string

const (
	Ringing  Decision = "ringing"  // the invitation is proven, the patient is being told; connect, but see nothing yet
	Answered Decision = "answered" // camera and microphone open now
	Declined Decision = "declined" // the person at the terminal said no (R25)
	Busy     Decision = "busy"     // another call runs
	Quiet    Decision = "quiet"    // quiet hours
	Shutter  Decision = "shutter"  // the shutter is closed and policy refuses
	Refused  Decision = "refused"  // policy refuses this caller
)

// Answer is what a terminal proves to the caller.
type Answer struct {
	Version    uint        `cbor:"1,keyasint"`
	Call       CallID      `cbor:"2,keyasint"`
	Terminal   KeyHash     `cbor:"3,keyasint"`
	Invitation Hash        `cbor:"4,keyasint"` // SHA-256 of the signed invitation's bytes
	Key        Fingerprint `cbor:"5,keyasint"` // the terminal's DTLS certificate; zero unless ringing or answered
	Answer     Hash        `cbor:"6,keyasint"` // SHA-256 of the SDP answer; zero unless ringing or answered
	Decision   Decision    `cbor:"7,keyasint"`
	Software   string      `cbor:"8,keyasint"`
	At         Time        `cbor:"9,keyasint"`
}

func (a *Answer) valid() error {
	if err := checkVersion(a.Version); err != nil {
		return err
	}
	switch a.Decision {
	case Ringing, Answered:
		if (a.Key == Fingerprint{}) || (a.Answer == Hash{}) {
			return malformed("answer %q lacks the fingerprint or the hash of the SDP answer", a.Decision)
		}
	case Declined, Busy, Quiet, Shutter, Refused:
		if (a.Key != Fingerprint{}) || (a.Answer != Hash{}) {
			return malformed("answer %q carries keys", a.Decision)
		}
	default:
		return malformed("unknown decision")
	}
	if (a.Call == CallID{}) || (a.Terminal == KeyHash{}) || (a.Invitation == Hash{}) || a.At <= 0 {
		return malformed("answer lacks a call, terminal, invitation or time")
	}
	return checkText("software", a.Software, true)
}

// End is what each end proves when a call is over (risk 1e): why, how long, and when nobody could see or hear any more.
type End struct {
	Version          uint    `cbor:"1,keyasint"`
	Call             CallID  `cbor:"2,keyasint"`
	Terminal         KeyHash `cbor:"3,keyasint"`
	Invitation       Hash    `cbor:"4,keyasint"`
	By               Side    `cbor:"5,keyasint"`
	Reason           Code    `cbor:"6,keyasint"`
	Duration         uint64  `cbor:"7,keyasint"` // milliseconds from "answered"; 0 if it never was
	CameraClosed     Time    `cbor:"8,keyasint"` // 0 if it never was open; only the terminal can say
	MicrophoneClosed Time    `cbor:"9,keyasint"`
	At               Time    `cbor:"10,keyasint"`
}

// Side is an end of a call.
type Side string

const (
	SideTerminal Side = "terminal"
	SideCaller   Side = "caller"
	// SideClinic is the clinic's server, which ends a call whose caller is gone or has lost the right to it.
	SideClinic Side = "clinic"
)

func (e *End) valid() error {
	if err := checkVersion(e.Version); err != nil {
		return err
	}
	if e.By != SideTerminal && e.By != SideCaller && e.By != SideClinic {
		return malformed("unknown side")
	}
	if (e.Call == CallID{}) || (e.Terminal == KeyHash{}) || (e.Invitation == Hash{}) || e.At <= 0 || e.CameraClosed < 0 || e.MicrophoneClosed < 0 {
		return malformed("end lacks a call, terminal, invitation or time")
	}
	if e.By != SideTerminal && (e.CameraClosed != 0 || e.MicrophoneClosed != 0) {
		return malformed("only the terminal can say when its camera and microphone were closed")
	}
	return e.Reason.valid()
}

// statement is a message that travels signed.
type statement interface {
	validator
	contentType() string
}

func (*Invitation) contentType() string { return typeInvitation }
func (*Answer) contentType() string     { return typeAnswer }
func (*End) contentType() string        { return typeEnd }

// Sign returns s as a COSE_Sign1 message signed by key, which must be ECDSA P-256; it may live in
// hardware.
func Sign(s statement, key crypto.Signer) ([]byte, error) {
	payload, err := Encode(s)
	if err != nil {
		return nil, err
	}
	pub, ok := key.Public().(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return nil, fmt.Errorf("sign %s: key is not ECDSA P-256", s.contentType())
	}
	kid, err := HashKey(pub)
	if err != nil {
		return nil, err
	}
	signer, err := cose.NewSigner(cose.AlgorithmES256, key)
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", s.contentType(), err)
	}
	m := cose.Sign1Message{Headers: protectedHeaders(s.contentType(), kid), Payload: payload}
	if err := m.Sign(rand.Reader, nil, signer); err != nil {
		return nil, fmt.Errorf("sign %s: %w", s.contentType(), err)
	}
	b, err := m.MarshalCBOR()
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", s.contentType(), err)
	}
	if len(b) > maxSigned(s) {
		return nil, fmt.Errorf("sign %s: %d bytes: %w", s.contentType(), len(b), ErrTooLarge)
	}
	return b, nil
}

func protectedHeaders(contentType string, kid KeyHash) cose.Headers {
	return cose.Headers{
		Protected: cose.ProtectedHeader{
			cose.HeaderLabelAlgorithm:   cose.AlgorithmES256,
			cose.HeaderLabelContentType: contentType,
			cose.HeaderLabelKeyID:       kid[:],
		},
		Unprotected: cose.UnprotectedHeader{},
	}
}

// Verify checks that signed is a statement of s's kind, canonical to the last byte and signed by pub, and decodes it
// into s, which must be a pointer to a zero statement. On error s must not be used. Errors wrap ErrTooLarge,
// ErrMalformed, ErrKind, ErrSignature or ErrVersion. The caller still has to check that it is
// about the right call, terminal and time.
func Verify(signed []byte, pub *ecdsa.PublicKey, s statement) error {
	what := s.contentType()
	if len(signed) > maxSigned(s) {
		return fmt.Errorf("verify %s: %d bytes: %w", what, len(signed), ErrTooLarge)
	}
	var m cose.Sign1Message
	if err := m.UnmarshalCBOR(signed); err != nil {
		return fmt.Errorf("verify %s: %w: %w", what, ErrMalformed, err)
	}
	kid, err := HashKey(pub)
	if err != nil {
		return fmt.Errorf("verify %s: %w", what, err)
	}
	got, _ := m.Headers.Protected[cose.HeaderLabelContentType].(string)
	if got != what {
		return fmt.Errorf("verify %s: %w", what, ErrKind)
	}
	// Build what an honest signer would have sent, with this signature, and compare: this refuses any other header,
	// any unprotected header and any other encoding.
	want := cose.Sign1Message{Headers: protectedHeaders(what, kid), Payload: m.Payload, Signature: m.Signature}
	b, err := want.MarshalCBOR()
	if err != nil {
		return fmt.Errorf("verify %s: %w: %w", what, ErrMalformed, err)
	}
	if !bytes.Equal(b, signed) {
		return fmt.Errorf("verify %s: signed by another key, or not canonical: %w", what, ErrSignature)
	}
	verifier, err := cose.NewVerifier(cose.AlgorithmES256, pub)
	if err != nil {
		return fmt.Errorf("verify %s: %w", what, err)
	}
	if err := m.Verify(nil, verifier); err != nil {
		return fmt.Errorf("verify %s: %w", what, ErrSignature)
	}
	return decodeMax(m.Payload, s, maxSigned(s))
}

// Unverified decodes what a statement of s's kind says, and tells which key it says has signed it. Nothing of it is proven: it is for records of what was verified
// when it was made. On error s must not be used.
func Unverified(signed []byte, s statement) (by KeyHash, err error) {
	what := s.contentType()
	if len(signed) > maxSigned(s) {
		return by, fmt.Errorf("read %s: %d bytes: %w", what, len(signed), ErrTooLarge)
	}
	var m cose.Sign1Message
	if err := m.UnmarshalCBOR(signed); err != nil {
		return by, fmt.Errorf("read %s: %w: %w", what, ErrMalformed, err)
	}
	if got, _ := m.Headers.Protected[cose.HeaderLabelContentType].(string); got != what {
		return by, fmt.Errorf("read %s: %w", what, ErrKind)
	}
	kid, _ := m.Headers.Protected[cose.HeaderLabelKeyID].([]byte)
	if copy(by[:], kid) != len(by) || len(kid) != len(by) {
		return by, fmt.Errorf("read %s: no key is named: %w", what, ErrMalformed)
	}
	return by, decodeMax(m.Payload, s, maxSigned(s))
}

// maxSigned bounds a signed statement of s's kind.
func maxSigned(s statement) int {
	switch s.(type) {
	case *Authorisation:
		return MaxAuthorisation
	case *Policy, *Trust:
		return MaxPolicy
	}
	return MaxStatement
}

// ParseKey returns a public key from its one DER SubjectPublicKeyInfo, so that a key has one hash. It has to be ECDSA P-256. The error wraps
// ErrMalformed.
func ParseKey(der []byte) (*ecdsa.PublicKey, error) {
	if len(der) > 512 {
		return nil, malformed("key has %d bytes", len(der))
	}
	pub, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("key: %w: %w", ErrMalformed, err)
	}
	k, ok := pub.(*ecdsa.PublicKey)
	if !ok || k.Curve != elliptic.P256() {
		return nil, malformed("key is not ECDSA P-256")
	}
	again, err := x509.MarshalPKIXPublicKey(k)
	if err != nil || !bytes.Equal(again, der) {
		return nil, malformed("key is not canonical")
	}
	return k, nil
}

// CallCode returns the six digits that both ends of a call show, "482 193": of the invitation and the terminal's certificate. People who compare
// them know that they look at each other; signatures, not the code, keep others out.
func CallCode(invitation Hash, terminal Fingerprint) string {
	sum := sha256.Sum256(slices.Concat([]byte("vindu/call-code.v1"), invitation[:], terminal[:]))
	n := binary.BigEndian.Uint64(sum[:8]) % 1_000_000
	return fmt.Sprintf("%03d %03d", n/1000, n%1000)
}

// HashOf returns the SHA-256 of signed bytes or of an SDP, as statements refer to them.
func HashOf[T ~[]byte | ~string](b T) Hash { return sha256.Sum256([]byte(b)) }
