package enrol

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"net/http"
	"strings"
	"testing"
	"time"

	"vindu/clinic/authority"
	"vindu/protocol"
)

func TestTooMany(t *testing.T) {
	c := start(t)
	client := c.client(t, nil)
	now := time.Now()
	c.now = func() time.Time { return now }
	for range strangers.Burst {
		if got := do(t, client, http.MethodGet, c.url+protocol.PathCACerts, nil, "", nil); got.status != 200 {
			t.Fatalf("status %d", got.status)
		}
	}
	if got := do(t, client, http.MethodGet, c.url+protocol.PathCACerts, nil, "", nil); got.status != 429 || got.code != protocol.LinkTooMany || got.header.Get("Retry-After") == "" {
		t.Errorf("status %d, code %s", got.status, got.code)
	}
	if strings.Contains(c.log.String(), string(protocol.LinkTooMany)) {
		t.Error("who asks too often fills the log too")
	}
	// Who stands behind the same router with a certificate, or has to ask for the time first, is not in its way.
	key, chain := c.enrolledDirectly(t)
	known := c.client(t, key, chain...)
	for range terminals.Burst {
		if got := do(t, known, http.MethodGet, c.url+protocol.PathSettings, nil, "", nil); got.status != 200 {
			t.Fatalf("a terminal behind the same address: status %d", got.status)
		}
	}
	if got := do(t, known, http.MethodGet, c.url+protocol.PathSettings, nil, "", nil); got.status != 429 {
		t.Errorf("a terminal that asks too often: status %d", got.status)
	}
	foreign := c.client(t, newKey(t), chain...)
	if _, err := foreign.Get(c.url + protocol.PathSettings); err == nil {
		t.Error("another's certificate was taken")
	}
	if got := do(t, client, http.MethodGet, c.url+protocol.PathClock+"?nonce="+strings.Repeat("1", 32), nil, "", nil); got.status != 200 {
		t.Errorf("the time: status %d", got.status)
	}
	now = now.Add(time.Second)
	for i := range 3 {
		if got := do(t, client, http.MethodGet, c.url+protocol.PathCACerts, nil, "", nil); (got.status == 200) != (i < 2) {
			t.Errorf("request %d a second later: status %d", i, got.status)
		}
	}
}

// enrolledDirectly lets a terminal in without a request.
func (c *clinic) enrolledDirectly(t *testing.T) (*ecdsa.PrivateKey, []*x509.Certificate) {
	t.Helper()
	key, v := newKey(t), c.voucher(t)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	request, err := authority.ParseRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := c.Register.Enrol(t.Context(), v.ID, v.Secret, request, c.Authority.IssueTerminal)
	if err != nil {
		t.Fatal(err)
	}
	return key, append([]*x509.Certificate{leaf}, c.Authority.Chain()...)
}
