package enrol

import (
	"net/http"
	"testing"

	"vindu/protocol"
)

// TestSettingsByVoucher is what a technician's laptop asks after it enrolled a terminal that has no network.
func TestSettingsByVoucher(t *testing.T) {
	c := start(t)
	v, client := c.voucher(t), c.client(t, nil)
	if a := do(t, client, http.MethodGet, c.url+protocol.PathSettings, &v, "", nil); a.status != http.StatusUnauthorized || a.code != protocol.IdentityVoucher {
		t.Errorf("before it let a terminal in: %d %s", a.status, a.code)
	}
	key := newKey(t)
	certificates(t, do(t, client, http.MethodPost, c.url+protocol.PathEnroll, &v, typeRequest, csr(t, key)))
	a := do(t, client, http.MethodGet, c.url+protocol.PathSettings, &v, "", nil)
	settings := new(protocol.Settings)
	if err := protocol.Decode(a.body, settings); err != nil || settings.Home != "Home 17, Storgata" || settings.Organisation != "Vestfold kommune" {
		t.Errorf("settings %+v, %v", settings, err)
	}
	wrong := v
	wrong.Secret = make([]byte, 32)
	if a := do(t, client, http.MethodGet, c.url+protocol.PathSettings, &wrong, "", nil); a.status != http.StatusUnauthorized || a.code != protocol.IdentityVoucher {
		t.Errorf("with another secret: %d %s", a.status, a.code)
	}
	if err := c.Register.Revoke(t.Context(), "Kari", mustHash(t, key), "stolen"); err != nil {
		t.Fatal(err)
	}
	if a := do(t, client, http.MethodGet, c.url+protocol.PathSettings, &v, "", nil); a.status != http.StatusForbidden || a.code != protocol.LinkRefused {
		t.Errorf("of a terminal that was revoked: %d %s", a.status, a.code)
	}
}
