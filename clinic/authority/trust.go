package authority

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/veraison/go-cose"

	"vindu/protocol"
)

// The trust tells terminals whom to believe (protocol.Trust). Every one that there was is kept, so that a terminal that was away follows from the one that it has:
//
//	authorities {A} ──AddAuthority──► {A, B}, signed by A ──DropAuthority──► {B}, signed by B
//
// Serial numbers are milliseconds since the Unix epoch, if that is more than the one before: they rise through a restore from a backup, too.
const (
	fileTrust        = "trust-" // then the serial number and extensionTrust
	extensionTrust   = ".cose"
	fileTrustWaiting = "trust.waiting"
)

var (
	// ErrTrust is wrapped when a trust is not signed by a key of the one before, is not what waits, or cannot be made as asked.
	ErrTrust = errors.New("not a trust that follows")
	// ErrNoTrustWaits is wrapped by AcceptTrust when none waits to be signed.
	ErrNoTrustWaits = errors.New("no trust waits to be signed")
)

// keys is what a running server takes over from commands beside it. It is never changed, only replaced.
type keys struct {
	private     map[string]privateKey // by DER SubjectPublicKeyInfo: authorisation keys that are here
	trusts      []signedTrust         // in order
	authorities [][]byte
	ever        []*ecdsa.PublicKey // authorisation keys that there were
	waiting     *protocol.Trust    // to be signed elsewhere; nil if none does
}

type privateKey struct {
	key  *ecdsa.PrivateKey
	file string
}

// here returns a key if it is here still: from the instant at which its file was taken away it signs nothing any more.
func (k *keys) here(spki []byte) *ecdsa.PrivateKey {
	p := k.private[string(spki)]
	if _, err := os.Stat(p.file); p.key == nil || err != nil {
		return nil
	}
	return p.key
}

type signedTrust struct {
	signed []byte
	trust  *protocol.Trust
	by     []byte // DER SubjectPublicKeyInfo of the key that has signed it
}

// loadService reads the service key, and makes one for a folder that never had one.
func (a *Authority) loadService() (err error) {
	if _, err := os.Stat(filepath.Join(a.dir, fileServiceKey)); errors.Is(err, fs.ErrNotExist) {
		trusts, globErr := filepath.Glob(filepath.Join(a.dir, fileTrust+"*"+extensionTrust))
		if globErr != nil || len(trusts) > 0 { // terminals believe the one that was there: it is never replaced by itself
			return errors.Join(fmt.Errorf("load authority %s: %s is gone; restore it from a backup", a.dir, fileServiceKey), globErr)
		}
		_, encoded, err := generateKey()
		if err == nil {
			err = a.publish(fileServiceKey, encoded)
		}
		if err != nil && !errors.Is(err, fs.ErrExist) { // a command beside was first
			return fmt.Errorf("make service key: %w", err)
		}
	}
	if a.service, err = readKey(a.dir, fileServiceKey); err != nil {
		return err
	}
	if a.serviceSPKI, err = x509.MarshalPKIXPublicKey(&a.service.PublicKey); err != nil {
		return fmt.Errorf("load authority %s: %w", a.dir, err)
	}
	return nil
}

// publish writes a new file, whole or not at all. The error wraps fs.ErrExist if there is one.
func (a *Authority) publish(name string, content []byte) error {
	f, err := os.CreateTemp(a.dir, "."+name+"-") // 0600
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Link(f.Name(), filepath.Join(a.dir, name))
	}
	return errors.Join(err, os.Remove(f.Name()), syncFolder(a.dir))
}

// Refresh takes over what commands beside the server have changed: keys that came or went, and trusts. It tells whether the trust is another.
func (a *Authority) Refresh() (changed bool, err error) {
	fresh, err := a.read()
	if err != nil {
		return false, err
	}
	old := a.keys.Swap(fresh)
	return old != nil && !bytes.Equal(old.newest().signed, fresh.newest().signed), nil
}

