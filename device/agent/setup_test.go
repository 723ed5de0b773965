package agent

import (
	"context"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"vindu/device/call"
	"vindu/device/call/calltest"
	"vindu/device/clock"
	"vindu/device/identity"
	"vindu/device/screen"
	"vindu/device/state"
	"vindu/device/state/statetest"
	"vindu/protocol"
)

var bo = protocol.Party{Name: "Bo Dahl", Role: "technician", Organisation: "Home care"}

// grantFor is what a clinic gives a terminal, which it calls home.
func grantFor(t *testing.T, self Self, home string) *identity.Grant {
	root, leaf := issue(t, self.Identity.Signer().Public(), self.Identity.Key())
	return &identity.Grant{
		Address: "127.0.0.1:1", ServerName: "terminals.test", Chain: []*x509.Certificate{leaf}, Root: root,
		Settings: &protocol.Settings{
			Version: protocol.Version, Organisation: "Home care", Home: home, At: protocol.At(time.Now()), Authorities: calltest.NewClinic(t).Authorities(t),
		},
	}
}

// TestSetUp sets a terminal up while it runs, and then again for another home: each is in force when Keep returns, is there after a restart,
// and what is reported in between is not lost.
func TestSetUp(t *testing.T) {
	f := newFixture(t)
	f.start()
	f.see("its code", func(s screen.Scene) bool { return s.Kind == screen.NotSetUp })
	self, ok := f.Self()
	if !ok || self.Identity.Grant() != nil || self.Language != "nb" {
		t.Fatalf("self %+v, %v", self, ok)
	}
	if err := f.SetLanguage(t.Context(), "nn"); err != nil {
		t.Error(err)
	}
	if err := f.SetLanguage(t.Context(), "tlh"); err == nil {
		t.Error("the screen speaks Klingon")
	}
	record, err := protocol.Encode(&protocol.HandOverEvent{Version: protocol.Version, Terminal: []byte{1}, Technician: []byte{2}, Authorisation: []byte{3}})
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Report(ended, protocol.EventHandOver, record); !errors.Is(err, context.Canceled) {
		t.Errorf("report from a terminal that does not run: %v", err)
	}
	stranger := grantFor(t, self, "Home 0")
	_, leaf := issue(t, self.Identity.Signer().Public(), self.Identity.Key())
	stranger.Chain[0] = leaf // of another clinic than the root
	if err := f.Keep(t.Context(), stranger); protocol.CodeOf(err) != protocol.IdentityOtherClinic {
		t.Errorf("another clinic's certificate: %v", err)
	}
	first := grantFor(t, self, "Home 1")
	root, leaves := authority(t)
	first.Root, first.Chain = root, []*x509.Certificate{leaves(self.Identity.Signer().Public(), self.Identity.Key())}
	for range 2 { // twice is once
		if err := f.Keep(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		if self, ok = f.Self(); !ok || self.Identity.Grant() == nil || self.Identity.Grant().Settings.Home != "Home 1" {
			t.Fatalf("not set up when Keep returned: %+v", self)
		}
	}
	if err := f.Report(t.Context(), protocol.EventHandOver, record); err != nil { // waits for the terminal to run
		t.Fatal(err)
	}
	f.see("that the clinic is unreachable", func(s screen.Scene) bool { return s.Kind == screen.Ready && s.Offline })
	second := *first
	settings := *first.Settings
	settings.Home, second.Settings = "Home 2", &settings
	second.Chain = []*x509.Certificate{leaves(self.Identity.Signer().Public(), self.Identity.Key())}
	if err := f.Keep(t.Context(), &second); err != nil {
		t.Fatal(err)
	}
	f.see("that it begins anew", func(s screen.Scene) bool { return s.Kind == screen.Starting })
	f.see("that the clinic is unreachable", func(s screen.Scene) bool { return s.Kind == screen.Ready && s.Offline })
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	f.scenes = make(chan screen.Scene, 100) // those of before are not of interest
	f.start()
	f.see("why the clinic is unreachable", func(s screen.Scene) bool { // offline it is a moment earlier
		return s.Kind == screen.Ready && s.Offline && slices.Contains(s.Faults, protocol.LinkUnreachable)
	})
	if self, ok = f.Self(); !ok || self.Identity.Grant() == nil {
		t.Fatalf("after a restart: %+v", self)
	}
	if g := self.Identity.Grant(); g.Settings.Home != "Home 2" || self.Language != "nn" || !slices.Contains(self.Conditions, protocol.LinkUnreachable) {
		t.Errorf("after a restart: %+v of %s", self, g.Settings.Home)
	}
	f.mu.Lock()
	pending := f.events.Status().Pending
	f.mu.Unlock()
	if pending < 1 { // and what it says of conditions
		t.Errorf("%d events wait for the clinic", pending)
	}
	// What waits for one clinic is not for another, nor what it said of the time.
	if err := os.WriteFile(filepath.Join(f.cfg.State, clock.FileName), []byte(strconv.FormatInt(time.Now().AddDate(9, 0, 0).UnixMilli(), 10)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.Keep(t.Context(), grantFor(t, self, "Home 3")); err != nil {
		t.Fatal(err)
	}
	f.see("that it begins anew", func(s screen.Scene) bool { return s.Kind == screen.Starting })
	f.see("that the clinic is unreachable", func(s screen.Scene) bool { return s.Kind == screen.Ready && s.Offline })
	f.mu.Lock()
	pending = f.events.Status().Pending
	f.mu.Unlock()
	if self, ok = f.Self(); !ok || self.Identity.Grant().Settings.Home != "Home 3" || pending != 0 || self.Clock.Floor().After(time.Now().AddDate(1, 0, 0)) {
		t.Errorf("in another clinic: %d events wait, the floor is %v", pending, self.Clock.Floor())
	}
	if err := f.end(); err != nil {
		t.Error(err)
	}
	if slices.Contains(f.present(), returnFile) {
		t.Error("the mark is still there")
	}
}

// TestClinicChangeCutOff: a power cut at any instant of a change of clinic leaves nothing of the former's to the new one.
func TestClinicChangeCutOff(t *testing.T) {
	for cut, whole := 1, false; !whole; cut++ {
		disk := statetest.New()
		dir, err := state.OpenOn(disk, "/state")
		if err != nil {
			t.Fatal(err)
		}
		keys, err := identity.FileKeystore(dir)
		if err != nil {
			t.Fatal(err)
		}
		id, err := identity.Open(dir, keys, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		former := grantFor(t, Self{Identity: id}, "Home 1")
		if err := errors.Join(Keep(dir, id, former), dir.Write(callsFile, []byte("calls"))); err != nil {
			t.Fatal(err)
		}
		disk.CutBefore(disk.Steps() + cut)
		whole = Keep(dir, id, grantFor(t, Self{Identity: id}, "Home 2")) == nil
		for _, loss := range statetest.Losses {
			dir, err := state.OpenOn(disk.After(loss), "/state")
			if err != nil {
				t.Fatal(err)
			}
			if err := FinishReturn(dir, identity.FileKeys{}, nil); err != nil {
				t.Fatalf("cut %d, %v: %v", cut, loss, err)
			}
			id, err := identity.Open(dir, keys, time.Now)
			if err != nil {
				t.Fatalf("cut %d, %v: %v", cut, loss, err)
			}
			if changed := id.Settings().Home == "Home 2"; changed && dir.Has(callsFile) || whole && !changed {
				t.Errorf("cut %d, %v: changed %v, and what was the former clinic's is there: %v", cut, loss, changed, dir.Has(callsFile))
			}
		}
	}
}

// TestAwaitPress: a press counts while the screen asks for it, and as soon as a call is there instead it does not.
func TestAwaitPress(t *testing.T) {
	f := newFixture(t)
	f.start()
	f.see("its code", func(s screen.Scene) bool { return s.Kind == screen.NotSetUp })
	asked := func(context.Context) error {
		f.see("the wish for a press", func(s screen.Scene) bool { return s.Kind == screen.Pressing && s.Parties[0] == bo })
		return nil
	}
	if err := f.AwaitPress(t.Context(), bo, asked); err != nil {
		t.Error(err)
	}
	f.see("its code again", func(s screen.Scene) bool { return s.Kind == screen.NotSetUp })
	atOnce := func(context.Context) error { return nil }
	late := func(ctx context.Context) error {
		f.change(func(s *situation) { s.call.Scene = call.SceneRinging })
		<-ctx.Done()
		return nil // pressed, but for the call
	}
	if err := f.AwaitPress(t.Context(), bo, late); protocol.CodeOf(err) != protocol.AnswerBusy {
		t.Errorf("with a call: %v", err)
	}
	if err := f.AwaitPress(t.Context(), bo, atOnce); protocol.CodeOf(err) != protocol.AnswerBusy {
		t.Errorf("during a call: %v", err)
	}
	f.change(func(s *situation) { s.call.Scene = call.SceneReady })
	// A prompt that ends leaves another one, which came meanwhile, where it is.
	kari := protocol.Party{Name: "Kari Nes", Role: "technician", Organisation: "Home care"}
	ola := protocol.Party{Name: "Ola Li", Role: "technician", Organisation: "Home care"}
	release, over := make(chan struct{}), make(chan error)
	go func() {
		over <- f.AwaitPress(t.Context(), ola, func(context.Context) error {
			<-release
			return nil
		})
	}()
	f.see("the wish for a press", func(s screen.Scene) bool { return s.Kind == screen.Pressing && s.Parties[0] == ola })
	if err := f.AwaitPress(t.Context(), kari, func(context.Context) error {
		close(release)
		err := <-over
		f.change(func(s *situation) {
			if s.pressing == nil || *s.pressing != kari {
				t.Errorf("asks for %v", s.pressing)
			}
		})
		return err
	}); err != nil {
		t.Error(err)
	}
	f.Agent.parts.HasScreen = func() bool { return false }
	if err := f.AwaitPress(t.Context(), bo, atOnce); protocol.CodeOf(err) != protocol.ScreenNone {
		t.Errorf("without a screen: %v", err)
	}
	f.Agent.parts.HasScreen = func() bool { return true }
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.AwaitPress(ended, bo, atOnce); !errors.Is(err, context.Canceled) {
		t.Errorf("too late: %v", err)
	}
	if err := f.end(); err != nil {
		t.Error(err)
	}
}
