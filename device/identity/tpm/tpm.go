// Package tpm keeps the terminal's key in a TPM 2.0 (TCG TPM 2.0 Library 1.59), from which it does not come out: not sealed, not
// wrapped, in no file. Only where there is none the key is kept in a file, by package identity.
//
// The key is ECDSA P-256 (fixedTPM, fixedParent, sensitiveDataOrigin; for signing SHA-256 digests only), made under the owner's
// storage key and then persistent at handle 0x81025644 or, if it replaces another there, 0x81025645. It can be used only with a random text, which is in
//
//	identity/tpm.pem    a block VINDU TPM KEY: CBOR of version, handle, public area (TPMT_PUBLIC) and this text, sealed as a key
//	                    in a file is (package identity) where the device has traits
//
// and which proves each command (HMAC session, Part 1 §19.6) without going over the bus: neither another process, nor who takes
// the chip alone, nor who came to its wires after the key was made can sign or change what is signed. Who was on them then may have
// been the TPM: the public half of the storage key, for which this text was encrypted, is believed. Every signature is verified before it is
// returned. Root on the running terminal can sign with the key, and cannot copy it.
//
// The key is exempt from the TPM's lock-out (noDA, Part 1 §19.8): there is nothing to guess, and each power cut counts as a
// wrong attempt otherwise. That the TPM is locked is told, and stops nothing.
//
// Errors carry identity.tpm_gone, identity.tpm_cleared or identity.tpm_locked (protocol.CodeOf). A key that is expected and is
// not there is never replaced by a new one: identity.Destroy, by a person's decision, has to come first.
package tpm

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-tpm/tpm2"

	"vindu/device/identity"
	"vindu/device/state"
	"vindu/protocol"
)

// Names that Keys.Device may have besides a path.
const (
	Auto = "auto"
	None = "none"
)

// defaultDevice is the kernel's resource manager: it keeps apart those who use the TPM.
const defaultDevice = "/dev/tpmrm0"

// recordFiles are the records of the two places for a key.
var recordFiles = [...]string{"identity/tpm.pem", "identity/tpm-2.pem"}

const (
	recordBlock   = "VINDU TPM KEY"
	recordVersion = 1
	maxRecord     = 4 << 10

	// handle is in the range for the owner's use that the TCG's registry of reserved handles leaves free.
	// That of the second place is the next one.
	handle = tpm2.TPMHandle(0x81025644)
)

// Keys opens the key in a TPM or, where there is none, in a file.
type Keys struct {
	// Device is where the TPM is: Auto for /dev/tpmrm0 if that works (it is waited for if the kernel knows of a TPM), None, or the path of a device or, for trials, of a Unix
	// socket. A TPM that is named by its path has to be there. It decides about new keys only: a key stays where it was made.
	Device string
	Files  identity.FileKeys
	Log    *slog.Logger // nil: silent

	auto  string        // what Auto means; "": defaultDevice
	signs []string      // patterns of files that tell of a TPM in the kernel; nil: kernelSigns
	late  time.Duration // how late a TPM may be; 0: comesTime
}

// A key that is made in a file stays there for life: a TPM of which the kernel knows may be a little late.
const (
	comesTime = 20 * time.Second
	comesPoll = 250 * time.Millisecond
)

var kernelSigns = []string{"/sys/class/tpm/tpm*", "/dev/tpm[0-9]*"}

func (k Keys) patience() time.Duration {
	if k.late == 0 {
		return comesTime
	}
	return k.late
}

// comes tells whether there is something at path, for which it waits if the kernel has a TPM.
func (k Keys) comes(path string) bool {
	signs := k.signs
	if signs == nil {
		signs = kernelSigns
	}
	for end := time.Now().Add(k.patience()); ; time.Sleep(comesPoll) {
		if _, err := os.Stat(path); err == nil {
			return true
		}
		known := slices.ContainsFunc(signs, func(pattern string) bool {
			found, err := filepath.Glob(pattern)
			return err == nil && len(found) > 0
		})
		switch {
		case !known:
			return false
		case time.Now().After(end):
			k.log().Warn("the kernel has a TPM, but its device does not come", "tpm", path, "waited", k.patience())
			return false
		}
	}
}

