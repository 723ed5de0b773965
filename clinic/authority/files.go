package authority

import (
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
	fileLogKey     = "log.key"
)

// LogName names the audit log in its signed tree heads.
const LogName = "vindu-clinic-audit"

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
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("make key: %w", err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			return nil, fmt.Errorf("encode key: %w", err)
		}
		files[name] = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
		return k, nil
	}
	ca := func(name, title string, life time.Duration, below int, k *ecdsa.PrivateKey, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, error) {
		template := &x509.Certificate{
			Subject:   pkix.Name{Organization: []string{organisation}, CommonName: title},
			NotBefore: now.Add(-backdate), NotAfter: now.Add(life),
			KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
			IsCA:     true, BasicConstraintsValid: true, MaxPathLen: below, MaxPathLenZero: below == 0,
		}
		if parent == nil {
			parent = template
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &k.PublicKey, parentKey)
		if err != nil {
			return nil, fmt.Errorf("make %s: %w", name, err)
		}
		files[name] = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		return x509.ParseCertificate(der)
	}
	rootKey, err := key(fileRootKey)
	if err != nil {
		return nil, err
	}
	root, err := ca(fileRoot, "vindu root CA", rootLife, 1, rootKey, nil, rootKey)
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
	if _, err := key(fileSigningKey); err != nil {
		return nil, err
	}
	logKey, _, err := note.GenerateKey(rand.Reader, LogName)
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

// Load reads what Create wrote. The root's key may be elsewhere by now; it is not read.
func Load(dir string) (*Authority, error) {
	a := &Authority{now: time.Now}
	var err error
	if a.root, err = readCertificate(dir, fileRoot); err != nil {
		return nil, err
	}
	if a.issuing, err = readCertificate(dir, fileIssuing); err != nil {
		return nil, err
	}
	if a.issuingKey, err = readKey(dir, fileIssuingKey); err != nil {
		return nil, err
	}
	if a.signing, err = readKey(dir, fileSigningKey); err != nil {
		return nil, err
	}
	if err := a.issuing.CheckSignatureFrom(a.root); err != nil {
		return nil, fmt.Errorf("load authority %s: %s was not issued by %s: %w; restore both from the same backup", dir, fileIssuing, fileRoot, err)
	}
	if !a.issuingKey.PublicKey.Equal(a.issuing.PublicKey) {
		return nil, fmt.Errorf("load authority %s: %s is not the key of %s; restore both from the same backup", dir, fileIssuingKey, fileIssuing)
	}
	if a.signingSPKI, err = x509.MarshalPKIXPublicKey(&a.signing.PublicKey); err != nil {
		return nil, fmt.Errorf("load authority %s: %w", dir, err)
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

func readPEM(dir, name, kind string) ([]byte, error) {
	b, err := readFile(dir, name)
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(b)
	if block == nil || block.Type != kind || strings.TrimSpace(string(rest)) != "" {
		return nil, fmt.Errorf("load authority %s: %s is damaged; restore it from a backup", dir, name)
	}
	return block.Bytes, nil
}

func readCertificate(dir, name string) (*x509.Certificate, error) {
	der, err := readPEM(dir, name, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("load authority %s: %s: %w; restore it from a backup", dir, name, err)
	}
	return c, nil
}

func readKey(dir, name string) (*ecdsa.PrivateKey, error) {
	der, err := readPEM(dir, name, "PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	// The parser's error is left out: it could quote the key.
	k, err := x509.ParsePKCS8PrivateKey(der)
	if key, ok := k.(*ecdsa.PrivateKey); err == nil && ok && key.Curve == elliptic.P256() {
		return key, nil
	}
	return nil, fmt.Errorf("load authority %s: %s is not an ECDSA P-256 key; restore it from a backup", dir, name)
}
