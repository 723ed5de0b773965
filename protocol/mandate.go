package protocol

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/veraison/go-cose"
)

// Prefixes by which people and programs recognise what a technician carries to the clinic's page and back.
const (
	laptopPrefix  = "vindu-laptop-1."
	mandatePrefix = "vindu-mandate-1."
)

// MaxMandate bounds a mandate's text form, and a laptop key's, in bytes; white space included.
const MaxMandate = 4 << 10

// LaptopText returns a laptop's public key as one line for people to copy to the clinic's page. It is no secret.
func LaptopText(pub crypto.PublicKey) (string, error) {
	k, ok := pub.(*ecdsa.PublicKey)
	if !ok || k.Curve != elliptic.P256() {
		return "", fmt.Errorf("laptop key: not ECDSA P-256")
	}
	der, err := x509.MarshalPKIXPublicKey(k)
	if err != nil {
		return "", fmt.Errorf("laptop key: %w", err)
	}
	return laptopPrefix + base64.RawURLEncoding.EncodeToString(der), nil
}

// ParseLaptop is the inverse of LaptopText: it returns the key as Mandate.Key has it. White space that copying may have put anywhere is
// ignored. The error wraps ErrTooLarge or ErrMalformed.
func ParseLaptop(text string) ([]byte, error) {
	der, err := parseText("laptop key", laptopPrefix, text)
	if err != nil {
		return nil, err
	}
	if _, err := ParseKey(der); err != nil {
		return nil, err
	}
	return der, nil
}

// MandateText returns a signed Mandate as one line for people to copy. It is no secret: it is of use only with the laptop's key.
func MandateText(signed []byte) string {
	return mandatePrefix + base64.RawURLEncoding.EncodeToString(signed)
}

// ParseMandate is the inverse of MandateText. White space that copying may have put anywhere is ignored. The mandate is what the
// text claims: its signature is NOT verified here, since a laptop does not know the clinic's keys; terminals and the clinic
// use Verify. The error wraps ErrTooLarge, ErrMalformed, ErrKind or ErrVersion.
func ParseMandate(text string) (signed []byte, m *Mandate, err error) {
	signed, err = parseText("mandate", mandatePrefix, text)
	if err != nil {
		return nil, nil, err
	}
	m, err = readMandate(signed)
	return signed, m, err
}

func readMandate(signed []byte) (*Mandate, error) {
	if len(signed) > MaxStatement {
		return nil, fmt.Errorf("mandate: %d bytes: %w", len(signed), ErrTooLarge)
	}
	var envelope cose.Sign1Message
	if err := envelope.UnmarshalCBOR(signed); err != nil {
		return nil, fmt.Errorf("mandate: %w: %w", ErrMalformed, err)
	}
	if kind, _ := envelope.Headers.Protected[cose.HeaderLabelContentType].(string); kind != typeMandate {
		return nil, fmt.Errorf("mandate: %w", ErrKind)
	}
	m := new(Mandate)
	if err := decodeMax(envelope.Payload, m, MaxStatement); err != nil {
		return nil, fmt.Errorf("mandate: %w", err)
	}
	return m, nil
}

// parseText reads what stands behind a prefix in unpadded base64url.
func parseText(what, prefix, text string) ([]byte, error) {
	if len(text) > MaxMandate {
		return nil, fmt.Errorf("%s: %d bytes: %w", what, len(text), ErrTooLarge)
	}
	body, ok := strings.CutPrefix(strings.Join(strings.Fields(text), ""), prefix)
	if !ok {
		return nil, malformed("%s does not begin with %q", what, prefix)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", what, ErrMalformed, err)
	}
	return b, nil
}
