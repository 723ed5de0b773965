package authority

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// ErrRootKey is wrapped by RenewIssuing and RenewRoot when the root's key is not where it was looked for, or another.
var ErrRootKey = errors.New("not the root's key")

// RenewIssuing makes a new issuing CA in the folder of an authority. rootKey is the file of the root's key; if it is empty, the folder is searched. The
// former issuing CAs stay known, so that every terminal goes on and has its certificate renewed by the new one in its time. It
// counts from the next Load on. A power cut leaves the one or the other.
func RenewIssuing(dir, rootKey string) (_ *x509.Certificate, err error) {
	unlock, err := lock(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	return renewIssuing(dir, rootKey, time.Now())
}

// lock keeps a second renewal out of the same folder. It ends with the process at the latest.
func lock(dir string) (unlock func() error, err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("lock the authority's folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another renewal works in %s: wait for its end: %w", dir, err), f.Close())
	}
	return f.Close, nil
}

func renewIssuing(dir, rootKey string, now time.Time) (*x509.Certificate, error) {
	a, err := Load(dir)
	if err != nil {
		return nil, err
	}
	signer, err := a.rootSigner(dir, rootKey)
	if err != nil {
		return nil, err
	}
	key, encoded, err := generateKey()
	if err != nil {
		return nil, err
	}
	issuing, err := certify(&x509.Certificate{
		Subject: title(a.root, "vindu issuing CA", &key.PublicKey, now), NotBefore: now.Add(-backdate), NotAfter: earlier(now.Add(issuingLife), a.root.NotAfter),
		MaxPathLenZero: true,
	}, a.root, &key.PublicKey, signer)
	if err != nil {
		return nil, err
	}
	// The key first: Load finds the one that fits the certificate, and that is replaced in one step.
	if err := writeFile(filepath.Join(dir, "issuing-"+short(&key.PublicKey)+".key"), encoded); err != nil {
		return nil, fmt.Errorf("write the new issuing CA's key: %w", err)
	}
	former := a.former
	if len(former) >= maxFormer {
		former = former[:maxFormer-1]
	}
	return issuing, replace(dir, fileIssuing, append([]*x509.Certificate{issuing, a.issuing}, former...)...)
}

