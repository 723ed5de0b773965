package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"image"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vindu/clinic/config"
	"vindu/clinic/setup"
	"vindu/device/agent"
	devicecall "vindu/device/call"
	"vindu/device/call/calltest"
	"vindu/device/health"
	"vindu/device/identity"
	"vindu/device/screen"
	"vindu/device/state"
	"vindu/protocol"
	"vindu/provisioning"
)

// estClinic is identity.Clinic by package provisioning, as vindu-agent has it.
type estClinic struct{ *provisioning.Client }

func (c estClinic) Renew(ctx context.Context, g *identity.Grant) ([]*x509.Certificate, error) {
	return c.Client.Renew(ctx, (*provisioning.Grant)(g))
}

func (c estClinic) Replace(ctx context.Context, g *identity.Grant, next crypto.Signer) ([]*x509.Certificate, error) {
	return c.Client.Replace(ctx, (*provisioning.Grant)(g), next)
}

func (c estClinic) Time(ctx context.Context, g *identity.Grant) (time.Time, time.Duration, error) {
	return c.Client.Time(ctx, (*provisioning.Grant)(g))
}

func (c estClinic) Settings(ctx context.Context, g *identity.Grant) (*protocol.Settings, time.Duration, error) {
	return c.Client.Settings(ctx, (*provisioning.Grant)(g))
}

type noDisplay struct{}

func (noDisplay) Size() (w, h int) { return 800, 480 }
func (noDisplay) SetScene(*image.RGBA, image.Rectangle, image.Rectangle, ...image.Rectangle) error {
	return nil
}

// TestDecommission: a terminal is taken out of use by the clinic. What runs is a terminal's whole program but for its devices. Its receipt is at the clinic, it is
// revoked, its key and state are gone, and its screen says what to do.
func TestDecommission(t *testing.T) {
	s := start(t, newClinic(t))
	folder, id := setUp(t, s, "Home 17")
	cancel, done, see := runTerminal(t, folder)
	see("that it is ready", func(s screen.Scene) bool { return s.Kind == screen.Ready && !s.Offline })
	must(t, "decommission", "-dir", s.dir, "-home", "Home 17", "-reason", "the loan is over")
	see("that it is to be returned", func(s screen.Scene) bool { return s.Kind == screen.Returned })

	clinic, err := open(t.Context(), filepath.Join(s.dir, config.FileName), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer clinic.close()
	var order setup.Order
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for late := time.After(time.Minute); ; {
		orders, err := clinic.setup.Orders(t.Context(), id.Key())
		if err != nil || len(orders) != 1 {
			t.Fatal(orders, err)
		}
		terminal, err := clinic.register.ByTerminal(t.Context(), id.Key())
		if err != nil {
			t.Fatal(err)
		}
		var left []string
		for _, name := range []string{"identity/key.pem", "identity/clinic.pem", "outbox.db", "calls"} {
			if _, err := os.Stat(filepath.Join(folder, name)); err == nil {
				left = append(left, name)
			}
		}
		if order = orders[0]; order.State == setup.OrderDone && !terminal.Revoked.IsZero() && len(left) == 0 {
			break
		}
		select {
		case <-poll.C:
		case <-late:
			t.Fatalf("after a minute the order is %q, the terminal revoked %v, left on it %v", order.State, terminal.Revoked, left)
		}
	}
	receipt := new(protocol.Decommissioned)
	if err := protocol.Verify(order.Receipt, id.Signer().Public().(*ecdsa.PublicKey), receipt); err != nil || receipt.KeyGrade != identity.GradeFile || receipt.Order != protocol.HashOf(order.Signed) {
		t.Errorf("receipt %+v, %v", receipt, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(filepath.Join(folder, "returning")); err != nil || strings.TrimSpace(string(b)) != "returned" {
		t.Errorf("mark %q, %v", b, err)
	}
}

// setUp makes a state folder with a terminal that was enrolled.
func setUp(t *testing.T, s *serving, home string) (folder string, id *identity.Identity) {
	t.Helper()
	return setUpBy(t, s, home, s.front())
}

// setUpBy has it connect to an address that leads to the clinic.
func setUpBy(t *testing.T, s *serving, home, address string) (folder string, id *identity.Identity) {
	t.Helper()
	folder = filepath.Join(t.TempDir(), "terminal")
	dir, err := state.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := identity.FileKeystore(dir)
	if err != nil {
		t.Fatal(err)
	}
	id, err = identity.Open(dir, keys, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	v, err := protocol.ParseVoucher(must(t, "voucher", "-dir", s.dir, "-home", home))
	if err != nil {
		t.Fatal(err)
	}
	v.Address = address
	grant, err := (&provisioning.Client{Signer: id.Signer(), Now: time.Now}).Enrol(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	if err := id.Keep(identity.Grant(*grant)); err != nil {
		t.Fatal(err)
	}
	if err := dir.Close(); err != nil {
		t.Fatal(err)
	}
	return folder, id
}

// runTerminal runs a terminal's whole program but for its devices.
func runTerminal(t *testing.T, folder string) (cancel func(), done chan error, see func(what string, wanted func(screen.Scene) bool)) {
	t.Helper()
	return runTerminalWith(t, folder, &calltest.Media{})
}

func runTerminalWith(t *testing.T, folder string, media *calltest.Media) (cancel func(), done chan error, see func(what string, wanted func(screen.Scene) bool)) {
	t.Helper()
	scenes := make(chan screen.Scene, 1000)
	cfg := agent.Default()
	cfg.Call.Notice, cfg.Call.Least = 0, 0
	cfg.State = folder
	a, err := agent.New(cfg, agent.Parts{
		Software: "test", Display: noDisplay{}, HasScreen: func() bool { return true }, Devices: func() health.Devices { return health.Devices{} },
		Media:    func(*identity.Identity) devicecall.Media { return media },
		CallRest: time.Nanosecond,
		Clinic: func(signer crypto.Signer, now func() time.Time) identity.Clinic {
			return estClinic{&provisioning.Client{Signer: signer, Now: now}}
		},
		Shown: func(s screen.Scene) { scenes <- s },
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done = make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	see = func(what string, wanted func(screen.Scene) bool) {
		t.Helper()
		for late := time.After(time.Minute); ; {
			select {
			case scene := <-scenes:
				if wanted(scene) {
					return
				}
			case err := <-done:
				t.Fatalf("the terminal ended before it showed %s: %v", what, err)
			case <-late:
				t.Fatalf("%s was not shown in a minute", what)
			}
		}
	}
	return cancel, done, see
}

// TestWrongClock: a terminal's whole program, with a system clock that is wrong by decades, connects to a real clinic. The wrong clock is that of
// a synctest bubble, the clinic stands outside.
func TestWrongClock(t *testing.T) {
	s := start(t, newClinic(t))
	for name, wait := range map[string]time.Duration{"no battery": 0, "in the future": 40 * 365 * 24 * time.Hour} {
		folder, _ := setUp(t, s, name)
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(wait) // allowed: of the bubble
				cancel, done, see := runTerminal(t, folder)
				began := time.Now()
				see("that it is ready", func(s screen.Scene) bool { return s.Kind == screen.Ready && !s.Offline })
				if took := time.Since(began); took > time.Minute {
					t.Errorf("connected after %v", took)
				}
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}
