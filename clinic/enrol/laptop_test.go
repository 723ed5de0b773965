package enrol

import (
	"context"
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

// TestSettingsAnnounceACall: a terminal's settings say what its home, and no other, is told.
func TestSettingsAnnounceACall(t *testing.T) {
	c := start(t)
	v, client := c.voucher(t), c.client(t, nil)
	certificates(t, do(t, client, http.MethodPost, c.url+protocol.PathEnroll, &v, typeRequest, csr(t, newKey(t))))
	told := map[string]*protocol.Coming{}
	c.Coming = func(_ context.Context, home string) (*protocol.Coming, error) { return told[home], nil }
	coming := func() *protocol.Coming {
		settings := new(protocol.Settings)
		if err := protocol.Decode(do(t, client, http.MethodGet, c.url+protocol.PathSettings, &v, "", nil).body, settings); err != nil {
			t.Fatal(err)
		}
		return settings.Coming
	}
	told["another home"] = &protocol.Coming{Name: "Per", Role: "doctor", At: 1}
	if got := coming(); got != nil {
		t.Errorf("told %+v", got)
	}
	homes, err := c.Register.Homes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := protocol.Coming{Name: "Anne Berg", Role: "nurse", At: 1_800_000_000_000}
	told[homes[0].ID] = &want
	if got := coming(); got == nil || *got != want {
		t.Errorf("told %+v", got)
	}
}
