package tpm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"sync"

	"github.com/google/go-tpm/tpm2"

	"vindu/device/identity"
	"vindu/protocol"
)

// Errors of a TPM; each comes with the code of its condition.
var (
	ErrGone    = errors.New("the TPM does not answer")
	ErrCleared = errors.New("the TPM does not have the key any more")
	ErrLocked  = errors.New("the TPM is locked after too many wrong attempts")
)

const authSize = 26 // of rand.Text: at least 128 bits

// inLockout is of TPMA_PERMANENT (Part 2 §8.6).
const inLockout = 1 << 9

// gone says that a TPM could not be spoken with.
func gone(err error) error {
	return protocol.WithCode(protocol.IdentityTPMGone, fmt.Errorf("%w: %w", ErrGone, err))
}

func cleared(err error) error {
	return protocol.WithCode(protocol.IdentityTPMCleared, fmt.Errorf("%w: %w", ErrCleared, err))
}

// explain gives what a TPM answered its condition.
func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, tpm2.TPMRCLockout):
		return protocol.WithCode(protocol.IdentityTPMLocked, fmt.Errorf("%w: %w", ErrLocked, err))
	case errors.Is(err, tpm2.TPMRCFailure), errors.Is(err, tpm2.TPMRCInitialize):
		return gone(err)
	case errors.Is(err, tpm2.TPMRCHandle):
		return cleared(err)
	}
	return err
}

// template is the public area of the key.
var template = tpm2.TPMTPublic{
	Type:    tpm2.TPMAlgECC,
	NameAlg: tpm2.TPMAlgSHA256,
	ObjectAttributes: tpm2.TPMAObject{
		FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, SignEncrypt: true,
	},
	Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
		Scheme:  tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})},
		CurveID: tpm2.TPMECCNistP256,
	}),
	Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{}),
}

// isOurs tells whether a public area is that of a key as we make it. Its attributes are what makes it stay in its TPM.
func isOurs(public *tpm2.TPMTPublic) bool {
	_, err := publicKey(public)
	return err == nil
}

func publicKey(public *tpm2.TPMTPublic) (*ecdsa.PublicKey, error) {
	if public.Type != tpm2.TPMAlgECC {
		return nil, errors.New("not an elliptic curve's")
	}
	point, err := public.Unique.ECC()
	if err != nil {
		return nil, err
	}
	same := template
	same.Unique = public.Unique
	if !bytes.Equal(tpm2.Marshal(same), tpm2.Marshal(public)) {
		return nil, errors.New("not made as ours are")
	}
	const size = 32
	x, y := point.X.Buffer, point.Y.Buffer
	if len(x) > size || len(y) > size {
		return nil, errors.New("not a point")
	}
	uncompressed := make([]byte, 1+2*size)
	uncompressed[0] = 4
	copy(uncompressed[1+size-len(x):], x)
	copy(uncompressed[1+2*size-len(y):], y)
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), uncompressed)
}

// readPublic returns the public area of what is at our handle. The error wraps ErrCleared if there is nothing.
func (c *chip) readPublic() (*tpm2.TPMTPublic, error) {
	read, err := tpm2.ReadPublic{ObjectHandle: c.at}.Execute(c)
	if err != nil {
		return nil, fmt.Errorf("look for the key: %w", explain(err))
	}
	public, err := read.OutPublic.Contents()
	if err != nil {
		return nil, fmt.Errorf("look for the key: %w", err)
	}
	return public, nil
}

// create makes a key and makes it persistent.
func (c *chip) create() (record, error) {
	c.slow = true
	defer func() { c.slow = false }()
	fail := func(doing string, err error) (record, error) {
		if errors.Is(err, tpm2.TPMRCBadAuth) || errors.Is(err, tpm2.TPMRCAuthFail) {
			return record{}, fmt.Errorf("%s: the TPM has another owner: clear it in the firmware's settings: %w", doing, err)
		}
		return record{}, fmt.Errorf("%s: %w", doing, explain(err))
	}
	parent, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(c)
	if err != nil {
		return fail("make the storage key", err)
	}
	defer c.flush(parent.ObjectHandle)
	storage := tpm2.AuthHandle{Handle: parent.ObjectHandle, Name: parent.Name, Auth: tpm2.PasswordAuth(nil)}

	// Text, because a TPM does not count zeros at the end (Part 1 §19.6.5) and go-tpm v0.9.8 cuts at any zero.
	auth := []byte(rand.Text())
	// The parameter in which auth goes to the TPM is encrypted for it (Part 1 §21).
	public, err := parent.OutPublic.Contents()
	if err != nil {
		return fail("make the storage key", err)
	}
	sealed := tpm2.HMAC(tpm2.TPMAlgSHA256, 16, tpm2.AESEncryption(128, tpm2.EncryptIn), tpm2.Salted(parent.ObjectHandle, *public))
	made, err := tpm2.Create{
		ParentHandle: storage,
		InSensitive:  tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{UserAuth: tpm2.TPM2BAuth{Buffer: auth}}},
		InPublic:     tpm2.New2B(template),
	}.Execute(c, sealed)
	if err != nil {
		return fail("make the key", err)
	}
	area, err := made.OutPublic.Contents()
	if err != nil {
		return fail("make the key", err)
	}
	if _, err := publicKey(area); err != nil {
		return fail("make the key", fmt.Errorf("the TPM made another one: %w", err))
	}
	loaded, err := tpm2.Load{ParentHandle: storage, InPrivate: made.OutPrivate, InPublic: made.OutPublic}.Execute(c)
	if err != nil {
		return fail("load the key", err)
	}
	defer c.flush(loaded.ObjectHandle)
	if err := c.persist(loaded.ObjectHandle, loaded.Name); err != nil {
		return fail("keep the key", err)
	}
	return record{recordVersion, uint32(c.at), tpm2.Marshal(area), auth}, nil
}

