package enrol

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"net/http"
	"testing"
	"time"

	"vindu/protocol"
)

// TestSuccession: a terminal gets a certificate for another key only when that was ordered, and only for a key that says whom it succeeds.
func TestSuccession(t *testing.T) {
	c := start(t)
	key, chain := c.enrolled(t)
	next := newKey(t)
	named := func(name string) []byte {
		t.Helper()
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, next)
		if err != nil {
			t.Fatal(err)
		}
		return []byte(base64.StdEncoding.EncodeToString(der))
	}
	ask := func(body []byte) answer {
		t.Helper()
		return do(t, c.client(t, key, chain...), http.MethodPost, c.url+protocol.PathReenroll, nil, typeRequest, body)
	}
	order := func(key crypto.Signer, chain []*x509.Certificate) []byte {
		t.Helper()
		a := do(t, c.client(t, key, chain...), http.MethodGet, c.url+protocol.PathSettings, nil, "", nil)
		s := new(protocol.Settings)
		if err := protocol.Decode(a.body, s); err != nil {
			t.Fatalf("settings: status %d %s: %v", a.status, a.code, err)
		}
		return s.KeyOrder
	}
	self := mustHash(t, key).Name()
	if a := ask(named(self)); a.status != http.StatusBadRequest || a.code != protocol.SignalMalformed || order(key, chain) != nil {
		t.Errorf("without an order: %d %s", a.status, a.code)
	}
	c.KeyLife = time.Nanosecond
	c.KeyStays = func(_ context.Context, k protocol.KeyHash) (bool, error) { return k == mustHash(t, key), nil }
	if a := ask(named(self)); a.status != http.StatusBadRequest || a.code != protocol.SignalMalformed || order(key, chain) != nil {
		t.Errorf("while it is to be destroyed: %d %s", a.status, a.code)
	}
	c.KeyStays = nil
	signed := order(key, chain)
	if signed == nil {
		t.Fatal("a key that is due is not ordered to be replaced")
	}
	for _, name := range []string{"", "clinic", mustHash(t, next).Name()} {
		if a := ask(named(name)); a.status != http.StatusBadRequest || a.code != protocol.SignalMalformed {
			t.Errorf("a request that names %q: %d %s", name, a.status, a.code)
		}
	}
	renewed := certificates(t, ask(named(self)))
	if mustHash(t, next) != protocol.HashSPKI(renewed[0].RawSubjectPublicKeyInfo) || renewed[0].Subject.CommonName != mustHash(t, next).Name() {
		t.Errorf("certificate for %q", renewed[0].Subject.CommonName)
	}
	if order(key, chain) == nil {
		t.Error("the old key is not accepted before the new one has connected")
	}
	c.KeyLife = 0
	if order(next, renewed) != nil {
		t.Error("the new key is to be replaced too")
	}
	if a := ask(csr(t, key)); a.status != http.StatusForbidden || a.code != protocol.LinkRefused {
		t.Errorf("the old key afterwards: %d %s", a.status, a.code)
	}
	if alarms, err := c.Register.Alarms(t.Context(), 0); err != nil || len(alarms) != 1 || alarms[0].Terminal != mustHash(t, key) || alarms[0].Code != protocol.IdentityClone {
		t.Errorf("alarms %+v, %v", alarms, err)
	}
}
