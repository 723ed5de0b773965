package identity

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fxamacker/cbor/v2"
)

const (
	sealBlock   = "VINDU SEALED KEY"
	sealVersion = 1
	sealInfo    = "vindu/sealed-key.v1"
	maxTraits   = 8
)

// Trait is a value by which a device is told from others of its kind.
type Trait struct{ Name, Value string }

// Traits returns what this device can be told by. These are values of its hardware, which do not come along with a storage that
// is taken out. Only where there are none it is the id of the installed system, unless that changes with each start.
func Traits() []Trait { return traitsUnder("/") }

func traitsUnder(root string) []Trait {
	var found []Trait
	for _, place := range [...]Trait{
		{"device-tree serial", "sys/firmware/devicetree/base/serial-number"},
		{"soc serial", "sys/devices/soc0/serial_number"},
		{"product uuid", "sys/class/dmi/id/product_uuid"},
		{"board serial", "sys/class/dmi/id/board_serial"},
	} {
		if v := readTrait(filepath.Join(root, place.Value)); v != "" {
			found = append(found, Trait{place.Name, v})
		}
	}
	if len(found) > 0 {
		return found
	}
	id, fleeting := filepath.Join(root, "etc/machine-id"), filepath.Join(root, "run/machine-id")
	a, errA := os.Stat(id)
	b, errB := os.Stat(fleeting)
	if errA != nil || (errB == nil && os.SameFile(a, b)) {
		return nil
	}
	if v := readTrait(id); v != "" {
		return []Trait{{"machine id", v}}
	}
	return nil
}

// readTrait returns "" for what makers write where they have nothing to say.
func readTrait(path string) string {
	b, err := os.ReadFile(path)
	if err != nil || len(b) > 256 {
		return ""
	}
	v := strings.TrimSpace(strings.Trim(string(b), "\x00"))
	if len(v) < 4 || strings.Trim(v, v[:1]) == "" || strings.Trim(v, "0-") == "" || strings.Trim(strings.ToLower(v), "f-") == "" {
		return ""
	}
	if slices.Contains([]string{
		"none", "unknown", "default string", "not specified", "not applicable", "to be filled by o.e.m.", "uninitialized",
		"0123456789", "123456789", "03000200-0400-0500-0006-000700080009",
	}, strings.ToLower(v)) {
		return ""
	}
	return v
}

// sealed is the CBOR of the block VINDU SEALED KEY, and of what Seal returns.
type sealed struct {
	Version uint     `cbor:"1,keyasint"`
	Traits  []string `cbor:"2,keyasint"` // the names of those that it is sealed with
	Salt    []byte   `cbor:"3,keyasint"`
	Box     []byte   `cbor:"4,keyasint"` // nonce, AES-256-GCM ciphertext of the PKCS #8 key or what else is sealed, tag
}

// Seal encrypts what belongs to a key as the key itself is encrypted, under the device's traits. It returns nil if there are none.
func (k FileKeys) Seal(plain []byte) ([]byte, error) {
	traits := k.traits()
	if len(traits) == 0 {
		return nil, nil
	}
	return seal(plain, traits)
}

// Unseal returns what Seal was given. The error wraps ErrDamaged if it was on another device, or is damaged.
func (k FileKeys) Unseal(body []byte) ([]byte, error) {
	plain, err := unsealKey(body, k.traits())
	if err != nil {
		return nil, damaged(err)
	}
	return plain, nil
}

// sealKey returns der as a block, sealed.
func sealKey(der []byte, traits []Trait) ([]byte, error) {
	body, err := seal(der, traits)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: sealBlock, Bytes: body}), nil
}

// seal seals plain with every one of traits, of which there is at least one.
func seal(plain []byte, traits []Trait) ([]byte, error) {
	s := sealed{Version: sealVersion, Salt: make([]byte, sha256.Size)}
	for _, t := range traits {
		s.Traits = append(s.Traits, t.Name)
	}
	if len(s.Traits) == 0 || len(s.Traits) > maxTraits {
		return nil, fmt.Errorf("seal key: %d values of the device", len(s.Traits))
	}
	_, _ = rand.Read(s.Salt) // never fails
	box, err := sealBox(s.Salt, traits)
	if err != nil {
		return nil, err
	}
	s.Box = box.Seal(nil, nil, plain, nil)
	body, err := cbor.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("seal key: %w", err)
	}
	return body, nil
}

// unsealKey returns what seal was given.
func unsealKey(body []byte, traits []Trait) ([]byte, error) {
	var s sealed
	if err := recordDecoder.Unmarshal(body, &s); err != nil {
		return nil, fmt.Errorf("sealed key: %w", err)
	}
	if s.Version != sealVersion || len(s.Salt) != sha256.Size || len(s.Traits) == 0 || len(s.Traits) > maxTraits {
		return nil, errors.New("sealed key: not of a known form")
	}
	var with []Trait
	for _, name := range s.Traits {
		i := slices.IndexFunc(traits, func(t Trait) bool { return t.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("sealed key: it was sealed with the %q of a device, which this one does not tell: "+
				"put the storage back into its own terminal, and run the agent as the user that it ran as", name)
		}
		with = append(with, traits[i])
	}
	box, err := sealBox(s.Salt, with)
	if err != nil {
		return nil, err
	}
	der, err := box.Open(nil, nil, s.Box, nil)
	if err != nil {
		return nil, fmt.Errorf("sealed key: damaged, or sealed on another device (by its %s): put the storage back into its own terminal",
			strings.Join(s.Traits, ", "))
	}
	return der, nil
}

func sealBox(salt []byte, traits []Trait) (cipher.AEAD, error) {
	var secret bytes.Buffer
	for _, t := range traits {
		for _, v := range [...]string{t.Name, t.Value} {
			_ = binary.Write(&secret, binary.BigEndian, uint32(len(v)))
			secret.WriteString(v)
		}
	}
	key, err := hkdf.Key(sha256.New, secret.Bytes(), salt, sealInfo, 32)
	if err != nil {
		return nil, fmt.Errorf("seal key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("seal key: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}