func (k Keys) log() *slog.Logger {
	if k.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return k.Log
}

// path returns where the TPM is, or "" if none is to be used.
func (k Keys) path() string {
	switch {
	case k.Device == None:
		return ""
	case k.Device != Auto && k.Device != "":
		return k.Device
	case k.auto != "":
		return k.auto
	}
	return defaultDevice
}

func (k Keys) isAuto() bool { return k.Device == Auto || k.Device == "" }

// Open implements identity.Keys.
func (k Keys) Open(dir *state.Dir) (identity.Keystore, error) {
	r, err := current(dir)
	switch {
	case err == nil:
		return k.open(r)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("load the terminal's key: %w", err)
	case identity.FileKeyIn(dir):
		return k.file(k.Files.Open(dir))
	case identity.Enrolled(dir):
		return nil, protocol.WithCode(protocol.IdentityDamaged,
			fmt.Errorf("load the terminal's key: %s has an enrolment, but neither a key nor where one is: %w", dir.Path(), identity.ErrDamaged))
	}
	path := k.path()
	if path == "" {
		return k.file(k.Files.Open(dir))
	}
	if k.isAuto() && !k.comes(path) {
		k.log().Info("there is no TPM: the key is kept in a file; name the TPM in identity.tpm if this device has one", "tpm", path)
		return k.file(k.Files.Open(dir))
	}
	key, err := k.create(dir, path, 0)
	for end := time.Now().Add(k.patience()); k.isAuto() && errors.Is(err, ErrGone) && time.Now().Before(end); {
		time.Sleep(comesPoll)
		key, err = k.create(dir, path, 0)
	}
	if err != nil && k.isAuto() && !errors.Is(err, errKeep) {
		k.log().Warn("there is a TPM, but it cannot be used: the key is kept in a file", "tpm", path, "error", err)
		return k.file(k.Files.Open(dir))
	}
	if err != nil {
		return nil, fmt.Errorf("make the terminal's key in the TPM %s: %w", path, err)
	}
	return key, nil
}

// open opens a key that was made.
func (k Keys) open(r record) (identity.Keystore, error) {
	path := k.path()
	if path == "" {
		return nil, fmt.Errorf("load the terminal's key: %w", gone(errors.New("the configuration says that there is no TPM, but the key is in one: set identity.tpm")))
	}
	if len(r.Auth) != authSize {
		auth, err := k.Files.Unseal(r.Auth)
		if err != nil {
			return nil, fmt.Errorf("load the terminal's key from the TPM %s: %w", path, err)
		}
		r.Auth = auth
	}
	key, err := newKey(path, r)
	if err == nil {
		err = key.present()
	}
	if err != nil {
		return nil, fmt.Errorf("load the terminal's key from the TPM %s: %w", path, err)
	}
	return key, nil
}

// errKeep is wrapped when the key was made and cannot be kept.
var errKeep = errors.New("keep what belongs to the key")

// create makes a key. What a cut leaves in the TPM without a record is replaced here, next time.
func (k Keys) create(dir *state.Dir, path string, slot int) (*key, error) {
	c := newChip(path).in(slot)
	defer c.close()
	found, err := c.readPublic()
	switch {
	case errors.Is(err, ErrCleared):
	case err != nil:
		return nil, err
	case !isOurs(found):
		return nil, fmt.Errorf("the TPM's handle %#x holds a key of somebody else", uint32(c.at))
	default:
		k.log().Warn("the TPM holds a key that this terminal's state folder does not know: it is replaced", "tpm", path)
		if err := c.evict(found); err != nil {
			return nil, err
		}
	}
	r, err := c.create()
	if err != nil {
		return nil, err
	}
	kept := r
	b, err := k.Files.Seal(r.Auth)
	switch {
	case err != nil:
	case b != nil:
		kept.Auth = b
	default:
		k.log().Warn("what the key in the TPM wants is not sealed: this device has no serial number and no machine id that stay")
	}
	if err == nil {
		b, err = encode(kept)
	}
	if err == nil {
		err = dir.Write(recordFiles[slot], b)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errKeep, err)
	}
	return newKey(path, r)
}