func (k *keys) newest() signedTrust {
	if len(k.trusts) == 0 {
		return signedTrust{}
	}
	return k.trusts[len(k.trusts)-1]
}

func (a *Authority) read() (*keys, error) {
	k := &keys{private: map[string]privateKey{}}
	files, err := filepath.Glob(filepath.Join(a.dir, "authorisation*.key"))
	if err != nil {
		return nil, fmt.Errorf("load authority %s: %w", a.dir, err)
	}
	for _, f := range files {
		key, err := readKey(a.dir, filepath.Base(f))
		if errors.Is(err, fs.ErrNotExist) { // it is just being taken elsewhere
			continue
		}
		if err != nil {
			return nil, err
		}
		spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
		if err != nil {
			return nil, fmt.Errorf("load authority %s: %w", a.dir, err)
		}
		k.private[string(spki)] = privateKey{key, f}
	}
	if err := a.readTrusts(k); err != nil {
		return nil, err
	}
	if len(k.trusts) == 0 {
		key, err := readKey(a.dir, fileSigningKey)
		if err != nil {
			return nil, fmt.Errorf("%w; it is needed here until the server was started once, and has said by it whom terminals are to believe", err)
		}
		spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
		if err != nil {
			return nil, fmt.Errorf("load authority %s: %w", a.dir, err)
		}
		k.authorities, k.ever = [][]byte{spki}, []*ecdsa.PublicKey{&key.PublicKey}
		return k, nil
	}
	k.authorities = k.newest().trust.Authorities
	if err := a.readWaiting(k); err != nil {
		return nil, err
	}
	return k, nil
}

func (a *Authority) readTrusts(k *keys) error {
	files, err := filepath.Glob(filepath.Join(a.dir, fileTrust+"*"+extensionTrust))
	if err != nil {
		return fmt.Errorf("load authority %s: %w", a.dir, err)
	}
	damaged := func(name string, err error) error {
		return fmt.Errorf("load authority %s: %s: %w; restore the folder from a backup", a.dir, name, err)
	}
	serials := make(map[string]uint64, len(files))
	for i, f := range files {
		files[i] = filepath.Base(f)
		text := strings.TrimSuffix(strings.TrimPrefix(files[i], fileTrust), extensionTrust)
		if serials[files[i]], err = strconv.ParseUint(text, 10, 64); err != nil {
			return damaged(files[i], err)
		}
	}
	slices.SortFunc(files, func(a, b string) int {
		if serials[a] < serials[b] {
			return -1
		}
		return 1
	})
	for _, name := range files {
		signed, err := readFile(a.dir, name)
		if err != nil {
			return err
		}
		var t signedTrust
		if len(k.trusts) > 0 {
			t, err = verifyTrust(signed, k.newest().trust.Authorities)
		} else {
			t, err = firstTrust(signed)
		}
		if err == nil && t.trust.Serial != serials[name] {
			err = fmt.Errorf("%w: it has another serial number than its file", ErrTrust)
		}
		if err != nil {
			return damaged(name, err)
		}
		k.trusts = append(k.trusts, t)
		for _, spki := range t.trust.Authorities {
			key, err := protocol.ParseKey(spki)
			if err != nil {
				return damaged(name, err)
			}
			if !slices.ContainsFunc(k.ever, func(o *ecdsa.PublicKey) bool { return o.Equal(key) }) {
				k.ever = append(k.ever, key)
			}
		}
	}
	return nil
}

// verifyTrust checks that one of keys has signed a trust.
func verifyTrust(signed []byte, keys [][]byte) (signedTrust, error) {
	for _, spki := range keys {
		key, err := protocol.ParseKey(spki)
		if err != nil {
			return signedTrust{}, err
		}
		t := new(protocol.Trust)
		switch err := protocol.Verify(signed, key, t); {
		case err == nil:
			return signedTrust{signed, t, spki}, nil
		case !errors.Is(err, protocol.ErrSignature):
			return signedTrust{}, err
		}
	}
	return signedTrust{}, fmt.Errorf("%w: no key of the one before has signed it", ErrTrust)
}

