package protocol

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Paths of enrolment and of what a terminal fetches over mutual TLS. The EST ones are RFC 7030 §3.2.2.
const (
	PathCACerts   = "/.well-known/est/cacerts"
	PathEnroll    = "/.well-known/est/simpleenroll"
	PathReenroll  = "/.well-known/est/simplereenroll"
	PathSettings  = "/vindu/v1/settings"
	ALPNMQTT      = "mqtt"
	ALPNTURN      = "stun.turn"     // RFC 7443
	FailureHeader = "Vindu-Failure" // response header with a Code on every refusal
)

// voucherPrefix begins a voucher's text form, so that people and programs recognise one.
const voucherPrefix = "vindu-voucher-1."

// MaxVoucher bounds a voucher's text form in bytes.
const MaxVoucher = 4 << 10

// Voucher lets one terminal enrol at one clinic for one home, once (R4). It carries the clinic's root certificate, so that the
// terminal's first connection is verified like every later one.
type Voucher struct {
	Version    uint   `cbor:"1,keyasint"`
	ID         Nonce  `cbor:"2,keyasint"`
	Secret     []byte `cbor:"3,keyasint"` // 32 bytes
	Address    string `cbor:"4,keyasint"` // host:port of the clinic's front door
	ServerName string `cbor:"5,keyasint"` // the name by which terminals know it (SNI)
	Root       []byte `cbor:"6,keyasint"` // DER certificate
	Expires    Time   `cbor:"7,keyasint"`
	Authority  []byte `cbor:"8,keyasint,omitempty"` // DER SubjectPublicKeyInfo of the authorisation key: it signs the time that a new terminal asks for
}

func (v *Voucher) valid() error {
	if err := checkVersion(v.Version); err != nil {
		return err
	}
	if (v.ID == Nonce{}) || len(v.Secret) != 32 || len(v.Root) == 0 || len(v.Root) > 2048 || v.Expires <= 0 || len(v.Authority) > 512 {
		return malformed("voucher lacks an id, secret, root or time, or its key is too long")
	}
	if err := checkText("address", v.Address, true); err != nil {
		return err
	}
	return checkText("server name", v.ServerName, true)
}

// Text returns the voucher as one line for people to copy.
func (v *Voucher) Text() (Secret, error) {
	b, err := Encode(v)
	if err != nil {
		return "", err
	}
	return Secret(voucherPrefix + base64.RawURLEncoding.EncodeToString(b)), nil
}

// ParseVoucher is the inverse of Text. White space that copying may have put anywhere is ignored.
func ParseVoucher(text string) (*Voucher, error) {
	if len(text) > MaxVoucher {
		return nil, fmt.Errorf("voucher: %d bytes: %w", len(text), ErrTooLarge)
	}
	text = strings.Join(strings.Fields(text), "")
	body, ok := strings.CutPrefix(text, voucherPrefix)
	if !ok {
		return nil, malformed("voucher does not begin with %q", voucherPrefix)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(body)
	if err != nil {
		return nil, fmt.Errorf("voucher: %w: %w", ErrMalformed, err)
	}
	v := new(Voucher)
	if err := Decode(b, v); err != nil {
		return nil, fmt.Errorf("voucher: %w", err)
	}
	return v, nil
}

// Names asks whether v is of the clinic whose settings these are: its authorisation key, if it has one, has to be among theirs. The code of the
// error is IdentityPin.
func (v *Voucher) Names(s *Settings) error {
	for _, k := range s.Authorities {
		if bytes.Equal(k, v.Authority) {
			return nil
		}
	}
	if len(v.Authority) == 0 {
		return nil
	}
	return WithCode(IdentityPin, errors.New("the voucher's authorisation key is not among the clinic's"))
}

// Credentials returns the user name and password by which a terminal presents v at PathEnroll in HTTP Basic
// authentication (RFC 7617, RFC 7030 §3.2.3): the id in hexadecimal and the secret in unpadded base64url.
func (v *Voucher) Credentials() (user string, password Secret) {
	return hex.EncodeToString(v.ID[:]), Secret(base64.RawURLEncoding.EncodeToString(v.Secret))
}

// ParseCredentials is the inverse of Voucher.Credentials. The error wraps ErrMalformed.
func ParseCredentials(user string, password Secret) (id Nonce, secret []byte, err error) {
	b, err := hex.DecodeString(user)
	if err != nil || len(b) != len(id) || user != hex.EncodeToString(b) {
		return Nonce{}, nil, malformed("voucher id has to be 32 hexadecimal digits")
	}
	secret, err = base64.RawURLEncoding.Strict().DecodeString(string(password))
	if err != nil || len(secret) != 32 || len(password) != 43 { // the decoder skips line breaks
		return Nonce{}, nil, malformed("voucher secret has to be 43 characters of base64url")
	}
	return Nonce(b), secret, nil
}

// Settings is what a terminal learns from its clinic right after enrolment, over mutual TLS at PathSettings.
type Settings struct {
	Version      uint     `cbor:"1,keyasint"`
	Organisation string   `cbor:"2,keyasint"`
	Home         string   `cbor:"3,keyasint"` // the home's label, never a patient's name
	Authorities  [][]byte `cbor:"4,keyasint"` // DER SubjectPublicKeyInfo of the authorisation keys, pinned at enrolment
	At           Time     `cbor:"5,keyasint"` // the clinic's time
	// Roots, if the clinic has changed its root, are DER certificates: the new root, the new one certified by the old (NewWithOld of
	// RFC 4210 §4.4), and the old one certified by the new (OldWithNew).
	Roots [][]byte `cbor:"6,keyasint,omitempty"`
	// Withdrawn are the IDs of mandates that the clinic has taken back and that are not over yet.
	Withdrawn []Nonce `cbor:"7,keyasint,omitempty"`
	// KeyOrder is a signed KeyOrder if this terminal's key is to be replaced, by its age or because the clinic has ordered it.
	KeyOrder []byte `cbor:"8,keyasint,omitempty"`
	// Trust and Policy are a signed Trust and Policy, the latest. A terminal that has none answers nobody.
	Trust  []byte `cbor:"9,keyasint,omitempty"`
	Policy []byte `cbor:"10,keyasint,omitempty"`
	// Coming is the next call that the home is told of, if the clinic wants that. It is not signed and gives nobody any right: a call is proven when it comes.
	Coming *Coming `cbor:"11,keyasint,omitempty"`
	// Rehearse is when the terminal rehearses by itself, once in it; nil: never. It is not signed: a rehearsal gives the clinic nothing but the numbers of a Rehearsal.
	Rehearse *Window `cbor:"12,keyasint,omitempty"`
}

// Coming is a call that somebody has said to make.
type Coming struct {
	Name string `cbor:"1,keyasint"` // as patients see the caller
	Role string `cbor:"2,keyasint"`
	At   Time   `cbor:"3,keyasint"`
}

func (c *Coming) valid() error {
	if c.At <= 0 {
		return malformed("announced call has no time")
	}
	if err := checkText("announced caller's name", c.Name, true); err != nil {
		return err
	}
	return checkText("announced caller's role", c.Role, true)
}

// MaxWithdrawn bounds Settings.Withdrawn.
const MaxWithdrawn = 256

func (s *Settings) valid() error {
	if err := checkVersion(s.Version); err != nil {
		return err
	}
	if len(s.Authorities) == 0 || len(s.Authorities) > 4 || s.At <= 0 {
		return malformed("settings lack authorisation keys or a time")
	}
	for _, k := range s.Authorities {
		if len(k) == 0 || len(k) > 512 {
			return malformed("authorisation key has %d bytes", len(k))
		}
	}
	if len(s.Roots) != 0 && len(s.Roots) != 3 {
		return malformed("a change of the root takes 3 certificates, not %d", len(s.Roots))
	}
	if len(s.Withdrawn) > MaxWithdrawn {
		return malformed("settings tell of %d withdrawn mandates, at most %d", len(s.Withdrawn), MaxWithdrawn)
	}
	for _, c := range s.Roots {
		if len(c) == 0 || len(c) > 2048 {
			return malformed("root certificate has %d bytes", len(c))
		}
	}
	if s.KeyOrder != nil {
		if err := checkStatement(s.KeyOrder); err != nil {
			return err
		}
	}
	for _, b := range [][]byte{s.Trust, s.Policy} {
		if len(b) > MaxPolicy {
			return malformed("trust or policy has %d bytes", len(b))
		}
	}
	if s.Coming != nil {
		if err := s.Coming.valid(); err != nil {
			return err
		}
	}
	if s.Rehearse != nil {
		if err := s.Rehearse.valid(); err != nil {
			return err
		}
	}
	if err := checkText("organisation", s.Organisation, true); err != nil {
		return err
	}
	return checkText("home", s.Home, true)
}

// A "certs-only" CMS message (RFC 5652 §5, RFC 7030 §4.1.3): SignedData without signers.
type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content signedData `asn1:"explicit,tag:0"`
}

