package protocol

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"io"
	"testing"

	"github.com/veraison/go-cose"
)

// fixedSigner signs deterministically, which ecdsa does when it gets no source of randomness.
type fixedSigner struct{ *ecdsa.PrivateKey }

func (s fixedSigner) Sign(_ io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	return s.PrivateKey.Sign(nil, digest, crypto.SHA256)
}

func fixedKey(t *testing.T, name string) fixedSigner {
	t.Helper()
	seed := sha256.Sum256([]byte("vindu test key: " + name))
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), seed[:])
	if err != nil {
		t.Fatal(err)
	}
	return fixedSigner{k}
}

// signRaw signs any payload under any content type, which Sign would refuse to.
func signRaw(t *testing.T, contentType string, payload []byte, key fixedSigner, change func(*cose.Sign1Message)) []byte {
	t.Helper()
	kid, err := HashKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	signer, err := cose.NewSigner(cose.AlgorithmES256, key)
	if err != nil {
		t.Fatal(err)
	}
	m := cose.Sign1Message{Headers: protectedHeaders(contentType, kid), Payload: payload}
	if change != nil {
		change(&m)
	}
	if err := m.Sign(nil, nil, signer); err != nil {
		t.Fatal(err)
	}
	b, err := m.MarshalCBOR()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustSign(t *testing.T, s statement, key crypto.Signer) []byte {
	t.Helper()
	b, err := Sign(s, key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustEncode(t *testing.T, m validator) []byte {
	t.Helper()
	b, err := Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func flipped(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

// replaceOnce changes the one place where old is found.
func replaceOnce(t *testing.T, b, old, with []byte) []byte {
	t.Helper()
	if bytes.Count(b, old) != 1 {
		t.Fatalf("%x is found %d times in %x", old, bytes.Count(b, old), b)
	}
	return bytes.Replace(b, old, with, 1)
}

func mustTime(t *testing.T, at Time) []byte {
	t.Helper()
	b, err := encMode.Marshal(at)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
