package tpm

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io/fs"

	"github.com/google/go-tpm/tpm2"

	"vindu/device/identity"
	"vindu/device/state"
)

func slotOf(r record) int { return int(r.Handle - uint32(handle)) }

func place(dir *state.Dir) (slot int, err error) {
	return identity.Current(dir, func(slot int) (*ecdsa.PublicKey, error) {
		r, err := load(dir, slot)
		if err != nil {
			return nil, err
		}
		area, err := tpm2.Unmarshal[tpm2.TPMTPublic](r.Public)
		if err != nil {
			return nil, err
		}
		return publicKey(area)
	})
}

// current returns the record of the terminal's key. The error wraps fs.ErrNotExist if there is none.
func current(dir *state.Dir) (record, error) {
	slot, err := place(dir)
	if err != nil {
		return record{}, err
	}
	return load(dir, slot)
}

// Next implements identity.Keys: the next key is made where the present one is.
func (k Keys) Next(dir *state.Dir) (identity.Keystore, error) {
	slot, err := place(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return k.file(k.Files.Next(dir))
	}
	if err != nil {
		return nil, fmt.Errorf("make the next key: %w", err)
	}
	r, err := load(dir, 1-slot)
	if err == nil {
		var key identity.Keystore
		if key, err = k.open(r); err == nil || errors.Is(err, ErrGone) || errors.Is(err, ErrLocked) {
			return key, err
		}
	}
	if !errors.Is(err, fs.ErrNotExist) {
		k.log().Warn("the key that was made to be the next cannot be used: another is made", "error", err)
	}
	path := k.path()
	if path == "" {
		return nil, fmt.Errorf("make the next key: %w", gone(errors.New("the configuration says that there is no TPM, but the key is in one: set identity.tpm")))
	}
	key, err := k.create(dir, path, 1-slot)
	if err != nil {
		return nil, fmt.Errorf("make the next key in the TPM %s: %w", path, err)
	}
	return key, nil
}

// Beside implements identity.Keys.
func (k Keys) Beside(dir *state.Dir) (identity.Keystore, error) {
	slot, err := place(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return k.file(k.Files.Beside(dir))
	}
	if err != nil {
		return nil, fmt.Errorf("look for a second key: %w", err)
	}
	r, err := load(dir, 1-slot)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return k.open(r)
}

// Retire implements identity.Keys. A key that the TPM does not give up without its record is one that nobody can use.
func (k Keys) Retire(dir *state.Dir) error {
	if _, known := identity.Certified(dir); !known {
		return nil // which of them is the terminal's is not said
	}
	slot, err := place(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return k.Files.Retire(dir)
	}
	if err != nil {
		return fmt.Errorf("destroy the key before: %w", err)
	}
	return k.destroy(dir, 1-slot)
}
