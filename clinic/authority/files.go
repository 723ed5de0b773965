package authority

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

const (
	fileRoot       = "root.pem"
	fileRootKey    = "root.key"
	fileIssuing    = "issuing.pem"
	fileIssuingKey = "issuing.key"
	fileSigningKey = "authorisation.key"
	fileServiceKey = "service.key"
	fileLogKey     = "log.key"

	blockKey         = "PRIVATE KEY"
	blockCertificate = "CERTIFICATE"
)

// logName names the audit log in its signed tree heads.
const logName = "vindu-clinic-audit"

// ErrExists is wrapped by Create when the folder exists: keys are never overwritten.
var ErrExists = errors.New("the authority's folder exists")

// Create makes all keys and certificates for organisation in folder dir, which must not exist; it appears whole or not at all.
func Create(dir, organisation string) (err error) {
	return create(dir, organisation, time.Now())
}

func create(dir, organisation string, now time.Time) (err error) {
	if _, err := os.Lstat(dir); err == nil {
		return fmt.Errorf("%w: %s; its keys stay in use: name another folder for another clinic", ErrExists, dir)
	}
	temporary, err := os.MkdirTemp(filepath.Dir(dir), ".authority-") // 0700
	if err != nil {
		return fmt.Errorf("make the authority's folder: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(temporary))
		}
	}()
	files, err := generate(organisation, now)
	if err != nil {
		return err
	}
	for name, content := range files {
		if err := writeFile(filepath.Join(temporary, name), content); err != nil {
			return fmt.Errorf("write the authority's %s: %w", name, err)
		}
	}
	if err := syncFolder(temporary); err != nil {
		return fmt.Errorf("write the authority's folder: %w", err)
	}
	if err := os.Rename(temporary, dir); err != nil {
		return fmt.Errorf("make the authority's folder: %w", err)
	}
	return syncFolder(filepath.Dir(dir))
}

func generate(organisation string, now time.Time) (map[string][]byte, error) {
	files := map[string][]byte{}
	key := func(name string) (*ecdsa.PrivateKey, error) {
		k, encoded, err := generateKey()
		files[name] = encoded
		return k, err
	}
	ca := func(name, title string, life time.Duration, below int, k *ecdsa.PrivateKey, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, error) {
		template := &x509.Certificate{
			Subject:   pkix.Name{Organization: []string{organisation}, CommonName: title},
			NotBefore: now.Add(-backdate), NotAfter: now.Add(life), MaxPathLen: below, MaxPathLenZero: below == 0,
		}
		if parent == nil {
			parent = template
		}
		c, err := certify(template, parent, &k.PublicKey, parentKey)
		if err != nil {
			return nil, err
		}
		files[name] = pem.EncodeToMemory(&pem.Block{Type: blockCertificate, Bytes: c.Raw})
		return c, nil
	}
	rootKey, err := key(fileRootKey)
	if err != nil {
		return nil, err
	}
	root, err := ca(fileRoot, "vindu root CA", rootLife, 2, rootKey, nil, rootKey) // an issuing CA, below the root that follows this one
	if err != nil {
		return nil, err
	}
	issuingKey, err := key(fileIssuingKey)
	if err != nil {
		return nil, err
	}
	if _, err := ca(fileIssuing, "vindu issuing CA", issuingLife, 0, issuingKey, root, rootKey); err != nil {
		return nil, err
	}
	for _, name := range []string{fileSigningKey, fileServiceKey} {
		if _, err := key(name); err != nil {
			return nil, err
		}
	}
	logKey, _, err := note.GenerateKey(rand.Reader, logName)
	if err != nil {
		return nil, fmt.Errorf("make log key: %w", err)
	}
	files[fileLogKey] = []byte(logKey + "\n")
	return files, nil
}

