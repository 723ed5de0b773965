// Package laptop is what a technician's laptop keeps between one home and the next, in one folder of its user, mode 0700:
//
//	key.pem                              the laptop's key, ECDSA P-256, PKCS #8; made at first use, mode 0600
//	mandate.txt                          the clinic's authorisation for that key (protocol.MandateText)
//	terminals/<name>/hand-over-<at>.cbor the record of a hand-over, signed by both (protocol.HandOverEvent)
//	terminals/<name>/sheet-<at>.html     the page that stays in the home
//	terminals/<name>/voucher             the id of the voucher that it was last set up with: the secret is not kept
//
// Files are replaced whole or not at all. No secret of a terminal, a network or a clinic is kept: vouchers and Wi-Fi passwords are used
// and forgotten.
package laptop

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"vindu/protocol"
)

const (
	keyFile     = "key.pem"
	mandateFile = "mandate.txt"
	voucherFile = "voucher"
	keyType     = "PRIVATE KEY"
)

// ErrMandate is wrapped by every error about a mandate that is missing, or not, or no longer, good for this laptop. Its
// code is protocol.AuthTechnician.
var ErrMandate = errors.New("no authorisation")

// Kinds of ErrMandate. What is none of them could not be read.
var (
	ErrNone   = errors.New("none has been stored on this laptop") // none yet
	ErrOthers = errors.New("it is for another laptop's key")
)

// EndedError is the ErrMandate of an authorisation that is over.
type EndedError struct{ At time.Time }

func (e *EndedError) Error() string { return "it ended on " + e.At.Local().Format("2006-01-02 15:04") }

// Laptop is an open folder.
type Laptop struct {
	dir string
	key *ecdsa.PrivateKey
}

// Folder returns where the folder is for the user who runs this, such as ~/.config/vindu.
func Folder() (string, error) {
	config, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find the folder for this laptop's key: %w; name one", err)
	}
	return filepath.Join(config, "vindu"), nil
}

// Open opens the folder, which it makes if need be, as it does the key.
func Open(dir string) (*Laptop, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the laptop's folder: %w", err)
	}
	l := &Laptop{dir: dir}
	key, err := l.readKey()
	if errors.Is(err, fs.ErrNotExist) {
		key, err = l.makeKey()
	}
	if err != nil {
		return nil, fmt.Errorf("open the laptop's key: %w", err)
	}
	l.key = key
	return l, nil
}

func (l *Laptop) readKey() (*ecdsa.PrivateKey, error) {
	name := filepath.Join(l.dir, keyFile)
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others (mode %o): chmod 600 it if it always was yours, delete it if not", name, info.Mode().Perm())
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != keyType {
		return nil, fmt.Errorf("%s holds no key: delete it, and get an authorisation for the new one", name)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("%s is not an ECDSA P-256 key", name)
	}
	return key, nil
}

func (l *Laptop) makeKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, write(filepath.Join(l.dir, keyFile), pem.EncodeToMemory(&pem.Block{Type: keyType, Bytes: der}))
}

// Key signs for this laptop.
func (l *Laptop) Key() crypto.Signer { return l.key }

// Text returns the laptop's public key as the clinic's page takes it.
func (l *Laptop) Text() string {
	text, err := protocol.LaptopText(l.key.Public())
	if err != nil {
		panic(err) // the key is P-256, see Open
	}
	return text
}

// KeepMandate stores an authorisation in place of the one before. One for another laptop, or one that is over, is refused.
func (l *Laptop) KeepMandate(text string, now time.Time) (*protocol.Mandate, error) {
	signed, m, err := l.check(text, now)
	if err != nil {
		return nil, err
	}
	if err := write(filepath.Join(l.dir, mandateFile), []byte(protocol.MandateText(signed)+"\n")); err != nil {
		return nil, fmt.Errorf("keep the authorisation: %w", err)
	}
	return m, nil
}

// Mandate returns the authorisation that is kept, signed and read. The clinic's signature on it is for the terminal to verify.
func (l *Laptop) Mandate(now time.Time) (signed []byte, m *protocol.Mandate, err error) {
	text, err := os.ReadFile(filepath.Join(l.dir, mandateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, refuse("%w: %w", ErrMandate, ErrNone)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read the authorisation: %w", err)
	}
	return l.check(string(text), now)
}

func (l *Laptop) check(text string, now time.Time) (signed []byte, m *protocol.Mandate, err error) {
	signed, m, err = protocol.ParseMandate(text)
	if err != nil {
		return nil, nil, refuse("%w: %w", ErrMandate, err)
	}
	der, err := x509.MarshalPKIXPublicKey(l.key.Public())
	if err != nil {
		return nil, nil, err
	}
	if string(m.Key) != string(der) {
		return nil, nil, refuse("%w: %w", ErrMandate, ErrOthers)
	}
	if at := protocol.At(now); at >= m.To {
		return nil, nil, refuse("%w: %w", ErrMandate, &EndedError{m.To.Time()})
	}
	return signed, m, nil
}

func refuse(format string, args ...any) error {
	return protocol.WithCode(protocol.AuthTechnician, fmt.Errorf(format, args...))
}

// Kept names the files of a hand-over.
type Kept struct {
	Record string `json:"record"`
	Sheet  string `json:"sheet"`
}

// Keep stores what a hand-over left, encoded, and its sheet.
func (l *Laptop) Keep(record *protocol.HandOver, event, sheet []byte) (Kept, error) {
	dir := filepath.Join(l.dir, "terminals", record.Terminal.Name())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Kept{}, fmt.Errorf("keep the hand-over: %w", err)
	}
	at := record.At.Time().UTC().Format("20060102T150405Z")
	k := Kept{filepath.Join(dir, "hand-over-"+at+".cbor"), filepath.Join(dir, "sheet-"+at+".html")}
	if err := errors.Join(write(k.Record, event), write(k.Sheet, sheet)); err != nil {
		return Kept{}, fmt.Errorf("keep the hand-over: %w", err)
	}
	return k, nil
}

// Spend remembers by which voucher a terminal is being set up, so that an interrupted set-up is told from a new one.
func (l *Laptop) Spend(terminal protocol.KeyHash, voucher protocol.Nonce) error {
	dir := filepath.Join(l.dir, "terminals", terminal.Name())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("remember the voucher: %w", err)
	}
	if err := write(filepath.Join(dir, voucherFile), []byte(hex.EncodeToString(voucher[:])+"\n")); err != nil {
		return fmt.Errorf("remember the voucher: %w", err)
	}
	return nil
}

// Spent tells whether this laptop has set the terminal up, or began to, by that voucher and no other since.
func (l *Laptop) Spent(terminal protocol.KeyHash, voucher protocol.Nonce) bool {
	b, err := os.ReadFile(filepath.Join(l.dir, "terminals", terminal.Name(), voucherFile))
	return err == nil && strings.TrimSpace(string(b)) == hex.EncodeToString(voucher[:])
}

// write replaces a file whole or not at all, readable by its owner alone.
func write(name string, content []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
