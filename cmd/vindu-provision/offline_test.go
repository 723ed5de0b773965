package main

import (
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"vindu/clinic/audit"
	"vindu/clinic/authority"
	"vindu/clinic/enrol"
	"vindu/clinic/register"
	"vindu/clinic/store"
	"vindu/protocol"
	"vindu/provisioning/session"
	"vindu/provisioning/session/sessiontest"
)

const terminalsName = "terminals.vindu.invalid"

// newClinic starts what a real clinic enrols by, and returns it with its address.
func newClinic(t *testing.T) (*authority.Authority, *register.Register, string) {
	t.Helper()
	dir := t.TempDir()
	if err := authority.Create(filepath.Join(dir, "authority"), "Nordbyen clinic"); err != nil {
		t.Fatal(err)
	}
	a, err := authority.Load(filepath.Join(dir, "authority"))
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	s, err := store.Open(t.Context(), filepath.Join(dir, "clinic.db"), quiet)
	if err != nil {
		t.Fatal(err)
	}
	l, err := audit.New(t.Context(), s, a.LogKey())
	if err != nil {
		t.Fatal(err)
	}
	r, err := register.New(t.Context(), s, l)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.EnsureTrust(protocol.RelyingParty{ID: "localhost", Origins: []string{"http://localhost"}}); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(enrol.New(enrol.Config{Organisation: "Nordbyen clinic", Authority: a, Register: r, Log: quiet}))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	server.TLS = enrol.TLS(a.Server(terminalsName))
	server.StartTLS()
	t.Cleanup(func() {
		server.Close()
		s.Close()
	})
	return a, r, server.Listener.Addr().String()
}

// issue puts a voucher of that clinic into the technician's file.
func (b *bench) issue(t *testing.T, a *authority.Authority, r *register.Register, address string) {
	t.Helper()
	home, err := r.EnsureHome(t.Context(), "Kari", "Home 17, Storgata")
	if err != nil {
		t.Fatal(err)
	}
	v, err := r.IssueVoucher(t.Context(), "Kari", home.ID, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	b.voucher = &protocol.Voucher{Version: protocol.Version, ID: v.ID, Secret: v.Secret, Address: address, ServerName: terminalsName, Root: a.Root().Raw,
		Expires: protocol.At(v.Expires), Authority: a.Authorities()[0]}
	b.file(t, "voucher", string(mustText(t, b.voucher)))
}

// offline are flags for a terminal that has no network.
func (b *bench) offline(more ...string) []string {
	return append([]string{"setup", "--json", "--port", b.port, "--code", protocol.HashSPKI(sessiontest.Public(b.Key)).Code(), "--no-network",
		"--voucher-file", b.path("voucher")}, more...)
}

// TestOffline: the certification request goes out over the cable, the certificate comes in, by a real clinic. Cut off in between,
// the same command goes on; the clinic's clock decides, not the laptop's.
func TestOffline(t *testing.T) {
	b := newBench(t)
	a, r, address := newClinic(t)
	b.issue(t, a, r, address)
	b.Lock()
	b.Refuse = map[string]error{"Install": protocol.WithCode(protocol.StorageFull, session.ErrClosed)} // as if the terminal had died just then
	b.Unlock()
	if status := b.run(t, b.offline("--wait", "1ms")...); status != exitFailed {
		t.Fatalf("exit status %d\n%s", status, &b.err)
	}
	b.Lock()
	b.Refuse = nil
	b.Unlock()
	if status := b.run(t, b.offline()...); status != exitDone {
		t.Fatalf("exit status %d\n%s", status, &b.err)
	}
	if got := b.result(t); got.EnrolledBy != viaLaptop || got.HandOver == nil {
		t.Errorf("%s", &b.out)
	}
	b.Lock()
	grant := b.Granted[0]
	b.Unlock()
	if protocol.HashSPKI(sessiontest.Public(b.Key)) != mustRegistered(t, r) {
		t.Error("the clinic has another terminal in its register")
	}
	settings := new(protocol.Settings)
	if err := protocol.Decode(grant.Settings, settings); err != nil || settings.Home != "Home 17, Storgata" || len(grant.Chain) != 2 || !slices.Equal(grant.Root, a.Root().Raw) {
		t.Errorf("grant: %+v, %+v, %v", grant, settings, err)
	}
	if status := b.run(t, b.offline()...); status != exitDone {
		t.Fatalf("again: exit status %d\n%s", status, &b.err)
	}
	if got := b.result(t); got.EnrolledBy != "before" {
		t.Errorf("again: %s", &b.out)
	}
}

func mustRegistered(t *testing.T, r *register.Register) protocol.KeyHash {
	t.Helper()
	homes, err := r.Homes(t.Context())
	if err != nil || len(homes) != 1 {
		t.Fatalf("homes: %v, %v", homes, err)
	}
	return homes[0].Terminal
}

// TestOfflineRefused: the cause comes from the clinic, or from the laptop if that does not reach it either.
func TestOfflineRefused(t *testing.T) {
	a, r, address := newClinic(t)
	for name, c := range map[string]struct {
		spoil func(v *protocol.Voucher)
		want  string
	}{
		"nobody is reached": {func(v *protocol.Voucher) { v.Address = "127.0.0.1:1" }, "tool.laptop_offline"},
		"not its voucher":   {func(v *protocol.Voucher) { v.Secret[0] ^= 1 }, string(protocol.IdentityVoucher)},
		"wrong clinic":      {func(v *protocol.Voucher) { other, _, _ := newClinic(t); v.Root = other.Root().Raw }, string(protocol.IdentityPin)},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.issue(t, a, r, address)
			c.spoil(b.voucher)
			b.file(t, "voucher", string(mustText(t, b.voucher)))
			if status := b.run(t, b.offline()...); status != exitFailed || b.result(t).Failure.Code != c.want {
				t.Errorf("exit status %d, want %s\n%s", status, c.want, &b.err)
			}
			b.Lock()
			defer b.Unlock()
			if b.State != session.Factory {
				t.Error("the terminal was set up")
			}
		})
	}
}
