package laptop

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"vindu/protocol"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func open(t *testing.T, dir string) *Laptop {
	t.Helper()
	l, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func mandate(t *testing.T, laptop crypto.PublicKey, to time.Time) string {
	t.Helper()
	clinic, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(laptop)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := protocol.Sign(&protocol.Mandate{Version: protocol.Version, ID: protocol.NewNonce(), Key: der,
		Person: protocol.Party{Name: "Ola Vik", Role: "technician", Organisation: "Fjord Clinic"}, From: protocol.At(to.Add(-time.Hour)), To: protocol.At(to)}, clinic)
	if err != nil {
		t.Fatal(err)
	}
	return protocol.MandateText(signed)
}

func TestKeyStays(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "vindu")
	first, second := open(t, dir), open(t, dir)
	if first.Text() != second.Text() {
		t.Error("another key at the second start")
	}
	for name, want := range map[string]os.FileMode{"": 0o700, keyFile: 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, %v; want %o", name, info.Mode(), err, want)
		}
	}
	if open(t, t.TempDir()).Text() == first.Text() {
		t.Error("two laptops have one key")
	}
}

func TestKeyThatCannotBeUsed(t *testing.T) {
	for name, spoil := range map[string]func(file string) error{
		"readable by others": func(f string) error { return os.Chmod(f, 0o644) },
		"empty":              func(f string) error { return os.WriteFile(f, nil, 0o600) },
		"not a key": func(f string) error {
			return os.WriteFile(f, []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			open(t, dir)
			file := filepath.Join(dir, keyFile)
			if err := spoil(file); err != nil {
				t.Fatal(err)
			}
			before, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Open(dir); err == nil {
				t.Error("it was used")
			}
			if after, err := os.ReadFile(file); err != nil || !bytes.Equal(before, after) {
				t.Error("it was replaced")
			}
		})
	}
}

func TestMandate(t *testing.T) {
	l, other := open(t, t.TempDir()), open(t, t.TempDir())
	if _, _, err := l.Mandate(now); !errors.Is(err, ErrMandate) || protocol.CodeOf(err) != protocol.AuthTechnician {
		t.Errorf("none yet: %v", err)
	}
	good := mandate(t, l.Key().Public(), now.Add(time.Hour))
	if m, err := l.KeepMandate("  "+good[:40]+"\n"+good[40:], now); err != nil || m.Person.Name != "Ola Vik" {
		t.Fatalf("good: %v", err)
	}
	for name, text := range map[string]string{
		"of another laptop": mandate(t, other.Key().Public(), now.Add(time.Hour)),
		"that is over":      mandate(t, l.Key().Public(), now),
		"cut":               good[:len(good)-9],
		"empty":             "",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := l.KeepMandate(text, now); !errors.Is(err, ErrMandate) || protocol.CodeOf(err) != protocol.AuthTechnician {
				t.Errorf("got %v", err)
			}
		})
	}
	if signed, m, err := l.Mandate(now); err != nil || protocol.MandateText(signed) != good || m.Person.Name != "Ola Vik" {
		t.Errorf("the good one is gone: %v", err)
	}
	if _, _, err := l.Mandate(now.Add(time.Hour)); !errors.Is(err, ErrMandate) {
		t.Errorf("after its end: %v", err)
	}
}

func TestKeep(t *testing.T) {
	l := open(t, t.TempDir())
	h := &protocol.HandOver{Terminal: protocol.KeyHash{1}, At: protocol.At(now)}
	for range 2 {
		k, err := l.Keep(h, []byte("event"), []byte("<html>"))
		if err != nil {
			t.Fatal(err)
		}
		for file, want := range map[string]string{k.Record: "event", k.Sheet: "<html>"} {
			if got, err := os.ReadFile(file); err != nil || string(got) != want {
				t.Errorf("%s: %q, %v", file, got, err)
			}
		}
		if left, err := filepath.Glob(filepath.Join(filepath.Dir(k.Sheet), ".new-*")); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
}

func TestSpent(t *testing.T) {
	l := open(t, t.TempDir())
	one, other, terminal := protocol.NewNonce(), protocol.NewNonce(), protocol.KeyHash{1}
	if l.Spent(terminal, one) {
		t.Error("spent before it was")
	}
	if err := l.Spend(terminal, one); err != nil {
		t.Fatal(err)
	}
	if !l.Spent(terminal, one) || l.Spent(terminal, other) || l.Spent(protocol.KeyHash{2}, one) {
		t.Error("not what was spent")
	}
	if err := l.Spend(terminal, other); err != nil {
		t.Fatal(err)
	}
	if l.Spent(terminal, one) || !l.Spent(terminal, other) {
		t.Error("not what was spent last")
	}
}
