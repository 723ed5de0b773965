package authority

import (
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func reload(t *testing.T, dir string) *Authority {
	t.Helper()
	a, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// accepts asks whether a terminal that pinned root accepts the server of a now.
func accepts(t *testing.T, a *Authority, root *x509.Certificate) error {
	t.Helper()
	own, err := a.Server("x.example").Certificate()
	if err != nil {
		t.Fatal(err)
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root)
	for _, der := range own.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		between.AddCert(c)
	}
	_, err = own.Leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: "x.example", CurrentTime: a.now()})
	return err
}

// TestRenew: through a new issuing CA, a new root and an issuing CA below that, every terminal that was ever certified is known, and accepts the
// clinic's server, whichever root it has pinned.
func TestRenew(t *testing.T) {
	a, dir := load(t)
	first := a.Root()
	var terminals []*x509.Certificate
	certify := func(a *Authority) {
		c, err := a.IssueTerminal(parse(t, request(t, new(x509.CertificateRequest), newKey(t, elliptic.P256()))))
		if err != nil {
			t.Fatal(err)
		}
		terminals = append(terminals, c)
	}
	certify(a)
	var second *x509.Certificate
	for _, step := range []struct {
		name  string
		renew func() error
	}{
		{"issuing CA", func() error { _, err := RenewIssuing(dir, ""); return err }},
		{"root", func() (err error) { second, err = RenewRoot(dir, "", ""); return err }},
		{"issuing CA below the new root", func() error { _, err := RenewIssuing(dir, ""); return err }},
		{"another", func() error { _, err := RenewIssuing(dir, ""); return err }},
	} {
		before := reload(t, dir)
		if err := step.renew(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		a := reload(t, dir)
		if a.Issuing().Equal(before.Issuing()) && a.Root().Equal(before.Root()) {
			t.Errorf("%s: nothing new", step.name)
		}
		certify(a)
		for i, c := range terminals {
			if _, err := a.Terminal(c); err != nil {
				t.Errorf("%s: terminal %d is not known any more: %v", step.name, i, err)
			}
		}
		for name, root := range map[string]*x509.Certificate{"first": first, "second": second} {
			if root == nil {
				continue
			}
			if err := accepts(t, a, root); err != nil {
				t.Errorf("%s: a terminal that pinned the %s root refuses the server: %v", step.name, name, err)
			}
		}
		for _, c := range a.CACerts() {
			if len(c.Raw) > 2048 {
				t.Errorf("%s: %q has %d bytes", step.name, c.Subject.CommonName, len(c.Raw))
			}
		}
	}
	der := reload(t, dir).RootChange()
	if len(der) != 3 || string(der[0]) != string(second.Raw) {
		t.Errorf("the change of the root is told as %d certificates", len(der))
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s has mode %v, %v", e.Name(), info.Mode(), err)
		}
	}
	if _, err := RenewRoot(dir, "", ""); err == nil || !strings.Contains(err.Error(), "locked out") {
		t.Errorf("a second root at once: %v", err)
	}
	if _, err := renewRoot(dir, "", "", time.Now().Add(betweenRoots)); err != nil {
		t.Errorf("a second root later: %v", err)
	}
}

func TestRenewWithoutRootKey(t *testing.T) {
	_, dir := load(t)
	away := filepath.Join(t.TempDir(), "safe.key")
	if err := os.Rename(RootKeyPath(dir), away); err != nil {
		t.Fatal(err)
	}
	_, other := load(t)
	for name, file := range map[string]string{"taken away": "", "another's": RootKeyPath(other)} {
		if _, err := RenewIssuing(dir, file); !errors.Is(err, ErrRootKey) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := RenewRoot(dir, file, ""); !errors.Is(err, ErrRootKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := RenewIssuing(dir, away); err != nil {
		t.Error(err)
	}
	offline := filepath.Join(t.TempDir(), "next.key")
	if _, err := RenewRoot(dir, away, offline); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "root*.key")); err != nil || len(left) > 0 {
		t.Errorf("a root's key lies on the server: %v, %v", left, err)
	}
	if _, err := RenewIssuing(dir, away); !errors.Is(err, ErrRootKey) {
		t.Errorf("the former root's key: %v", err)
	}
	if _, err := RenewIssuing(dir, offline); err != nil {
		t.Error(err)
	}
}

// TestRenewCutOff: what a power cut left behind, before the certificates were replaced, disturbs nothing.
func TestRenewCutOff(t *testing.T) {
	a, dir := load(t)
	_, other := load(t)
	for from, to := range map[string]string{fileIssuingKey: "issuing-00000000.key", fileIssuing: fileIssuing + ".new", fileRootKey: "root-00000000.key", fileRoot: fileRoot + ".new"} {
		b, err := os.ReadFile(filepath.Join(other, from))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, to), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if b := reload(t, dir); !b.Issuing().Equal(a.Issuing()) || !b.Root().Equal(a.Root()) {
		t.Error("another authority was loaded")
	}
	if _, err := RenewRoot(dir, "", ""); err != nil {
		t.Error(err)
	}
	if _, err := RenewIssuing(dir, ""); err != nil {
		t.Error(err)
	}
	reload(t, dir)
}

// TestRenewAtTheEnd: an issuing CA never outlives its root, and once the first is about to end it still can be renewed.
func TestRenewAtTheEnd(t *testing.T) {
	a, dir := load(t)
	late := a.Root().NotAfter.Add(-time.Hour)
	if _, err := renewIssuing(dir, "", late); err != nil {
		t.Fatal(err)
	}
	if b := reload(t, dir); !b.Expires().Equal(a.Root().NotAfter) || !b.RootExpires().Equal(a.Root().NotAfter) {
		t.Errorf("ends %v, root %v", b.Expires(), b.RootExpires())
	}
}

// Two renewals at once would write the same files.
func TestOneRenewalAtATime(t *testing.T) {
	_, dir := load(t)
	unlock, err := lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, renew := range map[string]func() error{
		"issuing CA": func() error { _, err := RenewIssuing(dir, ""); return err },
		"root":       func() error { _, err := RenewRoot(dir, "", ""); return err },
	} {
		if err := renew(); err == nil || !strings.Contains(err.Error(), "another renewal") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "next.key")
	if err := os.WriteFile(key, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := RenewRoot(dir, "", key); err == nil || !strings.Contains(err.Error(), "remove the file") {
		t.Errorf("a key file of before: %v", err)
	}
	if _, err := RenewIssuing(dir, ""); err != nil {
		t.Error(err)
	}
}