// RenewRoot makes a new root, which it writes with the certificates by which the two roots certify each other: NewWithOld leads terminals that pinned the old one
// to the new, OldWithNew those that follow to what the old one certified (RFC 4210 §4.4). The new root's key is written to newKey, or into the
// folder if that is empty. Terminals pin the new root when they fetch their settings; one that is away meanwhile does so
// years later, as long as the old root is not over. The issuing CA remains; RenewIssuing makes one below the new root.
func RenewRoot(dir, rootKey, newKeyFile string) (_ *x509.Certificate, err error) {
	unlock, err := lock(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	return renewRoot(dir, rootKey, newKeyFile, time.Now())
}

func renewRoot(dir, rootKey, newKeyFile string, now time.Time) (*x509.Certificate, error) {
	a, err := Load(dir)
	if err != nil {
		return nil, err
	}
	old := a.root
	signer, err := a.rootSigner(dir, rootKey)
	if err != nil {
		return nil, err
	}
	if old.MaxPathLen >= 0 && old.MaxPathLen < 2 {
		return nil, errors.New("make new root: this clinic's root was made by an early version and lets no other root follow; its terminals would have to be set up anew")
	}
	if a.issuing.CheckSignatureFrom(old) != nil {
		return nil, errors.New("make new root: the issuing CA is still below the root before this one; renew it first")
	}
	if next := old.NotBefore.Add(betweenRoots); a.change != nil && now.Before(next) {
		return nil, fmt.Errorf("make new root: only the last change is remembered, and a terminal that was away since the one before would be locked out; wait until %s", next.Format(time.DateOnly))
	}
	key, encoded, err := generateKey()
	if err != nil {
		return nil, err
	}
	template := func(subject pkix.Name, until time.Time, below int) *x509.Certificate {
		return &x509.Certificate{Subject: subject, NotBefore: now.Add(-backdate), NotAfter: until, MaxPathLen: below}
	}
	name := title(old, "vindu root CA", &key.PublicKey, now)
	self := template(name, now.Add(rootLife), 2)
	fresh, err := certify(self, self, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	newWithOld, err := certify(template(name, earlier(fresh.NotAfter, old.NotAfter), 1), old, &key.PublicKey, signer)
	if err != nil {
		return nil, err
	}
	oldWithNew, err := certify(template(old.Subject, earlier(fresh.NotAfter, old.NotAfter), 1), fresh, signer.Public().(*ecdsa.PublicKey), key)
	if err != nil {
		return nil, err
	}
	if newKeyFile == "" {
		newKeyFile = filepath.Join(dir, "root-"+short(&key.PublicKey)+".key")
	}
	err = writeFile(newKeyFile, encoded)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("write the new root's key: %w; if it is of a renewal that failed, that root is not in force and its key is worthless: remove the file, or name another", err)
	}
	if err == nil { // the only copy of the key of the root that is in force from the next line on
		err = syncFolder(filepath.Dir(newKeyFile))
	}
	if err != nil {
		return nil, fmt.Errorf("write the new root's key: %w", err)
	}
	return fresh, replace(dir, fileRoot, fresh, newWithOld, oldWithNew, old)
}

// betweenRoots is how long a terminal may be away and still hear of a change of the root before the next one.
const betweenRoots = 400 * 24 * time.Hour

// maxFormer bounds the issuing CAs that are remembered: at five years each, more than a root lives.
const maxFormer = 8

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// title names a CA so that no two of one clinic have the same name.
func title(organisation *x509.Certificate, what string, key *ecdsa.PublicKey, now time.Time) pkix.Name {
	return pkix.Name{
		Organization: organisation.Subject.Organization,
		CommonName:   fmt.Sprintf("%s %s %s", what, now.UTC().Format("2006-01"), short(key)),
	}
}

// short tells keys apart, in names of files and CAs.
func short(key *ecdsa.PublicKey) string {
	b, err := key.Bytes()
	if err != nil || len(b) < 5 {
		return "unknown"
	}
	return hex.EncodeToString(b[1:5])
}

func generateKey() (key *ecdsa.PrivateKey, encoded []byte, err error) {
	if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, nil, fmt.Errorf("make key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("encode key: %w", err)
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: blockKey, Bytes: der}), nil
}

// certify makes a CA's certificate.
func certify(template, parent *x509.Certificate, key *ecdsa.PublicKey, parentKey *ecdsa.PrivateKey) (*x509.Certificate, error) {
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	template.IsCA, template.BasicConstraintsValid = true, true
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, parentKey)
	if err != nil {
		return nil, fmt.Errorf("certify %q: %w", template.Subject.CommonName, err)
	}
	return x509.ParseCertificate(der)
}

// rootSigner reads the root's key from a file or, if none is named, from the folder.
func (a *Authority) rootSigner(dir, file string) (*ecdsa.PrivateKey, error) {
	files := []string{file}
	if file == "" {
		var err error
		if files, err = filepath.Glob(filepath.Join(dir, "root*.key")); err != nil {
			return nil, fmt.Errorf("look for the root's key: %w", err)
		}
	}
	for _, f := range files {
		key, err := readKey(filepath.Dir(f), filepath.Base(f))
		if err != nil {
			return nil, err
		}
		if key.PublicKey.Equal(a.root.PublicKey) {
			return key, nil
		}
	}
	if file == "" {
		return nil, fmt.Errorf("look for the root's key in %s: %w; bring it from where it is kept offline and name its file", dir, ErrRootKey)
	}
	return nil, fmt.Errorf("read %s: %w; name the file of the newest root's key", file, ErrRootKey)
}

// replace writes certificates in place of those of a file.
func replace(dir, name string, certificates ...*x509.Certificate) error {
	var b bytes.Buffer
	for _, c := range certificates {
		if err := pem.Encode(&b, &pem.Block{Type: blockCertificate, Bytes: c.Raw}); err != nil {
			return fmt.Errorf("replace %s: %w", name, err)
		}
	}
	path := filepath.Join(dir, name)
	temporary := path + ".new"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	if err := writeFile(temporary, b.Bytes()); err != nil {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	if err := syncFolder(dir); err != nil { // the key that goes with it, too
		return fmt.Errorf("replace %s: %w", path, err)
	}
	if err := os.Rename(temporary, path); err != nil {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	return syncFolder(dir)
}