// firstTrust reads what the first trust says, which names the key that has signed it.
func firstTrust(signed []byte) (signedTrust, error) {
	var m cose.Sign1Message
	if err := m.UnmarshalCBOR(signed); err != nil {
		return signedTrust{}, err
	}
	t := new(protocol.Trust)
	if err := protocol.Decode(m.Payload, t); err != nil {
		return signedTrust{}, err
	}
	return verifyTrust(signed, t.Authorities)
}

func (a *Authority) readWaiting(k *keys) error {
	b, err := os.ReadFile(filepath.Join(a.dir, fileTrustWaiting))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	t := new(protocol.Trust)
	if err == nil {
		err = protocol.Decode(b, t)
	}
	if err != nil {
		return fmt.Errorf("load authority %s: %s: %w; remove it: the server, or the command that wrote it, writes it again", a.dir, fileTrustWaiting, err)
	}
	if t.Serial > k.newest().trust.Serial { // else it was signed
		k.waiting = t
	}
	return nil
}

// Trust returns the trust that holds now; nil before there is any.
func (a *Authority) Trust() (signed []byte, trust *protocol.Trust) {
	t := a.keys.Load().newest()
	return t.signed, t.trust
}

// TrustAfter returns the newest trust that a terminal which has the one with that serial number can verify; that one itself, if it is the newest. Of a terminal whose trust is not known
// here it is assumed that it can verify the newest.
func (a *Authority) TrustAfter(serial uint64) []byte {
	k := a.keys.Load()
	has := slices.IndexFunc(k.trusts, func(t signedTrust) bool { return t.trust.Serial == serial })
	if has < 0 {
		return k.newest().signed
	}
	for i := len(k.trusts) - 1; i > has; i-- {
		if slices.ContainsFunc(k.trusts[has].trust.Authorities, func(spki []byte) bool { return bytes.Equal(spki, k.trusts[i].by) }) {
			return k.trusts[i].signed
		}
	}
	return k.trusts[has].signed
}

// EnsureTrust makes the next trust if this server's service key, relying party or relays are others than the last one says, and the first. It tells whether it did. If the key is
// elsewhere the next one waits, the last one holds on, and the error wraps ErrKeyElsewhere.
func (a *Authority) EnsureTrust(rp protocol.RelyingParty, relays ...string) (changed bool, err error) {
	return a.next(func(t *protocol.Trust) error {
		t.Service, t.RelyingParty, t.Relays = [][]byte{a.serviceSPKI}, rp, relays
		return nil
	})
}

// next makes the trust that follows the newest, or the one that waits, by a change of it; none, if nothing changes.
func (a *Authority) next(change func(*protocol.Trust) error) (changed bool, err error) {
	unlock, err := lock(a.dir)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if _, err := a.Refresh(); err != nil {
		return false, err
	}
	k := a.keys.Load()
	now := protocol.At(a.now())
	last := uint64(0)
	t := &protocol.Trust{Version: protocol.Version, Authorities: k.authorities}
	if newest := k.newest().trust; newest != nil {
		*t, last = *newest, newest.Serial
	}
	if k.waiting != nil {
		*t = *k.waiting
	}
	t.Authorities = slices.Clone(t.Authorities)
	if err := change(t); err != nil {
		return false, err
	}
	if newest := k.newest().trust; newest != nil && sameTrust(t, newest) {
		if k.waiting != nil { // what was wanted is not wanted any more
			return false, a.dropWaiting()
		}
		return false, nil
	}
	key, _, err := a.trustSigner(t)
	elsewhere := errors.Is(err, ErrKeyElsewhere)
	if elsewhere && k.waiting != nil && sameTrust(t, k.waiting) {
		return false, fmt.Errorf("change whom terminals believe: %w", err)
	}
	t.Serial, t.Issued = max(last+1, uint64(now)), now
	if elsewhere {
		return false, errors.Join(fmt.Errorf("change whom terminals believe: %w", err), a.wait(t))
	}
	if err != nil {
		return false, err
	}
	signed, err := protocol.Sign(t, key)
	if err != nil {
		return false, fmt.Errorf("sign trust: %w", err)
	}
	return true, a.put(t.Serial, signed)
}

