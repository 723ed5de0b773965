package enrol

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"net"
	"net/http"
	"net/netip"
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
	for range strangers.burst {
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
	for range terminals.burst {
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

func TestCallers(t *testing.T) {
	c := newCallers[netip.Prefix](bound{2, 100})
	now := time.Now()
	address := func(i int) netip.Prefix {
		return place(net.JoinHostPort(net.IPv4(10, byte(i>>16), byte(i>>8), byte(i)).String(), "1"))
	}
	for i := range maxCallers + c.burst {
		if !c.allow(address(i), now) {
			t.Fatalf("caller %d was refused", i)
		}
	}
	if c.allow(address(maxCallers+c.burst), now) {
		t.Error("the strangers' bound does not hold")
	}
	if !c.allow(address(3), now) || len(c.known) > maxCallers {
		t.Errorf("%d callers known", len(c.known))
	}
	if now = now.Add(time.Minute); !c.allow(address(maxCallers+c.burst), now) || len(c.known) != 1 {
		t.Errorf("after a minute of silence %d callers are known", len(c.known))
	}
	if place("[2001:db8::1]:1") != place("[2001:db8::2]:2") || place("[2001:db8::1]:1") == place("[2001:db8:0:1::1]:1") {
		t.Error("not bounded by /64")
	}
	if place("[::ffff:10.0.0.1]:1") != address(1) || place("10.0.0.2:1") == address(1) || place("nowhere").IsValid() {
		t.Error("not bounded by IPv4 address")
	}
}
