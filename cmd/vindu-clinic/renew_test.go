package main

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vindu/clinic/authority"
	"vindu/device/identity"
	"vindu/device/state"
	"vindu/device/state/statetest"
	"vindu/protocol"
	"vindu/provisioning"
)

// TestRenewCA: the clinic changes its issuing CA, then its root, and terminals go on: one that fetches its settings and renews, one that was away for all
// of it, and one whose voucher is from before.
func TestRenewCA(t *testing.T) {
	dir := newClinic(t)
	text := must(t, "voucher", "-dir", dir, "-home", "Home 18")
	s := start(t, dir)
	here, away := enrolled(t, s.dir, s.front(), "Home 17"), enrolled(t, s.dir, s.front(), "Home 19")
	first := here.Grant().Root

	safe := t.TempDir()
	for i, args := range [][]string{{}, {"-root", "-new-root-key", filepath.Join(safe, "root2.key")}, {"-root-key", filepath.Join(safe, "root2.key")}} {
		s.stop()
		code, _, said := do(t, append([]string{"renew-ca", "-dir", dir}, args...)...)
		if code != 0 || !strings.Contains(said, "is the new issuing CA, until ") {
			t.Fatalf("exit %d: %s", code, said)
		}
		if i == 0 { // from here on the root's key is away
			if err := os.Rename(authority.RootKeyPath(filepath.Join(dir, folderAuthority)), filepath.Join(safe, "root.key")); err != nil {
				t.Fatal(err)
			}
			if code, _, said := do(t, "renew-ca", "-dir", dir); code != 1 || !strings.Contains(said, "offline") {
				t.Errorf("without the root's key: exit %d: %s", code, said)
			}
			if err := os.Rename(filepath.Join(safe, "root.key"), authority.RootKeyPath(filepath.Join(dir, folderAuthority))); err != nil {
				t.Fatal(err)
			}
		}
		s = start(t, dir)
		renew(t, here, s.front(), i == 1) // before or after it hears of the settings
	}
	list := must(t, "audit", "list", "-dir", dir)
	for what, want := range map[string]int{"authority.renewal_begun": 5, "authority.renewal_failed": 1, "authority.issuing_renewed": 3 + 4 + 1, "authority.root_renewed": 1 + 1} {
		if got := strings.Count(list, `"`+what+`"`); got != want { // what was renewed is also named where it began and failed
			t.Errorf("%s: audited %d times, want %d", what, got, want)
		}
	}
	if g := here.Grant(); g.Root.Equal(first) || g.Chain[0].CheckSignatureFrom(issuing(t, dir)) != nil {
		t.Errorf("after it all the terminal has pinned %q", g.Root.Subject)
	}
	renew(t, away, s.front(), false)
	if away.Grant().Root.Equal(first) {
		t.Error("the terminal that was away has not followed")
	}
	renew(t, away, s.front(), false)

	v, err := protocol.ParseVoucher(text)
	if err != nil {
		t.Fatal(err)
	}
	v.Address = s.front()
	late := newIdentity(t)
	client := &provisioning.Client{Signer: late.Signer(), Now: time.Now}
	grant, err := client.Enrol(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	if err := late.Keep(identity.Grant(*grant)); err != nil {
		t.Fatal(err)
	}
	renew(t, late, s.front(), true)
	if !late.Grant().Root.Equal(here.Grant().Root) {
		t.Error("the terminal with the older voucher has not followed")
	}
}

func issuing(t *testing.T, dir string) *x509.Certificate {
	t.Helper()
	a, err := authority.Load(filepath.Join(dir, folderAuthority))
	if err != nil {
		t.Fatal(err)
	}
	return a.Issuing()
}

func newIdentity(t *testing.T) *identity.Identity {
	t.Helper()
	folder, err := state.OpenOn(statetest.New(), "/state")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := identity.FileKeystore(folder)
	if err != nil {
		t.Fatal(err)
	}
	i, err := identity.Open(folder, keys, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// enrolled returns a terminal as it is after its enrolment.
func enrolled(t *testing.T, dir, front, home string) *identity.Identity {
	t.Helper()
	v, err := protocol.ParseVoucher(must(t, "voucher", "-dir", dir, "-home", home))
	if err != nil {
		t.Fatal(err)
	}
	v.Address = front
	i := newIdentity(t)
	grant, err := (&provisioning.Client{Signer: i.Signer(), Now: time.Now}).Enrol(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Keep(identity.Grant(*grant)); err != nil {
		t.Fatal(err)
	}
	return i
}

// renew does what identity.Renewer does: the time, then certificate and settings, in an order that the test chooses.
func renew(t *testing.T, i *identity.Identity, front string, settingsFirst bool) {
	t.Helper()
	client := &provisioning.Client{Signer: i.Signer(), Now: time.Now}
	grant := func() *provisioning.Grant {
		g := provisioning.Grant(*i.Grant())
		g.Address = front // a new port for each start
		return &g
	}
	settings := func() {
		s, _, err := client.Settings(t.Context(), grant())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := i.KeepSettings(s); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := client.Time(t.Context(), grant()); err != nil {
		t.Fatal(err)
	}
	if settingsFirst {
		settings()
	}
	chain, err := client.Renew(t.Context(), grant())
	if err != nil {
		t.Fatal(err)
	}
	if err := i.KeepChain(chain); err != nil {
		t.Fatal(err)
	}
	if !settingsFirst {
		settings()
	}
}