// trustSigner returns the key that is to sign a trust: the first that it names itself and that the one before names too, so that terminals which come new verify it by the
// same key.
func (a *Authority) trustSigner(t *protocol.Trust) (*ecdsa.PrivateKey, []byte, error) {
	k := a.keys.Load()
	for _, spki := range t.Authorities {
		if !slices.ContainsFunc(k.authorities, func(o []byte) bool { return bytes.Equal(o, spki) }) {
			continue
		}
		if key := k.here(spki); key != nil {
			return key, spki, nil
		}
		return nil, spki, ErrKeyElsewhere
	}
	return nil, nil, fmt.Errorf("%w: it has no key of the one before", ErrTrust)
}

func sameTrust(a, b *protocol.Trust) bool {
	return slices.EqualFunc(a.Authorities, b.Authorities, bytes.Equal) && slices.EqualFunc(a.Service, b.Service, bytes.Equal) &&
		a.RelyingParty.ID == b.RelyingParty.ID && slices.Equal(a.RelyingParty.Origins, b.RelyingParty.Origins) && slices.Equal(a.Relays, b.Relays)
}

func (a *Authority) put(serial uint64, signed []byte) error {
	if err := a.publish(fileTrust+strconv.FormatUint(serial, 10)+extensionTrust, signed); err != nil {
		return fmt.Errorf("write trust: %w", err)
	}
	return a.dropWaiting()
}

func (a *Authority) dropWaiting() error {
	if err := os.Remove(filepath.Join(a.dir, fileTrustWaiting)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the trust that waited: %w", err)
	}
	_, err := a.Refresh()
	return err
}

func (a *Authority) wait(t *protocol.Trust) error {
	b, err := protocol.Encode(t)
	if err != nil {
		return fmt.Errorf("write the trust that waits: %w", err)
	}
	if err := os.Remove(filepath.Join(a.dir, fileTrustWaiting)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write the trust that waits: %w", err)
	}
	if err := a.publish(fileTrustWaiting, b); err != nil {
		return fmt.Errorf("write the trust that waits: %w", err)
	}
	_, err = a.Refresh()
	return err
}

// WaitingTrust returns the trust that waits to be signed by the key with this DER SubjectPublicKeyInfo; nil if none does.
func (a *Authority) WaitingTrust() (trust *protocol.Trust, by []byte) {
	t := a.keys.Load().waiting
	if t == nil {
		return nil, nil
	}
	_, by, _ = a.trustSigner(t)
	return t, by
}

