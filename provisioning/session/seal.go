package session

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"

	"vindu/protocol"
)

const (
	tagSize     = 8 // of a session: the beginning of its transcript
	counterSize = 8
	transcript  = "vindu/serial.v1"
	keyLaptop   = "vindu/serial.v1 laptop"
	keyTerminal = "vindu/serial.v1 terminal"
)

// sealer seals and opens the messages of one session. Each direction has its own key and counts its messages; one that
// does not count further than the last is refused.
type sealer struct {
	hash    protocol.Hash // transcript: SHA-256 of both hellos as they went over the line
	in, out cipher.AEAD
	sent    uint64
	seen    uint64
}

// newSealer makes the keys from the ephemeral keys and both hellos. laptop says which end this is.
func newSealer(own *ecdh.PrivateKey, other, laptopHello, terminalHello []byte, laptop bool) (*sealer, error) {
	pub, err := ecdh.X25519().NewPublicKey(other)
	if err != nil {
		return nil, malformed("ephemeral key: %v", err)
	}
	shared, err := own.ECDH(pub)
	if err != nil {
		return nil, malformed("ephemeral key: %v", err)
	}
	h := sha256.New()
	h.Write([]byte(transcript))
	for _, b := range [][]byte{laptopHello, terminalHello} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b))))
		h.Write(b)
	}
	s := &sealer{hash: protocol.Hash(h.Sum(nil))}
	if s.out, err = newAEAD(shared, s.hash[:], keyLaptop); err != nil {
		return nil, err
	}
	if s.in, err = newAEAD(shared, s.hash[:], keyTerminal); err != nil {
		return nil, err
	}
	if !laptop {
		s.in, s.out = s.out, s.in
	}
	return s, nil
}

func newAEAD(secret, salt []byte, info string) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, secret, salt, info, 32)
	if err != nil {
		return nil, fmt.Errorf("derive session keys: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("derive session keys: %w", err)
	}
	return cipher.NewGCM(block)
}

func (s *sealer) tag() [tagSize]byte { return [tagSize]byte(s.hash[:]) }

func nonce(counter uint64) []byte { return binary.BigEndian.AppendUint64(make([]byte, 4, 12), counter) }

// seal returns tag, counter and sealed message; tag and counter are authenticated too.
func (s *sealer) seal(message []byte) []byte {
	s.sent++
	b := append(make([]byte, 0, tagSize+counterSize+len(message)+s.out.Overhead()), s.hash[:tagSize]...)
	b = binary.BigEndian.AppendUint64(b, s.sent)
	return s.out.Seal(b, nonce(s.sent), message, b)
}

var errSeal = errors.New("not a new message of this session")

// open undoes seal for a message that has not come before.
func (s *sealer) open(b []byte) ([]byte, error) {
	const head = tagSize + counterSize
	if len(b) < head {
		return nil, errSeal
	}
	counter := binary.BigEndian.Uint64(b[tagSize:])
	if [tagSize]byte(b) != s.tag() || counter <= s.seen {
		return nil, errSeal
	}
	m, err := s.in.Open(nil, nonce(counter), b[head:], b[:head])
	if err != nil {
		return nil, errSeal
	}
	s.seen = counter
	return m, nil
}

// publicKey reads a DER SubjectPublicKeyInfo of ECDSA P-256.
func publicKey(der []byte) (*ecdsa.PublicKey, error) {
	if len(der) > 512 {
		return nil, malformed("public key of %d bytes", len(der))
	}
	k, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, malformed("public key: %v", err)
	}
	pub, ok := k.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return nil, malformed("public key is not ECDSA P-256")
	}
	return pub, nil
}

// checkProof verifies that the holder of pub signed for this very session.
func checkProof(signed []byte, pub *ecdsa.PublicKey, hash protocol.Hash, terminal protocol.KeyHash, by protocol.Side) error {
	var s protocol.Session
	if err := protocol.Verify(signed, pub, &s); err != nil {
		return fmt.Errorf("%w: %w", ErrUnproven, err)
	}
	if s.Transcript != hash || s.Terminal != terminal || s.By != by {
		return fmt.Errorf("%w: signed for another session", ErrUnproven)
	}
	return nil
}
