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
	"log/slog"

	"vindu/device/state"
	"vindu/protocol"
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
	// Condition returns the code of what is wrong with the key's place now, or "". It may take seconds.
	Condition() protocol.Code
}

// Keys opens keystores.
type Keys interface {
	// Open returns the keystore of a state folder, with a key made now if, and only if, none is expected: neither a key nor
	// an enrolment is there. Anything else that is in the way is an error, never a reason to make a new key: that would be a new identity.
	Open(dir *state.Dir) (Keystore, error)
	// Next returns the key beside the terminal's, made now if there is none: it is to be the next one. It is the terminal's as soon as the
	// certificate in the folder is for it.
	Next(dir *state.Dir) (Keystore, error)
	// Beside is Next without making one: it returns nil if there is none.
	Beside(dir *state.Dir) (Keystore, error)
	// Retire destroys the key beside the terminal's, if there is one. Repeating it finishes what was cut off.
	Retire(dir *state.Dir) error
	// Destroy makes the keys of a state folder unusable for good, also one that Open refuses. Repeating it finishes what was cut
	// off; it is no error if there is none.
	Destroy(dir *state.Dir) error
}

// Destroy destroys the key and then what enrolment gave, so that the terminal is as from the factory. Repeating it finishes
// what was cut off.
func Destroy(dir *state.Dir, keys Keys) error {
	if err := keys.Destroy(dir); err != nil {
		return fmt.Errorf("destroy identity: %w", err)
	}
	for _, name := range [...]string{clinicFile, beforeFile} {
		if err := dir.Wipe(name); err != nil {
			return fmt.Errorf("destroy identity: %w", err)
		}
	}
	return nil
}

// Enrolled tells whether the folder has, or seems to have, something from an enrolment, so that a key is expected.
func Enrolled(dir *state.Dir) bool { return dir.Has(clinicFile) }

const (
	keyFile  = "identity/key.pem"
	keyBlock = "PRIVATE KEY"
	maxKey   = 4 << 10
)

type fileKeystore struct{ key *ecdsa.PrivateKey }

func (k fileKeystore) Signer() crypto.Signer { return k.key }

func (fileKeystore) Grade() string { return GradeFile }

func (fileKeystore) Condition() protocol.Code { return "" }

// FileKeys keeps the key pair in identity/key.pem, or key-2.pem if it has replaced one there: a block VINDU SEALED KEY, which is the key (PKCS #8, RFC 5958) encrypted by
// AES-256-GCM under HKDF-SHA-256 (RFC 5869) of the device's traits. A block PRIVATE KEY, as earlier versions wrote it, is
// accepted and sealed. That keeps a storage that was taken out from being used as it is; whoever knows the traits, or can guess
// them, can open it.
type FileKeys struct {
	Traits func() []Trait // nil: Traits. If it returns none the key is not sealed.
	Log    *slog.Logger   // nil: silent
}

// FileKeystore is FileKeys with the traits of this device, and silent.
func FileKeystore(dir *state.Dir) (Keystore, error) { return FileKeys{}.Open(dir) }

// FileKeyIn tells whether the folder has, or seems to have, a key in a file.
func FileKeyIn(dir *state.Dir) bool { return dir.Has(keyFiles[0]) || dir.Has(keyFiles[1]) }

func (k FileKeys) traits() []Trait {
	if k.Traits == nil {
		return Traits()
	}
	return k.Traits()
}

func (k FileKeys) log() *slog.Logger {
	if k.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return k.Log
}

// Open implements Keys.
func (k FileKeys) Open(dir *state.Dir) (Keystore, error) {
	traits := k.traits()
	slot, err := k.current(dir, traits)
	if errors.Is(err, fs.ErrNotExist) {
		if Enrolled(dir) {
			return nil, damaged(fmt.Errorf("load the terminal's key: %s/%s is gone, but there is an enrolment for it", dir.Path(), keyFile))
		}
		return k.create(dir, 0)
	}
	if err != nil {
		return nil, err
	}
	key, wasSealed, err := k.read(dir, slot, traits)
	if err != nil {
		return nil, err
	}
	switch {
	case wasSealed:
	case len(traits) == 0:
		k.warnUnsealed()
	default:
		if err := k.keep(dir, keyFiles[slot], key, traits); err != nil {
			// The key is as it was, and works.
			k.log().Warn("the terminal's key could not be sealed", "error", err)
		}
	}
	return fileKeystore{key}, nil
}

// Destroy implements Keys. Flash memory may keep an older copy of the file, which is sealed.
func (FileKeys) Destroy(dir *state.Dir) error {
	for _, name := range keyFiles {
		if err := dir.Wipe(name); err != nil {
			return fmt.Errorf("destroy the terminal's key: %w", err)
		}
	}
	return nil
}

func (k FileKeys) create(dir *state.Dir, slot int) (Keystore, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the terminal's key: %w", err)
	}
	if err := k.keep(dir, keyFiles[slot], key, k.traits()); err != nil {
		return nil, fmt.Errorf("keep the terminal's key: %w", err)
	}
	return fileKeystore{key}, nil
}

// keep writes the key, sealed if there is something to seal it with.
func (k FileKeys) keep(dir *state.Dir, name string, key *ecdsa.PrivateKey, traits []Trait) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if len(traits) > 0 {
		b, err := sealKey(der, traits)
		if err != nil {
			return err
		}
		return dir.Write(name, b)
	}
	k.warnUnsealed()
	return dir.Write(name, pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der}))
}

func (k FileKeys) warnUnsealed() {
	k.log().Warn("the terminal's key is not sealed: this device has no serial number and no machine id that stay")
}

// parseKey reads a key file, sealed or not, and tells which it was.
func parseKey(b []byte, traits []Trait) (key *ecdsa.PrivateKey, wasSealed bool, err error) {
	block, rest := pem.Decode(b)
	if block == nil || len(rest) != 0 {
		return nil, false, errors.New("not one PEM block")
	}
	der := block.Bytes
	switch block.Type {
	case keyBlock:
	case sealBlock:
		wasSealed = true
		if der, err = unsealKey(block.Bytes, traits); err != nil {
			return nil, true, err
		}
	default:
		return nil, false, fmt.Errorf("a block %q, not %q or %q", block.Type, sealBlock, keyBlock)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, wasSealed, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, wasSealed, errors.New("not an ECDSA P-256 key")
	}
	return key, wasSealed, nil
}