// AcceptTrust takes the trust that waits, signed. The error wraps ErrTrust if it is another, or signed by another key, and ErrNoTrustWaits.
func (a *Authority) AcceptTrust(signed []byte) (err error) {
	unlock, err := lock(a.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if _, err := a.Refresh(); err != nil {
		return err
	}
	t, err := a.verifyWaiting(signed)
	if err != nil {
		return err
	}
	return a.put(t.trust.Serial, signed)
}

// CheckTrust asks what AcceptTrust would say.
func (a *Authority) CheckTrust(signed []byte) error {
	_, err := a.verifyWaiting(signed)
	return err
}

func (a *Authority) verifyWaiting(signed []byte) (signedTrust, error) {
	wanted, by := a.WaitingTrust()
	if wanted == nil {
		return signedTrust{}, fmt.Errorf("accept trust: %w", ErrNoTrustWaits)
	}
	t, err := verifyTrust(signed, [][]byte{by})
	if err != nil {
		return signedTrust{}, fmt.Errorf("accept trust: %w: %w", ErrTrust, err)
	}
	if !sameTrust(t.trust, wanted) || t.trust.Serial != wanted.Serial || t.trust.Issued != wanted.Issued {
		return signedTrust{}, fmt.Errorf("accept trust: %w: another one waits", ErrTrust)
	}
	return t, nil
}

// NewAuthorisationKey makes a key in a new file, for a roll-over whose key is not to be on the server, and returns its public half in PEM.
func NewAuthorisationKey(file string) (public []byte, err error) {
	key, encoded, err := generateKey()
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	if err := writeFile(file, encoded); err != nil {
		return nil, fmt.Errorf("write key: %w", err)
	}
	if err := syncFolder(filepath.Dir(file)); err != nil {
		return nil, fmt.Errorf("write key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: blockPublic, Bytes: spki}), nil
}

const blockPublic = "PUBLIC KEY"

// AddAuthority is the first step of a roll-over: terminals are told to believe a second authorisation key beside the one that they do. public is in PEM, as NewAuthorisationKey has returned it; if it is
// empty a key is made in the folder. Until the second step (DropAuthority) the first key signs on.
func (a *Authority) AddAuthority(public []byte) (key protocol.KeyHash, err error) {
	if len(a.Authorities()) > 1 {
		return protocol.KeyHash{}, fmt.Errorf("add authorisation key: %w: a roll-over has begun; finish it first", ErrTrust)
	}
	if t, _ := a.WaitingTrust(); t != nil {
		return protocol.KeyHash{}, fmt.Errorf("add authorisation key: another change waits to be signed: %w", ErrKeyElsewhere)
	}
	if _, trust := a.Trust(); trust == nil {
		return protocol.KeyHash{}, fmt.Errorf("add authorisation key: %w: there is no trust yet; start the server once", ErrTrust)
	}
	var spki []byte
	if len(public) > 0 {
		block, rest := pem.Decode(public)
		if block == nil || block.Type != blockPublic || len(bytes.TrimSpace(rest)) > 0 {
			return protocol.KeyHash{}, fmt.Errorf("add authorisation key: %w: not a public key in PEM", ErrTrust)
		}
		spki = block.Bytes
		if _, err := protocol.ParseKey(spki); err != nil {
			return protocol.KeyHash{}, fmt.Errorf("add authorisation key: %w: %w", ErrTrust, err)
		}
	} else {
		made, encoded, err := generateKey()
		if err != nil {
			return protocol.KeyHash{}, err
		}
		if spki, err = x509.MarshalPKIXPublicKey(&made.PublicKey); err != nil {
			return protocol.KeyHash{}, fmt.Errorf("encode key: %w", err)
		}
		// The key first: a trust that names it without it would be worthless.
		if err := a.publish("authorisation-"+short(&made.PublicKey)+".key", encoded); err != nil {
			return protocol.KeyHash{}, fmt.Errorf("write the new authorisation key: %w", err)
		}
	}
	_, err = a.next(func(t *protocol.Trust) error {
		if slices.ContainsFunc(t.Authorities, func(o []byte) bool { return bytes.Equal(o, spki) }) {
			return fmt.Errorf("add authorisation key: %w: it is that key already", ErrTrust)
		}
		t.Authorities = append(t.Authorities, spki)
		return nil
	})
	return protocol.HashSPKI(spki), err
}

// DropAuthority is the second step: the key from before the roll-over leaves. What it has signed is worth nothing from then on at any terminal that has heard of it; what is to hold has to
// be signed anew.
func (a *Authority) DropAuthority() (key protocol.KeyHash, err error) {
	if t, _ := a.WaitingTrust(); t != nil && len(t.Authorities) > 1 {
		return protocol.KeyHash{}, fmt.Errorf("drop authorisation key: the new key is not signed in yet: %w", ErrKeyElsewhere)
	}
	if len(a.Authorities()) < 2 {
		return protocol.KeyHash{}, fmt.Errorf("drop authorisation key: %w: there is only one; a roll-over begins by adding the next", ErrTrust)
	}
	old := a.Authorities()[0]
	_, err = a.next(func(t *protocol.Trust) error {
		t.Authorities = slices.DeleteFunc(t.Authorities, func(o []byte) bool { return bytes.Equal(o, old) })
		return nil
	})
	return protocol.HashSPKI(old), err
}
