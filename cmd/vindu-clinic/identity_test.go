package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vindu/clinic/config"
	"vindu/clinic/oidc/oidctest"
	"vindu/clinic/web"
)

// withIdentityProvider writes into a clinic's configuration that persons can sign in there, too.
func withIdentityProvider(t *testing.T, dir, issuer string) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "oidc.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, config.FileName)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	said := fmt.Sprintf("[oidc]\nissuer = %q\nname = \"HelseID\"\nclient_id = %q\nkey = \"oidc.key\"\n", issuer, oidctest.ClientID)
	begin, end := bytes.Index(b, []byte("[oidc]")), bytes.Index(b, []byte("[relay]"))
	if err := os.WriteFile(path, append(append(bytes.Clone(b[:begin]), said...), b[end:]...), 0o600); err != nil {
		t.Fatal(err)
	}
	return key
}

// page gets one of the clinic's pages, without going where it leads.
func (s *serving) page(t *testing.T, path string) (*http.Response, string) {
	t.Helper()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	r, err := client.Get(s.ready["pages"].(string) + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r, string(b)
}

// The server starts, and its pages let people sign in, whether the identity provider is there or not; where it is, they lead there and it leads back.
func TestIdentityProvider(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + l.Addr().String()
	l.Close()
	dir := newClinic(t)
	withIdentityProvider(t, dir, nobody)
	s := start(t, dir)
	if r, page := s.page(t, "/sign-in"); r.StatusCode != http.StatusOK || !strings.Contains(page, "Sign in with a passkey") || !strings.Contains(page, "Sign in with HelseID") {
		t.Errorf("with a provider that is down: %d %s", r.StatusCode, page)
	}
	if r, page := s.page(t, "/sign-in/with"); r.StatusCode != http.StatusServiceUnavailable || !strings.Contains(page, "HelseID does not answer") {
		t.Errorf("its button: %d %s", r.StatusCode, page)
	}
	if code := s.stop(); code != 0 {
		t.Errorf("exit %d", code)
	}

	p := oidctest.New(t)
	dir = newClinic(t)
	p.Client = withIdentityProvider(t, dir, p.URL).Public()
	s = start(t, dir)
	r, _ := s.page(t, "/sign-in/with")
	to, err := url.Parse(r.Header.Get("Location"))
	if err != nil || r.StatusCode != http.StatusSeeOther || !strings.HasPrefix(to.String(), p.URL) || to.Query().Get("redirect_uri") != s.ready["pages"].(string)+web.SignInBack {
		t.Errorf("leads to %v: %d, %v", to, r.StatusCode, err)
	}
}

// A key that is not there, not one, or anybody's to read is said at the start.
func TestIdentityKey(t *testing.T) {
	for name, tc := range map[string]struct {
		prepare func(path string) error
		says    string
	}{
		"none":      {os.Remove, "oidc.key"},
		"no key":    {func(path string) error { return os.WriteFile(path, []byte("x"), 0o600) }, "not a PEM file"},
		"anybody's": {func(path string) error { return os.Chmod(path, 0o644) }, "chmod"},
		"another's half": {func(path string) error {
			return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY"}), 0o600)
		}, "not a private key"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := newClinic(t)
			withIdentityProvider(t, dir, "https://id.example")
			if err := tc.prepare(filepath.Join(dir, "oidc.key")); err != nil {
				t.Fatal(err)
			}
			code, _, stderr := do(t, "serve", "-config", filepath.Join(dir, config.FileName))
			if code != 1 || !strings.Contains(stderr, tc.says) {
				t.Errorf("exit %d: %s", code, stderr)
			}
		})
	}
}