func writeFile(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// RootKeyPath returns where Create put the root's key in dir.
func RootKeyPath(dir string) string { return filepath.Join(dir, fileRootKey) }

// Load reads what Create wrote. The root's key may be elsewhere by now; it is not read. The authorisation key may be, too, once there is a trust
// that names it. A folder from before there were service keys is given one.
func Load(dir string) (*Authority, error) {
	a := &Authority{dir: dir, now: time.Now}
	var err error
	if err := a.loadRoots(dir); err != nil {
		return nil, err
	}
	if err := a.loadIssuing(dir); err != nil {
		return nil, err
	}
	if err := a.loadService(); err != nil {
		return nil, err
	}
	if _, err := a.Refresh(); err != nil {
		return nil, err
	}
	logKey, err := readFile(dir, fileLogKey)
	if err != nil {
		return nil, err
	}
	a.logKey = strings.TrimSpace(string(logKey))
	if _, err := note.NewSigner(a.logKey); err != nil {
		return nil, fmt.Errorf("load authority %s: %s is damaged; restore it from a backup", dir, fileLogKey)
	}
	return a, nil
}

// loadRoots reads the root, and what leads from the one before to it.
func (a *Authority) loadRoots(dir string) error {
	certificates, err := readCertificates(dir, fileRoot)
	if err != nil {
		return err
	}
	a.root = certificates[0]
	if len(certificates) == 1 {
		return nil
	}
	if len(certificates) != 4 {
		return fmt.Errorf("load authority %s: %s has %d certificates, not 1 or 4; restore it from a backup", dir, fileRoot, len(certificates))
	}
	a.change = &rootChange{newWithOld: certificates[1], oldWithNew: certificates[2], old: certificates[3]}
	if err := errors.Join(a.change.newWithOld.CheckSignatureFrom(a.change.old), a.change.oldWithNew.CheckSignatureFrom(a.root)); err != nil {
		return fmt.Errorf("load authority %s: the roots in %s do not certify each other: %w; restore it from a backup", dir, fileRoot, err)
	}
	return nil
}

// loadIssuing reads the issuing CAs, and the key of the newest.
func (a *Authority) loadIssuing(dir string) error {
	certificates, err := readCertificates(dir, fileIssuing)
	if err != nil {
		return err
	}
	a.issuing, a.former, a.chain = certificates[0], certificates[1:], certificates[:1:1]
	err = a.issuing.CheckSignatureFrom(a.root)
	switch {
	case a.change == nil:
	case err == nil:
		a.chain = append(a.chain, a.change.newWithOld)
	default:
		err = a.issuing.CheckSignatureFrom(a.change.old)
		a.chain = append(a.chain, a.change.oldWithNew)
	}
	if err != nil {
		return fmt.Errorf("load authority %s: %s was not issued by %s: %w; restore both from the same backup", dir, fileIssuing, fileRoot, err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "issuing*.key"))
	if err != nil {
		return fmt.Errorf("load authority %s: %w", dir, err)
	}
	for _, f := range files {
		key, err := readKey(dir, filepath.Base(f))
		if err != nil {
			return err
		}
		if key.PublicKey.Equal(a.issuing.PublicKey) {
			a.issuingKey = key
			return nil
		}
	}
	return fmt.Errorf("load authority %s: %s, or what else is named issuing…, is not the key of %s; restore both from the same backup", dir, fileIssuingKey, fileIssuing)
}

// readFile refuses a file that others may read: it may hold a key.
func readFile(dir, name string) ([]byte, error) {
	path := filepath.Join(dir, name)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("load authority: %w; name the folder that vindu-clinic init made, or restore it from a backup", err)
	}
	if err != nil {
		return nil, fmt.Errorf("load authority: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("load authority: others than the owner have access to %s (mode %#o); chmod 600 it", path, info.Mode().Perm())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("load authority: %w", err)
	}
	return b, nil
}

func readPEM(dir, name, kind string) ([][]byte, error) {
	b, err := readFile(dir, name)
	if err != nil {
		return nil, err
	}
	var blocks [][]byte
	for len(bytes.TrimSpace(b)) > 0 {
		block, rest := pem.Decode(b)
		if block == nil || block.Type != kind {
			return nil, fmt.Errorf("load authority %s: %s is damaged; restore it from a backup", dir, name)
		}
		blocks, b = append(blocks, block.Bytes), rest
	}
	if len(blocks) == 0 {
		return nil, fmt.Errorf("load authority %s: %s is empty; restore it from a backup", dir, name)
	}
	return blocks, nil
}

func readCertificates(dir, name string) ([]*x509.Certificate, error) {
	blocks, err := readPEM(dir, name, blockCertificate)
	if err != nil {
		return nil, err
	}
	certificates := make([]*x509.Certificate, 0, len(blocks))
	for _, der := range blocks {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("load authority %s: %s: %w; restore it from a backup", dir, name, err)
		}
		certificates = append(certificates, c)
	}
	return certificates, nil
}

func readKey(dir, name string) (*ecdsa.PrivateKey, error) {
	blocks, err := readPEM(dir, name, blockKey)
	if err != nil {
		return nil, err
	}
	// The parser's error is left out: it could quote the key.
	k, err := x509.ParsePKCS8PrivateKey(blocks[0])
	if key, ok := k.(*ecdsa.PrivateKey); len(blocks) == 1 && err == nil && ok && key.Curve == elliptic.P256() {
		return key, nil
	}
	return nil, fmt.Errorf("load authority %s: %s is not an ECDSA P-256 key; restore it from a backup", dir, name)
}

// ReadKey reads a private key from a file that is not in a clinic's folder.
func ReadKey(file string) (*ecdsa.PrivateKey, error) {
	return readKey(filepath.Dir(file), filepath.Base(file))
}
