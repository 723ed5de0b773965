package identity

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io/fs"

	"vindu/device/state"
	"vindu/protocol"
)

// A key that replaces another is made beside it. keyFiles are the two places; which of them holds the terminal's key is what the certificate in
// clinic.pem says, so that writing that one file is the whole change from one key to the other.
var keyFiles = [...]string{keyFile, "identity/key-2.pem"}

// Certified returns the key that the terminal's certificate is for; false if there is no certificate, or none that can be read.
func Certified(dir *state.Dir) (protocol.KeyHash, bool) {
	b, err := dir.Read(clinicFile, maxClinic)
	if err != nil {
		return protocol.KeyHash{}, false
	}
	g, err := decodeGrant(b)
	if err != nil {
		return protocol.KeyHash{}, false
	}
	return protocol.HashSPKI(g.Chain[0].RawSubjectPublicKeyInfo), true
}

// Current chooses among the two places for a key the one that holds the terminal's: that of the certificate, or the first that can be read if no certificate
// says anything else. read returns the key of a place; an error wrapping fs.ErrNotExist if there is none. The error of Current wraps fs.ErrNotExist only
// if both are empty.
func Current(dir *state.Dir, read func(slot int) (*ecdsa.PublicKey, error)) (slot int, err error) {
	want, known := Certified(dir)
	first, empty := -1, 0
	var errs []error
	for slot := range keyFiles {
		pub, err := read(slot)
		if errors.Is(err, fs.ErrNotExist) {
			empty++
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		hash, err := protocol.HashKey(pub)
		if err != nil {
			return 0, err
		}
		if known && hash == want {
			return slot, nil
		}
		if first < 0 {
			first = slot
		}
	}
	switch {
	case empty == len(keyFiles):
		return 0, fs.ErrNotExist
	case len(errs) > 0 && (known || first < 0): // it may be the one
		return 0, errors.Join(errs...)
	}
	return first, nil
}

// read returns the key in one of the two places.
func (k FileKeys) read(dir *state.Dir, slot int, traits []Trait) (key *ecdsa.PrivateKey, wasSealed bool, err error) {
	b, err := dir.Read(keyFiles[slot], maxKey)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, err
	}
	if err != nil {
		return nil, false, fmt.Errorf("load the terminal's key: %w", err)
	}
	if key, wasSealed, err = parseKey(b, traits); err != nil {
		return nil, wasSealed, damaged(fmt.Errorf("load the terminal's key from %s/%s: %w", dir.Path(), keyFiles[slot], err))
	}
	return key, wasSealed, nil
}

func (k FileKeys) current(dir *state.Dir, traits []Trait) (int, error) {
	return Current(dir, func(slot int) (*ecdsa.PublicKey, error) {
		key, _, err := k.read(dir, slot, traits)
		if err != nil {
			return nil, err
		}
		return &key.PublicKey, nil
	})
}

// Beside implements Keys.
func (k FileKeys) Beside(dir *state.Dir) (Keystore, error) {
	traits := k.traits()
	slot, err := k.current(dir, traits)
	if err != nil {
		return nil, fmt.Errorf("look for a second key: %w", err)
	}
	key, _, err := k.read(dir, 1-slot, traits)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return fileKeystore{key}, nil
}

// Next implements Keys.
func (k FileKeys) Next(dir *state.Dir) (Keystore, error) {
	traits := k.traits()
	slot, err := k.current(dir, traits)
	if err != nil {
		return nil, fmt.Errorf("make the next key: %w", err)
	}
	key, _, err := k.read(dir, 1-slot, traits)
	switch {
	case err == nil:
		return fileKeystore{key}, nil
	case !errors.Is(err, fs.ErrNotExist):
		k.log().Warn("the key that was made to be the next cannot be read: another is made", "error", err)
	}
	return k.create(dir, 1-slot)
}

// Retire implements Keys.
func (k FileKeys) Retire(dir *state.Dir) error {
	if _, known := Certified(dir); !known {
		return nil // which of them is the terminal's is not said
	}
	slot, err := k.current(dir, k.traits())
	if err == nil {
		err = dir.Wipe(keyFiles[1-slot])
	}
	if err != nil {
		return fmt.Errorf("destroy the key before: %w", err)
	}
	return nil
}