func (c *chip) flush(h tpm2.TPMHandle) { _, _ = tpm2.FlushContext{FlushHandle: h}.Execute(c) }

// persist makes the object persistent at our handle, or takes it away from there if it is what is there (Part 3 §28.5).
func (c *chip) persist(object tpm2.TPMHandle, name tpm2.TPM2BName) error {
	_, err := tpm2.EvictControl{
		Auth:             tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		ObjectHandle:     tpm2.NamedHandle{Handle: object, Name: name},
		PersistentHandle: c.at,
	}.Execute(c)
	return err
}

func (c *chip) evict(public *tpm2.TPMTPublic) error {
	name, err := tpm2.ObjectName(public)
	if err == nil {
		err = explain(c.persist(c.at, *name))
	}
	if err != nil {
		return fmt.Errorf("take the key out of the TPM: %w", err)
	}
	return nil
}

// key is the key in the TPM. It is safe for concurrent use; one signature is made at a time.
type key struct {
	public *ecdsa.PublicKey
	area   []byte
	name   tpm2.TPM2BName
	auth   []byte

	mu   sync.Mutex
	chip *chip
}

func newKey(path string, r record) (*key, error) {
	area, err := tpm2.Unmarshal[tpm2.TPMTPublic](r.Public)
	if err != nil {
		return nil, err
	}
	public, err := publicKey(area)
	if err != nil {
		return nil, err
	}
	name, err := tpm2.ObjectName(area)
	if err != nil {
		return nil, err
	}
	return &key{public: public, area: r.Public, name: *name, auth: r.Auth, chip: newChip(path).in(slotOf(r))}, nil
}

// Signer implements identity.Keystore.
func (k *key) Signer() crypto.Signer { return k }

// Grade implements identity.Keystore.
func (k *key) Grade() string { return identity.GradeHardware }

// Public implements crypto.Signer.
func (k *key) Public() crypto.PublicKey { return k.public }

// present asks whether the TPM answers and has this key.
func (k *key) present() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.find()
}

// find is present with k.mu held.
func (k *key) find() error {
	public, err := k.chip.readPublic()
	if err != nil {
		return err
	}
	if !bytes.Equal(tpm2.Marshal(public), k.area) {
		return cleared(errors.New("another key is in its place"))
	}
	return nil
}

// Condition implements identity.Keystore.
func (k *key) Condition() protocol.Code {
	if err := k.present(); err != nil {
		return codeOf(err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	got, err := tpm2.GetCapability{Capability: tpm2.TPMCapTPMProperties, Property: uint32(tpm2.TPMPTPermanent), PropertyCount: 1}.Execute(k.chip)
	if err != nil {
		return codeOf(explain(err))
	}
	properties, err := got.CapabilityData.Data.TPMProperties()
	if err != nil {
		return protocol.IdentityTPMGone
	}
	for _, p := range properties.TPMProperty {
		if p.Property == tpm2.TPMPTPermanent && p.Value&inLockout != 0 {
			return protocol.IdentityTPMLocked
		}
	}
	return ""
}

// codeOf takes a TPM that answers nonsense for one that does not answer.
func codeOf(err error) protocol.Code {
	if code := protocol.CodeOf(err); code != protocol.Unknown {
		return code
	}
	return protocol.IdentityTPMGone
}

// Sign implements crypto.Signer for SHA-256 digests, which is what no options mean (go-cose gives none); the TPM has randomness of its own. The signature is ASN.1 (RFC 3279 §2.2.3).
func (k *key) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if (opts != nil && opts.HashFunc() != crypto.SHA256) || len(digest) != sha256.Size {
		return nil, errors.New("sign with the TPM: the key signs SHA-256 digests only")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	signature, err := k.sign(digest)
	if errors.Is(err, ErrGone) && !errors.Is(err, os.ErrDeadlineExceeded) {
		signature, err = k.sign(digest) // perhaps a driver that was loaded anew
	}
	if errors.Is(err, tpm2.TPMRCBadAuth) || errors.Is(err, tpm2.TPMRCAuthFail) {
		// Either another key, or somebody in between.
		err = errors.Join(err, k.find())
	}
	if err != nil {
		return nil, fmt.Errorf("sign with the TPM %s: %w", k.chip.path, err)
	}
	return signature, nil
}

// sign has k.mu held.
func (k *key) sign(digest []byte) ([]byte, error) {
	scheme := tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSchemeHash{HashAlg: tpm2.TPMAlgSHA256})}
	made, err := tpm2.Sign{
		KeyHandle:  tpm2.AuthHandle{Handle: k.chip.at, Name: k.name, Auth: tpm2.HMAC(tpm2.TPMAlgSHA256, 16, tpm2.Auth(k.auth))},
		Digest:     tpm2.TPM2BDigest{Buffer: digest},
		InScheme:   scheme,
		Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull},
	}.Execute(k.chip)
	if err != nil {
		return nil, explain(err)
	}
	s, err := made.Signature.Signature.ECDSA()
	if err != nil {
		return nil, err
	}
	signature, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(s.SignatureR.Buffer), new(big.Int).SetBytes(s.SignatureS.Buffer)})
	if err != nil {
		return nil, err
	}
	if !ecdsa.VerifyASN1(k.public, digest, signature) {
		return nil, errors.New("the TPM returned a signature that does not verify")
	}
	return signature, nil
}
