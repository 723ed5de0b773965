package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"

	"vindu/device/state"
)

// Grades of a keystore, as health messages report them.
const (
	GradeFile     = "file"
	GradeHardware = "hardware"
)

// Keystore holds the terminal's key pair. The private key is only ever used through Signer, so that it may live in a TPM.
type Keystore interface {
	// Signer signs with the terminal's key. Its public key must be ECDSA P-256 and must never change.
	Signer() crypto.Signer
	// Grade says honestly how well the key is kept: GradeFile or GradeHardware.
	Grade() string
}

const (
	keyFile  = "identity/key.pem"
	keyBlock = "PRIVATE KEY"
	maxKey   = 4 << 10
)

type fileKeystore struct{ key *ecdsa.PrivateKey }

func (k fileKeystore) Signer() crypto.Signer { return k.key }

func (fileKeystore) Grade() string { return GradeFile }

// FileKeystore returns the key pair kept in identity/key.pem (PKCS #8, RFC 5958), made now if there is none. A file
// that cannot be read is an error and not a reason to make a new key: that would be a new identity.
func FileKeystore(dir *state.Dir) (Keystore, error) {
	b, err := dir.Read(keyFile, maxKey)
	if errors.Is(err, fs.ErrNotExist) {
		return makeKey(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("load the terminal's key: %w", err)
	}
	key, err := parseKey(b)
	if err != nil {
		return nil, damaged(fmt.Errorf("load the terminal's key from %s/%s: %w", dir.Path(), keyFile, err))
	}
	return fileKeystore{key}, nil
}

func makeKey(dir *state.Dir) (Keystore, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the terminal's key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("make the terminal's key: %w", err)
	}
	if err := dir.Write(keyFile, pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der})); err != nil {
		return nil, fmt.Errorf("keep the terminal's key: %w", err)
	}
	return fileKeystore{key}, nil
}

func parseKey(b []byte) (*ecdsa.PrivateKey, error) {
	block, rest := pem.Decode(b)
	if block == nil || block.Type != keyBlock || len(rest) != 0 {
		return nil, fmt.Errorf("not one %q block", keyBlock)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	k, ok := key.(*ecdsa.PrivateKey)
	if !ok || k.Curve != elliptic.P256() {
		return nil, errors.New("not an ECDSA P-256 key")
	}
	return k, nil
}
