package enrol

import (
	"crypto/x509"
	"net/http"
	"testing"
	"time"

	"vindu/clinic/register"
	"vindu/protocol"
)

// A terminal that shows its certificate beside a voucher moves; one that shows none, or another's, is taken for a copy.
func TestMove(t *testing.T) {
	c := start(t)
	key, chain := c.enrolled(t)
	other := newKey(t)
	voucher := func(home string) *register.Voucher {
		t.Helper()
		h, err := c.Register.EnsureHome(t.Context(), "Kari", home)
		if err != nil {
			t.Fatal(err)
		}
		v, err := c.Register.IssueVoucher(t.Context(), "Kari", h.ID, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return &v
	}
	elsewhere := func() *register.Voucher { return voucher("Home 18, Kirkeveien") }
	v := elsewhere()
	if a := do(t, c.client(t, nil), http.MethodPost, c.url+protocol.PathEnroll, v, typeRequest, csr(t, key)); a.code != protocol.IdentityClone || a.status != http.StatusForbidden {
		t.Errorf("without its certificate: %d %s", a.status, a.code)
	}
	if alarms, err := c.Register.Alarms(t.Context(), 0); err != nil || len(alarms) != 1 || alarms[0].Terminal != mustHash(t, key) {
		t.Errorf("alarms %+v, %v", alarms, err)
	}
	// Nor does a terminal's certificate move another terminal, whose request somebody may have seen.
	thief := newKey(t)
	own := certificates(t, do(t, c.client(t, nil), http.MethodPost, c.url+protocol.PathEnroll, voucher("Home 19, Fjellveien"), typeRequest, csr(t, thief)))
	if a := do(t, c.client(t, thief, own...), http.MethodPost, c.url+protocol.PathEnroll, v, typeRequest, csr(t, key)); a.code != protocol.IdentityClone {
		t.Errorf("by another's certificate: %d %s", a.status, a.code)
	}
	moved := certificates(t, do(t, c.client(t, key, chain...), http.MethodPost, c.url+protocol.PathEnroll, v, typeRequest, csr(t, key)))
	a := do(t, c.client(t, key, moved...), http.MethodGet, c.url+protocol.PathSettings, nil, "", nil)
	settings := new(protocol.Settings)
	if err := protocol.Decode(a.body, settings); err != nil || settings.Home != "Home 18, Kirkeveien" {
		t.Errorf("settings %+v, %v", settings, err)
	}
	// By the certificate of a terminal that moved, another key is a new terminal.
	certificates(t, do(t, c.client(t, key, moved...), http.MethodPost, c.url+protocol.PathEnroll, elsewhere(), typeRequest, csr(t, other)))
	if a := do(t, c.client(t, key, moved...), http.MethodPost, c.url+protocol.PathEnroll, elsewhere(), typeRequest, csr(t, key)); a.code != protocol.LinkRefused {
		t.Errorf("one that was replaced moves: %d %s", a.status, a.code)
	}
}

// TestMoveByAnOlder: a certificate that is older than one that was used is what a copy has: by it no terminal moves.
func TestMoveByAnOlder(t *testing.T) {
	c := start(t)
	key, chain := c.enrolled(t)
	next := certificates(t, do(t, c.client(t, key, chain...), http.MethodPost, c.url+protocol.PathReenroll, nil, typeRequest, csr(t, key)))
	certificates(t, do(t, c.client(t, key, next...), http.MethodPost, c.url+protocol.PathReenroll, nil, typeRequest, csr(t, key)))
	h, err := c.Register.EnsureHome(t.Context(), "Kari", "Home 18, Kirkeveien")
	if err != nil {
		t.Fatal(err)
	}
	v, err := c.Register.IssueVoucher(t.Context(), "Kari", h.ID, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the first might have been on its way
		a := do(t, c.client(t, key, chain...), http.MethodPost, c.url+protocol.PathEnroll, &v, typeRequest, csr(t, key))
		if a.code != protocol.IdentityClone || a.status != http.StatusForbidden {
			t.Errorf("by the older: %d %s", a.status, a.code)
		}
	}
	certificates(t, do(t, c.client(t, key, next...), http.MethodPost, c.url+protocol.PathEnroll, &v, typeRequest, csr(t, key)))
}

// Who renews by a certificate that is older than one that was used gets another, so that an honest terminal is not locked out, and is noticed.
func TestRenewByAnOlder(t *testing.T) {
	c := start(t)
	key, chain := c.enrolled(t)
	renew := func(by []*x509.Certificate) []*x509.Certificate {
		t.Helper()
		return certificates(t, do(t, c.client(t, key, by...), http.MethodPost, c.url+protocol.PathReenroll, nil, typeRequest, csr(t, key)))
	}
	next := renew(chain)
	renew(chain) // the reply was lost
	alarms := func(want int) {
		t.Helper()
		if list, err := c.Register.Alarms(t.Context(), 0); err != nil || len(list) != want || want > 0 && list[0].Code != protocol.IdentityTwice {
			t.Errorf("alarms %+v, %v", list, err)
		}
	}
	renew(next)
	renew(chain) // might have been on its way
	alarms(0)
	renew(chain)
	alarms(1)
}