// Destroy implements identity.Keys. The key is taken out of the TPM and what one needs to use it is overwritten. If the TPM
// does not answer that is logged: without the record nobody can use the key.
func (k Keys) Destroy(dir *state.Dir) error {
	for slot := range recordFiles {
		if err := k.destroy(dir, slot); err != nil {
			return err
		}
	}
	return k.Files.Destroy(dir)
}

func (k Keys) destroy(dir *state.Dir, slot int) error {
	r, err := load(dir, slot)
	if err == nil || (k.path() != "" && !identity.FileKeyIn(dir)) {
		if err := k.evict(r, slot, err == nil); err != nil {
			k.log().Warn("the key stays in the TPM, where nobody can use it any more", "error", err)
		}
	}
	if err := dir.Wipe(recordFiles[slot]); err != nil {
		return fmt.Errorf("destroy the terminal's key: %w", err)
	}
	return nil
}

// evict takes the key of r out of the TPM or, if there is no record, whichever of ours is in its place.
func (k Keys) evict(r record, slot int, known bool) error {
	path := k.path()
	if path == "" {
		path = defaultDevice
	}
	if _, err := os.Stat(path); err != nil {
		if known {
			return gone(err)
		}
		return nil // no TPM, and none expected
	}
	c := newChip(path).in(slot)
	defer c.close()
	found, err := c.readPublic()
	if errors.Is(err, ErrCleared) {
		return nil
	}
	if err != nil {
		return err
	}
	if !isOurs(found) || (known && !bytes.Equal(tpm2.Marshal(found), r.Public)) {
		return nil
	}
	return c.evict(found)
}

// record is the CBOR of the block VINDU TPM KEY.
type record struct {
	Version uint   `cbor:"1,keyasint"`
	Handle  uint32 `cbor:"2,keyasint"`
	Public  []byte `cbor:"3,keyasint"` // TPMT_PUBLIC
	Auth    []byte `cbor:"4,keyasint"` // without it the TPM does not use the key; longer than authSize: it is sealed
}

func encode(r record) ([]byte, error) {
	body, err := cbor.Marshal(r)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: recordBlock, Bytes: body}), nil
}

func decode(b []byte) (record, error) {
	block, rest := pem.Decode(b)
	if block == nil || block.Type != recordBlock || len(rest) != 0 {
		return record{}, fmt.Errorf("not one %q block", recordBlock)
	}
	var r record
	if err := identity.DecodeRecord(block.Bytes, &r); err != nil {
		return record{}, err
	}
	if slot := slotOf(r); r.Version != recordVersion || slot < 0 || slot >= len(recordFiles) || len(r.Auth) < authSize {
		return record{}, errors.New("not of a known form")
	}
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](r.Public)
	if err != nil {
		return record{}, fmt.Errorf("public area: %w", err)
	}
	if !isOurs(public) || !bytes.Equal(tpm2.Marshal(public), r.Public) {
		return record{}, errors.New("public area: not that of a key of ours")
	}
	return r, nil
}

// load returns an error wrapping fs.ErrNotExist if there is no record.
func load(dir *state.Dir, slot int) (record, error) {
	name := recordFiles[slot]
	b, err := dir.Read(name, maxRecord)
	if err != nil {
		return record{}, err
	}
	r, err := decode(b)
	if err == nil && slotOf(r) != slot {
		err = errors.New("of the key in the other place")
	}
	if err != nil {
		return record{}, protocol.WithCode(protocol.IdentityDamaged, fmt.Errorf("%s/%s: %w: %w", dir.Path(), name, err, identity.ErrDamaged))
	}
	return r, nil
}