type signedData struct {
	Version          int
	DigestAlgorithms asn1.RawValue
	Content          encapsulated
	Certificates     asn1.RawValue `asn1:"optional,tag:0"`
	CRLs             asn1.RawValue `asn1:"optional,tag:1"`
	Signers          asn1.RawValue
}

type encapsulated struct{ Type asn1.ObjectIdentifier }

var (
	oidSignedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidData       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	emptySet      = asn1.RawValue{Tag: asn1.TagSet, IsCompound: true}
)

// EncodeCerts returns certificates as the base64 body of an EST response.
func EncodeCerts(certs ...*x509.Certificate) ([]byte, error) {
	var raw bytes.Buffer
	for _, c := range certs {
		raw.Write(c.Raw)
	}
	der, err := asn1.Marshal(contentInfo{Type: oidSignedData, Content: signedData{
		Version: 1, DigestAlgorithms: emptySet, Content: encapsulated{Type: oidData}, Signers: emptySet,
		Certificates: asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: raw.Bytes()},
	}})
	if err != nil {
		return nil, fmt.Errorf("encode certificates: %w", err)
	}
	out := make([]byte, base64.StdEncoding.EncodedLen(len(der)))
	base64.StdEncoding.Encode(out, der)
	return out, nil
}

// DecodeCerts is the inverse of EncodeCerts: between one and eight certificates, at most 16 KiB. Line breaks in the base64 are allowed.
func DecodeCerts(body []byte) ([]*x509.Certificate, error) {
	if len(body) > 16<<10 {
		return nil, fmt.Errorf("decode certificates: %d bytes: %w", len(body), ErrTooLarge)
	}
	der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(body)), ""))
	if err != nil {
		return nil, fmt.Errorf("decode certificates: %w: %w", ErrMalformed, err)
	}
	var ci contentInfo
	rest, err := asn1.Unmarshal(der, &ci)
	if err != nil || len(rest) > 0 || !ci.Type.Equal(oidSignedData) {
		return nil, fmt.Errorf("decode certificates: not a certs-only message: %w", ErrMalformed)
	}
	certs, err := x509.ParseCertificates(ci.Content.Certificates.Bytes)
	if err != nil {
		return nil, fmt.Errorf("decode certificates: %w: %w", ErrMalformed, err)
	}
	if len(certs) == 0 || len(certs) > 8 {
		return nil, fmt.Errorf("decode certificates: %d of them: %w", len(certs), ErrMalformed)
	}
	return certs, nil
}
