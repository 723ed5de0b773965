package authority

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// keyOnDisk makes a key, and returns the files of its halves.
func keyOnDisk(t *testing.T) (private, public string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	private, public = filepath.Join(dir, "key"), filepath.Join(dir, "public")
	for name, block := range map[string]*pem.Block{private: {Type: "PRIVATE KEY", Bytes: pkcs8}, public: {Type: blockPublic, Bytes: spki}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return private, public
}

// TestToken: OpenSSL stands for a token's program that writes DER.
func TestToken(t *testing.T) {
	private, public := keyOnDisk(t)
	other, _ := keyOnDisk(t)
	digest := sha256.Sum256([]byte("what is signed"))
	sign := "openssl pkeyutl -sign -inkey "
	for name, c := range map[string]struct {
		command, want string // want: in the error; empty if it signs
	}{
		"signs":                    {sign + private, ""},
		"another key":              {sign + other, "is no signature by the key"},
		"is not there":             {"/no/such/program", "ended with"},
		"fails, and says why":      {"echo no card in the reader >&2; exit 3", "exit status 3"},
		"says nothing":             {"true", "(0 bytes) is no signature"},
		"writes too much":          {"head -c 100000 /dev/zero", "ended with"},
		"signs something else":     {"cat >/dev/null; head -c 32 /dev/urandom | " + sign + private, "is no signature by the key"},
		"64 bytes that are no r‖s": {"head -c 64 /dev/zero", "is no signature by the key"},
	} {
		t.Run(name, func(t *testing.T) {
			var said bytes.Buffer
			token, err := NewToken(public, c.command, &said)
			if err != nil {
				t.Fatal(err)
			}
			signature, err := token.Sign(nil, digest[:], crypto.SHA256)
			switch {
			case c.want == "" && (err != nil || !ecdsa.VerifyASN1(token.public, digest[:], signature)):
				t.Errorf("%x, %v", signature, err)
			case c.want != "" && (!errors.Is(err, ErrToken) || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%v; want %q", err, c.want)
			}
			if strings.Contains(c.command, "card") && !strings.Contains(said.String(), "no card in the reader") {
				t.Errorf("said %q", said.String())
			}
		})
	}
	token, err := NewToken(public, sign+private, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := token.Sign(nil, digest[:20], crypto.SHA1); !errors.Is(err, ErrToken) {
		t.Error(err)
	}
}

// A token as PKCS #11 has it writes r‖s, whose numbers may begin with zeros.
func TestTokenOfNumbers(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("what is signed"))
	for range 600 { // some hundredth number begins with a zero byte
		r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		numbers := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
		if !ecdsa.VerifyASN1(&key.PublicKey, digest[:], inDER(numbers)) {
			t.Fatalf("%x", numbers)
		}
		der, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
		if err != nil || !bytes.Equal(inDER(der), der) {
			t.Fatalf("%x, %v", der, err)
		}
	}
}

func TestTokenRefused(t *testing.T) {
	private, public := keyOnDisk(t)
	file := func(content string) string {
		name := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	two, err := os.ReadFile(public)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ public, command, want string }{
		"no file":       {"/no/such/file", "true", "no such file"},
		"a private key": {private, "true", "not one public key"},
		"no PEM":        {file("words"), "true", "not one public key"},
		"two keys":      {file(string(two) + string(two)), "true", "not one public key"},
		"no key":        {file("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"), "true", "read the token's public key"},
		"no command":    {public, " ", "needs a command"},
	} {
		if _, err := NewToken(c.public, c.command, os.Stderr); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
}
